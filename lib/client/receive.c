/* Receiving: bytes are copied out of the chunks where the daemon put them. (unit, offset) is the
 * place of the next byte; a new chain is taken over when the old one is used up. */
#include <limits.h>

#include "client/internal.h"

struct place {
  uint32_t unit;
  uint32_t offset; /* in the chunk's payload */
};

/* Copies n bytes that are there; `it` NULL: skips them. */
static void walk(const struct channel* ch, struct place* at, struct iter* it, uint32_t n) {
  while (n != 0) {
    const uint8_t* base = ch->rx_pool + (size_t)at->unit * SHM_CHUNK_UNIT;
    const struct shm_chunk* chunk = (const void*)base;
    if (at->offset >= chunk->capacity) {
      at->offset -= chunk->capacity;
      at->unit = load(&chunk->next);
      continue;
    }
    uint32_t k = chunk->capacity - at->offset;
    if (k > n) k = n;
    if (it != NULL) iter_write(it, base + sizeof *chunk + at->offset, k);
    at->offset += k;
    n -= k;
  }
}

static const struct shm_chunk* chunk_at(const struct channel* ch, uint32_t unit) {
  return (const void*)(ch->rx_pool + (size_t)unit * SHM_CHUNK_UNIT);
}

static void store_place(struct record* r, uint32_t unit, uint32_t offset) {
  store(&r->place, (uint64_t)offset << 32 | unit);
}

/* Bytes that are there, and where. Under rx_lock. Flags have been loaded before. Whoever dies in
 * between has taken the chain over or not: done again, it is the same place. */
ALWAYS_INLINE uint32_t available(const struct channel* ch, struct record* r, struct place* at) {
  const uint32_t n = load(&r->rx_tail) - load_relaxed(&r->rx_head);
  const uint32_t chain = load(&r->chain);
  if (chain != 0) {
    store_place(r, chain, load_relaxed(&r->rx_head) - chunk_at(ch, chain)->start);
    uint32_t taken = chain;
    (void)exchange_if(&r->chain, &taken, 0);
  }
  *at = (struct place){(uint32_t)r->place, (uint32_t)(r->place >> 32)};
  return n;
}

ALWAYS_INLINE void advance(struct record* r, const struct place* at, uint32_t n) {
  store_place(r, at->unit, at->offset); /* before rx_head: see rx_recover() */
  store(&r->rx_head, load_relaxed(&r->rx_head) + n);
}

void receive_skip(const struct channel* ch, struct record* r) {
  struct place at;
  if (available(ch, r, &at) == 0) return;
  walk(ch, &at, NULL, 1);
  advance(r, &at, 1);
}

/* The place is one word and changes first; rx_head follows from it. */
void rx_recover(struct context* c, uint32_t index) {
  for (; index != NONE; index = load_relaxed(&record_at(c, index)->sibling)) {
    struct record* r = record_at(c, index);
    const uint32_t unit = (uint32_t)r->place;
    if (unit == 0 || load(&r->chain) != 0) continue;
    const uint32_t at = chunk_at(channel_of(c, index), unit)->start + (uint32_t)(r->place >> 32);
    const uint32_t head = load_relaxed(&r->rx_head);
    if (at - head <= load(&r->rx_tail) - head) store(&r->rx_head, at);
  }
}

/* ---- the short way ---- */

static inline void copy_out(const struct channel* ch, struct place* at, void* to, uint32_t n) {
  const struct shm_chunk* chunk = chunk_at(ch, at->unit);
  if (at->offset + n <= chunk->capacity) {
    memcpy(to, (const uint8_t*)(chunk + 1) + at->offset, n);
    at->offset += n;
    return;
  }
  const struct iovec vec = {.iov_base = to, .iov_len = n};
  walk(ch, at, &(struct iter){.vec = &vec, .count = 1}, n);
}

