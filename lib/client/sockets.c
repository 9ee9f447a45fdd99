/* Life of a socket: socket, bind, listen, accept, connect, shutdown, close, names.
 *
 * A listener and a bound datagram socket have a slot on every channel: the primary's record and its
 * siblings. Setting up and tearing down is done under the primary's tx_lock. */
#include <netinet/tcp.h>

#include "client/internal.h"

enum { RELEASE_PATIENCE_MS = 200 };

static bool is_stream(const struct sock* s) {
  return (load_relaxed(&s->record->flags) & R_STREAM) != 0;
}

static uint32_t next_of(struct context* c, uint32_t index) {
  return load_relaxed(&record_at(c, index)->sibling);
}

/* ---- socket ---- */

static uint32_t allocate_anywhere(struct context* c, uint32_t flags) {
  const uint32_t first = fetch_add(&c->app->next_channel, 1);
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    struct channel* ch = &c->channels[(first + i) % c->channel_count];
    const uint32_t index = slot_allocate(c, ch, flags);
    if (index != NONE) return index;
  }
  return NONE;
}

/* Gives the record a life and a descriptor. -1, EMFILE: the record is as before. */
static int adopt(struct context* c, uint32_t index) {
  struct record* r = record_at(c, index);
  const uint32_t life = load_relaxed(&r->life) + 1;
  store(&r->life, life);
  const int fd = descriptor_create(index, life);
  if (fd < 0) store(&r->life, life + 1);
  return fd;
}

int postern_socket(int domain, int type, int protocol) {
  ENTER();
  struct context* c = context_get();
  if (c == NULL) return fail(ENOTCONN);
  if (load_relaxed(&c->dead)) return fail(ECONNABORTED);
  if (domain != AF_INET && domain != AF_INET6) return fail(EAFNOSUPPORT);
  const int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (kind < 0 || kind > SOCK_PACKET || protocol < 0 || protocol > UINT8_MAX) return fail(EINVAL);
  if (kind != SOCK_STREAM && kind != SOCK_DGRAM) return fail(ESOCKTNOSUPPORT);
  const int expected = kind == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
  if (protocol != 0 && protocol != expected) return fail(EPROTONOSUPPORT);
  uint32_t flags = kind == SOCK_STREAM ? R_STREAM : 0;
  if (domain == AF_INET6) flags |= R_V6;
  if ((type & SOCK_NONBLOCK) != 0) flags |= R_NONBLOCK;
  uint32_t index = allocate_anywhere(c, flags);
  if (index == NONE && drain_all(c) != 0) index = allocate_anywhere(c, flags);
  if (index == NONE) return fail(ENOBUFS);
  const int fd = adopt(c, index);
  if (fd < 0) slot_free(c, index);
  return fd;
}

/* ---- groups of slots ---- */

static void drop_siblings(struct context* c, uint32_t primary) {
  uint32_t index = next_of(c, primary);
  store_relaxed(&record_at(c, primary)->sibling, NONE);
  while (index != NONE) {
    const uint32_t next = next_of(c, index);
    slot_free(c, index);
    index = next;
  }
}

/* A slot on every other channel. False: none left on one. */
static bool add_siblings(struct context* c, uint32_t primary) {
  const struct record* p = record_at(c, primary);
  const uint32_t kind = load(&p->flags) & (R_STREAM | R_V6);
  uint32_t last = primary;
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    if (&c->channels[i] == channel_of(c, primary)) continue;
    const uint32_t index = slot_allocate(c, &c->channels[i], kind | R_SIBLING);
    if (index == NONE) {
      drop_siblings(c, primary);
      return false;
    }
    struct record* r = record_at(c, index);
    r->options = p->options;
    r->congestion = p->congestion;
    store_relaxed(&r->primary, primary);
    store_relaxed(&record_at(c, last)->sibling, index);
    last = index;
  }
  return true;
}

static void group_set(struct context* c, uint32_t index, uint32_t set, uint32_t clear) {
  for (; index != NONE; index = next_of(c, index)) {
    fetch_and(&record_at(c, index)->flags, ~clear);
    fetch_or(&record_at(c, index)->flags, set);
  }
}

