/* postern_poll and queues. A queue keeps a list of the sockets that changed since they were last
 * found with nothing to report; who drains events puts them there. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"

/* ---- readiness ---- */

static bool any_data(struct context* c, uint32_t index) {
  for (; index != NONE; index = load_relaxed(&record_at(c, index)->sibling)) {
    const struct record* r = record_at(c, index);
    if (load(&r->rx_tail) != load_relaxed(&r->rx_head)) return true;
  }
  return false;
}

static bool any_connection(struct context* c, uint32_t index) {
  for (; index != NONE; index = load_relaxed(&record_at(c, index)->sibling)) {
    if (load(&record_at(c, index)->accept_count) != 0) return true;
  }
  return false;
}

/* What most streams are: connected both ways, nothing urgent. */
static bool is_plain(uint32_t f) {
  return (f & (R_STREAM | R_CONNECTED | R_CONNECTING | R_LISTENING | R_FAILED | R_EOF | R_SHUT_RD |
               R_SHUT_WR | R_URGENT)) == (R_STREAM | R_CONNECTED);
}

static uint32_t writable_mask(const struct sock* s, uint32_t wanted) {
  return (wanted & (POLLOUT | POLLWRNORM)) != 0 && tx_writable(s) ? POLLOUT | POLLWRNORM : 0;
}

static inline uint32_t plain_mask(const struct sock* s, uint32_t wanted) {
  const struct record* r = s->record;
  bool readable = load(&r->rx_tail) != load_relaxed(&r->rx_head);
  if (readable && (load(&r->flags) & R_URGENT) != 0) readable = stream_readable(r);
  return (readable ? POLLIN | POLLRDNORM : 0) | writable_mask(s, wanted);
}

static uint32_t stream_mask(const struct sock* s, uint32_t f, uint32_t wanted) {
  const struct record* r = s->record;
  const bool failed = (f & R_FAILED) != 0;
  const bool read_over = failed || (f & (R_EOF | R_SHUT_RD)) != 0;
  const bool write_over = failed || (f & R_SHUT_WR) != 0;
  if ((f & (R_LISTENING | R_SHUT_RD)) == R_LISTENING) {
    return any_connection(s->context, s->index) ? POLLIN | POLLRDNORM : 0;
  }
  if ((f & R_CONNECTING) != 0) return 0;
  if (!failed && (f & R_CONNECTED) == 0) return POLLOUT | POLLWRNORM | POLLHUP;
  uint32_t mask = 0;
  if (read_over) mask |= POLLIN | POLLRDNORM | POLLRDHUP;
  if (stream_readable(r)) mask |= POLLIN | POLLRDNORM;
  if ((f & R_URGENT) != 0 && urgent_unread(r)) mask |= POLLPRI;
  if (read_over && write_over) mask |= POLLHUP;
  return mask | (write_over ? POLLOUT | POLLWRNORM : writable_mask(s, wanted));
}

static uint32_t datagram_mask(const struct sock* s, uint32_t f, uint32_t wanted) {
  uint32_t mask = 0;
  if ((f & R_SHUT_RD) != 0) mask |= POLLIN | POLLRDNORM | POLLRDHUP;
  if (any_data(s->context, s->index)) mask |= POLLIN | POLLRDNORM;
  if ((f & (R_SHUT_RD | R_SHUT_WR)) == (R_SHUT_RD | R_SHUT_WR)) mask |= POLLHUP;
  if (errors_there(s->context, s->index)) mask |= POLLERR;
  return mask | ((f & R_SHUT_WR) != 0 ? POLLOUT | POLLWRNORM : writable_mask(s, wanted));
}

static inline uint32_t mask_of(struct context* c, uint32_t primary, uint32_t wanted) {
  const struct sock s = slot_at(c, primary);
  const uint32_t f = load(&s.record->flags);
  uint32_t mask = 0;
  if (is_plain(f)) {
    mask = plain_mask(&s, wanted);
  } else {
    mask = (f & R_STREAM) != 0 ? stream_mask(&s, f, wanted) : datagram_mask(&s, f, wanted);
  }
  if (load_relaxed(&s.record->error) != 0) mask |= POLLERR;
  if (load(&c->dead)) mask |= POLLERR | POLLHUP;
  return mask & wanted;
}

