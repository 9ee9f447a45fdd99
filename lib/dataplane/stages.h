// Where a worker's time goes: cycles by step of a turn, from one turn in 64 on average, picked at
// random so that no rhythm of the traffic is always met or always missed. A turn that is not picked
// pays one predicted branch a step. One thread; others read a published copy.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/counters.h"
#include "base/time.h"

namespace postern {

enum class Stage : uint8_t {
  receive,   // the device's burst
  input,     // parse, look up, protocols, payload to the applications
  calls,     // what the control thread asks for
  commands,  // what the applications ask for
  timers,
  output,    // segments and datagrams into frames
  transmit,  // to the device
  events,    // to the applications, doorbells included
  kCount
};
inline constexpr size_t kStageCount = static_cast<size_t>(Stage::kCount);
inline constexpr std::array<std::string_view, kStageCount> kStageNames{
    "receive", "input", "calls", "commands", "timers", "output", "transmit", "events"};

// Received bursts by size: 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 and more.
inline constexpr size_t kBurstClasses = 7;
constexpr size_t burst_class(size_t packets) noexcept {  // packets > 0
  const auto width = static_cast<size_t>(std::bit_width(packets));
  return width < kBurstClasses ? width - 1 : kBurstClasses - 1;
}

struct StageFigures {
  // Of the turns that were looked at, in cycles of the time stamp counter.
  std::array<uint64_t, kStageCount> cycles{};  // turns with work
  uint64_t busy_turns = 0;
  uint64_t idle_turns = 0;  // without work
  uint64_t idle_cycles = 0;
  uint64_t packets_in = 0;
  uint64_t packets_out = 0;
  // Of all turns.
  std::array<uint64_t, kBurstClasses> bursts{};
  uint64_t slept_ns = 0;
  // Those of kLongTurn and more: no work takes so long, the core was taken away.
  uint64_t long_turns = 0;
  uint64_t long_turn_ns = 0;
  uint64_t longest_turn_ns = 0;

  static constexpr size_t kWords = kStageCount + kBurstClasses + 9;
};
static_assert(sizeof(StageFigures) == StageFigures::kWords * sizeof(uint64_t));

class StageClock {
 public:
  static constexpr uint32_t kMeanTurns = 64;
  static constexpr Duration kLongTurn = 100us;

  // begin, mark after each step, end. mark() books what has passed since the last mark.
  void begin(const Counters& counters) noexcept {
    if (--until_ == 0) [[unlikely]]
      start(cycles(), counters);
  }
  void mark(Stage stage) noexcept {
    if (sampling_) [[unlikely]]
      book(stage, cycles());
  }
  void end(bool worked, const Counters& counters) noexcept {
    if (sampling_) [[unlikely]]
      finish(worked, counters);
  }
  void received(size_t packets) noexcept { ++figures_.bursts[burst_class(packets)]; }
  void slept(uint64_t ns) noexcept { figures_.slept_ns += ns; }
  // What lies between the beginnings of two turns, sleep excepted.
  void turned(Duration time) noexcept {
    if (time >= kLongTurn) [[unlikely]]
      took_long(static_cast<uint64_t>(time.count()));
  }

  [[nodiscard]] const StageFigures& figures() const noexcept { return figures_; }

  // What begin, mark and end do in a turn that is picked; the time stamp counter is an argument.
  void start(uint64_t now, const Counters& counters) noexcept;
  void book(Stage stage, uint64_t now) noexcept;
  void finish(bool worked, const Counters& counters) noexcept;
  void took_long(uint64_t ns) noexcept;

 private:
  static uint64_t cycles() noexcept;  // 0 where the CPU has no counter

  uint32_t until_ = 1;  // turns
  bool sampling_ = false;
  uint64_t random_ = 1;  // no secret: when to look
  uint64_t last_ = 0;
  uint64_t packets_in_ = 0;  // when the turn began
  uint64_t packets_out_ = 0;
  std::array<uint64_t, kStageCount> turn_{};
  StageFigures figures_;
};

}  // namespace postern
