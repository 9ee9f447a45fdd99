// Route lookup: nanoseconds of the processor a lookup, beside DPDK's rte_fib (DIR-24-8) and
// rte_fib6 (trie) with the same routes and destinations, one at a time and in bursts; and what
// loading costs. One thread; pin it (taskset) and keep the other core quiet.
//
//   bench_route [ROUTES...]       default: 1000 100000
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_memory.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/random.h"
#include "ip/route_table.h"

namespace {

using namespace postern;

constexpr size_t kQueries = 1 << 18;
constexpr int kRounds = 5;
constexpr unsigned kBurst = 32;
constexpr uint64_t kNowhere = 0xffff;  // next hop of what no route covers
constexpr uint32_t kFamilies[] = {4, 6};

// CPU time of this thread: what others take away does not count, what they evict does.
double thread_nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

template <class F>
double median(F&& f) {
  double samples[kRounds];
  for (double& s : samples) s = f();
  std::sort(samples, samples + kRounds);
  return samples[kRounds / 2];
}

struct Figure {
  double ns = 0;     // a lookup
  uint64_t sum = 0;  // of next hops: both must find the same
};

// f(i, n): looks up queries [i, i + n) and returns the sum of their next hops.
template <class F>
Figure measure(unsigned n, F&& f) {
  Figure figure;
  figure.ns = median([&] {
    figure.sum = 0;
    const double start = thread_nanoseconds();
    for (size_t i = 0; i < kQueries; i += n) figure.sum += f(i, n);
    return (thread_nanoseconds() - start) / kQueries;
  });
  return figure;
}

// Prefixes as they lie in the routing tables of the Internet: most of IPv4 are /24, shorter ones
// less often; of IPv6 /48 under a few hundred /32, and those.
Prefix random_prefix(bool v6, Random& random) {
  if (!v6) {
    static constexpr uint8_t kLengths[] = {24, 24, 24, 24, 24, 24, 23, 22, 22, 21, 20, 19, 18, 16};
    const uint8_t length = kLengths[random.below(std::size(kLengths))];
    const auto bits = static_cast<uint32_t>(0x01000000 + random.below(0xdf000000 - 0x01000000));
    return {IpAddress::v4(bits & ~0U << (32 - length)), length};
  }
  uint8_t bytes[16] = {0x20, 0x01};
  const uint64_t block = random.below(400);
  bytes[2] = static_cast<uint8_t>(block >> 8);
  bytes[3] = static_cast<uint8_t>(block);
  static constexpr uint8_t kLengths[] = {48, 48, 48, 48, 44, 40, 36, 32};
  const uint8_t length = kLengths[random.below(std::size(kLengths))];
  if (length > 32) bytes[4] = static_cast<uint8_t>(random.below(256));
  if (length > 40) bytes[5] = static_cast<uint8_t>(random.below(256));
  if (length == 36) bytes[4] &= 0xf0;
  if (length == 44) bytes[5] &= 0xf0;
  return {IpAddress::v6(bytes), length};
}

struct Case {
  std::vector<Route> routes;
  std::vector<IpAddress> queries;
};

Case make_case(bool v6, size_t count) {
  Random random(count + v6);
  Case c;
  std::vector<Prefix> prefixes;
  for (size_t i = 0; i < count; ++i) prefixes.push_back(random_prefix(v6, random));
  const auto less = [](const Prefix& a, const Prefix& b) {
    return a.address != b.address ? a.address < b.address : a.length < b.length;
  };
  std::sort(prefixes.begin(), prefixes.end(), less);
  prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
  for (const Prefix& p : prefixes) {
    c.routes.push_back({p, {}, static_cast<uint16_t>(random.below(64)), 0, RouteKind::unicast});
  }
  for (size_t i = 0; i < kQueries; ++i) {
    IpAddress a = prefixes[random.below(prefixes.size())].address;
    for (int b = 12; b < 16; ++b) {
      if (v6 || b == 15) a.data()[b] = static_cast<uint8_t>(random.below(256));
    }
    c.queries.push_back(a);
  }
  return c;
}

Figure measure_ours(const RouteTable& table, const Case& c) {
  return measure(1, [&](size_t i, unsigned) -> uint64_t {
    const RouteChoice found = table.lookup(c.queries[i]);
    return found.empty() ? kNowhere : found.front().interface;
  });
}

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + rte_strerror(rte_errno));
}

// ---- rte_fib, rte_fib6 ----

using Fib4 = std::unique_ptr<rte_fib, decltype(&rte_fib_free)>;
using Fib6 = std::unique_ptr<rte_fib6, decltype(&rte_fib6_free)>;

