#include "fixture.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

int bound_udp(uint16_t port) {
  const int fd = postern_socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in a = address("0.0.0.0", port);
  EXPECT_EQ(postern_bind(fd, generic(a), sizeof a), 0) << strerror(errno);
  return fd;
}

TEST_F(ClientTest, DatagramsOfEverySizeClass) {
  const int server = bound_udp(53);
  const int client = udp();
  const sockaddr_in to = address("10.0.0.2", 53);
  for (const size_t n :
       {0, 1, 7, 8, 9, 100, 1472, 1990, 2000, 2001, 9000, 40000, 65487, 65488, 65507}) {
    const std::vector<char> out = pattern_bytes(n, n);
    ASSERT_EQ(postern_sendto(client, out.data(), n, 0, generic(to), sizeof to),
              static_cast<ssize_t>(n))
        << n << " " << strerror(errno);
    std::vector<char> in(70000);
    sockaddr_in from{};
    socklen_t length = sizeof from;
    ASSERT_EQ(postern_recvfrom(server, in.data(), in.size(), 0, generic(from), &length),
              static_cast<ssize_t>(n));
    EXPECT_TRUE(std::equal(out.begin(), out.end(), in.begin()));
    EXPECT_EQ(from.sin_addr.s_addr, inet_addr("10.0.0.1"));
    EXPECT_EQ(postern_sendto(server, in.data(), n, 0, generic(from), length),
              static_cast<ssize_t>(n));
    ASSERT_EQ(postern_recv(client, in.data(), in.size(), 0), static_cast<ssize_t>(n));
  }
  const std::vector<char> big(65508);
  EXPECT_EQ(postern_sendto(client, big.data(), big.size(), 0, generic(to), sizeof to), -1);
  EXPECT_EQ(errno, EMSGSIZE);
  EXPECT_EQ(postern_send(client, "x", 1, 0), -1);
  EXPECT_EQ(errno, EDESTADDRREQ);
  EXPECT_TRUE(eventually([&] { return tx_used() == 0 && daemon_->stats().rx_units_used == 0; }));
}

TEST_F(ClientTest, DatagramBoundariesTruncationAndPeek) {
  const int server = bound_udp(54);
  const int client = udp();
  const sockaddr_in to = address("10.0.0.2", 54);
  ASSERT_EQ(postern_connect(client, generic(to), sizeof to), 0);
  for (const char* text : {"first", "second", "third", "fourth"}) {
    ASSERT_EQ(postern_send(client, text, strlen(text), 0), static_cast<ssize_t>(strlen(text)));
  }
  char buffer[32];
  EXPECT_EQ(postern_recv(server, buffer, 3, MSG_PEEK), 3);
  EXPECT_EQ(postern_recv(server, buffer, 3, MSG_PEEK | MSG_TRUNC), 5);
  EXPECT_EQ(postern_available(server), 5);
  EXPECT_EQ(postern_recv(server, buffer, 3, 0), 3);  // the rest is lost
  EXPECT_EQ(postern_recv(server, buffer, 2, MSG_TRUNC), 6);
  char small[3];
  iovec part{small, sizeof small};
  msghdr m{};
  sockaddr_in from{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  m.msg_name = &from;
  m.msg_namelen = sizeof from;
  EXPECT_EQ(postern_recvmsg(server, &m, 0), 3);
  EXPECT_EQ(m.msg_flags, MSG_TRUNC);
  EXPECT_EQ(from.sin_family, AF_INET);
  EXPECT_EQ(postern_recv(server, buffer, sizeof buffer, 0), 6);
  EXPECT_EQ(std::string(buffer, 6), "fourth");
  EXPECT_EQ(postern_recv(server, buffer, sizeof buffer, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(ClientTest, DatagramErrorsArePendingOnce) {
  const int client = udp();
  const sockaddr_in to = address("10.0.0.2", 55);
  ASSERT_EQ(postern_connect(client, generic(to), sizeof to), 0);
  ASSERT_EQ(postern_send(client, "x", 1, 0), 1);
  char byte;
  EXPECT_EQ(postern_recv(client, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  const timeval limit{0, 20000};
  ASSERT_EQ(postern_setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  EXPECT_EQ(postern_recv(client, &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  sockaddr_in peer{};
  socklen_t length = sizeof peer;
  EXPECT_EQ(postern_getpeername(client, generic(peer), &length), 0);
  EXPECT_EQ(ntohs(peer.sin_port), 55);
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  EXPECT_EQ(postern_connect(client, &none, sizeof none), 0);
  EXPECT_EQ(postern_getpeername(client, generic(peer), &length), -1);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_EQ(postern_send(client, "x", 1, 0), -1);
  EXPECT_EQ(errno, EDESTADDRREQ);
}

TEST_F(ClientTest, DatagramShutdown) {
  const int server = bound_udp(56);
  EXPECT_EQ(postern_shutdown(server, SHUT_RD), -1);
  EXPECT_EQ(errno, ENOTCONN);
  const sockaddr_in to = address("10.0.0.2", 56);
  ASSERT_EQ(postern_connect(server, generic(to), sizeof to), 0);
  EXPECT_EQ(postern_shutdown(server, SHUT_RDWR), 0);
  char byte;
  EXPECT_EQ(postern_recv(server, &byte, 1, 0), 0);
  EXPECT_EQ(postern_send(server, &byte, 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  postern_pollfd f{server, POLLIN, 0};
  EXPECT_EQ(postern_poll(&f, 1, 0), 1);
  EXPECT_EQ(f.revents, POLLIN | POLLHUP);
}

class UdpOverWorkers : public ClientTest {
 protected:
  static MiniOptions options() {
    MiniOptions o;
    o.segment.channels = 3;
    return o;
  }
  UdpOverWorkers() : ClientTest(options()) {}
};

TEST_F(UdpOverWorkers, OneSocketReceivesFromAllWorkers) {
  const int server = bound_udp(57);
  const int client = udp();
  const sockaddr_in to = address("10.0.0.2", 57);
  constexpr int kCount = 3000;
  std::thread receiver([&] {
    std::vector<bool> seen(kCount);
    for (int i = 0; i < kCount; ++i) {
      int number = -1;
      ASSERT_EQ(postern_recv(server, &number, sizeof number, 0),
                static_cast<ssize_t>(sizeof number));
      ASSERT_GE(number, 0);
      ASSERT_LT(number, kCount);
      EXPECT_FALSE(seen[static_cast<size_t>(number)]);
      seen[static_cast<size_t>(number)] = true;
    }
  });
  for (int i = 0; i < kCount; ++i) {
    ASSERT_EQ(postern_sendto(client, &i, sizeof i, 0, generic(to), sizeof to),
              static_cast<ssize_t>(sizeof i));
  }
  receiver.join();
  EXPECT_EQ(postern_close(server), 0);
  EXPECT_EQ(postern_close(client), 0);
  const MiniDaemon::Stats s = daemon_->stats();
  EXPECT_EQ(s.violation, "");
  EXPECT_EQ(s.bindings, 0U);
  EXPECT_TRUE(eventually([&] { return daemon_->stats().sockets == 0 && tx_used() == 0; }));
}

}  // namespace
}  // namespace postern::test
