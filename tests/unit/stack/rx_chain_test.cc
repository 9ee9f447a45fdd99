#include "stack/rx_chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

std::byte content(uint32_t position) {
  return static_cast<std::byte>(position * 2654435761U >> 24);
}

class RxChainTest : public ::testing::Test {
 protected:
  RxChainTest() { make(256); }
  void make(uint32_t units) {
    memory_.assign(size_t{units} * kChunkUnit, std::byte{});
    pages_.resize(ChunkPool::pages_for(units));
    pool_.reset(memory_.data(), units, pages_.data());
  }
  void store(uint32_t position, uint32_t length) {
    std::vector<std::byte> bytes(length);
    for (uint32_t i = 0; i < length; ++i) bytes[i] = content(position + i);
    ASSERT_TRUE(chain_.can_cover(pool_, position + length));
    chain_.store(pool_, position, bytes.data(), length);
  }
  // Reads [head, tail) as a client does that has taken over the chain at `unit`.
  void expect_content(uint32_t unit, uint32_t position, uint32_t n) {
    while (n > 0) {
      ASSERT_NE(unit, 0u);
      const ChunkHeader* chunk = pool_.header(unit);
      const uint32_t offset = position - chunk->start;
      if (offset == chunk->capacity) {
        unit = chunk->next;
        continue;
      }
      ASSERT_LT(offset, chunk->capacity);
      const uint32_t k = std::min(n, chunk->capacity - offset);
      for (uint32_t i = 0; i < k; ++i) {
        ASSERT_EQ(pool_.payload(unit)[offset + i], content(position + i)) << position + i;
      }
      position += k;
      n -= k;
    }
  }
  std::vector<std::byte> memory_;
  std::vector<ChunkPool::Page> pages_;
  ChunkPool pool_;
  RxChain chain_;
};

TEST_F(RxChainTest, AShortMessageTakesOneUnitAndGivesItBack) {
  store(0, 64);
  chain_.advance_tail(pool_, 64);
  EXPECT_EQ(pool_.used_units(), 1u);
  const uint32_t unit = chain_.new_chain();
  ASSERT_NE(unit, 0u);
  EXPECT_EQ(pool_.header(unit)->start, 0u);
  expect_content(unit, 0, 64);
  chain_.mark_announced();
  EXPECT_EQ(chain_.new_chain(), 0u);
  chain_.consume(pool_, 64);
  EXPECT_EQ(pool_.used_units(), 0u);
  store(64, 10);
  chain_.advance_tail(pool_, 74);
  ASSERT_NE(chain_.new_chain(), 0u) << "the next data comes with a new chain";
  EXPECT_EQ(pool_.header(chain_.new_chain())->start, 64u);
}

TEST_F(RxChainTest, BulkTakesLargeChunks) {
  for (uint32_t at = 0; at < 200000; at += 1000) {
    store(at, 1000);
    chain_.advance_tail(pool_, at + 1000);
  }
  EXPECT_LT(pool_.used_units(), 4 * kChunkLargeUnits + 8);
  expect_content(chain_.new_chain(), 0, 200000);
  chain_.clear(pool_);
  EXPECT_EQ(pool_.used_units(), 0u);
}

TEST_F(RxChainTest, AChunkStaysWhileTheReaderStandsAtItsEnd) {
  constexpr uint32_t kFull = ChunkPool::kSmallPayload;
  store(0, kFull + 10);
  chain_.advance_tail(pool_, kFull + 10);
  const uint32_t first = chain_.new_chain();
  EXPECT_EQ(pool_.used_units(), 2u);
  chain_.consume(pool_, kFull);
  EXPECT_EQ(pool_.used_units(), 2u) << "its link is still needed";
  expect_content(first, kFull, 10);
  chain_.consume(pool_, kFull + 1);
  EXPECT_EQ(pool_.used_units(), 1u);
  chain_.consume(pool_, kFull + 10);
  EXPECT_EQ(pool_.used_units(), 0u);
}

TEST_F(RxChainTest, BytesBehindAGapKeepTheChain) {
  store(0, 100);
  chain_.advance_tail(pool_, 100);
  chain_.mark_announced();
  const uint32_t unit = 1;
  store(200, 100);  // out of order
  chain_.consume(pool_, 100);
  EXPECT_NE(pool_.used_units(), 0u);
  store(100, 100);
  chain_.advance_tail(pool_, 300);
  EXPECT_EQ(chain_.new_chain(), 0u) << "the client goes on where it stands";
  expect_content(unit, 100, 200);
  chain_.consume(pool_, 300);
  EXPECT_EQ(pool_.used_units(), 0u);
}

TEST_F(RxChainTest, CannotCoverMoreThanThePoolHas) {
  make(4);
  EXPECT_TRUE(chain_.can_cover(pool_, 3 * ChunkPool::kSmallPayload));
  EXPECT_FALSE(chain_.can_cover(pool_, 3 * ChunkPool::kSmallPayload + 1));
  store(0, 3 * ChunkPool::kSmallPayload);
  EXPECT_EQ(chain_.room_behind_stored(), 0u);
  EXPECT_TRUE(chain_.can_cover(pool_, 100));
}

TEST_F(RxChainTest, RandomOrderAcrossTheWrapOfPositions) {
  // Starts just below 2^32 so that positions wrap.
  constexpr uint32_t kStart = UINT32_MAX - 300000;
  chain_.advance_tail(pool_, kStart);
  chain_.consume(pool_, kStart);
  Random random(3);
  uint32_t tail = kStart;
  uint32_t head = kStart;
  uint32_t reader = 0;  // unit
  for (int round = 0; round < 400; ++round) {
    struct Piece {
      uint32_t at, length;
    };
    std::vector<Piece> pieces;
    uint32_t end = tail;
    for (int i = 0; i < 8; ++i) {
      const auto n = static_cast<uint32_t>(1 + random.below(1460));
      pieces.push_back({end, n});
      end += n;
    }
    for (size_t i = pieces.size(); i > 1; --i) std::swap(pieces[i - 1], pieces[random.below(i)]);
    for (const Piece& p : pieces) store(p.at, p.length);
    tail = end;
    chain_.advance_tail(pool_, tail);
    if (chain_.new_chain() != 0) {
      reader = chain_.new_chain();
      ASSERT_EQ(pool_.header(reader)->start, head);
      chain_.mark_announced();
    }
    const auto n = static_cast<uint32_t>(random.below(tail - head + 1));
    expect_content(reader, head, n);
    while (n != 0 && head + n - pool_.header(reader)->start > pool_.header(reader)->capacity) {
      reader = pool_.header(reader)->next;
    }
    head += n;
    chain_.consume(pool_, head);
  }
  chain_.consume(pool_, tail);
  EXPECT_EQ(pool_.used_units(), 0u);
}

}  // namespace
}  // namespace postern
