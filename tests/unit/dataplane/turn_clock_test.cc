#include "dataplane/turn_clock.h"

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace postern {
namespace {

// A counter of 2.6 GHz, and readings of it that are off by up to 200 ns.
constexpr double kGhz = 2.6;
uint64_t count_at(Time t) {
  return static_cast<uint64_t>(static_cast<double>(t.time_since_epoch().count()) * kGhz);
}
TscScale start() { return {count_at(Time{1s}), Time{1s}, count_at(Time{1005ms}), Time{1005ms}}; }

TEST(TscScale, FollowsAClockForHoursAndNeverGoesBack) {
  TscScale scale = start();
  Random random(1);
  Time last{};
  Duration worst{};
  for (Time t{1005ms}; t < Time{2h}; t += Duration(1 + random.below(40'000'000))) {
    const uint64_t tsc = count_at(t);
    if (scale.due(tsc)) scale.adjust(tsc, t + Duration(random.below(400)) - 200ns);
    const Time now = scale.at(tsc);
    ASSERT_GE(now, last);
    last = now;
    worst = std::max<Duration>(worst, now > t ? now - t : t - now);
  }
  EXPECT_LT(worst, 2us);
}

TEST(TscScale, AWrongFirstMeasureIsMadeGood) {
  // 1 % too fast: the thread was interrupted while it measured.
  TscScale scale(count_at(Time{1s}), Time{1s}, count_at(Time{1005ms}), Time{1005ms + 50us});
  for (Time t{1010ms}; t < Time{4s}; t += 1ms) {
    if (scale.due(count_at(t))) scale.adjust(count_at(t), t);
  }
  EXPECT_LT(std::abs((scale.at(count_at(Time{4s})) - Time{4s}).count()), 2000);
}

TEST(TscScale, ACounterThatIsSetBackStopsTimeUntilTheNextAdjustment) {
  TscScale scale = start();
  const Time before = scale.at(count_at(Time{1050ms}));
  scale.adjust(count_at(Time{1110ms}), Time{1110ms});
  EXPECT_GE(scale.at(5), before);
  EXPECT_TRUE(scale.due(5));
  scale.adjust(5, Time{1200ms});
  EXPECT_EQ(scale.at(5), Time{1200ms});
  EXPECT_GT(scale.at(5 + 2'600'000), Time{1200ms + 900us});
  EXPECT_LT(scale.at(5 + 2'600'000), Time{1200ms + 1100us});
}

Time monotonic() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return Time(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
}

// Between two readings of CLOCK_MONOTONIC, give or take what the first measure was off.
void expect_monotonic(TurnClock& clock) {
  Time last{};
  for (const Time end = monotonic() + 300ms; monotonic() < end;) {
    clock.adjust();
    const Time before = monotonic();
    const Time now = clock.now();
    const Time after = monotonic();
    ASSERT_GE(now, last);
    ASSERT_GT(now, before - 5ms);
    ASSERT_LT(now, after + 5ms);
    last = now;
  }
}

TEST(TurnClock, IsMonotonicTimeByTheCounter) {
  if (!TurnClock::tsc_is_constant()) GTEST_SKIP() << "no constant TSC";
  TurnClock clock;
  EXPECT_TRUE(clock.uses_tsc());
  expect_monotonic(clock);
}

TEST(TurnClock, IsMonotonicTimeWithoutTheCounter) {
  TurnClock clock(false);
  EXPECT_FALSE(clock.uses_tsc());
  expect_monotonic(clock);
}

}  // namespace
}  // namespace postern
