// ICMP redirects of IPv4: whose word counts, about what, and for how long.
#include <gtest/gtest.h>

#include <cstring>

#include "support/stack_network.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Frame = std::vector<std::byte>;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
MacAddress mac_of(uint8_t last) { return {{2, 0, 0, 0, 1, last}}; }

const char* const kFar = "198.51.100.1";
constexpr uint16_t kPort = 5000;

// Routers 10.0.0.101 and .102; .101 is the way to everything. Nobody answers for .103.
StackConfig host_config() {
  StackConfig config = default_config(0);
  config.routes.push_back({*Prefix::parse("0.0.0.0/0"), ip("10.0.0.101"), 0, 0});
  for (const uint8_t n : {101, 102}) {
    config.neighbors.permanent.push_back({IpAddress::v4(0x0a000000U + n), 0, mac_of(n)});
  }
  return config;
}

class Redirects : public ::testing::Test {
 protected:
  explicit Redirects(const StackConfig& config = host_config())
      : net(1, config, default_config(1)), app(net.add_app(0)), socket(app.bind({{}, kPort})) {
    net.tap = [this](int from, const Frame& frame) {
      if (from != 0) return true;
      const ParsedPacket p = parse(frame);
      if (p.kind == PacketKind::udp) last_udp = p;
      if (p.kind == PacketKind::tcp) last_tcp = frame;
      return true;
    };
  }

  static ParsedPacket parse(const Frame& frame) {
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    return wire::parse(packet);
  }
  static size_t write_packet(std::byte* p, const IpAddress& source, const IpAddress& destination,
                             Protocol protocol, size_t payload) {
    return wire::write_ip(p, {.source = source,
                              .destination = destination,
                              .protocol = static_cast<uint8_t>(protocol),
                              .ttl = 64,
                              .dont_fragment = false,
                              .payload_length = static_cast<uint32_t>(payload)});
  }
  // The first 8 bytes of what our socket sends to `destination`, behind its header.
  static Frame udp_quote(const char* destination, uint16_t port = kPort) {
    Frame quote(28);
    std::byte* p = quote.data();
    p += write_packet(p, kAddress[0], ip(destination), Protocol::udp, 8);
    wire::write_udp(p, port, 9, 0);
    return quote;
  }
  void redirect(const char* from, const char* target, const Frame& quote, uint8_t code = 1) {
    Frame frame(14 + 20 + 8 + quote.size());
    std::byte* p = frame.data();
    const IpAddress source = ip(from);
    p += wire::write_ethernet(p, kMac[0], mac_of(source.data()[15]), wire::ether_type::ipv4);
    p += write_packet(p, source, kAddress[0], Protocol::icmp, 8 + quote.size());
    wire::write_icmp(p, wire::icmp4::redirect, code, ip(target).v4_value());
    std::copy(quote.begin(), quote.end(), p + 8);
    wire::finish_checksum(p, 8 + quote.size(), 0, source, kAddress[0], Protocol::icmp);
    net.inject(0, std::move(frame));
    net.run_for(1ms);
  }
  // Where a datagram to `destination` goes now.
  MacAddress way(const char* destination = kFar) {
    last_udp = {};
    app.send_to(socket, {ip(destination), 9}, Frame(10), net.now());
    net.run_for(10ms);
    return last_udp.mac_destination;
  }

  StackNetwork net;
  TestApp& app;
  SocketRef socket;
  ParsedPacket last_udp;
  Frame last_tcp;
};

// proves: 1122-25
TEST_F(Redirects, TheRouterInUseNamesABetterOne) {
  EXPECT_EQ(way(), mac_of(101));
  redirect("10.0.0.101", "10.0.0.102", udp_quote(kFar));
  EXPECT_EQ(way(), mac_of(102));
  EXPECT_EQ(way("198.51.100.2"), mac_of(101)) << "no other destination";
  LearnedRoute r;
  ASSERT_TRUE(net.stack(0).learned_route(ip(kFar), &r));
  EXPECT_EQ(r.gateway, ip("10.0.0.102"));
  EXPECT_EQ(r.destination.length, 32);
  for (uint8_t code = 0; code < 4; ++code) {  // of its network, of a service: the same
    const std::string to = "198.51.100." + std::to_string(10 + code);
    redirect("10.0.0.101", "10.0.0.102", udp_quote(to.c_str()), code);
    EXPECT_EQ(way(to.c_str()), mac_of(102));
  }
}

