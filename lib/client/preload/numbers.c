/* close, dup, fcntl, ioctl: what is done to numbers and descriptors. */
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/preload/preload.h"

/* ---- close ---- */

/* What the number named, without the kernel's part. The number must not be free yet: another thread
 * could be given it. */
static void forget(int fd, uint32_t entry) {
  const int error = errno;
  const enum kind kind = kind_of(entry);
  if (kind == UNDECIDED) epoll_forget(fd);
  if ((is_decided(entry) || kind == UNDECIDED) && value_of(entry) != NO_SOCKET) {
    postern_close(value_of(entry));
  }
  if (kind == EPOLL) epoll_release(value_of(entry));
  errno = error;
}

EXPORT int close(int fd) {
  const uint32_t entry = entry_of(fd);
  if (kind_of(entry) == PRIVATE) return fail(EBADF);
  if (entry != 0 && !borrowed_memory()) forget(fd, entry_take(fd));
  return real()->close(fd);
}

/* Closes, between the libraries' own, which stay. */
static int close_around_ours(unsigned first, unsigned last, int flags) {
  const unsigned high = (unsigned)entry_high();
  unsigned from = first;
  for (unsigned fd = first; fd < high && fd <= last; ++fd) {
    const uint32_t entry = entry_of((int)fd);
    if (kind_of(entry) == PRIVATE) {
      if (fd > from && real()->close_range(from, fd - 1, flags) != 0) return -1;
      from = fd + 1;
    } else if (entry != 0 && !borrowed_memory()) {
      forget((int)fd, entry_take((int)fd));
    }
  }
  return from <= last ? real()->close_range(from, last, flags) : 0;
}

EXPORT int close_range(unsigned first, unsigned last, int flags) {
  const bool nothing_closes = first > last || (flags & ~(int)CLOSE_RANGE_UNSHARE) != 0;
  return nothing_closes ? real()->close_range(first, last, flags)
                        : close_around_ours(first, last, flags);
}

EXPORT void closefrom(int from) { close_range(from < 0 ? 0 : (unsigned)from, ~0U, 0); }

/* ---- dup ---- */

/* The number `to` has become a duplicate of `from`, which named `entry`. Returns `to`, or -1 and
 * closes it. */
static int adopt(int from, int to, uint32_t entry) {
  if (entry == 0 || to < 0 || borrowed_memory()) return to;
  const enum kind kind = kind_of(entry);
  const bool socket = is_decided(entry) || kind == UNDECIDED;
  int value = value_of(entry);
  if (socket && value != NO_SOCKET) value = postern_dup(value);
  if (value < 0 || to >= TABLE_SIZE) {
    const int error = value < 0 ? errno : EMFILE;
    real()->close(to);
    return fail(error);
  }
  if (kind == EPOLL) epoll_hold(value);
  entry_set(to, entry_make(kind, value));
  if (kind == UNDECIDED) undecided_join(from, to);
  return to;
}

EXPORT int dup(int fd) {
  const uint32_t entry = entry_of(fd);
  if (kind_of(entry) == PRIVATE) return fail(EBADF);
  return adopt(fd, real()->dup(fd), entry);
}

static int dup_onto(int from, int to, int flags, bool dup3) {
  const uint32_t entry = entry_of(from);
  const uint32_t old = entry_of(to);
  if (kind_of(entry) == PRIVATE) return fail(EBADF);
  if (kind_of(old) == PRIVATE) return fail(EBUSY);
  if (from == to) return dup3 ? fail(EINVAL) : real()->dup2(from, to);
  const int rc = dup3 ? real()->dup3(from, to, flags) : real()->dup2(from, to);
  if (rc < 0 || borrowed_memory()) return rc;
  if (old != 0) forget(to, entry_take(to));
  return adopt(from, to, entry);
}

