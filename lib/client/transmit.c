/* Sending. Bytes are copied into chunks of the channel's transmit memory, a list a socket, and
 * named to the daemon by one SEND a contiguous run. A chunk is freed when tx_acked has passed its
 * last byte; an idle socket holds none.
 *
 * A chunk that lies right behind its predecessor continues the predecessor's extent; tx_extents
 * counts the others, which is at least what the daemon counts. Datagrams are counted one by one. */
#include <limits.h>
#include <signal.h>

#include "client/internal.h"

enum {
  LARGE_FROM = 8192, /* bytes to send, or outstanding, from which a socket gets 64 KiB chunks */
  MAX_DATAGRAM = 65507,
  PLAIN_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE
};

static bool reached(uint32_t position, uint32_t end) { return (int32_t)(position - end) >= 0; }

static uint32_t outstanding(const struct record* r) {
  return load_relaxed(&r->tx_tail) - load(&r->tx_acked);
}

static uint32_t capacity(const struct tx_unit* u) { return (uint32_t)u->units * SHM_CHUNK_UNIT; }

/* ---- freeing ---- */

/* The oldest datagram's place is kept ahead of the chunks that are freed. */
static void reap_datagrams(struct channel* ch, struct record* r, uint32_t acked) {
  while (r->dgrams != 0) {
    const uint8_t* at = ch->tx_pool + (size_t)r->dgram_unit * SHM_CHUNK_UNIT + r->dgram_offset;
    struct shm_datagram header;
    memcpy(&header, at, sizeof header);
    const uint32_t bytes = record_bytes(header.length);
    if (!reached(acked, r->dgram_position + bytes)) return;
    r->dgram_position += bytes;
    r->dgram_offset += bytes;
    store_relaxed(&r->dgrams, r->dgrams - 1);
    if (r->dgrams != 0 && r->dgram_offset == ch->units[r->dgram_unit].used) {
      r->dgram_unit = ch->units[r->dgram_unit].next;
      r->dgram_offset = 0;
    }
  }
}

static inline void free_first(const struct sock* s) {
  struct channel* ch = s->channel;
  struct record* r = s->record;
  const uint32_t unit = r->tx_first;
  const uint32_t next = ch->units[unit].next;
  if (ch->units[unit].starts_extent) store_relaxed(&r->tx_extents, r->tx_extents - 1);
  if (next == NONE) {
    r->tx_last = NONE;
  } else if (!ch->units[next].starts_extent) {
    ch->units[next].starts_extent = 1;
    store_relaxed(&r->tx_extents, r->tx_extents + 1);
  }
  r->tx_first = next;
  pool_free(s->context, ch, unit);
}

/* Frees what tx_acked has passed. Under tx_lock. */
static inline void tx_reap(const struct sock* s) {
  struct channel* ch = s->channel;
  struct record* r = s->record;
  const uint32_t acked = load(&r->tx_acked);
  if (acked == r->tx_reaped) return;
  store_relaxed(&r->tx_reaped, acked);
  if ((load_relaxed(&r->flags) & R_STREAM) == 0) reap_datagrams(ch, r, acked);
  while (r->tx_first != NONE && reached(acked, ch->units[r->tx_first].end)) {
    if (r->reserved && r->tx_first == r->tx_last) return;
    free_first(s);
  }
}

void tx_drop(const struct sock* s) {
  store_relaxed(&s->record->dgrams, 0);
  while (s->record->tx_first != NONE) free_first(s);
}

static inline bool to_reap(const struct record* r) {
  return __atomic_load_n(&r->tx_acked, __ATOMIC_SEQ_CST) != load_relaxed(&r->tx_reaped);
}

void tx_try_reap(const struct sock* s) {
  struct record* r = s->record;
  while (to_reap(r) && lock_try(&r->tx_lock)) {
    tx_reap(s);
    lock_release(&r->tx_lock);
  }
}

void tx_unlock(const struct sock* s) {
  lock_release(&s->record->tx_lock);
  if (to_reap(s->record)) tx_try_reap(s);
}

/* The holder of tx_lock died. A stream of which bytes were counted and perhaps not sent is broken
 * for all; a datagram that was not sent only holds its memory until the next is acknowledged. */
void tx_recover(struct context* c, uint32_t index) {
  const struct channel* ch = channel_of(c, index);
  struct record* r = record_at(c, index);
  r->tx_last = r->tx_first;
  while (r->tx_last != NONE && ch->units[r->tx_last].next != NONE) {
    r->tx_last = ch->units[r->tx_last].next;
  }
  if (load(&r->torn) == 0) return;
  store(&r->error, ECONNRESET);
  fetch_or(&r->flags, R_FAILED);
  record_changed(c, index);
}