/* Bytes of a stream that are there and among which none is urgent. 0: it is not that simple. */
static inline uint32_t receive_plain(const struct sock* s, void* to, size_t length) {
  struct record* r = s->record;
  uint32_t n = 0;
  rx_acquire(s);
  if (sock_alive(s)) {
    struct place at;
    n = available(s->channel, r, &at);
    if (n > length) n = (uint32_t)length;
    if ((load(&r->flags) & R_URGENT) != 0) n = 0; /* known before the bytes are */
    if (n != 0) {
      copy_out(s->channel, &at, to, n);
      advance(r, &at, n);
    }
  }
  lock_release(&r->rx_lock);
  if (n != 0) consumed(s);
  return n;
}

/* ---- the long way ---- */

struct receiving {
  struct sock s;
  struct iter it;
  size_t length;
  size_t done;
  int flags;
  struct sockaddr* from; /* datagram: NULL or where its sender's name goes */
  socklen_t* from_length;
  bool truncated;
  bool urgent;                 /* what was received is urgent data */
  struct shm_datagram* header; /* datagram: NULL or where what is known of it goes */
  struct iovec* spans;         /* stream: to lend instead of to copy; NULL */
  int span_count;
  int span_room;
};

/* ---- streams ---- */

/* Names up to n bytes that are there; returns how many the spans hold. */
static uint32_t lend(const struct channel* ch, struct place at, struct receiving* o, uint32_t n) {
  uint32_t lent = 0;
  while (lent < n && o->span_count < o->span_room) {
    const struct shm_chunk* chunk = chunk_at(ch, at.unit);
    if (at.offset >= chunk->capacity) {
      at.offset -= chunk->capacity;
      at.unit = load(&chunk->next);
      continue;
    }
    uint32_t k = chunk->capacity - at.offset;
    if (k > n - lent) k = n - lent;
    o->spans[o->span_count++] =
        (struct iovec){.iov_base = (uint8_t*)(uintptr_t)(chunk + 1) + at.offset, .iov_len = k};
    at.offset += k;
    lent += k;
  }
  return lent;
}

/* One look. 0: the call is over; EAGAIN: nothing (more) there; else the errno. */
static int receive_stream(struct receiving* o) {
  struct context* c = o->s.context;
  struct record* r = o->s.record;
  const bool peek = (o->flags & MSG_PEEK) != 0;
  struct place at;
  rx_acquire(&o->s);
  if (!sock_alive(&o->s)) {
    lock_release(&r->rx_lock);
    return EBADF;
  }
  const uint32_t f = load(&r->flags);
  const size_t want = o->length - o->done;
  struct urgent_limit limit = {.there = available(o->s.channel, r, &at)};
  if (o->spans == NULL && want != 0) limit = urgent_limit(r, limit.there, o->done != 0);
  const uint32_t n = limit.there < want ? limit.there : (uint32_t)want;
  const bool all =
      limit.there != 0 && n == want; /* of nothing, too: that waits as any other does */
  const bool marked = limit.stop && n == limit.there && o->done + n != 0;
  /* As on Linux: who does not wait gets what there is, MSG_WAITALL or not. */
  const bool waits = (o->flags & MSG_DONTWAIT) == 0 && (f & R_NONBLOCK) == 0;
  const bool enough = all || marked || (n != 0 && !((o->flags & MSG_WAITALL) != 0 && waits));
  const bool over = (f & (R_EOF | R_FAILED | R_SHUT_RD)) != 0 || load_relaxed(&c->dead);
  if (o->spans != NULL) {
    o->done = lend(o->s.channel, at, o, n);
  } else if (!peek || enough || over) {
    if (limit.skip) walk(o->s.channel, &at, NULL, 1);
    walk(o->s.channel, &at, (o->flags & MSG_TRUNC) != 0 ? NULL : &o->it, n);
    if (!peek) {
      advance(r, &at, n + limit.skip);
      urgent_passed(r);
    }
    o->done += n;
  }
  lock_release(&r->rx_lock);
  if ((n != 0 || limit.skip) && !peek) consumed(&o->s);
  if (enough || o->done != 0) return enough || over ? 0 : EAGAIN;
  if (load_relaxed(&r->error) != 0) return (int)exchange(&r->error, 0);
  if ((f & (R_CONNECTED | R_CONNECTING | R_FAILED)) == 0 && !load_relaxed(&c->dead))
    return ENOTCONN;
  if ((f & (R_EOF | R_FAILED | R_SHUT_RD)) != 0) return 0;
  if (load_relaxed(&c->dead)) return ECONNABORTED;
  return EAGAIN;
}

