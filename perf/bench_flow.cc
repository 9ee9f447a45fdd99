// Flow lookup: nanoseconds a lookup against number of flows, burst size, hits and misses, beside
// DPDK's rte_hash (lock-free for readers, in bulk), std::unordered_map and a chase of pointers
// through as many cache lines. One thread; pin it (taskset) and keep the other core quiet.
//
//   bench_flow [--json] [FLOWS...]       default: 1000 100000 1000000 10000000
#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_jhash.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
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
constexpr uint32_t kInserts = 1 << 16;  // of which the time is taken, at the full table

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

struct KeyOf {
  const Connection* connections;
  const FlowKey& operator()(uint32_t value) const noexcept { return connections[value].key; }
};

struct MapHash {
  KeyedHash hash{kSecret};
  size_t operator()(const FlowKey& key) const noexcept { return hash(key); }
};
using Map = std::unordered_map<FlowKey, uint32_t, MapHash>;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "bench_flow: %s\n", what);
  std::exit(1);
}

void require(bool condition, const char* what) {
  if (!condition) die(what);
}

// CPU time of this thread: what others take away does not count, what they evict does.
double thread_nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

template <class F>
double nanoseconds_each(size_t count, F&& work) {
  const double start = thread_nanoseconds();
  work();
  return (thread_nanoseconds() - start) / static_cast<double>(count);
}

// Median over rounds of f(), which returns nanoseconds.
template <class F>
double median(F&& f) {
  double samples[kRounds];
  for (double& s : samples) s = f();
  std::sort(samples, samples + kRounds);
  return samples[kRounds / 2];
}

// ---- the tables, each with the same questions ----

class Ours {
 public:
  explicit Ours(uint32_t flows)
      : connections_(flows, true), index_(flows, kSecret, true), key_of_{connections_.data()} {}

  void insert(const FlowKey& key, uint32_t value) {
    connections_[value].key = key;
    require(index_.insert(key, value, key_of_), "the table refused a flow");
  }
  void erase(const FlowKey& key, uint32_t value) {
    require(index_.erase(key, value), "a flow was not there");
  }
  void find(const FlowKey* keys, size_t n, uint32_t* out) const {
    index_.find_burst(keys, n, out, key_of_);
  }
  [[nodiscard]] unsigned longest_probe() const {
    unsigned longest = 0;
    for (const Connection& c : connections_)
      longest = std::max(longest, index_.probes(c.key, key_of_));
    return longest;
  }
  [[nodiscard]] size_t memory() const { return index_.memory(); }

 private:
  RegionArray<Connection> connections_;
  FlowIndex index_;
  KeyOf key_of_;
};

// As the guide recommends it for a table that others read while one writes.
class RteHash {
 public:
  explicit RteHash(uint32_t flows) {
    rte_hash_parameters p{};
    p.name = "flows";
    p.entries = flows + flows / 4 + 64;  // it may refuse before it is full
    p.key_len = sizeof(FlowKey);
    p.hash_func = rte_jhash;
    p.hash_func_init_val = 42;
    p.socket_id = SOCKET_ID_ANY;
    p.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
    hash_ = rte_hash_create(&p);
    require(hash_ != nullptr, "rte_hash_create: no memory");
  }
  ~RteHash() { rte_hash_free(hash_); }
  RteHash(const RteHash&) = delete;
  RteHash& operator=(const RteHash&) = delete;

  void insert(const FlowKey& key, uint32_t value) {
    require(rte_hash_add_key_data(hash_, &key, pointer(value)) == 0, "rte_hash refused a flow");
  }
  void erase(const FlowKey& key, uint32_t) {
    const int32_t at = rte_hash_del_key(hash_, &key);
    require(at >= 0 && rte_hash_free_key_with_position(hash_, at) == 0, "a flow was not there");
  }
  void find(const FlowKey* keys, size_t n, uint32_t* out) const {
    void* data[32];
    if (n == 1) {
      out[0] = rte_hash_lookup_data(hash_, keys, data) >= 0 ? value(data[0]) : kNoFlow;
      return;
    }
    const void* pointers[32];
    for (size_t i = 0; i < n; ++i) pointers[i] = &keys[i];
    uint64_t hits = 0;
    rte_hash_lookup_bulk_data(hash_, pointers, static_cast<uint32_t>(n), &hits, data);
    for (size_t i = 0; i < n; ++i) out[i] = (hits >> i & 1) != 0 ? value(data[i]) : kNoFlow;
  }

