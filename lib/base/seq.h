// Sequence numbers and other free-running 32-bit counters: arithmetic modulo 2^32, RFC 9293 3.4.
#pragma once

#include <cstdint>

namespace postern {

// a < b in sequence space, for distances below 2^31.
constexpr bool seq_lt(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }
constexpr bool seq_le(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) <= 0; }
constexpr bool seq_gt(uint32_t a, uint32_t b) { return seq_lt(b, a); }
constexpr bool seq_ge(uint32_t a, uint32_t b) { return seq_le(b, a); }
constexpr uint32_t seq_max(uint32_t a, uint32_t b) { return seq_lt(a, b) ? b : a; }
constexpr uint32_t seq_min(uint32_t a, uint32_t b) { return seq_lt(a, b) ? a : b; }

// low <= x < high in sequence space.
constexpr bool seq_in(uint32_t x, uint32_t low, uint32_t high) { return x - low < high - low; }

}  // namespace postern
