#include "base/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace postern {

TimerWheel::TimerWheel(Time now, Duration tick) noexcept
    : shift_(static_cast<unsigned>(
          std::bit_width(static_cast<uint64_t>(std::max<Duration::rep>(tick.count(), 1)) - 1))),
      now_tick_(to_ns(now) >> shift_),
      floor_tick_(now_tick_) {
  for (auto& level : slots_) {
    for (Link& head : level) head.prev = head.next = &head;
  }
}

TimerWheel::~TimerWheel() {
  for (auto& level : slots_) {
    for (Link& head : level) {
      while (head.next != &head) {
        Timer& timer = static_cast<Timer&>(*head.next);
        timer.deadline_ = kNever;
        timer.unlink();
      }
    }
  }
}

void TimerWheel::file(Timer& timer, uint64_t tick) noexcept {
  const uint64_t differing = tick ^ now_tick_;
  const unsigned level =
      differing == 0 ? 0 : static_cast<unsigned>(std::bit_width(differing) - 1) / kBits;
  const unsigned slot = (tick >> (level * kBits)) & (kSlots - 1);
  Link& head = slots_[level][slot];
  Link& link = timer;
  link.prev = head.prev;
  link.next = &head;
  head.prev->next = &link;
  head.prev = &link;
  timer.filed_after_ =
      Time(Duration((static_cast<Duration::rep>(tick) - 1) * (Duration::rep{1} << shift_)));
  occupied_[level] |= uint64_t{1} << slot;
  levels_ |= 1U << level;
}

void TimerWheel::refile(Timer& timer) noexcept {
  if (timer.is_filed()) unfile(timer);
  file(timer, std::max(tick_at_or_after(timer.deadline_), floor_tick_));
}

void TimerWheel::mark_empty(unsigned level, unsigned slot) noexcept {
  occupied_[level] &= ~(uint64_t{1} << slot);
  if (occupied_[level] == 0) levels_ &= ~(1U << level);
  if (level != 0 && level == cascading_) cascading_ = 0;
}

void TimerWheel::unfile(Timer& timer) noexcept {
  Link& link = timer;
  // The only element of a circular list has its head on both sides.
  Link* const head = link.prev == link.next ? link.next : nullptr;
  link.unlink();
  if (head == nullptr) return;
  const auto index = static_cast<size_t>(head - &slots_[0][0]);
  mark_empty(static_cast<unsigned>(index / kSlots), index % kSlots);
}

bool TimerWheel::earliest(Position* position) const noexcept {
  if (levels_ == 0) return false;
  const unsigned level =
      cascading_ != 0 ? cascading_ : static_cast<unsigned>(std::countr_zero(levels_));
  const auto slot = static_cast<unsigned>(std::countr_zero(occupied_[level]));
  const unsigned low = level * kBits;
  // The digits above this level are the current tick's, those below are zero.
  const uint64_t above = low + kBits < 64 ? now_tick_ >> (low + kBits) << (low + kBits) : 0;
  *position = {level, slot, above | uint64_t{slot} << low};
  return true;
}

size_t TimerWheel::cascade(const Position& from, size_t budget) noexcept {
  Link& head = slots_[from.level][from.slot];
  size_t touched = 0;
  cascading_ = from.level;
  while (head.next != &head && touched < budget) {
    Timer& timer = static_cast<Timer&>(*head.next);
    timer.unlink();
    ++touched;
    // filed_tick() is later than the deadline's only if that had passed when it was set.
    if (timer.is_armed())
      file(timer, std::max(tick_at_or_after(timer.deadline_), filed_tick(timer)));
  }
  if (head.next == &head) mark_empty(from.level, from.slot);
  return touched;
}

Timer* TimerWheel::take_due(const Position& from) noexcept {
  Link& head = slots_[0][from.slot];
  if (head.next == &head) {  // its timers were destroyed
    mark_empty(0, from.slot);
    return nullptr;
  }
  Timer& timer = static_cast<Timer&>(*head.next);
  unfile(timer);
  if (!timer.is_armed()) return nullptr;
  const uint64_t tick = tick_at_or_after(timer.deadline_);
  if (tick > now_tick_) {  // was put off
    file(timer, tick);
    return nullptr;
  }
  timer.deadline_ = kNever;
  return &timer;
}

Time TimerWheel::next_deadline() const noexcept {
  Position p;
  if (!earliest(&p)) return kNever;
  const uint64_t tick = p.tick;
  constexpr auto kMax = static_cast<uint64_t>(Duration::max().count());
  if (tick > kMax >> shift_) return kNever;
  return Time(Duration(static_cast<Duration::rep>(tick << shift_)));
}

}  // namespace postern
