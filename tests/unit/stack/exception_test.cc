// What no socket wants and the kernel may have.
#include <gtest/gtest.h>

#include <cstring>

#include "base/checksum.h"
#include "flow/foreign_flows.h"
#include "support/stack_network.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Frame = std::vector<std::byte>;

constexpr uint16_t kKernelPort = 22, kClientPort = 50000;

Frame ip_frame(uint8_t protocol, std::span<const std::byte> payload,
               const IpAddress& to = kAddress[1], const MacAddress& mac = kMac[1]) {
  Frame frame(14 + 20 + payload.size());
  std::byte* p = frame.data();
  p += wire::write_ethernet(p, mac, kMac[0], wire::ether_type::ipv4);
  p += wire::write_ip(p, {.source = kAddress[0],
                          .destination = to,
                          .protocol = protocol,
                          .payload_length = static_cast<uint32_t>(payload.size())});
  std::copy(payload.begin(), payload.end(), p);
  return frame;
}

Frame tcp_frame(uint16_t from, uint16_t to, uint8_t flags) {
  TcpSegment segment;
  segment.seq = 1000;
  segment.ack = 77;
  segment.flags = flags;
  segment.window = 1000;
  std::array<std::byte, 60> bytes;
  const size_t n = wire::write_tcp(bytes.data(), from, to, segment);
  wire::finish_checksum(bytes.data(), n, 0, 0, kAddress[0], kAddress[1], Protocol::tcp);
  return ip_frame(6, {bytes.data(), n});
}

Frame udp_frame(uint16_t from, uint16_t to, const IpAddress& destination = kAddress[1],
                const MacAddress& mac = kMac[1]) {
  std::array<std::byte, 12> bytes{};
  wire::UdpHeader udp;
  udp.source_port = from;
  udp.destination_port = to;
  udp.length = uint16_t{12};
  udp.checksum = uint16_t{0};
  std::memcpy(bytes.data(), &udp, sizeof udp);
  return ip_frame(17, bytes, destination, mac);
}

Frame icmp_frame(uint8_t type, uint8_t code, uint32_t rest, std::span<const std::byte> data = {}) {
  std::vector<std::byte> bytes(8 + data.size());
  wire::write_icmp(bytes.data(), type, code, rest);
  std::copy(data.begin(), data.end(), bytes.begin() + 8);
  wire::finish_checksum(bytes.data(), 8, data.size(), kAddress[0], kAddress[1], Protocol::icmp);
  return ip_frame(1, bytes);
}

// Side 1 has a kernel beside it.
class Exceptions : public ::testing::Test {
 protected:
  Exceptions() : flows(64, {1, 2, 3, 4}), net(1, default_config(0), config()) {
    net.tap = [this](int from, const Frame& frame) {
      RxPacket packet;
      packet.data = frame.data();
      packet.length = static_cast<uint32_t>(frame.size());
      const ParsedPacket p = wire::parse(packet);
      if (from == 1 && p.kind == PacketKind::tcp) ++resets;
      if (from == 1 && p.kind == PacketKind::icmp) ++icmp;
      return true;
    };
  }

  StackConfig config() {
    policy.allow_ports(Protocol::tcp, kKernelPort, kKernelPort);
    policy.allow_ports(Protocol::udp, 500, 600);
    policy.allow_protocol(89);
    StackConfig c = default_config(1);
    c.exception.interfaces = {{&policy, rate}};
    c.exception.conversations = &flows;
    c.exception.opaque = this;
    c.exception.pass = [](void* self, const RxPacket& packet) noexcept {
      auto& mine = *static_cast<Exceptions*>(self);
      if (mine.full) return false;
      const bool arp = packet.data[12] == std::byte{8} && packet.data[13] == std::byte{6};
      (arp ? mine.passed_arp : mine.passed).emplace_back(packet.data, packet.data + packet.length);
      return true;
    };
    return c;
  }

  void send(Frame frame) {
    net.inject(1, std::move(frame));
    net.run_for(1ms);
  }
  // The kernel of side 1 has sent from `local` to `remote`.
  void kernel_sent(uint16_t local, uint16_t remote, uint8_t protocol) {
    flows.note({{kAddress[0], remote}, {kAddress[1], local}, protocol}, net.now());
  }

  static constexpr uint32_t rate = 1000;
  ExceptionPolicy policy;
  ForeignFlows flows;
  std::vector<Frame> passed, passed_arp;
  bool full = false;
  int resets = 0, icmp = 0;  // segments and messages that side 1 sent
  StackNetwork net;
};

