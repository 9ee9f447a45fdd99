// Source addresses: RFC 6724 5, rule by rule.
#include <gtest/gtest.h>

#include "ip/interface.h"

namespace postern {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

// The address of an interface with these that is used towards a destination.
std::string source(std::initializer_list<const char*> addresses, const char* destination,
                   const char* deprecated = nullptr) {
  InterfaceTable table;
  Interface interface;
  for (const char* a : addresses) interface.addresses.push_back(*Prefix::parse(a));
  table.add(interface);
  table.reserve(0, 1);
  if (deprecated != nullptr) table.deprecate(0, ip(deprecated), true);
  const IpAddress* chosen = table.select_source(ip(destination), 0);
  return chosen == nullptr ? "" : chosen->to_string();
}

// proves: 6724-2
TEST(Source, Rule1TheSameAddress) {
  EXPECT_EQ(source({"2001:db8::1/64", "2001:db8::2/64"}, "2001:db8::2"), "2001:db8::2");
}

// proves: 6724-1, 6724-3
TEST(Source, Rule2TheSmallestScopeThatReaches) {
  EXPECT_EQ(source({"fe80::1/64", "2001:db8::1/64"}, "2001:db9::9"), "2001:db8::1");
  EXPECT_EQ(source({"2001:db8::1/64", "fe80::1/64"}, "fe80::9"), "fe80::1");
  EXPECT_EQ(source({"2001:db8::1/64", "fe80::1/64"}, "ff02::9"), "fe80::1");
  EXPECT_EQ(source({"fe80::1/64"}, "2001:db8::9"), "fe80::1") << "there is no better one";
}

// proves: 6724-4
TEST(Source, Rule3DeprecatedOnesLast) {
  EXPECT_EQ(source({"2001:db8:1::1/64", "2001:db8:2::1/64"}, "2001:db8:1::9", "2001:db8:1::1"),
            "2001:db8:2::1");
  EXPECT_EQ(source({"2001:db8:1::1/64"}, "2001:db8:1::9", "2001:db8:1::1"), "2001:db8:1::1");
  EXPECT_EQ(source({"2001:db8:1::1/64", "fe80::1/64"}, "2001:db8:1::9", "2001:db8:1::1"),
            "2001:db8:1::1")
      << "scope comes first";
}

// proves: 6724-7, 8504-18
TEST(Source, Rule6TheSameLabel) {
  EXPECT_EQ(source({"2001:db8::1/64", "fd00::1/64"}, "fd00:9::9"), "fd00::1");
  EXPECT_EQ(source({"fd00::1/64", "2001:db8::1/64"}, "3000::9"), "2001:db8::1");
  // RFC 6724 10.1.1: a 6to4 destination is reached from a 6to4 address.
  EXPECT_EQ(source({"2001:db8::1/64", "2002:c633:6401::1/64"}, "2002:c633:6401:9::1"),
            "2002:c633:6401::1");
  EXPECT_EQ(source({"2002:c633:6401::1/64", "2001:db8::1/64"}, "2001:db9::1"), "2001:db8::1");
}

// proves: 6724-9
TEST(Source, Rule8TheLongestMatch) {
  EXPECT_EQ(source({"2001:db8:1::1/64", "2001:db8:3ffe::1/64"}, "2001:db8:3fff::9"),
            "2001:db8:3ffe::1");
  EXPECT_EQ(source({"2001:db8:1::1/64", "2001:db8:1::2/64"}, "2001:db8:1::3"), "2001:db8:1::1")
      << "not beyond the prefix, then the first";
}

TEST(Source, Ipv4OfTheNetworkElseTheFirst) {
  EXPECT_EQ(source({"192.0.2.1/24", "198.51.100.1/24"}, "198.51.100.9"), "198.51.100.1");
  EXPECT_EQ(source({"192.0.2.1/24", "198.51.100.1/24"}, "203.0.113.9"), "192.0.2.1");
  EXPECT_EQ(source({"2001:db8::1/64"}, "192.0.2.9"), "");
}

}  // namespace
}  // namespace postern
