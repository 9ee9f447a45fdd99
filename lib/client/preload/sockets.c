/* Life of a socket, names and options. */
#include <fcntl.h>
#include <unistd.h>

#include "client/groups.h"
#include "client/preload/policy.h"
#include "client/preload/preload.h"

EXPORT int socket(int domain, int type, int protocol) {
  const int fd = real()->socket(domain, type, protocol);
  if (fd < 0 || fd >= TABLE_SIZE || borrowed_memory()) return fd;
  if (!policy_covers(policy_get(), domain, type, protocol)) return fd;
  const int error = errno;
  const int pd = attached() ? postern_socket(domain, type, protocol) : -1;
  errno = error;
  entry_set(fd, entry_make(UNDECIDED, pd >= 0 ? pd : NO_SOCKET));
  return fd;
}

EXPORT int bind(int fd, __CONST_SOCKADDR_ARG to, socklen_t length) {
  const struct sockaddr* address = to.__sockaddr__;
  int pd;
  if (kind_of(entry_of(fd)) == UNDECIDED && decide(fd, address, length, FOR_BIND) != 0) return -1;
  if (!is_postern(fd, &pd)) return real()->bind(fd, address, length);
  struct sockaddr_storage bound;
  socklen_t bound_length = sizeof bound;
  if (both_bind(fd, address, length, &bound, &bound_length) != 0) return -1;
  return is_both(entry_of(fd)) ? postern_bind(pd, (struct sockaddr*)&bound, bound_length)
                               : postern_bind(pd, address, length);
}

EXPORT int listen(int fd, int backlog) {
  int pd;
  if (kind_of(entry_of(fd)) == UNDECIDED && decide_unbound(fd) != 0) return -1;
  if (!is_postern(fd, &pd)) return real()->listen(fd, backlog);
  if (postern_listen(pd, backlog) != 0) return -1;
  return is_both(entry_of(fd)) ? real()->listen(fd, backlog) : 0;
}

/* ---- accept ---- */

bool nothing_queued(int listener) {
  struct postern_pollfd look = {.fd = listener, .events = POLLIN};
  return postern_poll(&look, 1, 0) == 0;
}

int accept_postern(int listener, struct sockaddr* address, socklen_t* length, int flags) {
  /* Worth finding out before a number is taken, if the program does not wait. */
  if (postern_get_nonblocking(listener) == 1 && nothing_queued(listener)) return fail(EAGAIN);
  const int fd = placeholder(flags); /* first: what was accepted could not be put back */
  if (fd < 0) return -1;
  const int pd = postern_accept4(listener, address, length, flags);
  if (pd >= 0 && fd < TABLE_SIZE) {
    entry_set(fd, entry_make(POSTERN, pd));
    return fd;
  }
  const int error = pd >= 0 ? EMFILE : errno;
  if (pd >= 0) postern_close(pd);
  real()->close(fd);
  return fail(error);
}

EXPORT int accept4(int fd, __SOCKADDR_ARG from, socklen_t* length, int flags) {
  struct sockaddr* address = from.__sockaddr__;
  int pd;
  if (is_both(entry_of(fd))) return both_accept(fd, address, length, flags);
  return is_postern(fd, &pd) ? accept_postern(pd, address, length, flags)
                             : real()->accept4(fd, address, length, flags);
}

EXPORT int accept(int fd, __SOCKADDR_ARG from, socklen_t* length) {
  return accept4(fd, from, length, 0);
}

/* ---- connect, shutdown ---- */

EXPORT int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t length) {
  const struct sockaddr* address = to.__sockaddr__;
  int pd;
  if (kind_of(entry_of(fd)) == UNDECIDED) {
    const bool nowhere = address != NULL && length >= sizeof address->sa_family &&
                         address->sa_family == AF_UNSPEC; /* decides nothing */
    if (nowhere) return real()->connect(fd, address, length);
    if (decide(fd, address, length, FOR_CONNECT) != 0) return -1;
  }
  return is_postern(fd, &pd) ? postern_connect(pd, address, length)
                             : real()->connect(fd, address, length);
}

EXPORT int shutdown(int fd, int how) {
  int pd;
  if (is_both(entry_of(fd))) real()->shutdown(fd, how);
  return is_postern(fd, &pd) ? postern_shutdown(pd, how) : real()->shutdown(fd, how);
}

/* ---- names ---- */

EXPORT int getsockname(int fd, __SOCKADDR_ARG to, socklen_t* length) {
  struct sockaddr* address = to.__sockaddr__;
  int pd;
  return is_postern(fd, &pd) ? postern_getsockname(pd, address, length)
                             : real()->getsockname(fd, address, length);
}

EXPORT int getpeername(int fd, __SOCKADDR_ARG to, socklen_t* length) {
  struct sockaddr* address = to.__sockaddr__;
  int pd;
  return is_postern(fd, &pd) ? postern_getpeername(pd, address, length)
                             : real()->getpeername(fd, address, length);
}

/* ---- options ---- */

EXPORT int getsockopt(int fd, int level, int option, void* value, socklen_t* length) {
  const uint32_t entry = entry_of(fd);
  const bool undecided = kind_of(entry) == UNDECIDED && value_of(entry) != NO_SOCKET;
  return undecided || is_decided(entry)
             ? postern_getsockopt(value_of(entry), level, option, value, length)
             : real()->getsockopt(fd, level, option, value, length);
}

/* Before it is decided a socket takes an option only if both kinds of sockets do; and so does one
 * that is both. */
EXPORT int setsockopt(int fd, int level, int option, const void* value, socklen_t length) {
  const uint32_t entry = entry_of(fd);
  if (kind_of(entry) == POSTERN) {
    return postern_setsockopt(value_of(entry), level, option, value, length);
  }
  const bool has_both = kind_of(entry) == UNDECIDED || is_both(entry);
  if (has_both && value_of(entry) != NO_SOCKET) {
    if (postern_setsockopt(value_of(entry), level, option, value, length) != 0) return -1;
    /* The interfaces that it may name are Postern's. */
    if (group_is_membership(level, option)) {
      (void)real()->setsockopt(fd, level, option, value, length);
      return 0;
    }
  }
  return real()->setsockopt(fd, level, option, value, length);
}
