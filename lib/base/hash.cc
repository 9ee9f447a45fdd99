#include "base/hash.h"

#include <bit>

#include "base/byte_order.h"

namespace postern {

namespace {

struct SipState {
  uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void absorb(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
};

// The first n <= 8 bytes as a little-endian integer.
uint64_t load(const std::byte* p, size_t n) {
  uint64_t word = 0;
  std::memcpy(&word, p, n);
  return std::endian::native == std::endian::little ? word : byte_swap(word);
}

}  // namespace

uint64_t siphash24(const std::array<uint64_t, 2>& key, std::span<const std::byte> data) noexcept {
  SipState s{0x736f6d6570736575 ^ key[0], 0x646f72616e646f6d ^ key[1], 0x6c7967656e657261 ^ key[0],
             0x7465646279746573 ^ key[1]};
  const size_t whole = data.size() & ~size_t{7};
  for (size_t i = 0; i < whole; i += 8) s.absorb(load(data.data() + i, 8));
  const uint64_t tail =
      data.size() > whole ? load(data.data() + whole, data.size() - whole) : uint64_t{0};
  s.absorb(uint64_t{data.size()} << 56 | tail);
  s.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

KeyedHash::KeyedHash(const HashSecret& secret) noexcept {
  for (size_t i = 0; i < kMasks; ++i) {
    const std::array<uint64_t, 3> input{secret[2], secret[3], i};
    mask_[i] = siphash24({secret[0], secret[1]}, std::as_bytes(std::span(input)));
  }
}

}  // namespace postern
