// Datagrams and pings larger than a frame, both families, and what is known of a path's MTU.
#include "wire/fragment.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "base/checksum.h"
#include "stack/socket_option.h"
#include "support/stack_network.h"
#include "udp/datagram.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

Bytes pattern(size_t n, uint8_t seed = 1) {
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 31 + (i >> 8) + seed);
  return bytes;
}

ParsedPacket parse(const Bytes& frame) {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  return wire::parse(packet);
}

StackConfig config_of(int side) {
  StackConfig config = default_config(side);
  config.interfaces[0].addresses.push_back(
      *Prefix::parse(side == 0 ? "2001:db8::1/64" : "2001:db8::2/64"));
  config.neighbors.duplicate_probes = 0;
  return config;
}

class Fragments : public ::testing::TestWithParam<bool> {
 protected:
  Fragments()
      : net(1, config_of(0), config_of(1)),
        client(net.add_app(0, {.slots = 8, .client_slots = 4, .tx_ring = 1 << 19})),
        server(net.add_app(1, {.slots = 8, .client_slots = 4, .tx_ring = 1 << 19})) {
    net.run_for(3s);  // addresses are announced
    client_socket = client.bind({address(0), 5000});
    server_socket = server.bind({address(1), 7});
    net.on_turn = [this](int side) {
      while (side == 1) {
        auto d = server.receive_from(server_socket, net.now());
        if (!d) return;
        server.send_to(server_socket, d->from, d->payload, net.now());
      }
    };
    net.tap = [this](int from, const Bytes& frame) {
      sent[from].push_back(frame);
      return true;
    };
  }
  [[nodiscard]] bool v6() const { return GetParam(); }
  [[nodiscard]] IpAddress address(int side) const {
    if (!v6()) return kAddress[side];
    return *IpAddress::parse(side == 0 ? "2001:db8::1" : "2001:db8::2");
  }
  [[nodiscard]] Endpoint to() const { return {address(1), 7}; }

