#include "flow/flow_table.h"

#include <gtest/gtest.h>

#include <unordered_map>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

constexpr HashSecret kSecret{0x0123456789abcdef, 2, 3, 4};

FlowKey key_of(uint32_t i) {
  return {IpAddress::v4(0x0a000000 + i / 50000), static_cast<uint16_t>(1024 + i % 50000),
          IpAddress::v4(0xc0000201), 80, 6};
}

TEST(FlowTable, FindsWhatWasInserted) {
  FlowTable table(16, kSecret);
  EXPECT_EQ(table.find(key_of(1)), kNoFlow);
  ASSERT_TRUE(table.insert(key_of(1), 7));
  EXPECT_EQ(table.find(key_of(1)), 7U);
  EXPECT_EQ(table.key_of_value(7), key_of(1));
  EXPECT_EQ(table.find(key_of(2)), kNoFlow);
  EXPECT_EQ(table.size(), 1U);
}

TEST(FlowTable, EveryFieldOfTheKeyCounts) {
  FlowTable table(16, kSecret);
  const FlowKey key{*IpAddress::parse("2001:db8::1"), 1, *IpAddress::parse("2001:db8::2"), 2, 6};
  ASSERT_TRUE(table.insert(key, 0));
  FlowKey other = key;
  other.remote = *IpAddress::parse("2001:db8::3");
  EXPECT_EQ(table.find(other), kNoFlow);
  other = key;
  other.local = *IpAddress::parse("2001:db8::3");
  EXPECT_EQ(table.find(other), kNoFlow);
  other = key;
  other.remote_port = 3;
  EXPECT_EQ(table.find(other), kNoFlow);
  other = key;
  other.local_port = 3;
  EXPECT_EQ(table.find(other), kNoFlow);
  other = key;
  other.protocol = 17;
  EXPECT_EQ(table.find(other), kNoFlow);
  other = {key.local, key.local_port, key.remote, key.remote_port, 6};
  EXPECT_EQ(table.find(other), kNoFlow) << "the other direction is another flow";
}

