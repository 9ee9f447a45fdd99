#include "tcp/congestion.h"

#include "tcp/algorithms.h"

namespace postern {

// One line an algorithm. `tcp.congestion` and TCP_CONGESTION know them by name.
const std::array<CongestionControl, kCongestionCount> kCongestion{{
    cubic(),
    newreno(),
    dctcp(),
}};

size_t find_congestion(std::string_view name) {
  for (size_t i = 0; i < kCongestion.size(); ++i) {
    if (kCongestion[i].name == name) return i;
  }
  return kCongestionCount;
}

}  // namespace postern