TEST_F(Exceptions, AllowedPortIsTheKernelsAndNotReset) {
  const Frame syn = tcp_frame(kClientPort, kKernelPort, tcp_flag::syn);
  send(syn);
  ASSERT_EQ(passed.size(), 1u);
  EXPECT_EQ(passed[0], syn);
  EXPECT_EQ(resets, 0);
  EXPECT_EQ(net.counter(1, Counter::exception_rx), 1u);
  EXPECT_EQ(net.drops(1, Drop::tcp_no_socket), 0u);
}

TEST_F(Exceptions, OtherPortsAreAnsweredHere) {
  send(tcp_frame(kClientPort, kKernelPort + 1, tcp_flag::syn));
  send(udp_frame(kClientPort, 601));
  EXPECT_TRUE(passed.empty());
  EXPECT_EQ(resets, 1);
  EXPECT_EQ(icmp, 1) << "port unreachable";
  EXPECT_EQ(net.drops(1, Drop::tcp_no_socket), 1u);
  EXPECT_EQ(net.drops(1, Drop::udp_no_socket), 1u);
}

TEST_F(Exceptions, AListenerOfOursHasThePortFirst) {
  TestApp& app = net.add_app(1);
  app.listen({kAddress[1], kKernelPort}, 16);
  send(tcp_frame(kClientPort, kKernelPort, tcp_flag::syn));
  EXPECT_TRUE(passed.empty());
  EXPECT_EQ(resets, 1) << "the SYN-ACK";
  // But a connection of the kernel's that was there before goes on.
  kernel_sent(kKernelPort, kClientPort + 1, 6);
  send(tcp_frame(kClientPort + 1, kKernelPort, tcp_flag::ack));
  EXPECT_EQ(passed.size(), 1u);
}

TEST_F(Exceptions, DatagramsByTheirPort) {
  send(udp_frame(kClientPort, 500));
  send(udp_frame(kClientPort, 600));
  EXPECT_EQ(passed.size(), 2u);
  EXPECT_EQ(icmp, 0);
}

TEST_F(Exceptions, WhatTheKernelHasBegunIsAnswered) {
  send(tcp_frame(443, 61000, tcp_flag::syn | tcp_flag::ack));
  EXPECT_TRUE(passed.empty());
  EXPECT_EQ(resets, 1);
  kernel_sent(61000, 443, 6);
  send(tcp_frame(443, 61000, tcp_flag::syn | tcp_flag::ack));
  EXPECT_EQ(passed.size(), 1u);
  kernel_sent(61001, 53, 17);
  send(udp_frame(53, 61001));
  EXPECT_EQ(passed.size(), 2u);
  EXPECT_EQ(resets, 1);
  EXPECT_EQ(icmp, 0);
}

// proves: 4443-22
TEST_F(Exceptions, EchoIsAnsweredHereAndItsAnswersAreTheKernels) {
  send(icmp_frame(wire::icmp4::echo_request, 0, 0x12340001));
  EXPECT_TRUE(passed.empty());
  EXPECT_EQ(icmp, 1);
  send(icmp_frame(wire::icmp4::echo_reply, 0, 0x55550001));
  EXPECT_TRUE(passed.empty()) << "nobody asked";
  flows.note({{kAddress[0], 0}, {kAddress[1], 0x5555}, 1}, net.now());
  send(icmp_frame(wire::icmp4::echo_reply, 0, 0x55550001));
  EXPECT_EQ(passed.size(), 1u);
}

TEST_F(Exceptions, ErrorsGoToWhoSentThePacketThatTheyQuote) {
  std::array<std::byte, 28> quoted;
  const auto quote = [&](uint16_t local, uint16_t remote) {
    std::byte* p = quoted.data();
    p += wire::write_ip(
        p,
        {.source = kAddress[1], .destination = kAddress[0], .protocol = 6, .payload_length = 20});
    const be16 ports[2] = {be16(local), be16(remote)};
    std::memcpy(p, ports, sizeof ports);
    std::memset(p + 4, 0, 4);
    return std::span<const std::byte>(quoted);
  };
  send(icmp_frame(wire::icmp4::time_exceeded, 0, 0, quote(61000, 443)));
  EXPECT_TRUE(passed.empty());
  EXPECT_EQ(net.drops(1, Drop::icmp_ignored), 1u);
  kernel_sent(61000, 443, 6);
  send(icmp_frame(wire::icmp4::time_exceeded, 0, 0, quote(61000, 443)));
  EXPECT_EQ(passed.size(), 1u) << "of a connection that the kernel has begun";
  send(icmp_frame(wire::icmp4::unreachable, 4, 1400, quote(kKernelPort, 5555)));
  EXPECT_EQ(passed.size(), 2u) << "of a port that is the kernel's";
}