  std::optional<Datagram> answer(Duration limit = 5s) {
    std::optional<Datagram> d;
    (void)net.run([&] { return (d = client.receive_from(client_socket, net.now())).has_value(); },
                  limit);
    return d;
  }
  // The bytes of IP packets that side 0 has sent since the last call, and how many had DF.
  std::vector<size_t> packet_sizes(size_t* dont_fragment = nullptr) {
    std::vector<size_t> sizes;
    if (dont_fragment != nullptr) *dont_fragment = 0;
    for (const Bytes& frame : sent[0]) {
      const ParsedPacket p = parse(frame);
      if (p.kind != PacketKind::udp) continue;
      sizes.push_back(frame.size() - 14);
      const bool df = !p.is_v6 && (static_cast<uint8_t>(frame[14 + 6]) & 0x40) != 0;
      if (df && dont_fragment != nullptr) ++*dont_fragment;
    }
    sent[0].clear();
    return sizes;
  }
  // A router in between says that the last datagram of side 0 was too big.
  void too_big(uint32_t mtu) {
    Bytes quoted;
    for (const Bytes& frame : sent[0]) {
      if (parse(frame).kind == PacketKind::udp) quoted.assign(frame.begin() + 14, frame.end());
    }
    ASSERT_FALSE(quoted.empty());
    quoted.resize(std::min<size_t>(quoted.size(), 500));
    Bytes frame(14 + 40 + 8 + quoted.size());
    std::byte* p = frame.data();
    p += wire::write_ethernet(p, kMac[0], kMac[1],
                              v6() ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
    const IpAddress router = *IpAddress::parse(v6() ? "2001:db8::99" : "10.0.0.99");
    const auto protocol = v6() ? Protocol::icmp6 : Protocol::icmp;
    p += wire::write_ip(p, {.source = router,
                            .destination = address(0),
                            .protocol = static_cast<uint8_t>(protocol),
                            .payload_length = static_cast<uint32_t>(8 + quoted.size())});
    std::byte* const l4 = p;
    p += wire::write_icmp(p, v6() ? wire::icmp6::packet_too_big : wire::icmp4::unreachable,
                          v6() ? 0 : wire::icmp4::fragmentation_needed, mtu);
    std::memcpy(p, quoted.data(), quoted.size());
    wire::finish_checksum(l4, 8, quoted.size(), router, address(0), protocol);
    frame.resize(static_cast<size_t>(p - frame.data()) + quoted.size());
    net.inject(0, frame);
    net.run_for(1ms);
  }
  int set_discover(int value) {
    return net.stack(0).set_option(client_socket, static_cast<uint16_t>(SocketOption::mtu_discover),
                                   static_cast<uint32_t>(value + 1), net.now());
  }

  StackNetwork net;
  TestApp& client;
  TestApp& server;
  SocketRef client_socket, server_socket;
  std::array<std::vector<Bytes>, 2> sent;
};

INSTANTIATE_TEST_SUITE_P(Family, Fragments, ::testing::Bool(),
                         [](const auto& family) { return family.param ? "IPv6" : "IPv4"; });

// proves: 8200-23, 5722-3, 1122-11, 1122-35
TEST_P(Fragments, DatagramsOfEverySizeThereAndBack) {
  uint64_t whole = 0;
  for (const size_t n : {1452, 1453, 1472, 1473, 2952, 2953, 9000, 32768, 65506, 65507}) {
    ASSERT_EQ(client.send_to(client_socket, to(), pattern(n), net.now()), 0);
    const auto d = answer();
    ASSERT_TRUE(d.has_value()) << n;
    EXPECT_EQ(d->payload, pattern(n)) << n;
    for (const size_t size : packet_sizes()) EXPECT_LE(size, 1500u);
    whole += n <= (v6() ? 1452u : 1472u) ? 1 : 0;
  }
  EXPECT_EQ(net.counter(1, Counter::ip_reassembled), 10 - whole);
  EXPECT_EQ(net.counter(0, Counter::ip_fragments_tx), net.counter(1, Counter::ip_fragments_rx));
  EXPECT_EQ(net.complaint(), "");
}

// The first datagram finds no neighbor yet: its fragments wait for it.
TEST_P(Fragments, WaitForTheNeighborTogether) {
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(30000), net.now()), 0);
  ASSERT_TRUE(answer().has_value());
  EXPECT_EQ(net.drops(0, Drop::neighbor_queue_full), 0u);
}

TEST_P(Fragments, AnAbsentNeighborLosesTheDatagramAndNothingElse) {
  const IpAddress nobody = *IpAddress::parse(v6() ? "2001:db8::77" : "10.0.0.77");
  ASSERT_EQ(client.send_to(client_socket, {nobody, 7}, pattern(30000), net.now()), 0);
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(10), net.now()), 0);
  ASSERT_TRUE(answer(10s).has_value());
  EXPECT_EQ(client[client_socket].tx_acked, client[client_socket].tx_tail);
}

