// Where packets go next: longest prefix match, then lowest metric, both families.
//
// A table does not change: another one is built beside it and takes its place between two turns of
// a worker. So the prefixes can be laid out as what they mean, ranges of addresses that do not
// overlap, sorted. A lookup is an index by the first 16 bits and a binary search in what is left,
// some tens of ns with 100,000 routes, which take 2 MB; DPDK's rte_fib would be faster still where
// every packet is looked up, for 64 MB and more, and this library would not be pure. Here a
// connection is looked up once, and a datagram when its socket is not connected.
#pragma once

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
  struct Family {
    std::vector<Range> ranges;    // sorted; the first begins at zero
    std::vector<uint32_t> index;  // by the first 16 bits: the range that holds their first address
  };
  class Builder;

  [[nodiscard]] static Key key_of(const IpAddress& address) noexcept;

  std::vector<Route> routes_;  // by family, prefix, and metric
  Family v4_;
  Family v6_;
  bool shares_ = false;
};

}  // namespace postern
