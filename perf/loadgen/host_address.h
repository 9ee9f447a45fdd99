// An address of either family, as far as a load generator looks at it: clients differ in the last
// 32 bits only, so that counting addresses is arithmetic and finding a connection needs no search.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace postern::perf {

struct HostAddress {
  bool v6 = false;
  std::array<uint8_t, 12> prefix{};  // IPv6: the first 96 bits
  uint32_t low = 0;                  // IPv4: all of it; IPv6: the last 32 bits; host order

  // False when `text` is an address of neither family.
  static bool parse(const char* text, HostAddress& out) noexcept;

  bool unset() const noexcept { return !v6 && low == 0; }
  // As on the wire, 16 bytes; of IPv4 the last four count.
  std::array<uint8_t, 16> bytes(uint32_t low_bits) const noexcept;
};

}  // namespace postern::perf