static void fill_handles(struct context* c, uint32_t index, struct shm_bind_request* request) {
  for (; index != NONE; index = next_of(c, index)) {
    struct shm_handle* h = &request->handles[channel_of(c, index)->index];
    h->slot = slot_of(c, index);
    h->generation = load_relaxed(&record_at(c, index)->generation);
  }
}

static void send_group_options(struct context* c, uint32_t index) {
  for (; index != NONE; index = next_of(c, index)) options_send(c, index);
}

/* ---- bind, listen ---- */

static struct shm_bind_request request_for(const struct sock* s, uint32_t type) {
  const struct record* r = s->record;
  const uint32_t f = load(&r->flags);
  struct shm_bind_request q = {
      .type = type,
      .protocol = (f & R_STREAM) != 0 ? IPPROTO_TCP : IPPROTO_UDP,
      .port = r->local_port,
      .is_v6 = (f & R_V6) != 0,
      .binding = r->binding,
  };
  if ((f & R_REUSEADDR) != 0) q.flags |= SHM_BIND_REUSEADDR;
  if ((f & R_REUSEPORT) != 0) q.flags |= SHM_BIND_REUSEPORT;
  if ((f & R_V6ONLY) != 0) q.flags |= SHM_BIND_V6ONLY;
  memcpy(q.address, r->local_address, sizeof q.address);
  return q;
}

/* Under tx_lock. 0 or an errno. */
static int bind_locked(struct sock* s, const uint8_t address[16], uint16_t port) {
  struct context* c = s->context;
  struct record* r = s->record;
  const bool stream = is_stream(s);
  if (!sock_alive(s)) return EBADF;
  if ((load(&r->flags) & (R_BOUND | R_CONNECTED | R_CONNECTING | R_LISTENING)) != 0) return EINVAL;
  if (!stream && !add_siblings(c, s->index)) return ENOBUFS;
  struct shm_bind_request q = request_for(s, SHM_REQ_BIND);
  struct shm_bind_reply reply;
  memcpy(q.address, address, sizeof q.address);
  q.port = port;
  if (!stream) fill_handles(c, s->index, &q);
  const int error = session_call(c, &q, &reply);
  if (error != 0) {
    if (!stream) drop_siblings(c, s->index);
    return error;
  }
  memcpy(r->local_address, reply.address, sizeof r->local_address);
  r->local_port = reply.port;
  r->binding = reply.binding;
  fetch_or(&r->flags, R_BOUND);
  if (!stream) {
    group_set(c, s->index, R_OPEN, 0);
    send_group_options(c, s->index);
  }
  return 0;
}

static void any_address(const struct sock* s, uint8_t address[16]) {
  memset(address, 0, 16);
  if ((load_relaxed(&s->record->flags) & R_V6) == 0) address[10] = address[11] = 0xff;
}

int ensure_bound(struct sock* s) {
  if ((load(&s->record->flags) & R_BOUND) != 0) return 0;
  uint8_t any[16];
  any_address(s, any);
  tx_acquire(s);
  const int error =
      (load(&s->record->flags) & R_BOUND) != 0 ? 0 : bind_locked(s, any, 0); /* another thread's */
  tx_unlock(s);
  return error == 0 ? 0 : fail(error);
}

int postern_bind(int fd, const struct sockaddr* address, socklen_t length) {
  ENTER();
  struct sock s;
  uint8_t to[16];
  uint16_t port;
  if (sock_lookup_live(fd, &s) != 0) return -1;
  int error = address_read(address, length, (load(&s.record->flags) & R_V6) != 0, to, &port);
  if (error == 0) {
    tx_acquire(&s);
    error = bind_locked(&s, to, port);
    tx_unlock(&s);
  }
  return error == 0 ? 0 : fail(error);
}