/* MSG_OOB: the urgent byte, which stays where it is. Does not wait. 0 or an errno. */
static int receive_urgent(struct receiving* o) {
  struct record* r = o->s.record;
  struct place at;
  drain(o->s.context, o->s.channel);
  rx_acquire(&o->s);
  const uint32_t f = load(&r->flags);
  int rc = 0;
  if (!sock_alive(&o->s)) {
    rc = EBADF;
  } else if ((f & (R_LISTENING | R_SHUT_RD)) == R_LISTENING) {
    rc = ENOTCONN;
  } else if ((f & (R_OOBINLINE | R_URGENT | R_URGENT_READ)) != R_URGENT) {
    rc = EINVAL;
  } else if (!urgent_unread(r)) { /* announced and not here yet */
    rc = (f & (R_EOF | R_FAILED | R_SHUT_RD)) != 0 ? 0 : EAGAIN;
  } else {
    const uint32_t position = load(&r->urgent);
    (void)available(o->s.channel, r, &at);
    walk(o->s.channel, &at, NULL, position - load_relaxed(&r->rx_head));
    o->truncated = o->length == 0;
    o->urgent = true;
    o->done = o->length != 0;
    if (o->done != 0 && (o->flags & MSG_TRUNC) == 0) walk(o->s.channel, &at, &o->it, 1);
    if ((o->flags & MSG_PEEK) == 0) urgent_fetched(r, position);
  }
  lock_release(&r->rx_lock);
  return rc;
}

/* ---- datagrams ---- */

/* n bytes from `at` if they lie in one chunk, else NULL. */
static const uint8_t* in_one_piece(const struct channel* ch, struct place* at, uint32_t n) {
  const struct shm_chunk* chunk = chunk_at(ch, at->unit);
  while (at->offset >= chunk->capacity) {
    *at = (struct place){load(&chunk->next), at->offset - chunk->capacity};
    chunk = chunk_at(ch, at->unit);
  }
  if (n > chunk->capacity - at->offset) return NULL;
  return (const uint8_t*)(chunk + 1) + at->offset;
}

/* Copies the header out, and as much of the payload as is wanted. Returns the record's size. */
static uint32_t copy_datagram(const struct channel* ch, struct place* at, struct iter* it,
                              size_t wanted, struct shm_datagram* header) {
  const uint8_t* piece = in_one_piece(ch, at, sizeof *header);
  if (piece != NULL) {
    memcpy(header, piece, sizeof *header);
    const uint32_t bytes = record_bytes(header->length);
    const uint32_t n = header->length < wanted ? header->length : (uint32_t)wanted;
    if (in_one_piece(ch, at, bytes) != NULL) {
      iter_write(it, piece + sizeof *header, n);
      at->offset += bytes;
      return bytes;
    }
  }
  const struct iovec vec = {.iov_base = header, .iov_len = sizeof *header};
  walk(ch, at, &(struct iter){.vec = &vec, .count = 1}, sizeof *header);
  const uint32_t bytes = record_bytes(header->length);
  const uint32_t n = header->length < wanted ? header->length : (uint32_t)wanted;
  walk(ch, at, it, n);
  walk(ch, at, NULL, bytes - (uint32_t)sizeof *header - n);
  return bytes;
}