TEST(FlowTable, RefusesDuplicatesAndOverfilling) {
  FlowTable table(4, kSecret);
  for (uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(table.insert(key_of(i), i));
  EXPECT_FALSE(table.insert(key_of(9), 3)) << "full";
  EXPECT_TRUE(table.erase(key_of(2)));
  EXPECT_FALSE(table.erase(key_of(2)));
  EXPECT_FALSE(table.insert(key_of(1), 2)) << "present";
  EXPECT_EQ(table.find(key_of(1)), 1U);
  EXPECT_TRUE(table.insert(key_of(9), 2));
}

// Its whole capacity is usable, for tables of one bucket and of thousands.
TEST(FlowTable, HoldsItsCapacity) {
  for (const uint32_t capacity : {1U, 7U, 8U, 9U, 50U, 121U, 128U, 1000U, 300000U}) {
    FlowTable table(capacity, kSecret);
    for (uint32_t i = 0; i < capacity; ++i) ASSERT_TRUE(table.insert(key_of(i), i)) << capacity;
    for (uint32_t i = 0; i < capacity; ++i) ASSERT_EQ(table.find(key_of(i)), i);
    EXPECT_EQ(table.size(), capacity);
    for (uint32_t i = 0; i < capacity; ++i) ASSERT_TRUE(table.erase(key_of(i)));
    for (uint32_t i = 0; i < capacity; ++i) ASSERT_EQ(table.find(key_of(i)), kNoFlow);
  }
}

TEST(FlowTable, BurstEqualsSingle) {
  constexpr uint32_t kFlows = 10000;
  FlowTable table(kFlows, kSecret);
  for (uint32_t i = 0; i < kFlows; ++i) ASSERT_TRUE(table.insert(key_of(i), i));
  Random random(1);
  for (const size_t n : {0UL, 1UL, 8UL, 31UL, 32UL, 33UL, 64UL, 200UL}) {
    std::vector<FlowKey> keys;
    for (size_t i = 0; i < n; ++i) {
      keys.push_back(key_of(static_cast<uint32_t>(random.below(2 * kFlows))));  // half are misses
    }
    std::vector<uint32_t> out(n + 1, 0x5a5a5a5a);
    table.find_burst(keys.data(), n, out.data());
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(out[i], table.find(keys[i])) << n;
    EXPECT_EQ(out[n], 0x5a5a5a5a) << "wrote beyond n";
  }
}

TEST(FlowTable, MatchesModelUnderChurn) {
  for (const uint32_t capacity : {5U, 60U, 1000U}) {
    FlowTable table(capacity, kSecret);
    std::unordered_map<uint32_t, uint32_t> model;  // key number -> value
    std::vector<uint32_t> free_values;
    for (uint32_t v = 0; v < capacity; ++v) free_values.push_back(v);
    Random random(capacity);
    for (int step = 0; step < 200000; ++step) {
      const auto k = static_cast<uint32_t>(random.below(capacity * 2));
      const auto found = model.find(k);
      if (random.chance(0.4)) {
        ASSERT_EQ(table.find(key_of(k)), found == model.end() ? kNoFlow : found->second);
      } else if (found != model.end()) {
        ASSERT_TRUE(table.erase(key_of(k)));
        free_values.push_back(found->second);
        model.erase(found);
      } else if (!free_values.empty()) {
        ASSERT_TRUE(table.insert(key_of(k), free_values.back()));
        model[k] = free_values.back();
        free_values.pop_back();
      }
      ASSERT_EQ(table.size(), model.size());
    }
    for (uint32_t k = 0; k < capacity * 2; ++k) {
      const auto found = model.find(k);
      ASSERT_EQ(table.find(key_of(k)), found == model.end() ? kNoFlow : found->second);
    }
  }
}

// At full load the table reaches a balance and stays there, however long it churns; emptied, it is
// as new.
TEST(FlowIndex, ChurnDoesNotDegrade) {
  constexpr uint32_t kFlows = 20000;
  std::vector<FlowKey> keys(kFlows);
  const auto stored = [&](uint32_t value) noexcept -> const FlowKey& { return keys[value]; };
  FlowIndex table(kFlows, kSecret);
  uint32_t next = 0;
  for (uint32_t i = 0; i < kFlows; ++i) {
    keys[i] = key_of(next++);
    ASSERT_TRUE(table.insert(keys[i], i, stored));
  }
  EXPECT_LT(table.displaced(), kFlows / 25);
  Random random(1);
  for (int round = 0; round < 5; ++round) {
    for (uint32_t i = 0; i < 10 * kFlows; ++i) {
      const auto value = static_cast<uint32_t>(random.below(kFlows));
      ASSERT_TRUE(table.erase(keys[value], value));
      keys[value] = key_of(next++);
      ASSERT_TRUE(table.insert(keys[value], value, stored));
    }
    EXPECT_LT(table.displaced(), kFlows / 8) << round;
  }
  for (uint32_t i = 0; i < kFlows; ++i) ASSERT_TRUE(table.erase(keys[i], i));
  EXPECT_EQ(table.displaced(), 0U);
  EXPECT_EQ(table.size(), 0U);
}

// Sizes whose bucket count, unless it is chosen with care, shares factors with many strides.
TEST(FlowIndex, NoFlowIsRefusedWhileThereIsRoom) {
  for (const uint32_t capacity : {900U, 1000U, 1800U, 4000U}) {
    std::vector<FlowKey> keys(capacity);
    const auto stored = [&](uint32_t value) noexcept -> const FlowKey& { return keys[value]; };
    FlowIndex table(capacity, kSecret);
    uint32_t next = 0;
    for (uint32_t round = 0; round < 200; ++round) {
      for (uint32_t i = 0; i < capacity; ++i) {
        if (round > 0) {
          ASSERT_TRUE(table.erase(keys[i], i));
        }
        keys[i] = key_of(next++);
        ASSERT_TRUE(table.insert(keys[i], i, stored)) << capacity << " round " << round;
      }
    }
  }
}

TEST(FlowIndex, EraseNamesTheValue) {
  const FlowKey key = key_of(1);
  const auto stored = [&](uint32_t) noexcept -> const FlowKey& { return key; };
  FlowIndex table(8, kSecret);
  ASSERT_TRUE(table.insert(key, 3, stored));
  EXPECT_FALSE(table.erase(key, 4));
  EXPECT_EQ(table.find(key, stored), 3U);
  EXPECT_TRUE(table.erase(key, 3));
}

// Two secrets send the same keys to different buckets: what one run learns is of no use in another.
TEST(FlowIndex, SecretDecidesThePlaces) {
  FlowTable a(100000, kSecret);
  FlowTable b(100000, {9, 9, 9, 9});
  for (uint32_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(a.insert(key_of(i), i));
    ASSERT_TRUE(b.insert(key_of(i), i));
  }
  const KeyedHash ha(kSecret);
  const KeyedHash hb({9, 9, 9, 9});
  int same = 0;
  for (uint32_t i = 0; i < 1000; ++i) same += ha(key_of(i)) >> 48 == hb(key_of(i)) >> 48 ? 1 : 0;
  EXPECT_LT(same, 10);
}

TEST(FlowIndex, MemoryStaysWithinItsBudget) {
  const FlowIndex table(1000000, kSecret);
  EXPECT_LT(table.memory(), 10U * 1000000);
}

}  // namespace
}  // namespace postern