static int listen_locked(struct sock* s, int backlog) {
  struct context* c = s->context;
  struct record* r = s->record;
  if (!sock_alive(s)) return EBADF;
  const uint32_t f = load(&r->flags);
  if ((f & R_STREAM) == 0) return EOPNOTSUPP;
  if ((f & (R_CONNECTED | R_CONNECTING | R_FAILED)) != 0) return EINVAL;
  if ((f & R_LISTENING) != 0) {
    group_set(c, s->index, 0, R_SHUT_RD);
    return 0;
  }
  if ((f & R_BOUND) == 0) {
    uint8_t any[16];
    any_address(s, any);
    const int error = bind_locked(s, any, 0);
    if (error != 0) return error;
  }
  if (!add_siblings(c, s->index)) return ENOBUFS;
  group_set(c, s->index, R_LISTENING, 0); /* connections may come before the reply */
  struct shm_bind_request q = request_for(s, SHM_REQ_LISTEN);
  struct shm_bind_reply reply;
  q.backlog = backlog < 0 ? SOMAXCONN : (uint32_t)backlog;
  fill_handles(c, s->index, &q);
  const int error = session_call(c, &q, &reply);
  if (error != 0) {
    group_set(c, s->index, 0, R_LISTENING);
    drop_siblings(c, s->index);
    return error;
  }
  group_set(c, s->index, R_OPEN, 0);
  send_group_options(c, s->index);
  return 0;
}

int postern_listen(int fd, int backlog) {
  ENTER();
  struct sock s;
  if (sock_lookup_live(fd, &s) != 0) return -1;
  tx_acquire(&s);
  const int error = listen_locked(&s, backlog);
  tx_unlock(&s);
  if (error != 0) return fail(error);
  record_changed(s.context, s.index);
  return 0;
}

/* ---- accept ---- */

static uint32_t take_connection(struct context* c, uint32_t listener) {
  struct record* r = record_at(c, listener);
  if (load(&r->accept_count) == 0) return NONE;
  accept_acquire(c, listener);
  const uint32_t index = r->accept_head;
  if (index != NONE) {
    store(&record_at(c, index)->taker, lock_self); /* before: see connections_recover() */
    r->accept_head = load_relaxed(&record_at(c, index)->next);
    if (r->accept_head == NONE) r->accept_tail = NONE;
    fetch_sub(&r->accept_count, 1);
  }
  lock_release(&r->accept_lock);
  if (index != NONE) {
    command_push(c, listener, &(struct command){.op = SHM_OP_ACCEPTED, .length = 1});
  }
  return index;
}

/* 0 and a connection; EAGAIN; or an errno. */
static int accept_once(struct sock* s, uint32_t* index) {
  struct context* c = s->context;
  struct record* r = s->record;
  rx_acquire(s);
  int rc = sock_alive(s) ? EAGAIN : EBADF;
  if (rc == EAGAIN && (load(&r->flags) & R_SHUT_RD) != 0) rc = EINVAL;
  for (uint32_t at = r->turn; rc == EAGAIN;) {
    *index = take_connection(c, at);
    const uint32_t next = next_of(c, at) != NONE ? next_of(c, at) : s->index;
    if (*index != NONE) {
      r->turn = next;
      rc = 0;
    }
    at = next;
    if (at == r->turn) break;
  }
  lock_release(&r->rx_lock);
  return rc;
}

static int wait_for_connection(struct sock* s, uint32_t* index) {
  struct context* c = s->context;
  struct record* r = s->record;
  const bool wait = (load_relaxed(&r->flags) & R_NONBLOCK) == 0;
  const int64_t deadline = wait ? deadline_after(r->rcv_timeout) : 0;
  for (;;) {
    const uint32_t seen = load(&r->seq);
    int rc = accept_once(s, index);
    if (rc != EAGAIN) return rc;
    if (load_relaxed(&c->dead)) return ECONNABORTED;
    drain_all(c);
    if (load(&r->seq) != seen) continue;
    if (!wait) return EAGAIN;
    rc = wait_record(c, s->index, seen, deadline);
    if (rc == EINTR && deadline == FOREVER && interruption_restarts()) rc = 0;
    if (rc != 0) return rc == ETIMEDOUT ? EAGAIN : rc;
  }
}

static void close_record(struct context* c, uint32_t index, bool abort);

