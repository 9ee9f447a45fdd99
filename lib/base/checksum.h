// The Internet checksum (RFC 1071), its incremental update (RFC 1624), and copying with it.
//
// A running sum is a uint32_t in the byte order of memory: 16-bit words are added as they are
// loaded, whatever the machine's order, and the result is stored as it is (RFC 1071 1(B)). Sums may
// be added with checksum_combine() in any order. The words of a sum begin at even positions of the
// summed data, not at even addresses.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/address.h"
#include "base/byte_order.h"

namespace postern {

// One's complement sum of two running sums.
constexpr uint32_t checksum_combine(uint32_t a, uint32_t b) {
  const uint32_t sum = a + b;
  return sum + (sum < a ? 1U : 0U);
}

// A sum of 64-bit words, or of many of 32 bits, as a running sum. The high half of a value and its
// halves exchanged is their one's complement sum: the low half brings the carry. 0 only of 0.
constexpr uint32_t checksum_fold64(uint64_t sum) {
  return static_cast<uint32_t>((sum + std::rotl(sum, 32)) >> 32);
}

// Folds a running sum to 16 bits. Not complemented.
constexpr uint16_t checksum_fold(uint32_t sum) {
  return static_cast<uint16_t>((sum + std::rotl(sum, 16)) >> 16);
}

// The checksum field for a running sum: its complement, to be stored as it is.
constexpr be16 checksum_finish(uint32_t sum) {
  return std::bit_cast<be16>(static_cast<uint16_t>(~checksum_fold(sum)));
}

// The running sum of data that includes its own correct checksum.
constexpr bool checksum_is_good(uint32_t sum) { return checksum_fold(sum) == 0xffff; }

// The sum of bytes that stand at an odd position of the whole, from their sum at an even one.
constexpr uint32_t checksum_odd(uint32_t sum) {
  const uint16_t folded = checksum_fold(sum);
  return static_cast<uint16_t>(folded << 8 | folded >> 8);
}

// Adds bytes that begin at an even position. To chain pieces, all but the last must have even
// length; otherwise use checksum_add_at or Checksum. Any address and length. `sum`: a running sum,
// or one of 64 bits, not folded yet.
[[nodiscard]] uint32_t checksum_add(std::span<const std::byte> data, uint64_t sum = 0) noexcept;

// Adds bytes that begin at byte `position` of the summed data.
[[nodiscard]] inline uint32_t checksum_add_at(std::span<const std::byte> data, size_t position,
                                              uint32_t sum) noexcept {
  const uint32_t piece = checksum_add(data);
  return checksum_combine(sum, (position & 1) != 0 ? checksum_odd(piece) : piece);
}

// Copies n bytes (no overlap) and adds them as beginning at an even position: one pass.
[[nodiscard]] uint32_t copy_and_checksum(std::byte* dst, const std::byte* src, size_t n,
                                         uint64_t sum = 0) noexcept;

// A sum of pieces of any length, in order.
class Checksum {
 public:
  void add(std::span<const std::byte> data) noexcept {
    sum_ = checksum_add_at(data, length_, sum_);
    length_ += data.size();
  }
  void copy(std::byte* dst, const std::byte* src, size_t n) noexcept {
    const uint32_t piece = copy_and_checksum(dst, src, n);
    sum_ = checksum_combine(sum_, (length_ & 1) != 0 ? checksum_odd(piece) : piece);
    length_ += n;
  }
  [[nodiscard]] uint32_t sum() const noexcept { return sum_; }

 private:
  uint32_t sum_ = 0;
  size_t length_ = 0;
};

// A word as it adds to a running sum.
constexpr uint32_t checksum_word(uint16_t host_order) {
  return std::bit_cast<uint16_t>(be16(host_order));
}

// Sum of the pseudo-header: RFC 9293 3.1 and RFC 768 for IPv4 addresses, RFC 8200 8.1 otherwise.
// Both addresses are of one family. `length`: transport header and payload in bytes.
[[nodiscard]] inline uint32_t pseudo_header_sum(const IpAddress& source,
                                                const IpAddress& destination, uint8_t protocol,
                                                uint32_t length) noexcept {
  const size_t skip = source.is_v4() ? 12 : 0;
  uint64_t sum = checksum_word(protocol) + checksum_word(static_cast<uint16_t>(length)) +
                 checksum_word(static_cast<uint16_t>(length >> 16));
  for (size_t i = skip; i < 16; i += 4) {
    uint32_t a;
    uint32_t b;
    std::memcpy(&a, source.data() + i, 4);
    std::memcpy(&b, destination.data() + i, 4);
    sum += uint64_t{a} + b;
  }
  sum = (sum & 0xffffffff) + (sum >> 32);
  return static_cast<uint32_t>((sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32));
}

// The checksum field after a 16-bit word of the covered data changed (RFC 1624, equation 3).
[[nodiscard]] constexpr be16 checksum_update(be16 checksum, be16 before, be16 after) noexcept {
  const uint32_t sum = static_cast<uint16_t>(~std::bit_cast<uint16_t>(checksum)) +
                       uint32_t{static_cast<uint16_t>(~std::bit_cast<uint16_t>(before))} +
                       std::bit_cast<uint16_t>(after);
  return checksum_finish(sum);
}
[[nodiscard]] constexpr be16 checksum_update(be16 checksum, be32 before, be32 after) noexcept {
  const auto b = std::bit_cast<uint32_t>(before);
  const auto a = std::bit_cast<uint32_t>(after);
  const auto half = [](uint32_t v, int i) {
    return std::bit_cast<be16>(static_cast<uint16_t>(v >> (16 * i)));
  };
  return checksum_update(checksum_update(checksum, half(b, 0), half(a, 0)), half(b, 1), half(a, 1));
}

}  // namespace postern
