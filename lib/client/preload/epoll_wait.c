/* Waiting in an epoll set: Postern's sockets first, the kernel now and then while there is work,
 * and the kernel alone when there is none. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

#include "client/bias.h"
#include "client/preload/epoll.h"
#include "client/preload/quiet.h"

enum {
  BATCH = 128,          /* events of Postern's that one call returns at most */
  KERNEL_EVERY = 50000, /* how long the kernel may have to wait while Postern has work: ticks() */
  DEFAULT_SPIN_US = 30, /* as libpostern */
  MOST_SPIN_US = 1000000,
  LEAST_SPIN_NS = 2000
};

/* ---- one look ---- */

/* Much cheaper than a clock: 12 to 50 us are KERNEL_EVERY of processors of 1 to 4 GHz. */
static uint64_t ticks(void) { return __builtin_ia32_rdtsc(); }

/* Events of Postern's sockets, at most n. */
static inline int take_some(struct epoll* e, struct epoll_event* events, int n) {
  struct postern_event found[BATCH];
  const int count = postern_queue_wait(e->queue, found, n < BATCH ? n : BATCH, 0);
  for (int i = 0; i < count; ++i) {
    events[i] = (struct epoll_event){.events = found[i].events, .data.u64 = found[i].data};
  }
  return count > 0 ? count : 0; /* when the daemon is gone its sockets have been reported */
}

/* `alone`: as look_alone() finds out. */
static int take(struct epoll* e, struct epoll_event* events, int n, bool alone) {
  if (n <= 0 || e->queue == NULL) return 0;
  if (alone) return take_some(e, events, n);
  pthread_mutex_lock(&e->lock);
  const int count = take_some(e, events, n);
  if (e->sleepers != 0) epoll_arm(e);
  pthread_mutex_unlock(&e->lock);
  return count;
}

/* Takes the doorbell out of what the kernel said. */
static int without_doorbell(struct epoll_event* events, int n) {
  int kept = 0;
  for (int i = 0; i < n; ++i) {
    if (events[i].data.u64 != DOORBELL) events[kept++] = events[i];
  }
  return n < 0 ? n : kept;
}

static int ask_kernel(struct epoll* e, int epfd, struct epoll_event* events, int n) {
  e->kernel_looked = ticks();
  return without_doorbell(events, real()->epoll_pwait(epfd, events, n, 0, NULL));
}

static int look(struct epoll* e, int epfd, struct epoll_event* events, int most, bool alone) {
  const bool kernel = __atomic_load_n(&e->members, __ATOMIC_RELAXED) != 0;
  const bool due = kernel && ticks() - e->kernel_looked >= KERNEL_EVERY;
  int n = due ? ask_kernel(e, epfd, events, (most + 1) / 2) : 0;
  if (n < 0) return n;
  n += take(e, events + n, most - n, alone);
  return n == 0 && kernel && !due ? ask_kernel(e, epfd, events, most) : n;
}

/* A look by the only thread that uses the library. Whoever else wants to arm the queue, to change
 * it or to end it waits until the look is over (bias.h), so that neither the set is held nor its
 * lock taken. False: there may be other threads, or it is no set with sockets of Postern's. */
static bool look_alone(int epfd, struct epoll_event* events, int most, int* n) {
  ENTER();
  struct epoll* e = alone_here() ? epoll_find(epfd) : NULL;
  if (e == NULL || most <= 0 || __atomic_load_n(&e->queue, __ATOMIC_ACQUIRE) == NULL ||
      __atomic_load_n(&e->sleepers, __ATOMIC_RELAXED) != 0) {
    return false;
  }
  *n = look(e, epfd, events, most, true);
  return true;
}

/* ---- spin ---- */

static uint32_t most_spin_ns(void) {
  const char* text = getenv("POSTERN_SPIN_US");
  char* end;
  if (text == NULL) return DEFAULT_SPIN_US * 1000;
  const unsigned long us = strtoul(text, &end, 10);
  return end != text && *end == '\0' && us <= MOST_SPIN_US ? (uint32_t)us * 1000
                                                           : DEFAULT_SPIN_US * 1000;
}

/* Spins for what spinning has lately been worth. Returns events. */
static int spin(struct epoll* e, struct epoll_event* events, int most, int64_t deadline) {
  static uint32_t limit;
  if (limit == 0) limit = most_spin_ns() + 1;
  const uint32_t budget = e->spin_ns < limit ? e->spin_ns : limit - 1;
  if (budget == 0) return 0;
  int64_t end = clock_ns() + budget;
  if (end > deadline) end = deadline;
  do {
    for (int i = 0; i < 8; ++i) {
      const int n = take(e, events, most, false);
      if (n != 0) {
        e->spin_ns = budget + budget / 8;
        return n;
      }
      __builtin_ia32_pause();
    }
  } while (clock_ns() < end);
  e->spin_ns = budget - budget / 4 > LEAST_SPIN_NS ? budget - budget / 4 : LEAST_SPIN_NS;
  return 0;
}

