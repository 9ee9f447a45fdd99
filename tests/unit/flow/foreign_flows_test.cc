#include "flow/foreign_flows.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace postern {
namespace {

constexpr HashSecret kSecret{1, 2, 3, 4};

FlowKey flow(uint32_t n, uint8_t protocol = 6) {
  return {{IpAddress::v4(0x0a000000 + n), 80}, {IpAddress::v4(0xc0000201), 40000}, protocol};
}

TEST(ForeignFlows, KnowsWhatWasNotedAndNothingElse) {
  ForeignFlows flows(64, kSecret);
  EXPECT_FALSE(flows.contains(flow(1)));
  flows.note(flow(1), Time{1s});
  EXPECT_TRUE(flows.contains(flow(1)));
  EXPECT_FALSE(flows.contains(flow(1, 17))) << "another protocol";
  EXPECT_FALSE(flows.contains(flow(2)));
}

TEST(ForeignFlows, TheQuietestGivesWay) {
  ForeignFlows flows(8, kSecret);  // one set
  for (uint32_t i = 0; i < 8; ++i) flows.note(flow(i), Time{1s} + Duration(i));
  flows.note(flow(0), Time{2s});  // used again: now 1 is the oldest
  flows.note(flow(100), Time{3s});
  EXPECT_TRUE(flows.contains(flow(0)));
  EXPECT_FALSE(flows.contains(flow(1)));
  for (uint32_t i = 2; i < 8; ++i) EXPECT_TRUE(flows.contains(flow(i))) << i;
  EXPECT_TRUE(flows.contains(flow(100)));
}

TEST(ForeignFlows, AFloodTakesTheRoomThatItHasAndNoMore) {
  ForeignFlows flows(1024, kSecret);
  for (uint32_t i = 0; i < 100'000; ++i) flows.note(flow(i), Time{1s} + Duration(i));
  uint32_t known = 0;
  for (uint32_t i = 0; i < 100'000; ++i) known += flows.contains(flow(i));
  EXPECT_EQ(known, 1024u);
}

TEST(ForeignFlows, ReadersSeeWhatTheWriterHasNoted) {
  ForeignFlows flows(1 << 14, kSecret);
  std::atomic<uint32_t> noted{0};
  std::atomic<uint32_t> missed{0};
  std::thread reader([&] {
    for (uint32_t i = 0; i < 1000;) {
      if (noted.load(std::memory_order_acquire) <= i) continue;
      missed += !flows.contains(flow(i));
      ++i;
    }
  });
  for (uint32_t i = 0; i < 1000; ++i) {
    flows.note(flow(i), Time{1s});
    noted.store(i + 1, std::memory_order_release);
  }
  reader.join();
  EXPECT_EQ(missed, 0u);
}

}  // namespace
}  // namespace postern
