/* select, by way of poll. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/preload/preload.h"

static bool in(int fd, const fd_set* set) { return set != NULL && FD_ISSET(fd, set); }

static bool concerns_us(int count, const fd_set* r, const fd_set* w, const fd_set* e) {
  const int high = entry_high() < count ? entry_high() : count;
  for (int fd = 0; fd < high; ++fd) {
    const uint32_t entry = entry_of(fd);
    if ((is_decided(entry) || kind_of(entry) == EPOLL) && (in(fd, r) || in(fd, w) || in(fd, e)))
      return true;
  }
  return false;
}

static nfds_t to_poll(int count, const fd_set* r, const fd_set* w, const fd_set* e,
                      struct pollfd* fds) {
  nfds_t n = 0;
  for (int fd = 0; fd < count; ++fd) {
    const short events =
        (short)((in(fd, r) ? POLLIN : 0) | (in(fd, w) ? POLLOUT : 0) | (in(fd, e) ? POLLPRI : 0));
    if (events != 0) fds[n++] = (struct pollfd){.fd = fd, .events = events};
  }
  return n;
}

static int leave(int fd, fd_set* set, bool on) {
  if (!in(fd, set)) return 0;
  if (on) return 1;
  FD_CLR(fd, set);
  return 0;
}

/* Leaves in the sets what is ready. -1, EBADF: one is not open. */
static int from_poll(fd_set* r, fd_set* w, fd_set* e, const struct pollfd* fds, nfds_t n) {
  int ready = 0;
  for (nfds_t i = 0; i < n; ++i) {
    if ((fds[i].revents & POLLNVAL) != 0) return fail(EBADF);
  }
  for (nfds_t i = 0; i < n; ++i) {
    const int fd = fds[i].fd, what = fds[i].revents;
    ready += leave(fd, r, (what & (POLLIN | POLLHUP | POLLERR)) != 0);
    ready += leave(fd, w, (what & (POLLOUT | POLLERR)) != 0);
    ready += leave(fd, e, (what & POLLPRI) != 0);
  }
  return ready;
}

static int select_by_poll(int count, fd_set* r, fd_set* w, fd_set* e,
                          const struct timespec* timeout, const sigset_t* mask) {
  struct pollfd* fds = malloc((size_t)count * sizeof *fds);
  if (fds == NULL) return fail(ENOMEM);
  const nfds_t n = to_poll(count, r, w, e, fds);
  int ready = ppoll(fds, n, timeout, mask);
  if (ready >= 0) ready = from_poll(r, w, e, fds, n);
  free(fds);
  return ready;
}

EXPORT int pselect(int count, fd_set* r, fd_set* w, fd_set* e, const struct timespec* timeout,
                   const sigset_t* mask) {
  return concerns_us(count, r, w, e) ? select_by_poll(count, r, w, e, timeout, mask)
                                     : real()->pselect(count, r, w, e, timeout, mask);
}

/* As on Linux, `timeout` is left with what remains of it. */
EXPORT int select(int count, fd_set* r, fd_set* w, fd_set* e, struct timeval* timeout) {
  if (!concerns_us(count, r, w, e)) return real()->select(count, r, w, e, timeout);
  if (timeout == NULL) return select_by_poll(count, r, w, e, NULL, NULL);
  if (timeout->tv_sec < 0 || timeout->tv_usec < 0) return fail(EINVAL);
  struct timespec left = {.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000,
                          .tv_nsec = timeout->tv_usec % 1000000 * 1000};
  const int64_t deadline = clock_ns() + left.tv_sec * INT64_C(1000000000) + left.tv_nsec;
  const int ready = select_by_poll(count, r, w, e, &left, NULL);
  time_left(deadline, &left);
  *timeout = (struct timeval){.tv_sec = left.tv_sec, .tv_usec = left.tv_nsec / 1000};
  return ready;
}
