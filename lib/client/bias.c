#include "client/bias.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"

struct bias bias;
_Thread_local uint32_t bias_number __attribute__((tls_model("initial-exec")));

enum { TRANSFERS = 2 }; /* in the life of an attachment */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t numbers;   /* given out; under mutex, as the rest */
static uint32_t owner;     /* whose the bias is, or will be again after SHARED */
static uint32_t transfers; /* made since the attach */
static uint32_t unshared;  /* SHARED can end */

static bool is_number(uint32_t current) { return current - 1 < BIAS_LAST; }

/* A number for this thread; false: there are none left. */
static bool have_number(void) {
  if (bias_number == 0 && numbers < BIAS_LAST) bias_number = ++numbers;
  return bias_number != 0;
}

/* Nobody is inside with the bias when this returns, nor comes in before `current` is changed. */
static void take_away(uint32_t number) {
  const int error = errno;
  store(&bias.current, BIAS_REVOKING);
  (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  errno = error;
  while (load(&bias.inside[number]) != 0) sched_yield();
}

static uint32_t take(void) {
  store_relaxed(&owner, bias_number);
  store_relaxed(&bias.inside[bias_number], 1);
  store(&bias.current, bias_number);
  return bias_number;
}

/* SHARED has no owner inside: it ends with the owner's first call after the last sharer is gone, or
 * with the first call of another thread, for good. */
static uint32_t enter_shared(void) {
  if (bias_number != owner) {
    store(&bias.current, BIAS_NOBODY);
    return 0;
  }
  if (!load_relaxed(&unshared)) return 0;
  store_relaxed(&unshared, 0);
  return take();
}

static uint32_t enter_foreign(uint32_t current) {
  take_away(current);
  if (transfers < TRANSFERS && have_number()) {
    ++transfers;
    return take();
  }
  store(&bias.current, BIAS_NOBODY);
  return 0;
}

uint32_t bias_enter_slow(void) {
  const uint32_t number = bias_number;
  /* A call inside a call that is counted: whoever wants the bias waits for the outer one. */
  if (number != 0 && bias.inside[number] != 0) return 0;
  if (load(&bias.current) == BIAS_SHARED && number == load_relaxed(&owner) &&
      !load_relaxed(&unshared)) {
    return 0;
  }
  uint32_t entered = 0;
  pthread_mutex_lock(&mutex);
  const uint32_t current = load(&bias.current);
  if (current == BIAS_SHARED) {
    entered = enter_shared();
  } else if (is_number(current)) {
    entered = current == number ? take() : enter_foreign(current);
  }
  pthread_mutex_unlock(&mutex);
  return entered;
}

uint32_t bias_pause(void) {
  const uint32_t number = bias_number;
  const uint32_t calls = bias.inside[number];
  if (number != 0) store(&bias.inside[number], 0);
  return calls;
}

/* In the middle of a call nothing is taken over: whoever had the bias in the meantime loses it. */
void bias_resume(uint32_t calls) {
  const uint32_t number = bias_number;
  if (number != 0) store_relaxed(&bias.inside[number], calls);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  const uint32_t now = load(&bias.current);
  if (now == BIAS_NOBODY || now == BIAS_SHARED || now == number) return;
  if (number != 0) store(&bias.inside[number], 0); /* a revoker that waits for us goes on */
  pthread_mutex_lock(&mutex);
  const uint32_t current = load(&bias.current);
  if (is_number(current) && current != number) {
    take_away(current);
    store(&bias.current, BIAS_NOBODY);
  }
  if (number != 0) store_relaxed(&bias.inside[number], calls);
  pthread_mutex_unlock(&mutex);
}

void bias_begin(void) {
  pthread_mutex_lock(&mutex);
  const uint32_t current = load(&bias.current);
  if (is_number(current)) take_away(current);
  const bool possible =
      syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
      have_number();
  transfers = 0;
  unshared = 0;
  store_relaxed(&owner, bias_number);
  store(&bias.current, possible ? bias_number : BIAS_NOBODY);
  pthread_mutex_unlock(&mutex);
}

void bias_share(void) {
  pthread_mutex_lock(&mutex);
  unshared = 0;
  if (is_number(bias.current)) store(&bias.current, BIAS_SHARED); /* the caller's, who is inside */
  pthread_mutex_unlock(&mutex);
}

void bias_unshare(void) { store_relaxed(&unshared, 1); }

/* One thread is left, whichever it is. */
void bias_in_child(void) {
  mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  memset(bias.inside, 0, sizeof bias.inside);
  unshared = 0;
  owner = have_number() ? bias_number : 0;
  store(&bias.current, owner != 0 ? BIAS_SHARED : BIAS_NOBODY);
}
