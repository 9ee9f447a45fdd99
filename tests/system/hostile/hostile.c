/* A client that breaks the contract of the shared memory in every way that it can.
 *
 * Each round attaches as any application does, does some honest work (so that sockets, extents and
 * chunks exist), and then writes random and boundary values to every word that it can write:
 * command entries, ring indices, armed words, connect requests, datagram headers, the header and
 * region table of its own segment, its transmit memory while it is being sent, its ends of the
 * doorbells (full, blocking, emptied behind the worker's back), and nonsense on the session socket.
 * The round ends when the daemon evicts it, or after a while by dying with everything open.
 *
 * It needs nothing of libpostern, so that no check there stands between it and the daemon. The same
 * seed does the same. Exit status: 0 if every attachment succeeded and at least one round was
 * evicted. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "abi/shmsock.h"

enum { MAX_FDS = 2 + 2 * SHM_MAX_CHANNELS, ACTIONS = 400, HONEST = 40, PATIENCE_MS = 300 };

/* ---- randomness: splitmix64 ---- */

static uint64_t rng;

static uint64_t random64(void) {
  uint64_t z = (rng += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static uint32_t below(uint32_t n) { return (uint32_t)(random64() % n); }

/* A value that programmers forget, or any. */
static uint64_t nasty(uint64_t limit) {
  const uint64_t boundary[] = {0,
                               1,
                               7,
                               limit - 1,
                               limit,
                               limit + 1,
                               UINT16_MAX,
                               INT32_MAX,
                               (uint64_t)INT32_MAX + 1,
                               UINT32_MAX,
                               (uint64_t)UINT32_MAX + 1,
                               INT64_MAX,
                               UINT64_MAX - 1,
                               UINT64_MAX};
  const uint32_t n = sizeof boundary / sizeof boundary[0];
  return below(4) == 0 ? random64() : boundary[below(n)];
}

/* ---- attachment ---- */

struct attachment {
  int session;
  int fds[MAX_FDS];
  int fd_count;
  const unsigned char* daemon;
  unsigned char* client;
  uint64_t daemon_size, client_size;
  struct shm_header geometry;
  struct shm_command* commands;
  struct shm_channel_client* control;
  struct shm_request* requests;
  unsigned char* tx;
  uint64_t tx_size;
  uint32_t channel; /* of which the maps below are */
  uint32_t next_command;
};

static int connect_session(const char* path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr*)&to, sizeof to) == 0) return fd;
  perror("hostile: connect");
  exit(2);
}

static int take_descriptors(struct msghdr* m, int* fds) {
  int n = 0;
  for (struct cmsghdr* h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    const int here = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds + n, CMSG_DATA(h), (size_t)here * sizeof(int));
    n += here;
  }
  return n;
}

/* errno value of the daemon's answer. */
static int try_attach(struct attachment* a, const char* path, struct shm_attach_reply* reply) {
  a->session = connect_session(path);
  const struct shm_attach_request request = {.type = SHM_REQ_ATTACH,
                                             .magic = SHM_MAGIC,
                                             .version_major = SHM_VERSION_MAJOR,
                                             .version_minor = SHM_VERSION_MINOR,
                                             .name = "hostile"};
  if (send(a->session, &request, sizeof request, MSG_NOSIGNAL) < 0) return errno;
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
  } control;
  struct iovec iov = {.iov_base = reply, .iov_len = sizeof *reply};
  struct msghdr m = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  const ssize_t n = recvmsg(a->session, &m, 0);
  a->fd_count = n > 0 ? take_descriptors(&m, a->fds) : 0;
  if (n != (ssize_t)sizeof *reply) return ECONNRESET;
  return (int)reply->error;
}

static void* region(const struct attachment* a, unsigned char* segment, uint32_t kind,
                    uint64_t* size) {
  const struct shm_header* h = (const void*)segment;
  const struct shm_region* r = (const void*)(segment + h->regions_offset);
  for (uint32_t i = 0; i < h->region_count; ++i) {
    if (r[i].kind != kind || r[i].channel != a->channel) continue;
    if (size != NULL) *size = r[i].size;
    return segment + r[i].offset;
  }
  fprintf(stderr, "hostile: no region %u in %u channels\n", kind, a->geometry.channel_count);
  exit(2);
}

