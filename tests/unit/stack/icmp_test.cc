// ICMP as a host has to speak it, and when it has to be silent: RFC 1122 3.2.2, 1812 4.3.2,
// 4443 2.4.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ip/ipv6.h"
#include "support/stack_network.h"
#include "wire/build.h"
#include "wire/fragment.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
const IpAddress kTheirs6 = ip("2001:db8::1"), kOurs6 = ip("2001:db8::2");
constexpr uint8_t kUdp = 17;

StackConfig config_of(int side) {
  StackConfig config = default_config(side);
  config.interfaces[0].addresses.push_back({side == 0 ? kTheirs6 : kOurs6, 64});
  config.neighbors.duplicate_probes = 0;
  config.icmp_rate = 1000;
  return config;
}

// Side 1 is sent what no host sends, as if from side 0; what it says by ICMP is kept.
class IcmpErrors : public ::testing::TestWithParam<bool> {
 protected:
  explicit IcmpErrors(const StackConfig& config = config_of(1)) : net(1, config_of(0), config) {
    net.run_for(5s);
    net.tap = [this](int from, const Bytes& frame) {
      if (from == 1 && parse(frame).kind == PacketKind::icmp && !neighbor_discovery(frame)) {
        answers.push_back(frame);
      }
      if (from == 1 && neighbor_discovery(frame)) solicitations.push_back(frame);
      return true;
    };
  }
  [[nodiscard]] bool v6() const { return GetParam(); }
  [[nodiscard]] IpAddress theirs() const { return v6() ? kTheirs6 : kAddress[0]; }
  [[nodiscard]] IpAddress ours() const { return v6() ? kOurs6 : kAddress[1]; }
  static ParsedPacket parse(const Bytes& frame) {
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    return wire::parse(packet);
  }
  static bool neighbor_discovery(const Bytes& frame) {
    const ParsedPacket p = parse(frame);
    return p.is_v6 && p.kind == PacketKind::icmp && p.source_port >> 8 >= 133;
  }