TEST_F(Exceptions, ProtocolsAndTheirGroups) {
  const std::array<std::byte, 24> hello{};
  send(ip_frame(89, hello));
  const IpAddress all_ospf = IpAddress::v4(0xe0000005);
  const MacAddress group{{1, 0, 0x5e, 0, 0, 5}};
  send(ip_frame(89, hello, all_ospf, group));
  EXPECT_EQ(passed.size(), 2u);
  send(ip_frame(90, hello));
  send(ip_frame(90, hello, all_ospf, group));
  send(udp_frame(kClientPort, 700, all_ospf, group));
  EXPECT_EQ(passed.size(), 2u);
  EXPECT_EQ(net.drops(1, Drop::ip_unknown_protocol), 1u);
  EXPECT_EQ(net.drops(1, Drop::ip4_not_ours), 2u);
  send(udp_frame(kClientPort, 520, all_ospf, group));
  EXPECT_EQ(passed.size(), 3u);
}

TEST_F(Exceptions, OtherHostsPacketsAreNotTheKernels) {
  const std::array<std::byte, 24> hello{};
  send(ip_frame(89, hello, IpAddress::v4(0x0a000077)));
  Frame frame = tcp_frame(kClientPort, kKernelPort, tcp_flag::syn);
  frame[5] = std::byte{9};
  send(frame);
  EXPECT_TRUE(passed.empty());
}

TEST_F(Exceptions, AnswersToArpReachBothSides) {
  Frame frame(14 + 28);
  const size_t l2 = wire::write_ethernet(frame.data(), kMac[1], kMac[0], wire::ether_type::arp);
  const auto say = [&](uint16_t operation) {
    wire::write_arp(frame.data() + l2, {operation, kMac[0], kAddress[0], kMac[1], kAddress[1]});
    return frame;
  };
  send(say(wire::ArpPacket::kRequest));
  EXPECT_TRUE(passed_arp.empty()) << "answered here";
  send(say(wire::ArpPacket::kReply));
  ASSERT_EQ(passed_arp.size(), 1u);
  EXPECT_EQ(passed_arp[0], say(wire::ArpPacket::kReply));
}

TEST_F(Exceptions, AFloodIsLimitedAndConversationsGoOn) {
  kernel_sent(61000, 443, 6);
  for (int i = 0; i < 5000; ++i) {
    net.inject(1, tcp_frame(static_cast<uint16_t>(1024 + i), kKernelPort, tcp_flag::syn));
  }
  net.run_for(10ms);
  EXPECT_LE(passed.size(), 2 * 100u + 16u) << "a tenth of a second's worth at once, twice at start";
  EXPECT_GE(net.drops(1, Drop::exception_rate_limited), 4700u);
  EXPECT_EQ(resets, 0);
  const size_t before = passed.size();
  send(tcp_frame(443, 61000, tcp_flag::ack));
  EXPECT_EQ(passed.size(), before + 1);
}

TEST_F(Exceptions, AFullQueueIsCounted) {
  full = true;
  send(tcp_frame(kClientPort, kKernelPort, tcp_flag::syn));
  EXPECT_EQ(net.drops(1, Drop::exception_queue_full), 1u);
  EXPECT_EQ(net.counter(1, Counter::exception_rx), 0u);
  EXPECT_EQ(resets, 0);
}

TEST_F(Exceptions, APortThatTheKernelUsesIsNotChosen) {
  StackConfig c = config();
  c.ephemeral_first = 40000;
  c.ephemeral_last = 40001;
  StackNetwork small(1, default_config(0), c);
  small.add_app(0).listen({kAddress[0], 80}, 16);
  TestApp& client = small.add_app(1);
  flows.note({{kAddress[0], 80}, {kAddress[1], 40000}, 6}, small.now());
  const SocketRef socket = client.open(small.now());
  client.connect(socket, {kAddress[0], 80}, small.now());
  ASSERT_TRUE(small.run([&] { return client[socket].connected; }, 5s));
  SocketInfo info;
  ASSERT_TRUE(small.stack(1).socket_info(socket, &info));
  EXPECT_EQ(info.local.port, 40001);
}

}  // namespace
}  // namespace postern::test
