#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

enum {
  NS_PER_S = 1000000000,
  OWNER_PATIENCE_NS = 20000000 /* before asking whether a lock's owner is alive */
};

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

uint32_t lock_self = 1;

/* Only with others about, so the words are changed atomically by all, or after they died. */
bool lock_acquire_contended(struct lock* lock) {
  for (int i = 0; i < 100; ++i) {
    cpu_relax();
    if (lock_try(lock)) return false;
  }
  for (;;) {
    uint32_t seen = load_relaxed(&lock->word);
    if (seen == 0) { /* others may sleep for it: take it with the sleepers' bit */
      if (exchange_if(&lock->word, &seen, lock_self | LOCK_SLEEPERS)) return false;
      continue;
    }
    const uint32_t marked = seen | LOCK_SLEEPERS;
    if (marked != seen && !exchange_if(&lock->word, &seen, marked)) continue;
    const struct timespec patience = {.tv_nsec = OWNER_PATIENCE_NS};
    if (syscall(SYS_futex, &lock->word, FUTEX_WAIT, marked, &patience, NULL, 0) == 0) continue;
    if (errno != ETIMEDOUT || !family_is_gone(marked & ~LOCK_SLEEPERS)) continue;
    seen = marked;
    if (exchange_if(&lock->word, &seen, lock_self | LOCK_SLEEPERS)) return true;
  }
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