static void attach(struct attachment* a, const char* path) {
  memset(a, 0, sizeof *a);
  struct shm_attach_reply reply;
  int error = EAGAIN;
  for (int tries = 0; tries < 500 && error == EAGAIN; ++tries) {
    error = try_attach(a, path, &reply);
    if (error != EAGAIN) break;
    close(a->session); /* the last one is still being cleared away */
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  if (error != 0) {
    fprintf(stderr, "hostile: attach: %s: %.*s\n", strerror(error), (int)sizeof reply.message,
            reply.message);
    exit(2);
  }
  a->daemon_size = reply.daemon_segment_size;
  a->client_size = reply.client_segment_size;
  if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, a->fds[0], 0) != MAP_FAILED) {
    fprintf(stderr, "hostile: the daemon's segment can be mapped for writing\n");
    exit(1);
  }
  a->daemon = mmap(NULL, a->daemon_size, PROT_READ, MAP_SHARED, a->fds[0], 0);
  a->client = mmap(NULL, a->client_size, PROT_READ | PROT_WRITE, MAP_SHARED, a->fds[1], 0);
  if (a->daemon == MAP_FAILED || a->client == MAP_FAILED) {
    perror("hostile: mmap");
    exit(2);
  }
  if (ftruncate(a->fds[1], 4096) == 0 || write(a->fds[0], "x", 1) == 1) {
    fprintf(stderr, "hostile: a segment is not sealed\n");
    exit(1);
  }
  memcpy(&a->geometry, a->client, sizeof a->geometry);
  a->channel = below(a->geometry.channel_count);
  a->commands = region(a, a->client, SHM_REGION_COMMAND_RING, NULL);
  a->control = region(a, a->client, SHM_REGION_CHANNEL_CLIENT, NULL);
  a->requests = region(a, a->client, SHM_REGION_REQUESTS, NULL);
  a->tx = region(a, a->client, SHM_REGION_TX_POOL, &a->tx_size);
}

static void die(struct attachment* a) {
  close(a->session);
  for (int i = 0; i < a->fd_count; ++i) close(a->fds[i]);
  munmap((void*)(uintptr_t)a->daemon, a->daemon_size);
  munmap(a->client, a->client_size);
}

static bool evicted(const struct attachment* a, int patience_ms) {
  struct pollfd p = {.fd = a->session, .events = POLLIN};
  for (;;) {
    if (poll(&p, 1, patience_ms) <= 0) return false;
    char rest[1024];
    if (recv(a->session, rest, sizeof rest, MSG_DONTWAIT) <= 0) return true;
  }
}

static int worker_bell(const struct attachment* a) { return a->fds[2 + 2 * a->channel]; }

static void ring_worker(const struct attachment* a) {
  fcntl(worker_bell(a), F_SETFL, O_RDWR | O_NONBLOCK);
  (void)!write(worker_bell(a), &(uint64_t){1}, 8);
}

/* If the daemon's ends were not open file descriptions of their own, its next read or write of a
 * doorbell would block. */
static void attack_doorbell(const struct attachment* a) {
  const int fd = a->fds[2 + 2 * a->channel + below(2)];
  char junk[4096];
  memset(junk, 0xff, sizeof junk);
  fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
  if (below(2) == 0) {
    while (write(fd, junk, 1 + below(sizeof junk)) > 0) continue;
  } else {
    while (read(fd, junk, sizeof junk) > 0) continue;
  }
  fcntl(fd, F_SETFL, below(2) == 0 ? O_RDWR : O_RDWR | O_ASYNC);
}

/* ---- commands ---- */

static void push(struct attachment* a, struct shm_command c) {
  struct shm_command* e = a->commands + (a->next_command & (a->geometry.command_entries - 1));
  const uint32_t seq = ++a->next_command;
  memcpy((char*)e + sizeof c.seq, (const char*)&c + sizeof c.seq, sizeof c - sizeof c.seq);
  __atomic_store_n(&e->seq, seq, __ATOMIC_RELEASE);
}

static uint32_t some_slot(const struct attachment* a) { return below(a->geometry.client_slots); }

static void fill_request(struct attachment* a, uint32_t slot) {
  struct shm_request* r = a->requests + slot;
  memset(r, 0, sizeof *r);
  const uint8_t remote[16] = {0, 0, 0,    0,    0,   0, 0, 0,
                              0, 0, 0xff, 0xff, 192, 0, 2, (uint8_t)below(255)};
  memcpy(r->remote_address, remote, sizeof remote);
  r->remote_port = (uint16_t)(1 + below(65535));
}

static void honest_work(struct attachment* a) {
  for (int i = 0; i < HONEST; ++i) {
    const uint32_t slot = some_slot(a), generation = 1 + below(1000);
    const uint32_t length = 1 + below(65536);
    const uint64_t offset = random64() % (a->tx_size - length) / 64 * 64;
    fill_request(a, slot);
    push(a, (struct shm_command){
                .op = SHM_OP_OPEN, .arg = IPPROTO_TCP, .slot = slot, .generation = generation});
    push(a, (struct shm_command){.op = SHM_OP_CONNECT, .slot = slot, .generation = generation});
    push(a, (struct shm_command){.op = SHM_OP_SEND,
                                 .slot = slot,
                                 .generation = generation,
                                 .length = length,
                                 .offset = offset});
    if (below(2) == 0) {
      push(a, (struct shm_command){.op = SHM_OP_CLOSE,
                                   .arg = (uint16_t)below(2),
                                   .slot = slot,
                                   .generation = generation});
    }
  }
}

