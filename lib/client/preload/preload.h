/* The inside of libpostern_preload.so.
 *
 * THE TABLE says for each descriptor number of the process whose it is; that, and a queue for each
 * epoll set that holds a socket of Postern's, is all that this library remembers. A socket of
 * Postern's is named by a descriptor of libpostern, its own for each number.
 *
 * THE NUMBERS are the kernel's: behind every one of ours stands a kernel socket, the placeholder,
 * that is never bound nor connected. So numbers are unique, limits count, close-on-exec and fstat
 * are true, and calls that make no sense on a socket fail as they should.
 *
 * UNDECIDED is a socket that has neither been bound nor connected. It is both: a kernel socket and
 * a socket of libpostern, and options go to both. The first address decides (policy.h).
 *
 * LOCKS. Looking up a number takes none. preload_lock guards decisions, and the list of undecided
 * sockets in epoll sets; then epoll.lock. None is held while waiting.
 */
#ifndef POSTERN_PRELOAD_H
#define POSTERN_PRELOAD_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/postern.h"
#include "client/preload/real.h"

#define EXPORT __attribute__((visibility("default")))

enum kind {
  KERNEL,    /* falls through */
  POSTERN,   /* value: libpostern's descriptor; this one and the next two are decided */
  BOTH,      /* the same; a stream socket that is bound on both sides (both.c) */
  BOTH_NOW,  /* the same, and non-blocking */
  UNDECIDED, /* the same; NO_SOCKET if there is none: not attached, or no slot left */
  EPOLL,     /* value: index of its struct epoll */
  PRIVATE    /* libpostern's own: the program must not touch it */
};

enum { TABLE_SIZE = 1 << 20, KIND_SHIFT = 28, NO_SOCKET = (1 << KIND_SHIFT) - 1 };

extern uint32_t fd_table[TABLE_SIZE]; /* kind << KIND_SHIFT | value */

static inline uint32_t entry_of(int fd) {
  return (uint32_t)fd < TABLE_SIZE ? __atomic_load_n(&fd_table[fd], __ATOMIC_ACQUIRE) : 0;
}
static inline enum kind kind_of(uint32_t entry) { return (enum kind)(entry >> KIND_SHIFT); }
static inline int value_of(uint32_t entry) { return (int)(entry & NO_SOCKET); }
static inline uint32_t entry_make(enum kind kind, int value) {
  return (uint32_t)kind << KIND_SHIFT | (uint32_t)value;
}
static inline bool is_both(uint32_t entry) {
  return kind_of(entry) == BOTH || kind_of(entry) == BOTH_NOW;
}
static inline bool is_decided(uint32_t entry) {
  return kind_of(entry) >= POSTERN && kind_of(entry) <= BOTH_NOW;
}
/* The descriptor of libpostern, if the number is a socket of Postern's. */
static inline bool is_postern(int fd, int* pd) {
  const uint32_t entry = entry_of(fd);
  *pd = value_of(entry);
  return __builtin_expect(entry != 0, 0) && is_decided(entry);
}

static inline int fail(int error) {
  errno = error;
  return -1;
}

/* ---- table.c ---- */
extern pthread_mutex_t preload_lock;
void entry_set(int fd, uint32_t entry);
/* Clears the entry and returns what it was. */
uint32_t entry_take(int fd);
int entry_high(void); /* all numbers from here on are the kernel's */
/* Numbers that share an undecided socket, by dup. */
void undecided_join(int from, int to);
bool undecided_together(int fd, int other);
/* A new number for a socket of Postern's: a placeholder. flags: SOCK_CLOEXEC. -1 and errno. */
int placeholder(int flags);
/* True in a process that shares our memory but not our descriptors: the child of a vfork. It may
 * change its descriptors, and nothing here. */
bool borrowed_memory(void);

/* ---- attach.c ---- */
/* Attaches when it is first needed. False: not possible; errno. Says so once on standard error. */
bool attached(void);
/* There are sockets of Postern's, or may be: this process is attached and owns its memory. */
bool holds_sockets(void);

/* ---- decide.c ---- */
enum use { FOR_BIND, FOR_CONNECT };
/* Settles whose the socket is by the address that it is first used with. 0, or -1 and errno. */
int decide(int fd, const struct sockaddr* address, socklen_t length, enum use use);
/* Settles an undecided socket that listens without having been bound. */
int decide_unbound(int fd);

/* ---- sockets.c ---- */
/* Accepts from libpostern's listener. */
int accept_postern(int listener, struct sockaddr* address, socklen_t* length, int flags);
/* Nothing to accept at present. */
bool nothing_queued(int listener);

/* ---- both.c ---- */
/* A wildcard address is bound on the kernel's side as well, if that is wanted. 0: not wanted, or
 * done, and the number's entry says so; `bound` is the address to bind libpostern's socket to. */
int both_bind(int fd, const struct sockaddr* address, socklen_t length,
              struct sockaddr_storage* bound, socklen_t* bound_length);
int both_accept(int fd, struct sockaddr* address, socklen_t* length, int flags);
void both_set_nonblocking(int fd, bool on);

/* ---- epoll.c ---- */
/* The number now names a socket of Postern's: epoll sets that hold it follow. Under preload_lock.
 */
void epoll_follow(int fd, int pd);
/* The number is closed, or has become the kernel's for good. */
void epoll_forget(int fd);
/* dup and close of a number that is an epoll set. */
void epoll_hold(int index);
void epoll_release(int index);
/* Lets the kernel's descriptor of the set tell of Postern's sockets in it, and ends that. */
void epoll_watch_begin(int fd);
void epoll_watch_end(int fd);
/* True if the set holds sockets of Postern's, directly or in sets inside it. */
bool epoll_has_postern(int fd);
/* In the child of a fork. Not attached: queues are void. */
void epoll_in_child(bool are_attached);

/* ---- poll.c ---- */
struct timespec;
int64_t clock_ns(void);
/* What is left until the deadline, never negative; NULL for NO_DEADLINE. */
#define NO_DEADLINE INT64_MAX
const struct timespec* time_left(int64_t deadline, struct timespec* left);

#endif
