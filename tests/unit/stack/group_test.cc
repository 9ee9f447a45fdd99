// Groups and broadcasts between two stacks: who gets a copy, what is sent, what comes back.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "stack/socket_option.h"
#include "support/stack_network.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Change = GroupTable::Change;

constexpr IpAddress kGroup = IpAddress::v4(0xef010203);
constexpr IpAddress kDirected = IpAddress::v4(0x0a0000ff);
const std::vector<std::byte> kBytes(100, std::byte{7});

struct Groups : ::testing::Test {
  StackNetwork net;
  TestApp& sender = net.add_app(0);
  TestApp& first = net.add_app(1);
  TestApp& second = net.add_app(1);
  SocketRef from = sender.bind({IpAddress{}, 4000});
  ParsedPacket last;  // datagram of the first stack

  Groups() {
    net.run_for(5s);
    net.tap = [this](int side, const std::vector<std::byte>& frame) {
      RxPacket packet;
      packet.data = frame.data();
      packet.length = static_cast<uint32_t>(frame.size());
      const ParsedPacket p = wire::parse(packet);
      if (side == 0 && p.kind == PacketKind::udp) last = p;
      return true;
    };
  }
  int join(int side, SocketRef socket, const IpAddress& group = kGroup, Change what = Change::join,
           const IpAddress& source = {}) {
    return net.stack(side).change_group(socket, what, group, 0, source, net.now());
  }
  int set(SocketOption option, uint32_t value) {
    return net.stack(0).set_option(from, static_cast<uint16_t>(option), value, net.now());
  }
  void send(const IpAddress& to, uint16_t port = 7) {
    sender.send_to(from, {to, port}, kBytes, net.now());
    net.run_for(10ms);
  }
  size_t received(TestApp& app, SocketRef socket) {
    size_t n = 0;
    while (auto d = app.receive_from(socket, net.now())) {
      EXPECT_EQ(d->payload, kBytes);
      ++n;
    }
    return n;
  }
};

// proves: 1122-38
TEST_F(Groups, EverySocketOnThePortGetsOneCopy) {
  const SocketRef a = first.bind({IpAddress{}, 7});
  const SocketRef b = first.bind({IpAddress::v4(0), 7});
  const SocketRef c = second.bind({kGroup, 7});
  const SocketRef unicast = second.bind({kAddress[1], 7});
  const SocketRef elsewhere = second.bind({IpAddress{}, 8});
  ASSERT_EQ(join(1, a), 0);
  ASSERT_EQ(join(1, c), 0);
  send(kGroup);
  EXPECT_EQ(received(first, a), 1u);
  EXPECT_EQ(received(first, b), 1u) << "IP_MULTICAST_ALL";
  EXPECT_EQ(received(second, c), 1u);
  EXPECT_EQ(received(second, unicast), 0u);
  EXPECT_EQ(received(second, elsewhere), 0u);
  EXPECT_EQ(net.counter(1, Counter::udp_group_copies), 3u);
  EXPECT_EQ(net.complaint(), "");
}

TEST_F(Groups, OfNobodyHereIsNotOurs) {
  first.bind({IpAddress{}, 7});
  send(kGroup);
  EXPECT_EQ(net.drops(1, Drop::ip4_not_ours), 1u);
  EXPECT_EQ(net.counter(1, Counter::icmp_tx), 0u) << "RFC 1122 3.2.2: nobody is told";
}

TEST_F(Groups, AFullSocketDoesNotKeepItFromTheOthers) {
  const SocketRef a = first.bind({IpAddress{}, 7});
  const SocketRef b = second.bind({IpAddress{}, 7});
  join(1, a);
  net.stack(1).set_option(a, static_cast<uint16_t>(SocketOption::receive_buffer), 4096, net.now());
  for (int i = 0; i < 60; ++i) send(kGroup);
  EXPECT_EQ(received(second, b), 60u);
  EXPECT_LT(received(first, a), 60u);
  EXPECT_GT(net.drops(1, Drop::udp_socket_full), 0u);
}

TEST_F(Groups, TheFilteredSourceIsDroppedByName) {
  const SocketRef a = first.bind({IpAddress{}, 7});
  ASSERT_EQ(join(1, a, kGroup, Change::allow, IpAddress::v4(0x0a000063)), 0);
  send(kGroup);
  EXPECT_EQ(received(first, a), 0u);
  EXPECT_EQ(net.drops(1, Drop::udp_source_filtered), 1u);
  ASSERT_EQ(join(1, a, kGroup, Change::allow, kAddress[0]), 0);
  send(kGroup);
  EXPECT_EQ(received(first, a), 1u);
}