int postern_accept4(int fd, struct sockaddr* address, socklen_t* length, int flags) {
  ENTER();
  struct sock s;
  if (sock_lookup_live(fd, &s) != 0) return -1;
  if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return fail(EINVAL);
  if (address != NULL && length == NULL) return fail(EFAULT);
  const uint32_t f = load(&s.record->flags);
  if ((f & R_STREAM) == 0) return fail(EOPNOTSUPP);
  if ((f & R_LISTENING) == 0) return fail(EINVAL);
  uint32_t index = NONE;
  const int rc = wait_for_connection(&s, &index);
  if (rc != 0) return fail(rc);

  struct context* c = s.context;
  struct record* r = record_at(c, index);
  r->options = s.record->options;
  r->congestion = s.record->congestion;
  r->pacing_rate = s.record->pacing_rate;
  store_relaxed(&r->sndbuf, load_relaxed(&s.record->sndbuf));
  fetch_or(&r->flags, (f & R_INHERITED) | ((flags & SOCK_NONBLOCK) != 0 ? R_NONBLOCK : 0));
  const struct shm_socket* names = &channel_of(c, index)->sockets[slot_of(c, index)];
  const int accepted = adopt(c, index);
  fetch_and(&r->flags, ~(uint32_t)R_QUEUED);
  if (accepted < 0) {
    close_record(c, index, true);
    return fail(EMFILE);
  }
  options_send(c, index);
  address_write(address, length, (f & R_V6) != 0, names->remote_address, names->remote_port, 0);
  return accepted;
}

int postern_accept(int fd, struct sockaddr* address, socklen_t* length) {
  return postern_accept4(fd, address, length, 0);
}

/* ---- connect ---- */

static void push_connect(const struct sock* s, uint32_t index) {
  struct context* c = s->context;
  const struct record* p = s->record;
  struct shm_request* q = &channel_of(c, index)->requests[slot_of(c, index)];
  memset(q, 0, sizeof *q);
  if ((load_relaxed(&p->flags) & R_BOUND) != 0) {
    if (!address_is_any(p->local_address)) memcpy(q->local_address, p->local_address, 16);
    q->local_port = p->local_port;
  }
  memcpy(q->remote_address, p->remote_address, 16);
  q->remote_port = p->remote_port;
  q->zone = p->zone;
  command_push(c, index, &(struct command){.op = SHM_OP_CONNECT});
}

/* The slot of a connection that failed is closed and, once released, used again. */
static int reopen(struct sock* s, int64_t deadline) {
  struct context* c = s->context;
  struct record* r = s->record;
  if ((fetch_or(&r->flags, R_REOPEN | R_CLOSING) & R_CLOSING) == 0) {
    fetch_add(&s->channel->shared->closing, 1);
    command_push(c, s->index, &(struct command){.op = SHM_OP_CLOSE, .arg = 1});
  }
  tx_unlock(s);
  int rc = 0;
  while (rc == 0) {
    const uint32_t seen = load(&r->seq);
    if ((load(&r->flags) & R_REOPEN) == 0 || load_relaxed(&c->dead)) break;
    rc = wait_record(c, s->index, seen, deadline);
  }
  tx_acquire(s);
  return rc;
}

/* What the state says of another connect, under tx_lock: 0: it may begin; EALREADY; -1: the first
 * one has succeeded and this call tells it; else the errno. A socket whose connection is over is
 * new again when its error has been told. */
static int connect_state(struct sock* s) {
  struct record* r = s->record;
  if (!sock_alive(s)) return EBADF;
  const uint32_t f = load(&r->flags);
  const bool told = (f & R_ASYNC) == 0;
  if ((f & R_CONNECTING) != 0) return EALREADY;
  if ((f & R_LISTENING) != 0) return EISCONN;
  if ((f & R_FAILED) == 0) {
    if ((f & R_CONNECTED) == 0) return 0;
    fetch_and(&r->flags, ~(uint32_t)R_ASYNC);
    return told ? EISCONN : -1;
  }
  int error = (int)exchange(&r->error, 0);
  if (error == 0 && !told) error = ECONNABORTED;
  const int rc = reopen(s, FOREVER);
  if (rc != 0) { /* interrupted: the outcome is told, the slot is new when it is released */
    fetch_and(&r->flags, ~(uint32_t)R_ASYNC);
    return error != 0 ? error : rc;
  }
  if (!sock_alive(s)) return EBADF;
  return load_relaxed(&s->context->dead) ? ECONNABORTED : error;
}

