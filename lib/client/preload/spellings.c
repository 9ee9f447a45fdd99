/* The other names of the calls: fortified, old, and by number. */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/preload/preload.h"

/* ---- fortified: the last argument is the size of the buffer ---- */

static void check(bool fits) {
  if (!fits) abort(); /* as libc: *** buffer overflow detected *** */
}

EXPORT ssize_t __read_chk(int fd, void* data, size_t length, size_t size) {
  check(length <= size);
  return read(fd, data, length);
}

EXPORT ssize_t __recv_chk(int fd, void* data, size_t length, size_t size, int flags) {
  check(length <= size);
  return recv(fd, data, length, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void* data, size_t length, size_t size, int flags,
                              struct sockaddr* from, socklen_t* from_length) {
  check(length <= size);
  return recvfrom(fd, data, length, flags, from, from_length);
}

EXPORT int __poll_chk(struct pollfd* fds, nfds_t count, int timeout, size_t size) {
  check(count <= size / sizeof *fds);
  return poll(fds, count, timeout);
}

EXPORT int __ppoll_chk(struct pollfd* fds, nfds_t count, const struct timespec* timeout,
                       const sigset_t* mask, size_t size) {
  check(count <= size / sizeof *fds);
  return ppoll(fds, count, timeout, mask);
}

/* ---- old names that libc still exports ---- */

EXPORT ssize_t __read(int fd, void* data, size_t length) { return read(fd, data, length); }
EXPORT ssize_t __write(int fd, const void* data, size_t length) { return write(fd, data, length); }
EXPORT int __close(int fd) { return close(fd); }
EXPORT int __dup2(int from, int to) { return dup2(from, to); }
EXPORT int __connect(int fd, const struct sockaddr* address, socklen_t length) {
  return connect(fd, address, length);
}
EXPORT ssize_t __send(int fd, const void* data, size_t length, int flags) {
  return send(fd, data, length, flags);
}
EXPORT int __poll(struct pollfd* fds, nfds_t count, int timeout) {
  return poll(fds, count, timeout);
}
EXPORT int __select(int count, fd_set* r, fd_set* w, fd_set* e, struct timeval* timeout) {
  return select(count, r, w, e, timeout);
}
EXPORT int __fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  const long argument = va_arg(list, long);
  va_end(list);
  return fcntl(fd, command, argument);
}

/* ---- syscall() ---- */

/* Whether the number is one of ours; then *result is what our call returned. The arguments are
 * words, as the kernel takes them. */
#define P(type, i) ((type)(uintptr_t)a[i])
#define CALL(number, call)  \
  case number:              \
    *result = (long)(call); \
    return true

static bool call_socket(long number, const long* a, long* result) {
  switch (number) {
    CALL(SYS_socket, socket((int)a[0], (int)a[1], (int)a[2]));
    CALL(SYS_bind, bind((int)a[0], P(void*, 1), (socklen_t)a[2]));
    CALL(SYS_listen, listen((int)a[0], (int)a[1]));
    CALL(SYS_accept, accept((int)a[0], P(void*, 1), P(void*, 2)));
    CALL(SYS_accept4, accept4((int)a[0], P(void*, 1), P(void*, 2), (int)a[3]));
    CALL(SYS_connect, connect((int)a[0], P(void*, 1), (socklen_t)a[2]));
    CALL(SYS_shutdown, shutdown((int)a[0], (int)a[1]));
    CALL(SYS_getsockname, getsockname((int)a[0], P(void*, 1), P(void*, 2)));
    CALL(SYS_getpeername, getpeername((int)a[0], P(void*, 1), P(void*, 2)));
    CALL(SYS_getsockopt, getsockopt((int)a[0], (int)a[1], (int)a[2], P(void*, 3), P(void*, 4)));
    CALL(SYS_setsockopt, setsockopt((int)a[0], (int)a[1], (int)a[2], P(void*, 3), (socklen_t)a[4]));
    default:
      return false;
  }
}