/* Takes the datagram at the head of one slot of the socket; false if there is none. */
static bool take_datagram(struct receiving* o, uint32_t index) {
  const struct sock slot = slot_at(o->s.context, index);
  struct record* r = slot.record;
  const struct channel* ch = slot.channel;
  struct place at;
  if (available(ch, r, &at) == 0) return false;
  struct shm_datagram header;
  const uint32_t bytes = copy_datagram(ch, &at, &o->it, o->length, &header);
  if (o->from != NULL) {
    address_write(o->from, o->from_length, (load_relaxed(&o->s.record->flags) & R_V6) != 0,
                  header.address, header.port, header.interface + 1U);
  }
  if (o->header != NULL) *o->header = header;
  o->truncated = header.length > o->length;
  o->done = header.length;
  if (o->truncated && (o->flags & MSG_TRUNC) == 0) o->done = o->length;
  if ((o->flags & MSG_PEEK) == 0) {
    advance(r, &at, bytes);
    consumed(&slot);
  }
  return true;
}

/* The next one of the socket's slots in turn. Under rx_lock. */
static bool next_datagram(struct receiving* o) {
  struct record* r = o->s.record;
  uint32_t index = r->turn;
  bool taken;
  do {
    taken = take_datagram(o, index);
    const uint32_t next = load_relaxed(&record_at(o->s.context, index)->sibling);
    index = next != NONE ? next : o->s.index;
  } while (!taken && index != r->turn);
  if (taken && (o->flags & MSG_PEEK) == 0) r->turn = index;
  return taken;
}

static int receive_datagram(struct receiving* o) {
  struct context* c = o->s.context;
  struct record* r = o->s.record;
  rx_acquire(&o->s);
  const bool alive = sock_alive(&o->s);
  const bool taken = alive && next_datagram(o);
  lock_release(&r->rx_lock);
  if (!alive) return EBADF;
  if (taken) return 0;
  if (load_relaxed(&r->error) != 0) return (int)exchange(&r->error, 0);
  if ((load_relaxed(&r->flags) & R_SHUT_RD) != 0) return 0;
  return load_relaxed(&c->dead) ? ECONNABORTED : EAGAIN;
}

/* ---- receive ---- */

static int look(struct receiving* o) {
  return (load_relaxed(&o->s.record->flags) & R_STREAM) != 0 ? receive_stream(o)
                                                             : receive_datagram(o);
}

static void report_all(struct context* c, uint32_t index) {
  for (; index != NONE; index = load_relaxed(&record_at(c, index)->sibling)) report(c, index);
}

static int receive_all(struct receiving* o) {
  struct context* c = o->s.context;
  struct record* r = o->s.record;
  const bool wait = (o->flags & MSG_DONTWAIT) == 0 && (load_relaxed(&r->flags) & R_NONBLOCK) == 0;
  const int64_t deadline = wait ? deadline_after(r->rcv_timeout) : 0;
  for (bool looked = false;; looked = true) {
    const uint32_t seen = load(&r->seq);
    int rc = look(o);
    if (rc != EAGAIN) return rc;
    drain_all(c);
    if (load(&r->seq) != seen && (wait || !looked)) continue;
    if (!wait) {
      report_all(c, o->s.index);
      return EAGAIN;
    }
    rc = wait_record(c, o->s.index, seen, deadline);
    if (rc == EINTR && deadline == FOREVER && interruption_restarts()) rc = 0;
    if (rc != 0) return rc == ETIMEDOUT ? EAGAIN : rc;
  }
}

enum {
  KNOWN_FLAGS = MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC
};

static ssize_t receive_message(struct receiving* o, int fd) {
  if (sock_lookup(fd, &o->s) != 0) return -1;
  const bool stream = (load_relaxed(&o->s.record->flags) & R_STREAM) != 0;
  if ((o->flags & ~(KNOWN_FLAGS | (stream ? MSG_OOB : 0))) != 0) return fail(EOPNOTSUPP);
  const ssize_t total = iov_total(o->it.vec, o->it.count);
  if (total < 0) return -1;
  o->length = (size_t)total;
  if (stream && o->from != NULL) {
    o->from = NULL; /* as the kernel: a stream's peer is not named */
    *o->from_length = 0;
  }
  const int rc = (o->flags & MSG_OOB) != 0 ? receive_urgent(o) : receive_all(o);
  if (rc == 0 || (stream && o->done != 0 && rc != EBADF)) return (ssize_t)o->done;
  return fail(rc);
}

