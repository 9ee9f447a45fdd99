// Latencies of a run: of all of it, and what they are in the median 10 ms, which an absence of
// either core for some milliseconds now and then does not move.
#pragma once

#include <rte_cycles.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/histogram.h"

namespace postern::perf {

class Latency {
 public:
  using Tsc = uint64_t;
  struct Quantiles {
    uint64_t p50 = 0, p99 = 0, p999 = 0;  // TSC ticks
  };

  void record(Tsc due, Tsc now) noexcept {
    if (now >= window_end_) [[unlikely]]
      close_window(now);
    window_.record(now - due);
  }
  void start() {
    *this = Latency();
    windows_.reserve(1 << 14);
  }
  // No more will come.
  void stop() noexcept { close_window(0); }

  [[nodiscard]] const Histogram& whole() const noexcept { return whole_; }
  // The median over the windows, of each quantile by itself.
  [[nodiscard]] Quantiles typical() const {
    const auto median = [this](uint64_t Quantiles::*which) {
      std::vector<uint64_t> values;
      for (const Quantiles& q : windows_) values.push_back(q.*which);
      if (values.empty()) return uint64_t{0};
      const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
      std::nth_element(values.begin(), middle, values.end());
      return *middle;
    };
    return {median(&Quantiles::p50), median(&Quantiles::p99), median(&Quantiles::p999)};
  }

 private:
  void close_window(Tsc now) noexcept {
    window_end_ = now + rte_get_tsc_hz() / 100;
    if (window_.count() == 0) return;
    windows_.push_back({window_.quantile(0.5), window_.quantile(0.99), window_.quantile(0.999)});
    whole_.merge(window_);
    window_.reset();
  }

  Histogram whole_, window_;
  Tsc window_end_ = 0;
  std::vector<Quantiles> windows_;
};

}  // namespace postern::perf
