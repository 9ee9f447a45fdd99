#include "daemon/stages.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <numeric>

namespace postern {
namespace {

namespace json = boost::json;

json::value quotient(double part, double whole) {
  return whole > 0 ? json::value(part / whole) : json::value(nullptr);
}

json::object bursts_json(const StageFigures& f) {
  json::object out;
  for (size_t i = 0; i < kBurstClasses; ++i) {
    const size_t low = size_t{1} << i;
    const bool last = i + 1 == kBurstClasses;
    const std::string name = i == 0 || last
                                 ? std::to_string(low)
                                 : std::to_string(low) + '-' + std::to_string(2 * low - 1);
    out[last ? name + '+' : name] = f.bursts[i];
  }
  return out;
}

}  // namespace

json::value stages_json(const PublishedCounters& published) {
  const StageFigures f = published.stage_figures();
  const auto running = static_cast<double>(published.running_ns.load(std::memory_order_relaxed));
  const double asleep = running > 0 ? std::min(1.0, static_cast<double>(f.slept_ns) / running) : 0;
  const auto busy =
      static_cast<double>(std::accumulate(f.cycles.begin(), f.cycles.end(), uint64_t{0}));
  const auto idle = static_cast<double>(f.idle_cycles);
  const auto packets = static_cast<double>(std::max(f.packets_in, f.packets_out));
  json::array stages;
  for (size_t i = 0; i < kStageCount; ++i) {
    const auto cycles = static_cast<double>(f.cycles[i]);
    stages.push_back(json::object{{"stage", kStageNames[i]},
                                  {"cycles", f.cycles[i]},
                                  {"cycles_per_packet", quotient(cycles, packets)},
                                  {"share", quotient(cycles, busy)}});
  }
  return json::object{{"busy", quotient(busy * (1 - asleep), busy + idle)},
                      {"asleep", asleep},
                      {"looked_at", f.busy_turns + f.idle_turns},
                      {"packets_in", f.packets_in},
                      {"packets_out", f.packets_out},
                      {"cycles_per_packet", quotient(busy, packets)},
                      {"packets_per_turn", quotient(packets, static_cast<double>(f.busy_turns))},
                      {"idle_turn_cycles", quotient(idle, static_cast<double>(f.idle_turns))},
                      {"long_turns", f.long_turns},
                      {"long_turns_seconds", static_cast<double>(f.long_turn_ns) * 1e-9},
                      {"longest_turn_seconds", static_cast<double>(f.longest_turn_ns) * 1e-9},
                      {"stages", std::move(stages)},
                      {"bursts", bursts_json(f)}};
}

}  // namespace postern
