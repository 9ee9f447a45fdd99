#include "base/hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <vector>

namespace postern {
namespace {

// The vectors of the SipHash paper's reference: key 00..0f, input 00, 01, ..., n-1.
TEST(SipHash24, ReferenceVectors) {
  const std::array<uint64_t, 2> key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  std::vector<std::byte> input(64);
  for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<std::byte>(i);
  const auto hash = [&](size_t n) { return siphash24(key, std::span(input.data(), n)); };
  EXPECT_EQ(hash(0), 0x726fdb47dd0e0e31);
  EXPECT_EQ(hash(1), 0x74f839c593dc67fd);
  EXPECT_EQ(hash(7), 0xab0200f58b01d137);
  EXPECT_EQ(hash(8), 0x93f5f5799a932462);
  EXPECT_EQ(hash(15), 0xa129ca6149be45e5);
  EXPECT_EQ(hash(63), 0x958a324ceb064572);
}

struct Key {
  uint64_t word[5] = {};
};

TEST(KeyedHash, DependsOnEveryBitOfKeyAndSecret) {
  const HashSecret secret{1, 2, 3, 4};
  const KeyedHash hash(secret);
  const Key key;
  const uint64_t base = hash(key);
  for (size_t bit = 0; bit < 320; ++bit) {
    Key changed;
    changed.word[bit / 64] = uint64_t{1} << (bit % 64);
    EXPECT_NE(hash(changed), base) << bit;
  }
  for (size_t bit = 0; bit < 256; ++bit) {
    HashSecret other = secret;
    other[bit / 64] ^= uint64_t{1} << (bit % 64);
    EXPECT_NE(KeyedHash(other)(key), base) << bit;
  }
}

// Flipping one bit of the key flips about half of the result, whatever the bit.
TEST(KeyedHash, Avalanches) {
  for (size_t bit = 0; bit < 320; ++bit) {
    int flipped = 0;
    constexpr int kSecrets = 64;
    for (uint64_t s = 0; s < kSecrets; ++s) {
      const KeyedHash hash({s, 7, 11, 13});
      Key key;
      key.word[0] = 0x0100007f;
      Key changed = key;
      changed.word[bit / 64] ^= uint64_t{1} << (bit % 64);
      flipped += std::popcount(hash(key) ^ hash(changed));
    }
    EXPECT_NEAR(flipped, kSecrets * 32, kSecrets * 3) << bit;
  }
}

// Ports and addresses in sequence, as a real or hostile client sends them: chi-squared over the
// high bits that choose a bucket and the low bits that are the tag.
TEST(KeyedHash, SpreadsSequentialKeys) {
  const KeyedHash hash({0x1234, 0x5678, 0x9abc, 0xdef0});
  constexpr size_t kCells = 1024;
  constexpr size_t kKeys = 256 * kCells;
  std::vector<uint32_t> high(kCells);
  std::vector<uint32_t> low(kCells);
  for (size_t i = 0; i < kKeys; ++i) {
    Key key;
    key.word[1] = i / 65536 << 32;
    key.word[4] = i % 65536;
    const uint64_t h = hash(key);
    ++high[h >> 54];
    ++low[h & (kCells - 1)];
  }
  for (const auto& cells : {high, low}) {
    double chi2 = 0;
    for (const uint32_t n : cells) {
      const double d = static_cast<double>(n) - 256;
      chi2 += d * d / 256;
    }
    EXPECT_GT(chi2, 800);  // 1023 degrees of freedom: mean 1023, deviation 45
    EXPECT_LT(chi2, 1250);
  }
}

TEST(KeyedHash, NoCollisionsAmongMillions) {
  const KeyedHash hash({5, 6, 7, 8});
  std::vector<uint64_t> seen;
  for (uint64_t i = 0; i < 1000000; ++i) seen.push_back(hash(Key{{i, 0, 0, 0, 0}}));
  for (uint64_t i = 0; i < 1000000; ++i) seen.push_back(hash(Key{{0, 0, 0, 0, i + 1}}));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

TEST(KeyedHash, OtherSizes) {
  const KeyedHash hash({1, 2, 3, 4});
  struct K16 {
    uint64_t w[2];
  };
  struct K24 {
    uint64_t w[3];
  };
  struct K48 {
    uint64_t w[6];
  };
  EXPECT_NE(hash(K16{{1, 2}}), hash(K16{{2, 1}}));
  EXPECT_NE(hash(K24{{1, 2, 3}}), hash(K24{{1, 2, 4}}));
  EXPECT_NE(hash(K48{{1, 2, 3, 4, 5, 6}}), hash(K48{{1, 2, 3, 4, 5, 7}}));
}

}  // namespace
}  // namespace postern
