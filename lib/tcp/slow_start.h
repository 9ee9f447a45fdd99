// Slow start, for the algorithms that use the standard one: RFC 5681 3.1, and HyStart++ (RFC 9406),
// which leaves it when the round trip begins to grow, before the queue overflows.
#pragma once

#include <cstdint>

#include "tcp/congestion.h"

namespace postern {

// Zero: not begun.
struct HyStart {
  uint32_t round_end;    // snd_nxt when the round began
  uint32_t last_rtt;     // lowest of the last round, 0: none
  uint32_t current_rtt;  // lowest of this round, 0: none
  uint32_t css_rtt;      // baseline of conservative slow start, 0: not in it
  uint8_t samples;       // of this round, saturating
  uint8_t css_rounds;
  bool running;
};

// Grows cwnd, up to ssthresh, for `acked` bytes. Returns how many of them are left for congestion
// avoidance.
uint32_t slow_start(const CongestionView& view, HyStart& state, uint32_t acked, uint32_t rtt_us);

}  // namespace postern
