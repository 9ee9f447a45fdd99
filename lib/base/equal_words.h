// Comparison of values that are nearly always equal when they are compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace postern {

// Word by word and without a branch. Every byte of T counts.
template <class T>
[[nodiscard]] bool equal_words(const T& a, const T& b) noexcept {
  static_assert(sizeof(T) % sizeof(uint64_t) == 0 && std::has_unique_object_representations_v<T>);
  uint64_t different = 0;
  for (size_t i = 0; i < sizeof(T); i += sizeof(uint64_t)) {
    uint64_t x;
    uint64_t y;
    std::memcpy(&x, reinterpret_cast<const std::byte*>(&a) + i, sizeof x);
    std::memcpy(&y, reinterpret_cast<const std::byte*>(&b) + i, sizeof y);
    different |= x ^ y;
  }
  return different == 0;
}

}  // namespace postern
