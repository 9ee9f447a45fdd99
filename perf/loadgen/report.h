// What a run measured, for people and for programs.
#pragma once

#include <optional>
#include <string>

#include "host_app.h"
#include "load.h"
#include "options.h"

namespace postern::perf {

struct Result {
  double setup_seconds = 0;
  double seconds = 0;  // measured
  double ticks_per_ns = 1;
  LoadCounters load;
  Histogram latency;      // TSC ticks
  LinkCounters link;      // during the measured time
  double idle_share = 0;  // of the generator's time: turns in which nothing came and nothing went
  std::optional<HostCounters> host;  // during the measured time
};

std::string to_text(const Options& options, const Result& result);
std::string to_json(const Options& options, const Result& result);

}  // namespace postern::perf
