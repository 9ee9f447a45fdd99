// What a run measured, for people and for programs.
#pragma once

#include <optional>
#include <string>

#include "host_app.h"
#include "load.h"
#include "options.h"

namespace postern::perf {

// Turns of 100 us and more, which no work takes: the core was taken away.
struct Away {
  uint64_t times = 0;
  Tsc ticks = 0;
  Tsc longest = 0;
};

struct Result {
  double setup_seconds = 0;
  double seconds = 0;  // measured
  double ticks_per_ns = 1;
  LoadCounters load;
  Histogram latency;           // TSC ticks
  Latency::Quantiles typical;  // of the median 10 ms
  LinkCounters link;           // during the measured time
  double idle_share = 0;  // of the generator's time: turns in which nothing came and nothing went
  Away away;
  std::optional<HostCounters> host;  // during the measured time
};

std::string to_text(const Options& options, const Result& result);
std::string to_json(const Options& options, const Result& result);

}  // namespace postern::perf
