// Integers as they stand on the wire: big-endian, unaligned, and not comparable with host integers.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace postern {

template <class T>
constexpr T byte_swap(T v) {
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(v));
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(v));
  if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(v));
}

// sizeof(BigEndian<T>) == sizeof(T), alignof == 1: overlays bytes of a header.
template <class T>
class BigEndian {
 public:
  BigEndian() = default;
  explicit constexpr BigEndian(T host) { *this = host; }
  constexpr BigEndian& operator=(T host) {
    const T wire = std::endian::native == std::endian::little ? byte_swap(host) : host;
    bytes_ = std::bit_cast<Bytes>(wire);
    return *this;
  }
  // Value in host order.
  [[nodiscard]] constexpr T host() const {
    const T wire = std::bit_cast<T>(bytes_);
    return std::endian::native == std::endian::little ? byte_swap(wire) : wire;
  }
  friend constexpr bool operator==(const BigEndian& a, const BigEndian& b) = default;

 private:
  struct Bytes {
    uint8_t b[sizeof(T)];
    friend constexpr bool operator==(const Bytes&, const Bytes&) = default;
  };
  Bytes bytes_;
};

using be16 = BigEndian<uint16_t>;
using be32 = BigEndian<uint32_t>;
using be64 = BigEndian<uint64_t>;
static_assert(sizeof(be32) == 4 && alignof(be32) == 1);

}  // namespace postern