/* ---- room ---- */

static bool pool_exhausted(const struct channel* ch) {
  return load_relaxed(&ch->shared->units_used) >= ch->tx_blocks * UNITS_PER_BLOCK;
}

/* Has the record told when transmit memory is free again. */
static void starve(struct context* c, uint32_t index) {
  struct record* r = record_at(c, index);
  if (exchange(&r->starved, 1) != 0) return;
  uint32_t head = load_relaxed(&c->app->starved_head);
  do {
    store_relaxed(&r->next_starved, head);
  } while (!exchange_if(&c->app->starved_head, &head, index + 1));
}

static bool memory_left(const struct sock* s) {
  if (!pool_exhausted(s->channel)) return true;
  starve(s->context, s->index);
  return !pool_exhausted(s->channel); /* again: it may have been freed before we were listed */
}

/* As the kernel: worth reporting when a third of the buffer is free. */
static inline bool buffer_room(const struct record* r) {
  const uint32_t limit = load_relaxed(&r->sndbuf);
  const uint32_t used = outstanding(r);
  if (used >= limit || limit - used < limit / 3) return false;
  if (load_relaxed(&r->tx_extents) >= SHM_MAX_EXTENTS) return false;
  return load_relaxed(&r->dgrams) < SHM_MAX_DATAGRAMS;
}

bool tx_writable(const struct sock* s) { return buffer_room(s->record) && memory_left(s); }

static inline uint8_t want_flag(const struct sock* s) {
  return pool_low(s->channel) || !buffer_room(s->record) ? SHM_CMD_WANT_TX : 0;
}

/* ---- chunks ---- */

static void append_chunk(struct channel* ch, struct record* r, uint32_t unit, bool continues) {
  struct tx_unit* u = &ch->units[unit];
  u->next = NONE;
  u->used = 0;
  u->end = r->tx_tail;
  u->starts_extent = !continues;
  if (!continues) store_relaxed(&r->tx_extents, r->tx_extents + 1);
  if (r->tx_last == NONE) {
    r->tx_first = unit;
  } else {
    ch->units[r->tx_last].next = unit;
  }
  r->tx_last = unit;
}

static bool last_has_room(const struct sock* s) {
  if (s->record->tx_last == NONE) return false;
  const struct tx_unit* u = &s->channel->units[s->record->tx_last];
  return u->used < capacity(u);
}

/* Gives a stream another chunk. */
static bool add_chunk(const struct sock* s, size_t wanted) {
  struct channel* ch = s->channel;
  struct record* r = s->record;
  const uint32_t near = r->tx_last != NONE ? r->tx_last + ch->units[r->tx_last].units : NONE;
  const bool large = wanted >= LARGE_FROM || outstanding(r) >= LARGE_FROM;
  uint32_t unit = large ? pool_allocate(ch, UNITS_PER_BLOCK, near) : NONE;
  if (unit == NONE) unit = pool_allocate(ch, 1, near);
  if (unit == NONE) {
    starve(s->context, s->index);
    unit = pool_allocate(ch, 1, near);
    if (unit == NONE) return false;
  }
  if (unit != near && r->tx_extents >= SHM_MAX_EXTENTS) {
    pool_free(s->context, ch, unit);
    return false;
  }
  append_chunk(ch, r, unit, unit == near);
  return true;
}

/* Makes sure that the last chunk of a stream has room. */
static inline bool stream_room(const struct sock* s, size_t wanted) {
  return last_has_room(s) || add_chunk(s, wanted);
}

struct run { /* bytes placed and not yet named to the daemon */
  uint64_t offset;
  uint32_t length;
};

/* `flags`: SHM_CMD_MORE, SHM_CMD_URGENT. */
static inline void send_run(const struct sock* s, struct run* run, uint8_t flags) {
  if (run->length == 0) return;
  const struct command command = {.op = SHM_OP_SEND,
                                  .flags = (uint8_t)(want_flag(s) | flags),
                                  .length = run->length,
                                  .offset = run->offset};
  run->length = 0;
  command_send(s, &command);
}

