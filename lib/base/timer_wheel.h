// Hierarchical timer wheel (Varghese and Lauck): timers of a worker, O(1) to set and to clear, and
// no work for time that passes without a deadline.
//
// Level L has 64 slots of 64^L ticks each. A timer is filed at the highest base-64 digit in which
// its tick differs from the current tick, so every filed slot lies ahead within the current turn of
// its level, the lowest occupied level holds the earliest slot, and two bit scans find it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace postern {

// The links of a timer in its slot. Part of Timer.
struct TimerLink {
  TimerLink* prev = nullptr;
  TimerLink* next = nullptr;
  void unlink() noexcept {
    if (next == nullptr) return;
    prev->next = next;
    next->prev = prev;
    prev = next = nullptr;
  }
};

// A timer; a member or base of the object it belongs to. `kind` and `owner` are the user's: they
// tell the fire function what to do with which object. Leaves its wheel when destroyed.
class Timer : private TimerLink {
 public:
  Timer() = default;
  Timer(uint32_t kind_, uint32_t owner_) : kind(kind_), owner(owner_) {}
  ~Timer() { unlink(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Will fire, at deadline().
  [[nodiscard]] bool is_armed() const noexcept { return deadline_ != kNever; }
  [[nodiscard]] Time deadline() const noexcept { return deadline_; }

  uint32_t kind = 0;
  uint32_t owner = 0;

 private:
  friend class TimerWheel;
  [[nodiscard]] bool is_filed() const noexcept { return next != nullptr; }

  Time deadline_ = kNever;
  // Filed under a tick that is never later than the deadline's: this is the end of the tick before.
  Time filed_after_{};
};

// Not thread-safe: one owner. Timers still armed when the wheel is destroyed are disarmed.
class TimerWheel {
 public:
  // `tick` is the resolution: a timer fires at its deadline or up to one tick after, never before.
  // Rounded up to a power of two of nanoseconds (1 ms becomes 1.05 ms). `now`: current time; times
  // before it count as now.
  explicit TimerWheel(Time now, Duration tick = 1ms) noexcept;
  ~TimerWheel();
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // Arms or re-arms. A deadline in the past fires at the next advance(), or one tick later if set
  // while one runs. kNever disarms. Putting a deadline off (every acknowledgment does) is one
  // store: the timer stays where it is and is filed anew when its old slot comes up.
  void schedule(Timer& timer, Time deadline) noexcept {
    timer.deadline_ = deadline;
    if (timer.is_filed() ? deadline > timer.filed_after_ : deadline == kNever) return;
    refile(timer);
  }

  // Disarms and unlinks. O(1).
  void cancel(Timer& timer) noexcept {
    timer.deadline_ = kNever;
    if (timer.is_filed()) unfile(timer);
  }

  // Calls fire(Timer&) for timers with deadline <= now, each disarmed before the call, which may
  // schedule or cancel any timer and destroy the fired one's owner. Ticks fire in order; within a
  // tick the order is unspecified. Touches at most `budget` timers (fired or re-filed) and returns
  // how many fired; if the budget ran out, next_deadline() <= now still holds.
  template <class F>
  size_t advance(Time now, F&& fire, size_t budget = SIZE_MAX);

  // No timer fires before this; kNever if none is filed. A lower bound: a distant timer is seen at
  // the start of its slot and a deferred one at its old deadline, so a sleeper may wake a few times
  // (at most once a level) before the deadline proper. O(1).
  [[nodiscard]] Time next_deadline() const noexcept;

 private:
  using Link = TimerLink;
  static constexpr unsigned kBits = 6;
  static constexpr unsigned kSlots = 1U << kBits;
  static constexpr unsigned kLevels = 11;  // all 64 bits of a tick

  struct Position {
    unsigned level;
    unsigned slot;
    uint64_t tick;  // first tick of the slot
  };

  [[nodiscard]] static uint64_t to_ns(Time t) noexcept {
    const auto ns = t.time_since_epoch().count();
    return ns < 0 ? 0 : static_cast<uint64_t>(ns);
  }
  [[nodiscard]] uint64_t tick_at_or_after(Time t) const noexcept {
    const uint64_t ns = to_ns(t);
    return (ns >> shift_) + ((ns & ((uint64_t{1} << shift_) - 1)) != 0 ? 1 : 0);
  }
  [[nodiscard]] bool earliest(Position* position) const noexcept;
  void file(Timer& timer, uint64_t tick) noexcept;
  void unfile(Timer& timer) noexcept;
  [[gnu::noinline]] void refile(Timer& timer) noexcept;
  [[nodiscard]] uint64_t filed_tick(const Timer& timer) const noexcept {
    return static_cast<uint64_t>((timer.filed_after_.time_since_epoch().count() >> shift_) + 1);
  }
  // Files the timers of a slot of level > 0 on lower levels; returns how many it touched.
  size_t cascade(const Position& from, size_t budget) noexcept;
  void mark_empty(unsigned level, unsigned slot) noexcept;
  // Next timer of a level-0 slot whose time has come, unfiled and disarmed; nullptr: there was one
  // to drop or re-file, or none.
  [[nodiscard]] Timer* take_due(const Position& from) noexcept;

  unsigned shift_;          // log2 of the tick in nanoseconds
  unsigned cascading_ = 0;  // level whose current slot is partly re-filed, 0: none
  uint64_t now_tick_;       // everything before it has fired
  uint64_t floor_tick_;     // earliest tick that schedule() uses
  uint32_t levels_ = 0;     // bit L: occupied_[L] is not 0
  std::array<uint64_t, kLevels> occupied_{};             // bit s: slot s may hold timers
  std::array<std::array<Link, kSlots>, kLevels> slots_;  // heads of circular lists
};

template <class F>
size_t TimerWheel::advance(Time now, F&& fire, size_t budget) {
  const uint64_t target = to_ns(now) >> shift_;
  size_t fired = 0;
  Position p;
  floor_tick_ = target + 1;  // what fire() schedules waits for the next call
  while (budget > 0 && earliest(&p) && p.tick <= target) {
    now_tick_ = p.tick;
    if (p.level > 0) {
      budget -= cascade(p, budget);
      continue;
    }
    --budget;
    if (Timer* const timer = take_due(p)) {
      ++fired;
      fire(*timer);
    }
  }
  if (budget > 0 && target > now_tick_) now_tick_ = target;
  floor_tick_ = now_tick_;
  return fired;
}

}  // namespace postern
