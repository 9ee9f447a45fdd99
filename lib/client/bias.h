/* Who may be in the library at this moment.
 *
 * As long as one thread of one process uses the library, no read-modify-write of its own state has
 * to be atomic: alone() says so, and locks and counters are then plain loads and stores. Where
 * other processes share the attachment, and one thread of this process uses the library, the same
 * holds for what is this process's only: alone_here(). Exactly:
 *
 * Every public function begins with ENTER(). The thread that has the bias counts itself into
 * `inside`, then looks at `current` once more. Another thread that enters stores REVOKING into
 * `current`, makes a membarrier (which stands for the fence that the first thread does not
 * execute), and waits until `inside` is 0. So either the first thread sees REVOKING, or the other
 * sees it inside and waits. The bias then goes to the newcomer, a few times in the life of an
 * attachment (a program may attach in one thread and work in another), and after that to nobody.
 * A thread that sleeps inside counts itself out meanwhile and enters anew when it wakes.
 *
 * Sharing with other processes marks the bias (SHARED), until the last sharer is gone. A second
 * thread that comes meanwhile does not get it: it ends. Where the kernel refuses membarrier, there
 * is no bias and everything is atomic. */
#ifndef POSTERN_CLIENT_BIAS_H
#define POSTERN_CLIENT_BIAS_H

#include <stdbool.h>
#include <stdint.h>

enum {
  BIAS_NOBODY = 0,
  BIAS_LAST = 64,   /* 1..BIAS_LAST: a thread's number, never given twice */
  BIAS_SHARED = 128 /* with a number: other processes are about */
};
#define BIAS_REVOKING UINT32_MAX

struct bias {
  uint32_t current; /* BIAS_*, or the number of the one thread of this process that may be inside */
  uint32_t inside[BIAS_LAST + 1]; /* by number: calls under way, written by that thread alone */
};
extern struct bias bias;
extern _Thread_local uint32_t bias_number __attribute__((tls_model("initial-exec")));

/* In a public call, true: no other thread or process reads or writes the library's state. */
static inline bool alone(void) {
  return __atomic_load_n(&bias.current, __ATOMIC_RELAXED) - 1 < BIAS_LAST;
}

/* The same but for other processes: what they do not share, nobody else reads or writes. */
static inline bool alone_here(void) {
  const uint32_t current = __atomic_load_n(&bias.current, __ATOMIC_RELAXED);
  return (current & ~(uint32_t)BIAS_SHARED) - 1 < BIAS_LAST;
}

/* `current` as it is while the thread of that number has the bias. */
static inline bool bias_is(uint32_t current, uint32_t number) {
  return (current & ~(uint32_t)BIAS_SHARED) == number;
}

/* The number under which the call is counted; 0: it is not. */
uint32_t bias_enter_slow(void);

static inline uint32_t bias_enter(void) {
  const uint32_t number = bias_number;
  const uint32_t current = __atomic_load_n(&bias.current, __ATOMIC_ACQUIRE);
  if (current == BIAS_NOBODY) return 0;
  if (!bias_is(current, number)) return bias_enter_slow();
  __atomic_store_n(&bias.inside[number], bias.inside[number] + 1, __ATOMIC_RELAXED);
  __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the other side's membarrier does the rest */
  if (bias_is(__atomic_load_n(&bias.current, __ATOMIC_ACQUIRE), number)) return number;
  __atomic_store_n(&bias.inside[number], bias.inside[number] - 1, __ATOMIC_RELEASE);
  return bias_enter_slow();
}

static inline void bias_leave(const uint32_t* number) {
  if (*number == 0) return;
  __atomic_store_n(&bias.inside[*number], bias.inside[*number] - 1, __ATOMIC_RELEASE);
}

/* First in every public function. */
#define ENTER() \
  __attribute__((cleanup(bias_leave), unused)) const uint32_t entered_as = bias_enter()

/* Around a sleep, with no lock held: out of the library, and in again. */
uint32_t bias_pause(void);
void bias_resume(uint32_t calls);

/* The caller may have the bias, if the kernel has membarrier. With nobody inside: at attach. */
void bias_begin(void);
/* Another process is about to share the state, or does so no more. In a public call. */
void bias_share(void);
void bias_unshare(void);
/* In the child of a fork. */
void bias_in_child(void);

#endif
