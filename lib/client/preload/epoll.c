/* Epoll sets and what is in them. */
#include "client/preload/epoll.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SETS = 1 << 16 };

static struct epoll* sets[MOST_SETS]; /* once there, for ever: a stale pointer stays a set */
static int set_count;

/* An undecided socket in a set, so that it can follow when it becomes Postern's. */
struct waiting {
  struct waiting* next;
  int epfd;
  int fd;
  struct epoll_event event;
};
static struct waiting* waiting; /* under preload_lock */

/* ---- life ---- */

static void set_init(struct epoll* e) {
  pthread_mutex_init(&e->lock, NULL);
  e->queue = NULL;
  e->sleepers = e->members = e->inner_count = 0;
  e->inner = NULL;
  e->inherited = false;
  e->spin_ns = UINT32_MAX;
  e->numbers = 1;
  e->used = true;
  __atomic_fetch_add(&e->users, 1, __ATOMIC_SEQ_CST);
}

/* An index, or -1. */
static int set_allocate(void) {
  int index = 0;
  pthread_mutex_lock(&preload_lock);
  while (index < set_count && sets[index]->used) ++index;
  if (index == set_count && index < MOST_SETS) {
    sets[index] = calloc(1, sizeof *sets[index]);
    if (sets[index] != NULL) ++set_count;
  }
  const bool room = index < set_count;
  if (room) set_init(sets[index]);
  pthread_mutex_unlock(&preload_lock);
  return room ? index : -1;
}

static void set_free(struct epoll* e) {
  pthread_mutex_lock(&preload_lock);
  if (e->used && __atomic_load_n(&e->users, __ATOMIC_SEQ_CST) == 0) {
    if (e->queue != NULL) postern_queue_destroy(e->queue);
    free(e->inner);
    e->used = false;
  }
  pthread_mutex_unlock(&preload_lock);
}

void epoll_leave(struct epoll* e) {
  if (__atomic_sub_fetch(&e->users, 1, __ATOMIC_SEQ_CST) == 0) set_free(e);
}

struct epoll* epoll_find(int epfd) {
  const uint32_t entry = entry_of(epfd);
  return kind_of(entry) == EPOLL ? sets[value_of(entry)] : NULL;
}

struct epoll* epoll_enter(int epfd) {
  const uint32_t entry = entry_of(epfd);
  if (kind_of(entry) != EPOLL) return NULL;
  struct epoll* e = sets[value_of(entry)];
  __atomic_fetch_add(&e->users, 1, __ATOMIC_SEQ_CST);
  if (entry_of(epfd) == entry) return e;
  epoll_leave(e);
  return NULL;
}

void epoll_hold(int index) { __atomic_fetch_add(&sets[index]->numbers, 1, __ATOMIC_SEQ_CST); }

void epoll_release(int index) {
  if (__atomic_sub_fetch(&sets[index]->numbers, 1, __ATOMIC_SEQ_CST) == 0) {
    epoll_leave(sets[index]);
  }
}

/* The only thread left is this one. The kernel's set is the parent's too and has its doorbell; ours
 * is put in when the set is first waited in. */
void epoll_in_child(bool are_attached) {
  for (int i = 0; i < set_count; ++i) {
    struct epoll* e = sets[i];
    pthread_mutex_init(&e->lock, NULL);
    if (!e->used) continue;
    e->sleepers = 0;
    e->users = 1;
    e->inherited = e->queue != NULL;
    if (are_attached || e->queue == NULL) continue;
    postern_queue_destroy(e->queue);
    e->queue = NULL;
  }
}

static int adopt(int epfd) {
  if (epfd < 0 || epfd >= TABLE_SIZE || borrowed_memory()) return epfd;
  const int index = set_allocate();
  if (index >= 0) entry_set(epfd, entry_make(EPOLL, index));
  return epfd;
}

EXPORT int epoll_create1(int flags) { return adopt(real()->epoll_create1(flags)); }

EXPORT int epoll_create(int size) { return size > 0 ? epoll_create1(0) : fail(EINVAL); }

/* ---- Postern's sockets ---- */

/* Arms the queue. True: there is something already. Under the lock. */
static bool arm(struct epoll* e) {
  return e->queue != NULL && postern_queue_arm(e->queue) > 0 && postern_queue_ready(e->queue) > 0;
}

void epoll_arm(struct epoll* e) {
  if (arm(e)) postern_queue_wake(e->queue);
}