/* Queues up to `length` bytes; returns how many. Under tx_lock. */
static size_t append_stream(const struct sock* s, struct iter* it, size_t length, uint8_t flags) {
  struct channel* ch = s->channel;
  struct record* r = s->record;
  struct run run = {0};
  size_t done = 0;
  store(&r->torn, 1);
  while (done < length) {
    const uint32_t used = outstanding(r);
    const uint32_t limit = load_relaxed(&r->sndbuf);
    if (used >= limit || !stream_room(s, length - done)) break;
    struct tx_unit* u = &ch->units[r->tx_last];
    size_t n = capacity(u) - u->used;
    if (n > length - done) n = length - done;
    if (n > limit - used) n = limit - used;
    const uint64_t offset = (uint64_t)r->tx_last * SHM_CHUNK_UNIT + u->used;
    iter_read(it, ch->tx_pool + offset, n);
    if (run.length != 0 && run.offset + run.length != offset) send_run(s, &run, SHM_CMD_MORE);
    if (run.length == 0) run.offset = offset;
    run.length += (uint32_t)n;
    u->used += (uint32_t)n;
    store_relaxed(&r->tx_tail, r->tx_tail + (uint32_t)n);
    u->end = r->tx_tail;
    done += n;
  }
  send_run(s, &run, flags);
  store(&r->torn, 0);
  return done;
}

/* ---- datagrams ---- */

static bool datagram_room(const struct sock* s, uint32_t bytes) {
  struct channel* ch = s->channel;
  struct record* r = s->record;
  const uint32_t used = outstanding(r);
  if (r->dgrams >= SHM_MAX_DATAGRAMS) return false;
  if (used != 0 && used + bytes > load_relaxed(&r->sndbuf)) return false;
  if (r->tx_last != NONE) {
    const struct tx_unit* u = &ch->units[r->tx_last];
    if (capacity(u) - u->used >= bytes) return true;
  }
  const uint32_t block = UNITS_PER_BLOCK * SHM_CHUNK_UNIT;
  for (int tries = 0; tries < 2; ++tries) {
    const uint32_t unit = bytes > block            ? pool_allocate_double(ch)
                          : bytes > SHM_CHUNK_UNIT ? pool_allocate(ch, UNITS_PER_BLOCK, NONE)
                                                   : pool_allocate(ch, 1, NONE);
    if (unit != NONE) {
      append_chunk(ch, r, unit, r->tx_last != NONE);
      return true;
    }
    if (tries == 0) starve(s->context, s->index);
  }
  return false;
}

/* Queues one datagram. Under tx_lock. False: no room now. */
static bool append_datagram(const struct sock* s, struct iter* it,
                            const struct shm_datagram* header) {
  struct channel* ch = s->channel;
  struct record* r = s->record;
  const uint32_t bytes = record_bytes(header->length);
  if (!datagram_room(s, bytes)) return false;
  struct tx_unit* u = &ch->units[r->tx_last];
  const uint64_t offset = (uint64_t)r->tx_last * SHM_CHUNK_UNIT + u->used;
  uint8_t* at = ch->tx_pool + offset;
  memset(at + bytes - 8, 0, 8);
  memcpy(at, header, sizeof *header);
  iter_read(it, at + sizeof *header, header->length);
  if (r->dgrams == 0) {
    r->dgram_unit = r->tx_last;
    r->dgram_offset = u->used;
    r->dgram_position = r->tx_tail;
  }
  u->used += bytes;
  store_relaxed(&r->dgrams, r->dgrams + 1);
  store_relaxed(&r->tx_tail, r->tx_tail + bytes);
  u->end = r->tx_tail;
  command_send(s,
               &(struct command){
                   .op = SHM_OP_SENDTO, .flags = want_flag(s), .length = bytes, .offset = offset});
  return true;
}

/* ---- send ---- */

struct sending {
  struct sock s;
  struct iter it;
  size_t length;
  size_t done;
  int flags;
  bool refused;                /* datagram: EMSGSIZE, and the daemon is to say so in the queue */
  struct iovec* span;          /* to reserve room instead of to send; NULL */
  struct shm_datagram* header; /* datagram */
};

/* What stands in the way of sending: 0 nothing, EAGAIN wait, else the errno. */
static int send_state(const struct sock* s) {
  struct record* r = s->record;
  if (!sock_alive(s)) return EBADF;
  const uint32_t f = load(&r->flags);
  if (load_relaxed(&s->context->dead)) return ECONNABORTED;
  if ((f & R_SHUT_WR) != 0) return EPIPE;
  if (load_relaxed(&r->error) != 0 && (f & R_CONNECTING) == 0) {
    return (int)exchange(&r->error, 0);
  }
  if ((f & R_STREAM) == 0) return 0;
  if ((f & R_FAILED) != 0) return EPIPE;
  if ((f & R_CONNECTING) != 0) return EAGAIN;
  return (f & R_CONNECTED) != 0 ? 0 : EPIPE;
}

