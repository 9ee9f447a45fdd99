// A token bucket for answers that a stranger can provoke: ICMP (RFC 1812 4.3.2.8), RST.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/time.h"

namespace postern {

// `rate` answers per second, bursts of a tenth of it (at least 16). Rate 0 answers nothing.
class RateLimit {
 public:
  explicit RateLimit(uint32_t rate) noexcept
      : rate_(rate), burst_(rate == 0 ? 0 : std::max<uint64_t>(16, rate / 10)), tokens_(burst_) {}

  // All of `count` or none.
  [[nodiscard]] bool take(Time now, uint64_t count = 1) noexcept {
    if (tokens_ < count) refill(now);
    if (tokens_ < count) return false;
    tokens_ -= count;
    return true;
  }

 private:
  void refill(Time now) noexcept {
    if (rate_ == 0) return;
    const Duration interval = Duration{std::chrono::seconds{1}} / rate_;
    const auto earned = static_cast<uint64_t>(std::max<int64_t>(0, (now - last_) / interval));
    if (earned == 0) return;
    tokens_ = std::min(burst_, tokens_ + earned);
    last_ = tokens_ == burst_ ? now : last_ + interval * static_cast<int64_t>(earned);
  }

  uint64_t rate_;
  uint64_t burst_;
  uint64_t tokens_;
  Time last_{};
};

}  // namespace postern
