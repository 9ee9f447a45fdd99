// `postern stats --stages`: where each worker's time goes (dataplane/stages.h).
#pragma once

#include <boost/json/value.hpp>

#include "dataplane/worker.h"

namespace postern {

// {"busy": share of time, "asleep": share, "looked_at": turns, "packets_in", "packets_out",
//  "stages": [{"stage", "cycles", "cycles_per_packet", "share"}], "idle_turn_cycles",
//  "bursts": {"1": n, ...}}. Shares are of 1; figures that need a turn that has not been are null.
boost::json::value stages_json(const PublishedCounters& published);

}  // namespace postern