  struct Shape {
    IpAddress source, destination;
    MacAddress mac = kMac[1];
    uint16_t offset = 0;
    bool more = false;
  };
  [[nodiscard]] Shape shape() const { return {theirs(), ours()}; }
  // The IP packet `body` of a protocol, in a frame.
  Bytes frame(uint8_t protocol, const Bytes& body, const Shape& s) const {
    const bool six = !s.destination.is_v4();
    Bytes out(14 + 40 + 8 + body.size());
    std::byte* p = out.data();
    p += wire::write_ethernet(p, s.mac, kMac[0],
                              six ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
    const bool part = s.more || s.offset != 0;
    wire::IpFields fields{
        .source = s.source,
        .destination = s.destination,
        .protocol = six && part ? wire::kFragmentProtocol : protocol,
        .ttl = 64,
        .dont_fragment = false,
        .id = 77,
        .payload_length = static_cast<uint32_t>(body.size() + (six && part ? 8 : 0))};
    if (!six) {
      fields.fragment_offset = s.offset;
      fields.more_fragments = s.more;
    }
    p += wire::write_ip(p, fields);
    if (six && part) p += wire::write_fragment_header(p, protocol, s.offset, s.more, 77);
    std::copy(body.begin(), body.end(), p);
    out.resize(static_cast<size_t>(p - out.data()) + body.size());
    return out;
  }
  static Bytes udp(const Shape& s, uint16_t port = 9, size_t n = 16) {
    Bytes body(8 + n);
    wire::write_udp(body.data(), 5000, port, static_cast<uint32_t>(n));
    wire::finish_checksum(body.data(), 8, n, s.source, s.destination, Protocol::udp);
    return body;
  }
  static Bytes icmp(const Shape& s, uint8_t type, uint8_t code, const Bytes& data,
                    uint32_t rest = 0) {
    Bytes body(8 + data.size());
    wire::write_icmp(body.data(), type, code, rest);
    std::copy(data.begin(), data.end(), body.begin() + 8);
    wire::finish_checksum(body.data(), body.size(), 0, s.source, s.destination,
                          s.destination.is_v4() ? Protocol::icmp : Protocol::icmp6);
    return body;
  }
  // What side 1 says to a frame: "type code", and the word after the checksum if it is not 0.
  std::string said(const Bytes& sent) {
    answers.clear();
    net.inject(1, sent);
    net.run_for(100ms);
    if (answers.empty()) return "";
    EXPECT_EQ(answers.size(), 1u);
    const ParsedPacket p = parse(answers[0]);
    EXPECT_EQ(p.destination, theirs());
    be32 rest;
    std::memcpy(&rest, answers[0].data() + p.l4_offset + 4, sizeof rest);
    std::string text =
        std::to_string(p.source_port >> 8) + " " + std::to_string(p.source_port & 255);
    return rest.host() == 0 ? text : text + " " + std::to_string(rest.host());
  }

  StackNetwork net;
  std::vector<Bytes> answers, solicitations;
};

INSTANTIATE_TEST_SUITE_P(Family, IcmpErrors, ::testing::Bool(),
                         [](const auto& family) { return family.param ? "IPv6" : "IPv4"; });

// proves: 1122-23, 1812-2, 1812-3, 4443-15
TEST_P(IcmpErrors, ForAPortAndAProtocolThatNobodyHas) {
  EXPECT_EQ(said(frame(kUdp, udp(shape()), shape())), v6() ? "1 4" : "3 3");
  const ParsedPacket p = parse(answers.at(0));
  EXPECT_EQ(p.source, ours());
  EXPECT_EQ(p.tos, 0xc0);
  const wire::QuotedPacket quoted = [&] {
    RxPacket packet;
    packet.data = answers[0].data();
    packet.length = static_cast<uint32_t>(answers[0].size());
    return wire::parse_icmp_quote(packet, p);
  }();
  EXPECT_EQ(quoted.destination_port, 9);
  EXPECT_EQ(said(frame(200, Bytes(20), shape())), v6() ? "4 1 6" : "3 2");
  EXPECT_EQ(net.drops(1, Drop::ip_unknown_protocol), 1u);
}

// proves: 4443-7, 4443-10, 1122-22, 1812-4
TEST_P(IcmpErrors, NotAboutWhatIsForSeveral) {
  const IpAddress group = v6() ? all_nodes() : IpAddress::v4(0xe0000001);
  Shape many{theirs(), group, v6() ? multicast_mac(group) : MacAddress{{1, 0, 0x5e, 0, 0, 1}}};
  EXPECT_EQ(said(frame(kUdp, udp(many), many)), "");
  EXPECT_EQ(said(frame(200, Bytes(20), many)), "");
  Shape everyone = shape();
  everyone.mac = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  EXPECT_EQ(said(frame(kUdp, udp(everyone), everyone)), "");
  EXPECT_EQ(said(frame(200, Bytes(20), everyone)), "");
  if (!v6()) {
    Shape broadcast = everyone;
    broadcast.destination = IpAddress::v4(0x0a0000ff);
    EXPECT_EQ(said(frame(kUdp, udp(broadcast), broadcast)), "");
    return;
  }
  // But for an option that demands it (RFC 4443 2.4 e.3), from an address of ours.
  Bytes options{std::byte{kUdp}, std::byte{0}, std::byte{0x9e}, std::byte{4}};
  options.resize(8);
  const Bytes datagram = udp(many);
  options.insert(options.end(), datagram.begin(), datagram.end());
  EXPECT_EQ(said(frame(60, options, many)), "4 2 42");
  EXPECT_EQ(parse(answers.at(0)).source, kOurs6);
}

// proves: 1122-39
TEST_P(IcmpErrors, UnicastInAFrameForSeveralIsNotDelivered) {
  TestApp& app = net.add_app(1);
  const SocketRef socket = app.bind({ours(), 9});
  Shape everyone = shape();
  everyone.mac = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  net.inject(1, frame(kUdp, udp(everyone), everyone));
  net.run_for(10ms);
  EXPECT_FALSE(app.receive_from(socket, net.now()).has_value());
  net.inject(1, frame(kUdp, udp(shape()), shape()));
  net.run_for(10ms);
  const auto d = app.receive_from(socket, net.now());
  ASSERT_TRUE(d.has_value());
}

// proves: 4443-8, 4443-9, 1122-22, 1812-4
TEST_P(IcmpErrors, NotAboutErrors) {
  const Bytes quoted = frame(kUdp, udp(shape()), shape());
  const Bytes about(quoted.begin() + 14, quoted.end());
  for (const uint8_t type :
       v6() ? std::vector<uint8_t>{1, 2, 3, 4, 100, 137} : std::vector<uint8_t>{3, 4, 5, 11, 12}) {
    EXPECT_EQ(said(frame(v6() ? 58 : 1, icmp(shape(), type, 0, about, 1400), shape())), "")
        << int{type};
  }
}

// proves: 1122-22, 1812-4
TEST_P(IcmpErrors, NotAboutLaterFragments) {
  Shape later = shape();
  later.offset = 64;
  EXPECT_EQ(said(frame(200, Bytes(24), later)), "");
}

// proves: 4443-11, 1122-22, 1812-4
TEST_P(IcmpErrors, NotToWhoIsNoSingleHost) {
  for (const char* text : v6() ? std::vector<const char*>{"::", "ff02::9", "::1"}
                               : std::vector<const char*>{"0.0.0.0", "224.0.0.9", "255.255.255.255",
                                                          "10.0.0.255", "127.0.0.1"}) {
    Shape nobody = shape();
    nobody.source = ip(text);
    EXPECT_EQ(said(frame(kUdp, udp(nobody), nobody)), "") << text;
    EXPECT_EQ(said(frame(200, Bytes(20), nobody)), "") << text;
  }
}

// proves: 4443-3, 1122-19, 1122-30, 4861-4
TEST_P(IcmpErrors, SilentAboutInformationOfUnknownTypes) {
  for (const uint8_t type : v6() ? std::vector<uint8_t>{133, 150, 200, 255}
                                 : std::vector<uint8_t>{2, 13, 15, 17, 40, 255}) {
    EXPECT_EQ(said(frame(v6() ? 58 : 1, icmp(shape(), type, 0, Bytes(24)), shape())), "")
        << int{type};
  }
  EXPECT_TRUE(solicitations.empty());
}

// proves: 4443-2, 4443-19, 1122-28
TEST_P(IcmpErrors, UnknownErrorsAndParameterProblemsReachTheSocket) {
  TestApp& app = net.add_app(1);
  const SocketRef socket = app.bind({ours(), 4000});
  ASSERT_EQ(app.connect(socket, {theirs(), 5000}, net.now()), 0);
  Shape back{ours(), theirs()};
  Bytes datagram(8 + 4);
  wire::write_udp(datagram.data(), 4000, 5000, 4);
  const Bytes sent = frame(kUdp, datagram, back);
  const Bytes about(sent.begin() + 14, sent.end());
  for (const uint8_t type : v6() ? std::vector<uint8_t>{4, 100} : std::vector<uint8_t>{12}) {
    app[socket].error = 0;
    net.inject(1, frame(v6() ? 58 : 1, icmp(shape(), type, 0, about), shape()));
    net.run_for(10ms);
    EXPECT_EQ(app[socket].error, EPROTO) << int{type};
  }
}

// proves: 4443-14, 1812-5
TEST_P(IcmpErrors, AreLimitedInNumber) {
  EXPECT_NE(said(frame(kUdp, udp(shape()), shape())), "") << "the neighbor is known from now on";
  for (int i = 0; i < 5000; ++i) net.inject(1, frame(kUdp, udp(shape()), shape()));
  net.run_for(100ms);
  EXPECT_GE(answers.size(), 50u);
  EXPECT_LE(answers.size(), 400u);
  EXPECT_GE(net.drops(1, Drop::icmp_rate_limited), 4000u);
}

// proves: 8200-19
TEST_P(IcmpErrors, AFirstFragmentWithoutItsTransportHeader) {
  Shape first = shape();
  first.more = true;
  EXPECT_EQ(said(frame(6, Bytes(16), first)), v6() ? "4 3" : "");
  EXPECT_EQ(net.drops(1, Drop::ip_fragment_tiny), 1u);
}

// proves: 5722-4, 5722-5
TEST_P(IcmpErrors, AtomicFragmentsAreNotMixedWithOthers) {
  if (!v6()) GTEST_SKIP() << "IPv4 has none";
  TestApp& app = net.add_app(1);
  const SocketRef socket = app.bind({ours(), 9});
  const Bytes long_one = udp(shape(), 9, 56), short_one = udp(shape(), 9, 3);
  Shape first = shape(), last = shape();
  first.more = true;
  last.offset = 32;
  net.inject(1, frame(kUdp, {long_one.begin(), long_one.begin() + 32}, first));
  Bytes atomic(8);  // the same source, destination and identification
  wire::write_fragment_header(atomic.data(), kUdp, 0, false, 77);
  atomic.insert(atomic.end(), short_one.begin(), short_one.end());
  net.inject(1, frame(44, atomic, shape()));
  net.run_for(10ms);
  auto d = app.receive_from(socket, net.now());
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->payload.size(), 3u);
  net.inject(1, frame(kUdp, {long_one.begin() + 32, long_one.end()}, last));
  net.run_for(10ms);
  d = app.receive_from(socket, net.now());
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->payload.size(), 56u);
}

