// Where packets go next: longest prefix match, then lowest metric, both families.
//
// A table does not change: another one is built beside it and takes its place between two turns of
// a worker. So the prefixes can be laid out as what they mean, ranges of addresses that do not
// overlap, sorted. A lookup is an index by the first 16 bits, by 8 more where many ranges lie in
// one place, and a binary search in the few that are left. perf/bench_route has it beside DPDK's
// rte_fib, which is faster where every packet is looked up, in bursts, for 64 MB and more; this
// library would not be pure with it. Here a connection is looked up once, and a datagram when its
// socket is not connected.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "base/address.h"

namespace postern {

enum class RouteKind : uint8_t {
  unicast,
  blackhole,    // packets vanish
  unreachable,  // and their sender is told
};

struct Route {
  Prefix destination;
  IpAddress gateway;  // any: the destination is on the link
  uint16_t interface = 0;
  uint32_t metric = 0;
  RouteKind kind = RouteKind::unicast;

  // The neighbor that a packet to `destination_address` is handed to.
  [[nodiscard]] const IpAddress& next_hop(const IpAddress& destination_address) const noexcept {
    return gateway.is_any() ? destination_address : gateway;
  }
};

// Routes to one destination of the same, lowest metric: one of them is chosen for each flow.
using RouteChoice = std::span<const Route>;

class RouteTable {
 public:
  RouteTable() : RouteTable(std::span<const Route>{}) {}
  // In any order; of routes with equal destination, those of the lowest metric count. O(n log n).
  explicit RouteTable(std::span<const Route> routes);

  // Empty: no route. Valid as long as the table.
  [[nodiscard]] RouteChoice lookup(const IpAddress& destination) const noexcept;
  // Some destination has more than one route to choose from.
  [[nodiscard]] bool shares() const noexcept { return shares_; }
  [[nodiscard]] size_t size() const noexcept { return routes_.size(); }
  [[nodiscard]] std::span<const Route> routes() const noexcept { return routes_; }

 private:
  struct Key {  // an address, first bits first
    uint64_t high = 0;
    uint64_t low = 0;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  // From `begin` to the next range's begin.
  struct Range {
    Key begin;
    uint32_t first = 0;  // of routes_
    uint32_t count = 0;  // 0: no route
  };
  // What the addresses that begin with the same bits are in: ranges [at, at + more], or, if `more`
  // is kNode, whatever node `at` says by 8 further bits.
  struct Slot {
    uint32_t at = 0;
    uint32_t more = 0;
  };
  static constexpr uint32_t kNode = UINT32_MAX;
  struct Family {
    std::vector<Range> ranges;  // sorted; the first begins at zero
    std::vector<Slot> index;    // by the first 16 bits
    std::vector<std::array<Slot, 256>> nodes;
  };
  class Builder;

  [[nodiscard]] static Key key_of(const IpAddress& address) noexcept;

  std::vector<Route> routes_;  // by family, prefix, and metric
  Family v4_;
  Family v6_;
  bool shares_ = false;
};

}  // namespace postern