TEST_F(Groups, ClosingLeaves) {
  const SocketRef a = first.bind({IpAddress{}, 7});
  join(1, a);
  EXPECT_EQ(net.stack(1).groups().size(), 1u);
  first.close(a, net.now());
  net.run_for(5s);
  EXPECT_EQ(net.stack(1).groups().size(), 0u);
  EXPECT_EQ(join(1, a), ESTALE);
}

TEST_F(Groups, DyingLeaves) {
  const SocketRef a = first.bind({IpAddress{}, 7});
  join(1, a);
  net.stack(1).detach(first.id(), net.now(), true);
  net.run_for(5s);
  EXPECT_EQ(net.stack(1).groups().size(), 0u);
}

// proves: 1122-14
TEST_F(Groups, WhatIsSentHasTheGroupsMacAndItsOwnTtl) {
  send(kGroup);
  EXPECT_EQ(last.mac_destination, (MacAddress{{1, 0, 0x5e, 1, 2, 3}})) << "RFC 1112 6.4";
  EXPECT_EQ(last.ttl, 1);
  EXPECT_EQ(last.source, kAddress[0]);
  EXPECT_EQ(set(SocketOption::group_ttl, 30), 0);
  send(kGroup);
  EXPECT_EQ(last.ttl, 30);
  send(kAddress[1], 9);
  EXPECT_EQ(last.ttl, 64) << "of others that of the socket";
  EXPECT_EQ(set(SocketOption::group_ttl, 256), EINVAL);
  EXPECT_EQ(set(SocketOption::group_interface, 2), EINVAL) << "there is one";
  EXPECT_EQ(set(SocketOption::group_interface, 1), 0);
}

TEST_F(Groups, AMemberHereHearsItUnlessLoopIsOff) {
  TestApp& here = net.add_app(0);
  const SocketRef a = here.bind({IpAddress{}, 7});
  send(kGroup);
  EXPECT_EQ(received(here, a), 0u) << "no member yet";
  join(0, a);
  const uint64_t frames = net.frames(0);
  send(kGroup);
  EXPECT_EQ(received(here, a), 1u);
  EXPECT_GT(net.frames(0), frames) << "and the wire, too";
  set(SocketOption::group_ttl, 0);
  last = {};
  send(kGroup);
  EXPECT_EQ(received(here, a), 1u);
  EXPECT_NE(last.kind, PacketKind::udp) << "a TTL of 0 stays here";
  set(SocketOption::group_loop, 0);
  send(kGroup);
  EXPECT_EQ(received(here, a), 0u);
  EXPECT_EQ(sender[from].outstanding(), 0u) << "all storage came back";
}

// proves: 1122-40
TEST_F(Groups, BroadcastsNeedTheOption) {
  const SocketRef a = first.bind({IpAddress{}, 7});
  const SocketRef b = second.bind({IpAddress{}, 7});
  for (const IpAddress& to : {kDirected, IpAddress::v4(UINT32_MAX)}) {
    EXPECT_EQ(set(SocketOption::broadcast, 0), 0);
    send(to);
    EXPECT_EQ(sender[from].error, EACCES);
    EXPECT_EQ(received(first, a), 0u);
    EXPECT_EQ(set(SocketOption::broadcast, 1), 0);
    send(to);
    EXPECT_TRUE(last.mac_destination.is_broadcast());
    EXPECT_EQ(received(first, a), 1u);
    EXPECT_EQ(received(second, b), 1u);
  }
  EXPECT_EQ(net.counter(0, Counter::udp_tx_datagrams), 2u);
}

TEST_F(Groups, ConnectedSocketsHearTheirPeerOnly) {
  const SocketRef a = first.bind({IpAddress{}, 7});
  const SocketRef b = first.bind({IpAddress{}, 7});
  join(1, a);
  ASSERT_EQ(first.connect(a, {kAddress[0], 4000}, net.now()), 0);
  ASSERT_EQ(first.connect(b, {kAddress[0], 4001}, net.now()), 0);
  send(kGroup);
  EXPECT_EQ(received(first, a), 1u);
  EXPECT_EQ(received(first, b), 0u);
}

TEST(GroupReports, JoiningIsReportedByTheSpeakerAlone) {
  for (const bool speaks : {true, false}) {
    StackConfig config = default_config(1);
    config.speaks_for_host = speaks;
    StackNetwork net(1, default_config(0), config);
    TestApp& app = net.add_app(1);
    const SocketRef a = app.bind({IpAddress{}, 7});
    EXPECT_EQ(net.stack(1).change_group(a, Change::join, kGroup, 0, {}, net.now()), 0);
    net.run_for(5s);
    EXPECT_EQ(net.counter(1, Counter::group_reports_tx), speaks ? 2u : 0u);
    EXPECT_EQ(net.complaint(), "");
  }
}

}  // namespace
}  // namespace postern::test
