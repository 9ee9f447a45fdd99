/* The Linux kernel's own stack, both families, measured as loadgen measures Postern: an echo server
 * and a request-response client over epoll, both spinning, so that no wake-up is in the figures.
 *
 *   kernel_echo serve PORT                       TCP and UDP
 *   kernel_echo tcp|udp HOST PORT [options]      prints the JSON that loadgen prints
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 64, LARGEST = 65536, SUB_BITS = 6, BUCKETS = (64 - SUB_BITS + 1) << SUB_BITS };

static volatile sig_atomic_t stopped;
static char buffer[LARGEST];

static void on_signal(int number) {
  (void)number;
  stopped = 1;
}

_Noreturn static void fail(const char* what) {
  perror(what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void watch(int epoll, int fd, uint64_t data) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

static void allow_many_files(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- server ---- */

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static int open_server(int family, uint16_t port, int type) {
  const int fd = socket(family, type | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  union address at = {.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
  socklen_t length = sizeof at.v4;
  if (family == AF_INET6) {
    at.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    length = sizeof at.v6;
  }
  if (fd < 0 || bind(fd, &at.any, length) != 0) fail("bind");
  if (type == SOCK_STREAM && listen(fd, 4096) != 0) fail("listen");
  return fd;
}

static void accept_all(int epoll, int listener) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(epoll, fd, (uint64_t)fd);
  }
}

static struct mmsghdr messages[BURST];

static void prepare_messages(void) {
  enum { DATAGRAM = LARGEST + 1088 }; /* not a power of two: they share the cache's sets */
  static char bytes[BURST][DATAGRAM];
  static struct iovec parts[BURST];
  static union address peers[BURST];
  for (int i = 0; i < BURST; i++) {
    parts[i] = (struct iovec){bytes[i], DATAGRAM};
    messages[i].msg_hdr = (struct msghdr){.msg_name = &peers[i],
                                          .msg_namelen = sizeof peers[i],
                                          .msg_iov = &parts[i],
                                          .msg_iovlen = 1};
  }
}

static void echo_datagrams(int fd) {
  const int n = recvmmsg(fd, messages, BURST, MSG_DONTWAIT, NULL);
  if (n <= 0) return;
  for (int i = 0; i < n; i++) messages[i].msg_hdr.msg_iov->iov_len = messages[i].msg_len;
  sendmmsg(fd, messages, (unsigned)n, MSG_DONTWAIT);
  prepare_messages();
}

/* Request and response: an answer that does not fit the socket buffer ends the connection. */
static void echo_stream(int fd) {
  const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0 || send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n) close(fd);
}

static int serve(uint16_t port) {
  const int epoll = epoll_create1(0);
  prepare_messages();
  const int listeners[] = {open_server(AF_INET, port, SOCK_STREAM),
                           open_server(AF_INET6, port, SOCK_STREAM)};
  const int datagrams[] = {open_server(AF_INET, port, SOCK_DGRAM),
                           open_server(AF_INET6, port, SOCK_DGRAM)};
  for (int i = 0; i < 2; i++) {
    watch(epoll, listeners[i], (uint64_t)listeners[i]);
    watch(epoll, datagrams[i], (uint64_t)datagrams[i]);
  }
  while (!stopped) {
    struct epoll_event events[BURST];
    const int n = epoll_wait(epoll, events, BURST, 0);
    for (int i = 0; i < n; i++) {
      const int fd = (int)events[i].data.u64;
      if (fd == listeners[0] || fd == listeners[1]) {
        accept_all(epoll, fd);
      } else if (fd == datagrams[0] || fd == datagrams[1]) {
        echo_datagrams(fd);
      } else {
        echo_stream(fd);
      }
    }
  }
  return 0;
}

/* ---- client ---- */

struct client {
  bool tcp;
  union address peer;
  uint32_t connections, size, window; /* window: UDP requests outstanding a socket */
  double warmup, duration;
};

struct flow {
  int fd;
  uint64_t sent_at; /* TCP */
  uint32_t received;
};

static struct {
  bool measuring;
  uint64_t completed, max, sum;
  uint64_t buckets[BUCKETS]; /* log-linear, 64 to the power of two */
} results;

static void record(uint64_t ns) {
  results.completed++;
  if (!results.measuring) return;
  unsigned shift = 0;
  if (ns >> SUB_BITS != 0) shift = (unsigned)(63 - __builtin_clzll(ns)) - SUB_BITS;
  results.buckets[((size_t)shift << SUB_BITS) + (ns >> shift)]++;
  results.sum += ns;
  if (ns > results.max) results.max = ns;
}

static double quantile_us(double fraction) {
  const double rank = fraction * (double)results.completed;
  uint64_t seen = 0;
  for (size_t i = 0; i < BUCKETS; i++) {
    seen += results.buckets[i];
    if (seen == 0 || (double)seen < rank) continue;
    const unsigned shift = i >> SUB_BITS == 0 ? 0 : (unsigned)(i >> SUB_BITS) - 1;
    const uint64_t value = ((i - ((uint64_t)shift << SUB_BITS)) + 1) << shift;
    return (double)(value < results.max ? value : results.max) * 1e-3;
  }
  return 0;
}

/* A datagram begins with the moment at which it was sent. */
static void send_request(const struct client* c, struct flow* f) {
  const uint64_t now = now_ns();
  f->sent_at = now;
  f->received = 0;
  memcpy(buffer, &now, c->size < sizeof now ? c->size : sizeof now);
  const ssize_t n = send(f->fd, buffer, c->size, MSG_NOSIGNAL);
  if (n != (ssize_t)c->size && c->tcp) fail("send");
}

