#include "base/checksum.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace postern {
namespace {

// RFC 1071 4.1 as it stands there: big-endian words, one at a time.
uint16_t reference(std::span<const std::byte> data) {
  uint64_t sum = 0;
  for (size_t i = 0; i < data.size(); ++i) {
    const auto byte = static_cast<uint64_t>(data[i]);
    sum += i % 2 == 0 ? byte << 8 : byte;
  }
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

std::vector<std::byte> random_bytes(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

TEST(ChecksumAdd, MatchesReferenceAtEveryLengthAndAlignment) {
  const auto data = random_bytes(700, 1);
  for (size_t align = 0; align < 33; ++align) {
    for (size_t n = 0; n + align <= 600; ++n) {
      const std::span<const std::byte> piece(data.data() + align, n);
      ASSERT_EQ(checksum_finish(checksum_add(piece)).host(), reference(piece))
          << "align " << align << " length " << n;
    }
  }
}

TEST(ChecksumAdd, SurvivesCarries) {
  for (const size_t n : {1UL, 2UL, 31UL, 32UL, 63UL, 64UL, 65UL, 1460UL, 65535UL, 1000001UL}) {
    const std::vector<std::byte> ones(n, std::byte{0xff});
    EXPECT_EQ(checksum_finish(checksum_add(ones)).host(), reference(ones)) << n;
    EXPECT_EQ(checksum_fold(checksum_add(ones, 0xffffffff)), checksum_fold(checksum_add(ones)))
        << "0xffffffff is a zero of the sum, length " << n;
  }
}

TEST(ChecksumAdd, ChainsPiecesOfAnyLength) {
  const auto data = random_bytes(500, 2);
  Random random(3);
  for (int round = 0; round < 2000; ++round) {
    const size_t n = random.below(data.size() + 1);
    Checksum chained;
    for (size_t at = 0; at < n;) {
      const size_t piece = 1 + random.below(std::min<size_t>(n - at, 70));
      chained.add({data.data() + at, piece});
      at += piece;
    }
    ASSERT_EQ(checksum_finish(chained.sum()).host(), reference({data.data(), n})) << round;
  }
}

TEST(CopyAndChecksum, CopiesExactlyAndSums) {
  const auto data = random_bytes(400, 4);
  for (size_t align = 0; align < 5; ++align) {
    for (size_t n = 0; n <= 300; ++n) {
      std::vector<std::byte> out(n + 8 + align, std::byte{0x5a});
      const uint32_t sum = copy_and_checksum(out.data() + 4 + align, data.data() + align, n, 7);
      EXPECT_EQ(checksum_fold(sum),
                checksum_fold(checksum_combine(7, checksum_add({data.data() + align, n}))));
      ASSERT_TRUE(std::equal(data.data() + align, data.data() + align + n, out.data() + 4 + align));
      for (size_t i = 0; i < 4; ++i) {
        ASSERT_EQ(out[i + align], std::byte{0x5a});
        ASSERT_EQ(out[4 + align + n + i], std::byte{0x5a}) << "wrote beyond the end";
      }
    }
  }
}

TEST(CopyAndChecksum, ChainsThroughChecksum) {
  const auto data = random_bytes(333, 5);
  std::vector<std::byte> out(data.size());
  Checksum sum;
  sum.copy(out.data(), data.data(), 101);
  sum.copy(out.data() + 101, data.data() + 101, 33);
  sum.add({data.data() + 134, data.size() - 134});
  EXPECT_EQ(checksum_finish(sum.sum()).host(), reference(data));
}

TEST(ChecksumIsGood, AcceptsOwnAndRefusesChanged) {
  auto data = random_bytes(64, 6);
  data[10] = data[11] = std::byte{0};
  const be16 field = checksum_finish(checksum_add(data));
  std::memcpy(&data[10], &field, 2);
  EXPECT_TRUE(checksum_is_good(checksum_add(data)));
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] ^= std::byte{0x10};
    EXPECT_FALSE(checksum_is_good(checksum_add(data))) << i;
    data[i] ^= std::byte{0x10};
  }
}

TEST(PseudoHeader, MatchesReferenceForBothFamilies) {
  const auto source4 = *IpAddress::parse("192.0.2.1");
  const auto destination4 = *IpAddress::parse("198.51.100.254");
  std::vector<std::byte> v4;
  for (int i = 12; i < 16; ++i) v4.push_back(static_cast<std::byte>(source4.data()[i]));
  for (int i = 12; i < 16; ++i) v4.push_back(static_cast<std::byte>(destination4.data()[i]));
  for (const int b : {0, 6, 0x05, 0xdc}) v4.push_back(static_cast<std::byte>(b));
  EXPECT_EQ(checksum_finish(pseudo_header_sum(source4, destination4, 6, 0x5dc)).host(),
            reference(v4));

  const auto source6 = *IpAddress::parse("2001:db8::ffff:ffff:1");
  const auto destination6 = *IpAddress::parse("fe80:ffff:ffff:ffff::ffff");
  std::vector<std::byte> v6;
  for (int i = 0; i < 16; ++i) v6.push_back(static_cast<std::byte>(source6.data()[i]));
  for (int i = 0; i < 16; ++i) v6.push_back(static_cast<std::byte>(destination6.data()[i]));
  for (const int b : {0, 1, 0x05, 0xdc, 0, 0, 0, 58}) v6.push_back(static_cast<std::byte>(b));
  EXPECT_EQ(checksum_finish(pseudo_header_sum(source6, destination6, 58, 0x105dc)).host(),
            reference(v6));
}

TEST(ChecksumUpdate, EqualsRecomputation) {
  auto data = random_bytes(40, 7);
  Random random(8);
  for (int round = 0; round < 5000; ++round) {
    const be16 old_sum(reference(data));
    const size_t at = random.below(19) * 2;
    be16 before;
    std::memcpy(&before, &data[at], 2);
    const be16 after(static_cast<uint16_t>(round % 7 == 0 ? 0xffff : random()));
    std::memcpy(&data[at], &after, 2);
    ASSERT_EQ(checksum_update(old_sum, before, after).host(), reference(data)) << round;
  }
}

// RFC 1624 3: the case that RFC 1141's formula gets wrong.
TEST(ChecksumUpdate, Rfc1624Example) {
  EXPECT_EQ(checksum_update(be16(0xdd2f), be16(0x5555), be16(0x3285)).host(), 0x0000);
}

TEST(ChecksumUpdate, ThirtyTwoBits) {
  auto data = random_bytes(40, 9);
  const be16 old_sum(reference(data));
  be32 before;
  std::memcpy(&before, &data[12], 4);
  const be32 after(0x0a000001);
  std::memcpy(&data[12], &after, 4);
  EXPECT_EQ(checksum_update(old_sum, before, after).host(), reference(data));
}

}  // namespace
}  // namespace postern
