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

// Room for `count` messages of up to `size` bytes and the names of their senders.
struct Messages {
  Messages(size_t count, size_t size)
      : bytes(count, std::vector<char>(size)), parts(count), names(count), all(count) {
    for (size_t i = 0; i < count; ++i) {
      parts[i] = {bytes[i].data(), size};
      all[i].msg_hdr.msg_iov = &parts[i];
      all[i].msg_hdr.msg_iovlen = 1;
      all[i].msg_hdr.msg_name = &names[i];
      all[i].msg_hdr.msg_namelen = sizeof names[i];
    }
  }
  std::vector<std::vector<char>> bytes;
  std::vector<iovec> parts;
  std::vector<sockaddr_in> names;
  std::vector<mmsghdr> all;
};

TEST_F(ClientTest, ManyDatagramsInOneCall) {
  constexpr unsigned kCount = 300;
  const int server = bound_udp(57);
  const int client = udp();
  const int size = 1 << 20;
  ASSERT_EQ(postern_setsockopt(client, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  ASSERT_EQ(postern_setsockopt(server, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
  const timeval patience{5, 0};  // instead of for ever, should one be lost
  ASSERT_EQ(postern_setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
  const auto size_of = [](unsigned i) { return sizeof i + i % 120; };
  Messages out(kCount, 200);
  for (unsigned i = 0; i < kCount; ++i) {
    out.bytes[i] = pattern_bytes(i, size_of(i));
    std::memcpy(out.bytes[i].data(), &i, sizeof i);
    out.parts[i] = {out.bytes[i].data(), out.bytes[i].size()};
    out.names[i] = address("10.0.0.2", 57);
  }
  ASSERT_EQ(postern_sendmmsg(client, out.all.data(), kCount, 0), static_cast<int>(kCount))
      << strerror(errno);
  EXPECT_EQ(out.all[7].msg_len, 11u);

  // From two workers they come in an order of their own.
  Messages in(64, 100);
  std::vector<bool> seen(kCount);
  const auto begun = std::chrono::steady_clock::now();
  for (unsigned got = 0; got < kCount;) {
    const int n = postern_recvmmsg(server, in.all.data(), 64, MSG_WAITFORONE, nullptr);
    ASSERT_GT(n, 0) << strerror(errno) << " after " << got;
    for (unsigned j = 0; j < static_cast<unsigned>(n); ++j, ++got) {
      unsigned i = 0;
      std::memcpy(&i, in.bytes[j].data(), sizeof i);
      ASSERT_LT(i, kCount);
      EXPECT_FALSE(seen[i]) << i;
      seen[i] = true;
      const auto length = static_cast<unsigned>(std::min<size_t>(size_of(i), 100));
      EXPECT_EQ(in.all[j].msg_len, length);
      EXPECT_EQ(in.all[j].msg_hdr.msg_flags, size_of(i) > 100 ? MSG_TRUNC : 0);
      EXPECT_EQ(in.names[j].sin_addr.s_addr, inet_addr("10.0.0.1"));
      EXPECT_TRUE(
          std::equal(in.bytes[j].begin(), in.bytes[j].begin() + length, out.bytes[i].begin()));
    }
  }
  EXPECT_LT(elapsed_ms(begun), 4000) << "only the first waits: the last call is not filled";
  EXPECT_EQ(postern_recvmmsg(server, in.all.data(), 64, MSG_DONTWAIT, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(postern_recvmmsg(server, in.all.data(), 0, MSG_DONTWAIT, nullptr), 0);
  EXPECT_EQ(postern_recvmmsg(server, in.all.data(), 64, 1 << 27, nullptr), -1);
  EXPECT_TRUE(eventually([&] { return tx_used() == 0 && daemon_->stats().rx_units_used == 0; }));
}

TEST_F(ClientTest, ManyDatagramsWaitForAllOrForTheTime) {
  const int server = bound_udp(58);
  const int client = udp();
  const sockaddr_in to = address("10.0.0.2", 58);
  std::thread sender([&] {
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(10ms);
      EXPECT_EQ(postern_sendto(client, "abc", 3, 0, generic(to), sizeof to), 3);
    }
  });
  Messages in(3, 10);
  EXPECT_EQ(postern_recvmmsg(server, in.all.data(), 3, 0, nullptr), 3) << strerror(errno);
  sender.join();
  // The time is looked at after a message: the second does not wait for a third.
  ASSERT_EQ(postern_sendto(client, "abc", 3, 0, generic(to), sizeof to), 3);
  timespec none{};
  EXPECT_EQ(postern_recvmmsg(server, in.all.data(), 3, 0, &none), 1);
}

TEST_F(ClientTest, ManyMessagesOfAStream) {
  const Pair p = connected();
  Messages out(2, 4);
  for (auto& m : out.all) m.msg_hdr.msg_name = nullptr, m.msg_hdr.msg_namelen = 0;
  std::copy_n("abcd", 4, out.bytes[0].begin());
  std::copy_n("efgh", 4, out.bytes[1].begin());
  ASSERT_EQ(postern_sendmmsg(p.a, out.all.data(), 2, 0), 2);
  Messages in(2, 4);
  for (auto& m : in.all) m.msg_hdr.msg_name = nullptr, m.msg_hdr.msg_namelen = 0;
  EXPECT_EQ(postern_recvmmsg(p.b, in.all.data(), 2, MSG_WAITALL, nullptr), 2);
  EXPECT_EQ(std::string(in.bytes[0].data(), 4) + std::string(in.bytes[1].data(), 4), "abcdefgh");
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

// ---- what goes with a datagram ----

struct Told {
  int ttl = -1, tos = -1, tclass = -1, hop_limit = -1;
  in_pktinfo info{};
  in6_pktinfo info6{};
  int count = 0;
  int flags = 0;
};

template <class T>
void take(const cmsghdr* h, T* to) {
  ASSERT_EQ(h->cmsg_len, CMSG_LEN(sizeof *to));
  memcpy(to, CMSG_DATA(h), sizeof *to);
}

void take_one(const cmsghdr* h, Told* told) {
  uint8_t byte = 0;
  if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO) take(h, &told->info);
  if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TTL) take(h, &told->ttl);
  if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TOS) take(h, &byte), told->tos = byte;
  if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_PKTINFO) take(h, &told->info6);
  if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_TCLASS) take(h, &told->tclass);
  if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_HOPLIMIT) take(h, &told->hop_limit);
  ++told->count;
}

Told receive_told(int fd, size_t room = 256) {
  char data[64];
  iovec vec{data, sizeof data};
  alignas(cmsghdr) char control[256];
  msghdr m{};
  m.msg_iov = &vec;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = room;
  EXPECT_GE(postern_recvmsg(fd, &m, 0), 0) << strerror(errno);
  Told told;
  told.flags = m.msg_flags;
  for (cmsghdr* h = CMSG_FIRSTHDR(&m); h != nullptr; h = CMSG_NXTHDR(&m, h)) take_one(h, &told);
  return told;
}

int send_told(int fd, uint16_t port, int level, int type, const void* value, size_t size) {
  const sockaddr_in to = address("10.0.0.2", port);
  char data[] = "datagram";
  iovec vec{data, 8};
  alignas(cmsghdr) char control[64] = {};
  msghdr m{};
  m.msg_name = const_cast<sockaddr*>(generic(to));
  m.msg_namelen = sizeof to;
  m.msg_iov = &vec;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = CMSG_SPACE(size);
  cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = level;
  h->cmsg_type = type;
  h->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(h), value, size);
  return postern_sendmsg(fd, &m, 0) == 8 ? 0 : -errno;
}

