// Runs seeds: run_sim [--seeds N] [--first S] [--seed S] [--table]
// A failing seed prints itself; exit status 1.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "network.h"

namespace {

using namespace postern;
using namespace postern::sim;

bool run_seed(uint64_t seed, bool verbose) {
  Network network(seed, random_options(seed));
  network.trace(verbose);
  const Result r = network.run();
  if (!r.failure.empty()) {
    std::printf("seed %llu FAILED: %s\n", static_cast<unsigned long long>(seed), r.failure.c_str());
  }
  if (verbose) {
    std::printf(
        "seed %llu: %llu and %llu bytes, %.3f s, %llu segments, %llu again, %llu timeouts\n",
        static_cast<unsigned long long>(seed), static_cast<unsigned long long>(r.delivered[0]),
        static_cast<unsigned long long>(r.delivered[1]),
        std::chrono::duration<double>(r.elapsed).count(),
        static_cast<unsigned long long>(r.segments), static_cast<unsigned long long>(r.retransmits),
        static_cast<unsigned long long>(r.timeouts));
  }
  return r.failure.empty();
}

// Throughput in percent of the link, against loss and round trip, for each algorithm.
bool table() {
  const double losses[] = {0, 0.0001, 0.001, 0.01, 0.03};
  const Duration delays[] = {1ms, 10ms, 50ms};
  bool good = true;
  for (size_t algorithm = 0; algorithm < kCongestionCount; ++algorithm) {
    std::printf("%-8s 100 Mbit/s, queue one BDP; percent of the link at loss\n",
                kCongestion[algorithm].name.data());
    std::printf("%8s", "rtt");
    for (const double loss : losses) std::printf("%8.2f%%", loss * 100);
    std::printf("\n");
    for (const Duration delay : delays) {
      std::printf("%5lld ms", static_cast<long long>(delay.count() / 500000));
      for (const double loss : losses) {
        Options o;
        for (int side = 0; side < 2; ++side) {
          o.link[side].delay = delay;
          o.link[side].queue =
              static_cast<uint32_t>(100e6 / 8 * 2 * static_cast<double>(delay.count()) * 1e-9) +
              30000;
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
        // The second half: the table is about the steady state.
        const double seconds = std::chrono::duration<double>(r.elapsed - r.halfway).count();
        const double percent = 100.0 * bytes * 4 / seconds / (100e6 * 1448 / 1502);
        std::printf("%9.1f", percent);
        std::fflush(stdout);
        if (!r.failure.empty()) std::printf(" (%s)", r.failure.c_str());
        good = good && r.failure.empty() && (loss > 0 || percent >= 95);
      }
      std::printf("\n");
    }
  }
  if (!good) std::printf("a clean link was used to less than 95 %%, or a run failed\n");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t first = 1;
  uint64_t count = 1000;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    const bool has_value = i + 1 < argc;
    if (std::strcmp(argv[i], "--table") == 0) return table() ? 0 : 1;
    if (std::strcmp(argv[i], "--seeds") == 0 && has_value) {
      count = std::strtoull(argv[++i], nullptr, 10);
    } else if (std::strcmp(argv[i], "--first") == 0 && has_value) {
      first = std::strtoull(argv[++i], nullptr, 10);
    } else if (std::strcmp(argv[i], "--seed") == 0 && has_value) {
      first = std::strtoull(argv[++i], nullptr, 10);
      count = 1;
      verbose = true;
    } else {
      std::fprintf(stderr, "usage: run_sim [--seeds N] [--first S] [--seed S] [--table]\n");
      return 2;
    }
  }
  uint64_t failed = 0;
  for (uint64_t seed = first; seed < first + count; ++seed)
    failed += run_seed(seed, verbose) ? 0 : 1;
  std::printf("%llu seeds from %llu, %llu failed\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(failed));
  return failed == 0 ? 0 : 1;
}