static bool call_transfer(long number, const long* a, long* result) {
  switch (number) {
    CALL(SYS_read, read((int)a[0], P(void*, 1), (size_t)a[2]));
    CALL(SYS_write, write((int)a[0], P(void*, 1), (size_t)a[2]));
    CALL(SYS_readv, readv((int)a[0], P(void*, 1), (int)a[2]));
    CALL(SYS_writev, writev((int)a[0], P(void*, 1), (int)a[2]));
    CALL(SYS_recvfrom,
         recvfrom((int)a[0], P(void*, 1), (size_t)a[2], (int)a[3], P(void*, 4), P(void*, 5)));
    CALL(SYS_sendto,
         sendto((int)a[0], P(void*, 1), (size_t)a[2], (int)a[3], P(void*, 4), (socklen_t)a[5]));
    CALL(SYS_recvmsg, recvmsg((int)a[0], P(void*, 1), (int)a[2]));
    CALL(SYS_sendmsg, sendmsg((int)a[0], P(void*, 1), (int)a[2]));
    CALL(SYS_recvmmsg, recvmmsg((int)a[0], P(void*, 1), (unsigned)a[2], (int)a[3], P(void*, 4)));
    CALL(SYS_sendmmsg, sendmmsg((int)a[0], P(void*, 1), (unsigned)a[2], (int)a[3]));
    CALL(SYS_sendfile, sendfile((int)a[0], (int)a[1], P(off_t*, 2), (size_t)a[3]));
    default:
      return false;
  }
}

static bool call_number(long number, const long* a, long* result) {
  switch (number) {
    CALL(SYS_execve, execve(P(const char*, 0), P(void*, 1), P(void*, 2)));
    CALL(SYS_execveat, execveat((int)a[0], P(const char*, 1), P(void*, 2), P(void*, 3), (int)a[4]));
    CALL(SYS_close, close((int)a[0]));
    CALL(SYS_close_range, close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]));
    CALL(SYS_dup, dup((int)a[0]));
    CALL(SYS_dup2, dup2((int)a[0], (int)a[1]));
    CALL(SYS_dup3, dup3((int)a[0], (int)a[1], (int)a[2]));
    CALL(SYS_fcntl, fcntl((int)a[0], (int)a[1], a[2]));
    CALL(SYS_ioctl, ioctl((int)a[0], (unsigned long)a[1], P(void*, 2)));
    CALL(SYS_poll, poll(P(void*, 0), (nfds_t)a[1], (int)a[2]));
    CALL(SYS_ppoll, ppoll(P(void*, 0), (nfds_t)a[1], P(void*, 2), P(void*, 3)));
    CALL(SYS_select, select((int)a[0], P(void*, 1), P(void*, 2), P(void*, 3), P(void*, 4)));
    CALL(SYS_epoll_create, epoll_create((int)a[0]));
    CALL(SYS_epoll_create1, epoll_create1((int)a[0]));
    CALL(SYS_epoll_ctl, epoll_ctl((int)a[0], (int)a[1], (int)a[2], P(void*, 3)));
    CALL(SYS_epoll_wait, epoll_wait((int)a[0], P(void*, 1), (int)a[2], (int)a[3]));
    CALL(SYS_epoll_pwait, epoll_pwait((int)a[0], P(void*, 1), (int)a[2], (int)a[3], P(void*, 4)));
    CALL(SYS_epoll_pwait2,
         epoll_pwait2((int)a[0], P(void*, 1), (int)a[2], P(void*, 3), P(void*, 4)));
    default:
      return false;
  }
}

EXPORT long syscall(long number, ...) {
  long a[6], result;
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; ++i) a[i] = va_arg(list, long);
  va_end(list);
  if (call_socket(number, a, &result) || call_transfer(number, a, &result) ||
      call_number(number, a, &result)) {
    return result;
  }
  return real()->syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