ssize_t postern_recv(int fd, void* data, size_t length, int flags) {
  return postern_recvfrom(fd, data, length, flags, NULL, NULL);
}

static ssize_t receive_error(int fd, struct msghdr* m, int flags) {
  struct sock s;
  return sock_lookup(fd, &s) != 0 ? -1 : errors_receive(&s, m, flags);
}

/* Every other case of postern_recvfrom(). */
__attribute__((noinline)) static ssize_t receive_from(int fd, struct iovec* one, int flags,
                                                      struct sockaddr* from,
                                                      socklen_t* from_length) {
  if (from != NULL && from_length == NULL) return fail(EFAULT);
  if ((flags & MSG_ERRQUEUE) != 0) {
    struct msghdr m = {.msg_iov = one, .msg_iovlen = 1, .msg_name = from};
    m.msg_namelen = from != NULL ? *from_length : 0;
    const ssize_t n = receive_error(fd, &m, flags);
    if (n >= 0 && from != NULL) *from_length = m.msg_namelen;
    return n;
  }
  struct receiving o = {
      .it = {.vec = one, .count = 1}, .flags = flags, .from = from, .from_length = from_length};
  return receive_message(&o, fd);
}

ssize_t postern_recvfrom(int fd, void* data, size_t length, int flags, struct sockaddr* from,
                         socklen_t* from_length) {
  ENTER();
  struct sock s;
  if ((flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) == 0 && from == NULL && length <= SSIZE_MAX &&
      sock_find(fd, &s) && (load_relaxed(&s.record->flags) & R_STREAM) != 0) {
    const uint32_t n = receive_plain(&s, data, length);
    if (n != 0) return n;
  }
  return receive_from(fd, &(struct iovec){.iov_base = data, .iov_len = length}, flags, from,
                      from_length);
}

static struct receiving message_of(struct msghdr* m, struct shm_datagram* header, int flags) {
  return (struct receiving){.it = {.vec = m->msg_iov, .count = m->msg_iovlen},
                            .flags = flags,
                            .from = m->msg_name,
                            .from_length = &m->msg_namelen,
                            .header = header};
}

static void finish_message(const struct receiving* o, struct msghdr* m) {
  m->msg_flags = (o->truncated ? MSG_TRUNC : 0) | (o->urgent ? MSG_OOB : 0);
  if (load_relaxed(&o->s.record->ancillary) != 0 && o->header->port != 0) {
    if (ancillary_write(o->s.record, o->header, m)) m->msg_flags |= MSG_CTRUNC;
  } else {
    m->msg_controllen = 0;
  }
}

ssize_t postern_recvmsg(int fd, struct msghdr* m, int flags) {
  ENTER();
  if ((flags & MSG_ERRQUEUE) != 0) return receive_error(fd, m, flags);
  struct shm_datagram header = {0}; /* length and port stay 0 if there is none */
  struct receiving o = message_of(m, &header, flags);
  const ssize_t n = receive_message(&o, fd);
  if (n >= 0) finish_message(&o, m);
  return n;
}

/* Datagrams that are there already, under one lock. Returns how many. */
static unsigned take_many(const struct sock* s, struct mmsghdr* messages, unsigned count,
                          int flags) {
  unsigned done = 0;
  rx_acquire(s);
  for (; done < count && sock_alive(s); ++done) {
    struct msghdr* m = &messages[done].msg_hdr;
    struct shm_datagram header;
    struct receiving o = message_of(m, &header, flags);
    o.s = *s;
    const ssize_t total = iov_total(m->msg_iov, m->msg_iovlen);
    if (total < 0) break; /* whoever asks for this one alone is told why */
    o.length = (size_t)total;
    if (!next_datagram(&o)) break;
    finish_message(&o, m);
    messages[done].msg_len = (unsigned)o.done;
  }
  lock_release(&s->record->rx_lock);
  return done;
}

