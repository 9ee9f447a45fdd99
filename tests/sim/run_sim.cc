// Simulated networks from seeds; usage below. Exit status 1: something failed.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "shrink.h"
#include "tables.h"

namespace {

using namespace postern;
using namespace postern::sim;

constexpr char kUsage[] =
    "usage: run_sim [--seeds N] [--first S]   N networks; a failing one prints itself\n"
    "       run_sim --seed S                  one, packet by packet\n"
    "       run_sim --shrink S                a failing one made small, its packet scripts in\n"
    "                                         seed-S-0.pkt and seed-S-1.pkt\n"
    "       run_sim --table [GOLDEN]          throughput against loss and round trip\n"
    "       run_sim --share                   how flows share a bottleneck\n"
    "  --retries N   engines give up after N retransmissions: makes seeds fail\n";

struct Arguments {
  uint64_t first = 1;
  uint64_t count = 1000;
  int retries = -1;

  [[nodiscard]] Options options(uint64_t seed) const {
    Options o = random_options(seed);
    for (TcpConfig& c : o.config) {
      if (retries >= 0) c.retries = static_cast<uint8_t>(retries);
    }
    return o;
  }
};

using Number = unsigned long long;

Result run_seed(const Arguments& args, uint64_t seed, bool verbose) {
  Network network(seed, args.options(seed));
  network.trace(verbose);
  return network.run();
}

bool one_seed(const Arguments& args, uint64_t seed) {
  const Result r = run_seed(args, seed, true);
  if (!r.failure.empty()) std::printf("seed %llu FAILED: %s\n", Number{seed}, r.failure.c_str());
  std::printf("seed %llu: %llu and %llu bytes, %.3f s, %llu segments, %llu again, %llu timeouts\n",
              Number{seed}, Number{r.delivered[0]}, Number{r.delivered[1]},
              std::chrono::duration<double>(r.elapsed).count(), Number{r.segments},
              Number{r.retransmits}, Number{r.timeouts});
  return r.failure.empty();
}

bool write_script(uint64_t seed, int side, const Shrunk& shrunk, const std::string& script) {
  const std::string path = "seed-" + std::to_string(seed) + "-" + std::to_string(side) + ".pkt";
  FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return false;
  std::fprintf(file, "// Simulation, seed %llu: %s\n// What side %d saw and did%s.\n\n%s",
               Number{seed}, shrunk.failure.c_str(), side,
               shrunk.options.scripted ? "" : ", as far as a script can say it", script.c_str());
  std::fclose(file);
  std::printf("  script: %s\n", path.c_str());
  return true;
}

bool shrink_seed(const Arguments& args, uint64_t seed) {
  const Runner run = [seed](const Options& o) { return attempt(seed, o); };
  const Options options = args.options(seed);
  if (run(options).failure.empty()) {
    std::printf("seed %llu does not fail\n", Number{seed});
    return true;
  }
  const Shrunk s = shrink(options, run);
  std::printf("seed %llu after %llu runs still fails: %s\n%s", Number{seed}, Number{s.attempts},
              s.failure.c_str(), describe(s.options).c_str());
  const Attempt last = attempt(seed, s.options, true);
  for (int side = 0; side < 2; ++side) write_script(seed, side, s, last.script[side]);
  return false;
}

// Runs seeds in a child, so that one whose engine aborts prints itself too. `at`, in shared memory:
// the seed that runs. Number of failures; the child's end is in `status`.
uint64_t run_until_abort(const Arguments& args, uint64_t* at, uint64_t end, int* status) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    for (; *at < end; ++*at) {
      const Result r = run_seed(args, *at, false);
      if (r.failure.empty()) continue;
      std::printf("seed %llu FAILED: %s\n", Number{*at}, r.failure.c_str());
      ++at[1];
    }
    std::fflush(stdout);
    _exit(0);
  }
  if (child < 0 || waitpid(child, status, 0) < 0) std::abort();
  return at[1];
}

bool many_seeds(const Arguments& args) {
  auto* at = static_cast<uint64_t*>(mmap(nullptr, 2 * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                                         MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (at == MAP_FAILED) return false;
  const uint64_t end = args.first + args.count;
  *at = args.first;
  while (*at < end) {
    int status = 0;
    run_until_abort(args, at, end, &status);
    if (status == 0) continue;
    std::printf("seed %llu FAILED: the engine aborted\n", Number{*at});
    ++at[1];
    ++*at;
  }
  if (at[1] != 0) std::printf("run_sim --shrink SEED makes it small\n");
  std::printf("%llu seeds from %llu, %llu failed\n", Number{args.count}, Number{args.first},
              Number{at[1]});
  return at[1] == 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  bool (*what)(const Arguments&, uint64_t) = nullptr;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (word == "--table") return throughput_table(value) ? 0 : 1;
    if (word == "--share") return sharing() ? 0 : 1;
    const uint64_t number = value == nullptr ? 0 : std::strtoull(value, nullptr, 10);
    if (word == "--seeds" && value != nullptr) {
      args.count = number;
    } else if (word == "--first" && value != nullptr) {
      args.first = number;
    } else if (word == "--retries" && value != nullptr) {
      args.retries = static_cast<int>(number);
    } else if ((word == "--seed" || word == "--shrink") && value != nullptr) {
      args.first = number;
      what = word == "--seed" ? one_seed : shrink_seed;
    } else {
      std::fputs(kUsage, stderr);
      return 2;
    }
    ++i;
  }
  const bool good = what != nullptr ? what(args, args.first) : many_seeds(args);
  return good ? 0 : 1;
}