// What they make goes to the worker that owns the flow, in one piece; without such a one it is
// dropped, and not reset.
TEST_P(Fragments, OfAnotherWorkersFlow) {
  StackConfig config = config_of(1);
  std::vector<Bytes> given;
  config.owns_tuple = [](void*, const Endpoint&, const Endpoint&) { return false; };
  config.give_to_owner = [](void* opaque, const RxPacket& whole) {
    auto& packets = *static_cast<std::vector<Bytes>*>(opaque);
    packets.emplace_back(whole.data, whole.data + whole.length);
    return packets.size() == 1;
  };
  config.opaque = &given;
  StackNetwork other(1, config_of(0), config);
  other.run_for(3s);
  Bytes tcp = pattern(64);
  wire::write_tcp(tcp.data(), 1000, 2000, TcpSegment{.length = 44, .flags = tcp_flag::ack});
  wire::finish_checksum(tcp.data(), 20, 44, address(0), address(1), Protocol::tcp);
  for (const uint32_t n : {0U, 1U, 2U, 3U}) {
    const uint32_t at = n % 2 * 32;
    const uint16_t id = n < 2 ? 9 : 10;
    Bytes frame(14 + 48 + 32);
    std::byte* p = frame.data();
    p += wire::write_ethernet(p, kMac[1], kMac[0],
                              v6() ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
    wire::IpFields fields{.source = address(0),
                          .destination = address(1),
                          .protocol = 6,
                          .dont_fragment = false,
                          .id = id,
                          .payload_length = 32,
                          .fragment_offset = static_cast<uint16_t>(v6() ? 0 : at),
                          .more_fragments = !v6() && at == 0};
    if (v6()) {
      fields.protocol = wire::kFragmentProtocol;
      fields.payload_length = 40;
    }
    p += wire::write_ip(p, fields);
    if (v6()) p += wire::write_fragment_header(p, 6, at, at == 0, id);
    std::memcpy(p, tcp.data() + at, 32);
    frame.resize(static_cast<size_t>(p - frame.data()) + 32);
    other.inject(1, frame);
  }
  other.run_for(10ms);
  ASSERT_EQ(given.size(), 2u);
  const ParsedPacket p = parse(given[0]);
  EXPECT_EQ(p.kind, PacketKind::tcp);
  EXPECT_EQ(p.source_port, 1000);
  EXPECT_EQ(p.payload_length, 44u);
  EXPECT_EQ(other.drops(1, Drop::ip_fragment_foreign), 1u) << "the second was not taken";
  EXPECT_EQ(other.counter(1, Counter::tcp_resets_sent), 0u);
}

// proves: 4443-6, 4443-20, 4443-21, 1122-29
TEST_P(Fragments, LargePingsComeBack) {
  for (const size_t n : {size_t{1473}, size_t{5000}, size_t{65507}}) {
    Bytes message(8 + n);
    wire::write_icmp(message.data(), v6() ? wire::icmp6::echo_request : wire::icmp4::echo_request,
                     0, 0x12345678);
    const Bytes data = pattern(n);
    std::memcpy(message.data() + 8, data.data(), n);
    const auto protocol = v6() ? Protocol::icmp6 : Protocol::icmp;
    wire::finish_checksum(message.data(), 8, n, address(0), address(1), protocol);
    sent[1].clear();
    for (size_t at = 0; at < message.size(); at += 1400) {
      const size_t part = std::min<size_t>(1400, message.size() - at);
      const bool more = at + part < message.size();
      Bytes frame(14 + 48 + part);
      std::byte* p = frame.data();
      p += wire::write_ethernet(p, kMac[1], kMac[0],
                                v6() ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
      wire::IpFields fields{.source = address(0),
                            .destination = address(1),
                            .protocol = static_cast<uint8_t>(protocol),
                            .dont_fragment = false,
                            .id = static_cast<uint16_t>(n),
                            .payload_length = static_cast<uint32_t>(part),
                            .fragment_offset = static_cast<uint16_t>(v6() ? 0 : at),
                            .more_fragments = !v6() && more};
      if (v6()) {
        fields.protocol = wire::kFragmentProtocol;
        fields.payload_length += 8;
      }
      p += wire::write_ip(p, fields);
      if (v6()) {
        p += wire::write_fragment_header(p, static_cast<uint8_t>(protocol),
                                         static_cast<uint32_t>(at), more, static_cast<uint32_t>(n));
      }
      std::memcpy(p, message.data() + at, part);
      frame.resize(static_cast<size_t>(p - frame.data()) + part);
      net.inject(1, frame);
    }
    net.run_for(2s);
    Bytes reply;
    for (const Bytes& frame : sent[1]) {
      const ParsedPacket p = parse(frame);
      if (!p.fragment) continue;
      EXPECT_LE(frame.size(), 1514u);
      reply.insert(reply.end(), frame.data() + p.payload_offset,
                   frame.data() + p.payload_offset + p.payload_length);
    }
    ASSERT_EQ(reply.size(), 8 + n);
    EXPECT_EQ(static_cast<uint8_t>(reply[0]),
              v6() ? wire::icmp6::echo_reply : wire::icmp4::echo_reply);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), reply.begin() + 8));
    uint32_t sum = checksum_add(reply);
    if (v6()) {
      sum = checksum_combine(
          sum, pseudo_header_sum(address(1), address(0), 58, static_cast<uint32_t>(reply.size())));
    }
    EXPECT_TRUE(checksum_is_good(sum));
  }
}

