#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <vector>

#include "base/random.h"
#include "ip/icmp.h"
#include "ip/interface.h"
#include "ip/rate_limit.h"
#include "ip/route_table.h"
#include "wire/headers.h"

namespace postern {
namespace {

Prefix prefix(const char* text) { return *Prefix::parse(text); }
IpAddress ip(const char* text) { return *IpAddress::parse(text); }

using Routes = std::vector<Route>;

// proves: 1122-32, 1122-33
TEST(RouteTable, LongestPrefixThenLowestMetric) {
  const RouteTable t(Routes{{prefix("0.0.0.0/0"), ip("10.0.0.254"), 0, 100},
                            {prefix("0.0.0.0/0"), ip("10.0.0.253"), 0, 10},
                            {prefix("10.0.0.0/8"), IpAddress{}, 1, 0},
                            {prefix("10.1.0.0/16"), IpAddress{}, 2, 50},
                            {prefix("10.1.2.3/32"), ip("10.9.9.9"), 3, 0}});
  const auto interface = [&](const char* a) { return t.lookup(ip(a)).front().interface; };
  EXPECT_EQ(interface("10.2.0.1"), 1);
  EXPECT_EQ(interface("10.1.0.1"), 2);
  EXPECT_EQ(interface("10.1.2.3"), 3);
  EXPECT_EQ(interface("10.1.2.4"), 2) << "behind the end of a longer prefix";
  EXPECT_EQ(interface("11.0.0.0"), 0) << "behind the end of all but the default";
  EXPECT_EQ(t.lookup(ip("10.1.2.3")).front().next_hop(ip("10.1.2.3")), ip("10.9.9.9"));
  EXPECT_EQ(t.lookup(ip("10.1.0.1")).front().next_hop(ip("10.1.0.1")), ip("10.1.0.1"));
  ASSERT_EQ(t.lookup(ip("8.8.8.8")).size(), 1u);
  EXPECT_EQ(t.lookup(ip("8.8.8.8")).front().gateway, ip("10.0.0.253"));
  EXPECT_FALSE(t.shares());
}

TEST(RouteTable, NothingIsNoRoute) {
  const RouteTable t;
  EXPECT_TRUE(t.lookup(ip("10.0.0.1")).empty());
  EXPECT_TRUE(t.lookup(ip("::")).empty());
  EXPECT_TRUE(t.lookup(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")).empty());
}

// proves: 1122-33
TEST(RouteTable, EqualMetricsAreAllThere) {
  const RouteTable t(Routes{{prefix("10.0.0.0/8"), ip("192.0.2.1"), 0, 5},
                            {prefix("10.0.0.0/8"), ip("192.0.2.2"), 0, 5},
                            {prefix("10.0.0.0/8"), ip("192.0.2.3"), 0, 6},
                            {prefix("10.1.0.0/16"), ip("192.0.2.4"), 0, 0}});
  EXPECT_TRUE(t.shares());
  ASSERT_EQ(t.lookup(ip("10.0.0.1")).size(), 2u);
  EXPECT_EQ(t.lookup(ip("10.0.0.1"))[1].gateway, ip("192.0.2.2"));
  EXPECT_EQ(t.lookup(ip("10.1.0.1")).size(), 1u);
}

TEST(RouteTable, FamiliesDoNotShareRoutes) {
  const RouteTable six(Routes{{prefix("::/0"), ip("fe80::1"), 6, 0}});
  EXPECT_TRUE(six.lookup(ip("10.0.0.1")).empty());
  ASSERT_FALSE(six.lookup(ip("2001:db8::1")).empty());
  const RouteTable both(
      Routes{{prefix("::/0"), ip("fe80::1"), 6, 0}, {prefix("0.0.0.0/0"), IpAddress{}, 4, 0}});
  EXPECT_EQ(both.lookup(ip("10.0.0.1")).front().interface, 4);
  EXPECT_EQ(both.lookup(ip("2001:db8::1")).front().interface, 6);
}

TEST(RouteTable, PrefixesAcrossTheMiddleOfAnAddress) {
  const RouteTable t(Routes{{prefix("2001:db8:0:0:8000::/65"), IpAddress{}, 1, 0},
                            {prefix("2001:db8::/63"), IpAddress{}, 2, 0},
                            {prefix("2001:db8::5/128"), IpAddress{}, 3, 0}});
  const auto interface = [&](const char* a) { return t.lookup(ip(a)).front().interface; };
  EXPECT_EQ(interface("2001:db8::8000:0:0:1"), 1);
  EXPECT_EQ(interface("2001:db8:0:1::1"), 2);
  EXPECT_EQ(interface("2001:db8::5"), 3);
  EXPECT_EQ(interface("2001:db8::6"), 2);
  EXPECT_TRUE(t.lookup(ip("2001:db8:0:2::1")).empty());
}

// Against the definition: of all prefixes that contain the address, the longest.
TEST(RouteTable, AnyRoutesAnyAddress) {
  Random random(7);
  const auto any = [&](bool v4) {
    if (v4) return IpAddress::v4(static_cast<uint32_t>(random.below(1 << 12) * 0x100401U));
    uint8_t bytes[16] = {0x20, 1};
    for (int i = 2; i < 16; ++i) bytes[i] = random.below(4) == 0 ? 0xff : 0;
    return IpAddress::v6(bytes);
  };
  for (int round = 0; round < 40; ++round) {
    Routes routes;
    for (uint16_t i = 0; i < 60; ++i) {
      const bool v4 = random.below(2) == 0;
      const auto length = static_cast<uint8_t>(random.below(v4 ? 33 : 129));
      routes.push_back({{any(v4), length}, {}, i, static_cast<uint32_t>(random.below(2))});
    }
    const RouteTable t(routes);
    for (int probe = 0; probe < 300; ++probe) {
      const IpAddress a = any(random.below(2) == 0);
      const Route* best = nullptr;
      size_t count = 0;
      for (const Route& r : routes) {
        if (r.destination.address.is_v4() != a.is_v4() || !r.destination.contains(a)) continue;
        const int longer = best == nullptr ? 1 : r.destination.length - best->destination.length;
        const bool better = longer > 0 || (longer == 0 && r.metric < best->metric);
        if (better) best = &r;
        count = better ? 1 : count + (longer == 0 && r.metric == best->metric ? 1 : 0);
      }
      const RouteChoice choice = t.lookup(a);
      ASSERT_EQ(choice.size(), count) << a.to_string();
      if (best == nullptr) continue;
      EXPECT_EQ(choice[0].destination.length, best->destination.length);
      EXPECT_EQ(choice[0].metric, best->metric);
      EXPECT_TRUE(choice[0].destination.contains(a));
    }
  }
}

TEST(RouteTable, AHundredThousandRoutes) {
  Routes routes;
  for (uint32_t i = 0; i < 100'000; ++i) {
    const IpAddress net = IpAddress::v4((i * 2654435761U) & ~0xffU);
    routes.push_back({{net, 24}, ip("10.0.0.1"), static_cast<uint16_t>(i & 7), i});
  }
  const auto begin = std::chrono::steady_clock::now();
  const RouteTable t(routes);
  const auto built = std::chrono::steady_clock::now();
  uint32_t sum = 0;
  for (uint32_t i = 0; i < 1'000'000; ++i) {
    sum += static_cast<uint32_t>(t.lookup(IpAddress::v4(i * 40503U * 65537U)).size());
  }
  const auto looked = std::chrono::steady_clock::now();
  const auto ms = [](auto d) { return std::chrono::duration<double, std::milli>(d).count(); };
  RecordProperty("build_ms", std::to_string(ms(built - begin)));
  RecordProperty("lookup_ns", std::to_string(ms(looked - built)));
  EXPECT_GT(sum, 0u);
  for (const Route& r : routes) ASSERT_FALSE(t.lookup(r.destination.address).empty());
}

// proves: 6724-6, 1122-8, 1122-36, 1122-38, 1812-9
TEST(InterfaceTable, LocalBroadcastAndSource) {
  InterfaceTable t;
  t.add({.mac = {},
         .offloads = {},
         .addresses = {prefix("10.0.0.1/24"), prefix("10.0.5.1/24"), prefix("192.0.2.1/31"),
                       prefix("2001:db8::1/64")}});
  t.add({.mac = {}, .offloads = {}, .addresses = {prefix("172.16.0.1/16")}});
  EXPECT_TRUE(t.is_local(ip("10.0.5.1")));
  EXPECT_TRUE(t.is_local(ip("172.16.0.1")));
  EXPECT_FALSE(t.is_local(ip("10.0.5.2")));
  EXPECT_TRUE(t.is_broadcast(ip("10.0.0.255"), 0));
  EXPECT_TRUE(t.is_broadcast(ip("255.255.255.255"), 1));
  EXPECT_FALSE(t.is_broadcast(ip("10.0.0.255"), 1));
  EXPECT_FALSE(t.is_broadcast(ip("192.0.2.1"), 0)) << "a /31 has none";
  EXPECT_EQ(*t.select_source(ip("10.0.5.77"), 0), ip("10.0.5.1"));
  EXPECT_EQ(*t.select_source(ip("8.8.8.8"), 0), ip("10.0.0.1"));
  EXPECT_EQ(*t.select_source(ip("2001:db8::9"), 0), ip("2001:db8::1"));
  EXPECT_EQ(t.select_source(ip("2001:db8::9"), 1), nullptr);
}

TEST(RateLimit, BurstThenRate) {
  RateLimit limit(1000);
  Time now{5s};
  int taken = 0;
  while (limit.take(now)) ++taken;
  EXPECT_LE(taken, 200);
  EXPECT_GE(taken, 100);
  taken = 0;
  for (int ms = 0; ms < 1000; ++ms) {
    now += 1ms;
    for (int i = 0; i < 10; ++i) taken += limit.take(now);
  }
  EXPECT_NEAR(taken, 1000, 10);
  RateLimit never(0);
  EXPECT_FALSE(never.take(now));
}

// proves: 4443-11, 8201-11, 1122-22, 1812-7
TEST(Icmp, ErrorsAsErrno) {
  using namespace wire;
  EXPECT_EQ(icmp4_errno(icmp4::unreachable, icmp4::port), ECONNREFUSED);
  EXPECT_EQ(icmp4_errno(icmp4::unreachable, icmp4::fragmentation_needed), EMSGSIZE);
  EXPECT_EQ(icmp4_errno(icmp4::unreachable, 200), 0);
  EXPECT_EQ(icmp4_errno(icmp4::redirect, 0), 0);
  EXPECT_EQ(icmp6_errno(icmp6::packet_too_big, 0), EMSGSIZE);
  EXPECT_EQ(icmp6_errno(icmp6::unreachable, icmp6::port), ECONNREFUSED);
  EXPECT_EQ(icmp6_errno(icmp6::parameter_problem, 1), EPROTO);
  EXPECT_EQ(icmp6_errno(100, 0), EPROTO) << "RFC 4443 2.4 a: an error of an unknown type";
  EXPECT_EQ(icmp6_errno(200, 0), 0);
  EXPECT_EQ(mtu_plateau(1500), 1492u);
  EXPECT_EQ(mtu_plateau(10), 68u);
  EXPECT_FALSE(icmp_error_allowed(ip("0.0.0.0"), ip("10.0.0.1")));
  EXPECT_FALSE(icmp_error_allowed(ip("10.0.0.2"), ip("224.0.0.1")));
}

}  // namespace
}  // namespace postern
