#include "base/spsc_ring.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

namespace postern {
namespace {

TEST(SpscRing, RoundsCapacityUp) {
  EXPECT_EQ(SpscRing<int>(0).capacity(), 1U);
  EXPECT_EQ(SpscRing<int>(5).capacity(), 8U);
  EXPECT_EQ(SpscRing<int>(8).capacity(), 8U);
}

TEST(SpscRing, FirstInFirstOutAndBounded) {
  SpscRing<int> ring(4);
  EXPECT_TRUE(ring.empty());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.push(i));
  EXPECT_FALSE(ring.push(4));
  int out = -1;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(ring.pop(&out));
    EXPECT_EQ(out, i);
  }
  EXPECT_FALSE(ring.pop(&out));
}

TEST(SpscRing, BurstsTakeWhatFits) {
  SpscRing<int> ring(8);
  std::vector<int> in(12);
  std::iota(in.begin(), in.end(), 0);
  EXPECT_EQ(ring.push_burst(in.data(), 5), 5U);
  EXPECT_EQ(ring.push_burst(in.data() + 5, 7), 3U);
  std::vector<int> out(12, -1);
  EXPECT_EQ(ring.pop_burst(out.data(), 3), 3U);
  EXPECT_EQ(ring.pop_burst(out.data() + 3, 9), 5U);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(out[static_cast<size_t>(i)], i);
}

TEST(SpscRing, TwoThreadsKeepOrder) {
  SpscRing<uint64_t> ring(64);
  constexpr uint64_t kItems = 300000;
  std::thread producer([&] {
    for (uint64_t i = 0; i < kItems;) {
      if (ring.push(i)) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  });
  uint64_t expected = 0;
  bool in_order = true;
  while (expected < kItems) {
    uint64_t batch[16];
    const size_t n = ring.pop_burst(batch, 16);
    for (size_t i = 0; i < n; ++i) in_order &= batch[i] == expected++;
    if (n == 0) std::this_thread::yield();
  }
  producer.join();
  EXPECT_TRUE(in_order);
  EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace postern