static bool hang_doorbell(postern_queue* q, int epfd) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = DOORBELL};
  const int bell = postern_queue_fd(q);
  return bell >= 0 && real()->epoll_ctl(epfd, EPOLL_CTL_ADD, bell, &event) == 0;
}

/* Under the lock. */
static bool queue_ready(struct epoll* e, int epfd) {
  if (e->queue != NULL) return true;
  postern_queue* q = postern_queue_create();
  if (q == NULL) return false;
  if (!hang_doorbell(q, epfd)) {
    const int error = errno;
    postern_queue_destroy(q);
    return fail(error) == 0;
  }
  __atomic_store_n(&e->queue, q, __ATOMIC_RELEASE);
  return true;
}

static int change_queue(struct epoll* e, int op, int pd, const struct epoll_event* event) {
  switch (op) {
    case EPOLL_CTL_ADD:
      return postern_queue_add(e->queue, pd, event->events, event->data.u64);
    case EPOLL_CTL_MOD:
      if ((event->events & EPOLLEXCLUSIVE) != 0) return fail(EINVAL);
      return postern_queue_modify(e->queue, pd, event->events, event->data.u64);
    case EPOLL_CTL_DEL:
      return postern_queue_remove(e->queue, pd);
    default:
      return fail(EINVAL);
  }
}

static bool flags_fit(uint32_t events) {
  const uint32_t exclusive_with =
      EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
  return (events & EPOLLEXCLUSIVE) == 0 || (events & ~exclusive_with) == 0;
}

static int control_postern(int epfd, int op, int pd, const struct epoll_event* event) {
  struct epoll* e = epoll_enter(epfd);
  if (e == NULL) return fail(real()->fcntl(epfd, F_GETFD) < 0 ? EBADF : EINVAL);
  pthread_mutex_lock(&e->lock);
  int rc = op == EPOLL_CTL_ADD && !queue_ready(e, epfd) ? -1 : 0;
  if (rc == 0) rc = e->queue != NULL ? change_queue(e, op, pd, event) : fail(ENOENT);
  if (rc == 0 && e->sleepers != 0) epoll_arm(e);
  pthread_mutex_unlock(&e->lock);
  epoll_leave(e);
  return rc;
}

/* ---- undecided sockets ---- */

static struct waiting** find_waiting(int epfd, int fd) {
  struct waiting** at = &waiting;
  while (*at != NULL && ((*at)->epfd != epfd || (*at)->fd != fd)) at = &(*at)->next;
  return at;
}

static void drop(struct waiting** at) {
  struct waiting* w = *at;
  *at = w->next;
  free(w);
}

/* What the kernel's set has been told. */
static int remember(int epfd, int op, int fd, const struct epoll_event* event) {
  pthread_mutex_lock(&preload_lock);
  struct waiting** at = find_waiting(epfd, fd);
  int rc = 0;
  if (op == EPOLL_CTL_DEL) {
    if (*at != NULL) drop(at);
  } else {
    if (*at == NULL) *at = calloc(1, sizeof **at);
    if (*at == NULL) rc = fail(ENOMEM);
    if (*at != NULL) {
      (*at)->epfd = epfd;
      (*at)->fd = fd;
      (*at)->event = *event;
    }
  }
  pthread_mutex_unlock(&preload_lock);
  return rc;
}

static void count_member(int epfd, int change) {
  struct epoll* e = epoll_enter(epfd);
  if (e == NULL) return;
  __atomic_fetch_add(&e->members, (uint32_t)change, __ATOMIC_SEQ_CST);
  epoll_leave(e);
}

void epoll_follow(int fd, int pd) {
  for (struct waiting** at = &waiting; *at != NULL;) {
    struct waiting* w = *at;
    if (w->fd != fd) {
      at = &w->next;
      continue;
    }
    real()->epoll_ctl(w->epfd, EPOLL_CTL_DEL, fd, NULL);
    control_postern(w->epfd, EPOLL_CTL_ADD, pd, &w->event);
    count_member(w->epfd, -1);
    drop(at);
  }
}

void epoll_forget(int fd) {
  pthread_mutex_lock(&preload_lock);
  for (struct waiting** at = &waiting; *at != NULL;) {
    if ((*at)->fd == fd) {
      drop(at);
    } else {
      at = &(*at)->next;
    }
  }
  pthread_mutex_unlock(&preload_lock);
}

/* ---- sets inside sets ---- */

