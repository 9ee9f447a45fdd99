#include "dataplane/turn_clock.h"

#include <time.h>

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

namespace postern {
namespace {

Time monotonic() noexcept {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);  // answered in user space
  return Time(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
}

uint64_t counter() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return 0;
#endif
}

struct Reading {
  uint64_t tsc = 0;
  Time time{};
  uint64_t width = UINT64_MAX;  // counts that it took: how far apart the two can be
};

// The narrowest of several: the thread may have been interrupted between the two clocks.
Reading read_both() noexcept {
  Reading best;
  for (int i = 0; i < 4; ++i) {
    const uint64_t before = counter();
    const Time time = monotonic();
    const uint64_t width = counter() - before;
    if (width < best.width) best = {before + width / 2, time, width};
  }
  return best;
}

TscScale measure(bool use_tsc) {
  if (!use_tsc) return {0, Time{}, 1, Time{1ns}};
  const Reading first = read_both();
  const timespec pause{0, 5'000'000};
  nanosleep(&pause, nullptr);
  const Reading second = read_both();
  return {first.tsc, first.time, second.tsc, second.time};
}

}  // namespace

// ---- the line ----

uint64_t TscScale::slope(uint64_t counts, Duration time) noexcept {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((Wide{static_cast<uint64_t>(time.count())} << kShift) / counts);
}

TscScale::TscScale(uint64_t tsc0, Time time0, uint64_t tsc1, Time time1) noexcept
    : tsc_(tsc1), time_(time1), read_(time1), scale_(slope(tsc1 - tsc0, time1 - time0)) {}

void TscScale::adjust(uint64_t tsc, Time time) noexcept {
  const Time ours = at(tsc);
  const bool counted = tsc > tsc_ && time > read_;
  if (counted) scale_ = slope(tsc - tsc_, time - read_);
  tsc_ = tsc;
  read_ = time;
  time_ = std::max(ours, time);
  const Duration ahead = std::min<Duration>(time_ - time, kInterval / 100);
  scale_ -=
      scale_ * static_cast<uint64_t>(ahead.count()) / static_cast<uint64_t>(kInterval.count());
}

// ---- the clock ----

bool TurnClock::tsc_is_constant() noexcept {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kPowerManagement = 0x80000007, kInvariantTsc = 1U << 8;
  return __get_cpuid(kPowerManagement, &a, &b, &c, &d) != 0 && (d & kInvariantTsc) != 0;
#else
  return false;
#endif
}

TurnClock::TurnClock(bool use_tsc) : use_tsc_(use_tsc), scale_(measure(use_tsc)) {}

Time TurnClock::now() const noexcept { return use_tsc_ ? scale_.at(counter()) : monotonic(); }

void TurnClock::adjust() noexcept {
  if (!use_tsc_ || !scale_.due(counter())) return;
  const Reading reading = read_both();
  scale_.adjust(reading.tsc, reading.time);
}

}  // namespace postern