Fib4 make_fib4(const Case& c) {
  rte_fib_conf conf{};
  conf.type = RTE_FIB_DIR24_8;
  conf.default_nh = kNowhere;
  conf.max_routes = static_cast<int>(c.routes.size()) + 1;
  conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_4B;
  conf.dir24_8.num_tbl8 = 1 << 15;
  Fib4 fib(rte_fib_create("v4", SOCKET_ID_ANY, &conf), rte_fib_free);
  if (fib == nullptr) fail("rte_fib_create");
  for (const Route& r : c.routes) {
    if (rte_fib_add(fib.get(), r.destination.address.v4_value(), r.destination.length,
                    r.interface) != 0) {
      fail("rte_fib_add " + r.destination.to_string());
    }
  }
  return fib;
}

Fib6 make_fib6(const Case& c) {
  rte_fib6_conf conf{};
  conf.type = RTE_FIB6_TRIE;
  conf.default_nh = kNowhere;
  conf.max_routes = static_cast<int>(c.routes.size()) + 1;
  conf.trie.nh_sz = RTE_FIB6_TRIE_4B;
  conf.trie.num_tbl8 = 1 << 18;
  Fib6 fib(rte_fib6_create("v6", SOCKET_ID_ANY, &conf), rte_fib6_free);
  if (fib == nullptr) fail("rte_fib6_create");
  for (const Route& r : c.routes) {
    uint8_t bytes[16];
    std::memcpy(bytes, r.destination.address.data(), sizeof bytes);
    if (rte_fib6_add(fib.get(), bytes, r.destination.length, r.interface) != 0) {
      fail("rte_fib6_add " + r.destination.to_string());
    }
  }
  return fib;
}

uint64_t sum_of(const uint64_t* hops, unsigned n) {
  uint64_t sum = 0;
  for (unsigned k = 0; k < n; ++k) sum += hops[k];
  return sum;
}

Figure measure_fib4(rte_fib* fib, const Case& c, unsigned burst) {
  return measure(burst, [&](size_t i, unsigned n) {
    uint32_t at[kBurst];
    uint64_t hops[kBurst];
    for (unsigned k = 0; k < n; ++k) at[k] = c.queries[i + k].v4_value();
    rte_fib_lookup_bulk(fib, at, hops, static_cast<int>(n));
    return sum_of(hops, n);
  });
}

Figure measure_fib6(rte_fib6* fib, const Case& c, unsigned burst) {
  return measure(burst, [&](size_t i, unsigned n) {
    uint8_t at[kBurst][16];
    uint64_t hops[kBurst];
    for (unsigned k = 0; k < n; ++k) std::memcpy(at[k], c.queries[i + k].data(), 16);
    rte_fib6_lookup_bulk(fib, at, hops, static_cast<int>(n));
    return sum_of(hops, n);
  });
}

// ---- the table of figures ----

struct Fib {
  double load_ms = 0;
  Figure one, burst;
};

template <class Make, class Measure>
Fib measure_fib(const Case& c, Make&& make, Measure&& look) {
  Fib out;
  const double start = thread_nanoseconds();
  const auto fib = make(c);
  out.load_ms = (thread_nanoseconds() - start) * 1e-6;
  out.one = look(fib.get(), c, 1);
  out.burst = look(fib.get(), c, kBurst);
  return out;
}

void compare(uint32_t family, size_t count) {
  const bool v6 = family == 6;
  const Case c = make_case(v6, count);
  const double start = thread_nanoseconds();
  const RouteTable table(c.routes);
  const double load_ms = (thread_nanoseconds() - start) * 1e-6;
  const Figure ours = measure_ours(table, c);
  const Fib fib =
      v6 ? measure_fib(c, make_fib6, measure_fib6) : measure_fib(c, make_fib4, measure_fib4);
  if (ours.sum != fib.one.sum || ours.sum != fib.burst.sum) {
    throw std::runtime_error("the tables do not agree");
  }
  std::printf("IPv%u %8zu %10.1f %8.1f %6.2f %8.1f %6.2f %10.1f %10.1f\n", family, c.routes.size(),
              ours.ns, fib.one.ns, fib.one.ns / ours.ns, fib.burst.ns, fib.burst.ns / ours.ns,
              load_ms, fib.load_ms);
}

int run(const std::vector<size_t>& counts) {
  const char* arguments[] = {"bench_route", "--no-huge",        "-m", "2048", "--no-pci",
                             "--no-shconf", "--log-level=error"};
  if (rte_eal_init(std::size(arguments), const_cast<char**>(arguments)) < 0) fail("DPDK");
  std::puts("        routes    ours ns  rte_fib  ratio  in 32s   ratio    load ms  rte_fib ms");
  for (const uint32_t family : kFamilies) {
    for (const size_t count : counts) compare(family, count);
  }
  rte_eal_cleanup();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<size_t> counts;
  for (int i = 1; i < argc; ++i) counts.push_back(std::strtoul(argv[i], nullptr, 10));
  if (counts.empty()) counts = {1000, 100'000};
  try {
    return run(counts);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_route: %s\n", e.what());
    return 1;
  }
}
