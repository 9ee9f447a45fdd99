#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

enum { NS_PER_S = 1000000000 };
static const uint32_t kSleepers = UINT32_C(1) << 31;

static _Thread_local uint32_t thread_id;

uint32_t thread_self(void) {
  if (thread_id == 0) thread_id = (uint32_t)syscall(SYS_gettid);
  return thread_id;
}

void thread_self_forget(void) { thread_id = 0; }

int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

void cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static struct timespec to_timespec(int64_t ns) {
  return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

void futex_wake(uint32_t* word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

bool lock_try(struct lock* lock) {
  uint32_t free = 0;
  return __atomic_compare_exchange_n(&lock->word, &free, thread_self(), false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}

void lock_acquire(struct lock* lock) {
  for (int i = 0; i < 100; ++i) {
    if (lock_try(lock)) return;
    cpu_relax();
  }
  for (;;) {
    const uint32_t seen = load_relaxed(&lock->word);
    if (seen == 0) {
      uint32_t free = 0; /* others may sleep for it: take it with the sleepers' bit */
      if (__atomic_compare_exchange_n(&lock->word, &free, thread_self() | kSleepers, false,
                                      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return;
      }
      continue;
    }
    uint32_t expected = seen;
    if ((seen & kSleepers) == 0 &&
        !__atomic_compare_exchange_n(&lock->word, &expected, seen | kSleepers, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      continue;
    }
    syscall(SYS_futex, &lock->word, FUTEX_WAIT, seen | kSleepers, NULL, NULL, 0);
  }
}

void lock_release(struct lock* lock) {
  const uint32_t held = exchange(&lock->word, 0);
  if ((held & kSleepers) != 0) futex_wake(&lock->word, 1);
}

/* Kernels before 5.16 and strict sandboxes have no futex_waitv: sleep on one word, in slices. */
static int wait_in_slices(uint32_t* word, uint32_t seen, int64_t deadline) {
  const int64_t slice = now_ns() + 1000000;
  const struct timespec until = to_timespec(slice < deadline ? slice : deadline);
  const long rc =
      syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, &until, NULL, FUTEX_BITSET_MATCH_ANY);
  if (rc == 0 || errno == EAGAIN) return 0;
  if (errno == ETIMEDOUT) return now_ns() >= deadline ? ETIMEDOUT : 0;
  return errno == EINTR ? EINTR : 0;
}

int futex_wait_either(uint32_t* word, uint32_t seen, uint32_t* other, uint32_t other_seen,
                      int64_t deadline) {
  static uint32_t unavailable;
  if (!load_relaxed(&unavailable)) {
    struct futex_waitv both[2] = {
        {.val = seen, .uaddr = (uintptr_t)word, .flags = FUTEX_32},
        {.val = other_seen, .uaddr = (uintptr_t)other, .flags = FUTEX_32},
    };
    const struct timespec until = to_timespec(deadline == FOREVER ? 0 : deadline);
    const long rc =
        syscall(SYS_futex_waitv, both, 2, 0, deadline == FOREVER ? NULL : &until, CLOCK_MONOTONIC);
    if (rc >= 0 || errno == EAGAIN) return 0;
    if (errno == ETIMEDOUT || errno == EINTR) return errno;
    store_relaxed(&unavailable, 1);
  }
  return wait_in_slices(word, seen, deadline);
}