uint32_t poll_mask(struct context* c, uint32_t primary, uint32_t wanted) {
  return mask_of(c, primary, wanted);
}

/* ---- poll ---- */

static int scan(struct context* c, struct postern_pollfd* fds, nfds_t n) {
  int ready = 0;
  for (nfds_t i = 0; i < n; ++i) {
    struct sock s;
    fds[i].revents = 0;
    if (fds[i].fd < 0) continue;
    if (c == NULL || sock_lookup(fds[i].fd, &s) != 0) {
      fds[i].revents = POLLNVAL;
    } else {
      const uint32_t wanted = (uint32_t)(uint16_t)fds[i].events | POLLERR | POLLHUP;
      fds[i].revents = (short)poll_mask(c, s.index, wanted);
    }
    if (fds[i].revents != 0) ++ready;
  }
  return ready;
}

int postern_poll(struct postern_pollfd* fds, nfds_t n, int timeout_ms) {
  ENTER();
  struct context* c = context_get();
  if (c == NULL) return fail(ENOTCONN);
  drain_all(c);
  int ready = scan(c, fds, n);
  if (ready != 0 || timeout_ms == 0) return ready;
  const int64_t deadline = deadline_after_ms(timeout_ms);
  const struct wait w = {.word = &c->own.event_seq,
                         .sleepers = &c->own.event_sleepers,
                         .what = (uint32_t)WAITS_FOR_ANY};
  int rc = 0;
  fetch_add(&c->own.pollers, 1);
  family_polling(c, 1);
  while (ready == 0 && rc == 0) {
    const uint32_t seen = load(&c->own.event_seq);
    ready = scan(c, fds, n);
    if (ready == 0) rc = load(&c->dead) ? ECONNABORTED : wait_change(c, &w, seen, deadline);
  }
  family_polling(c, -1);
  fetch_sub(&c->own.pollers, 1);
  if (ready == 0) ready = scan(c, fds, n);
  if (ready != 0 || rc == ETIMEDOUT) return ready;
  return fail(rc);
}

/* ---- queues ---- */

struct watch {
  struct postern_queue* queue;
  struct watch* next_of_record; /* under watch_lock */
  struct watch* prev_ready;     /* under queue.lock */
  struct watch* next_ready;
  uint64_t data;
  uint32_t index;
  uint32_t events;
  int fd;
  bool ready;    /* in the list */
  bool disabled; /* one-shot that has shot */
};

struct postern_queue {
  struct context* context; /* NULL once detached */
  struct lock lock;
  struct watch* first;
  struct watch* last;
  uint32_t ready_count;
  uint32_t seq;     /* futex: changes when something is put into the list, or woken */
  uint32_t waiters; /* threads in postern_queue_wait() */
  uint32_t sleepers;
  uint32_t woken;
  uint32_t armed; /* an event loop sleeps, or is about to, on epoll_fd */
  uint32_t kicked;
  uint32_t death_told;
  int epoll_fd; /* doorbells, session and kick_fd; -1 until asked for */
  int kick_fd;
  struct watch** by_fd;
  size_t by_fd_size;
  struct postern_queue* next; /* context.queues */
};

/* The list of a queue, under its lock. */
static inline void list_append(postern_queue* q, struct watch* w) {
  w->ready = true;
  w->next_ready = NULL;
  w->prev_ready = q->last;
  if (q->last != NULL) {
    q->last->next_ready = w;
  } else {
    q->first = w;
  }
  q->last = w;
  store_relaxed(&q->ready_count, q->ready_count + 1);
}

static void list_remove(postern_queue* q, struct watch* w) {
  if (!w->ready) return;
  w->ready = false;
  if (w->prev_ready != NULL) w->prev_ready->next_ready = w->next_ready;
  if (w->next_ready != NULL) w->next_ready->prev_ready = w->prev_ready;
  if (q->first == w) q->first = w->next_ready;
  if (q->last == w) q->last = w->prev_ready;
  store_relaxed(&q->ready_count, q->ready_count - 1);
}

static inline struct watch* list_take(postern_queue* q) {
  struct watch* w = q->first;
  q->first = w->next_ready;
  if (q->first != NULL) {
    q->first->prev_ready = NULL;
  } else {
    q->last = NULL;
  }
  w->ready = false;
  store_relaxed(&q->ready_count, q->ready_count - 1);
  return w;
}