// proves: 8504-5
TEST_P(IcmpErrors, NeighborDiscoveryInFragmentsIsRefused) {
  if (!v6()) GTEST_SKIP() << "ARP has none";
  Bytes target(16);
  std::memcpy(target.data(), kOurs6.data(), 16);
  const Bytes solicitation = icmp(shape(), 135, 0, target);
  Shape first = shape(), last = shape();
  first.more = true;
  last.offset = 16;
  net.inject(1, frame(58, {solicitation.begin(), solicitation.begin() + 16}, first));
  net.inject(1, frame(58, {solicitation.begin() + 16, solicitation.end()}, last));
  net.run_for(10ms);
  EXPECT_TRUE(solicitations.empty());
  EXPECT_EQ(net.drops(1, Drop::nd_malformed), 1u);
}

// proves: 4861-17
TEST_P(IcmpErrors, ASolicitationForAGroupNamesOurMac) {
  if (!v6()) GTEST_SKIP() << "ARP requests do by nature";
  TestApp& app = net.add_app(1);
  const SocketRef socket = app.bind({kOurs6, 4000});
  app.send_to(socket, {ip("2001:db8::77"), 9}, Bytes(4), net.now());
  net.run_for(10ms);
  ASSERT_EQ(solicitations.size(), 1u);
  const Bytes& s = solicitations[0];
  ASSERT_EQ(s.size(), 14u + 40 + 24 + 8);
  EXPECT_EQ(s[14 + 40 + 24], std::byte{1}) << "source link-layer address";
  EXPECT_EQ(std::memcmp(s.data() + 14 + 40 + 26, kMac[1].bytes.data(), 6), 0);
}