/* Under tx_lock. 0: CONNECT is on its way; else as connect_state(). */
static int connect_locked(struct sock* s, const struct sockaddr* address, socklen_t length) {
  struct record* r = s->record;
  uint8_t remote[16];
  uint16_t port;
  int error = connect_state(s);
  if (error != 0) return error;
  error = address_read(address, length, (load(&r->flags) & R_V6) != 0, remote, &port);
  if (error != 0) return error;
  if (port == 0) return ECONNREFUSED;
  memcpy(r->remote_address, remote, 16);
  r->remote_port = port;
  r->zone = address_zone(address);
  store(&r->error, 0);
  fetch_or(&r->flags, R_OPEN | R_CONNECTING | R_ASYNC);
  command_push(s->context, s->index, &(struct command){.op = SHM_OP_OPEN, .arg = IPPROTO_TCP});
  options_send(s->context, s->index);
  push_connect(s, s->index);
  return 0;
}

/* The outcome is there and told: 0 or an errno, after which the socket is new again. */
static int connect_told(struct sock* s) {
  tx_acquire(s);
  const int rc = connect_state(s);
  tx_unlock(s);
  return rc == -1 || rc == EISCONN ? 0 : rc;
}

/* Waits for the outcome of a connect. 0 or an errno. */
static int connect_outcome(struct sock* s, int64_t deadline) {
  struct context* c = s->context;
  struct record* r = s->record;
  for (;;) {
    const uint32_t seen = load(&r->seq);
    if (!sock_alive(s)) return EBADF;
    if ((load(&r->flags) & R_CONNECTING) == 0) return connect_told(s);
    if (load_relaxed(&c->dead)) return ECONNABORTED;
    const int rc = wait_record(c, s->index, seen, deadline);
    if (rc == ETIMEDOUT) return EINPROGRESS;
    if (rc == EINTR && !(deadline == FOREVER && interruption_restarts())) return EINTR;
  }
}

static int connect_stream(struct sock* s, const struct sockaddr* address, socklen_t length) {
  const bool wait = (load_relaxed(&s->record->flags) & R_NONBLOCK) == 0;
  tx_acquire(s);
  const int rc = connect_locked(s, address, length);
  tx_unlock(s);
  if (rc == -1) return 0;
  if (rc != 0 && (rc != EALREADY || !wait)) return rc;
  if (!wait) return EINPROGRESS;
  return connect_outcome(s, deadline_after(s->record->snd_timeout));
}

/* connect() to AF_UNSPEC: whatever connection there is is reset, and the socket is new again. A
 * slot that the daemon opened, for accept(), is not ours to open once more. */
static int disconnect_stream(struct sock* s) {
  tx_acquire(s);
  int rc = sock_alive(s) ? 0 : EBADF;
  const uint32_t f = load(&s->record->flags);
  if (rc == 0 && (f & R_LISTENING) != 0) rc = EOPNOTSUPP;
  if (rc == 0 && (f & (R_CONNECTING | R_CONNECTED | R_FAILED)) != 0) {
    const bool ours = slot_of(s->context, s->index) < s->context->client_slots;
    /* As Linux: what ended the connection is still told; we ended it unless both sides had. */
    const bool over = (f & (R_EOF | R_SHUT_WR)) == (R_EOF | R_SHUT_WR);
    const uint32_t error = (f & R_FAILED) != 0 ? load(&s->record->error) : over ? 0 : ECONNRESET;
    rc = ours ? reopen(s, FOREVER) : EOPNOTSUPP;
    if (rc == 0) store(&s->record->error, error);
  }
  tx_unlock(s);
  return rc;
}

static int connect_datagram(struct sock* s, const uint8_t remote[16], uint16_t port,
                            uint16_t zone) {
  struct context* c = s->context;
  if (ensure_bound(s) != 0) return errno;
  tx_acquire(s);
  int rc = sock_alive(s) ? 0 : EBADF;
  if (rc == 0) {
    memcpy(s->record->remote_address, remote, 16);
    s->record->remote_port = port;
    s->record->zone = zone;
    if (port == 0) fetch_and(&s->record->flags, ~(uint32_t)R_CONNECTED);
    for (uint32_t i = s->index; i != NONE; i = next_of(c, i)) push_connect(s, i);
    if (port != 0) fetch_or(&s->record->flags, R_CONNECTED);
  }
  tx_unlock(s);
  return rc;
}

