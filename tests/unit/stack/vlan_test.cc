// IEEE 802.1Q: tagged interfaces beside the untagged one, on one wire between two stacks.
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "support/stack_network.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

constexpr uint16_t kTags[2] = {7, 4094};

IpAddress tagged(uint16_t tag, int side) {
  return IpAddress::v4(0x0a010000U + uint32_t{tag} * 16 + static_cast<uint32_t>(side) + 1);
}

StackConfig with_tags(int side) {
  StackConfig config = default_config(side);
  for (const uint16_t tag : kTags) {
    InterfaceConfig vlan = config.interfaces[0];
    vlan.addresses = {{tagged(tag, side), 28}};
    vlan.vlan = tag;
    config.interfaces.push_back(vlan);
  }
  return config;
}

ParsedPacket parse(const std::vector<std::byte>& frame) {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  return wire::parse(packet);
}

std::vector<std::byte> ping(uint16_t tag, const IpAddress& from, const IpAddress& to) {
  std::vector<std::byte> frame(64);
  std::byte* p = frame.data();
  p += wire::write_ethernet(p, kMac[1], kMac[0], wire::ether_type::ipv4, tag);
  p += wire::write_ip(p, {.source = from, .destination = to, .protocol = 1, .payload_length = 8});
  wire::write_icmp(p, wire::icmp4::echo_request, 0, 1);
  wire::finish_checksum(p, 8, 0, 0, from, to, Protocol::icmp);
  frame.resize(static_cast<size_t>(p + 8 - frame.data()));
  return frame;
}

struct Vlans : ::testing::Test {
  StackNetwork net{1, with_tags(0), with_tags(1)};
  std::vector<ParsedPacket> sent;  // by the second stack

  Vlans() {
    net.run_for(5s);
    net.tap = [this](int from, const std::vector<std::byte>& frame) {
      if (from == 1) sent.push_back(parse(frame));
      return true;
    };
  }
  // The first ICMP message that the second stack sends.
  const ParsedPacket* reply() {
    const auto find = [this] {
      return std::find_if(sent.begin(), sent.end(),
                          [](const ParsedPacket& p) { return p.kind == PacketKind::icmp; });
    };
    net.run([&] { return find() != sent.end(); }, 1s);
    return find() == sent.end() ? nullptr : &*find();
  }
};

TEST_F(Vlans, TcpAndUdpGoByTheTagOfTheirRoute) {
  TestApp& client = net.add_app(0);
  TestApp& server = net.add_app(1);
  const SocketRef listener = server.listen({IpAddress{}, 80}, 8);
  const SocketRef receiver = server.bind({IpAddress{}, 7});
  const std::vector<std::byte> bytes(3000, std::byte{5});
  for (const uint16_t tag : kTags) {
    sent.clear();
    const SocketRef from = client.open(net.now());
    ASSERT_EQ(client.connect(from, {tagged(tag, 1), 80}, net.now()), 0);
    ASSERT_TRUE(net.run([&] { return client[from].connected; }, 1s)) << tag;
    std::optional<SocketRef> to;
    ASSERT_TRUE(net.run([&] { return (to = server.accept(listener, net.now())).has_value(); }, 1s));
    ASSERT_EQ(client.write(from, bytes.data(), bytes.size(), net.now()), bytes.size());
    ASSERT_TRUE(net.run([&] { return server[*to].unread() == bytes.size(); }, 1s));
    std::vector<std::byte> got(bytes.size());
    server.read(*to, got.data(), got.size(), net.now());
    EXPECT_EQ(got, bytes);

    const SocketRef udp = client.bind({IpAddress{}, static_cast<uint16_t>(5000 + tag)});
    client.send_to(udp, {tagged(tag, 1), 7}, {bytes.begin(), bytes.begin() + 100}, net.now());
    std::optional<Datagram> d;
    ASSERT_TRUE(
        net.run([&] { return (d = server.receive_from(receiver, net.now())).has_value(); }));
    EXPECT_EQ(d->from.address, tagged(tag, 0)) << "an address of that interface";
    ASSERT_FALSE(sent.empty());
    for (const ParsedPacket& p : sent) EXPECT_EQ(p.vlan, tag);
  }
  EXPECT_EQ(net.drops(1, Drop::vlan_unknown), 0u);
  EXPECT_EQ(net.complaint(), "");
}

TEST_F(Vlans, ATagOfNobodyIsDroppedByName) {
  net.inject(1, ping(8, tagged(7, 0), tagged(7, 1)));
  net.run_for(1s);
  EXPECT_EQ(net.drops(1, Drop::vlan_unknown), 1u);
  EXPECT_TRUE(sent.empty());
}

TEST(Vlan, WithoutVlansEveryTagIsOfNobody) {
  StackNetwork net;
  net.inject(1, ping(7, kAddress[0], kAddress[1]));
  net.run_for(1s);
  EXPECT_EQ(net.drops(1, Drop::vlan_unknown), 1u);
  EXPECT_EQ(net.counter(1, Counter::icmp_tx), 0u);
}

// Asymmetric routes: what came with one tag is answered with that of the way back, or with none.
TEST_F(Vlans, AnAnswerHasTheTagOfItsOwnWay) {
  struct Row {
    uint16_t in, out;
    IpAddress from;
  };
  for (const Row& row : {Row{7, 0, kAddress[0]}, Row{0, 7, tagged(7, 0)},
                         Row{7, 4094, tagged(4094, 0)}, Row{4094, 4094, tagged(4094, 0)}}) {
    sent.clear();
    net.inject(1, ping(row.in, row.from, tagged(7, 1)));
    const ParsedPacket* p = reply();
    ASSERT_NE(p, nullptr) << row.in << " to " << row.out;
    EXPECT_EQ(p->vlan, row.out);
    EXPECT_EQ(p->source, tagged(7, 1));
    EXPECT_EQ(p->destination, row.from);
    EXPECT_EQ(p->mac_destination, kMac[0]);
    EXPECT_EQ(p->drop, Drop::none) << "checksums are right behind another header, too";
  }
}

// A station that claims an address on one link has no say about the other.
TEST_F(Vlans, NeighborsOfOneTagAreNotThoseOfAnother) {
  const MacAddress thief{{2, 0, 0, 0, 0, 0x66}};
  const IpAddress claimed = tagged(7, 0);
  net.inject(1, ping(7, claimed, tagged(7, 1)));
  ASSERT_NE(reply(), nullptr);
  std::vector<std::byte> frame(18 + 28);
  const size_t l2 =
      wire::write_ethernet(frame.data(), kMac[1], thief, wire::ether_type::arp, kTags[1]);
  wire::write_arp(frame.data() + l2,
                  {wire::ArpPacket::kReply, thief, claimed, kMac[1], tagged(4094, 1)});
  net.inject(1, frame);
  net.run_for(10ms);
  sent.clear();
  net.inject(1, ping(7, claimed, tagged(7, 1)));
  const ParsedPacket* p = reply();
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(p->mac_destination, kMac[0]);
}

TEST_F(Vlans, DirectedBroadcastsAreThoseOfTheTag) {
  const IpAddress all = IpAddress::v4((tagged(7, 1).v4_value() & ~15U) | 15U);
  auto frame = ping(4094, tagged(4094, 0), all);
  net.inject(1, frame);
  net.run_for(10ms);
  EXPECT_EQ(net.drops(1, Drop::ip4_not_ours), 1u);
}

}  // namespace
}  // namespace postern::test
