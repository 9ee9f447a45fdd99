/* The error queue of a datagram socket: what the network says of single datagrams, read by
 * recvmsg() with MSG_ERRQUEUE once IP_RECVERR or IPV6_RECVERR is set. ip(7), ipv6(7). The errors
 * lie in the channel's ring (shmsock.h), where those of other sockets may write over them: who does
 * not read loses, as with the kernel whose receive buffer is full. */
#include <fcntl.h> /* struct timespec, which the next one needs */
#include <linux/errqueue.h>

#include "client/internal.h"

enum { ERRORS_MINOR_VERSION = 4 };

static uint32_t wish(int level, int option) {
  if (level == IPPROTO_IP && option == IP_RECVERR) return TELL_ERRORS;
  return level == IPPROTO_IPV6 && option == IPV6_RECVERR ? TELL_ERRORS6 : 0;
}

int errors_option_set(const struct sock* s, int level, int option, int on) {
  const uint32_t bit = wish(level, option);
  struct record* r = s->record;
  if (bit == 0 || s->context->daemon_header->version_minor < ERRORS_MINOR_VERSION ||
      (bit == TELL_ERRORS6 && (load(&r->flags) & R_V6) == 0)) {
    return ENOPROTOOPT;
  }
  if (on != 0) {
    fetch_or(&r->ancillary, bit);
  } else {
    fetch_and(&r->ancillary, ~bit);
  }
  option_send(s, SHM_OPT_RECVERR, errors_wanted(r));
  return 0;
}

int errors_option_get(const struct record* r, int level, int option, int* on) {
  const uint32_t bit = wish(level, option);
  if (bit == 0 || (bit == TELL_ERRORS6 && (load(&r->flags) & R_V6) == 0)) return ENOPROTOOPT;
  *on = (load_relaxed(&r->ancillary) & bit) != 0;
  return 0;
}

uint32_t errors_wanted(const struct record* r) {
  const uint32_t told = load_relaxed(&r->ancillary);
  return ((told & TELL_ERRORS) != 0 ? 1U : 0U) | ((told & TELL_ERRORS6) != 0 ? 2U : 0U);
}

bool errors_there(struct context* c, uint32_t primary) {
  for (uint32_t i = primary; i != NONE; i = load_relaxed(&record_at(c, i)->sibling)) {
    const struct record* r = record_at(c, i);
    if (load(&r->errors_tail) != load_relaxed(&r->errors_head)) return true;
  }
  return false;
}

/* Entry i, if it is still there. */
static bool read_entry(const struct channel* ch, uint32_t i, struct shm_error* to) {
  const struct shm_error* from = &ch->errors[i & (SHM_ERRORS - 1)];
  if (load(&from->seq) != i + 1) return false;
  *to = *from;
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return load_relaxed(&from->seq) == i + 1;
}

/* The next error of a slot; *at: its index. Where there is none more, the slot has seen all. */
static bool next_error(struct context* c, uint32_t index, uint32_t from, struct shm_error* to,
                       uint32_t* at) {
  const struct channel* ch = channel_of(c, index);
  const struct record* r = record_at(c, index);
  const uint32_t tail = load(&r->errors_tail);
  uint32_t i = tail - from > SHM_ERRORS ? tail - SHM_ERRORS : from;
  for (; i != tail; ++i) {
    if (read_entry(ch, i, to) && to->slot == slot_of(c, index) &&
        to->generation == load_relaxed(&r->generation)) {
      break;
    }
  }
  *at = i;
  return i != tail;
}

/* Takes the next error of the socket. Under rx_lock. SO_ERROR becomes that of the one after it, as
 * the kernel's does. */
static bool take_error(struct sock* s, bool peek, struct shm_error* to) {
  struct context* c = s->context;
  uint32_t at;
  uint32_t i = s->index;
  for (; i != NONE; i = load_relaxed(&record_at(c, i)->sibling)) {
    struct record* r = record_at(c, i);
    if (load(&r->errors_tail) == r->errors_head) continue;
    if (next_error(c, i, r->errors_head, to, &at)) break;
    store(&r->errors_head, at);
  }
  if (i == NONE || peek) return i != NONE;
  struct shm_error more;
  uint32_t pending = 0;
  if (next_error(c, i, at + 1, &more, &at)) pending = more.error;
  store(&record_at(c, i)->errors_head, at);
  store(&s->record->error, pending);
  return true;
}

ssize_t errors_receive(struct sock* s, struct msghdr* m, int flags) {
  struct context* c = s->context;
  struct shm_error e;
  const struct record* r = s->record;
  const ssize_t total = iov_total(m->msg_iov, m->msg_iovlen);
  if (total < 0) return -1;
  if ((load(&r->flags) & R_STREAM) != 0) return fail(EAGAIN); /* has none: ip(7) */
  drain_all(c);
  rx_acquire(s);
  const bool alive = sock_alive(s);
  const bool taken = alive && take_error(s, (flags & MSG_PEEK) != 0, &e);
  lock_release(&s->record->rx_lock);
  if (!alive) return fail(EBADF);
  if (!taken) return fail(EAGAIN);
  const uint32_t there = e.length < SHM_ERROR_PAYLOAD ? e.length : SHM_ERROR_PAYLOAD;
  const size_t n = there < (size_t)total ? there : (size_t)total;
  struct iter it = {.vec = m->msg_iov, .count = m->msg_iovlen};
  iter_write(&it, e.payload, n);
  if (m->msg_name != NULL) {
    address_write(m->msg_name, &m->msg_namelen, (load_relaxed(&r->flags) & R_V6) != 0,
                  e.destination, e.port, e.zone);
  }
  m->msg_flags = MSG_ERRQUEUE | (n < there ? MSG_TRUNC : 0);
  if (ancillary_write_error(r, &e, m)) m->msg_flags |= MSG_CTRUNC;
  return (ssize_t)n;
}
