/* A listener on both sides: of Postern's and of the kernel's, under one number. Both are
 * non-blocking; whether the program waits is in the table. */
#include <fcntl.h>
#include <sys/time.h>

#include "client/preload/policy.h"
#include "client/preload/preload.h"

int both_bind(int fd, const struct sockaddr* address, socklen_t length,
              struct sockaddr_storage* bound, socklen_t* bound_length) {
  const uint32_t entry = entry_of(fd);
  const int pd = value_of(entry);
  int type = 0;
  socklen_t size = sizeof type;
  if (kind_of(entry) != POSTERN || !policy_wants_both(policy_get(), address, length)) return 0;
  if (postern_getsockopt(pd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
    return 0;
  if (real()->bind(fd, address, length) != 0) return -1;
  /* The port that the kernel chose, if it was left to choose. */
  if (real()->getsockname(fd, (struct sockaddr*)bound, bound_length) != 0) return -1;
  const bool waits = postern_get_nonblocking(pd) == 0;
  postern_set_nonblocking(pd, 1);
  real()->fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
  entry_set(fd, entry_make(waits ? BOTH : BOTH_NOW, pd));
  return 0;
}

void both_set_nonblocking(int fd, bool on) {
  entry_set(fd, entry_make(on ? BOTH_NOW : BOTH, value_of(entry_of(fd))));
}

static int accept_now(int fd, int pd, struct sockaddr* address, socklen_t* length, int flags) {
  if (!nothing_queued(pd)) {
    const int peer = accept_postern(pd, address, length, flags);
    if (peer >= 0 || errno != EAGAIN) return peer; /* else another thread was faster */
  }
  return real()->accept4(fd, address, length, flags);
}

static int wait_ms(int pd) {
  struct timeval limit = {0};
  socklen_t size = sizeof limit;
  (void)postern_getsockopt(pd, SOL_SOCKET, SO_RCVTIMEO, &limit, &size);
  const int64_t ms = limit.tv_sec * INT64_C(1000) + (limit.tv_usec + 999) / 1000;
  return ms == 0 ? -1 : ms > INT32_MAX ? INT32_MAX : (int)ms;
}

int both_accept(int fd, struct sockaddr* address, socklen_t* length, int flags) {
  const uint32_t entry = entry_of(fd);
  const int pd = value_of(entry);
  for (;;) {
    const int peer = accept_now(fd, pd, address, length, flags);
    if (peer >= 0 || errno != EAGAIN || kind_of(entry) == BOTH_NOW) return peer;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    const int n = poll(&ready, 1, wait_ms(pd));
    if (n < 0) return -1;
    if (n == 0) return fail(EAGAIN);
  }
}