// proves: 4861-20
TEST_P(IcmpErrors, ANeighborThatDoesNotAnswerIsTold) {
  TestApp& app = net.add_app(1);
  const IpAddress nobody = v6() ? ip("2001:db8::77") : IpAddress::v4(0x0a00004d);
  const SocketRef connected = app.bind({ours(), 4000}), other = app.bind({ours(), 4001});
  ASSERT_EQ(app.connect(connected, {nobody, 9}, net.now()), 0);
  app.send_to(connected, {nobody, 9}, Bytes(4), net.now());
  app.send_to(other, {nobody, 9}, Bytes(4), net.now());
  net.run_for(10s);
  EXPECT_EQ(app[connected].error, EHOSTUNREACH);
  EXPECT_EQ(app[other].error, 0) << "not connected: whom to tell?";
  EXPECT_EQ(net.drops(1, Drop::neighbor_unreachable), 2u);
}

// proves: 1122-45
TEST_P(IcmpErrors, DatagramsSayWhichAddressWasMeant) {
  TestApp& app = net.add_app(1);
  const SocketRef socket = app.bind({IpAddress{}, 9});
  net.inject(1, frame(kUdp, udp(shape()), shape()));
  net.run_for(10ms);
  const auto d = app.receive_from(socket, net.now());
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->to, ours());
  EXPECT_EQ(net.stack(1).send_datagram(socket, 48 + 8, 48, 4, theirs(), {theirs(), 5000}, 0, 0,
                                       net.now()),
            0);
  net.run_for(10ms);
  EXPECT_EQ(app[socket].error, EADDRNOTAVAIL) << "not one of ours";
}

// proves: 8200-31
TEST_P(IcmpErrors, IdentificationsAreNotToBeGuessed) {
  if (!v6()) GTEST_SKIP() << "of IPv4 they have 16 bits, and count";
  TestApp& app = net.add_app(1);
  const SocketRef socket = app.bind({kOurs6, 4000});
  std::vector<uint32_t> ids;
  net.tap = [&](int from, const Bytes& f) {
    RxPacket packet;
    packet.data = f.data();
    packet.length = static_cast<uint32_t>(f.size());
    const ParsedPacket p = wire::parse(packet);
    if (from == 1 && p.fragment && wire::read_fragment(packet, p).offset == 0) {
      ids.push_back(wire::read_fragment(packet, p).id);
    }
    return true;
  };
  for (int i = 0; i < 8; ++i) {
    app.send_to(socket, {kTheirs6, 9}, Bytes(3000), net.now());
    net.run_for(10ms);
  }
  ASSERT_EQ(ids.size(), 8u);
  for (size_t i = 1; i < ids.size(); ++i) EXPECT_GT(ids[i] - ids[i - 1] + 1000, 2000u) << ids[i];
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace
}  // namespace postern::test
