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
static uint32_t transfers; /* made since the attach */
static uint32_t shared;    /* other processes are about; written by whoever is inside */

static uint32_t number_of(uint32_t current) { return current & ~(uint32_t)BIAS_SHARED; }
/* Some thread has the bias. */
static bool is_number(uint32_t current) { return number_of(current) - 1 < BIAS_LAST; }

/* A number for this thread; false: there are none left. */
static bool have_number(void) {
  if (bias_number == 0 && numbers < BIAS_LAST) bias_number = ++numbers;
  return bias_number != 0;
}

/* Nobody is inside with the bias when this returns, nor comes in before `current` is changed. */
static void take_away(uint32_t current) {
  const uint32_t number = number_of(current);
  const int error = errno;
  store(&bias.current, BIAS_REVOKING);
  (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  errno = error;
  while (load(&bias.inside[number]) != 0) sched_yield();
}

static uint32_t take(void) {
  store_relaxed(&bias.inside[bias_number], 1);
  store(&bias.current, bias_number);
  return bias_number;
}

static uint32_t enter_foreign(uint32_t current) {
  take_away(current); /* from here on `shared` is what it was made by who was inside */
  if (!load(&shared) && transfers < TRANSFERS && have_number()) {
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
  uint32_t entered = 0;
  pthread_mutex_lock(&mutex);
  const uint32_t current = load(&bias.current);
  if (is_number(current) && !bias_is(current, number)) {
    entered = enter_foreign(current);
  } else if (is_number(current)) {
    store_relaxed(&bias.inside[number], 1); /* nobody takes it away meanwhile: the mutex */
    entered = number;
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
  if (now == BIAS_NOBODY || bias_is(now, number)) return;
  if (number != 0) store(&bias.inside[number], 0); /* a revoker that waits for us goes on */
  pthread_mutex_lock(&mutex);
  const uint32_t current = load(&bias.current);
  if (is_number(current) && !bias_is(current, number)) {
    take_away(current);
    store(&bias.current, BIAS_NOBODY);
  }
  if (number != 0) store_relaxed(&bias.inside[number], calls);
  pthread_mutex_unlock(&mutex);
}

static bool can_fence(void) {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void bias_begin(void) {
  pthread_mutex_lock(&mutex);
  const uint32_t current = load(&bias.current);
  if (is_number(current)) take_away(current);
  const bool possible = can_fence() && have_number();
  transfers = 0;
  store(&shared, 0);
  store(&bias.current, possible ? bias_number : BIAS_NOBODY);
  pthread_mutex_unlock(&mutex);
}

/* What bias there is the caller has, who is inside: another thread may be about to revoke it, with
 * the mutex, and waits for the caller. */
static void mark(uint32_t as) {
  uint32_t current = load(&bias.current);
  store(&shared, as != 0);
  while (is_number(current) &&
         !__atomic_compare_exchange_n(&bias.current, &current, number_of(current) | as, false,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    continue;
  }
}

void bias_share(void) { mark(BIAS_SHARED); }
void bias_unshare(void) { mark(0); }

/* One thread is left, whichever it is. */
void bias_in_child(void) {
  mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  memset(bias.inside, 0, sizeof bias.inside);
  store(&shared, 1);
  store(&bias.current, can_fence() && have_number() ? BIAS_SHARED | bias_number : BIAS_NOBODY);
}