EXPORT int dup2(int from, int to) { return dup_onto(from, to, 0, false); }
EXPORT int dup3(int from, int to, int flags) { return dup_onto(from, to, flags, true); }

/* ---- fcntl ---- */

static bool has_socket(uint32_t entry) {
  return (is_decided(entry) || kind_of(entry) == UNDECIDED) && value_of(entry) != NO_SOCKET;
}

/* The placeholder of an accepted socket is one description with many others': it does not tell. */
static int get_flags(int fd, uint32_t entry) {
  const int flags = real()->fcntl(fd, F_GETFL);
  if (flags < 0 || !is_decided(entry)) return flags;
  const bool now =
      is_both(entry) ? kind_of(entry) == BOTH_NOW : postern_get_nonblocking(value_of(entry)) == 1;
  return (flags & ~O_NONBLOCK) | (now ? O_NONBLOCK : 0);
}

static int set_nonblocking(int fd, uint32_t entry, bool on) {
  if (!is_both(entry)) return postern_set_nonblocking(value_of(entry), on);
  both_set_nonblocking(fd, on);
  return 0;
}

static int set_flags(int fd, uint32_t entry, int flags) {
  if ((flags & O_ASYNC) != 0) return fail(EINVAL); /* SIGIO is not served */
  if (set_nonblocking(fd, entry, (flags & O_NONBLOCK) != 0) != 0) return -1;
  return kind_of(entry) == UNDECIDED ? real()->fcntl(fd, F_SETFL, flags) : 0;
}

static int control(int fd, int command, long argument) {
  const uint32_t entry = entry_of(fd);
  if (__builtin_expect(entry == 0, 1)) return real()->fcntl(fd, command, argument);
  if (kind_of(entry) == PRIVATE) return fail(EBADF);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
    return adopt(fd, real()->fcntl(fd, command, argument), entry);
  }
  if (command == F_GETFL) return get_flags(fd, entry);
  if (command == F_SETFL && has_socket(entry)) return set_flags(fd, entry, (int)argument);
  return real()->fcntl(fd, command, argument);
}

EXPORT int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  const long argument = va_arg(list, long); /* or whatever stands there, if there is none */
  va_end(list);
  return control(fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  const long argument = va_arg(list, long);
  va_end(list);
  return control(fd, command, argument);
}

/* ---- ioctl ---- */

static int store_count(int count, void* to) {
  if (count < 0) return -1;
  *(int*)to = count;
  return 0;
}

static int ioctl_socket(int fd, uint32_t entry, unsigned long request, void* argument) {
  const int pd = value_of(entry);
  const bool decided = is_decided(entry);
  switch (request) {
    case FIONBIO:
      if (set_nonblocking(fd, entry, *(const int*)argument != 0) != 0) return -1;
      return decided ? 0 : real()->ioctl(fd, request, argument);
    case FIONREAD: /* SIOCINQ */
      if (decided) return store_count(postern_available(pd), argument);
      break;
    case TIOCOUTQ: /* SIOCOUTQ */
      if (decided) return store_count(postern_unacknowledged(pd), argument);
      break;
    case SIOCATMARK:
      if (decided) return store_count(postern_at_mark(pd), argument);
      break;
    case FIOASYNC:
    case SIOCSPGRP:
    case FIOSETOWN:
      return fail(EINVAL); /* SIGIO is not served */
    default: /* of interfaces and routes: the kernel's; of close-on-exec: the number's */
      break;
  }
  return real()->ioctl(fd, request, argument);
}

EXPORT int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void* argument = va_arg(list, void*);
  va_end(list);
  const uint32_t entry = entry_of(fd);
  return has_socket(entry) ? ioctl_socket(fd, entry, request, argument)
                           : real()->ioctl(fd, request, argument);
}

/* libc's would not come through our ioctl. */
EXPORT int sockatmark(int fd) {
  int mark;
  return ioctl(fd, SIOCATMARK, &mark) < 0 ? -1 : mark;
}
