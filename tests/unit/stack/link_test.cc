// ARP, ICMP and UDP between two stacks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checksum.h"
#include "support/stack_network.h"
#include "udp/datagram.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

std::vector<std::byte> pattern(size_t n, uint8_t seed = 1) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 31 + seed);
  return bytes;
}

std::vector<std::byte> echo_request(size_t n, const IpAddress& from = kAddress[0]) {
  std::vector<std::byte> frame(14 + 20 + 8 + n);
  std::byte* p = frame.data();
  p += wire::write_ethernet(p, kMac[1], kMac[0], wire::ether_type::ipv4);
  p += wire::write_ip(p, {.source = from,
                          .destination = kAddress[1],
                          .protocol = 1,
                          .payload_length = static_cast<uint32_t>(8 + n)});
  std::byte* const l4 = p;
  p += wire::write_icmp(p, wire::icmp4::echo_request, 0, 0x12345678);
  const auto data = pattern(n);
  if (n != 0) std::memcpy(p, data.data(), n);
  wire::finish_checksum(l4, 8, n, from, kAddress[1], Protocol::icmp);
  return frame;
}

std::vector<std::byte> udp_frame(const IpAddress& from, uint16_t from_port, uint16_t to_port,
                                 const std::vector<std::byte>& payload) {
  const auto length = static_cast<uint32_t>(payload.size());
  std::vector<std::byte> frame(14 + 20 + 8 + length);
  std::byte* p = frame.data();
  p += wire::write_ethernet(p, kMac[1], kMac[0], wire::ether_type::ipv4);
  p += wire::write_ip(
      p,
      {.source = from, .destination = kAddress[1], .protocol = 17, .payload_length = 8 + length});
  wire::write_udp(p, from_port, to_port, length);
  std::memcpy(p + 8, payload.data(), length);
  wire::finish_checksum(p, 8, length, from, kAddress[1], Protocol::udp);
  return frame;
}

ParsedPacket parse(const std::vector<std::byte>& frame) {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  return wire::parse(packet);
}

TEST(Link, AnnouncesItsAddressesTwice) {
  StackNetwork net;
  net.run_for(5s);
  EXPECT_EQ(net.frames(0), 2u);
  EXPECT_EQ(net.counter(0, Counter::arp_tx), 2u);
  EXPECT_EQ(net.counter(1, Counter::arp_rx), 2u);
  EXPECT_EQ(net.complaint(), "");
}

TEST(Link, APermanentNeighborIsNotAskedFor) {
  StackConfig config = default_config(1);
  MacAddress told = kMac[0];
  told.bytes[5] ^= 0x80;  // not what the other side would say of itself
  config.neighbors.permanent = {{kAddress[0], 0, told}};
  StackNetwork net(1, default_config(0), config);
  std::vector<std::byte> reply;
  net.tap = [&](int from, const std::vector<std::byte>& frame) {
    if (from == 1 && parse(frame).kind == PacketKind::icmp) reply = frame;
    return true;
  };
  net.run_for(5s);  // what the other side says of itself at its start has come
  const uint64_t before = net.counter(1, Counter::arp_tx);
  net.inject(1, echo_request(8));
  ASSERT_TRUE(net.run([&] { return !reply.empty(); }, 1s));
  EXPECT_EQ(parse(reply).mac_destination, told);
  net.run_for(120s);  // longer than any other is believed
  reply.clear();
  net.inject(1, echo_request(8));
  ASSERT_TRUE(net.run([&] { return !reply.empty(); }, 1s));
  EXPECT_EQ(parse(reply).mac_destination, told);
  EXPECT_EQ(net.counter(1, Counter::arp_tx), before);
}

