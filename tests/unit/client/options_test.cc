#include <netinet/tcp.h>

#include "fixture.h"

namespace postern::test {
namespace {

int get(int fd, int level, int option) {
  int value = -12345;
  socklen_t length = sizeof value;
  if (postern_getsockopt(fd, level, option, &value, &length) != 0) return -errno;
  EXPECT_EQ(length, sizeof value);
  return value;
}

int set(int fd, int level, int option, int value) {
  return postern_setsockopt(fd, level, option, &value, sizeof value) == 0 ? 0 : -errno;
}

TEST_F(ClientTest, OptionsRoundTrip) {
  const int fd = tcp();
  const struct {
    int level, option, value;
  } all[] = {
      {SOL_SOCKET, SO_REUSEADDR, 1},      {SOL_SOCKET, SO_REUSEPORT, 1},
      {SOL_SOCKET, SO_KEEPALIVE, 1},      {SOL_SOCKET, SO_RCVBUF, 100000},
      {SOL_SOCKET, SO_SNDBUF, 200000},    {IPPROTO_TCP, TCP_NODELAY, 1},
      {IPPROTO_TCP, TCP_CORK, 1},         {IPPROTO_TCP, TCP_KEEPIDLE, 11},
      {IPPROTO_TCP, TCP_KEEPINTVL, 12},   {IPPROTO_TCP, TCP_KEEPCNT, 13},
      {IPPROTO_TCP, TCP_MAXSEG, 1000},    {IPPROTO_TCP, TCP_USER_TIMEOUT, 5000},
      {IPPROTO_TCP, TCP_DEFER_ACCEPT, 3}, {IPPROTO_IP, IP_TOS, 0x10},
      {IPPROTO_IP, IP_TTL, 33},
  };
  for (const auto& o : all) {
    EXPECT_EQ(set(fd, o.level, o.option, o.value), 0) << o.level << ' ' << o.option;
    EXPECT_EQ(get(fd, o.level, o.option), o.value) << o.level << ' ' << o.option;
  }
  EXPECT_EQ(set(fd, SOL_SOCKET, SO_KEEPALIVE, 0), 0);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST_F(ClientTest, DefaultsAndReadOnlyOptions) {
  const int fd = tcp();
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_ERROR), 0);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
  EXPECT_EQ(get(listener(600), SOL_SOCKET, SO_ACCEPTCONN), 1);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_SNDBUF), 1 << 20);  // a quarter of 4 MiB
  EXPECT_EQ(get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 7200);
  EXPECT_EQ(get(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(get(fd, IPPROTO_IP, IP_TTL), 64);
  EXPECT_EQ(get(udp(), SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
  EXPECT_EQ(set(fd, SOL_SOCKET, SO_TYPE, 1), -ENOPROTOOPT);
  EXPECT_EQ(get(connect_to(600), IPPROTO_TCP, TCP_MAXSEG), 1460);
}

TEST_F(ClientTest, CongestionControlByName) {
  const int fd = tcp();
  const auto name = [&] {
    char text[16] = {};
    socklen_t length = sizeof text;
    EXPECT_EQ(postern_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text, &length), 0);
    EXPECT_EQ(length, sizeof text);
    return std::string(text);
  };
  const auto choose = [&](const char* text) {
    const int rc = postern_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text,
                                      static_cast<socklen_t>(strlen(text)));
    return rc == 0 ? 0 : -errno;
  };
  EXPECT_EQ(name(), "cubic");
  EXPECT_EQ(choose("dctcp"), 0);
  EXPECT_EQ(name(), "dctcp");
  EXPECT_EQ(choose("reno"), 0) << "as Linux calls it";
  EXPECT_EQ(name(), "newreno");
  EXPECT_EQ(choose("bbr"), -ENOENT);
  EXPECT_EQ(choose("cub"), -ENOENT);
  EXPECT_EQ(choose(""), -EINVAL);
  EXPECT_EQ(name(), "newreno");
}

TEST_F(ClientTest, TcpInfoIsTheDaemons) {
  const int l = listener(80);
  tcp_info info{};
  socklen_t length = sizeof info;
  ASSERT_EQ(postern_getsockopt(l, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(info.tcpi_state, TCP_LISTEN);
  const int a = connect_to(80);
  ASSERT_EQ(postern_getsockopt(a, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(length, sizeof info);
  EXPECT_EQ(info.tcpi_rtt, 1234U);
  EXPECT_EQ(info.tcpi_rttvar, 56U);
  EXPECT_EQ(info.tcpi_rto, 200000U);
  EXPECT_EQ(info.tcpi_snd_mss, 1460U);
  EXPECT_EQ(info.tcpi_snd_cwnd, 10U);
  EXPECT_EQ(info.tcpi_total_retrans, 3U);
  length = 1;
  ASSERT_EQ(postern_getsockopt(a, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(length, 1U);
  EXPECT_EQ(postern_setsockopt(a, IPPROTO_TCP, TCP_INFO, &info, sizeof info), -1);
  EXPECT_EQ(errno, ENOPROTOOPT);
}

TEST_F(ClientTest, UnknownOptionsAndBadValues) {
  const int fd = tcp();
  EXPECT_EQ(set(fd, SOL_SOCKET, 9999, 1), -ENOPROTOOPT);
  EXPECT_EQ(get(fd, SOL_SOCKET, 9999), -ENOPROTOOPT);
  EXPECT_EQ(set(fd, IPPROTO_TCP, 9999, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(fd, 77, 1, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(udp(), IPPROTO_TCP, TCP_NODELAY, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), -ENOPROTOOPT);
  EXPECT_EQ(set(fd, IPPROTO_TCP, TCP_KEEPCNT, 0), -EINVAL);
  EXPECT_EQ(set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 40000), -EINVAL);
  EXPECT_EQ(set(fd, IPPROTO_TCP, TCP_MAXSEG, 10), -EINVAL);
  EXPECT_EQ(set(fd, IPPROTO_IP, IP_TTL, 256), -EINVAL);
  EXPECT_EQ(set(fd, IPPROTO_IP, IP_TOS, 256), -EINVAL);
  char byte = 1;
  EXPECT_EQ(postern_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &byte, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, nullptr, 4), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(set(fd, SOL_SOCKET, SO_SNDBUF, 1), 0);  // within limits
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_SNDBUF), 4096);
}

TEST_F(ClientTest, V6Options) {
  const int fd = postern_socket(AF_INET6, SOCK_STREAM, 0);
  EXPECT_EQ(set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
  EXPECT_EQ(get(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
  EXPECT_EQ(set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9), 0);
  EXPECT_EQ(get(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 9);
}

TEST_F(ClientTest, TimeoutsAndLinger) {
  const int fd = tcp();
  timeval t{3, 250000};
  socklen_t length = sizeof t;
  EXPECT_EQ(postern_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), 0);
  t = {};
  EXPECT_EQ(postern_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &length), 0);
  EXPECT_EQ(t.tv_sec, 3);
  EXPECT_EQ(t.tv_usec, 250000);
  t = {0, 1000000};
  EXPECT_EQ(postern_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t), -1);
  EXPECT_EQ(errno, EDOM);
  linger l{1, 7};
  EXPECT_EQ(postern_setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l), 0);
  l = {};
  length = sizeof l;
  EXPECT_EQ(postern_getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &length), 0);
  EXPECT_EQ(l.l_onoff, 1);
  EXPECT_EQ(l.l_linger, 7);
}

TEST_F(ClientTest, AcceptedSocketsInherit) {
  const int l = listener(610);
  EXPECT_EQ(set(l, IPPROTO_TCP, TCP_NODELAY, 1), 0);
  EXPECT_EQ(set(l, SOL_SOCKET, SO_SNDBUF, 77777), 0);
  EXPECT_EQ(set(l, IPPROTO_TCP, TCP_KEEPIDLE, 5), 0);
  connect_to(610);
  const int fd = postern_accept4(l, nullptr, nullptr, SOCK_NONBLOCK);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(get(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_SNDBUF), 77777);
  EXPECT_EQ(get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 5);
  EXPECT_EQ(get(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
  EXPECT_EQ(postern_get_nonblocking(fd), 1);
  EXPECT_EQ(postern_get_nonblocking(l), 0);
}

class SmallBuffers : public ClientTest {
 protected:
  static MiniOptions options() {
    MiniOptions o;
    o.segment.settings.receive_buffer = 8192;
    return o;
  }
  SmallBuffers() : ClientTest(options()) {}
};

// A peer that has filled it waits for that, and the program may do something else for long.
TEST_F(SmallBuffers, ConsumptionOfAQuarterIsReportedAtOnce) {
  const Pair p = connected();
  const std::vector<char> bytes(8192);
  ASSERT_TRUE(send_all(p.a, bytes.data(), bytes.size()));
  ASSERT_TRUE(eventually([&] { return postern_available(p.b) == 8192; }));
  const uint64_t before = daemon_->stats().received_commands;
  std::vector<char> sink(2048);
  ASSERT_EQ(postern_recv(p.b, sink.data(), sink.size(), 0), 2048);
  EXPECT_TRUE(eventually([&] { return daemon_->stats().received_commands == before + 1; }));
}

TEST(Spin, Range) {
  EXPECT_EQ(postern_set_spin(0), 0);
  EXPECT_EQ(postern_set_spin(1000000), 0);
  EXPECT_EQ(postern_set_spin(1000001), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_set_spin(30), 0);
}

}  // namespace
}  // namespace postern::test
