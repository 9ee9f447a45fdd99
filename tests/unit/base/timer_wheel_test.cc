#include "base/timer_wheel.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

constexpr Time at(Duration d) { return Time(d); }
constexpr Duration kTick{1 << 20};  // what 1 ms is rounded up to

class TimerWheelTest : public ::testing::Test {
 protected:
  // Advances and returns the owners that fired, in order.
  std::vector<uint32_t> advance(Time now, size_t budget = SIZE_MAX) {
    std::vector<uint32_t> fired;
    wheel_.advance(
        now, [&](Timer& t) { fired.push_back(t.owner); }, budget);
    return fired;
  }
  TimerWheel wheel_{at(0s)};
};

TEST_F(TimerWheelTest, EmptyNeverDue) {
  EXPECT_EQ(wheel_.next_deadline(), kNever);
  EXPECT_TRUE(advance(at(1000h)).empty());
}

TEST_F(TimerWheelTest, FiresNotBeforeAndAtMostOneTickAfter) {
  for (const Duration d : {1ns, 1000000ns, 5000000ns, 1234567890ns, 3600000000001ns}) {
    TimerWheel wheel(at(0s));
    Timer timer(0, 1);
    wheel.schedule(timer, at(d));
    size_t fired = wheel.advance(at(d) - 1ns, [](Timer&) {});
    EXPECT_EQ(fired, 0U) << d.count();
    fired = wheel.advance(at(d) + kTick, [](Timer&) {});
    EXPECT_EQ(fired, 1U) << d.count();
    EXPECT_FALSE(timer.is_armed());
    EXPECT_EQ(wheel.next_deadline(), kNever);
  }
}

TEST_F(TimerWheelTest, PastDeadlineFiresAtOnce) {
  advance(at(10s));
  Timer timer(0, 1);
  wheel_.schedule(timer, at(1s));
  EXPECT_LE(wheel_.next_deadline(), at(10s));
  EXPECT_EQ(advance(at(10s)).size(), 1U);
}

