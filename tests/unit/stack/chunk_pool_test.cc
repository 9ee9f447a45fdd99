#include "stack/chunk_pool.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

class ChunkPoolTest : public ::testing::Test {
 protected:
  void make(uint32_t units) {
    memory_.resize(size_t{units} * kChunkUnit);
    pages_.resize(ChunkPool::pages_for(units));
    pool_.reset(memory_.data(), units, pages_.data());
  }
  std::vector<std::byte> memory_;
  std::vector<ChunkPool::Page> pages_;
  ChunkPool pool_;
};

TEST_F(ChunkPoolTest, UnitZeroIsNeverGivenOut) {
  make(64);
  EXPECT_EQ(pool_.free_units(), 63u);
  std::set<uint32_t> seen;
  while (const uint32_t unit = pool_.allocate_small()) seen.insert(unit);
  EXPECT_EQ(seen.size(), 63u);
  EXPECT_EQ(*seen.begin(), 1u);
  EXPECT_EQ(*seen.rbegin(), 63u);
  EXPECT_EQ(pool_.free_units(), 0u);
}

TEST_F(ChunkPoolTest, LargeChunksAreWholePages) {
  make(4 * kChunkLargeUnits);
  std::vector<uint32_t> large;
  while (const uint32_t unit = pool_.allocate_large()) large.push_back(unit);
  EXPECT_EQ(large.size(), 3u);  // the first page lacks unit 0
  for (const uint32_t unit : large) EXPECT_EQ(unit % kChunkLargeUnits, 0u);
  EXPECT_EQ(pool_.free_units(), 31u);
}

TEST_F(ChunkPoolTest, PageSplitsAndIsWholeAgain) {
  make(2 * kChunkLargeUnits);
  std::vector<uint32_t> small;
  for (int i = 0; i < 32; ++i) small.push_back(pool_.allocate_small());
  EXPECT_EQ(pool_.allocate_large(), 0u) << "one unit of the only whole page is in use";
  for (const uint32_t unit : small) pool_.free(unit, 1);
  const uint32_t large = pool_.allocate_large();
  EXPECT_EQ(large, kChunkLargeUnits);
  pool_.free(large, kChunkLargeUnits);
  EXPECT_EQ(pool_.used_units(), 0u);
}

TEST_F(ChunkPoolTest, RaggedEndAndEmptyPool) {
  make(40);
  EXPECT_EQ(pool_.free_units(), 39u);
  EXPECT_EQ(pool_.allocate_large(), 0u);
  make(1);
  EXPECT_EQ(pool_.allocate_small(), 0u);
  make(0);
  EXPECT_EQ(pool_.allocate_small(), 0u);
}

TEST_F(ChunkPoolTest, RandomUseNeverOverlapsAndLosesNothing) {
  constexpr uint32_t kUnits = 20 * kChunkLargeUnits + 7;
  make(kUnits);
  Random random(7);
  std::vector<bool> used(kUnits, false);
  std::vector<std::pair<uint32_t, uint32_t>> held;
  for (int i = 0; i < 100000; ++i) {
    if (random.below(2) == 0) {
      const uint32_t units = random.below(8) == 0 ? kChunkLargeUnits : 1;
      const uint32_t unit = units == 1 ? pool_.allocate_small() : pool_.allocate_large();
      if (unit == 0) continue;
      for (uint32_t u = unit; u < unit + units; ++u) {
        ASSERT_FALSE(used[u]);
        used[u] = true;
      }
      held.emplace_back(unit, units);
    } else if (!held.empty()) {
      std::swap(held[random.below(held.size())], held.back());
      const auto [unit, units] = held.back();
      held.pop_back();
      pool_.free(unit, units);
      for (uint32_t u = unit; u < unit + units; ++u) used[u] = false;
    }
  }
  for (const auto& [unit, units] : held) pool_.free(unit, units);
  EXPECT_EQ(pool_.free_units(), kUnits - 1);
  for (int i = 0; i < 19; ++i) EXPECT_NE(pool_.allocate_large(), 0u);
}

}  // namespace
}  // namespace postern
