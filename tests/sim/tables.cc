#include "tables.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>

#include "network.h"
#include "shared_link.h"

namespace postern::sim {
namespace {

constexpr double kRate = 100e6;
constexpr double kLosses[] = {0, 0.0001, 0.001, 0.01, 0.03};
constexpr Duration kDelays[] = {1ms, 10ms, 50ms};  // one way

struct Cell {
  double percent = 0;
  std::string failure;
};

// The second half of a transfer: the table is about the steady state.
Cell measure(size_t algorithm, Duration delay, double loss) {
  Options o;
  for (int side = 0; side < 2; ++side) {
    const double bdp = kRate / 8 * 2 * static_cast<double>(delay.count()) * 1e-9;
    o.link[side].delay = delay;
    o.link[side].queue = static_cast<uint32_t>(bdp) + 30000;
    o.config[side].receive_buffer = 8 << 20;
    o.config[side].congestion = static_cast<uint8_t>(algorithm);
    o.app[side].receive_memory = 8 << 20;
  }
  o.link[0].loss = loss;
  const uint32_t bytes = loss >= 0.01 ? 8U << 20 : delay > 20ms ? 128U << 20 : 32U << 20;
  o.app[0].bytes = bytes;
  o.app[0].write_size = 65536;
  o.app[0].send_buffer = 4 << 20;
  o.app[1].bytes = 0;
  Network network(1, o);
  const Result r = network.run();
  const double seconds = std::chrono::duration<double>(r.elapsed - r.halfway).count();
  return {100.0 * bytes * 4 / seconds / (kRate * 1448 / 1502), r.failure};
}

std::string key(size_t algorithm, Duration delay, double loss) {
  char text[64];
  std::snprintf(text, sizeof text, "%s,%lld,%g", kCongestion[algorithm].name.data(),
                static_cast<long long>(delay.count() / 500000), loss);
  return text;
}

// Lines "algorithm,round trip in ms,loss,percent", '#' for comments.
std::map<std::string, double> read_golden(const char* path) {
  std::map<std::string, double> golden;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t comma = line.rfind(',');
    if (line.empty() || line[0] == '#' || comma == std::string::npos) continue;
    golden[line.substr(0, comma)] = std::stod(line.substr(comma + 1));
  }
  return golden;
}

// Within a quarter, or five percent of the link: one seed's losses weigh differently on an engine
// that sends a segment more or less.
bool close_to(double value, double golden) {
  return std::abs(value - golden) <= std::max(5.0, golden / 4);
}

}  // namespace

bool throughput_table(const char* path) {
  const auto golden = path == nullptr ? std::map<std::string, double>{} : read_golden(path);
  bool good = path == nullptr || !golden.empty();
  for (size_t algorithm = 0; algorithm < kCongestionCount; ++algorithm) {
    std::printf("# algorithm,round trip in ms,loss,percent of 100 Mbit/s; queue of one BDP\n");
    for (const Duration delay : kDelays) {
      for (const double loss : kLosses) {
        const std::string name = key(algorithm, delay, loss);
        const Cell cell = measure(algorithm, delay, loss);
        std::printf("%s,%.1f", name.c_str(), cell.percent);
        // DCTCP is for links that mark.
        const bool fills = loss > 0 || kCongestion[algorithm].name == "dctcp" || cell.percent >= 95;
        bool right = cell.failure.empty() && fills;
        if (path != nullptr && golden.count(name) != 0) {
          right = right && close_to(cell.percent, golden.at(name));
          if (!right) std::printf("  # expected %.1f", golden.at(name));
        }
        std::printf("%s\n", cell.failure.empty() ? "" : ("  # " + cell.failure).c_str());
        std::fflush(stdout);
        good = good && right;
      }
    }
  }
  if (!good) std::printf("not as it should be: a clean link below 95 %%, or another value\n");
  return good;
}

bool sharing() {
  struct Case {
    const char* congestion;
    size_t flows;
    Duration delay;
    bool marking;
    double evenness;  // at least
  };
  constexpr Case kCases[] = {
      {"cubic", 1, 10ms, false, 1},   {"newreno", 1, 10ms, false, 1},
      {"cubic", 2, 10ms, false, 0.8}, {"cubic", 2, 25ms, false, 0.8},
      {"cubic", 2, 10ms, true, 0.8},  {"newreno", 2, 10ms, false, 0.6},
      {"cubic", 8, 10ms, false, 0.4},
  };
  bool good = true;
  for (const Case& c : kCases) {
    SharedLinkOptions o;
    o.congestion = find_congestion(c.congestion);
    o.flows = c.flows;
    o.delay = c.delay;
    // CUBIC's periods grow with the round trip: to share takes several of them.
    o.warm_up = std::chrono::duration_cast<Duration>(c.delay * 4000);
    o.measured = 2 * o.warm_up;
    o.queue = static_cast<uint32_t>(o.rate / 8 * 2 * static_cast<double>(c.delay.count()) * 1e-9);
    if (c.marking) o.mark_above = o.queue / 2;
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      const SharedLinkResult r = run_shared_link(seed, o);
      const bool right = r.evenness() >= c.evenness && r.utilization >= 0.95 &&
                         (c.marking ? r.marks != 0 : r.marks == 0);
      std::printf(
          "%-8s %zu flows, %lld ms%s, seed %llu: slowest/fastest %.2f, link used %.1f %%, %llu "
          "dropped, %llu marked%s\n",
          c.congestion, c.flows, static_cast<long long>(c.delay.count() / 500000),
          c.marking ? ", ECN" : "", static_cast<unsigned long long>(seed), r.evenness(),
          100 * r.utilization, static_cast<unsigned long long>(r.drops),
          static_cast<unsigned long long>(r.marks), right ? "" : "  FAILED");
      good = good && right;
    }
  }
  return good;
}

}  // namespace postern::sim