static void on_answer(const struct client* c, struct flow* f) {
  for (int i = 0; i < BURST; i++) {
    const ssize_t n = recv(f->fd, buffer, c->tcp ? c->size - f->received : sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) fail("the server hung up");
    f->received += (uint32_t)n;
    if (c->tcp && f->received < c->size) continue;
    if (!c->tcp) memcpy(&f->sent_at, buffer, sizeof f->sent_at);
    record(now_ns() - f->sent_at);
    send_request(c, f);
    if (c->tcp) return;
  }
}

static struct flow* open_flows(const struct client* c, int epoll) {
  struct flow* flows = calloc(c->connections, sizeof *flows);
  if (flows == NULL) fail("no memory");
  for (uint32_t i = 0; i < c->connections; i++) {
    const int fd = socket(c->peer.any.sa_family, c->tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    const socklen_t length =
        c->peer.any.sa_family == AF_INET6 ? sizeof c->peer.v6 : sizeof c->peer.v4;
    if (fd < 0 || connect(fd, &c->peer.any, length) != 0) fail("connect");
    const int on = 1;
    if (c->tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    flows[i].fd = fd;
    watch(epoll, fd, i);
  }
  return flows;
}

static void turn_for(const struct client* c, struct flow* flows, int epoll, double seconds) {
  const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
  uint64_t heard = now_ns();
  for (uint64_t now; !stopped && (now = now_ns()) < end;) {
    struct epoll_event events[BURST];
    const int n = epoll_wait(epoll, events, BURST, 0);
    for (int i = 0; i < n; i++) on_answer(c, &flows[events[i].data.u64]);
    if (n > 0) heard = now;
    if (!c->tcp && now - heard > 50000000) { /* all datagrams were lost: begin again */
      for (uint32_t i = 0; i < c->connections; i++) send_request(c, &flows[i]);
      heard = now;
    }
  }
}

static int run_client(const struct client* c) {
  const int epoll = epoll_create1(0);
  struct flow* flows = open_flows(c, epoll);
  for (uint32_t i = 0; i < c->connections; i++) {
    for (uint32_t k = 0; k < (c->tcp ? 1 : c->window); k++) send_request(c, &flows[i]);
  }
  turn_for(c, flows, epoll, c->warmup);
  results.completed = 0;
  results.measuring = true;
  const uint64_t start = now_ns();
  turn_for(c, flows, epoll, c->duration);
  const double seconds = (double)(now_ns() - start) * 1e-9;
  printf(
      "{\"mode\":\"kernel-%s\",\"connections\":%u,\"size\":%u,\"window\":%u,\"seconds\":%.6f,"
      "\"completed\":%llu,\"rate\":%.3f,\"latency_us\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,"
      "\"p99.9\":%.3f,\"max\":%.3f,\"mean\":%.3f}}\n",
      c->tcp ? "tcp" : "udp", c->connections, c->size, c->window, seconds,
      (unsigned long long)results.completed, (double)results.completed / seconds, quantile_us(0.5),
      quantile_us(0.9), quantile_us(0.99), quantile_us(0.999), (double)results.max * 1e-3,
      (double)results.sum / (double)results.completed * 1e-3);
  free(flows);
  return 0;
}

static bool parse_peer(const char* text, uint16_t port, union address* out) {
  *out = (union address){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};
  if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) return true;
  *out = (union address){.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
  return inet_pton(AF_INET, text, &out->v4.sin_addr) == 1;
}

static int usage(void) {
  fprintf(stderr,
          "usage: kernel_echo serve PORT\n"
          "       kernel_echo tcp|udp HOST PORT [--connections N] [--size BYTES] [--window N]\n"
          "                   [--warmup SECONDS] [--duration SECONDS]\n"
          "An echo server and its client over the kernel's sockets, both spinning.\n");
  return 2;
}

int main(int argc, char** argv) {
  static const struct option known[] = {
      {"connections", required_argument, NULL, 'c'}, {"size", required_argument, NULL, 's'},
      {"window", required_argument, NULL, 'w'},      {"warmup", required_argument, NULL, 'u'},
      {"duration", required_argument, NULL, 'd'},    {NULL, 0, NULL, 0}};
  struct client c = {.connections = 1, .size = 64, .window = 32, .warmup = 1, .duration = 5};
  for (int id; (id = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (id) {
      case 'c':
        c.connections = (uint32_t)atoi(optarg);
        break;
      case 's':
        c.size = (uint32_t)atoi(optarg);
        break;
      case 'w':
        c.window = (uint32_t)atoi(optarg);
        break;
      case 'u':
        c.warmup = atof(optarg);
        break;
      case 'd':
        c.duration = atof(optarg);
        break;
      default:
        return usage();
    }
  }
  signal(SIGINT, on_signal);
  signal(SIGTERM, on_signal);
  allow_many_files();
  argc -= optind, argv += optind;
  if (argc == 2 && strcmp(argv[0], "serve") == 0) return serve((uint16_t)atoi(argv[1]));
  if (argc != 3 || c.connections == 0 || c.size == 0 || c.size > LARGEST || c.window == 0) {
    return usage();
  }
  c.tcp = strcmp(argv[0], "tcp") == 0;
  if (!c.tcp && (strcmp(argv[0], "udp") != 0 || c.size < sizeof(uint64_t))) return usage();
  return parse_peer(argv[1], (uint16_t)atoi(argv[2]), &c.peer) ? run_client(&c) : usage();
}