/* An honest command with one field, or all, made nasty. */
static struct shm_command nasty_command(struct attachment* a) {
  struct shm_command c = {.op = (uint8_t)(1 + below(9)),
                          .slot = some_slot(a),
                          .generation = 1 + below(1000),
                          .length = 1 + below(4096),
                          .offset = random64() % a->tx_size / 8 * 8};
  switch (below(8)) {
    case 0:
      c.op = (uint8_t)nasty(10);
      break;
    case 1:
      c.slot = (uint32_t)nasty(a->geometry.slots);
      break;
    case 2:
      c.generation = (uint32_t)nasty(1);
      break;
    case 3:
      c.length = (uint32_t)nasty(SHM_MAX_OUTSTANDING);
      break;
    case 4:
      c.offset = nasty(a->tx_size);
      break;
    case 5:
      c.arg = (uint16_t)nasty(16);
      break;
    case 6:
      c.rx_head = (uint32_t)nasty(65536);
      break;
    default:
      for (size_t i = 0; i < sizeof c; ++i) ((unsigned char*)&c)[i] = (unsigned char)random64();
  }
  return c;
}

static void scribble(struct attachment* a, void* at, size_t size) {
  (void)a;
  const size_t word = below((uint32_t)(size / 4)) * (size_t)4;
  const uint32_t value = (uint32_t)nasty(a->geometry.slots);
  memcpy((char*)at + word, &value, sizeof value);
}

/* ---- the session socket ---- */

static void nasty_request(struct attachment* a) {
  struct shm_bind_request r;
  for (size_t i = 0; i < sizeof r; ++i) ((unsigned char*)&r)[i] = (unsigned char)random64();
  r.type = below(3) == 0 ? (uint32_t)nasty(4) : SHM_REQ_BIND + below(3);
  if (below(2) == 0) {
    memset(r.address, 0, sizeof r.address);
    r.protocol = below(2) == 0 ? IPPROTO_TCP : IPPROTO_UDP;
    r.port = (uint16_t)(below(2) == 0 ? 7 : 0);
    r.is_v6 = 0;
    r.flags = 0;
    r.handles[0] = (struct shm_handle){(uint32_t)nasty(a->geometry.slots), (uint32_t)nasty(1)};
  }
  const size_t length = below(4) == 0 ? below(sizeof r) : sizeof r;
  (void)!send(a->session, &r, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- one blow ---- */

static void strike(struct attachment* a) {
  switch (below(11)) {
    case 0:
    case 1:
    case 2:
      push(a, nasty_command(a));
      break;
    case 3:
      scribble(a, a->commands, a->geometry.command_entries * sizeof *a->commands);
      break;
    case 4:
      __atomic_store_n(&a->control->event_head, (uint32_t)nasty(4096), __ATOMIC_RELAXED);
      break;
    case 5:
      __atomic_store_n(&a->control->armed, (uint32_t)random64(), __ATOMIC_RELAXED);
      break;
    case 6:
      scribble(a, a->requests, a->geometry.client_slots * sizeof *a->requests);
      break;
    case 7:
      scribble(a, a->client, 4096);
      break; /* header and region table */
    case 8:
      scribble(a, a->tx, a->tx_size);
      break;
    case 9:
      attack_doorbell(a);
      break;
    default:
      nasty_request(a);
  }
  if (below(16) == 0) ring_worker(a);
}

static bool one_round(const char* path) {
  struct attachment a;
  attach(&a, path);
  if (below(4) != 0) honest_work(&a);
  ring_worker(&a);
  bool gone = false;
  const uint32_t blows = 1 + below(ACTIONS);
  for (uint32_t i = 0; i < blows && !gone; ++i) {
    strike(&a);
    if (below(32) == 0) gone = evicted(&a, (int)below(3));
  }
  ring_worker(&a);
  gone = gone || evicted(&a, PATIENCE_MS);
  die(&a);
  return gone;
}

int main(int argc, char** argv) {
  const char* path = SHM_DEFAULT_SOCKET_PATH;
  unsigned long seed = 1, rounds = 20;
  static const struct option known[] = {{"socket", required_argument, NULL, 's'},
                                        {"seed", required_argument, NULL, 'e'},
                                        {"rounds", required_argument, NULL, 'r'},
                                        {NULL, 0, NULL, 0}};
  for (int o; (o = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (o == 's')
      path = optarg;
    else if (o == 'e')
      seed = strtoul(optarg, NULL, 0);
    else if (o == 'r')
      rounds = strtoul(optarg, NULL, 0);
    else {
      fprintf(stderr, "usage: hostile [--socket PATH] [--seed N] [--rounds N]\n");
      return 2;
    }
  }
  unsigned long evictions = 0;
  for (unsigned long i = 0; i < rounds; ++i) {
    rng = seed * UINT64_C(1000003) + i;
    evictions += one_round(path);
  }
  printf("%lu attachments, %lu evictions\n", rounds, evictions);
  return evictions > 0 ? 0 : 1;
}