// proves: 1122-25
TEST_F(Redirects, OfOthersOrToNoRouterAreIgnored) {
  const Frame ours = udp_quote(kFar);
  redirect("10.0.0.102", "10.0.0.102", ours);                   // not the router in use
  redirect("10.0.0.101", "203.0.113.9", ours);                  // not on the link
  redirect("10.0.0.101", "10.0.0.1", ours);                     // ourselves
  redirect("10.0.0.101", "10.0.0.255", ours);                   // everybody
  redirect("10.0.0.101", "224.0.0.2", ours);                    // a group
  redirect("10.0.0.101", "10.0.0.102", ours, 4);                // no such code
  redirect("10.0.0.101", "10.0.0.102", udp_quote(kFar, 5001));  // nobody's port
  redirect("10.0.0.102", "10.0.0.102", udp_quote("10.0.0.2"));  // it is on the link
  EXPECT_EQ(way(), mac_of(101));
  EXPECT_EQ(net.drops(0, Drop::icmp_ignored), 8u);
  redirect("10.0.0.101", "10.0.0.102", Frame(12));
  EXPECT_EQ(net.drops(0, Drop::icmp_malformed), 1u);
}

TEST_F(Redirects, AConnectionGoesTheOtherWay) {
  const SocketRef s = app.open(net.now());
  ASSERT_EQ(app.connect(s, {ip(kFar), 80}, net.now()), 0);
  net.run_for(10ms);
  ASSERT_FALSE(last_tcp.empty());
  EXPECT_EQ(parse(last_tcp).mac_destination, mac_of(101));
  Frame quote(last_tcp.begin() + 14, last_tcp.begin() + 14 + 28);
  Frame forged = quote;
  forged[20 + 4] ^= std::byte{0x80};  // its sequence number
  redirect("10.0.0.101", "10.0.0.102", forged);
  net.run_for(1s);  // the SYN again
  EXPECT_EQ(parse(last_tcp).mac_destination, mac_of(101));
  redirect("10.0.0.101", "10.0.0.102", quote);
  net.run_for(2s);
  EXPECT_EQ(parse(last_tcp).mac_destination, mac_of(102));
}

TEST_F(Redirects, ASilentTargetIsForgotten) {
  redirect("10.0.0.101", "10.0.0.103", udp_quote(kFar));
  EXPECT_NE(way(), mac_of(101)) << "the new one is asked for";
  net.run_for(10s);
  EXPECT_EQ(way(), mac_of(101));
}

TEST_F(Redirects, NewRoutesCount) {
  redirect("10.0.0.101", "10.0.0.102", udp_quote(kFar));
  const Route routes[] = {{*Prefix::parse("10.0.0.0/24"), {}, 0, 0},
                          {*Prefix::parse("0.0.0.0/0"), ip("10.0.0.101"), 0, 0}};
  const RouteTable table(routes);
  net.stack(0).set_routes(&table);
  EXPECT_EQ(way(), mac_of(101));
  net.stack(0).set_routes(nullptr);
}

StackConfig deaf_config() {
  StackConfig config = host_config();
  config.neighbors.redirects = false;
  return config;
}

class RedirectsRefused : public Redirects {
 protected:
  RedirectsRefused() : Redirects(deaf_config()) {}
};

TEST_F(RedirectsRefused, ByConfiguration) {
  redirect("10.0.0.101", "10.0.0.102", udp_quote(kFar));
  EXPECT_EQ(way(), mac_of(101));
  EXPECT_EQ(net.drops(0, Drop::icmp_ignored), 1u);
}

}  // namespace
}  // namespace postern::test