static int connect_datagram_to(struct sock* s, const struct sockaddr* address, socklen_t length) {
  uint8_t remote[16] = {0};
  uint16_t port = 0, zone = 0;
  if (address->sa_family != AF_UNSPEC) { /* which dissolves the association */
    const bool v6 = (load(&s->record->flags) & R_V6) != 0;
    const int error = address_read(address, length, v6, remote, &port);
    if (error != 0) return error;
    if (port == 0) return EINVAL;
    zone = address_zone(address);
  }
  return connect_datagram(s, remote, port, zone);
}

int postern_connect(int fd, const struct sockaddr* address, socklen_t length) {
  ENTER();
  struct sock s;
  if (sock_lookup_live(fd, &s) != 0) return -1;
  if (address == NULL) return fail(EFAULT);
  if (length < sizeof address->sa_family) return fail(EINVAL);
  int rc;
  if (!is_stream(&s)) {
    rc = connect_datagram_to(&s, address, length);
  } else if (address->sa_family == AF_UNSPEC) {
    rc = disconnect_stream(&s);
  } else {
    rc = connect_stream(&s, address, length);
  }
  return rc == 0 ? 0 : fail(rc);
}

/* ---- shutdown, close ---- */

static void refuse_queued(struct context* c, uint32_t listener);

/* A listener that is shut for reading takes no more connections, and none that wait for accept. */
static void shut_listener(struct sock* s) {
  struct context* c = s->context;
  group_set(c, s->index, R_SHUT_RD, 0);
  for (uint32_t i = s->index; i != NONE; i = next_of(c, i)) refuse_queued(c, i);
}

/* Under tx_lock. A connection that is still being opened is given up. */
static int shutdown_locked(struct sock* s, int how) {
  struct record* r = s->record;
  if (!sock_alive(s)) return EBADF;
  const uint32_t f = load(&r->flags);
  if ((f & R_LISTENING) != 0) {
    if ((f & R_SHUT_RD) != 0) return ENOTCONN;
    if (how != SHUT_WR) shut_listener(s);
    return 0;
  }
  if ((f & R_CONNECTING) != 0) {
    const int rc = reopen(s, FOREVER);
    if (rc == 0) store(&r->error, ECONNRESET);
    return rc;
  }
  if ((f & R_CONNECTED) == 0 || (f & R_FAILED) != 0) return ENOTCONN;
  fetch_or(&r->flags, (how != SHUT_WR ? R_SHUT_RD : 0U) | (how != SHUT_RD ? R_SHUT_WR : 0U));
  fetch_and(&r->flags, ~(uint32_t)R_ASYNC);
  if (is_stream(s)) {
    command_push(s->context, s->index,
                 &(struct command){.op = SHM_OP_SHUTDOWN, .arg = (uint16_t)how});
  }
  return 0;
}

int postern_shutdown(int fd, int how) {
  ENTER();
  struct sock s;
  if (sock_lookup_live(fd, &s) != 0) return -1;
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return fail(EINVAL);
  tx_acquire(&s); /* after what is being sent */
  const int error = shutdown_locked(&s, how);
  tx_unlock(&s);
  if (error != 0) return fail(error);
  record_changed(s.context, s.index);
  return 0;
}

static void refuse_queued(struct context* c, uint32_t listener) {
  for (uint32_t i = take_connection(c, listener); i != NONE; i = take_connection(c, listener)) {
    close_record(c, i, true);
  }
}

/* Sends CLOSE for one slot, or frees it if the daemon never knew it. */
static void close_record(struct context* c, uint32_t index, bool abort) {
  const struct sock slot = slot_at(c, index);
  struct record* r = slot.record;
  rx_acquire(&slot);
  tx_acquire(&slot);
  const uint32_t f = load(&r->flags);
  accept_acquire(c, index); /* from here on the drainer refuses connections for it */
  if ((f & R_OPEN) != 0) {
    if ((fetch_or(&r->flags, R_CLOSING) & R_CLOSING) == 0) {
      fetch_add(&channel_of(c, index)->shared->closing, 1);
    }
    fetch_and(&r->flags, ~(uint32_t)R_REOPEN);
  }
  lock_release(&r->accept_lock);
  tx_unlock(&slot);
  lock_release(&r->rx_lock);
  if ((f & R_LISTENING) != 0) refuse_queued(c, index);
  if ((f & R_OPEN) == 0) {
    slot_free(c, index);
  } else if ((f & R_CLOSING) == 0) {
    command_push(c, index, &(struct command){.op = SHM_OP_CLOSE, .arg = abort ? 1 : 0});
  }
}

