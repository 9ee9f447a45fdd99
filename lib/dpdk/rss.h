// Which worker owns a flow: the symmetric Toeplitz hash, in software and as a key for devices.
//
// A key of period 16 bits makes the Toeplitz hash a function of the XOR of all 16-bit words of its
// input. So both directions of a flow hash alike, an IPv4 address and its mapped IPv6 form hash
// alike, and the software needs no key table.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/address.h"
#include "base/byte_order.h"

namespace postern::rss {

inline constexpr uint16_t kKeyWord = 0x6d5a;  // repeated: the key of Woo and Park, 2012
inline constexpr size_t kMaxKeyBytes = 64;
// Entries of the table that maps hashes to workers; a device's table is a repetition of it.
inline constexpr uint32_t kBuckets = 128;

constexpr std::array<uint8_t, kMaxKeyBytes> key() {
  std::array<uint8_t, kMaxKeyBytes> k{};
  for (size_t i = 0; i < k.size(); ++i) k[i] = i % 2 == 0 ? kKeyWord >> 8 : kKeyWord & 0xff;
  return k;
}

// XOR of the big-endian 16-bit words; `bytes` a multiple of 4.
inline uint16_t fold(const uint8_t* data, size_t bytes) {
  uint32_t x = 0;
  for (size_t i = 0; i < bytes; i += 4) {
    uint32_t word;
    std::memcpy(&word, data + i, sizeof word);
    x ^= word;
  }
  return std::bit_cast<be16>(static_cast<uint16_t>(x ^ x >> 16)).host();
}

// The 32-bit Toeplitz hash of an input whose words XOR to `folded`.
constexpr uint32_t hash(uint16_t folded) {
  const uint32_t window = uint32_t{kKeyWord} << 16 | kKeyWord;
  uint32_t h = 0;
  for (unsigned bit = 0; bit < 16; ++bit) {
    if (folded >> (15 - bit) & 1) h ^= bit == 0 ? window : window << bit | window >> (32 - bit);
  }
  return h;
}

// The hash is linear: that of a word is that of its high byte XOR that of its low byte. Of both
// only what chooses a bucket.
struct BucketTable {
  std::array<uint8_t, 256> high{}, low{};
  constexpr BucketTable() {
    for (unsigned byte = 0; byte < 256; ++byte) {
      high[byte] = hash(static_cast<uint16_t>(byte << 8)) & (kBuckets - 1);
      low[byte] = hash(static_cast<uint16_t>(byte)) & (kBuckets - 1);
    }
  }
};
inline constexpr BucketTable kBucketTable;

constexpr uint32_t bucket_of(uint16_t folded) {
  return kBucketTable.high[folded >> 8] ^ kBucketTable.low[folded & 0xff];
}
// Of a bucket, or of a hash, whose low bits are one.
constexpr uint32_t worker_of(uint32_t bucket, uint32_t workers) {
  return (bucket & (kBuckets - 1)) * workers / kBuckets;
}

inline uint16_t fold(const Endpoint& a, const Endpoint& b) {
  return static_cast<uint16_t>(fold(a.address.data(), 16) ^ fold(b.address.data(), 16) ^ a.port ^
                               b.port);
}

}  // namespace postern::rss
