// RFC 9293 3.9 and 3.4.1 where the stack, not the engine, answers for them: addresses, fields of
// the IP header, ICMP, initial sequence numbers, ACKs of a burst.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "stack/socket_option.h"
#include "support/stack_network.h"
#include "tcp/congestion.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

constexpr IpAddress kSecond = IpAddress::v4(0x0a000003);  // of the first stack, beside kAddress[0]
constexpr MacAddress kEveryone{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

ParsedPacket parse(const std::vector<std::byte>& frame) {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  return wire::parse(packet);
}

StackConfig two_addresses() {
  StackConfig config = default_config(0);
  config.interfaces[0].addresses.push_back({kSecond, 24});
  return config;
}

StackConfig with_mtu(uint16_t mtu) {
  StackConfig config = default_config(0);
  config.interfaces[0].mtu = mtu;
  return config;
}

std::vector<std::byte> syn_frame(const MacAddress& mac, const IpAddress& to) {
  std::vector<std::byte> frame(14 + 20 + 20);
  std::byte* p = frame.data();
  p += wire::write_ethernet(p, mac, kMac[0], wire::ether_type::ipv4);
  p += wire::write_ip(
      p, {.source = kAddress[0], .destination = to, .protocol = 6, .payload_length = 20});
  TcpSegment syn;
  syn.flags = tcp_flag::syn;
  syn.window = 1000;
  wire::write_tcp(p, 4000, 80, syn);
  wire::finish_checksum(p, 20, 0, kAddress[0], to, Protocol::tcp);
  return frame;
}

// Two stacks, the second listening on port 80, and every TCP segment seen.
struct Pair {
  struct Seen {
    int from;
    ParsedPacket packet;
    TcpSegment segment;
    std::vector<std::byte> frame;
  };
  explicit Pair(const StackConfig& first = default_config(0))
      : net(1, first), client(net.add_app(0)), server(net.add_app(1)) {
    listener = server.listen({kAddress[1], 80}, 16);
    net.tap = [this](int from, const std::vector<std::byte>& frame) {
      const ParsedPacket p = parse(frame);
      if (p.kind != PacketKind::tcp) return true;
      Seen seen{from, p, {}, frame};
      RxPacket packet;
      packet.data = frame.data();
      packet.length = static_cast<uint32_t>(frame.size());
      EXPECT_EQ(wire::parse_tcp(packet, p, &seen.segment), Drop::none);
      segments.push_back(seen);
      return deliver;
    };
  }
  SocketRef connect(const Endpoint& local = {}) {
    const SocketRef c = client.open(net.now());
    EXPECT_EQ(client.connect(c, to, net.now(), local), 0);
    return c;
  }
  std::pair<SocketRef, SocketRef> establish(const Endpoint& local = {}) {
    const SocketRef c = connect(local);
    std::optional<SocketRef> s;
    EXPECT_TRUE(net.run(
        [&] {
          if (!s) s = server.accept(listener, net.now());
          return s.has_value() && client[c].connected;
        },
        5s));
    return {c, s.value_or(SocketRef{})};
  }
  void write(SocketRef ref, size_t n) {
    const std::vector<std::byte> bytes(n);
    ASSERT_EQ(client.write(ref, bytes.data(), n, net.now()), n);
  }
  // An ICMP error about a segment of the client that was seen, from the peer's address.
  void icmp_about(const Seen& seen, uint8_t type, uint8_t code) {
    const std::byte* quoted = seen.frame.data() + seen.packet.l3_offset;
    constexpr size_t kQuote = 20 + 8;
    std::vector<std::byte> frame(14 + 20 + 8 + kQuote);
    std::byte* p = frame.data();
    p += wire::write_ethernet(p, kMac[0], kMac[1], wire::ether_type::ipv4);
    p += wire::write_ip(p, {.source = kAddress[1],
                            .destination = seen.packet.source,
                            .protocol = 1,
                            .payload_length = 8 + kQuote});
    wire::write_icmp(p, type, code, 0);
    std::memcpy(p + 8, quoted, kQuote);
    wire::finish_checksum(p, 8, kQuote, kAddress[1], seen.packet.source, Protocol::icmp);
    net.inject(0, std::move(frame));
    net.run_for(1ms);
  }
  StackNetwork net;
  TestApp& client;
  TestApp& server;
  SocketRef listener;
  Endpoint to{kAddress[1], 80};
  std::vector<Seen> segments;
  bool deliver = true;
};

// What the client's stack gives in one call with room for so many frames.
std::vector<ParsedPacket> egress(Pair& p, size_t room) {
  std::vector<std::vector<std::byte>> memory(room, std::vector<std::byte>(2048));
  std::vector<TxFrame> frames(room);
  for (size_t i = 0; i < room; ++i) {
    frames[i].data = memory[i].data();
    frames[i].capacity = 2048;
  }
  const size_t n = p.net.stack(0).egress(p.net.now(), frames);
  std::vector<ParsedPacket> out;
  for (size_t i = 0; i < n; ++i) {
    memory[i].resize(frames[i].length);
    out.push_back(parse(memory[i]));
  }
  return out;
}

size_t payload(const std::vector<ParsedPacket>& packets) {
  size_t bytes = 0;
  for (const ParsedPacket& p : packets) bytes += p.payload_length;
  return bytes;
}

// The initial sequence number of a connection that begins at `after` from `port`.
uint32_t isn(Duration after, uint64_t secret, uint16_t port = 12345) {
  StackConfig config = default_config(0);
  config.secret = {secret, secret + 1, secret * 3, ~secret};
  Pair pair(config);
  pair.net.run_for(after);
  pair.connect({IpAddress{}, port});
  EXPECT_TRUE(pair.net.run([&] { return !pair.segments.empty(); }, 1s));
  return pair.segments.empty() ? 0 : pair.segments[0].segment.seq;
}

// proves: MUST-8
TEST(InitialSequenceNumber, FollowsAClockOfFourMicroseconds) {
  const uint32_t first = isn(1s, 7);
  EXPECT_EQ(isn(1s + 4ms, 7) - first, 1000U);
  EXPECT_EQ(isn(1s + 400s, 7) - first, 100'000'000U);
}

// The engine gives several segments at once. Of those for which there were no frames nothing may be
// read once the application has its memory back.
TEST(TcpInterface, SegmentsNotYetCutEndWithTheirConnection) {
  Pair p;
  const SocketRef c = p.establish().first;
  p.write(c, 14000);
  ASSERT_GT(payload(egress(p, 2)), 2000u);
  ASSERT_EQ(p.client.close(c, p.net.now(), true), 0);
  const std::vector<ParsedPacket> rest = egress(p, 32);
  EXPECT_EQ(payload(rest), 0u);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_NE(rest[0].tcp_flags & tcp_flag::rst, 0);
}

TEST(TcpInterface, SegmentsNotYetCutMayBeAcknowledged) {
  Pair p;
  const SocketRef c = p.establish().first;
  p.write(c, 14000);
  const std::vector<ParsedPacket> first = egress(p, 2);
  ASSERT_GT(payload(first), 2000u);
  TcpSegment all;
  all.flags = tcp_flag::ack;
  all.seq = first[0].tcp_ack;
  all.ack = first[0].tcp_seq + 14000;
  all.window = 1000;
  all.has_timestamps = true;
  for (const auto& seen : p.segments) {
    if (seen.from == 1) all.ts_value = seen.segment.ts_value;
  }
  std::vector<std::byte> frame(14 + 20 + wire::tcp_header_length(all));
  std::byte* l4 = frame.data();
  l4 += wire::write_ethernet(l4, kMac[0], kMac[1], wire::ether_type::ipv4);
  const auto header = static_cast<uint32_t>(wire::tcp_header_length(all));
  l4 += wire::write_ip(
      l4,
      {.source = kAddress[1], .destination = kAddress[0], .protocol = 6, .payload_length = header});
  wire::write_tcp(l4, 80, first[0].source_port, all);
  wire::finish_checksum(l4, header, 0, 0, kAddress[1], kAddress[0], Protocol::tcp);
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  p.net.stack(0).receive({&packet, 1}, p.net.now());
  EXPECT_EQ(payload(egress(p, 32)), 0u);
}

// proves: MUST-9, SHLD-1
TEST(InitialSequenceNumber, DependsOnTheTupleAndASecret) {
  const uint32_t one = isn(1s, 7);
  EXPECT_EQ(isn(1s, 7), one);
  EXPECT_NE(isn(1s, 8), one) << "another secret";
  // At the same moment, neighboring ports are as far from each other as chance has it.
  Pair pair;
  pair.deliver = false;
  for (uint16_t port = 20000; port < 20064; ++port) pair.connect({IpAddress{}, port});
  ASSERT_TRUE(pair.net.run([&] { return pair.segments.size() == 64; }, 1s));
  uint32_t close = 0;
  for (size_t i = 1; i < 64; ++i) {
    const uint32_t d = pair.segments[i].segment.seq - pair.segments[i - 1].segment.seq;
    if (d < 1U << 26 || d > 0U - (1U << 26)) ++close;  // 1 of 32 by chance
  }
  EXPECT_LE(close, 10U);
}

// proves: MUST-41
TEST(PassiveOpen, LeavesOthersAlone) {
  Pair pair;
  const std::pair ends = pair.establish();
  const SocketRef s = ends.second;
  const SocketRef other = pair.server.listen({kAddress[1], 81}, 4);
  EXPECT_TRUE(pair.server.has(other));
  SocketInfo info;
  ASSERT_TRUE(pair.net.stack(1).socket_info(s, &info));
  EXPECT_EQ(info.state, TcpState::established);
  pair.establish();
}

// proves: MUST-42
TEST(PassiveOpen, OnAPortThatIsConnecting) {
  Pair pair;
  pair.net.tap = [](int, const std::vector<std::byte>&) { return false; };  // nobody answers
  const SocketRef c = pair.connect({kAddress[0], 7777});
  pair.net.run_for(10ms);
  SocketInfo info;
  ASSERT_TRUE(pair.net.stack(0).socket_info(c, &info));
  ASSERT_EQ(info.state, TcpState::syn_sent);
  const SocketRef listener = pair.client.next_client_slot();
  EXPECT_EQ(pair.net.stack(0).listen(listener, {kAddress[0], 7777}, 4, false), 0);
}

// proves: MUST-43, MUST-45, 6724-10, 1122-36
TEST(LocalAddress, AsGivenOnEverySegment) {
  Pair pair(two_addresses());
  const std::pair ends = pair.establish({kSecond, 0});
  const SocketRef c = ends.first;
  pair.write(c, 20000);
  pair.net.run_for(1s);
  pair.client.close(c, pair.net.now());
  pair.net.run_for(1s);
  for (const Pair::Seen& seen : pair.segments) {
    EXPECT_EQ(seen.from == 0 ? seen.packet.source : seen.packet.destination, kSecond);
  }
  EXPECT_GE(pair.segments.size(), 17U);
}

// proves: MUST-44, MUST-45, 1122-10
TEST(LocalAddress, ChosenByRoutingBeforeTheSyn) {
  Pair pair(two_addresses());
  pair.establish();
  ASSERT_GE(pair.segments.size(), 3U);
  EXPECT_EQ(pair.segments[0].packet.source, kAddress[0]);
  EXPECT_EQ(pair.segments[2].packet.source, kAddress[0]);
}

// proves: MUST-48, SHLD-21, SHLD-22, 8200-30, 1122-13, 1122-47
TEST(IpHeader, DsFieldOfTheApplication) {
  Pair pair;
  const SocketRef c = pair.client.open(pair.net.now());
  const auto tos = static_cast<uint16_t>(SocketOption::tos);
  ASSERT_EQ(pair.net.stack(0).set_option(c, tos, 0x28, pair.net.now()), 0);
  pair.client.connect(c, pair.to, pair.net.now());
  ASSERT_TRUE(pair.net.run([&] { return pair.client[c].connected; }, 1s));
  pair.net.run_for(1ms);
  for (const Pair::Seen& seen : pair.segments) {
    EXPECT_EQ(seen.packet.tos, seen.from == 0 ? 0x28 : 0);
  }
  pair.segments.clear();
  ASSERT_EQ(pair.net.stack(0).set_option(c, tos, 0xb8, pair.net.now()), 0);
  pair.write(c, 100);
  pair.net.run_for(1ms);
  ASSERT_FALSE(pair.segments.empty());
  EXPECT_EQ(pair.segments[0].packet.tos, 0xb8);
}

// proves: MUST-49, 1122-14, 1122-15
TEST(IpHeader, TimeToLiveOfTheApplication) {
  Pair pair;
  const SocketRef c = pair.client.open(pair.net.now());
  const auto ttl = static_cast<uint16_t>(SocketOption::ttl);
  ASSERT_EQ(pair.net.stack(0).set_option(c, ttl, 9, pair.net.now()), 0);
  EXPECT_EQ(pair.net.stack(0).set_option(c, ttl, 0, pair.net.now()), EINVAL);
  pair.client.connect(c, pair.to, pair.net.now());
  ASSERT_TRUE(pair.net.run([&] { return !pair.segments.empty(); }, 1s));
  EXPECT_EQ(pair.segments[0].packet.ttl, 9);
}

// proves: MUST-54, 4443-16, 1122-21
TEST(IcmpError, ReachesTheConnectionItQuotes) {
  Pair pair;
  pair.deliver = false;
  const SocketRef one = pair.connect({IpAddress{}, 5001});
  const SocketRef two = pair.connect({IpAddress{}, 5002});
  ASSERT_TRUE(pair.net.run([&] { return pair.segments.size() == 2; }, 1s));
  pair.icmp_about(pair.segments[1], wire::icmp4::unreachable, wire::icmp4::port);
  EXPECT_EQ(pair.client[one].error, 0);
  EXPECT_EQ(pair.client[two].error, ECONNREFUSED);
}

// proves: MUST-55
TEST(IcmpError, SourceQuenchIsDiscarded) {
  Pair pair;
  const std::pair ends = pair.establish();
  const SocketRef c = ends.first;
  pair.deliver = false;
  pair.segments.clear();
  pair.write(c, 1000);
  pair.net.run_for(1ms);
  TcpInfo before, after;
  ASSERT_TRUE(pair.net.stack(0).tcp_info(c, pair.net.now(), &before));
  pair.icmp_about(pair.segments.at(0), 4, 0);
  ASSERT_TRUE(pair.net.stack(0).tcp_info(c, pair.net.now(), &after));
  EXPECT_EQ(pair.net.drops(0, Drop::icmp_ignored), 1U);
  EXPECT_EQ(after.cwnd, before.cwnd);
  EXPECT_EQ(after.ssthresh, before.ssthresh);
}

// proves: MUST-56, 1122-24
TEST(IcmpError, SoftOnesDoNotEndAConnection) {
  using namespace wire;
  Pair pair;
  const std::pair ends = pair.establish();
  const SocketRef c = ends.first, s = ends.second;
  pair.deliver = false;
  pair.segments.clear();
  pair.write(c, 1000);
  pair.net.run_for(1ms);
  const Pair::Seen data = pair.segments.at(0);
  for (const uint8_t code : {0, 1, 5}) pair.icmp_about(data, icmp4::unreachable, code);
  for (const uint8_t code : {0, 1}) pair.icmp_about(data, icmp4::time_exceeded, code);
  pair.icmp_about(data, icmp4::parameter_problem, 0);
  EXPECT_EQ(pair.net.counter(0, Counter::icmp_rx), 6U);
  EXPECT_EQ(pair.client[c].error, 0);
  pair.deliver = true;
  const SocketRef sink = s;
  EXPECT_TRUE(pair.net.run([&] { return pair.server[sink].unread() == 1000; }, 5s));
}

// proves: MUST-57
TEST(Syn, ToABroadcastOrMulticastAddressIsNotAnswered) {
  Pair pair;
  const SocketRef any = pair.server.listen({IpAddress{}, 80}, 4);
  EXPECT_TRUE(pair.server.has(any));
  pair.net.run_for(3s);  // announcements are over
  const uint64_t before = pair.net.frames(1);
  pair.net.inject(1, syn_frame(kEveryone, IpAddress::v4(0x0a0000ff)));
  pair.net.inject(1, syn_frame(kEveryone, IpAddress::v4(0xffffffff)));
  pair.net.inject(1, syn_frame({{1, 0, 0x5e, 0, 0, 1}}, IpAddress::v4(0xe0000001)));
  pair.net.inject(1, syn_frame(kEveryone, kAddress[1]));
  pair.net.run_for(5s);
  EXPECT_EQ(pair.net.frames(1), before);
  pair.net.inject(1, syn_frame(kMac[1], kAddress[1]));
  pair.net.run_for(10ms);
  EXPECT_GT(pair.net.frames(1), before) << "the frame is a good one but for its destination";
}

// proves: MUST-58, MUST-59
TEST(Acks, OneForABurst) {
  Pair pair;
  const std::pair ends = pair.establish();
  const SocketRef c = ends.first;
  pair.net.run_for(1s);
  pair.segments.clear();
  pair.write(c, 10 * 1448);
  pair.net.run_for(30ms);
  size_t data = 0, acks = 0;
  for (const Pair::Seen& seen : pair.segments) ++(seen.from == 0 ? data : acks);
  EXPECT_EQ(data, 10U);
  EXPECT_EQ(acks, 1U);
  EXPECT_EQ(pair.segments.back().segment.ack, pair.segments.front().segment.seq + 10 * 1448);
}

// proves: MUST-67, SHLD-6, 8200-28, 8201-12
TEST(Mss, FollowsTheMtuOfTheInterface) {
  for (const uint16_t mtu : {576, 1280, 1500, 9000}) {
    StackConfig config = with_mtu(mtu);
    config.tcp.mss_ipv4 = 65495;
    Pair pair(config);
    pair.connect();
    ASSERT_TRUE(pair.net.run([&] { return !pair.segments.empty(); }, 1s));
    EXPECT_TRUE(pair.segments[0].segment.has_mss);
    EXPECT_EQ(pair.segments[0].segment.mss, mtu - 40);
  }
}

TEST(Mss, IsAtMostWhatTheOperatorSays) {
  StackConfig config = with_mtu(1500);
  config.tcp.mss_ipv4 = 1300;
  Pair pair(config);
  pair.connect();
  ASSERT_TRUE(pair.net.run([&] { return !pair.segments.empty(); }, 1s));
  EXPECT_EQ(pair.segments[0].segment.mss, 1300);
}

// As on Linux: what is set on a listener holds for those who are accepted.
TEST(ListenerOptions, AreInherited) {
  Pair pair;
  const auto set = [&pair](SocketOption option, uint32_t value) {
    return pair.net.stack(1).set_option(pair.listener, static_cast<uint16_t>(option), value,
                                        pair.net.now());
  };
  EXPECT_EQ(set(SocketOption::congestion, 1), 0);
  EXPECT_EQ(set(SocketOption::user_timeout, 7000), 0);
  EXPECT_EQ(set(SocketOption::receive_buffer, 65536), 0);
  EXPECT_EQ(set(SocketOption::congestion, 99), EINVAL);
  EXPECT_EQ(set(SocketOption::keepalive_idle, 0), EINVAL);
  const SocketRef s = pair.establish().second;
  TcpInfo info;
  ASSERT_TRUE(pair.net.stack(1).tcp_info(s, pair.net.now(), &info));
  EXPECT_STREQ(info.congestion, kCongestion[1].name.data());
  EXPECT_EQ(info.receive_buffer, 65536u);

  // Nobody answers any more: the inherited limit ends it.
  pair.deliver = false;
  const std::byte byte{1};
  const Time begin = pair.net.now();
  ASSERT_EQ(pair.server.write(s, &byte, 1, begin), 1u);
  ASSERT_TRUE(pair.net.run([&] { return pair.server[s].error != 0; }, 60s));
  EXPECT_EQ(pair.server[s].error, ETIMEDOUT);
  EXPECT_NEAR(static_cast<double>((pair.net.now() - begin) / 1ms), 7000, 500);
}

}  // namespace
}  // namespace postern::test