/* Until the slot is free of this use, or the deadline. */
static void wait_released(struct context* c, uint32_t index, uint32_t generation,
                          int64_t deadline) {
  struct record* r = record_at(c, index);
  for (;;) {
    const uint32_t seen = load(&r->seq);
    if (load(&r->generation) != generation || (load(&r->flags) & R_CLOSING) == 0) return;
    if (load_relaxed(&c->dead)) return;
    if (wait_record(c, index, seen, deadline) == ETIMEDOUT) return;
  }
}

static void unbind(struct context* c, const struct shm_bind_request* q) {
  struct shm_bind_reply reply;
  if (q->binding != 0 && !load_relaxed(&c->dead)) (void)session_call(c, q, &reply);
}

struct closing { /* the slots of a socket, remembered before they are closed */
  uint32_t count;
  uint32_t index[SHM_MAX_CHANNELS];
  uint32_t generation[SHM_MAX_CHANNELS];
};

static struct closing slots_of(struct context* c, uint32_t primary) {
  struct closing all = {0};
  for (uint32_t i = primary; i != NONE && all.count < SHM_MAX_CHANNELS; i = next_of(c, i)) {
    all.index[all.count] = i;
    all.generation[all.count++] = load_relaxed(&record_at(c, i)->generation);
  }
  return all;
}

/* A listener's and a datagram socket's address is given back when no slot uses it any more; a
 * connection's, which may live on for long, at once. */
static void close_socket(struct sock* s, bool wait) {
  struct context* c = s->context;
  struct record* r = s->record;
  const struct closing all = slots_of(c, s->index);
  const uint32_t f = load(&r->flags);
  const struct shm_bind_request q = request_for(s, SHM_REQ_UNBIND);
  const uint16_t linger = (f & R_LINGER) != 0 ? r->options.linger : 0;
  tx_acquire(s);
  const bool torn = r->torn != 0; /* a sharer died in the middle of a send */
  tx_unlock(s);
  const bool reset = torn || ((f & (R_LINGER | R_STREAM)) == (R_LINGER | R_STREAM) && linger == 0);
  for (uint32_t i = 0; i < all.count; ++i) close_record(c, all.index[i], reset);
  const bool shared = (f & R_STREAM) == 0 || (f & R_LISTENING) != 0;
  int64_t deadline = 0;
  if (wait && shared && q.binding != 0) deadline = deadline_after_ms(RELEASE_PATIENCE_MS);
  if (wait && !shared && linger != 0) deadline = deadline_after((int64_t)linger * 1000000000);
  for (uint32_t i = 0; i < all.count && deadline != 0; ++i) {
    wait_released(c, all.index[i], all.generation[i], deadline);
  }
  unbind(c, &q);
}

/* One descriptor fewer; the last one closes the socket. */
static void drop_reference(struct sock* s, bool wait) {
  if (fetch_sub(&s->record->refs, 1) != 1) return;
  watches_drop(s->context, s->index);
  fetch_add(&s->record->life, 1);
  record_changed(s->context, s->index);
  if (!load_relaxed(&s->context->dead)) close_socket(s, wait);
}

static struct sock sock_of(struct context* c, uint64_t entry) {
  struct sock s = {.context = c, .index = (uint32_t)entry, .life = (uint32_t)(entry >> 32)};
  s.channel = channel_of(c, s.index);
  s.record = record_at(c, s.index);
  return s;
}

void reference_drop(struct context* c, uint64_t entry) {
  struct sock s = sock_of(c, entry);
  if (sock_alive(&s)) drop_reference(&s, false);
}