/* Under tx_lock. */
static int reserve(struct sending* o) {
  struct record* r = o->s.record;
  const uint32_t used = outstanding(r);
  const uint32_t limit = load_relaxed(&r->sndbuf);
  if (used >= limit || !stream_room(&o->s, o->length)) return EAGAIN;
  const struct tx_unit* u = &o->s.channel->units[r->tx_last];
  size_t n = capacity(u) - u->used;
  if (n > limit - used) n = limit - used;
  if (n > o->length) n = o->length;
  r->reserved = 1;
  o->span->iov_base = o->s.channel->tx_pool + (size_t)r->tx_last * SHM_CHUNK_UNIT + u->used;
  o->done = o->span->iov_len = n;
  return 0;
}

/* Under tx_lock. Names the first bytes of what is reserved to the daemon. */
static void commit(const struct sock* s, size_t length, bool more) {
  struct record* r = s->record;
  struct tx_unit* u = &s->channel->units[r->tx_last];
  struct run run = {.offset = (uint64_t)r->tx_last * SHM_CHUNK_UNIT + u->used,
                    .length = (uint32_t)length};
  store(&r->torn, 1);
  u->used += (uint32_t)length;
  store_relaxed(&r->tx_tail, r->tx_tail + (uint32_t)length);
  u->end = r->tx_tail;
  send_run(s, &run, more ? SHM_CMD_MORE : 0);
  store(&r->torn, 0);
}

static uint8_t command_flags(const struct sending* o) {
  return (uint8_t)(((o->flags & MSG_MORE) != 0 ? SHM_CMD_MORE : 0) |
                   ((o->flags & MSG_OOB) != 0 ? SHM_CMD_URGENT : 0));
}

/* One attempt: 0 all sent, EAGAIN no room, else the errno. */
static inline int send_once(struct sending* o) {
  tx_acquire(&o->s);
  int rc = send_state(&o->s);
  if (rc == 0) {
    if (to_reap(o->s.record)) tx_reap(&o->s);
    if (o->header != NULL) {
      rc = append_datagram(&o->s, &o->it, o->header) ? 0 : EAGAIN;
      if (rc == 0) o->done = o->length;
    } else if (o->span != NULL) {
      rc = reserve(o);
    } else {
      o->done += append_stream(&o->s, &o->it, o->length - o->done, command_flags(o));
      rc = o->done == o->length ? 0 : EAGAIN;
    }
  }
  tx_unlock(&o->s);
  return rc;
}

/* Waits until sending is worth another try. */
static int wait_writable(struct sending* o, uint32_t seen, int64_t deadline) {
  struct context* c = o->s.context;
  for (;;) {
    const int rc = wait_record(c, o->s.index, seen, deadline);
    if (rc == EINTR && deadline == FOREVER && interruption_restarts()) continue;
    if (rc != 0) return rc == ETIMEDOUT ? EAGAIN : rc;
    seen = load(&o->s.record->seq);
    const uint32_t f = load(&o->s.record->flags);
    if (!sock_alive(&o->s) || load_relaxed(&c->dead) || (f & (R_FAILED | R_SHUT_WR)) != 0) return 0;
    if ((f & R_CONNECTING) == 0 && tx_writable(&o->s)) return 0;
  }
}

static int send_all(struct sending* o) {
  struct record* r = o->s.record;
  const bool wait = (o->flags & MSG_DONTWAIT) == 0 && (load_relaxed(&r->flags) & R_NONBLOCK) == 0;
  const int64_t deadline = wait ? deadline_after(r->snd_timeout) : 0;
  for (bool looked = false;; looked = true) {
    const uint32_t seen = load(&r->seq);
    int rc = send_once(o);
    if (rc != EAGAIN) return rc;
    drain(o->s.context, o->s.channel);
    if (!wait) {
      if (looked || o->done != 0 || load(&r->seq) == seen) return EAGAIN;
      continue;
    }
    rc = wait_writable(o, seen, deadline);
    if (rc != 0) return rc;
  }
}

static ssize_t finish(const struct sending* o, int rc) {
  if (rc == 0 || (o->done != 0 && rc != EBADF)) return (ssize_t)o->done;
  if (rc == EPIPE && (o->flags & MSG_NOSIGNAL) == 0) raise(SIGPIPE);
  return fail(rc);
}

