#include "base/address.h"

#include <gtest/gtest.h>

namespace postern {
namespace {

std::string round_trip(std::string_view text) {
  const auto address = IpAddress::parse(text);
  return address ? address->to_string() : "refused";
}

TEST(IpAddress, ParsesDottedQuads) {
  EXPECT_EQ(round_trip("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(round_trip("0.0.0.0"), "0.0.0.0");
  EXPECT_EQ(round_trip("255.255.255.255"), "255.255.255.255");
  EXPECT_EQ(IpAddress::parse("192.0.2.1"), IpAddress::v4(0xc0000201));
}

TEST(IpAddress, RefusesWhatIsNoDottedQuad) {
  for (const char* text :
       {"", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.a", " 1.2.3.4", "1.2.3.4 ", "1..2.3",
        "01.2.3.4", "1.2.3.-4", "1.2.3.4/24", "0x1.2.3.4", "1.2.3.", "99999999999.0.0.1"}) {
    EXPECT_EQ(round_trip(text), "refused") << text;
  }
}

// RFC 5952 4 and 5.
TEST(IpAddress, PrintsCanonicalV6) {
  EXPECT_EQ(round_trip("2001:db8:0:0:1:0:0:1"), "2001:db8::1:0:0:1");
  EXPECT_EQ(round_trip("2001:0DB8:0000:0000:0000:0000:0000:0001"), "2001:db8::1");
  EXPECT_EQ(round_trip("2001:db8:0:1:1:1:1:1"), "2001:db8:0:1:1:1:1:1");
  EXPECT_EQ(round_trip("2001:0:0:1:0:0:0:1"), "2001:0:0:1::1");
  EXPECT_EQ(round_trip("::"), "::");
  EXPECT_EQ(round_trip("::1"), "::1");
  EXPECT_EQ(round_trip("1::"), "1::");
  EXPECT_EQ(round_trip("fe80::1:2:3:4"), "fe80::1:2:3:4");
  EXPECT_EQ(round_trip("1:2:3:4:5:6:7::"), "1:2:3:4:5:6:7:0");
  EXPECT_EQ(round_trip("::2:3:4:5:6:7:8"), "0:2:3:4:5:6:7:8");
  EXPECT_EQ(round_trip("64:ff9b::192.0.2.33"), "64:ff9b::c000:221");
}

TEST(IpAddress, MappedTextIsTheV4Address) {
  EXPECT_EQ(IpAddress::parse("::ffff:192.0.2.1"), IpAddress::v4(0xc0000201));
  EXPECT_EQ(round_trip("::ffff:c000:201"), "192.0.2.1");
}

TEST(IpAddress, RefusesWhatIsNoV6) {
  for (const char* text : {":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3",
                           "12345::", "g::", ":1::", "1:", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
                           "1.2.3.4::", "::1.2.3.4:5", "::1.2.3", "fe80::1%eth0", "[::1]",
                           "1:2:3:4:5:6:7:1.2.3.4", "::1 "}) {
    EXPECT_EQ(round_trip(text), "refused") << text;
  }
}

TEST(IpAddress, Classifies) {
  EXPECT_TRUE(IpAddress().is_any());
  EXPECT_TRUE(IpAddress::v4(0).is_any());
  EXPECT_FALSE(IpAddress::v4(1).is_any());
  EXPECT_FALSE(IpAddress::parse("::1")->is_any());
  EXPECT_TRUE(IpAddress::parse("239.1.2.3")->is_multicast());
  EXPECT_TRUE(IpAddress::parse("ff02::1")->is_multicast());
  EXPECT_FALSE(IpAddress::parse("fe80::1")->is_multicast());
}

TEST(Prefix, ParsesAndContains) {
  const auto p = Prefix::parse("192.0.2.129/25");
  ASSERT_TRUE(p);
  EXPECT_EQ(p->to_string(), "192.0.2.129/25");
  EXPECT_TRUE(p->contains(*IpAddress::parse("192.0.2.255")));
  EXPECT_FALSE(p->contains(*IpAddress::parse("192.0.2.127")));
  EXPECT_FALSE(p->contains(*IpAddress::parse("2001:db8::1")));
  const auto p6 = Prefix::parse("2001:db8::/33");
  ASSERT_TRUE(p6);
  EXPECT_TRUE(p6->contains(*IpAddress::parse("2001:db8:7fff::1")));
  EXPECT_FALSE(p6->contains(*IpAddress::parse("2001:db8:8000::1")));
}

TEST(Prefix, DefaultRoutesContainTheirFamilyOnly) {
  EXPECT_TRUE(Prefix::parse("0.0.0.0/0")->contains(IpAddress::v4(0xffffffff)));
  EXPECT_FALSE(Prefix::parse("0.0.0.0/0")->contains(*IpAddress::parse("2001:db8::1")));
  EXPECT_FALSE(Prefix::parse("::/0")->contains(IpAddress::v4(1)));
  EXPECT_TRUE(Prefix::parse("::1/128")->contains(*IpAddress::parse("::1")));
}

TEST(Prefix, Refuses) {
  for (const char* text : {"192.0.2.1", "192.0.2.1/", "192.0.2.1/33", "::/129", "192.0.2.1/-1",
                           "192.0.2.1/08", "192.0.2.1/8x", "/8"}) {
    EXPECT_FALSE(Prefix::parse(text)) << text;
  }
}

TEST(Endpoint, Prints) {
  EXPECT_EQ((Endpoint{*IpAddress::parse("192.0.2.1"), 80}.to_string()), "192.0.2.1:80");
  EXPECT_EQ((Endpoint{*IpAddress::parse("2001:db8::1"), 80}.to_string()), "[2001:db8::1]:80");
}

TEST(MacAddress, ParsesAndPrints) {
  const auto mac = parse_mac("02:00:5E:10:00:0a");
  ASSERT_TRUE(mac);
  EXPECT_EQ(to_string(*mac), "02:00:5e:10:00:0a");
  for (const char* text : {"", "02:00:5e:10:00", "02:00:5e:10:00:0a:1", "02-00-5e-10-00-0a",
                           "02:00:5e:10:00:100", "02:00:5e:10:00:"}) {
    EXPECT_FALSE(parse_mac(text)) << text;
  }
}

}  // namespace
}  // namespace postern