TEST_F(TimerWheelTest, FiresInOrder) {
  std::vector<std::unique_ptr<Timer>> timers;
  for (uint32_t i = 0; i < 100; ++i) {
    timers.push_back(std::make_unique<Timer>(0, i));
    wheel_.schedule(*timers.back(), at((i * 37 % 100 + 1) * 1s));
  }
  std::vector<Time> order;
  wheel_.advance(at(200s), [&](Timer& t) { order.push_back(at((t.owner * 37 % 100 + 1) * 1s)); });
  EXPECT_EQ(order.size(), 100U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(TimerWheelTest, CancelledDoesNotFire) {
  Timer a(0, 1);
  Timer b(0, 2);
  wheel_.schedule(a, at(1s));
  wheel_.schedule(b, at(1s));
  wheel_.cancel(a);
  EXPECT_FALSE(a.is_armed());
  EXPECT_EQ(advance(at(2s)), (std::vector<uint32_t>{2}));
  wheel_.cancel(b);  // harmless
}

TEST_F(TimerWheelTest, ScheduleNeverDisarms) {
  Timer a(0, 1);
  wheel_.schedule(a, at(1s));
  wheel_.schedule(a, kNever);
  EXPECT_TRUE(advance(at(2s)).empty());
  EXPECT_EQ(wheel_.next_deadline(), kNever);
}

TEST_F(TimerWheelTest, PuttingOffAndBringingForward) {
  Timer a(0, 1);
  wheel_.schedule(a, at(1s));
  wheel_.schedule(a, at(5s));
  EXPECT_TRUE(advance(at(4s)).empty());
  EXPECT_GT(wheel_.next_deadline(), at(4s));
  wheel_.schedule(a, at(4500ms));
  EXPECT_EQ(advance(at(4600ms)).size(), 1U);
  EXPECT_TRUE(advance(at(10s)).empty());
}

TEST_F(TimerWheelTest, DestroyedTimerLeaves) {
  {
    Timer a(0, 1);
    wheel_.schedule(a, at(1s));
  }
  EXPECT_TRUE(advance(at(2s)).empty());
  EXPECT_EQ(wheel_.next_deadline(), kNever);
}

TEST_F(TimerWheelTest, WheelMayGoFirst) {
  Timer a(0, 1);
  {
    TimerWheel wheel(at(0s));
    wheel.schedule(a, at(1s));
  }
  EXPECT_FALSE(a.is_armed());
}

TEST_F(TimerWheelTest, FireMayRescheduleAndCancelOthers) {
  Timer a(0, 1);
  Timer b(0, 2);
  wheel_.schedule(a, at(1s));
  wheel_.schedule(b, at(1s));
  int fired = 0;
  wheel_.advance(at(1s) + kTick, [&](Timer& t) {
    ++fired;
    wheel_.cancel(&t == &a ? b : a);
    wheel_.schedule(t, at(3s));
  });
  EXPECT_EQ(fired, 1);
  EXPECT_EQ(advance(at(3s) + kTick).size(), 1U);
}

// A fire function that always asks for the past must not hold the worker.
TEST_F(TimerWheelTest, ReschedulingInThePastDoesNotLoop) {
  Timer a(0, 1);
  wheel_.schedule(a, at(1s));
  const size_t fired = wheel_.advance(at(2s), [&](Timer& t) { wheel_.schedule(t, at(0s)); });
  EXPECT_EQ(fired, 1U);
  EXPECT_LE(wheel_.next_deadline(), at(2s) + kTick);
}

TEST_F(TimerWheelTest, BudgetBoundsTheWorkAndLosesNothing) {
  std::vector<std::unique_ptr<Timer>> timers;
  for (uint32_t i = 0; i < 1000; ++i) {
    timers.push_back(std::make_unique<Timer>(0, i));
    wheel_.schedule(*timers.back(), at(100s + i % 10 * 1ms));  // far away: all cascade together
  }
  size_t fired = 0;
  int calls = 0;
  const Time now = at(101s);
  while (wheel_.next_deadline() <= now) {
    const size_t n = wheel_.advance(
        now, [](Timer&) {}, 50);
    ASSERT_LE(n, 50U);
    fired += n;
    ASSERT_LT(++calls, 1000);
  }
  EXPECT_EQ(fired, 1000U);
  EXPECT_GE(calls, 20);
}

// Sleeping until next_deadline() leads to every timer in a few steps, over any gap.
TEST_F(TimerWheelTest, NextDeadlineLeadsToTheTimer) {
  for (const Duration d : {1ms, 70ms, 5000ms, 7200000ms, 360000000ms}) {
    TimerWheel wheel(at(12345ms));
    Timer a(0, 1);
    const Time deadline = at(12345ms) + d;
    wheel.schedule(a, deadline);
    int steps = 0;
    while (a.is_armed()) {
      const Time next = wheel.next_deadline();
      ASSERT_LE(next, deadline + kTick);
      wheel.advance(next, [](Timer&) {});
      ASSERT_LE(++steps, 6) << d.count();
    }
  }
}

TEST_F(TimerWheelTest, ExtremeDeadlines) {
  Timer a(0, 1);
  Timer b(0, 2);
  wheel_.schedule(a, kNever - 1ns);
  wheel_.schedule(b, Time::min());
  EXPECT_EQ(advance(at(0s)), (std::vector<uint32_t>{2}));
  EXPECT_TRUE(advance(at(1000000h)).empty());
  EXPECT_TRUE(a.is_armed());
}

// The wheel against a multimap, with all operations, uneven time steps and budgets.
class Model {
 public:
  void set(uint32_t id, std::optional<Time> deadline) {
    deadlines_.resize(std::max<size_t>(deadlines_.size(), id + 1));
    deadlines_[id] = deadline;
  }
  [[nodiscard]] std::optional<Time> get(uint32_t id) const { return deadlines_[id]; }
  [[nodiscard]] Time earliest() const {
    Time first = kNever;
    for (const auto& d : deadlines_) {
      if (d) first = std::min(first, *d);
    }
    return first;
  }

 private:
  std::vector<std::optional<Time>> deadlines_;
};

void run_against_model(uint64_t seed, Duration tick, Duration longest, size_t budget) {
  constexpr uint32_t kTimers = 64;
  Random random(seed);
  Time now = at(Duration(static_cast<int64_t>(random.below(1ULL << 50))));
  TimerWheel wheel(now, tick);
  const auto rounded =
      Duration(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(tick.count()))));
  Model model;
  std::vector<std::unique_ptr<Timer>> timers;
  for (uint32_t i = 0; i < kTimers; ++i) {
    timers.push_back(std::make_unique<Timer>(0, i));
    model.set(i, std::nullopt);
  }
  const auto some_time = [&] {
    // Spread over all magnitudes.
    const auto range = static_cast<uint64_t>(longest.count()) >> random.below(40);
    return now + Duration(static_cast<int64_t>(random.below(range + 1)));
  };
  for (int step = 0; step < 20000; ++step) {
    const auto id = static_cast<uint32_t>(random.below(kTimers));
    switch (random.below(6)) {
      case 0:
      case 1: {
        const Time deadline = some_time();
        wheel.schedule(*timers[id], deadline);
        model.set(id, deadline);
        break;
      }
      case 2:
        wheel.cancel(*timers[id]);
        model.set(id, std::nullopt);
        break;
      case 3:
        wheel.schedule(*timers[id], kNever);
        model.set(id, std::nullopt);
        break;
      case 4:
        timers[id] = std::make_unique<Timer>(0, id);
        model.set(id, std::nullopt);
        break;
      default: {
        now = random.chance(0.5) ? std::max(now, std::min(wheel.next_deadline(), some_time()))
                                 : some_time();
        bool good = true;
        const auto fire = [&](Timer& t) {
          const auto due = model.get(t.owner);
          good &= due && *due <= now;
          model.set(t.owner, std::nullopt);
          if (random.chance(0.2)) {
            const Time again = some_time();
            wheel.schedule(t, again);
            model.set(t.owner, again);
          }
        };
        do {
          wheel.advance(now, fire, budget);
        } while (wheel.next_deadline() <= now && budget != SIZE_MAX);
        ASSERT_TRUE(good) << "fired early or disarmed, step " << step;
        ASSERT_GT(model.earliest(), now - 2 * rounded) << "missed, step " << step;
      }
    }
    ASSERT_EQ(timers[id]->is_armed(), model.get(id).has_value());
    if (const Time earliest = model.earliest(); earliest != kNever) {
      ASSERT_LE(wheel.next_deadline(), earliest + 2 * rounded) << step;
    }
  }
}

TEST(TimerWheelModel, MillisecondsOverHours) {
  for (uint64_t seed = 1; seed <= 8; ++seed) run_against_model(seed, 1ms, 100h, SIZE_MAX);
}
TEST(TimerWheelModel, SmallBudget) {
  for (uint64_t seed = 11; seed <= 18; ++seed) run_against_model(seed, 1ms, 10h, 3);
}
TEST(TimerWheelModel, FineTick) {
  for (uint64_t seed = 21; seed <= 24; ++seed) run_against_model(seed, 10us, 1h, SIZE_MAX);
  for (uint64_t seed = 25; seed <= 28; ++seed) run_against_model(seed, 1ns, 1s, 2);
}

}  // namespace
}  // namespace postern
