/* Attaching, and what a fork does to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/preload/policy.h"
#include "client/preload/preload.h"
#include "client/settings.h"

static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;
static bool are_attached;

/* ---- fork ---- */

static bool still_attached(void) {
  struct postern_stats stats;
  return postern_get_stats(&stats) == 0;
}

/* What is left of a socket that stayed with the parent is its placeholder. */
static void forget_sockets(void) {
  for (int fd = 0; fd < entry_high(); ++fd) {
    if (is_decided(entry_of(fd))) entry_take(fd);
    if (kind_of(entry_of(fd)) == UNDECIDED) entry_set(fd, entry_make(UNDECIDED, NO_SOCKET));
  }
}

static void before_fork(void) {
  pthread_mutex_lock(&attach_lock);
  pthread_mutex_lock(&preload_lock);
}

static void in_parent(void) {
  pthread_mutex_unlock(&preload_lock);
  pthread_mutex_unlock(&attach_lock);
}

/* libpostern shares its sockets with the child, unless there are too many sharers. */
static void in_child(void) {
  const bool shared = are_attached && still_attached();
  if (are_attached && !shared) {
    are_attached = false;
    forget_sockets();
  }
  epoll_in_child(shared);
  /* The thread that locked them has another id here. */
  preload_lock = (pthread_mutex_t)PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
  attach_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

/* ---- attach ---- */

/* fprintf would take the program's locks. */
static void complain_once(void) {
  static bool told;
  char text[512];
  const char* why = postern_last_error();
  if (__atomic_exchange_n(&told, true, __ATOMIC_RELAXED)) return;
  const int n = snprintf(text, sizeof text, "postern: cannot attach to posternd: %s\n",
                         why[0] != '\0' ? why : strerrordesc_np(errno));
  if (n > 0)
    (void)!real()->write(STDERR_FILENO, text,
                         (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static bool attach(void) {
  const int error = errno;
  if (postern_attach(NULL) != 0 && errno != EISCONN) {
    complain_once();
    return false;
  }
  errno = error;
  policy_attached(settings_get());
  /* After libpostern has registered its own: ours look at what its have done. */
  static bool registered;
  if (!registered) pthread_atfork(before_fork, in_parent, in_child);
  registered = true;
  __atomic_store_n(&are_attached, true, __ATOMIC_RELEASE);
  return true;
}

bool holds_sockets(void) {
  return __atomic_load_n(&are_attached, __ATOMIC_ACQUIRE) && !borrowed_memory();
}

bool attached(void) {
  if (__atomic_load_n(&are_attached, __ATOMIC_ACQUIRE)) return true;
  if (borrowed_memory()) return false;
  pthread_mutex_lock(&attach_lock);
  const bool ok = are_attached || attach();
  pthread_mutex_unlock(&attach_lock);
  return ok;
}