static void wake_waiters(postern_queue* q) {
  fetch_add(&q->seq, 1);
  if (load(&q->sleepers) != 0) futex_wake(&q->seq, 1);
  kick_leader(q->context, (uint32_t)WAITS_FOR_QUEUE);
}

static void kick(postern_queue* q) {
  const uint64_t one = 1;
  q->kicked = 1;
  (void)!write(q->kick_fd, &one, sizeof one);
}

/* Under queue.lock. Who waits has counted itself before it last looked at the queue, under the lock
 * as well: either it is seen here, or it finds what has changed. */
static inline void queue_changed(postern_queue* q) {
  if (load(&q->waiters) != 0) wake_waiters(q);
  if (q->armed && !q->kicked) kick(q);
}

static uint32_t wanted_of(const struct watch* w) {
  return (w->events & 0xffff) | POLLERR | POLLHUP;
}

static inline void notify(struct watch* w) {
  postern_queue* q = w->queue;
  const bool locked = local_acquire(&q->lock);
  if (!w->ready && !w->disabled) {
    list_append(q, w);
    queue_changed(q);
  }
  local_release(&q->lock, locked);
}

void watches_notify(struct context* c, uint32_t primary, uint32_t news) {
  const bool locked = local_acquire(&c->watch_lock);
  for (struct watch* w = c->watches[primary]; w != NULL; w = w->next_of_record) {
    if ((wanted_of(w) & news) != 0) notify(w);
  }
  local_release(&c->watch_lock, locked);
}

void watches_notify_all(struct context* c) {
  lock_acquire(&c->watch_lock);
  for (postern_queue* q = c->queues; q != NULL; q = q->next) {
    lock_acquire(&q->lock);
    queue_changed(q);
    if (q->epoll_fd >= 0) epoll_ctl(q->epoll_fd, EPOLL_CTL_DEL, c->session_fd, NULL);
    lock_release(&q->lock);
  }
  lock_release(&c->watch_lock);
}

/* Under watch_lock. */
static void watch_free(struct context* c, struct watch* w) {
  struct watch** at = &c->watches[w->index];
  while (*at != w) at = &(*at)->next_of_record;
  if (at == &c->watches[w->index]) {
    store(at, w->next_of_record);
  } else {
    *at = w->next_of_record;
  }
  lock_acquire(&w->queue->lock);
  list_remove(w->queue, w);
  w->queue->by_fd[w->fd] = NULL;
  lock_release(&w->queue->lock);
  free(w);
}

void watches_drop(struct context* c, uint32_t primary) {
  if (load(&c->watches[primary]) == NULL) return;
  lock_acquire(&c->watch_lock);
  while (c->watches[primary] != NULL) watch_free(c, c->watches[primary]);
  lock_release(&c->watch_lock);
}

void watches_drop_descriptor(struct context* c, uint32_t primary, int fd) {
  if (load(&c->watches[primary]) == NULL) return;
  lock_acquire(&c->watch_lock);
  for (struct watch *w = c->watches[primary], *next; w != NULL; w = next) {
    next = w->next_of_record;
    if (w->fd == fd) watch_free(c, w);
  }
  lock_release(&c->watch_lock);
}

postern_queue* postern_queue_create(void) {
  ENTER();
  struct context* c = context_get();
  if (c == NULL) return fail(ENOTCONN), NULL;
  postern_queue* q = calloc(1, sizeof *q);
  if (q == NULL) return fail(ENOMEM), NULL;
  q->context = c;
  q->epoll_fd = q->kick_fd = -1;
  lock_acquire(&c->watch_lock);
  q->next = c->queues;
  c->queues = q;
  lock_release(&c->watch_lock);
  return q;
}

static void close_fds(postern_queue* q) {
  if (q->epoll_fd >= 0) close(q->epoll_fd);
  if (q->kick_fd >= 0) close(q->kick_fd);
  q->epoll_fd = q->kick_fd = -1;
}

/* Ends what the family's eventfd, which nobody reads, has told the set. */
static void harvest(const postern_queue* q) {
  struct epoll_event told[4];
  if (q->epoll_fd >= 0 && q->context->family_kick[0] >= 0) {
    (void)syscall(SYS_epoll_pwait, q->epoll_fd, told, 4, 0, NULL, (size_t)0);
  }
}

