// A process attached to a MiniDaemon, and shorthands.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/postern.h"
#include "mini_daemon.h"

namespace postern::test {

inline sockaddr_in address(const char* host, uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  inet_pton(AF_INET, host, &a.sin_addr);
  return a;
}

inline const sockaddr* generic(const sockaddr_in& a) {
  return reinterpret_cast<const sockaddr*>(&a);
}
inline sockaddr* generic(sockaddr_in& a) { return reinterpret_cast<sockaddr*>(&a); }

// Deterministic bytes of a stream: position -> value.
inline char pattern(size_t position) {
  return static_cast<char>((position * 2654435761U) >> 13 ^ position);
}
inline std::vector<char> pattern_bytes(size_t from, size_t n) {
  std::vector<char> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = pattern(from + i);
  return out;
}

inline bool send_all(int fd, const void* data, size_t n) {
  const char* at = static_cast<const char*>(data);
  while (n != 0) {
    const ssize_t k = postern_send(fd, at, n, MSG_NOSIGNAL);
    if (k <= 0) return false;
    at += k;
    n -= static_cast<size_t>(k);
  }
  return true;
}

inline int64_t elapsed_ms(std::chrono::steady_clock::time_point from) {
  using std::chrono::duration_cast;
  return duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - from).count();
}

class ClientTest : public ::testing::Test {
 protected:
  explicit ClientTest(MiniOptions options = {}) : daemon_(std::make_unique<MiniDaemon>(options)) {}
  void SetUp() override { ASSERT_EQ(postern_attach(daemon_->path().c_str()), 0); }
  void TearDown() override { postern_detach(); }

  static int tcp(int flags = 0) { return postern_socket(AF_INET, SOCK_STREAM | flags, 0); }
  static int udp(int flags = 0) { return postern_socket(AF_INET, SOCK_DGRAM | flags, 0); }

  static int listener(uint16_t port, int flags = 0, int backlog = 64) {
    const int fd = tcp(flags);
    const sockaddr_in a = address("0.0.0.0", port);
    EXPECT_EQ(postern_bind(fd, generic(a), sizeof a), 0) << strerror(errno);
    EXPECT_EQ(postern_listen(fd, backlog), 0) << strerror(errno);
    return fd;
  }
  static int connect_to(uint16_t port) {
    const int fd = tcp();
    const sockaddr_in a = address("10.0.0.2", port);
    EXPECT_EQ(postern_connect(fd, generic(a), sizeof a), 0) << strerror(errno);
    return fd;
  }
  struct Pair {
    int a = -1, b = -1;
  };
  static Pair connected(uint16_t port = 1000) {
    const int l = listener(port);
    Pair p;
    p.a = connect_to(port);
    p.b = postern_accept(l, nullptr, nullptr);
    EXPECT_GE(p.b, 0) << strerror(errno);
    EXPECT_EQ(postern_close(l), 0);
    return p;
  }
  static uint64_t tx_used() {
    postern_stats s;
    EXPECT_EQ(postern_get_stats(&s), 0);
    return s.tx_bytes_used;
  }
  // Lets the daemon and the library work until the condition holds, at most two seconds.
  template <class Condition>
  static bool eventually(Condition condition) {
    const auto start = std::chrono::steady_clock::now();
    while (!condition()) {
      if (elapsed_ms(start) > 2000) return false;
      postern_pollfd nothing{-1, 0, 0};
      postern_poll(&nothing, 1, 1);
    }
    return true;
  }

  std::unique_ptr<MiniDaemon> daemon_;
};

}  // namespace postern::test
