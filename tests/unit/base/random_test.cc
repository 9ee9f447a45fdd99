#include "base/random.h"

#include <gtest/gtest.h>

#include <array>

namespace postern {
namespace {

// SplitMix64 seeded with 0: the first outputs of its published reference.
TEST(Random, SplitMixReference) {
  uint64_t seed = 0;
  EXPECT_EQ(Random::split_mix(&seed), 0xe220a8397b1dcdaf);
  EXPECT_EQ(Random::split_mix(&seed), 0x6e789e6aa1b965f4);
}

TEST(Random, SameSeedSameSequence) {
  Random a(42);
  Random b(42);
  Random c(43);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t x = a();
    EXPECT_EQ(x, b());
    differs |= x != c();
  }
  EXPECT_TRUE(differs);
}

TEST(Random, BelowIsBoundedAndUniform) {
  Random random(1);
  std::array<int, 10> seen{};
  for (int i = 0; i < 100000; ++i) {
    const uint64_t x = random.below(10);
    ASSERT_LT(x, 10U);
    ++seen[x];
  }
  for (const int n : seen) EXPECT_NEAR(n, 10000, 500);
  EXPECT_EQ(random.below(0), 0U);
  EXPECT_EQ(random.below(1), 0U);
}

TEST(Random, ChanceHoldsItsProbability) {
  Random random(2);
  int hits = 0;
  for (int i = 0; i < 100000; ++i) hits += random.chance(0.05) ? 1 : 0;
  EXPECT_NEAR(hits, 5000, 300);
  EXPECT_FALSE(random.chance(0));
  EXPECT_TRUE(random.chance(1));
}

}  // namespace
}  // namespace postern