 private:
  static void* pointer(uint32_t value) { return reinterpret_cast<void*>(uintptr_t{value}); }
  static uint32_t value(void* pointer) {
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer));
  }
  rte_hash* hash_ = nullptr;
};

class StdMap {
 public:
  explicit StdMap(uint32_t flows) { map_.reserve(flows); }
  void insert(const FlowKey& key, uint32_t value) { map_.emplace(key, value); }
  void erase(const FlowKey& key, uint32_t) { map_.erase(key); }
  void find(const FlowKey* keys, size_t n, uint32_t* out) const {
    for (size_t i = 0; i < n; ++i) {
      const auto found = map_.find(keys[i]);
      out[i] = found == map_.end() ? kNoFlow : found->second;
    }
  }

 private:
  Map map_;
};

// ---- measuring ----

struct Figures {
  double hit[3] = {}, miss[3] = {};  // by burst
  double insert = 0, erase = 0;
};

// `sum` of what was found: keeps the work alive and shows that the tables agree.
template <class Table>
double time_lookups(const Table& table, const std::vector<Client>& queries, size_t burst,
                    uint64_t* sum) {
  FlowKey keys[32];
  uint32_t out[32];
  *sum = 0;
  return nanoseconds_each(kQueries, [&] {
    for (size_t i = 0; i < kQueries; i += burst) {
      for (size_t j = 0; j < burst; ++j) keys[j] = key_of(queries[i + j]);
      table.find(keys, burst, out);
      for (size_t j = 0; j < burst; ++j) *sum += out[j];
    }
  });
}

std::vector<Client> random_queries(uint32_t flows, bool hit) {
  Random random(1);
  std::vector<Client> queries;
  for (size_t i = 0; i < kQueries; ++i) {
    queries.push_back(client_of(static_cast<uint32_t>(random.below(flows)), hit));
  }
  return queries;
}

// A full table loses and regains flows of random places.
template <class Table>
void time_changes(Table& table, uint32_t flows, Figures* figures) {
  std::vector<uint32_t> order(flows);
  std::iota(order.begin(), order.end(), 0U);
  Random random(2);
  const uint32_t count = std::min(kInserts, flows);
  for (uint32_t i = 0; i < count; ++i) std::swap(order[i], order[i + random.below(flows - i)]);
  figures->erase = nanoseconds_each(count, [&] {
    for (uint32_t i = 0; i < count; ++i) table.erase(key_of(client_of(order[i], true)), order[i]);
  });
  figures->insert = nanoseconds_each(count, [&] {
    for (uint32_t i = 0; i < count; ++i) table.insert(key_of(client_of(order[i], true)), order[i]);
  });
}

template <class Table>
Figures measure(Table& table, uint32_t flows, uint64_t sums[2]) {
  Figures figures;
  for (uint32_t i = 0; i < flows; ++i) table.insert(key_of(client_of(i, true)), i);
  for (const bool hit : {true, false}) {
    const std::vector<Client> queries = random_queries(flows, hit);
    for (size_t b = 0; b < 3; ++b) {
      (hit ? figures.hit : figures.miss)[b] =
          median([&] { return time_lookups(table, queries, kBursts[b], &sums[hit ? 0 : 1]); });
    }
  }
  time_changes(table, flows, &figures);
  return figures;
}