// proves: 1122-29, 1812-6
TEST(Link, PingIsAnsweredAtEverySize) {
  StackNetwork net;
  std::vector<std::byte> reply;
  net.tap = [&](int from, const std::vector<std::byte>& frame) {
    if (from == 1 && parse(frame).kind == PacketKind::icmp) reply = frame;
    return true;
  };
  for (const size_t n : {size_t{0}, size_t{1}, size_t{56}, size_t{777}, size_t{1472}}) {
    reply.clear();
    net.inject(1, echo_request(n));
    ASSERT_TRUE(net.run([&] { return !reply.empty(); }, 1s)) << n;
    const ParsedPacket p = parse(reply);
    EXPECT_EQ(p.source_port >> 8, wire::icmp4::echo_reply);
    EXPECT_EQ(p.destination, kAddress[0]);
    EXPECT_EQ(p.mac_destination, kMac[0]) << "resolved, not guessed";
    ASSERT_EQ(p.payload_length, n);
    const auto data = pattern(n);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), reply.data() + p.payload_offset));
  }
  EXPECT_EQ(net.counter(1, Counter::icmp_tx), 5u);
  EXPECT_EQ(net.complaint(), "");
}

TEST(Link, PingFloodIsLimited) {
  StackConfig config = default_config(1);
  config.icmp_rate = 100;
  StackNetwork net(1, default_config(0), config);
  for (int i = 0; i < 2000; ++i) net.inject(1, echo_request(8));
  net.run_for(1s);
  EXPECT_LE(net.counter(1, Counter::icmp_tx), 116u);
  EXPECT_GE(net.drops(1, Drop::icmp_rate_limited), 1800u);
}

// proves: 1122-8
TEST(Link, FramesForOthersAreDroppedByName) {
  StackNetwork net;
  auto frame = echo_request(8);
  frame[5] = std::byte{9};  // another station
  net.inject(1, frame);
  frame = echo_request(8);
  frame[14 + 19] = std::byte{77};  // another address: fix the header checksum
  std::memset(frame.data() + 24, 0, 2);
  const be16 sum = checksum_finish(checksum_add({frame.data() + 14, 20}));
  std::memcpy(frame.data() + 24, &sum, 2);
  net.inject(1, frame);
  net.run_for(10ms);
  EXPECT_EQ(net.drops(1, Drop::eth_not_ours), 1u);
  EXPECT_EQ(net.drops(1, Drop::ip4_not_ours), 1u);
}

