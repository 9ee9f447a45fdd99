// A fuzzer's input as numbers: zeros once it is used up, so that every input means something.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace postern {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}

  [[nodiscard]] bool done() const { return data_ == end_; }
  uint8_t byte() { return data_ == end_ ? uint8_t{0} : *data_++; }
  uint16_t half() {
    const uint16_t high = byte();
    return static_cast<uint16_t>(high << 8 | byte());
  }
  uint32_t word() {
    const uint32_t high = half();
    return high << 16 | half();
  }
  // Mostly `base`, often near it, now and then anywhere.
  uint32_t near(uint32_t base) {
    switch (byte() % 8) {
      case 0:
        return word();
      case 1:
        return base + half();
      case 2:
        return base - half();
      case 3:
        return base + byte();
      case 4:
        return base - byte();
      default:
        return base;
    }
  }
  // The next bytes, at most n.
  std::span<const uint8_t> take(size_t n) {
    const size_t length = std::min<size_t>(n, static_cast<size_t>(end_ - data_));
    data_ += length;
    return {data_ - length, length};
  }

 private:
  const uint8_t* data_;
  const uint8_t* end_;
};

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace postern
