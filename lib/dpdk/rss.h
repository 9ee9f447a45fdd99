// Which worker owns a flow: the symmetric Toeplitz hash, in software and as a key for devices.
//
// A key of period 16 bits makes the Toeplitz hash a function of the XOR of all 16-bit words of its
// input. So both directions of a flow hash alike, an IPv4 address and its mapped IPv6 form hash
// alike, and the software needs no key table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/address.h"

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

// XOR of the big-endian 16-bit words; `bytes` even.
inline uint16_t fold(const uint8_t* data, size_t bytes) {
  uint16_t x = 0;
  for (size_t i = 0; i < bytes; i += 2) {
    x = static_cast<uint16_t>(x ^ (data[i] << 8 | data[i + 1]));
  }
  return x;
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

constexpr uint32_t worker_of(uint32_t hash, uint32_t workers) {
  return (hash & (kBuckets - 1)) % workers;
}

inline uint32_t hash(const Endpoint& a, const Endpoint& b) {
  return hash(static_cast<uint16_t>(fold(a.address.data(), 16) ^ fold(b.address.data(), 16) ^
                                    a.port ^ b.port));
}

}  // namespace postern::rss