static void inner_add(struct epoll* e, int fd) {
  pthread_mutex_lock(&e->lock);
  int* more = realloc(e->inner, (e->inner_count + 1) * sizeof *more);
  if (more != NULL) {
    more[e->inner_count++] = fd;
    e->inner = more;
  }
  pthread_mutex_unlock(&e->lock);
}

static void inner_remove(struct epoll* e, int fd) {
  pthread_mutex_lock(&e->lock);
  for (uint32_t i = 0; i < e->inner_count; ++i) {
    if (e->inner[i] == fd) e->inner[i--] = e->inner[--e->inner_count];
  }
  pthread_mutex_unlock(&e->lock);
}

static void note_inner(int epfd, int op, int fd) {
  struct epoll* e = epoll_enter(epfd);
  if (e == NULL) return;
  if (op == EPOLL_CTL_ADD) inner_add(e, fd);
  if (op == EPOLL_CTL_DEL) inner_remove(e, fd);
  epoll_leave(e);
}

/* Calls f for every set inside the set; their numbers are copied out of the lock. */
static void for_each_inner(struct epoll* e, void (*f)(int fd)) {
  int fds[64];
  uint32_t n = 0;
  if (__atomic_load_n(&e->inner_count, __ATOMIC_RELAXED) == 0) return;
  pthread_mutex_lock(&e->lock);
  for (; n < e->inner_count && n < 64; ++n) fds[n] = e->inner[n];
  pthread_mutex_unlock(&e->lock);
  for (uint32_t i = 0; i < n; ++i) f(fds[i]);
}

bool epoll_sleep_begin(struct epoll* e, int epfd) {
  for_each_inner(e, epoll_watch_begin);
  pthread_mutex_lock(&e->lock);
  if (e->inherited && e->queue != NULL) (void)hang_doorbell(e->queue, epfd);
  e->inherited = false;
  e->sleepers += 1;
  const bool ready = arm(e);
  pthread_mutex_unlock(&e->lock);
  return ready;
}

void epoll_sleep_end(struct epoll* e) {
  for_each_inner(e, epoll_watch_end);
  pthread_mutex_lock(&e->lock);
  if (e->sleepers != 0) e->sleepers -= 1;
  pthread_mutex_unlock(&e->lock);
}

void epoll_watch_begin(int fd) {
  struct epoll* e = epoll_enter(fd);
  if (e == NULL) return;
  if (epoll_sleep_begin(e, fd)) postern_queue_wake(e->queue);
  epoll_leave(e);
}

void epoll_watch_end(int fd) {
  struct epoll* e = epoll_enter(fd);
  if (e == NULL) return;
  epoll_sleep_end(e);
  epoll_leave(e);
}

bool epoll_has_postern(int fd) {
  struct epoll* e = epoll_enter(fd);
  if (e == NULL) return false;
  const bool has = __atomic_load_n(&e->queue, __ATOMIC_ACQUIRE) != NULL ||
                   __atomic_load_n(&e->inner_count, __ATOMIC_RELAXED) != 0;
  epoll_leave(e);
  return has;
}

/* ---- epoll_ctl ---- */

/* The kernel's part of a listener on both sides. */
static int control_both(int epfd, int op, int fd, struct epoll_event* event) {
  const int rc = real()->epoll_ctl(epfd, op, fd, event);
  if (rc == 0 && op != EPOLL_CTL_MOD) count_member(epfd, op == EPOLL_CTL_ADD ? 1 : -1);
  return rc;
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event* event) {
  const uint32_t entry = entry_of(fd);
  if (kind_of(entry) == PRIVATE) return fail(EBADF);
  if (is_decided(entry)) {
    if (op != EPOLL_CTL_DEL && event == NULL) return fail(EFAULT);
    if (op == EPOLL_CTL_ADD && !flags_fit(event->events)) return fail(EINVAL);
    if (is_both(entry) && control_both(epfd, op, fd, event) != 0) return -1;
    return control_postern(epfd, op, value_of(entry), event);
  }
  const int rc = real()->epoll_ctl(epfd, op, fd, event);
  if (rc != 0) return rc;
  if (op != EPOLL_CTL_MOD) count_member(epfd, op == EPOLL_CTL_ADD ? 1 : -1);
  if (kind_of(entry) == EPOLL) note_inner(epfd, op, fd);
  return kind_of(entry) == UNDECIDED ? remember(epfd, op, fd, event) : 0;
}
