#include "base/record_ring.h"

#include <gtest/gtest.h>

#include <deque>
#include <thread>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

std::vector<std::byte> record(uint32_t number, size_t length) {
  std::vector<std::byte> bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(number + i * 7);
  return bytes;
}

std::vector<std::byte> copy(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

TEST(RecordRing, BeginsEmpty) {
  RecordRing ring(1000);
  EXPECT_EQ(ring.capacity(), 1024u);
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.front().data(), nullptr);
}

TEST(RecordRing, GivesBackRecordsOfAnyLengthInOrder) {
  RecordRing ring(512);
  std::deque<std::vector<std::byte>> expected;
  Random random(7);
  uint32_t pushed = 0;
  for (int step = 0; step < 20'000; ++step) {
    if (random.below(2) == 0) {
      auto bytes = record(step, random.below(200));
      if (!ring.push(bytes)) continue;
      ++pushed;
      expected.push_back(std::move(bytes));
    } else if (!expected.empty()) {
      ASSERT_EQ(copy(ring.front()), expected.front());
      ASSERT_NE(ring.front().data(), nullptr) << "also an empty record is one";
      ring.pop();
      expected.pop_front();
    } else {
      ASSERT_EQ(ring.front().data(), nullptr);
    }
  }
  EXPECT_GT(pushed, 5000u);
}

TEST(RecordRing, HalfOfItFitsWheneverItIsEmpty) {
  RecordRing ring(1024);
  for (uint32_t i = 0; i < 300; ++i) {
    ASSERT_TRUE(ring.push(record(i, i % 50)));
    (void)ring.front();
    ring.pop();
    ASSERT_TRUE(ring.push(record(i, 504))) << i;
    ASSERT_EQ(copy(ring.front()), record(i, 504));
    ring.pop();
  }
}

TEST(RecordRing, AFullOneRefusesAndKeepsWhatItHas) {
  RecordRing ring(256);
  uint32_t taken = 0;
  while (ring.push(record(taken, 24))) ++taken;
  EXPECT_EQ(taken, 8u);
  EXPECT_FALSE(ring.push(record(99, 0)));
  EXPECT_EQ(copy(ring.front()), record(0, 24));
  ring.pop();
  EXPECT_TRUE(ring.push(record(99, 24)));
}

TEST(RecordRing, LessMayBeWrittenThanWasReserved) {
  RecordRing ring(256);
  for (int i = 0; i < 100; ++i) {
    std::byte* const to = ring.reserve(100);
    ASSERT_NE(to, nullptr);
    to[0] = static_cast<std::byte>(i);
    ring.commit(1);
    ASSERT_EQ(ring.front().size(), 1u);
    ASSERT_EQ(ring.front()[0], static_cast<std::byte>(i));
    ring.pop();
  }
}

TEST(RecordRing, TwoThreads) {
  constexpr uint32_t kRecords = 200'000;
  RecordRing ring(4096);
  std::thread producer([&ring] {
    for (uint32_t i = 0; i < kRecords;) {
      const auto bytes = record(i, i % 97);
      if (ring.push(bytes)) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  });
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < kRecords;) {
    const auto bytes = ring.front();
    if (bytes.data() == nullptr) {
      std::this_thread::yield();
      continue;
    }
    wrong += copy(bytes) != record(i, i % 97);
    ring.pop();
    ++i;
  }
  producer.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace postern
