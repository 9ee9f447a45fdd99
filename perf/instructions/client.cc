// What a program's socket calls cost in instructions: an event loop over the preload library, which
// this program is linked with, against the daemon's side by hand. Only the loop is counted, and it
// does little but call. Run by run.py under callgrind.
//
//   bench_client [SCENARIO...]     prints "SCENARIO UNITS" each, UNITS what to divide by
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "shm_daemon.h"

namespace postern::perf {
namespace {

constexpr uint32_t kRequest = 100;  // bytes
constexpr uint32_t kBatch = 4;      // requests that one wait finds
constexpr uint32_t kRounds = 256;

int must(int rc, const char* what) {
  if (rc < 0) throw std::runtime_error(what);
  return rc;
}

int listener() {
  const int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(80);
  inet_pton(AF_INET, "10.0.0.1", &address.sin_addr);
  must(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  must(listen(fd, ShmDaemon::kConnections), "listen");
  return fd;
}

void watch(int set, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

// An event loop with a listener and its connections.
class Server {
 public:
  using Answer = void (*)(int fd);

  // `forked`: called when there is a listener and nothing else, as nginx starts its workers.
  Server(
      ShmDaemon& daemon, uint32_t events, const std::function<void()>& forked = [] {})
      : daemon_(daemon) {
    const int fd = listener();
    forked();
    set_ = must(epoll_create1(0), "epoll_create1");
    watch(set_, fd, EPOLLIN);
    daemon_.connect_all();
    for (uint32_t i = 0; i < ShmDaemon::kConnections; ++i) {
      watch(set_, must(accept4(fd, nullptr, nullptr, SOCK_NONBLOCK), "accept4"), events);
    }
    daemon_.take_commands();
  }

  // Requests of all connections, a batch at a time. Returns how many were counted.
  uint64_t run(Answer answer, uint32_t answer_length) {
    for (uint32_t round = 0; round < kRounds / 4; ++round) batch(round, answer, answer_length);
    counting_ = true;
    for (uint32_t round = 0; round < kRounds; ++round) batch(round, answer, answer_length);
    counting_ = false;
    return uint64_t{kRounds} * kBatch;
  }

 private:
  void batch(uint32_t round, Answer answer, uint32_t answer_length) {
    const uint64_t before = daemon_.sent();
    for (uint32_t i = 0; i < kBatch; ++i) {
      daemon_.request((round * kBatch + i) % ShmDaemon::kConnections, kRequest);
    }
    std::array<epoll_event, 64> events;
    if (counting_) CALLGRIND_TOGGLE_COLLECT;
    for (uint32_t left = kBatch; left != 0;) {
      const int n = epoll_wait(set_, events.data(), events.size(), 1000);
      for (int i = 0; i < n; ++i) answer(events[static_cast<size_t>(i)].data.fd);
      left -= std::min(left, static_cast<uint32_t>(std::max(n, 1)));
    }
    if (counting_) CALLGRIND_TOGGLE_COLLECT;
    daemon_.take_commands();
    if (daemon_.sent() - before != uint64_t{kBatch} * answer_length) {
      throw std::runtime_error("not every request was answered");
    }
  }

  ShmDaemon& daemon_;
  int set_;
  bool counting_ = false;
};

// ---- scenarios: each returns its units ----

char request_buffer[16384];
char answer_buffer[1024];
int file = -1;

void redis(int fd) {
  (void)!read(fd, request_buffer, sizeof request_buffer);
  (void)!write(fd, answer_buffer, 64);
}

void nginx(int fd) {
  const std::array<iovec, 2> pieces{{{answer_buffer, 240}, {answer_buffer + 300, 600}}};
  (void)recv(fd, request_buffer, 1024, 0);
  (void)!writev(fd, pieces.data(), pieces.size());
}

void nginx_file(int fd) {
  const iovec header{answer_buffer, 240};
  off_t offset = 0;
  (void)recv(fd, request_buffer, 1024, 0);
  (void)!writev(fd, &header, 1);
  (void)sendfile(fd, file, &offset, 600);
}

constexpr uint32_t kNginxEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;

uint64_t client_redis(ShmDaemon& daemon) { return Server(daemon, EPOLLIN).run(redis, 64); }

uint64_t client_nginx(ShmDaemon& daemon) { return Server(daemon, kNginxEvents).run(nginx, 840); }

uint64_t client_nginx_file(ShmDaemon& daemon) {
  char name[] = "/tmp/postern-perf-file-XXXXXX";
  file = must(mkstemp(name), "mkstemp");
  unlink(name);
  must(static_cast<int>(write(file, answer_buffer, sizeof answer_buffer)), "write");
  return Server(daemon, kNginxEvents).run(nginx_file, 840);
}

// Another process shares the attachment, as nginx's other workers do.
uint64_t client_shared(ShmDaemon& daemon) {
  pid_t sharer = 0;
  Server server(daemon, kNginxEvents, [&] {
    sharer = must(fork(), "fork");
    while (sharer == 0) pause();
  });
  const uint64_t units = server.run(nginx, 840);
  kill(sharer, SIGKILL);
  waitpid(sharer, nullptr, 0);
  return units;
}

struct Scenario {
  const char* name;
  uint64_t (*run)(ShmDaemon&);
};
constexpr Scenario kScenarios[] = {
    {"client_redis", client_redis},
    {"client_nginx", client_nginx},
    {"client_nginx_file", client_nginx_file},
    {"client_shared", client_shared},
};

void run(const std::vector<std::string_view>& wanted) {
  ShmDaemon& daemon = *new ShmDaemon;
  setenv("POSTERN_SOCKET", daemon.path().c_str(), 1);
  for (const Scenario& scenario : kScenarios) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), scenario.name) == wanted.end()) {
      continue;
    }
    const uint64_t units = scenario.run(daemon);
    CALLGRIND_DUMP_STATS_AT(scenario.name);
    std::printf("%s %llu\n", scenario.name, static_cast<unsigned long long>(units));
  }
}

}  // namespace
}  // namespace postern::perf

int main(int argc, char** argv) {
  int rc = 0;
  try {
    postern::perf::run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_client: %s\n", e.what());
    rc = 1;
  }
  std::fflush(stdout);
  _exit(rc);  // the daemon's thread is still there
}