/* IP_PMTUDISC_DO and PROBE: a datagram that no link carries is refused here; one that the path does
 * not the daemon tells of later (SO_ERROR). */
static bool too_long(const struct sending* o, bool v4) {
  const struct record* r = o->s.record;
  const struct shm_settings* all = o->s.context->settings;
  if (r->options.mtu_discover - 1 < IP_PMTUDISC_DO || all == NULL || all->mtu == 0) return false;
  return o->length + (v4 ? 28 : 48) > all->mtu;
}

/* Who wants errors in a queue finds one there when the call has failed: the daemon, which refuses
 * the datagram too, writes it. */
enum { ERROR_PATIENCE_NS = 100000000, ERROR_NAP_NS = 20000 };

static int fail_with_error_queued(struct sending* o) {
  struct context* c = o->s.context;
  const int64_t deadline = now_ns() + ERROR_PATIENCE_NS;
  while (!errors_there(c, o->s.index) && now_ns() < deadline && !check_daemon(c, false)) {
    drain_all(c);
    nanosleep(&(struct timespec){.tv_nsec = ERROR_NAP_NS}, NULL);
  }
  (void)exchange(&o->s.record->error, 0); /* told by this call */
  return fail(EMSGSIZE);
}

static int prepare_datagram(struct sending* o, const struct sockaddr* to, socklen_t to_length) {
  struct shm_datagram* h = o->header;
  const bool queued =
      errors_wanted(o->s.record) != 0 && o->s.record->options.mtu_discover - 1 >= IP_PMTUDISC_DO;
  if (o->length > MAX_DATAGRAM) {
    if (!queued) return fail(EMSGSIZE);
    o->length = MAX_DATAGRAM; /* too long all the same */
  }
  memset(h, 0, sizeof *h);
  h->length = (uint32_t)o->length;
  h->tos = o->s.record->options.tos;
  const uint32_t f = load(&o->s.record->flags);
  h->is_v6 = (f & R_V6) != 0;
  if (to != NULL) {
    const int error = address_read(to, to_length, h->is_v6, h->address, &h->port);
    if (error != 0) return fail(error);
    if (h->port == 0) return fail(EINVAL);
    h->interface = address_zone(to);
    if (group_forbids(o->s.record, h->address)) return fail(EACCES);
  } else if ((f & R_CONNECTED) == 0) {
    return fail(EDESTADDRREQ);
  }
  o->refused = too_long(o, address_is_v4(to != NULL ? h->address : o->s.record->remote_address));
  if (o->refused && !queued) return fail(EMSGSIZE);
  return ensure_bound(&o->s);
}

static ssize_t send_datagram(struct sending* o, const struct msghdr* m) {
  struct shm_datagram header;
  o->header = &header;
  if (prepare_datagram(o, m->msg_name, m->msg_namelen) != 0) return -1;
  const int error = m->msg_controllen != 0 ? ancillary_read(m, &header) : 0;
  if (error != 0) return fail(error);
  const int rc = send_all(o);
  return rc == 0 && o->refused ? fail_with_error_queued(o) : finish(o, rc);
}

static bool knows_flags(const struct context* c, int flags, bool stream) {
  const int urgent = stream && daemon_knows(c, 4) ? MSG_OOB : 0;
  return (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | urgent)) == 0;
}

/* One attempt of a stream that nothing stands in the way of. Returns how much was queued. */
static inline size_t send_plain(const struct sock* s, struct iter* it, size_t length, int flags) {
  const struct record* r = s->record;
  size_t done = 0;
  tx_acquire(s);
  const uint32_t f = load(&r->flags);
  if (sock_alive(s) && (f & (R_CONNECTED | R_CONNECTING | R_FAILED | R_SHUT_WR)) == R_CONNECTED &&
      load_relaxed(&r->error) == 0 && !load_relaxed(&s->context->dead)) {
    if (to_reap(r)) tx_reap(s);
    done = append_stream(s, it, length, (flags & MSG_MORE) != 0 ? SHM_CMD_MORE : 0);
  }
  tx_unlock(s);
  return done;
}

__attribute__((noinline)) static ssize_t send_rest(const struct sock* s, const struct iter* it,
                                                   size_t length, size_t done, int flags) {
  struct sending o = {.s = *s, .it = *it, .length = length, .done = done, .flags = flags};
  return finish(&o, send_all(&o));
}

