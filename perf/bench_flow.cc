// Flow lookup: nanoseconds a lookup against number of flows, burst size, hits and misses, beside
// std::unordered_map. One thread; pin it (taskset) and keep the other core quiet.
//
//   bench_flow [FLOWS...]       default: 1000 100000 1000000 10000000
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "base/random.h"
#include "flow/flow_table.h"

namespace {

using namespace postern;

constexpr HashSecret kSecret{0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 42};
constexpr size_t kQueries = 1 << 18;
constexpr int kRounds = 5;
constexpr size_t kBursts[] = {1, 8, 32};

// What a packet says of its flow; the key is made from it in the measured loop, as from a packet.
struct Client {
  uint32_t address;
  uint16_t port;
};

// Clients of many addresses, 20,000 ports each; a miss is a client of another network.
Client client_of(uint32_t i, bool present) {
  return {(present ? 0x0a000000U : 0x64400000U) + i / 20000,
          static_cast<uint16_t>(10000 + i % 20000)};
}

FlowKey key_of(const Client& client) {
  return {IpAddress::v4(client.address), client.port, IpAddress::v4(0xc0000201), 443, 6};
}

// A connection as the stack keeps it: its key stands in a line that input touches anyway.
struct alignas(64) Connection {
  FlowKey key;
};

struct MapHash {
  KeyedHash hash{kSecret};
  size_t operator()(const FlowKey& key) const noexcept { return hash(key); }
};

struct KeyOf {
  const Connection* connections;
  const FlowKey& operator()(uint32_t value) const noexcept { return connections[value].key; }
};

// CPU time of this thread: what others take away does not count, what they evict does.
double thread_nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// Median over rounds of f(), which returns nanoseconds a lookup.
template <class F>
double median(F&& f) {
  double samples[kRounds];
  for (double& s : samples) s = f();
  std::sort(samples, samples + kRounds);
  return samples[kRounds / 2];
}

template <class F>
double nanoseconds_each(F&& look_up_all) {
  const double start = thread_nanoseconds();
  look_up_all();
  return (thread_nanoseconds() - start) / kQueries;
}

// Sum of results: keeps the work alive and shows that both tables agree.
uint64_t checked = 0;

double time_index(const FlowIndex& index, const KeyOf& key_of_value,
                  const std::vector<Client>& queries, size_t burst) {
  FlowKey keys[32];
  uint32_t out[32];
  uint64_t sum = 0;
  const double ns = nanoseconds_each([&] {
    for (size_t i = 0; i < kQueries; i += burst) {
      for (size_t j = 0; j < burst; ++j) keys[j] = key_of(queries[i + j]);
      index.find_burst(keys, burst, out, key_of_value);
      for (size_t j = 0; j < burst; ++j) sum += out[j];
    }
  });
  checked = sum;
  return ns;
}

using Map = std::unordered_map<FlowKey, uint32_t, MapHash>;

double time_map(const Map& map, const std::vector<Client>& queries) {
  uint64_t sum = 0;
  const double ns = nanoseconds_each([&] {
    for (const Client& client : queries) {
      const auto found = map.find(key_of(client));
      sum += found == map.end() ? kNoFlow : found->second;
    }
  });
  checked = sum;
  return ns;
}

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "bench_flow: %s\n", what);
  std::exit(1);
}

void measure(uint32_t flows) {
  const RegionArray<Connection> connections(flows, true);
  const KeyOf key_of_value{connections.data()};
  FlowIndex index(flows, kSecret, true);
  Map map;
  map.reserve(flows);
  for (uint32_t i = 0; i < flows; ++i) {
    connections[i].key = key_of(client_of(i, true));
    require(index.insert(connections[i].key, i, key_of_value), "the table refused a flow");
    map.emplace(connections[i].key, i);
  }
  for (const bool hit : {true, false}) {
    Random random(1);
    std::vector<Client> queries;
    for (size_t i = 0; i < kQueries; ++i) {
      queries.push_back(client_of(static_cast<uint32_t>(random.below(flows)), hit));
    }
    std::printf("%10u %-5s", flows, hit ? "hit" : "miss");
    for (const size_t burst : kBursts) {
      std::printf(" %9.1f",
                  median([&] { return time_index(index, key_of_value, queries, burst); }));
    }
    const uint64_t ours = checked;
    std::printf(" %14.1f\n", median([&] { return time_map(map, queries); }));
    require(ours == checked, "the tables disagree");
  }
  std::printf("%10u bytes a flow: %.1f\n", flows, static_cast<double>(index.memory()) / flows);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<uint32_t> sizes;
  for (int i = 1; i < argc; ++i) {
    const unsigned long n = std::strtoul(argv[i], nullptr, 10);
    if (n == 0 || n > 100000000) {
      std::fprintf(stderr, "usage: bench_flow [FLOWS...]   1 to 100000000\n");
      return 2;
    }
    sizes.push_back(static_cast<uint32_t>(n));
  }
  if (sizes.empty()) sizes = {1000, 100000, 1000000, 10000000};
  std::printf("Flow lookup, ns each, median of %d rounds of %zu random lookups\n", kRounds,
              kQueries);
  std::printf("%10s %-5s %9s %9s %9s %14s\n", "flows", "", "burst 1", "burst 8", "burst 32",
              "unordered_map");
  for (const uint32_t flows : sizes) measure(flows);
  return 0;
}