int postern_recvmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags,
                     struct timespec* limit) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  const bool one_waits = (flags & MSG_WAITFORONE) != 0;
  const bool take = limit == NULL && (load_relaxed(&s.record->flags) & R_STREAM) == 0 &&
                    (flags & ~MSG_WAITFORONE & ~KNOWN_FLAGS) == 0 && (flags & MSG_PEEK) == 0;
  const int64_t deadline =
      limit != NULL ? now_ns() + limit->tv_sec * INT64_C(1000000000) + limit->tv_nsec : FOREVER;
  unsigned done = 0;
  while (done < count) {
    if (take) done += take_many(&s, messages + done, count - done, flags & ~MSG_WAITFORONE);
    if (done == count) break;
    const int now = (flags & ~MSG_WAITFORONE) | (one_waits && done != 0 ? MSG_DONTWAIT : 0);
    const ssize_t n = postern_recvmsg(fd, &messages[done].msg_hdr, now);
    if (n < 0) break;
    messages[done++].msg_len = (unsigned)n;
    if (deadline != FOREVER && now_ns() >= deadline) break;
  }
  return done != 0 || count == 0 ? (int)done : -1;
}

ssize_t postern_recv_borrow(int fd, struct iovec* spans, int* count, int flags) {
  ENTER();
  struct receiving o = {.spans = spans, .span_room = *count, .flags = flags | MSG_PEEK};
  if (sock_lookup(fd, &o.s) != 0) return -1;
  if ((load_relaxed(&o.s.record->flags) & R_STREAM) == 0) return fail(EOPNOTSUPP);
  if ((flags & ~MSG_DONTWAIT) != 0) return fail(EOPNOTSUPP);
  if (spans == NULL || *count < 1) return fail(EINVAL);
  o.length = INT32_MAX;
  const int rc = receive_all(&o);
  *count = o.span_count;
  return rc == 0 ? (ssize_t)o.done : fail(rc);
}

int postern_recv_return(int fd, size_t length) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  if ((load_relaxed(&s.record->flags) & R_STREAM) == 0) return fail(EOPNOTSUPP);
  struct place at;
  rx_acquire(&s);
  int rc = sock_alive(&s) ? 0 : EBADF;
  if (rc == 0 && length > available(s.channel, s.record, &at)) rc = EINVAL;
  if (rc == 0 && length != 0) {
    walk(s.channel, &at, NULL, (uint32_t)length);
    advance(s.record, &at, (uint32_t)length);
    urgent_passed(s.record);
  }
  lock_release(&s.record->rx_lock);
  if (rc != 0) return fail(rc);
  if (length != 0) consumed(&s);
  return 0;
}

int postern_available(int fd) {
  ENTER();
  struct receiving o = {.flags = MSG_PEEK | MSG_TRUNC};
  if (sock_lookup(fd, &o.s) != 0) return -1;
  struct record* r = o.s.record;
  const uint32_t f = load(&r->flags);
  if ((f & R_LISTENING) != 0) return fail(EINVAL);
  drain_all(o.s.context);
  if ((f & R_STREAM) != 0) return (int)stream_unread(r);
  rx_acquire(&o.s);
  bool there = false;
  for (uint32_t i = o.s.index; i != NONE && !there; i = record_at(o.s.context, i)->sibling) {
    there = take_datagram(&o, i);
  }
  lock_release(&r->rx_lock);
  return there ? (int)o.done : 0;
}

int postern_at_mark(int fd) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  if ((load(&s.record->flags) & R_STREAM) == 0) return fail(ENOTTY);
  drain(s.context, s.channel);
  return urgent_next(s.record);
}
