// Runs seeds: run_sim [--seeds N] [--first S] [--seed S]; a failing seed prints itself.
// run_sim --table [GOLDEN]: throughput against loss and round trip, compared with a file if given.
// run_sim --share: how flows share a bottleneck.
// Exit status 1: something failed.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "network.h"
#include "tables.h"

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

}  // namespace

int main(int argc, char** argv) {
  uint64_t first = 1;
  uint64_t count = 1000;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    const bool has_value = i + 1 < argc;
    if (std::strcmp(argv[i], "--table") == 0) {
      return throughput_table(has_value ? argv[i + 1] : nullptr) ? 0 : 1;
    }
    if (std::strcmp(argv[i], "--share") == 0) return sharing() ? 0 : 1;
    if (std::strcmp(argv[i], "--seeds") == 0 && has_value) {
      count = std::strtoull(argv[++i], nullptr, 10);
    } else if (std::strcmp(argv[i], "--first") == 0 && has_value) {
      first = std::strtoull(argv[++i], nullptr, 10);
    } else if (std::strcmp(argv[i], "--seed") == 0 && has_value) {
      first = std::strtoull(argv[++i], nullptr, 10);
      count = 1;
      verbose = true;
    } else {
      std::fprintf(
          stderr,
          "usage: run_sim [--seeds N] [--first S] [--seed S] [--table [GOLDEN]] [--share]\n");
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
