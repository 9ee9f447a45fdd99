#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <random>

#include "fixture.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

TEST_F(ClientTest, EchoAndNames) {
  const int l = listener(80);
  const int a = connect_to(80);
  sockaddr_in peer{}, mine{};
  socklen_t length = sizeof peer;
  const int b = postern_accept(l, generic(peer), &length);
  ASSERT_GE(b, 0);
  EXPECT_EQ(length, sizeof peer);
  length = sizeof mine;
  ASSERT_EQ(postern_getsockname(a, generic(mine), &length), 0);
  EXPECT_EQ(peer.sin_port, mine.sin_port);
  EXPECT_EQ(peer.sin_addr.s_addr, inet_addr("10.0.0.1"));
  ASSERT_EQ(postern_getpeername(a, generic(peer), &length), 0);
  EXPECT_EQ(ntohs(peer.sin_port), 80);
  EXPECT_EQ(peer.sin_addr.s_addr, inet_addr("10.0.0.2"));
  ASSERT_EQ(postern_getsockname(l, generic(mine), &length), 0);
  EXPECT_EQ(ntohs(mine.sin_port), 80);

  char buffer[16];
  EXPECT_EQ(postern_send(a, "hello", 5, 0), 5);
  EXPECT_EQ(postern_recv(b, buffer, sizeof buffer, 0), 5);
  EXPECT_EQ(std::string(buffer, 5), "hello");
  EXPECT_EQ(postern_send(b, "world!", 6, 0), 6);
  EXPECT_EQ(postern_recv(a, buffer, 3, 0), 3);
  EXPECT_EQ(postern_recv(a, buffer + 3, sizeof buffer - 3, 0), 3);
  EXPECT_EQ(std::string(buffer, 6), "world!");
}

