/* Signals held back between a call's last look and its sleep. A handler that runs there would have
 * ended the kernel's wait with EINTR; here it would come too early to be noticed, and a program
 * whose handler only sets a flag would sleep on. What is held back runs as the wait begins. */
#ifndef POSTERN_PRELOAD_QUIET_H
#define POSTERN_PRELOAD_QUIET_H

#include <signal.h>

struct quiet {
  sigset_t before; /* the mask to sleep with */
};

/* All but those that a fault raises. */
static inline void quiet_begin(struct quiet* q) {
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
  sigset_t all;
  sigfillset(&all);
  for (unsigned i = 0; i < sizeof faults / sizeof faults[0]; ++i) sigdelset(&all, faults[i]);
  pthread_sigmask(SIG_BLOCK, &all, &q->before);
}

static inline void quiet_end(const struct quiet* q) {
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &q->before, NULL);
  errno = error;
}

#endif