static void disarm(postern_queue* q) {
  lock_acquire(&q->lock);
  const bool was = q->armed;
  const bool kicked = q->kicked;
  q->armed = q->kicked = 0;
  lock_release(&q->lock);
  if (!was) return;
  uint64_t count;
  if (kicked) (void)!read(q->kick_fd, &count, sizeof count);
  for (uint32_t i = 0; i < q->context->channel_count; ++i) {
    sleep_leave(q->context, &q->context->channels[i]);
  }
  family_sleep_leave(q->context);
  harvest(q);
  family_take_changes(q->context);
  family_check(q->context, false);
}

static void free_watches(postern_queue* q) {
  for (size_t i = 0; i < q->by_fd_size; ++i) {
    if (q->by_fd[i] == NULL) continue;
    if (q->context != NULL) {
      watch_free(q->context, q->by_fd[i]);
    } else {
      free(q->by_fd[i]);
    }
  }
}

void postern_queue_destroy(postern_queue* q) {
  ENTER();
  if (q == NULL) return;
  struct context* c = q->context;
  if (c != NULL) {
    disarm(q);
    lock_acquire(&c->watch_lock);
    postern_queue** at = &c->queues;
    while (*at != q) at = &(*at)->next;
    *at = q->next;
    free_watches(q);
    lock_release(&c->watch_lock);
  } else {
    free_watches(q);
  }
  close_fds(q);
  free(q->by_fd);
  free(q);
}

/* After detach, or in the child of a fork: what is left of queues answers with EBADF. */
void queues_invalidate(struct context* c) {
  for (postern_queue* q = c->queues; q != NULL; q = q->next) {
    close_fds(q);
    q->context = NULL;
  }
}

/* ---- interest ---- */

static bool grow(postern_queue* q, int fd) {
  if ((size_t)fd < q->by_fd_size) return true;
  size_t size = q->by_fd_size != 0 ? q->by_fd_size : 64;
  while (size <= (size_t)fd) size *= 2;
  struct watch** table = realloc(q->by_fd, size * sizeof *table);
  if (table == NULL) return false;
  memset(table + q->by_fd_size, 0, (size - q->by_fd_size) * sizeof *table);
  q->by_fd = table;
  q->by_fd_size = size;
  return true;
}

/* Under watch_lock. */
static int add(postern_queue* q, const struct sock* s, int fd, uint32_t events, uint64_t data) {
  struct context* c = q->context;
  lock_acquire(&q->lock);
  const bool room = grow(q, fd);
  lock_release(&q->lock);
  if (!room) return ENOMEM;
  if (q->by_fd[fd] != NULL) return EEXIST;
  if (!sock_alive(s)) return EBADF;
  struct watch* w = calloc(1, sizeof *w);
  if (w == NULL) return ENOMEM;
  *w = (struct watch){.queue = q,
                      .index = s->index,
                      .events = events,
                      .fd = fd,
                      .data = data,
                      .next_of_record = c->watches[s->index]};
  q->by_fd[fd] = w;
  __atomic_store_n(&c->watches[s->index], w, __ATOMIC_SEQ_CST);
  family_interested(c, s->index);
  notify(w); /* what is there already is found by the next wait */
  return 0;
}

int postern_queue_add(postern_queue* q, int fd, uint32_t events, uint64_t data) {
  ENTER();
  struct sock s;
  if (q->context == NULL || sock_lookup(fd, &s) != 0) return fail(EBADF);
  lock_acquire(&q->context->watch_lock);
  const int rc = add(q, &s, fd, events, data);
  lock_release(&q->context->watch_lock);
  return rc == 0 ? 0 : fail(rc);
}

static struct watch* find(const postern_queue* q, int fd) {
  return (size_t)fd < q->by_fd_size ? q->by_fd[fd] : NULL;
}

