#include "flow/listener_table.h"

#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "base/random.h"

namespace postern {
namespace {

constexpr HashSecret kSecret{1, 2, 3, 4};
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }
Endpoint end(std::string_view text, uint16_t port) { return {ip(text), port}; }

TEST(ListenerTable, ExactBeforeWildcard) {
  ListenerTable table(8, kSecret);
  ASSERT_TRUE(table.insert(kTcp, end("0.0.0.0", 80), false, 1));
  ASSERT_TRUE(table.insert(kTcp, end("192.0.2.1", 80), false, 2));
  EXPECT_EQ(table.find(kTcp, ip("192.0.2.1"), 80), 2U);
  EXPECT_EQ(table.find(kTcp, ip("192.0.2.2"), 80), 1U);
  EXPECT_EQ(table.find(kTcp, ip("192.0.2.1"), 81), kNoListener);
  EXPECT_EQ(table.find(kUdp, ip("192.0.2.1"), 80), kNoListener);
  EXPECT_EQ(table.find(kTcp, ip("2001:db8::1"), 80), kNoListener) << "0.0.0.0 does not take IPv6";
}

TEST(ListenerTable, DualStackAndV6Only) {
  ListenerTable table(8, kSecret);
  ASSERT_TRUE(table.insert(kTcp, end("::", 80), false, 1));
  ASSERT_TRUE(table.insert(kTcp, end("::", 81), true, 2));
  EXPECT_EQ(table.find(kTcp, ip("2001:db8::1"), 80), 1U);
  EXPECT_EQ(table.find(kTcp, ip("192.0.2.1"), 80), 1U);
  EXPECT_EQ(table.find(kTcp, ip("2001:db8::1"), 81), 2U);
  EXPECT_EQ(table.find(kTcp, ip("192.0.2.1"), 81), kNoListener);
}

TEST(ListenerTable, OwnFamilysWildcardFirst) {
  ListenerTable table(8, kSecret);
  ASSERT_TRUE(table.insert(kTcp, end("::", 80), false, 6));
  ASSERT_TRUE(table.insert(kTcp, end("0.0.0.0", 80), false, 4));
  EXPECT_EQ(table.find(kTcp, ip("192.0.2.1"), 80), 4U);
  EXPECT_EQ(table.find(kTcp, ip("2001:db8::1"), 80), 6U);
}

TEST(ListenerTable, FindExactTakesWildcardsLiterally) {
  ListenerTable table(8, kSecret);
  ASSERT_TRUE(table.insert(kUdp, end("0.0.0.0", 53), false, 1));
  EXPECT_EQ(table.find_exact(kUdp, end("0.0.0.0", 53)), 1U);
  EXPECT_EQ(table.find_exact(kUdp, end("192.0.2.1", 53)), kNoListener);
  EXPECT_EQ(table.find_exact(kUdp, end("::", 53)), kNoListener);
}

TEST(ListenerTable, RefusesDuplicatesAndOverfilling) {
  ListenerTable table(2, kSecret);
  ASSERT_TRUE(table.insert(kTcp, end("0.0.0.0", 80), false, 1));
  EXPECT_FALSE(table.insert(kTcp, end("0.0.0.0", 80), false, 2));
  ASSERT_TRUE(table.insert(kUdp, end("0.0.0.0", 80), false, 2));
  EXPECT_FALSE(table.insert(kTcp, end("0.0.0.0", 81), false, 3)) << "full";
  EXPECT_TRUE(table.erase(kTcp, end("0.0.0.0", 80)));
  EXPECT_FALSE(table.erase(kTcp, end("0.0.0.0", 80)));
  EXPECT_TRUE(table.insert(kTcp, end("0.0.0.0", 81), false, 3));
}

TEST(ListenerTable, MatchesModelUnderChurn) {
  for (const uint32_t capacity : {1U, 3U, 17U, 64U}) {
    ListenerTable table(capacity, kSecret);
    std::map<std::tuple<int, int, int>, uint32_t> model;  // protocol, address number, port
    const std::array<IpAddress, 4> addresses{ip("0.0.0.0"), ip("::"), ip("192.0.2.1"),
                                             ip("2001:db8::1")};
    Random random(capacity);
    for (uint32_t step = 0; step < 50000; ++step) {
      const uint8_t protocol = random.chance(0.5) ? kTcp : kUdp;
      const auto a = random.below(addresses.size());
      const auto port = static_cast<uint16_t>(1 + random.below(capacity));
      const auto key = std::make_tuple(int{protocol}, static_cast<int>(a), int{port});
      const Endpoint local{addresses[a], port};
      const auto found = model.find(key);
      if (random.chance(0.4)) {
        ASSERT_EQ(table.find_exact(protocol, local),
                  found == model.end() ? kNoListener : found->second);
      } else if (found == model.end()) {
        const bool room = model.size() < capacity;
        ASSERT_EQ(table.insert(protocol, local, false, step), room);
        if (room) model[key] = step;
      } else {
        ASSERT_TRUE(table.erase(protocol, local));
        model.erase(found);
      }
      ASSERT_EQ(table.size(), model.size());
    }
  }
}

}  // namespace
}  // namespace postern
