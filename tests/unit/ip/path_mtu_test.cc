#include "ip/path_mtu.h"

#include <gtest/gtest.h>

#include <string>

namespace postern {
namespace {

IpAddress ip(const std::string& text) { return *IpAddress::parse(text); }

// proves: 8201-4, 8201-6
TEST(PathMtu, IsOfADestinationAndNarrowsOnly) {
  PathMtuTable table(64, {1, 2, 3, 4});
  Time now{1s};
  EXPECT_EQ(table.find(ip("192.0.2.1"), now), 0u);
  EXPECT_EQ(table.narrow(ip("192.0.2.1"), 1400, now), 1400u);
  EXPECT_EQ(table.find(ip("192.0.2.1"), now), 1400u);
  EXPECT_EQ(table.find(ip("192.0.2.2"), now), 0u);
  EXPECT_EQ(table.narrow(ip("192.0.2.1"), 1450, now), 1400u);
  EXPECT_EQ(table.narrow(ip("192.0.2.1"), 1300, now), 1300u);
  EXPECT_EQ(table.find(ip("192.0.2.1"), now), 1300u);
}

// proves: 8200-24, 8201-1, 8201-10
TEST(PathMtu, LessThanEveryLinkCarriesIsNotBelieved) {
  PathMtuTable table(64, {1, 2, 3, 4});
  EXPECT_EQ(table.narrow(ip("192.0.2.1"), 68, Time{}), 576u);
  EXPECT_EQ(table.narrow(ip("2001:db8::1"), 576, Time{}), 1280u);
}

// proves: 8201-5, 8201-6
TEST(PathMtu, IsForgottenAfterTenMinutes) {
  PathMtuTable table(64, {1, 2, 3, 4});
  Time now{1s};
  (void)table.narrow(ip("2001:db8::1"), 1300, now);
  now += 10min - 1s;
  EXPECT_EQ(table.find(ip("2001:db8::1"), now), 1300u);
  now += 1s;
  EXPECT_EQ(table.find(ip("2001:db8::1"), now), 0u);
  EXPECT_EQ(table.narrow(ip("2001:db8::1"), 1400, now), 1400u) << "it may have widened";
}

TEST(PathMtu, TheTableKeepsItsSizeAndTheYoungest) {
  PathMtuTable table(64, {1, 2, 3, 4});
  Time now{1s};
  for (int i = 0; i < 1000; ++i, now += 1ms) {
    const IpAddress a = ip("2001:db8::" + std::to_string(i));
    (void)table.narrow(a, 1400, now);
    EXPECT_EQ(table.find(a, now), 1400u);
  }
  size_t held = 0;
  for (size_t i = 0; i < table.capacity(); ++i) held += table.view(i, now).mtu != 0 ? 1 : 0;
  EXPECT_EQ(held, 64u);
}

}  // namespace
}  // namespace postern
