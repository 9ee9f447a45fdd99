// Where packets go next: longest prefix match, then lowest metric, both families in one table.
#pragma once

#include <cstdint>
#include <vector>

#include "base/address.h"

namespace postern {

struct Route {
  Prefix destination;
  IpAddress gateway;  // any: the destination is on the link
  uint16_t interface = 0;
  uint32_t metric = 0;

  // The neighbor that a packet to `destination_address` is handed to.
  [[nodiscard]] const IpAddress& next_hop(const IpAddress& destination_address) const noexcept {
    return gateway.is_any() ? destination_address : gateway;
  }
};

// Built once and read-only while a worker runs. Entries lie sorted by length and metric, so that
// the first match is the best; lookups are one per connection or per unconnected datagram.
class RouteTable {
 public:
  void add(const Route& route);

  // nullptr: no route. The pointer stays valid until the next add().
  [[nodiscard]] const Route* lookup(const IpAddress& destination) const noexcept;
  [[nodiscard]] size_t size() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    uint64_t value[2];  // big-endian halves of the address, host order, masked
    uint64_t mask[2];
    uint8_t length;  // of 128: IPv4 counts from bit 96
    bool is_v4;
    Route route;
  };
  std::vector<Entry> entries_;
};

}  // namespace postern