/* ---- sleep ---- */

static int left_ms(int64_t deadline) {
  if (deadline == NO_DEADLINE) return -1;
  const int64_t ms = (deadline - clock_ns() + 999999) / 1000000;
  if (ms < 0) return 0;
  return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static int sleep_once(struct epoll* e, int epfd, struct epoll_event* events, int most,
                      int64_t deadline, const sigset_t* mask) {
  int n = 0;
  if (!epoll_sleep_begin(e, epfd)) {
    n = real()->epoll_pwait(epfd, events, most, left_ms(deadline), mask);
  }
  const int error = errno;
  epoll_sleep_end(e);
  if (n < 0) return fail(error);
  n = without_doorbell(events, n);
  return n + take(e, events + n, most - n, false);
}

static int wait_quietly(struct epoll* e, int epfd, struct epoll_event* events, int most,
                        int64_t deadline, const sigset_t* mask) {
  int n;
  do {
    n = spin(e, events, most, deadline);
    if (n == 0) n = sleep_once(e, epfd, events, most, deadline, mask);
    if (n == 0) n = look(e, epfd, events, most, false);
  } while (n == 0 && (deadline == NO_DEADLINE || clock_ns() < deadline));
  return n;
}

static int wait_for_both(struct epoll* e, int epfd, struct epoll_event* events, int most,
                         int64_t deadline, const sigset_t* mask, bool looked) {
  const int n = looked ? 0 : look(e, epfd, events, most, false);
  if (n != 0 || clock_ns() >= deadline) return n;
  struct quiet quiet;
  quiet_begin(&quiet);
  const int waited =
      wait_quietly(e, epfd, events, most, deadline, mask != NULL ? mask : &quiet.before);
  quiet_end(&quiet);
  return waited;
}

/* The set has no socket of Postern's, or not yet: another thread may add one meanwhile. */
static int wait_for_kernel(struct epoll* e, int epfd, struct epoll_event* events, int most,
                           int64_t deadline, const sigset_t* mask) {
  if (epoll_sleep_begin(e, epfd)) deadline = 0;
  const int n = real()->epoll_pwait(epfd, events, most, left_ms(deadline), mask);
  const int error = errno;
  epoll_sleep_end(e);
  return n < 0 ? fail(error) : without_doorbell(events, n);
}

static int wait_in(struct epoll* e, int epfd, struct epoll_event* events, int most,
                   int64_t deadline, const sigset_t* mask, bool looked) {
  if (most <= 0) return fail(EINVAL);
  while (__atomic_load_n(&e->queue, __ATOMIC_ACQUIRE) == NULL) {
    const int n = wait_for_kernel(e, epfd, events, most, deadline, mask);
    if (n != 0) return n;
    const bool over = deadline != NO_DEADLINE && clock_ns() >= deadline;
    if (over && __atomic_load_n(&e->queue, __ATOMIC_ACQUIRE) == NULL) return 0;
  }
  return wait_for_both(e, epfd, events, most, deadline, mask, looked);
}

static int64_t deadline_of(int timeout) {
  if (timeout == 0) return 0;
  return timeout < 0 ? NO_DEADLINE : clock_ns() + timeout * INT64_C(1000000);
}

/* ---- the calls ---- */

EXPORT int epoll_pwait(int epfd, struct epoll_event* events, int most, int timeout,
                       const sigset_t* mask) {
  int n = 0;
  const bool looked = look_alone(epfd, events, most, &n);
  if (n != 0 || (looked && timeout == 0)) return n;
  struct epoll* e = epoll_enter(epfd);
  if (e == NULL) return real()->epoll_pwait(epfd, events, most, timeout, mask);
  n = wait_in(e, epfd, events, most, deadline_of(timeout), mask, looked);
  const int error = errno;
  epoll_leave(e);
  errno = error;
  return n;
}

EXPORT int epoll_wait(int epfd, struct epoll_event* events, int most, int timeout) {
  return epoll_pwait(epfd, events, most, timeout, NULL);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event* events, int most,
                        const struct timespec* timeout, const sigset_t* mask) {
  struct epoll* e = epoll_enter(epfd);
  if (e == NULL) {
    return (int)real()->syscall(SYS_epoll_pwait2, epfd, events, most, timeout, mask, _NSIG / 8);
  }
  epoll_leave(e);
  const int64_t ms = timeout != NULL
                         ? timeout->tv_sec * INT64_C(1000) + (timeout->tv_nsec + 999999) / 1000000
                         : -1;
  return epoll_pwait(epfd, events, most, ms > INT32_MAX ? INT32_MAX : (int)ms, mask);
}
