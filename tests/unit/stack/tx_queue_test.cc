#include "stack/tx_queue.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace postern {
namespace {

TEST(TxQueue, AdjacentExtentsMerge) {
  TxExtentPool pool(8);
  TxQueue q;
  for (uint32_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(q.append(pool, 100 + 10 * i, 10), TxQueue::Result::ok);
  }
  EXPECT_EQ(pool.used(), 0u);
  EXPECT_EQ(q.outstanding(), 10000u);
  const TxQueue::Piece p = q.at(pool, 5000, 2000);
  EXPECT_EQ(p.offset, 5100u);
  EXPECT_EQ(p.length, 2000u);
}

TEST(TxQueue, SixtyFourExtentsAndNoMore) {
  TxExtentPool pool(256);
  TxQueue q;
  for (uint32_t i = 0; i < kMaxExtents; ++i) {
    ASSERT_EQ(q.append(pool, 1000 * i, 10), TxQueue::Result::ok);
  }
  EXPECT_EQ(q.append(pool, 0, 10), TxQueue::Result::too_many);
  EXPECT_EQ(pool.used(), kMaxExtents - 1);
  q.release(pool, 15);
  EXPECT_EQ(pool.used(), kMaxExtents - 2);
  EXPECT_EQ(q.append(pool, 0, 10), TxQueue::Result::ok);
  q.clear(pool);
  EXPECT_EQ(pool.used(), 0u);
  EXPECT_EQ(q.begin(), q.end());
}

TEST(TxQueue, PoolExhausted) {
  TxExtentPool pool(1);
  TxQueue q;
  EXPECT_EQ(q.append(pool, 0, 1), TxQueue::Result::ok);
  EXPECT_EQ(q.append(pool, 10, 1), TxQueue::Result::ok);
  EXPECT_EQ(q.append(pool, 20, 1), TxQueue::Result::no_memory);
  EXPECT_EQ(q.end(), 2u);
}

// Against the plain model: an array that says which offset each position has.
TEST(TxQueue, RandomUseAgreesWithAModel) {
  TxExtentPool pool(64);
  TxQueue q;
  Random random(11);
  std::vector<uint64_t> offset_of;
  uint64_t next = 0;
  for (int round = 0; round < 20000; ++round) {
    const uint64_t choice = random.below(3);
    if (choice == 0) {
      const auto n = static_cast<uint32_t>(1 + random.below(300));
      if (random.below(3) == 0) next += 1 + random.below(5000);
      if (q.append(pool, next, n) == TxQueue::Result::ok) {
        for (uint32_t i = 0; i < n; ++i) offset_of.push_back(next + i);
        next += n;
      }
    } else if (choice == 1 && q.outstanding() != 0) {
      q.release(pool, q.begin() + static_cast<uint32_t>(random.below(q.outstanding() + 1)));
    } else if (q.outstanding() != 0) {
      uint32_t at = q.begin() + static_cast<uint32_t>(random.below(q.outstanding()));
      auto n = static_cast<uint32_t>(1 + random.below(q.end() - at));
      while (n > 0) {
        const TxQueue::Piece p = q.at(pool, at, n);
        ASSERT_GT(p.length, 0u);
        ASSERT_LE(p.length, n);
        for (uint32_t i = 0; i < p.length; ++i) ASSERT_EQ(p.offset + i, offset_of[at + i]);
        at += p.length;
        n -= p.length;
      }
    }
    ASSERT_EQ(q.end(), offset_of.size());
  }
  q.clear(pool);
  EXPECT_EQ(pool.used(), 0u);
}

}  // namespace
}  // namespace postern
