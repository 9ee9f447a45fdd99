// The counters of all workers, for people (JSON for `postern stats` and `postern drops`) and for
// Prometheus.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <span>
#include <string>

#include "base/counters.h"

namespace postern {

// Sum over workers.
Counters total(std::span<const Counters> workers);

// {"total": {name: n}, "workers": [{name: n}, ...]}
boost::json::value stats_json(std::span<const Counters> workers);
// [{"reason": name, "packets": n, "help": text}]; reasons that never occurred only if `all`.
boost::json::value drops_json(std::span<const Counters> workers, bool all);

// Text exposition format 0.0.4: postern_<counter>_total{worker="0"} and
// postern_drops_total{worker="0",reason="..."}.
std::string prometheus_text(std::span<const Counters> workers);

}  // namespace postern
