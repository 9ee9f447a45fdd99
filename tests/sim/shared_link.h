// Several flows of bulk data through one bottleneck: how they share it, and how much of it they
// use.
#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"

namespace postern::sim {

struct SharedLinkOptions {
  double rate = 50e6;        // bits per second
  Duration delay = 10ms;     // one way
  uint32_t queue = 125'000;  // bytes
  uint32_t mark_above = 0;   // bytes: ECN marking, 0: drop-tail only
  size_t flows = 2;
  size_t congestion = 0;   // index in kCongestion
  Duration stagger = 1s;   // between the starts of flows, at most
  Duration warm_up = 20s;  // not measured
  Duration measured = 60s;
};

struct SharedLinkResult {
  std::vector<double> rate;  // bits of payload per second, each flow
  double utilization = 0;    // of what the link can carry of payload
  uint64_t drops = 0;
  uint64_t marks = 0;
  // The slowest flow's rate over the fastest one's.
  [[nodiscard]] double evenness() const;
};

SharedLinkResult run_shared_link(uint64_t seed, const SharedLinkOptions& options);

}  // namespace postern::sim
