/* The table of numbers, and the descriptors that are not the program's. */
#define POSTERN_PRELOAD_OWN_ITSELF
#include <fcntl.h>
#include <sys/resource.h>

#include "client/preload/own.h"
#include "client/preload/preload.h"

enum {
  PRIVATE_ROOM = 128,  /* numbers at the upper end of the limit that are libpostern's */
  PRIVATE_MOST = 16384 /* not higher: the kernel's table of the process grows with the numbers */
};

uint32_t fd_table[TABLE_SIZE];
pthread_mutex_t preload_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int high;                      /* one more than the highest number ever set */
static uint32_t together[TABLE_SIZE]; /* undecided numbers with the same value, not 0, are dups */
static pid_t owner;

/* ---- entries ---- */

void entry_set(int fd, uint32_t entry) {
  if ((uint32_t)fd >= TABLE_SIZE) return;
  int seen = __atomic_load_n(&high, __ATOMIC_RELAXED);
  while (seen <= fd && !__atomic_compare_exchange_n(&high, &seen, fd + 1, true, __ATOMIC_RELEASE,
                                                    __ATOMIC_RELAXED)) {
    continue;
  }
  __atomic_store_n(&fd_table[fd], entry, __ATOMIC_RELEASE);
}

uint32_t entry_take(int fd) {
  if (entry_of(fd) == 0) return 0;
  if (together[fd] != 0) together[fd] = 0;
  return __atomic_exchange_n(&fd_table[fd], 0, __ATOMIC_ACQ_REL);
}

int entry_high(void) { return __atomic_load_n(&high, __ATOMIC_ACQUIRE); }

void undecided_join(int from, int to) {
  static uint32_t last;
  if (together[from] == 0) together[from] = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
  together[to] = together[from];
}

bool undecided_together(int fd, int other) {
  return fd == other || (together[fd] != 0 && together[fd] == together[other]);
}

/* ---- processes ---- */

static void note_owner(void) { owner = getpid(); }

__attribute__((constructor)) static void begin(void) {
  note_owner();
  pthread_atfork(NULL, NULL, note_owner);
}

bool borrowed_memory(void) { return owner != 0 && getpid() != owner; }

/* ---- libpostern's descriptors ---- */

int own_move(int fd) {
  struct rlimit limit;
  if (fd < 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return fd;
  const int most = limit.rlim_cur < PRIVATE_MOST ? (int)limit.rlim_cur : PRIVATE_MOST;
  const int least = most > 2 * PRIVATE_ROOM ? most - PRIVATE_ROOM : most / 2;
  const int error = errno;
  const int moved = real()->fcntl(fd, F_DUPFD_CLOEXEC, least);
  errno = error;
  if (moved >= 0) real()->close(fd);
  const int now = moved >= 0 ? moved : fd;
  own_mark(now);
  return now;
}

void own_mark(int fd) { entry_set(fd, entry_make(PRIVATE, 0)); }

int own_socket(int domain, int type, int protocol) {
  return own_move(real()->socket(domain, type, protocol));
}

int own_eventfd(unsigned count, int flags) { return own_move(real()->eventfd(count, flags)); }

int own_epoll_create1(int flags) { return own_move(real()->epoll_create1(flags)); }

ssize_t own_recvmsg(int fd, struct msghdr* message, int flags) {
  const ssize_t n = real()->recvmsg(fd, message, flags);
  if (n < 0) return n;
  for (struct cmsghdr* h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    int* fds = (int*)(void*)CMSG_DATA(h);
    const size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) fds[i] = own_move(fds[i]);
  }
  return n;
}

int own_close(int fd) {
  entry_take(fd);
  return real()->close(fd);
}

/* ---- placeholders ---- */

static int model(void) {
  static int fd = -1;
  if (__atomic_load_n(&fd, __ATOMIC_ACQUIRE) >= 0) return fd;
  pthread_mutex_lock(&preload_lock);
  if (fd < 0) {
    __atomic_store_n(&fd, own_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), __ATOMIC_RELEASE);
  }
  pthread_mutex_unlock(&preload_lock);
  return fd;
}

int placeholder(int flags) {
  const int from = model();
  if (from < 0) return -1;
  return real()->fcntl(from, (flags & SOCK_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
}
