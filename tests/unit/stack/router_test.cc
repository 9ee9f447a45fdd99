// Routers in use: what a whole stack does with what they say.
#include "wire/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "ip/ipv6.h"
#include "support/stack_network.h"
#include "wire/build.h"
#include "wire/nd.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Frame = std::vector<std::byte>;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
MacAddress mac_of(uint8_t last) { return {{2, 0, 0, 0, 1, last}}; }

const char* const kFar = "2001:db8:ff::1";

StackConfig host_config() {
  StackConfig config = default_config(0);
  config.interfaces[0].accept_ra = true;
  config.neighbors.duplicate_probes = 0;
  return config;
}

// Side 0 listens to routers that the test plays.
class Routers : public ::testing::Test {
 protected:
  Routers() : net(1, host_config(), default_config(1)), app(net.add_app(0)) {
    net.tap = [this](int from, const Frame& frame) {
      if (from == 0) see(frame);
      return true;
    };
    net.run_for(3s);
  }

  void see(const Frame& frame) {
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    const ParsedPacket p = wire::parse(packet);
    if (p.kind == PacketKind::icmp && p.source_port >> 8 == wire::icmp6::router_solicitation) {
      ++solicitations;
    }
    if (p.kind == PacketKind::udp) last_udp = p;
    if (p.kind != PacketKind::icmp || !answering) return;
    wire::NdMessage nd;
    if (!p.is_v6 || p.source_port >> 8 != wire::icmp6::neighbor_solicitation) return;
    if (wire::read_nd(packet, p, &nd) != Drop::none || !nd.target.is_link_local()) return;
    if (silent.contains(nd.target)) return;
    neighbor_advertisement(nd.target, true, true);
  }

  void send(const IpAddress& source, const MacAddress& mac, const IpAddress& destination,
            std::span<const std::byte> icmp) {
    Frame frame(14 + 40 + icmp.size());
    std::byte* p = frame.data();
    p += wire::write_ethernet(p, multicast_mac(all_nodes()), mac, wire::ether_type::ipv6);
    p += wire::write_ip(p, {.source = source,
                            .destination = destination,
                            .protocol = 58,
                            .ttl = 255,
                            .payload_length = static_cast<uint32_t>(icmp.size())});
    std::copy(icmp.begin(), icmp.end(), p);
    wire::finish_checksum(p, icmp.size(), 0, source, destination, Protocol::icmp6);
    net.inject(0, std::move(frame));
  }
  static IpAddress router(uint8_t n) {
    IpAddress a = ip("fe80::");
    a.data()[15] = n;
    return a;
  }
  void advertise(uint8_t n, uint16_t lifetime, std::initializer_list<uint8_t> options = {},
                 uint8_t hop_limit = 0) {
    std::vector<std::byte> icmp(16 + 8 + options.size());
    wire::write_icmp(icmp.data(), wire::icmp6::router_advertisement, 0,
                     uint32_t{hop_limit} << 24 | lifetime);
    const MacAddress mac = mac_of(n);
    icmp[16] = icmp[17] = std::byte{1};
    std::memcpy(&icmp[18], mac.bytes.data(), 6);
    std::transform(options.begin(), options.end(), icmp.begin() + 24,
                   [](uint8_t b) { return std::byte{b}; });
    send(router(n), mac, all_nodes(), icmp);
    net.run_for(1ms);
  }
  void neighbor_advertisement(const IpAddress& target, bool is_router, bool solicited) {
    wire::NdMessage nd;
    nd.type = wire::icmp6::neighbor_advertisement;
    nd.router = is_router;
    nd.solicited = solicited;
    nd.override_known = true;
    nd.has_mac = true;
    nd.target = target;
    nd.mac = mac_of(target.data()[15]);
    std::array<std::byte, wire::kMaxNdMessage> icmp;
    wire::write_nd(icmp.data(), nd);
    send(target, nd.mac, solicited ? link_local_address(kMac[0]) : all_nodes(), icmp);
  }
  void redirect(uint8_t from, const IpAddress& target, const IpAddress& destination) {
    std::array<std::byte, 40> icmp{};
    wire::write_icmp(icmp.data(), wire::icmp6::redirect, 0, 0);
    std::memcpy(&icmp[8], target.data(), 16);
    std::memcpy(&icmp[24], destination.data(), 16);
    send(router(from), mac_of(from), link_local_address(kMac[0]), icmp);
    net.run_for(1ms);
  }
  std::string way(const char* destination = kFar) {
    LearnedRoute r;
    if (!net.stack(0).learned_route(ip(destination), &r)) return "";
    return r.gateway.is_any() ? "link" : r.gateway.to_string();
  }

  StackNetwork net;
  TestApp& app;
  int solicitations = 0;
  bool answering = true;
  std::set<IpAddress> silent;
  ParsedPacket last_udp;
};