void want(int fd, int level, int option) {
  const int on = 1;
  EXPECT_EQ(postern_setsockopt(fd, level, option, &on, sizeof on), 0) << option;
}

TEST_F(ClientTest, AncillaryDataAsAskedFor) {
  const int server = bound_udp(57);
  const int client = udp();
  const int ttl = 9, tos = 0x20;
  ASSERT_EQ(send_told(client, 57, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl), 0);
  EXPECT_EQ(receive_told(server).count, 0) << "nothing was asked for";
  want(server, IPPROTO_IP, IP_PKTINFO);
  want(server, IPPROTO_IP, IP_RECVTTL);
  want(server, IPPROTO_IP, IP_RECVTOS);
  ASSERT_EQ(send_told(client, 57, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl), 0);
  Told told = receive_told(server);
  EXPECT_EQ(told.count, 3);
  EXPECT_EQ(told.ttl, 9);
  EXPECT_EQ(told.tos, 0);
  EXPECT_EQ(told.info.ipi_ifindex, 1);
  EXPECT_EQ(told.info.ipi_addr.s_addr, inet_addr("10.0.0.1"));
  ASSERT_EQ(send_told(client, 57, IPPROTO_IP, IP_TOS, &tos, sizeof tos), 0);
  told = receive_told(server);
  EXPECT_EQ(told.tos, 0x20);
  EXPECT_EQ(told.ttl, 64);
}

TEST_F(ClientTest, AncillaryDataIsCutToTheRoom) {
  const int server = bound_udp(58);
  const int client = udp();
  want(server, IPPROTO_IP, IP_PKTINFO);
  want(server, IPPROTO_IP, IP_RECVTTL);
  const int ttl = 9;
  const auto with_room = [&](size_t room) {
    EXPECT_EQ(send_told(client, 58, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl), 0);
    return receive_told(server, room);
  };
  EXPECT_EQ(with_room(64).flags & MSG_CTRUNC, 0);
  EXPECT_NE(with_room(32).flags & MSG_CTRUNC, 0);
  EXPECT_EQ(with_room(32).count, 1) << "the one that fits";
  EXPECT_NE(with_room(0).flags & MSG_CTRUNC, 0);
}

TEST_F(ClientTest, AncillaryDataThatMakesNoSense) {
  const int client = udp();
  bound_udp(59);
  const int ttl = 0, large = 256;
  EXPECT_EQ(send_told(client, 59, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl), -EINVAL);
  EXPECT_EQ(send_told(client, 59, IPPROTO_IP, IP_TTL, &large, sizeof large), -EINVAL);
  EXPECT_EQ(send_told(client, 59, IPPROTO_IP, IP_TTL, &ttl, 1), -EINVAL);
  EXPECT_EQ(send_told(client, 59, IPPROTO_IP, 77, &ttl, sizeof ttl), -EINVAL);
  EXPECT_EQ(send_told(client, 59, IPPROTO_UDP, 103, &ttl, 2), -EINVAL) << "UDP_SEGMENT";
  EXPECT_EQ(send_told(client, 59, IPPROTO_TCP, 1, &ttl, sizeof ttl), 0) << "not ours to judge";
  const int fd = tcp();
  const int on = 1;
  EXPECT_EQ(postern_setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on), -1);
  EXPECT_EQ(errno, ENOPROTOOPT);
}

}  // namespace
}  // namespace postern::test
