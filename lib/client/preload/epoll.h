/* Epoll sets. The kernel's set of the same number holds the kernel's descriptors; a queue holds
 * Postern's sockets, and its descriptor, the doorbell, is in the kernel's set as well.
 *
 * Nobody sleeps through an event: while `sleepers` is not 0 the queue is armed. Whoever takes
 * events disarms it, and arms it again before he lets go of the lock if others sleep; what arming
 * finds he does not keep to himself, but wakes a sleeper. */
#ifndef POSTERN_PRELOAD_EPOLL_H
#define POSTERN_PRELOAD_EPOLL_H

#include "client/preload/preload.h"

#define DOORBELL UINT64_C(0xb1d5a3f08c6e2947) /* its data in the kernel's set; nobody else's */

struct epoll {
  pthread_mutex_t lock; /* around every wait and arming of the queue */
  postern_queue* queue; /* NULL until there is a socket of Postern's */
  uint32_t sleepers;    /* threads that sleep, or are about to, on the kernel's set */
  uint32_t users;       /* threads in calls, and one for all numbers */
  uint32_t numbers;     /* descriptors that name the set */
  uint32_t members;     /* of the kernel's set, but for the doorbell; never fewer than there are */
  uint32_t spin_ns;     /* what spinning is worth at present */
  uint64_t kernel_looked; /* when the kernel was last asked */
  int* inner;             /* numbers of epoll sets in this one; under lock */
  uint32_t inner_count;
  bool used;
  bool inherited; /* by the child of a fork: its doorbell is not yet in the kernel's set */
};

/* The set that a number names; NULL. Not held: only where no other thread can be about. */
struct epoll* epoll_find(int epfd);
/* The same, held until epoll_leave(). */
struct epoll* epoll_enter(int epfd);
void epoll_leave(struct epoll* e);
/* Around sleeping on the kernel's set. Begin returns true if there is something of Postern's
 * already: then it is not the time to sleep. */
bool epoll_sleep_begin(struct epoll* e, int epfd);
void epoll_sleep_end(struct epoll* e);
/* Arms the queue for those who sleep; if there is something already, rings. Under the lock. */
void epoll_arm(struct epoll* e);

#endif
