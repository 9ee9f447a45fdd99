/* Bytes in and out. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "client/preload/preload.h"

/* ---- receive ---- */

EXPORT ssize_t read(int fd, void* data, size_t length) {
  int pd;
  return is_postern(fd, &pd) ? postern_recv(pd, data, length, 0) : real()->read(fd, data, length);
}

EXPORT ssize_t recv(int fd, void* data, size_t length, int flags) {
  int pd;
  return is_postern(fd, &pd) ? postern_recv(pd, data, length, flags)
                             : real()->recv(fd, data, length, flags);
}

EXPORT ssize_t recvfrom(int fd, void* restrict data, size_t length, int flags, __SOCKADDR_ARG name,
                        socklen_t* restrict from_length) {
  struct sockaddr* from = name.__sockaddr__;
  int pd;
  return is_postern(fd, &pd) ? postern_recvfrom(pd, data, length, flags, from, from_length)
                             : real()->recvfrom(fd, data, length, flags, from, from_length);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr* message, int flags) {
  int pd;
  return is_postern(fd, &pd) ? postern_recvmsg(pd, message, flags)
                             : real()->recvmsg(fd, message, flags);
}

static bool bad_vector(int count) { return count < 0 || count > IOV_MAX; }

EXPORT ssize_t readv(int fd, const struct iovec* vec, int count) {
  int pd;
  if (!is_postern(fd, &pd)) return real()->readv(fd, vec, count);
  if (bad_vector(count)) return fail(EINVAL);
  struct msghdr message = {.msg_iov = (struct iovec*)(uintptr_t)vec, .msg_iovlen = (size_t)count};
  return postern_recvmsg(pd, &message, 0);
}

EXPORT int recvmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags,
                    struct timespec* limit) {
  int pd;
  return is_postern(fd, &pd) ? postern_recvmmsg(pd, messages, count, flags, limit)
                             : real()->recvmmsg(fd, messages, count, flags, limit);
}

/* ---- send ---- */

EXPORT ssize_t write(int fd, const void* data, size_t length) {
  int pd;
  return is_postern(fd, &pd) ? postern_send(pd, data, length, 0) : real()->write(fd, data, length);
}

EXPORT ssize_t send(int fd, const void* data, size_t length, int flags) {
  int pd;
  return is_postern(fd, &pd) ? postern_send(pd, data, length, flags)
                             : real()->send(fd, data, length, flags);
}

EXPORT ssize_t sendto(int fd, const void* data, size_t length, int flags, __CONST_SOCKADDR_ARG name,
                      socklen_t to_length) {
  const struct sockaddr* to = name.__sockaddr__;
  int pd;
  if (kind_of(entry_of(fd)) == UNDECIDED && decide(fd, to, to_length, FOR_CONNECT) != 0) return -1;
  return is_postern(fd, &pd) ? postern_sendto(pd, data, length, flags, to, to_length)
                             : real()->sendto(fd, data, length, flags, to, to_length);
}

/* A socket of Postern's cannot be handed to another process: the other end would be given the
 * placeholder. */
static bool passes_postern(const struct msghdr* message) {
  struct msghdr* m = (struct msghdr*)(uintptr_t)message;
  for (struct cmsghdr* h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
      const uint32_t entry = entry_of(fd);
      if (is_decided(entry) || (kind_of(entry) == UNDECIDED && value_of(entry) != NO_SOCKET)) {
        return true;
      }
    }
  }
  return false;
}

static int refuse_to_pass(void) {
  static bool told;
  static const char why[] =
      "postern: a socket that Postern serves cannot be passed to another process (SCM_RIGHTS)\n";
  if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
    (void)!real()->write(STDERR_FILENO, why, sizeof why - 1);
  return fail(EOPNOTSUPP);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
  int pd;
  if (kind_of(entry_of(fd)) == UNDECIDED &&
      decide(fd, message->msg_name, message->msg_namelen, FOR_CONNECT) != 0) {
    return -1;
  }
  if (is_postern(fd, &pd)) return postern_sendmsg(pd, message, flags);
  if (message->msg_controllen != 0 && passes_postern(message)) return refuse_to_pass();
  return real()->sendmsg(fd, message, flags);
}