int postern_queue_modify(postern_queue* q, int fd, uint32_t events, uint64_t data) {
  ENTER();
  struct sock s;
  if (q->context == NULL || sock_lookup(fd, &s) != 0) return fail(EBADF);
  lock_acquire(&q->context->watch_lock);
  struct watch* w = find(q, fd);
  if (w != NULL) {
    lock_acquire(&q->lock);
    w->events = events;
    w->data = data;
    w->disabled = false;
    lock_release(&q->lock);
    notify(w);
  }
  lock_release(&q->context->watch_lock);
  return w != NULL ? 0 : fail(ENOENT);
}

int postern_queue_remove(postern_queue* q, int fd) {
  ENTER();
  struct sock s;
  if (q->context == NULL || sock_lookup(fd, &s) != 0) return fail(EBADF);
  lock_acquire(&q->context->watch_lock);
  struct watch* w = find(q, fd);
  if (w != NULL) watch_free(q->context, w);
  lock_release(&q->context->watch_lock);
  return w != NULL ? 0 : fail(ENOENT);
}

/* ---- wait ---- */

static int collect(postern_queue* q, struct postern_event* events, int n) {
  int found = 0;
  const bool locked = local_acquire(&q->lock);
  for (uint32_t left = q->ready_count; left != 0 && found < n; --left) {
    struct watch* w = list_take(q); /* before looking: what changes from here on is put in again */
    const uint32_t mask = mask_of(q->context, w->index, wanted_of(w));
    if (mask == 0) continue;
    events[found++] = (struct postern_event){.events = mask, .fd = w->fd, .data = w->data};
    if ((w->events & POSTERN_ONESHOT) != 0) {
      w->disabled = true;
    } else if ((w->events & POSTERN_EDGE) == 0) {
      list_append(q, w);
    }
  }
  local_release(&q->lock, locked);
  return found;
}

/* The daemon is gone: once, everything is reported (POLLERR). */
static void announce_death(postern_queue* q) {
  struct context* c = q->context;
  if (exchange(&q->death_told, 1) != 0) return;
  lock_acquire(&c->watch_lock);
  for (size_t fd = 0; fd < q->by_fd_size; ++fd) {
    if (q->by_fd[fd] != NULL) notify(q->by_fd[fd]);
  }
  lock_release(&c->watch_lock);
}

static bool take_woken(postern_queue* q) { return load(&q->woken) && exchange(&q->woken, 0) != 0; }

static int queue_sleep(postern_queue* q, struct postern_event* events, int n, int64_t deadline) {
  struct context* c = q->context;
  const struct wait w = {
      .word = &q->seq, .sleepers = &q->sleepers, .what = (uint32_t)WAITS_FOR_QUEUE};
  for (;;) {
    const uint32_t seen = load(&q->seq);
    if (load(&c->dead)) announce_death(q);
    const int found = collect(q, events, n);
    if (found != 0 || take_woken(q)) return found;
    if (load(&c->dead)) return fail(ECONNABORTED);
    const int rc = wait_change(c, &w, seen, deadline);
    if (rc == ETIMEDOUT) return collect(q, events, n);
    if (rc != 0) return fail(rc);
  }
}

int postern_queue_wait(postern_queue* q, struct postern_event* events, int n, int timeout_ms) {
  ENTER();
  struct context* c = q->context;
  if (c == NULL) return fail(EBADF);
  if (n < 1) return fail(EINVAL);
  if (load_relaxed(&q->armed)) disarm(q);
  drain_all(c);
  if (load(&c->dead)) announce_death(q);
  const int found = collect(q, events, n);
  if (found != 0 || take_woken(q)) return found;
  if (timeout_ms == 0) return load(&c->dead) ? fail(ECONNABORTED) : 0;
  fetch_add(&q->waiters, 1);
  const int rc = queue_sleep(q, events, n, deadline_after_ms(timeout_ms));
  fetch_sub(&q->waiters, 1);
  return rc;
}

int postern_queue_wake(postern_queue* q) {
  ENTER();
  if (q->context == NULL) return fail(EBADF);
  lock_acquire(&q->lock);
  store(&q->woken, 1);
  queue_changed(q);
  lock_release(&q->lock);
  return 0;
}

/* ---- event loops ---- */

static bool epoll_add(int epoll_fd, int fd, uint32_t events) {
  struct epoll_event e = {.events = events};
  return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0;
}