// One random line after the other, each known only when the last has come; of `chains` at a time.
double chase(uint32_t lines, size_t chains) {
  struct alignas(64) Line {
    uint32_t next;
  };
  const RegionArray<Line> memory(lines, true);
  std::vector<uint32_t> order(lines);
  std::iota(order.begin(), order.end(), 0U);
  Random random(3);
  for (uint32_t i = lines; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  for (uint32_t i = 0; i < lines; ++i) memory[order[i]].next = order[(i + 1) % lines];
  std::vector<uint32_t> at(chains);
  for (uint32_t& a : at) a = static_cast<uint32_t>(random.below(lines));
  const double ns = median([&] {
    return nanoseconds_each(kQueries, [&] {
      for (size_t i = 0; i < kQueries / chains; ++i) {
        for (uint32_t& a : at) a = memory[a].next;
      }
    });
  });
  require(std::accumulate(at.begin(), at.end(), uint64_t{0}) != 1, "cannot be");  // a use of `at`
  return ns;
}

// ---- output ----

struct Row {
  uint32_t flows;
  Figures ours, rte, map;
  double chase1, chase16;
  unsigned longest_probe;
  double bytes;
};

Row row_of(uint32_t flows) {
  Row row{};
  row.flows = flows;
  uint64_t ours[2], theirs[2];
  {
    auto table = std::make_unique<Ours>(flows);
    row.ours = measure(*table, flows, ours);
    row.longest_probe = table->longest_probe();
    row.bytes = static_cast<double>(table->memory()) / flows;
  }
  {
    RteHash table(flows);
    row.rte = measure(table, flows, theirs);
    require(std::equal(ours, ours + 2, theirs), "rte_hash disagrees");
  }
  {
    StdMap table(flows);
    row.map = measure(table, flows, theirs);
    require(std::equal(ours, ours + 2, theirs), "std::unordered_map disagrees");
  }
  row.chase1 = chase(flows, 1);
  row.chase16 = chase(flows, 16);
  return row;
}

void print_figures(const char* name, const Figures& f) {
  std::printf("  %-14s %7.1f %7.1f %7.1f   %7.1f %7.1f %7.1f   %7.1f %7.1f\n", name, f.hit[0],
              f.hit[1], f.hit[2], f.miss[0], f.miss[1], f.miss[2], f.insert, f.erase);
}

void print_text(const Row& row) {
  std::printf("%u flows; longest probe %u buckets, %.1f bytes a flow\n", row.flows,
              row.longest_probe, row.bytes);
  print_figures("postern", row.ours);
  print_figures("rte_hash", row.rte);
  print_figures("unordered_map", row.map);
  std::printf("  pointer chase  %7.1f one chain, %.1f sixteen\n", row.chase1, row.chase16);
}

std::string json_figures(const char* name, const Figures& f) {
  char text[256];
  std::snprintf(text, sizeof text,
                "\"%s\":{\"hit\":[%.2f,%.2f,%.2f],\"miss\":[%.2f,%.2f,%.2f],\"insert\":%.2f,"
                "\"erase\":%.2f}",
                name, f.hit[0], f.hit[1], f.hit[2], f.miss[0], f.miss[1], f.miss[2], f.insert,
                f.erase);
  return text;
}

std::string json(const Row& row) {
  char text[160];
  std::snprintf(text, sizeof text,
                "{\"flows\":%u,\"longest_probe\":%u,\"bytes\":%.2f,\"chase\":[%.2f,%.2f],",
                row.flows, row.longest_probe, row.bytes, row.chase1, row.chase16);
  return text + json_figures("postern", row.ours) + "," + json_figures("rte_hash", row.rte) + "," +
         json_figures("unordered_map", row.map) + "}";
}

// rte_hash takes its memory from the EAL, which binds this thread to a core: the one it is on.
void start_eal(uint32_t most) {
  const std::string megabytes = std::to_string(256 + uint64_t{most} * 160 / (1 << 20));
  std::vector<std::string> words{
      "bench_flow",    "--no-huge",      "-m",
      megabytes,       "--no-pci",       "--lcores=0@" + std::to_string(sched_getcpu()),
      "--log-level=1", "--no-telemetry", "--no-shconf"};
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  require(rte_eal_init(static_cast<int>(argv.size()), argv.data()) >= 0, "rte_eal_init failed");
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<uint32_t> sizes;
  bool as_json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      as_json = true;
      continue;
    }
    const unsigned long n = std::strtoul(argv[i], nullptr, 10);
    if (n < 32 || n > 100000000) {
      std::fprintf(stderr, "usage: bench_flow [--json] [FLOWS...]   32 to 100000000\n");
      return 2;
    }
    sizes.push_back(static_cast<uint32_t>(n));
  }
  if (sizes.empty()) sizes = {1000, 100000, 1000000, 10000000};
  start_eal(*std::max_element(sizes.begin(), sizes.end()));
  if (!as_json) {
    std::printf(
        "ns each, medians of %d rounds of %zu random lookups\n%-17shits: burst 1, 8, 32"
        "        misses: 1, 8, 32           insert, erase\n",
        kRounds, kQueries, "");
  }
  std::string all;
  for (const uint32_t flows : sizes) {
    const Row row = row_of(flows);
    if (!as_json) print_text(row);
    all += (all.empty() ? "" : ",") + json(row);
  }
  if (as_json) std::printf("[%s]\n", all.c_str());
  return 0;
}