TEST(Link, AnswerToAnAbsentNeighborIsDroppedAndCounted) {
  StackNetwork net;
  net.inject(1, echo_request(8, IpAddress::v4(0x0a0000c8)));  // 10.0.0.200 is nobody
  net.run_for(10s);
  EXPECT_EQ(net.drops(1, Drop::neighbor_unreachable), 1u);
  std::vector<NeighborInfo> list(16);
  uint64_t cursor = 0;
  const size_t n = net.stack(1).list_neighbors(&cursor, list, net.now());
  bool found = false;
  for (size_t i = 0; i < n; ++i) {
    if (list[i].address == IpAddress::v4(0x0a0000c8))
      found = std::string(list[i].state) == "failed";
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(cursor, UINT64_MAX);
}

// proves: 5227-9
TEST(Link, AnotherClaimantOfOurAddressIsCountedAndRefuted) {
  StackNetwork net;
  net.run_for(5s);
  std::vector<std::byte> frame(14 + 28);
  const MacAddress thief{{2, 0, 0, 0, 0, 0x66}};
  const MacAddress everyone{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  const size_t l2 = wire::write_ethernet(frame.data(), everyone, thief, wire::ether_type::arp);
  wire::write_arp(frame.data() + l2,
                  {wire::ArpPacket::kRequest, thief, kAddress[1], MacAddress{}, kAddress[1]});
  const uint64_t before = net.counter(1, Counter::arp_tx);
  for (int i = 0; i < 5; ++i) net.inject(1, frame);
  net.run_for(1s);
  EXPECT_EQ(net.drops(1, Drop::arp_conflict), 5u);
  EXPECT_EQ(net.counter(1, Counter::arp_tx), before + 1) << "RFC 5227: once in ten seconds";
}

// ---- UDP ----

class Udp : public ::testing::Test {
 protected:
  Udp() : client(net.add_app(0)), server(net.add_app(1)) {
    server_socket = server.bind({kAddress[1], 7});
    client_socket = client.bind({kAddress[0], 5000});
    net.on_turn = [this](int side) {
      if (side == 1) echo();
    };
  }
  void echo() {
    if (!server.has(server_socket)) return;
    while (auto d = server.receive_from(server_socket, net.now())) {
      server.send_to(server_socket, d->from, d->payload, net.now());
    }
  }
  StackNetwork net;
  TestApp& client;
  TestApp& server;
  SocketRef client_socket, server_socket;
  Endpoint to{kAddress[1], 7};
};

TEST_F(Udp, EchoOfEverySize) {
  for (size_t n = 0; n <= 1472; ++n) {
    ASSERT_EQ(client.send_to(client_socket, to, pattern(n), net.now()), 0);
    std::optional<Datagram> d;
    ASSERT_TRUE(net.run(
        [&] { return (d = client.receive_from(client_socket, net.now())).has_value(); }, 5s))
        << n;
    ASSERT_EQ(d->payload, pattern(n));
    EXPECT_EQ(d->from, to);
  }
  net.run_for(1s);
  EXPECT_EQ(client[client_socket].tx_acked, client[client_socket].tx_tail);
  EXPECT_EQ(net.stack(0).usage(0).rx_units_used, 0u);
  EXPECT_EQ(net.stack(1).usage(0).rx_units_used, 0u);
  EXPECT_EQ(net.counter(1, Counter::udp_rx_datagrams), 1473u);
  EXPECT_EQ(net.complaint(), "");
}

TEST_F(Udp, LongDatagramsGoInFragments) {
  std::vector<std::vector<std::byte>> fragments;
  net.tap = [&](int from, const std::vector<std::byte>& frame) {
    if (from == 0 && parse(frame).fragment) fragments.push_back(frame);
    return true;
  };
  net.inject(0, echo_request(0));  // nothing: side 0 ignores it
  client.send_to(client_socket, to, pattern(8), net.now());
  net.run_for(1s);  // the neighbor is known now
  const auto payload = pattern(9000, 3);
  ASSERT_EQ(client.send_to(client_socket, to, payload, net.now()), 0);
  net.run_for(100ms);
  ASSERT_EQ(fragments.size(), 7u);
  std::vector<std::byte> datagram;
  for (const auto& f : fragments) {
    const ParsedPacket p = parse(f);
    datagram.insert(datagram.end(), f.data() + p.payload_offset,
                    f.data() + p.payload_offset + p.payload_length);
  }
  ASSERT_EQ(datagram.size(), 9008u);
  EXPECT_TRUE(std::equal(payload.begin(), payload.end(), datagram.begin() + 8));
  const uint32_t sum = checksum_combine(pseudo_header_sum(kAddress[0], kAddress[1], 17, 9008),
                                        checksum_add(datagram));
  EXPECT_TRUE(checksum_is_good(sum));
  EXPECT_EQ(net.complaint(), "");
}

// proves: 1122-35
TEST_F(Udp, TooLongIsAnErrorAndGivesTheStorageBack) {
  EXPECT_EQ(client.send_to(client_socket, to, pattern(65508 - 60000), net.now()), 0);
  auto& s = client[client_socket];
  s.tx_tail += datagram_record_size(65508);
  // The ring is smaller than that: name memory from its start.
  EXPECT_EQ(net.stack(0).send_datagram(client_socket, datagram_record_size(65508), 48, 65508, {},
                                       to, 0, 0, net.now()),
            0);
  net.run_for(1s);
  EXPECT_EQ(s.error, EMSGSIZE);
  EXPECT_EQ(s.tx_acked, s.tx_tail);
}

// proves: 1122-23, 1122-41, 1122-43
TEST_F(Udp, NoSocketAnswersPortUnreachableToAConnectedSender) {
  EXPECT_EQ(client.connect(client_socket, {kAddress[1], 9}, net.now()), 0);
  client.send_to(client_socket, {}, pattern(10), net.now());
  ASSERT_TRUE(net.run([&] { return client[client_socket].error != 0; }, 5s));
  EXPECT_EQ(client[client_socket].error, ECONNREFUSED);
  EXPECT_EQ(net.drops(1, Drop::udp_no_socket), 1u);
}

TEST_F(Udp, AConnectedSocketHearsItsPeerOnly) {
  client.connect(client_socket, {kAddress[1], 9}, net.now());
  const SocketRef other = server.bind({IpAddress::v4(0), 9});
  server.send_to(server_socket, {kAddress[0], 5000}, pattern(3), net.now());
  server.send_to(other, {kAddress[0], 5000}, pattern(4), net.now());
  net.run_for(1s);
  auto d = client.receive_from(client_socket, net.now());
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->payload.size(), 4u);
  EXPECT_FALSE(client.receive_from(client_socket, net.now()).has_value());
  EXPECT_EQ(net.drops(0, Drop::udp_not_connected_peer), 1u);
}

// A burst is looked up once where it may be: not past another port, another address, a connected
// socket or one that is gone.
TEST_F(Udp, ABurstForSeveralSocketsReachesEach) {
  net.on_turn = nullptr;
  const SocketRef second = server.bind({kAddress[1], 9});
  const SocketRef special = server.bind({kAddress[1], 9});
  ASSERT_EQ(server.connect(special, {kAddress[0], 5000}, net.now()), 0);
  const SocketRef stranger = client.bind({kAddress[0], 5001});
  client.send_to(client_socket, to, pattern(1), net.now());
  net.run_for(1s);  // the neighbor is known now
  ASSERT_TRUE(server.receive_from(server_socket, net.now()).has_value());

  const auto send = [&](SocketRef from, uint16_t port, size_t size) {
    client.send_to(from, {kAddress[1], port}, pattern(size), net.now());
  };
  const auto sizes = [&](SocketRef at) {
    std::vector<size_t> got;
    while (auto d = server.receive_from(at, net.now())) {
      EXPECT_EQ(d->payload, pattern(d->payload.size()));
      got.push_back(d->payload.size());
    }
    return got;
  };
  for (size_t i = 0; i < 4; ++i) {
    send(client_socket, 7, 10 + i);
    send(stranger, 7, 20 + i);
    send(client_socket, 9, 30 + i);
    send(stranger, 9, 40 + i);
    send(stranger, 10, 50 + i);
  }
  net.run_for(10ms);
  using Sizes = std::vector<size_t>;
  Sizes first = sizes(server_socket);
  std::sort(first.begin(), first.end());
  EXPECT_EQ(first, (Sizes{10, 11, 12, 13, 20, 21, 22, 23}));
  EXPECT_EQ(sizes(special), (Sizes{30, 31, 32, 33}));
  EXPECT_EQ(sizes(second), (Sizes{40, 41, 42, 43}));
  EXPECT_EQ(net.drops(1, Drop::udp_no_socket), 4u);

  send(client_socket, 7, 60);
  server.close(server_socket, net.now());
  net.run_for(10ms);
  EXPECT_EQ(net.drops(1, Drop::udp_no_socket), 5u);
  EXPECT_EQ(net.complaint(), "");
}

// Whole and in order over the ends of chunks, whatever the length, and past one that has no room.
TEST_F(Udp, ABurstFillsChunksUpToTheLimit) {
  net.on_turn = nullptr;
  const auto inject = [&](size_t size) {
    net.inject(1, udp_frame(kAddress[0], 5000, 7, pattern(size, static_cast<uint8_t>(size))));
  };
  const auto expect = [&](size_t size) {
    const auto d = server.receive_from(server_socket, net.now());
    ASSERT_TRUE(d.has_value());
    EXPECT_EQ(d->payload, pattern(size, static_cast<uint8_t>(size)));
  };
  for (size_t size = 0; size < 96; ++size) inject(size);
  net.run_for(1ms);
  for (size_t size = 0; size < 96; ++size) expect(size);

  net.stack(1).set_option(server_socket, 8, 4096, net.now());
  for (const size_t size : {1000, 1001, 1002, 1003, 100, 1004}) inject(size);
  net.run_for(1ms);
  for (const size_t size : {1000, 1001, 1002, 100}) expect(size);
  EXPECT_FALSE(server.receive_from(server_socket, net.now()).has_value());
  EXPECT_EQ(net.drops(1, Drop::udp_socket_full), 2u);
  EXPECT_EQ(net.counter(1, Counter::udp_rx_datagrams), 100u);
}

// From a broadcast address or from ourselves none is taken, also behind a good one in a burst.
TEST_F(Udp, ForgedSourcesInABurstAreDroppedByName) {
  net.on_turn = nullptr;
  for (const uint32_t source : {0x0a0000ffU, kAddress[1].v4_value(), kAddress[0].v4_value()}) {
    const auto datagram = udp_frame(IpAddress::v4(source), 5000, 7, pattern(20));
    net.inject(1, udp_frame(kAddress[0], 5000, 7, pattern(20)));
    net.inject(1, datagram);
  }
  net.run_for(1ms);
  EXPECT_EQ(net.drops(1, Drop::ip4_bad_source), 1u);
  EXPECT_EQ(net.drops(1, Drop::ip_source_ours), 1u);
  EXPECT_EQ(net.counter(1, Counter::udp_rx_datagrams), 4u);
}

TEST_F(Udp, ReceiveLimitDropsByNameAndRecovers) {
  net.on_turn = nullptr;
  net.stack(1).set_option(server_socket, 8, 16384, net.now());
  for (int i = 0; i < 40; ++i) {
    client.send_to(client_socket, to, pattern(1000), net.now());
    net.run_for(1ms);
  }
  EXPECT_EQ(net.drops(1, Drop::udp_socket_full), 40u - 16384u / 1048u);
  int received = 0;
  while (server.receive_from(server_socket, net.now())) ++received;
  EXPECT_EQ(received, 15);
  client.send_to(client_socket, to, pattern(1000), net.now());
  net.run_for(1ms);
  EXPECT_TRUE(server.receive_from(server_socket, net.now()).has_value());
  EXPECT_EQ(net.stack(1).usage(0).rx_units_used, 0u);
}

TEST_F(Udp, ResolutionHoldsAFewAndDropsTheOldest) {
  for (uint8_t i = 0; i < 6; ++i) client.send_to(client_socket, to, pattern(10, i), net.now());
  int replies = 0;
  ASSERT_TRUE(net.run(
      [&] {
        while (client.receive_from(client_socket, net.now())) ++replies;
        return replies == 3;
      },
      5s));
  EXPECT_EQ(net.drops(0, Drop::neighbor_queue_full), 3u);
  EXPECT_EQ(client[client_socket].tx_acked, client[client_socket].tx_tail);
}

TEST_F(Udp, CloseSendsWhatIsQueuedAndReleases) {
  client.send_to(client_socket, to, pattern(100), net.now());
  net.run_for(1s);
  client.send_to(client_socket, to, pattern(100), net.now());
  client.close(client_socket, net.now());
  net.run_for(1s);
  EXPECT_FALSE(client.has(client_socket));
  EXPECT_EQ(net.counter(1, Counter::udp_rx_datagrams), 2u);
  EXPECT_EQ(net.stack(0).usage(0).sockets, 0u);
  // The port is free again; the generation of the slot is another.
  const SocketRef again = client.bind({kAddress[0], 5000});
  client.send_to(again, to, pattern(5), net.now());
  ASSERT_TRUE(net.run([&] { return client.receive_from(again, net.now()).has_value(); }, 1s));
  EXPECT_EQ(net.complaint(), "");
}

TEST_F(Udp, FullEventRingDelaysButLosesNothing) {
  client.refuse_events = true;
  client.send_to(client_socket, to, pattern(100), net.now());
  net.run_for(1s);
  EXPECT_EQ(client[client_socket].unread(), 0u);
  client.refuse_events = false;
  EXPECT_TRUE(
      net.run([&] { return client.receive_from(client_socket, net.now()).has_value(); }, 1s));
}

}  // namespace
}  // namespace postern::test
