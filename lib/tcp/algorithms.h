// The congestion control algorithms, each in the file of its name. For congestion.cc only.
#pragma once

#include "tcp/congestion.h"

namespace postern {

[[nodiscard]] CongestionControl cubic();    // RFC 9438
[[nodiscard]] CongestionControl dctcp();    // RFC 8257
[[nodiscard]] CongestionControl newreno();  // RFC 5681, byte counting of RFC 3465

}  // namespace postern
