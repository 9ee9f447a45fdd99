// The clock that a worker reads once a turn: CLOCK_MONOTONIC, by way of the CPU's time stamp
// counter where that runs at a constant rate, which takes a third of the instructions and no
// memory.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace postern {

// Time as a line through counts of the TSC. Pure. Never goes back; follows the clock that it is
// adjusted to, forward at once, back by running up to 1 % slower.
class TscScale {
 public:
  static constexpr Duration kInterval = 100ms;  // between adjustments, at least

  // Two readings of both clocks, the second later.
  TscScale(uint64_t tsc0, Time time0, uint64_t tsc1, Time time1) noexcept;

  [[nodiscard]] Time at(uint64_t tsc) const noexcept {
    __extension__ using Wide = unsigned __int128;
    const auto passed = static_cast<int64_t>(tsc - tsc_);  // below 0: the counter was set back
    const uint64_t counts = passed > 0 ? static_cast<uint64_t>(passed) : 0;
    return time_ + Duration(static_cast<int64_t>(Wide{counts} * scale_ >> kShift));
  }
  [[nodiscard]] bool due(uint64_t tsc) const noexcept {
    return tsc < tsc_ || at(tsc) - time_ >= kInterval;
  }
  // A new reading of both; due() was true.
  void adjust(uint64_t tsc, Time time) noexcept;

 private:
  static constexpr int kShift = 32;
  [[nodiscard]] static uint64_t slope(uint64_t counts, Duration time) noexcept;

  uint64_t tsc_;  // the line passes through tsc_ and time_
  Time time_;
  Time read_;       // what the other clock said then
  uint64_t scale_;  // nanoseconds a count << kShift
};

// One thread.
class TurnClock {
 public:
  [[nodiscard]] static bool tsc_is_constant() noexcept;

  // Takes some milliseconds to measure the TSC.
  explicit TurnClock(bool use_tsc = tsc_is_constant());

  [[nodiscard]] Time now() const noexcept;
  // Every few hundred turns.
  void adjust() noexcept;
  [[nodiscard]] bool uses_tsc() const noexcept { return use_tsc_; }

 private:
  bool use_tsc_;
  TscScale scale_;
};

}  // namespace postern