// RFC 1122 3.3.2, RFC 8200 4.5
// proves: 8200-16, 1122-12
TEST_P(Fragments, ThoseThatStayAloneAreReportedInTime) {
  int first = 0;
  net.tap = [&](int from, const Bytes& frame) {
    sent[from].push_back(frame);
    return from != 0 || !parse(frame).fragment || first++ == 0;
  };
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(4000), net.now()), 0);
  const Duration life = v6() ? 60s : 30s;
  net.run_for(life - 100ms);
  EXPECT_EQ(net.drops(1, Drop::ip_fragment_timeout), 0u);
  sent[1].clear();
  net.run_for(2s);
  EXPECT_EQ(net.drops(1, Drop::ip_fragment_timeout), 1u);
  bool told = false;
  for (const Bytes& frame : sent[1]) {
    const ParsedPacket p = parse(frame);
    if (p.kind != PacketKind::icmp) continue;
    const uint8_t type = v6() ? wire::icmp6::time_exceeded : wire::icmp4::time_exceeded;
    if (p.source_port == (type << 8 | 1)) told = true;
  }
  EXPECT_TRUE(told);
}

// proves: 8200-24, 4443-17, 8201-2, 8201-5, 8201-9, 8504-4
TEST_P(Fragments, PathMtuIsHeededByDatagramsOfAnySocket) {
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(1452), net.now()), 0);
  ASSERT_TRUE(answer().has_value());
  size_t df = 0;
  too_big(1300);
  EXPECT_EQ(net.counter(0, Counter::ip_path_mtu_lowered), 1u);
  EXPECT_EQ(packet_sizes(&df).size(), 1u);
  EXPECT_EQ(df, v6() ? 0u : 1u) << "routers are not to fragment";
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(1452), net.now()), 0);
  const auto d = answer();
  ASSERT_TRUE(d.has_value());
  EXPECT_EQ(d->payload, pattern(1452));
  const auto sizes = packet_sizes(&df);
  EXPECT_EQ(sizes.size(), 2u);
  EXPECT_EQ(df, 0u);
  for (const size_t size : sizes) EXPECT_LE(size, 1300u);
  EXPECT_EQ(client[client_socket].error, 0) << "it is not connected: whom to tell?";
  net.run_for(10min);
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(1452), net.now()), 0);
  ASSERT_TRUE(answer().has_value());
  EXPECT_EQ(packet_sizes().size(), 1u) << "forgotten, tried again";
}

// proves: 8201-8
TEST_P(Fragments, DiscoverySaysWhatIsRefused) {
  ASSERT_EQ(set_discover(2), 0);  // IP_PMTUDISC_DO
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(1452), net.now()), 0);
  ASSERT_TRUE(answer().has_value());
  too_big(1300);
  sent[0].clear();
  client.send_to(client_socket, to(), pattern(1300), net.now());
  net.run_for(10ms);
  EXPECT_EQ(client[client_socket].error, EMSGSIZE);
  EXPECT_TRUE(packet_sizes().empty());
  client[client_socket].error = 0;
  ASSERT_EQ(set_discover(3), 0);  // IP_PMTUDISC_PROBE: the link's MTU, whatever is known
  client.send_to(client_socket, to(), pattern(1452), net.now());
  ASSERT_TRUE(answer().has_value());
  EXPECT_EQ(packet_sizes().size(), 1u);
  client.send_to(client_socket, to(), pattern(1473), net.now());
  net.run_for(10ms);
  EXPECT_EQ(client[client_socket].error, EMSGSIZE);
  EXPECT_EQ(set_discover(4), EINVAL);
  EXPECT_EQ(set_discover(-1), EINVAL);
}

// proves: 8201-3
TEST_P(Fragments, AMessageAboutWhatWeNeverSentChangesNothing) {
  ASSERT_EQ(client.send_to(client_socket, to(), pattern(1452), net.now()), 0);
  ASSERT_TRUE(answer().has_value());
  client.close(client_socket, net.now());
  net.run_for(1ms);
  too_big(1300);
  EXPECT_EQ(net.counter(0, Counter::ip_path_mtu_lowered), 0u);
  EXPECT_EQ(net.drops(0, Drop::icmp_ignored), 1u);
}

}  // namespace
}  // namespace postern::test