// 2001:db8:1::/64, on the link and autonomous, for an hour.
constexpr std::initializer_list<uint8_t> kPrefix{3, 4, 64, 0xc0, 0, 0,    0x0e, 0x10, 0,    0, 7,
                                                 8, 0, 0,  0,    0, 0x20, 0x01, 0x0d, 0xb8, 0, 1,
                                                 0, 0, 0,  0,    0, 0,    0,    0,    0,    0};

TEST_F(Routers, AreAskedForAndUsed) {
  EXPECT_GE(solicitations, 1);
  EXPECT_EQ(way(), "");
  advertise(1, 1800, kPrefix, 17);
  EXPECT_EQ(way(), "fe80::1");
  EXPECT_EQ(way("2001:db8:1::5"), "link");
  net.run_for(3s);
  const int asked = solicitations;
  net.run_for(60s);
  EXPECT_EQ(solicitations, asked) << "answered";
  const SocketRef socket = app.bind({IpAddress{}, 5000});
  app.send_to(socket, {ip(kFar), 9}, Frame(10), net.now());
  net.run_for(10ms);
  EXPECT_EQ(last_udp.destination, ip(kFar));
  EXPECT_EQ(last_udp.mac_destination, mac_of(1));
  EXPECT_EQ(last_udp.ttl, 17);
  EXPECT_TRUE((Prefix{ip("2001:db8:1::"), 64}).contains(last_udp.source));
  EXPECT_EQ(net.complaint(), "");
}

TEST_F(Routers, OneThatIsSilentGivesWayToAnother) {
  advertise(1, 1800, kPrefix);
  advertise(2, 1800);
  EXPECT_EQ(way(), "fe80::1");
  silent.insert(router(1));
  const SocketRef socket = app.bind({IpAddress{}, 5000});
  for (int i = 0; i < 10; ++i) {
    app.send_to(socket, {ip(kFar), 9}, Frame(10), net.now());
    net.run_for(1s);
  }
  EXPECT_EQ(way(), "fe80::2");
  EXPECT_EQ(last_udp.mac_destination, mac_of(2));
}

// proves: 4861-27
TEST_F(Routers, OneThatIsARouterNoMoreIsUsedNoMore) {
  advertise(1, 1800);
  EXPECT_EQ(way(), "fe80::1");
  neighbor_advertisement(router(1), true, false);
  net.run_for(1ms);
  EXPECT_EQ(way(), "fe80::1");
  neighbor_advertisement(router(1), false, false);
  net.run_for(1ms);
  EXPECT_EQ(way(), "");
}

// proves: 4861-32, 4861-33
TEST_F(Routers, RedirectsOfOthersAreRefused) {
  advertise(1, 1800);
  redirect(2, router(3), ip(kFar));
  EXPECT_EQ(way(), "fe80::1");
  EXPECT_EQ(net.drops(0, Drop::nd_not_for_us), 1u);
  redirect(1, router(3), ip(kFar));
  EXPECT_EQ(way(), "fe80::3");
  EXPECT_EQ(way("2001:db8:ff::2"), "fe80::1") << "no other destination";
  redirect(1, router(4), ip(kFar));
  EXPECT_EQ(way(), "fe80::3") << "it is not the router in use any more";
  redirect(3, ip(kFar), ip(kFar));
  EXPECT_EQ(way(), "link") << "the destination itself";
}

TEST_F(Routers, ARedirectToASilentTargetIsForgotten) {
  advertise(1, 1800, kPrefix);
  net.run_for(3s);
  redirect(1, router(3), ip(kFar));
  silent.insert(router(3));
  const SocketRef socket = app.bind({IpAddress{}, 5000});
  for (int i = 0; i < 6; ++i) {
    app.send_to(socket, {ip(kFar), 9}, Frame(10), net.now());
    net.run_for(1s);
  }
  EXPECT_EQ(way(), "fe80::1");
  EXPECT_EQ(last_udp.mac_destination, mac_of(1));
}

TEST_F(Routers, ConfiguredRoutesComeFirst) {
  advertise(1, 1800, kPrefix);
  const Route routes[] = {{*Prefix::parse("2001:db8:ff::/48"), router(9), 0, 0},
                          {*Prefix::parse("2001:db8::/32"), router(8), 0, 0}};
  const RouteTable table(routes);
  net.stack(0).set_routes(&table);
  EXPECT_EQ(way(), "") << "the configured one";
  EXPECT_EQ(way("2001:db8:1::5"), "link") << "a longer prefix counts more";
  EXPECT_EQ(way("2001:db9::1"), "fe80::1") << "no configured route";
  net.stack(0).set_routes(nullptr);
}

TEST_F(Routers, AConnectionWaitsForTheNextRouterNotForTheSilentOne) {
  advertise(1, 1800, kPrefix);
  advertise(2, 1800);
  net.run_for(3s);
  silent.insert(router(1));
  neighbor_advertisement(router(1), true, false);
  const SocketRef socket = app.open(net.now());
  app.connect(socket, {ip(kFar), 80}, net.now());
  net.run_for(6s);
  EXPECT_EQ(way(), "fe80::2");
  EXPECT_EQ(app[socket].error, 0) << "still trying";
}

}  // namespace
}  // namespace postern::test
