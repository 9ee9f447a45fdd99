#include "dataplane/stages.h"

#include <algorithm>
#include <numeric>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace postern {

uint64_t StageClock::cycles() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return 0;
#endif
}

void StageClock::start(uint64_t now, const Counters& counters) noexcept {
  sampling_ = true;
  turn_ = {};
  last_ = now;
  packets_in_ = counters.get(Counter::rx_packets);
  packets_out_ = counters.get(Counter::tx_packets);
}

void StageClock::book(Stage stage, uint64_t now) noexcept {
  turn_[static_cast<size_t>(stage)] += now - last_;
  last_ = now;
}

void StageClock::finish(bool worked, const Counters& counters) noexcept {
  sampling_ = false;
  random_ = random_ * 0x5851f42d4c957f2dU + 0x14057b7ef767814fU;
  until_ = 1 + static_cast<uint32_t>(random_ >> 32) % (2 * kMeanTurns - 1);
  if (!worked) {
    ++figures_.idle_turns;
    figures_.idle_cycles += std::accumulate(turn_.begin(), turn_.end(), uint64_t{0});
    return;
  }
  ++figures_.busy_turns;
  for (size_t i = 0; i < kStageCount; ++i) figures_.cycles[i] += turn_[i];
  figures_.packets_in += counters.get(Counter::rx_packets) - packets_in_;
  figures_.packets_out += counters.get(Counter::tx_packets) - packets_out_;
}

void StageClock::took_long(uint64_t ns) noexcept {
  ++figures_.long_turns;
  figures_.long_turn_ns += ns;
  figures_.longest_turn_ns = std::max(figures_.longest_turn_ns, ns);
}

}  // namespace postern
