/* poll and select over Postern's sockets, the kernel's descriptors, and both at once.
 *
 * Both at once: the sockets are put into a queue, which is armed, and the kernel is asked to wait
 * for its descriptors and for the queue's. Queues are kept for the next call that needs one. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/preload/preload.h"
#include "client/preload/quiet.h"

/* ---- time ---- */

int64_t clock_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

const struct timespec* time_left(int64_t deadline, struct timespec* left) {
  if (deadline == NO_DEADLINE) return NULL;
  int64_t ns = deadline - clock_ns();
  if (ns < 0) ns = 0;
  *left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
  return left;
}

static int64_t deadline_of(const struct timespec* timeout) {
  if (timeout == NULL || timeout->tv_sec > INT32_MAX) return NO_DEADLINE;
  return clock_ns() + timeout->tv_sec * INT64_C(1000000000) + timeout->tv_nsec;
}

static int milliseconds(const struct timespec* t) {
  if (t == NULL) return -1;
  const int64_t ms = t->tv_sec * INT64_C(1000) + (t->tv_nsec + 999999) / 1000000;
  return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/* ---- queues ---- */

enum { KEPT = 16 };
static postern_queue* kept[KEPT];

static postern_queue* queue_take(void) {
  for (int i = 0; i < KEPT; ++i) {
    if (__atomic_load_n(&kept[i], __ATOMIC_RELAXED) == NULL) continue;
    postern_queue* q = __atomic_exchange_n(&kept[i], NULL, __ATOMIC_ACQ_REL);
    if (q == NULL) continue;
    if (postern_queue_fd(q) >= 0) return q;
    postern_queue_destroy(q); /* of an attachment that is over */
  }
  return postern_queue_create();
}

static void queue_return(postern_queue* q) {
  for (int i = 0; i < KEPT; ++i) {
    postern_queue* nothing = NULL;
    if (__atomic_compare_exchange_n(&kept[i], &nothing, q, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED)) {
      return;
    }
  }
  postern_queue_destroy(q);
}

/* ---- poll ---- */

/* One call. `theirs` is `fds` without Postern's sockets, with room for the queue's descriptor;
 * `ours` is Postern's sockets, `places` their places in `fds`. A listener on both sides is in both.
 */
struct polling {
  struct pollfd* fds;
  nfds_t count;
  struct pollfd* theirs;
  struct postern_pollfd* ours;
  nfds_t* places;
  nfds_t our_count;
  bool sets; /* there are epoll sets with Postern's sockets */
};

static void sort(struct polling* p) {
  p->our_count = 0;
  p->sets = false;
  for (nfds_t i = 0; i < p->count; ++i) {
    int pd;
    p->theirs[i] = p->fds[i];
    if (p->fds[i].fd < 0) continue;
    if (is_postern(p->fds[i].fd, &pd)) {
      if (!is_both(entry_of(p->fds[i].fd))) p->theirs[i].fd = -1;
      p->places[p->our_count] = i;
      p->ours[p->our_count++] = (struct postern_pollfd){.fd = pd, .events = p->fds[i].events};
    } else if (epoll_has_postern(p->fds[i].fd)) {
      p->sets = true;
    }
  }
}

/* Puts both results into the program's array. Returns how many there are. */
static int merge(struct polling* p) {
  int ready = 0;
  for (nfds_t i = 0; i < p->count; ++i) {
    p->fds[i].revents = p->theirs[i].fd >= 0 ? p->theirs[i].revents : 0;
  }
  for (nfds_t i = 0; i < p->our_count; ++i) p->fds[p->places[i]].revents |= p->ours[i].revents;
  for (nfds_t i = 0; i < p->count; ++i) {
    if (p->fds[i].revents != 0) ++ready;
  }
  return ready;
}

static bool watch(struct polling* p, postern_queue* q) {
  for (nfds_t i = 0; i < p->our_count; ++i) {
    uint32_t events = (uint16_t)p->ours[i].events;
    if (postern_queue_add(q, p->ours[i].fd, events, 0) == 0) continue;
    if (errno != EEXIST) return false;
    for (nfds_t j = 0; j < i; ++j) { /* the same socket twice */
      if (p->ours[j].fd == p->ours[i].fd) events |= (uint16_t)p->ours[j].events;
    }
    postern_queue_modify(q, p->ours[i].fd, events, 0);
  }
  return true;
}

static void unwatch(struct polling* p, postern_queue* q) {
  for (nfds_t i = 0; i < p->our_count; ++i) postern_queue_remove(q, p->ours[i].fd);
}

static void watch_sets(const struct polling* p, void (*f)(int fd)) {
  for (nfds_t i = 0; i < p->count && p->sets; ++i) {
    if (p->theirs[i].fd >= 0) f(p->theirs[i].fd);
  }
}

/* One look at both sides, without waiting. -1: errno. */
static int look(struct polling* p) {
  if (p->our_count != 0 && postern_poll(p->ours, p->our_count, 0) < 0) return -1;
  if (real()->poll(p->theirs, p->count, 0) < 0) return -1;
  return merge(p);
}

/* Until the kernel or the queue has something. 0: look again. */
static int sleep_once(struct polling* p, postern_queue* q, int64_t deadline, const sigset_t* mask) {
  struct postern_event event;
  struct timespec left;
  if (postern_queue_wait(q, &event, 1, 0) > 0 || postern_queue_arm(q) != 0) return 0;
  p->theirs[p->count] = (struct pollfd){.fd = postern_queue_fd(q), .events = POLLIN};
  const int n = real()->ppoll(p->theirs, p->count + 1, time_left(deadline, &left), mask);
  return n < 0 ? -1 : 0;
}

static int wait_for_both(struct polling* p, postern_queue* q, int64_t deadline,
                         const sigset_t* mask) {
  int ready = 0;
  do {
    ready = sleep_once(p, q, deadline, mask);
    if (ready == 0) ready = look(p);
  } while (ready == 0 && (deadline == NO_DEADLINE || clock_ns() < deadline));
  return ready;
}

static int poll_both(struct polling* p, const struct timespec* timeout, const sigset_t* mask) {
  int ready;
  watch_sets(p, epoll_watch_begin);
  ready = look(p);
  if (ready == 0 && !(timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec == 0)) {
    postern_queue* q = queue_take();
    if (q == NULL || !watch(p, q)) {
      ready = -1;
    } else {
      struct quiet quiet;
      quiet_begin(&quiet);
      ready = wait_for_both(p, q, deadline_of(timeout), mask != NULL ? mask : &quiet.before);
      quiet_end(&quiet);
    }
    const int error = errno;
    if (q != NULL) {
      unwatch(p, q);
      queue_return(q);
    }
    errno = error;
  }
  watch_sets(p, epoll_watch_end);
  return ready;
}

static bool all_ours(const struct polling* p) {
  for (nfds_t i = 0; i < p->count; ++i) {
    if (p->theirs[i].fd >= 0) return false;
  }
  return p->our_count != 0;
}

static int poll_sorted(struct polling* p, const struct timespec* timeout, const sigset_t* mask) {
  sort(p);
  if (p->our_count == 0 && !p->sets) return real()->ppoll(p->fds, p->count, timeout, mask);
  if (mask != NULL || !all_ours(p)) return poll_both(p, timeout, mask);
  const int n = postern_poll(p->ours, p->our_count, milliseconds(timeout));
  return n < 0 ? -1 : merge(p);
}

enum { ON_STACK = 32 };

static bool concerns_us(const struct pollfd* fds, nfds_t count) {
  for (nfds_t i = 0; i < count; ++i) {
    const uint32_t entry = entry_of(fds[i].fd);
    if (kind_of(entry) == EPOLL || is_decided(entry)) return true;
  }
  return false;
}

static int poll_any(struct pollfd* fds, nfds_t count, const struct timespec* timeout,
                    const sigset_t* mask) {
  struct pollfd theirs[ON_STACK + 1];
  struct postern_pollfd ours[ON_STACK];
  nfds_t places[ON_STACK];
  struct polling p = {.fds = fds, .count = count, .theirs = theirs, .ours = ours, .places = places};
  if (count <= ON_STACK) return poll_sorted(&p, timeout, mask);
  if (count > TABLE_SIZE) return fail(EINVAL);
  p.theirs = malloc((count + 1) * sizeof *p.theirs);
  p.ours = malloc(count * sizeof *p.ours);
  p.places = malloc(count * sizeof *p.places);
  const bool room = p.theirs != NULL && p.ours != NULL && p.places != NULL;
  const int n = room ? poll_sorted(&p, timeout, mask) : fail(ENOMEM);
  free(p.places);
  free(p.theirs);
  free(p.ours);
  return n;
}

EXPORT int ppoll(struct pollfd* fds, nfds_t count, const struct timespec* timeout,
                 const sigset_t* mask) {
  return concerns_us(fds, count) ? poll_any(fds, count, timeout, mask)
                                 : real()->ppoll(fds, count, timeout, mask);
}

EXPORT int poll(struct pollfd* fds, nfds_t count, int timeout) {
  if (!concerns_us(fds, count)) return real()->poll(fds, count, timeout);
  const struct timespec t = {.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L};
  return poll_any(fds, count, timeout < 0 ? NULL : &t, NULL);
}
