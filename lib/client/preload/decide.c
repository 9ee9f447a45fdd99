/* The first address decides whose an undecided socket is. */
#include <netinet/in.h>

#include "client/preload/policy.h"
#include "client/preload/preload.h"

/* One number of the socket. Under preload_lock. */
static void become(int fd, bool kernel) {
  const uint32_t entry = entry_of(fd);
  if (kernel) {
    entry_take(fd);
    epoll_forget(fd);
    if (value_of(entry) != NO_SOCKET) postern_close(value_of(entry));
  } else {
    entry_set(fd, entry_make(POSTERN, value_of(entry)));
    epoll_follow(fd, value_of(entry));
  }
}

static void become_all(int fd, bool kernel) {
  const int high = entry_high();
  for (int other = 0; other < high; ++other) {
    if (other == fd || kind_of(entry_of(other)) != UNDECIDED) continue;
    if (undecided_together(fd, other)) become(other, kernel);
  }
  become(fd, kernel);
}

/* There was no daemon when the socket was made, or no slot left for it. */
static int why_no_socket(void) {
  if (!attached()) return ENETDOWN;
  const int pd = postern_socket(AF_INET, SOCK_STREAM, 0);
  if (pd < 0) return errno == ECONNABORTED ? ENETDOWN : errno;
  postern_close(pd);
  return ENOBUFS;
}

static int settle(int fd, bool kernel) {
  int rc = 0;
  pthread_mutex_lock(&preload_lock);
  if (kind_of(entry_of(fd)) == UNDECIDED) {
    if (!kernel && value_of(entry_of(fd)) == NO_SOCKET) rc = fail(why_no_socket());
    if (rc == 0) become_all(fd, kernel);
  }
  pthread_mutex_unlock(&preload_lock);
  return rc;
}

int decide(int fd, const struct sockaddr* address, socklen_t length, enum use use) {
  if (address == NULL || length < sizeof address->sa_family) return 0;
  return settle(fd, policy_is_kernel(policy_get(), address, length, use == FOR_CONNECT));
}

int decide_unbound(int fd) { return settle(fd, false); }