/* CLOSE may be sent twice: the daemon ignores what it knows already. */
void reference_finish(struct context* c, uint64_t entry) {
  struct sock s = sock_of(c, entry);
  if (load(&s.record->refs) != 0 || load_relaxed(&c->dead)) return; /* not the last, or reused */
  if (sock_alive(&s)) fetch_add(&s.record->life, 1);
  if (load(&s.record->life) != s.life + 1) return;
  const struct closing all = slots_of(c, s.index);
  for (uint32_t i = 0; i < all.count; ++i) {
    if ((load(&record_at(c, all.index[i])->flags) & R_CLOSING) == 0) continue;
    command_close_again(c, all.index[i], all.generation[i]);
  }
  if ((load(&s.record->flags) & R_CLOSING) == 0 && load(&s.record->flags) != 0) {
    close_socket(&s, false);
  }
}

void connections_recover(struct context* c) {
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    const struct channel* ch = &c->channels[i];
    for (uint32_t slot = c->client_slots; slot < load(&ch->shared->accepted_high); ++slot) {
      const struct record* r = &ch->records[slot];
      if ((load(&r->flags) & (R_QUEUED | R_CLOSING)) != R_QUEUED) continue;
      const uint32_t taker = load(&r->taker);
      if (taker == 0 || (load(&r->life) & 1) != 0 || !family_is_gone(taker)) continue;
      close_record(c, index_of(c, ch, slot), true);
    }
  }
}

int close_descriptor(int fd, bool wait) {
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  uint64_t* note = NULL;
  if (load_relaxed(&s.context->shared)) {
    note = family_closing(s.context, (uint64_t)s.life << 32 | s.index);
  }
  const bool ours = descriptor_remove(fd, &s);
  if (ours) {
    watches_drop_descriptor(s.context, s.index, fd);
    drop_reference(&s, wait);
  }
  if (note != NULL) store(note, 0);
  return ours ? 0 : fail(EBADF);
}

/* A socket that is closed meanwhile may have become another one before it was counted: what was
 * counted is given back, whosever it is. */
int postern_dup(int fd) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  uint32_t refs = load(&s.record->refs);
  do {
    if (refs == 0 || !sock_alive(&s)) return fail(EBADF);
  } while (!exchange_if(&s.record->refs, &refs, refs + 1));
  const bool alive = sock_alive(&s);
  const int copy = alive ? descriptor_create(s.index, s.life) : fail(EBADF);
  if (copy < 0) {
    const int error = errno;
    drop_reference(&s, false);
    return fail(error);
  }
  return copy;
}

int postern_close(int fd) {
  ENTER();
  return close_descriptor(fd, true);
}

/* ---- names ---- */

/* The daemon's view of the slot, if it has one. */
static const struct shm_socket* daemon_view(const struct sock* s) {
  const struct shm_socket* d = &s->channel->sockets[slot_of(s->context, s->index)];
  return d->protocol != 0 && load(&d->generation) == load_relaxed(&s->record->generation) ? d
                                                                                          : NULL;
}

int postern_getsockname(int fd, struct sockaddr* address, socklen_t* length) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  if (address == NULL || length == NULL) return fail(EFAULT);
  const uint32_t f = load(&s.record->flags);
  const bool v6 = (f & R_V6) != 0;
  const struct shm_socket* d = (f & R_CONNECTED) != 0 ? daemon_view(&s) : NULL;
  if (d != NULL && d->local_port != 0) {
    address_write(address, length, v6, d->local_address, d->local_port, s.record->zone);
  } else {
    address_write(address, length, v6, s.record->local_address, s.record->local_port,
                  s.record->zone);
  }
  return 0;
}

int postern_getpeername(int fd, struct sockaddr* address, socklen_t* length) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  if (address == NULL || length == NULL) return fail(EFAULT);
  const uint32_t f = load(&s.record->flags);
  if ((f & R_CONNECTED) == 0 || (f & R_FAILED) != 0) return fail(ENOTCONN);
  const bool v6 = (f & R_V6) != 0;
  const struct shm_socket* d = (f & R_STREAM) != 0 ? daemon_view(&s) : NULL;
  if (d != NULL) {
    address_write(address, length, v6, d->remote_address, d->remote_port, s.record->zone);
  } else {
    address_write(address, length, v6, s.record->remote_address, s.record->remote_port,
                  s.record->zone);
  }
  return 0;
}