/* All that a stream sends but urgent data and what comes with control messages. */
static inline ssize_t send_stream(const struct sock* s, const struct iovec* vec, size_t count,
                                  size_t length, int flags) {
  struct iter it = {.vec = vec, .count = count};
  const size_t done = send_plain(s, &it, length, flags);
  return done == length && done != 0 ? (ssize_t)done : send_rest(s, &it, length, done, flags);
}

static bool is_stream(const struct sock* s) { return (load(&s->record->flags) & R_STREAM) != 0; }

__attribute__((noinline)) static ssize_t send_message(int fd, const struct msghdr* m, int flags) {
  struct sending o = {.it = {.vec = m->msg_iov, .count = m->msg_iovlen}, .flags = flags};
  if (sock_lookup_live(fd, &o.s) != 0) return -1;
  const bool stream = is_stream(&o.s);
  if (!knows_flags(o.s.context, flags, stream)) return fail(EOPNOTSUPP);
  const ssize_t total = iov_total(m->msg_iov, m->msg_iovlen);
  if (total < 0) return -1;
  o.length = (size_t)total;
  if (!stream) return send_datagram(&o, m);
  const int error = m->msg_controllen != 0 ? ancillary_read(m, NULL) : 0;
  return error != 0 ? fail(error) : finish(&o, send_all(&o));
}

ssize_t postern_send(int fd, const void* data, size_t length, int flags) {
  return postern_sendto(fd, data, length, flags, NULL, 0);
}

ssize_t postern_sendto(int fd, const void* data, size_t length, int flags,
                       const struct sockaddr* to, socklen_t to_length) {
  ENTER();
  struct sock s;
  struct iovec one = {.iov_base = (void*)(uintptr_t)data, .iov_len = length};
  if ((flags & ~PLAIN_FLAGS) == 0 && length <= SSIZE_MAX && sock_find(fd, &s) && is_stream(&s)) {
    return send_stream(&s, &one, 1, length, flags);
  }
  const struct msghdr m = {
      .msg_name = (void*)(uintptr_t)to, .msg_namelen = to_length, .msg_iov = &one, .msg_iovlen = 1};
  return send_message(fd, &m, flags);
}

ssize_t postern_sendmsg(int fd, const struct msghdr* m, int flags) {
  ENTER();
  struct sock s;
  if ((flags & ~PLAIN_FLAGS) == 0 && m->msg_controllen == 0 && sock_find(fd, &s) && is_stream(&s)) {
    const ssize_t total = iov_total(m->msg_iov, m->msg_iovlen);
    return total < 0 ? -1 : send_stream(&s, m->msg_iov, m->msg_iovlen, (size_t)total, flags);
  }
  return send_message(fd, m, flags);
}

int postern_sendmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags) {
  ENTER();
  unsigned done = 0;
  for (; done < count; ++done) {
    const ssize_t n = send_message(fd, &messages[done].msg_hdr, flags);
    if (n < 0) break;
    messages[done].msg_len = (unsigned)n;
  }
  return done != 0 || count == 0 ? (int)done : -1;
}

/* ---- without copying ---- */

ssize_t postern_send_reserve(int fd, struct iovec* span, size_t wanted, int flags) {
  ENTER();
  struct sending o = {.span = span, .length = wanted, .flags = flags};
  if (sock_lookup_live(fd, &o.s) != 0) return -1;
  if ((load(&o.s.record->flags) & R_STREAM) == 0) return fail(EOPNOTSUPP);
  if ((flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) != 0) return fail(EOPNOTSUPP);
  if (span == NULL || wanted == 0) return fail(EINVAL);
  return finish(&o, send_all(&o));
}

ssize_t postern_send_commit(int fd, size_t length, int flags) {
  ENTER();
  struct sending o = {.flags = flags};
  if (sock_lookup_live(fd, &o.s) != 0) return -1;
  if ((flags & ~(MSG_MORE | MSG_NOSIGNAL)) != 0) return fail(EOPNOTSUPP);
  struct record* r = o.s.record;
  tx_acquire(&o.s);
  int rc = send_state(&o.s);
  const struct tx_unit* u = r->tx_last != NONE ? &o.s.channel->units[r->tx_last] : NULL;
  if (rc == 0 && (!r->reserved || u == NULL || length > capacity(u) - u->used)) rc = EINVAL;
  if (rc != EINVAL) r->reserved = 0;
  if (rc == 0 && length != 0) commit(&o.s, length, (flags & MSG_MORE) != 0);
  tx_unlock(&o.s);
  o.done = rc == 0 ? length : 0;
  return finish(&o, rc);
}