EXPORT ssize_t writev(int fd, const struct iovec* vec, int count) {
  int pd;
  if (!is_postern(fd, &pd)) return real()->writev(fd, vec, count);
  if (bad_vector(count)) return fail(EINVAL);
  const struct msghdr message = {.msg_iov = (struct iovec*)(uintptr_t)vec,
                                 .msg_iovlen = (size_t)count};
  return postern_sendmsg(pd, &message, 0);
}

static bool any_control(const struct mmsghdr* messages, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    if (messages[i].msg_hdr.msg_controllen != 0) return true;
  }
  return false;
}

EXPORT int sendmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags) {
  int pd;
  const bool undecided = kind_of(entry_of(fd)) == UNDECIDED;
  if (!undecided && !is_postern(fd, &pd) && !any_control(messages, count))
    return real()->sendmmsg(fd, messages, count, flags);
  unsigned done = 0;
  for (; done < count; ++done) {
    const ssize_t n = sendmsg(fd, &messages[done].msg_hdr, flags);
    if (n < 0) break;
    messages[done].msg_len = (unsigned)n;
  }
  return done != 0 || count == 0 ? (int)done : -1;
}

/* ---- files ---- */

enum { PIECE = 64 << 10, SMALL = 4 << 10 };

/* Sends from position `at` of a file, by way of `buffer`. Returns how much; -1 only if nothing. */
static ssize_t send_pieces(int pd, int in, off_t at, size_t count, char* buffer, size_t size) {
  size_t done = 0;
  while (done < count) {
    const size_t wanted = count - done < size ? count - done : size;
    const ssize_t n = pread(in, buffer, wanted, at + (off_t)done);
    if (n <= 0) return n < 0 && done == 0 ? -1 : (ssize_t)done;
    const bool more = done + (size_t)n < count && (size_t)n == wanted;
    const ssize_t sent = postern_send(pd, buffer, (size_t)n, more ? MSG_MORE : 0);
    if (sent < 0) return done == 0 ? -1 : (ssize_t)done;
    done += (size_t)sent;
    if (sent < n) break; /* no room, and the program does not wait */
  }
  return (ssize_t)done;
}

static ssize_t send_small(int pd, int in, off_t at, size_t count) {
  char buffer[SMALL];
  return send_pieces(pd, in, at, count, buffer, sizeof buffer);
}

static ssize_t send_large(int pd, int in, off_t at, size_t count) {
  char* buffer = malloc(PIECE); /* the program's threads may have small stacks */
  if (buffer == NULL) return fail(ENOMEM);
  const ssize_t n = send_pieces(pd, in, at, count, buffer, PIECE);
  free(buffer); /* leaves errno as it is */
  return n;
}

static ssize_t send_file(int pd, int in, off_t* offset, size_t count) {
  const off_t at = offset != NULL ? *offset : lseek(in, 0, SEEK_CUR);
  if (at < 0) return errno == ESPIPE || offset != NULL ? fail(EINVAL) : -1;
  const ssize_t n = count <= SMALL ? send_small(pd, in, at, count) : send_large(pd, in, at, count);
  if (n <= 0) return n;
  if (offset != NULL) {
    *offset = at + n;
  } else {
    lseek(in, at + n, SEEK_SET);
  }
  return n;
}

EXPORT ssize_t sendfile(int out, int in, off_t* offset, size_t count) {
  int pd;
  if (is_postern(in, &pd)) return fail(EINVAL); /* as with the kernel: a socket cannot be mapped */
  return is_postern(out, &pd) ? send_file(pd, in, offset, count)
                              : real()->sendfile(out, in, offset, count);
}

EXPORT ssize_t sendfile64(int out, int in, off_t* offset, size_t count) {
  return sendfile(out, in, offset, count);
}

EXPORT ssize_t splice(int in, off_t* in_offset, int out, off_t* out_offset, size_t length,
                      unsigned flags) {
  int pd;
  if (is_postern(in, &pd) || is_postern(out, &pd)) return fail(EINVAL); /* programs then copy */
  return real()->splice(in, in_offset, out, out_offset, length, flags);
}
