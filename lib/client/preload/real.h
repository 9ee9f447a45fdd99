/* libc's own functions, behind ours. */
#ifndef POSTERN_PRELOAD_REAL_H
#define POSTERN_PRELOAD_REAL_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define REAL_FUNCTIONS(X)                                                                    \
  X(int, socket, (int, int, int))                                                            \
  X(int, bind, (int, const struct sockaddr*, socklen_t))                                     \
  X(int, listen, (int, int))                                                                 \
  X(int, accept4, (int, struct sockaddr*, socklen_t*, int))                                  \
  X(int, connect, (int, const struct sockaddr*, socklen_t))                                  \
  X(int, shutdown, (int, int))                                                               \
  X(int, getsockname, (int, struct sockaddr*, socklen_t*))                                   \
  X(int, getpeername, (int, struct sockaddr*, socklen_t*))                                   \
  X(int, getsockopt, (int, int, int, void*, socklen_t*))                                     \
  X(int, setsockopt, (int, int, int, const void*, socklen_t))                                \
  X(int, close, (int))                                                                       \
  X(int, dup, (int))                                                                         \
  X(int, dup2, (int, int))                                                                   \
  X(int, dup3, (int, int, int))                                                              \
  X(int, close_range, (unsigned, unsigned, int))                                             \
  X(int, fcntl, (int, int, ...))                                                             \
  X(int, ioctl, (int, unsigned long, ...))                                                   \
  X(ssize_t, read, (int, void*, size_t))                                                     \
  X(ssize_t, write, (int, const void*, size_t))                                              \
  X(ssize_t, readv, (int, const struct iovec*, int))                                         \
  X(ssize_t, writev, (int, const struct iovec*, int))                                        \
  X(ssize_t, recv, (int, void*, size_t, int))                                                \
  X(ssize_t, send, (int, const void*, size_t, int))                                          \
  X(ssize_t, recvfrom, (int, void*, size_t, int, struct sockaddr*, socklen_t*))              \
  X(ssize_t, sendto, (int, const void*, size_t, int, const struct sockaddr*, socklen_t))     \
  X(ssize_t, recvmsg, (int, struct msghdr*, int))                                            \
  X(ssize_t, sendmsg, (int, const struct msghdr*, int))                                      \
  X(int, recvmmsg, (int, struct mmsghdr*, unsigned, int, struct timespec*))                  \
  X(int, sendmmsg, (int, struct mmsghdr*, unsigned, int))                                    \
  X(ssize_t, sendfile, (int, int, off_t*, size_t))                                           \
  X(ssize_t, splice, (int, off_t*, int, off_t*, size_t, unsigned))                           \
  X(int, poll, (struct pollfd*, nfds_t, int))                                                \
  X(int, ppoll, (struct pollfd*, nfds_t, const struct timespec*, const sigset_t*))           \
  X(int, select, (int, fd_set*, fd_set*, fd_set*, struct timeval*))                          \
  X(int, pselect, (int, fd_set*, fd_set*, fd_set*, const struct timespec*, const sigset_t*)) \
  X(int, epoll_create1, (int))                                                               \
  X(int, epoll_ctl, (int, int, int, struct epoll_event*))                                    \
  X(int, epoll_pwait, (int, struct epoll_event*, int, int, const sigset_t*))                 \
  X(int, eventfd, (unsigned, int))                                                           \
  X(int, execve, (const char*, char* const*, char* const*))                                  \
  X(int, execvpe, (const char*, char* const*, char* const*))                                 \
  X(int, fexecve, (int, char* const*, char* const*))                                         \
  X(pid_t, vfork, (void))                                                                    \
  X(long, syscall, (long, ...))

struct real {
#define X(type, name, arguments) type(*name) arguments;
  REAL_FUNCTIONS(X)
#undef X
};

extern struct real real_functions;
extern bool real_ready;
void real_resolve(void);

/* Works before any constructor has run. */
static inline const struct real* real(void) {
  if (__builtin_expect(!__atomic_load_n(&real_ready, __ATOMIC_ACQUIRE), 0)) real_resolve();
  return &real_functions;
}

#endif
