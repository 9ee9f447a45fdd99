// Routes in use: a choice for each flow, types that lead nowhere, and changes under open
// connections.
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <set>

#include "support/stack_network.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
Prefix prefix(const char* text) { return *Prefix::parse(text); }

ParsedPacket parse(const Bytes& frame) {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  return wire::parse(packet);
}

class RoutesInUse : public ::testing::Test {
 protected:
  RoutesInUse() : client(net.add_app(0)) { socket = client.bind({kAddress[0], 5000}); }

  // The neighbors that ARP was asked for, for datagrams to `count` ports of an address.
  std::set<std::string> asked_for(const char* address, uint16_t count) {
    std::set<std::string> asked;
    net.tap = [&](int from, const Bytes& frame) {
      const ParsedPacket p = parse(frame);
      if (from == 0 && p.kind == PacketKind::arp) asked.insert(p.destination.to_string());
      return true;
    };
    for (uint16_t port = 1; port <= count; ++port) {
      client.send_to(socket, {ip(address), port}, Bytes(10), net.now());
    }
    net.run_for(100ms);
    net.tap = nullptr;
    return asked;
  }
  static RouteTable table(std::vector<Route> more) {
    more.push_back({prefix("10.0.0.0/24"), {}, 0, 0});
    return RouteTable(more);
  }

  StackNetwork net;
  TestApp& client;
  SocketRef socket;
};

TEST_F(RoutesInUse, FlowsAreSharedAmongEqualRoutes) {
  const RouteTable routes = table({{prefix("192.0.2.0/24"), ip("10.0.0.11"), 0, 1},
                                   {prefix("192.0.2.0/24"), ip("10.0.0.12"), 0, 1},
                                   {prefix("192.0.2.0/24"), ip("10.0.0.13"), 0, 1},
                                   {prefix("192.0.2.0/24"), ip("10.0.0.14"), 0, 2}});
  net.stack(0).set_routes(&routes);
  net.run_for(3s);
  EXPECT_EQ(asked_for("192.0.2.1", 100),
            (std::set<std::string>{"10.0.0.11", "10.0.0.12", "10.0.0.13"}));
  net.run_for(10s);
  EXPECT_EQ(asked_for("192.0.2.1", 1).size(), 1u) << "one flow goes one way";
  net.stack(0).set_routes(nullptr);
}

// proves: 1122-32
TEST_F(RoutesInUse, TypesThatLeadNowhere) {
  const RouteTable routes = table({{prefix("192.0.2.0/24"), {}, 0, 0, RouteKind::blackhole},
                                   {prefix("198.51.100.0/24"), {}, 0, 0, RouteKind::unreachable}});
  net.stack(0).set_routes(&routes);
  const auto error_of = [&](const char* address) {
    client[socket].error = 0;
    client.send_to(socket, {ip(address), 9}, Bytes(10), net.now());
    net.run_for(10ms);
    return client[socket].error;
  };
  EXPECT_EQ(error_of("192.0.2.1"), EINVAL);
  EXPECT_EQ(net.drops(0, Drop::ip_route_blackhole), 1u);
  EXPECT_EQ(error_of("198.51.100.1"), EHOSTUNREACH);
  EXPECT_EQ(net.drops(0, Drop::ip_route_unreachable), 1u);
  EXPECT_EQ(error_of("203.0.113.1"), ENETUNREACH);
  EXPECT_EQ(net.drops(0, Drop::ip_no_route), 1u);
  const SocketRef tcp = client.open(net.now());
  client.connect(tcp, {ip("198.51.100.1"), 9}, net.now());
  net.run_for(10ms);
  EXPECT_EQ(client[tcp].error, EHOSTUNREACH);
  net.stack(0).set_routes(nullptr);
}

// The connection's neighbor was found by the old table.
TEST_F(RoutesInUse, AnOpenConnectionTakesTheNewWay) {
  TestApp& server = net.add_app(1);
  const SocketRef listener = server.listen({kAddress[1], 7}, 8);
  const SocketRef tcp = client.open(net.now());
  client.connect(tcp, {kAddress[1], 7}, net.now());
  ASSERT_TRUE(net.run([&] { return client[tcp].connected; }, 5s));
  std::optional<SocketRef> peer;
  ASSERT_TRUE(net.run([&] { return (peer = server.accept(listener, net.now())).has_value(); }, 5s));
  const Bytes bytes(100, std::byte{7});
  const auto arrives = [&](Duration limit) {
    const uint32_t before = server[*peer].rx_tail;
    client.write(tcp, bytes.data(), bytes.size(), net.now());
    return net.run([&] { return server[*peer].rx_tail != before; }, limit);
  };
  ASSERT_TRUE(arrives(1s));
  const RouteTable elsewhere = table({{prefix("10.0.0.2/32"), ip("10.0.0.99"), 0, 0}});
  net.stack(0).set_routes(&elsewhere);
  EXPECT_FALSE(arrives(2s)) << "10.0.0.99 is nobody";
  net.stack(0).set_routes(nullptr);
  EXPECT_TRUE(net.run([&] { return server[*peer].rx_tail - server[*peer].rx_head >= 200; }, 30s));
  EXPECT_EQ(net.complaint(), "");
}

}  // namespace
}  // namespace postern::test