TEST_F(ClientTest, LivesUntilTheLastDescriptorIsClosed) {
  const int l = listener(80);
  const int a = connect_to(80);
  const int b = postern_accept(l, nullptr, nullptr);
  const int copy = postern_dup(b);
  ASSERT_GE(copy, 0);
  EXPECT_NE(copy, b);
  EXPECT_EQ(postern_close(b), 0);
  char byte;
  ASSERT_TRUE(send_all(a, "x", 1));
  EXPECT_EQ(postern_recv(copy, &byte, 1, 0), 1);
  EXPECT_EQ(postern_recv(copy, &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(postern_close(copy), 0);
  EXPECT_EQ(postern_recv(a, &byte, 1, 0), 0);
}

TEST_F(ClientTest, MappedAddressesOnV6Sockets) {
  const int l = postern_socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(81);
  ASSERT_EQ(postern_bind(l, reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
  ASSERT_EQ(postern_listen(l, 5), 0);
  const int a = connect_to(81);
  sockaddr_in6 peer{};
  socklen_t length = sizeof peer;
  ASSERT_GE(postern_accept(l, reinterpret_cast<sockaddr*>(&peer), &length), 0);
  EXPECT_EQ(length, sizeof peer);
  EXPECT_EQ(peer.sin6_family, AF_INET6);
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
  const sockaddr_in wrong = address("10.0.0.2", 81);
  const int c = postern_socket(AF_INET6, SOCK_STREAM, 0);
  EXPECT_EQ(postern_connect(c, generic(wrong), sizeof wrong), -1);
  EXPECT_EQ(errno, EAFNOSUPPORT);
  (void)a;
}

TEST_F(ClientTest, BindErrors) {
  const int a = tcp(), b = tcp();
  sockaddr_in at = address("0.0.0.0", 700);
  EXPECT_EQ(postern_bind(a, generic(at), 4), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_bind(a, generic(at), sizeof at), 0);
  EXPECT_EQ(postern_bind(a, generic(at), sizeof at), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_bind(b, generic(at), sizeof at), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  at = address("192.0.2.1", 701);
  EXPECT_EQ(postern_bind(b, generic(at), sizeof at), -1);
  EXPECT_EQ(errno, EADDRNOTAVAIL);
  at = address("0.0.0.0", 5);
  EXPECT_EQ(postern_bind(b, generic(at), sizeof at), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_STREQ(postern_last_error(), "ports below 10 are not for you");
  EXPECT_EQ(postern_close(a), 0);
  at = address("0.0.0.0", 700);  // given back
  EXPECT_EQ(postern_bind(b, generic(at), sizeof at), 0);
  EXPECT_EQ(postern_accept(b, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_listen(udp(), 1), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_F(ClientTest, ListenWithoutBindChoosesAPort) {
  const int l = tcp();
  ASSERT_EQ(postern_listen(l, 5), 0);
  sockaddr_in mine{};
  socklen_t length = sizeof mine;
  ASSERT_EQ(postern_getsockname(l, generic(mine), &length), 0);
  EXPECT_NE(mine.sin_port, 0);
  connect_to(ntohs(mine.sin_port));
  EXPECT_GE(postern_accept(l, nullptr, nullptr), 0);
}

TEST_F(ClientTest, ConnectErrors) {
  const int a = tcp();
  sockaddr_in to = address("10.0.0.2", 999);
  EXPECT_EQ(postern_connect(a, generic(to), sizeof to), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  to = address("192.0.2.7", 999);
  EXPECT_EQ(postern_connect(a, generic(to), sizeof to), -1);  // the same socket again
  EXPECT_EQ(errno, EHOSTUNREACH);
  const int l = listener(999);
  to = address("10.0.0.2", 999);
  EXPECT_EQ(postern_connect(a, generic(to), sizeof to), 0);
  EXPECT_EQ(postern_connect(a, generic(to), sizeof to), -1);
  EXPECT_EQ(errno, EISCONN);
  EXPECT_EQ(postern_send(a, "x", 1, 0), 1);
  const int b = postern_accept(l, nullptr, nullptr);
  char byte;
  EXPECT_EQ(postern_recv(b, &byte, 1, 0), 1);
}

TEST_F(ClientTest, NonBlockingConnect) {
  const int l = listener(90);
  const int a = tcp(SOCK_NONBLOCK);
  EXPECT_EQ(postern_get_nonblocking(a), 1);
  const sockaddr_in to = address("10.0.0.2", 90);
  EXPECT_EQ(postern_connect(a, generic(to), sizeof to), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  postern_pollfd p{a, POLLOUT, 0};
  EXPECT_EQ(postern_poll(&p, 1, 2000), 1);
  EXPECT_EQ(p.revents, POLLOUT);
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_EQ(postern_getsockopt(a, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, 0);
  EXPECT_GE(postern_accept(l, nullptr, nullptr), 0);

  const int refused = tcp(SOCK_NONBLOCK);
  const sockaddr_in nowhere = address("10.0.0.2", 91);
  EXPECT_EQ(postern_connect(refused, generic(nowhere), sizeof nowhere), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  p = {refused, POLLOUT, 0};
  EXPECT_EQ(postern_poll(&p, 1, 2000), 1);
  EXPECT_NE(p.revents & POLLERR, 0);
  EXPECT_EQ(postern_getsockopt(refused, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, ECONNREFUSED);

  const int silent = tcp(SOCK_NONBLOCK);
  const sockaddr_in mute = address("10.0.0.2", 2);
  EXPECT_EQ(postern_connect(silent, generic(mute), sizeof mute), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  EXPECT_EQ(postern_connect(silent, generic(mute), sizeof mute), -1);
  EXPECT_EQ(errno, EALREADY);
  p = {silent, POLLIN | POLLOUT, 0};
  EXPECT_EQ(postern_poll(&p, 1, 20), 0);
}

TEST_F(ClientTest, ConnectTimesOut) {
  const int a = tcp();
  const timeval limit{0, 50000};
  ASSERT_EQ(postern_setsockopt(a, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
  const sockaddr_in to = address("10.0.0.2", 2);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(postern_connect(a, generic(to), sizeof to), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  EXPECT_GE(elapsed_ms(start), 49);
}

TEST_F(ClientTest, NonBlockingReceiveAndAccept) {
  const int l = listener(91, SOCK_NONBLOCK);
  EXPECT_EQ(postern_accept(l, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
  const int a = connect_to(91);
  ASSERT_TRUE(eventually([&] {
    postern_pollfd p{l, POLLIN, 0};
    return postern_poll(&p, 1, 0) == 1;
  }));
  const int b = postern_accept4(l, nullptr, nullptr, SOCK_NONBLOCK);
  ASSERT_GE(b, 0);
  char byte;
  EXPECT_EQ(postern_recv(b, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(postern_recv(a, &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(ClientTest, EndOfStreamAndHalfClose) {
  const Pair p = connected();
  ASSERT_TRUE(send_all(p.a, "bye", 3));
  EXPECT_EQ(postern_shutdown(p.a, SHUT_WR), 0);
  EXPECT_EQ(postern_send(p.a, "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  char buffer[8];
  EXPECT_EQ(postern_recv(p.b, buffer, sizeof buffer, MSG_WAITALL), 3);
  EXPECT_EQ(postern_recv(p.b, buffer, sizeof buffer, 0), 0);
  EXPECT_EQ(postern_recv(p.b, buffer, sizeof buffer, 0), 0);
  postern_pollfd f{p.b, POLLIN | POLLOUT | POLLRDHUP, 0};
  EXPECT_EQ(postern_poll(&f, 1, 0), 1);
  EXPECT_EQ(f.revents, POLLIN | POLLOUT | POLLRDHUP);
  ASSERT_TRUE(send_all(p.b, "late", 4));  // the other half is open
  EXPECT_EQ(postern_recv(p.a, buffer, sizeof buffer, 0), 4);
  EXPECT_EQ(postern_shutdown(p.a, 7), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_shutdown(tcp(), SHUT_WR), -1);
  EXPECT_EQ(errno, ENOTCONN);
}

TEST_F(ClientTest, ShutdownOfReadingEndsABlockedReceive) {
  const Pair p = connected();
  std::thread reader([&] {
    char byte;
    EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), 0);
  });
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(postern_shutdown(p.a, SHUT_RD), 0);
  reader.join();
}

TEST_F(ClientTest, Reset) {
  const Pair p = connected();
  daemon_->reset_connections();
  char byte;
  EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), 0);  // told once
  EXPECT_EQ(postern_send(p.a, "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  postern_pollfd f{p.b, POLLIN | POLLOUT, 0};
  EXPECT_EQ(postern_poll(&f, 1, 1000), 1);
  EXPECT_EQ(f.revents, POLLIN | POLLOUT | POLLERR | POLLHUP);
  int error = 0;
  socklen_t length = sizeof error;
  EXPECT_EQ(postern_getsockopt(p.b, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, ECONNRESET);
  EXPECT_EQ(postern_getpeername(p.b, nullptr, nullptr), -1);
}

TEST_F(ClientTest, ClosingWithUnreadDataResetsThePeer) {
  const Pair p = connected();
  ASSERT_TRUE(send_all(p.a, "unread", 6));
  ASSERT_TRUE(eventually([&] { return postern_available(p.b) == 6; }));
  EXPECT_EQ(postern_close(p.b), 0);
  char byte;
  EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(ClientTest, LingerZeroResets) {
  const Pair p = connected();
  const linger off{1, 0};
  ASSERT_EQ(postern_setsockopt(p.b, SOL_SOCKET, SO_LINGER, &off, sizeof off), 0);
  EXPECT_EQ(postern_close(p.b), 0);
  char byte;
  EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(ClientTest, CloseDeliversWhatWasSent) {
  const Pair p = connected();
  daemon_->hold(true);
  const std::vector<char> sent = pattern_bytes(0, 100000);
  ASSERT_TRUE(send_all(p.a, sent.data(), sent.size()));
  EXPECT_EQ(postern_close(p.a), 0);
  EXPECT_NE(tx_used(), 0U);
  daemon_->hold(false);
  std::vector<char> got(200000);
  EXPECT_EQ(postern_recv(p.b, got.data(), got.size(), MSG_WAITALL), 100000);
  EXPECT_EQ(memcmp(got.data(), sent.data(), sent.size()), 0);
  EXPECT_TRUE(eventually([] { return tx_used() == 0; }));
}

TEST_F(ClientTest, LingerWaitsForDelivery) {
  const Pair p = connected();
  const linger on{1, 5};
  ASSERT_EQ(postern_setsockopt(p.a, SOL_SOCKET, SO_LINGER, &on, sizeof on), 0);
  daemon_->hold(true);
  ASSERT_TRUE(send_all(p.a, "x", 1));
  std::thread releaser([&] {
    std::this_thread::sleep_for(60ms);
    daemon_->hold(false);
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(postern_close(p.a), 0);
  EXPECT_GE(elapsed_ms(start), 50);
  EXPECT_LT(elapsed_ms(start), 3000);
  releaser.join();
}

TEST_F(ClientTest, SigpipeUnlessAskedNotTo) {
  static std::atomic<int> pipes{0};
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { ++pipes; };
  sigaction(SIGPIPE, &action, &before);
  const Pair p = connected();
  EXPECT_EQ(postern_shutdown(p.a, SHUT_WR), 0);
  EXPECT_EQ(postern_send(p.a, "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(pipes, 0);
  EXPECT_EQ(postern_send(p.a, "x", 1, 0), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(pipes, 1);
  sigaction(SIGPIPE, &before, nullptr);
}

TEST_F(ClientTest, PeekWaitallTruncAndUnknownFlags) {
  const Pair p = connected();
  ASSERT_TRUE(send_all(p.a, "abcdef", 6));
  char buffer[8] = {};
  EXPECT_EQ(postern_recv(p.b, buffer, 2, MSG_PEEK), 2);
  EXPECT_EQ(postern_recv(p.b, buffer, 6, MSG_PEEK | MSG_WAITALL), 6);
  EXPECT_EQ(std::string(buffer, 6), "abcdef");
  EXPECT_EQ(postern_recv(p.b, buffer, 10, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT), 6);
  EXPECT_EQ(postern_recv(p.b, buffer, 2, MSG_TRUNC), 2);  // discarded
  EXPECT_EQ(postern_recv(p.b, buffer, 2, 0), 2);
  EXPECT_EQ(std::string(buffer, 2), "cd");
  std::thread later([&] {
    std::this_thread::sleep_for(30ms);
    EXPECT_TRUE(send_all(p.a, "ghij", 4));
  });
  EXPECT_EQ(postern_recv(p.b, buffer, 6, MSG_WAITALL), 6);
  EXPECT_EQ(std::string(buffer, 6), "efghij");
  later.join();
  EXPECT_EQ(postern_recv(p.b, buffer, 1, MSG_CONFIRM), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(postern_send(p.b, buffer, 1, MSG_CONFIRM), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_F(ClientTest, ReceiveTimesOut) {
  const Pair p = connected();
  const timeval limit{0, 40000};
  ASSERT_EQ(postern_setsockopt(p.a, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  const auto start = std::chrono::steady_clock::now();
  char byte;
  EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(elapsed_ms(start), 39);
  EXPECT_LT(elapsed_ms(start), 1000);
}

TEST_F(ClientTest, SendTimesOutAndReportsWhatWasTaken) {
  const Pair p = connected();
  daemon_->hold(true);
  const timeval limit{0, 40000};
  const int size = 64 << 10;
  ASSERT_EQ(postern_setsockopt(p.a, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
  ASSERT_EQ(postern_setsockopt(p.a, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  const std::vector<char> bytes(200000);
  EXPECT_EQ(postern_send(p.a, bytes.data(), bytes.size(), 0), size);
  EXPECT_EQ(postern_send(p.a, bytes.data(), bytes.size(), 0), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(ClientTest, NonBlockingSendFillsTheBufferAndPolloutReturns) {
  const Pair p = connected();
  postern_set_nonblocking(p.a, 1);
  const int size = 128 << 10;
  ASSERT_EQ(postern_setsockopt(p.a, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  daemon_->hold(true);
  const std::vector<char> bytes(100000);
  EXPECT_EQ(postern_send(p.a, bytes.data(), bytes.size(), 0), 100000);
  EXPECT_EQ(postern_send(p.a, bytes.data(), bytes.size(), 0), size - 100000);
  EXPECT_EQ(postern_send(p.a, bytes.data(), bytes.size(), 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(postern_unacknowledged(p.a), size);
  postern_pollfd f{p.a, POLLOUT, 0};
  EXPECT_EQ(postern_poll(&f, 1, 20), 0);
  daemon_->hold(false);
  EXPECT_EQ(postern_poll(&f, 1, 2000), 1);
  EXPECT_EQ(f.revents, POLLOUT);
  std::vector<char> sink(size);
  EXPECT_EQ(postern_recv(p.b, sink.data(), sink.size(), MSG_WAITALL), size);
  EXPECT_TRUE(eventually([&] { return postern_unacknowledged(p.a) == 0; }));
}

TEST_F(ClientTest, IdleSocketsHoldNoMemory) {
  const Pair p = connected();
  std::vector<char> buffer(50000);
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(send_all(p.a, buffer.data(), 1 + static_cast<size_t>(round) * 10000));
    size_t left = 1 + static_cast<size_t>(round) * 10000;
    while (left != 0) {
      const ssize_t n = postern_recv(p.b, buffer.data(), buffer.size(), 0);
      ASSERT_GT(n, 0);
      left -= static_cast<size_t>(n);
    }
    EXPECT_TRUE(eventually([&] { return daemon_->stats().rx_units_used == 0 && tx_used() == 0; }));
  }
}

TEST_F(ClientTest, ConsumptionRidesOnSends) {
  const Pair p = connected();
  char byte = 'x';
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(postern_send(p.a, &byte, 1, 0), 1);
    ASSERT_EQ(postern_recv(p.b, &byte, 1, 0), 1);
    ASSERT_EQ(postern_send(p.b, &byte, 1, 0), 1);
    ASSERT_EQ(postern_recv(p.a, &byte, 1, 0), 1);
  }
  // Only sleeps between may have cost commands of their own.
  const MiniDaemon::Stats s = daemon_->stats();
  EXPECT_EQ(s.send_commands, 2000U);
  EXPECT_LE(s.received_commands, 2100U);
  EXPECT_EQ(s.violation, "");
}

TEST_F(ClientTest, MuchConsumptionIsReportedAtOnce) {
  const Pair p = connected();
  const std::vector<char> bytes(20000);
  ASSERT_TRUE(send_all(p.a, bytes.data(), bytes.size()));
  ASSERT_TRUE(eventually([&] { return postern_available(p.b) == 20000; }));
  const uint64_t before = daemon_->stats().received_commands;
  std::vector<char> sink(17000);
  ASSERT_EQ(postern_recv(p.b, sink.data(), sink.size(), 0), 17000);
  const auto start = std::chrono::steady_clock::now();
  while (daemon_->stats().received_commands == before && elapsed_ms(start) < 2000) continue;
  EXPECT_EQ(daemon_->stats().received_commands, before + 1);
}

TEST_F(ClientTest, LargeTransferEachWayAtOnce) {
  const Pair p = connected();
  static constexpr size_t kBytes = 24 << 20;
  const auto send_pattern = [](int fd) {
    std::mt19937 random(1);
    size_t at = 0;
    while (at < kBytes) {
      const std::vector<char> bytes =
          pattern_bytes(at, std::min<size_t>(1 + random() % 150000, kBytes - at));
      ASSERT_TRUE(send_all(fd, bytes.data(), bytes.size()));
      at += bytes.size();
    }
    ASSERT_EQ(postern_shutdown(fd, SHUT_WR), 0);
  };
  const auto receive_pattern = [](int fd) {
    std::mt19937 random(2);
    std::vector<char> buffer(200000);
    size_t at = 0;
    for (;;) {
      const ssize_t n = postern_recv(fd, buffer.data(), 1 + random() % buffer.size(), 0);
      ASSERT_GE(n, 0) << strerror(errno);
      if (n == 0) break;
      for (ssize_t i = 0; i < n; ++i) {
        ASSERT_EQ(buffer[static_cast<size_t>(i)], pattern(at + static_cast<size_t>(i)));
      }
      at += static_cast<size_t>(n);
    }
    EXPECT_EQ(at, kBytes);
  };
  std::thread t1([&] { send_pattern(p.a); });
  std::thread t2([&] { send_pattern(p.b); });
  std::thread t3([&] { receive_pattern(p.b); });
  receive_pattern(p.a);
  t1.join();
  t2.join();
  t3.join();
  const MiniDaemon::Stats s = daemon_->stats();
  EXPECT_EQ(s.violation, "");
  EXPECT_LE(s.most_extents, static_cast<uint32_t>(SHM_MAX_EXTENTS));
  EXPECT_TRUE(eventually([] { return tx_used() == 0; }));
}

TEST_F(ClientTest, SmallSendsWhileNothingMovesStayWithinTheExtents) {
  std::vector<Pair> pairs;
  for (uint16_t i = 0; i < 8; ++i) pairs.push_back(connected(static_cast<uint16_t>(2000 + i)));
  daemon_->hold(true);
  size_t sent[8] = {};
  const std::vector<char> bytes(1500);
  for (int round = 0; round < 400; ++round) {  // interleaved: hardly any chunk is adjacent
    for (size_t i = 0; i < 8; ++i) {
      const ssize_t n = postern_send(pairs[i].a, bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (n > 0) sent[i] += static_cast<size_t>(n);
    }
  }
  EXPECT_LE(daemon_->stats().most_extents, static_cast<uint32_t>(SHM_MAX_EXTENTS));
  daemon_->hold(false);
  std::vector<char> sink(1 << 20);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_GT(sent[i], 100000U);
    EXPECT_EQ(postern_recv(pairs[i].b, sink.data(), sent[i], MSG_WAITALL),
              static_cast<ssize_t>(sent[i]));
  }
  EXPECT_EQ(daemon_->stats().violation, "");
  EXPECT_TRUE(eventually([] { return tx_used() == 0; }));
}

TEST_F(ClientTest, SendersThatStarveForMemoryAreWoken) {
  const Pair hog1 = connected(2100), hog2 = connected(2101), hog3 = connected(2102),
             hog4 = connected(2103);
  const Pair starved = connected(2104);
  daemon_->hold(true);
  const std::vector<char> bytes(1 << 20);
  for (const int fd : {hog1.a, hog2.a, hog3.a, hog4.a}) {
    EXPECT_EQ(postern_send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT), 1 << 20);
  }
  EXPECT_EQ(postern_send(starved.a, "x", 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  postern_pollfd f{starved.a, POLLOUT, 0};
  EXPECT_EQ(postern_poll(&f, 1, 10), 0);
  std::thread waiter([&] { EXPECT_EQ(postern_send(starved.a, "y", 1, 0), 1); });
  std::this_thread::sleep_for(20ms);
  daemon_->hold(false);
  std::vector<char> sink(1 << 20);
  for (const int fd : {hog1.b, hog2.b, hog3.b, hog4.b}) {
    EXPECT_EQ(postern_recv(fd, sink.data(), sink.size(), MSG_WAITALL), 1 << 20);
  }
  waiter.join();
  EXPECT_EQ(postern_poll(&f, 1, 1000), 1);
}

TEST_F(ClientTest, ScatterGather) {
  const Pair p = connected();
  char a[] = "one", b[] = "", c[] = "three";
  iovec out[] = {{a, 3}, {b, 0}, {c, 5}};
  msghdr m{};
  m.msg_iov = out;
  m.msg_iovlen = 3;
  EXPECT_EQ(postern_sendmsg(p.a, &m, 0), 8);
  char x[4], y[10];
  iovec in[] = {{x, 4}, {y, 10}};
  m.msg_iov = in;
  m.msg_iovlen = 2;
  EXPECT_EQ(postern_recvmsg(p.b, &m, 0), 8);
  EXPECT_EQ(std::string(x, 4) + std::string(y, 4), "onethree");
  cmsghdr wrong{};
  wrong.cmsg_level = SOL_SOCKET;
  wrong.cmsg_type = 77;
  wrong.cmsg_len = sizeof wrong;
  m.msg_control = &wrong;
  m.msg_controllen = sizeof wrong;
  EXPECT_EQ(postern_sendmsg(p.a, &m, 0), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(ClientTest, ClosingAListenerClosesWhatWasNotAccepted) {
  const int l = listener(120);
  std::vector<int> waiting;
  for (int i = 0; i < 5; ++i) waiting.push_back(connect_to(120));
  EXPECT_EQ(postern_close(l), 0);
  char byte;
  for (const int fd : waiting) {
    EXPECT_EQ(postern_recv(fd, &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_EQ(postern_close(fd), 0);
  }
  EXPECT_TRUE(eventually([&] { return daemon_->stats().sockets == 0; }));
  EXPECT_EQ(daemon_->stats().bindings, 0U);
}

TEST_F(ClientTest, CloseWakesThreadsBlockedInTheSocket) {
  const Pair p = connected();
  const int l = listener(121);
  std::thread reader([&] {
    char byte;
    EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
    EXPECT_EQ(errno, EBADF);
  });
  std::thread acceptor([&] {
    EXPECT_EQ(postern_accept(l, nullptr, nullptr), -1);
    EXPECT_EQ(errno, EBADF);
  });
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(postern_close(p.a), 0);
  EXPECT_EQ(postern_close(l), 0);
  reader.join();
  acceptor.join();
}

TEST_F(ClientTest, SignalsInterrupt) {
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, &before);  // no SA_RESTART
  const Pair p = connected();
  std::atomic<bool> done{false};
  std::thread reader([&] {
    char byte;
    EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), -1);
    EXPECT_EQ(errno, EINTR);
    done = true;
  });
  while (!done) {
    std::this_thread::sleep_for(10ms);
    pthread_kill(reader.native_handle(), SIGUSR1);
  }
  reader.join();
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  std::thread restarted([&] {
    char byte;
    EXPECT_EQ(postern_recv(p.a, &byte, 1, 0), 1);
  });
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(5ms);
    pthread_kill(restarted.native_handle(), SIGUSR1);
  }
  EXPECT_TRUE(send_all(p.b, "x", 1));
  restarted.join();
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(ClientTest, ManyShortConnections) {
  const int l = listener(130);
  std::thread server([&] {
    for (int i = 0; i < 500; ++i) {
      const int fd = postern_accept(l, nullptr, nullptr);
      ASSERT_GE(fd, 0);
      char byte;
      ASSERT_EQ(postern_recv(fd, &byte, 1, 0), 1);
      ASSERT_EQ(postern_send(fd, &byte, 1, 0), 1);
      ASSERT_EQ(postern_recv(fd, &byte, 1, 0), 0);
      ASSERT_EQ(postern_close(fd), 0);
    }
  });
  for (int i = 0; i < 500; ++i) {
    const int fd = connect_to(130);
    char byte = static_cast<char>(i), back = 0;
    ASSERT_EQ(postern_send(fd, &byte, 1, 0), 1);
    ASSERT_EQ(postern_recv(fd, &back, 1, 0), 1);
    ASSERT_EQ(back, byte);
    ASSERT_EQ(postern_close(fd), 0);
  }
  server.join();
  EXPECT_EQ(postern_close(l), 0);
  EXPECT_TRUE(eventually([&] { return daemon_->stats().sockets == 0; }));
  EXPECT_EQ(daemon_->stats().rx_units_used, 0U);
  EXPECT_EQ(tx_used(), 0U);
}

// ---- several workers, several threads ----

class ManyChannels : public ClientTest {
 protected:
  static MiniOptions options() {
    MiniOptions o;
    o.segment.channels = 3;
    return o;
  }
  ManyChannels() : ClientTest(options()) {}
};

TEST_F(ManyChannels, ThreadsEchoOverAllWorkers) {
  const int l = listener(140);
  constexpr int kClients = 6, kRounds = 300;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    threads.emplace_back([l] {
      const int fd = postern_accept(l, nullptr, nullptr);
      ASSERT_GE(fd, 0);
      char buffer[4096];
      for (;;) {
        const ssize_t n = postern_recv(fd, buffer, sizeof buffer, 0);
        ASSERT_GE(n, 0);
        if (n == 0) break;
        ASSERT_TRUE(send_all(fd, buffer, static_cast<size_t>(n)));
      }
      EXPECT_EQ(postern_close(fd), 0);
    });
    threads.emplace_back([i] {
      const int fd = connect_to(140);
      std::mt19937 random(static_cast<unsigned>(i));
      size_t at = 0;
      for (int round = 0; round < kRounds; ++round) {
        const std::vector<char> out = pattern_bytes(at, 1 + random() % 5000);
        std::vector<char> in(out.size());
        ASSERT_TRUE(send_all(fd, out.data(), out.size()));
        ASSERT_EQ(postern_recv(fd, in.data(), in.size(), MSG_WAITALL),
                  static_cast<ssize_t>(in.size()));
        ASSERT_EQ(in, out);
        at += out.size();
      }
      EXPECT_EQ(postern_close(fd), 0);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(postern_close(l), 0);
  EXPECT_TRUE(eventually([&] { return daemon_->stats().sockets == 0; }));
  EXPECT_EQ(daemon_->stats().violation, "");
}

TEST_F(ManyChannels, TwoThreadsOnOneSocket) {
  const Pair p = connected();
  static constexpr size_t kEach = 2 << 20;
  std::vector<std::thread> senders;
  for (char mark : {'a', 'b'}) {
    senders.emplace_back([&p, mark] {
      const std::vector<char> bytes(1000, mark);
      for (size_t at = 0; at < kEach; at += bytes.size()) {
        ASSERT_TRUE(send_all(p.a, bytes.data(), bytes.size()));
      }
    });
  }
  std::atomic<size_t> count[2] = {};
  std::vector<std::thread> receivers;
  for (int i = 0; i < 2; ++i) {
    receivers.emplace_back([&] {
      std::vector<char> buffer(30000);
      for (;;) {
        const ssize_t n = postern_recv(p.b, buffer.data(), buffer.size(), 0);
        ASSERT_GE(n, 0);
        if (n == 0) return;
        for (ssize_t k = 0; k < n; ++k) ++count[buffer[static_cast<size_t>(k)] == 'a' ? 0 : 1];
      }
    });
  }
  for (auto& t : senders) t.join();
  EXPECT_EQ(postern_shutdown(p.a, SHUT_WR), 0);
  for (auto& t : receivers) t.join();
  const size_t expected = (kEach + 999) / 1000 * 1000;
  EXPECT_EQ(count[0], expected);
  EXPECT_EQ(count[1], expected);
}

TEST_F(ManyChannels, CloseWhileOthersUseIt) {
  for (int round = 0; round < 30; ++round) {
    const Pair p = connected(static_cast<uint16_t>(3000 + round));
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        const std::vector<char> bytes(3000);
        while (postern_send(p.a, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) continue;
      });
      threads.emplace_back([&] {
        std::vector<char> bytes(3000);
        while (postern_recv(p.b, bytes.data(), bytes.size(), 0) > 0) continue;
      });
    }
    std::this_thread::sleep_for(1ms);
    EXPECT_EQ(postern_close(round % 2 == 0 ? p.a : p.b), 0);
    for (auto& t : threads) t.join();
    EXPECT_EQ(postern_close(round % 2 == 0 ? p.b : p.a), 0);
  }
  EXPECT_TRUE(eventually([&] { return daemon_->stats().sockets == 0 && tx_used() == 0; }));
  EXPECT_EQ(daemon_->stats().violation, "");
}

}  // namespace
}  // namespace postern::test