/* So that the set hears of what other sharers tell this process. */
static bool watch_family(const struct context* c, int epoll_fd) {
  const int kick = c->family_kick[c->sharer % KICK_FDS];
  if (kick < 0 || c->pulse_fd < 0) return true;
  return (epoll_add(epoll_fd, kick, EPOLLIN | EPOLLET) || errno == EEXIST) &&
         (epoll_add(epoll_fd, c->pulse_fd, EPOLLIN | EPOLLET) || errno == EEXIST);
}

static bool open_fds(postern_queue* q) {
  const struct context* c = q->context;
  q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  q->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  bool ok = q->kick_fd >= 0 && q->epoll_fd >= 0 && epoll_add(q->epoll_fd, q->kick_fd, EPOLLIN) &&
            epoll_add(q->epoll_fd, c->session_fd, EPOLLRDHUP) && watch_family(c, q->epoll_fd);
  for (uint32_t i = 0; i < c->channel_count && ok; ++i) {
    ok = epoll_add(q->epoll_fd, c->channels[i].wake_fd, EPOLLIN);
  }
  return ok;
}

int postern_queue_fd(postern_queue* q) {
  ENTER();
  if (q->context == NULL) return fail(EBADF);
  if (q->epoll_fd >= 0 || open_fds(q)) return q->epoll_fd;
  const int error = errno;
  close_fds(q);
  return fail(error);
}

int postern_queue_arm(postern_queue* q) {
  ENTER();
  struct context* c = q->context;
  if (c == NULL || postern_queue_fd(q) < 0) return fail(EBADF);
  report_consumed(c);
  lock_acquire(&q->lock);
  const bool fresh = !q->armed;
  q->armed = 1;
  lock_release(&q->lock);
  if (fresh) family_sleep_enter(c);
  family_take_changes(c);
  for (uint32_t i = 0; i < c->channel_count && fresh; ++i) sleep_enter(c, &c->channels[i]);
  report_consumed(c);
  check_daemon(c, false);
  if (load(&c->dead) && !load(&q->death_told)) return 1;
  return load_relaxed(&q->ready_count) != 0 || load(&q->woken);
}

int postern_queue_ready(postern_queue* q) {
  ENTER();
  struct context* c = q->context;
  if (c == NULL) return fail(EBADF);
  if (load(&q->woken) || (load(&c->dead) && !load(&q->death_told))) return 1;
  lock_acquire(&q->lock);
  while (q->first != NULL) {
    struct watch* w = list_take(q); /* before looking: what changes from here on is put in again */
    if (poll_mask(c, w->index, wanted_of(w)) == 0) continue;
    if (!w->ready) list_append(q, w);
    break;
  }
  const bool ready = q->first != NULL;
  lock_release(&q->lock);
  return ready;
}

/* ---- fork ---- */

void queues_lock(struct context* c) {
  lock_acquire(&c->watch_lock);
  for (postern_queue* q = c->queues; q != NULL; q = q->next) {
    if (q->epoll_fd >= 0) (void)watch_family(c, q->epoll_fd);
    lock_acquire(&q->lock);
  }
}

void queues_unlock(struct context* c) {
  for (postern_queue* q = c->queues; q != NULL; q = q->next) lock_release(&q->lock);
  lock_release(&c->watch_lock);
}

static void move_fd(int* from, int to) {
  if (*from < 0) return;
  syscall(SYS_dup3, *from, to, O_CLOEXEC);
  close(*from);
  *from = to;
}

/* What the parent's threads were doing is the parent's. */
static void queue_in_child(postern_queue* q) {
  const int epoll_fd = q->epoll_fd;
  const int kick_fd = q->kick_fd;
  q->armed = q->kicked = q->waiters = q->sleepers = 0;
  q->epoll_fd = q->kick_fd = -1;
  if (epoll_fd >= 0 && open_fds(q)) { /* the numbers are known to others */
    move_fd(&q->kick_fd, kick_fd);
    move_fd(&q->epoll_fd, epoll_fd);
  }
  for (size_t fd = 0; fd < q->by_fd_size; ++fd) {
    if (q->by_fd[fd] == NULL) continue;
    family_interested(q->context, q->by_fd[fd]->index);
    notify(q->by_fd[fd]);
  }
}

void queues_in_child(struct context* c) {
  for (postern_queue* q = c->queues; q != NULL; q = q->next) queue_in_child(q);
}
