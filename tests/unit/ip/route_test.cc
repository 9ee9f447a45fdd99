#include <gtest/gtest.h>

#include <cerrno>

#include "ip/icmp.h"
#include "ip/interface.h"
#include "ip/rate_limit.h"
#include "ip/route_table.h"
#include "wire/headers.h"

namespace postern {
namespace {

Prefix prefix(const char* text) { return *Prefix::parse(text); }
IpAddress ip(const char* text) { return *IpAddress::parse(text); }

TEST(RouteTable, LongestPrefixThenLowestMetric) {
  RouteTable t;
  t.add({prefix("0.0.0.0/0"), ip("10.0.0.254"), 0, 100});
  t.add({prefix("0.0.0.0/0"), ip("10.0.0.253"), 0, 10});
  t.add({prefix("10.0.0.0/8"), IpAddress{}, 1, 0});
  t.add({prefix("10.1.0.0/16"), IpAddress{}, 2, 50});
  t.add({prefix("10.1.2.3/32"), ip("10.9.9.9"), 3, 0});
  const auto interface = [&](const char* a) { return t.lookup(ip(a))->interface; };
  EXPECT_EQ(interface("10.2.0.1"), 1);
  EXPECT_EQ(interface("10.1.0.1"), 2);
  EXPECT_EQ(interface("10.1.2.3"), 3);
  EXPECT_EQ(t.lookup(ip("10.1.2.3"))->next_hop(ip("10.1.2.3")), ip("10.9.9.9"));
  EXPECT_EQ(t.lookup(ip("10.1.0.1"))->next_hop(ip("10.1.0.1")), ip("10.1.0.1"));
  EXPECT_EQ(t.lookup(ip("8.8.8.8"))->gateway, ip("10.0.0.253"));
}

TEST(RouteTable, FamiliesDoNotShareRoutes) {
  RouteTable t;
  t.add({prefix("::/0"), ip("fe80::1"), 6, 0});
  EXPECT_EQ(t.lookup(ip("10.0.0.1")), nullptr);
  ASSERT_NE(t.lookup(ip("2001:db8::1")), nullptr);
  t.add({prefix("0.0.0.0/0"), IpAddress{}, 4, 0});
  EXPECT_EQ(t.lookup(ip("10.0.0.1"))->interface, 4);
  EXPECT_EQ(t.lookup(ip("2001:db8::1"))->interface, 6);
}

TEST(RouteTable, PrefixesAcrossTheMiddleOfAnAddress) {
  RouteTable t;
  t.add({prefix("2001:db8:0:0:8000::/65"), IpAddress{}, 1, 0});
  t.add({prefix("2001:db8::/63"), IpAddress{}, 2, 0});
  t.add({prefix("2001:db8::5/128"), IpAddress{}, 3, 0});
  EXPECT_EQ(t.lookup(ip("2001:db8::8000:0:0:1"))->interface, 1);
  EXPECT_EQ(t.lookup(ip("2001:db8:0:1::1"))->interface, 2);
  EXPECT_EQ(t.lookup(ip("2001:db8::5"))->interface, 3);
  EXPECT_EQ(t.lookup(ip("2001:db8:0:2::1")), nullptr);
}

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

TEST(Icmp, ErrorsAsErrno) {
  using namespace wire;
  EXPECT_EQ(icmp4_errno(icmp4::unreachable, icmp4::port), ECONNREFUSED);
  EXPECT_EQ(icmp4_errno(icmp4::unreachable, icmp4::fragmentation_needed), EMSGSIZE);
  EXPECT_EQ(icmp4_errno(icmp4::unreachable, 200), 0);
  EXPECT_EQ(icmp4_errno(icmp4::redirect, 0), 0);
  EXPECT_EQ(icmp6_errno(icmp6::packet_too_big, 0), EMSGSIZE);
  EXPECT_EQ(icmp6_errno(icmp6::unreachable, icmp6::port), ECONNREFUSED);
  EXPECT_EQ(mtu_plateau(1500), 1492u);
  EXPECT_EQ(mtu_plateau(10), 68u);
  EXPECT_FALSE(icmp_error_allowed(ip("0.0.0.0"), ip("10.0.0.1")));
  EXPECT_FALSE(icmp_error_allowed(ip("10.0.0.2"), ip("224.0.0.1")));
}

}  // namespace
}  // namespace postern
