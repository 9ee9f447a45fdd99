// Time as a type. Nothing below the data plane can read a clock: WorkerClock has no now().
#pragma once

#include <chrono>
#include <cstdint>

namespace postern {

// Monotonic nanoseconds since an arbitrary origin that one process keeps for its life.
struct WorkerClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<WorkerClock>;
  static constexpr bool is_steady = true;
};

using Time = WorkerClock::time_point;
using Duration = WorkerClock::duration;

inline constexpr Time kNever = Time::max();

using namespace std::chrono_literals;

}  // namespace postern
