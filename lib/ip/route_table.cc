#include "ip/route_table.h"

#include <algorithm>

#include "base/byte_order.h"

namespace postern {
namespace {

void load_halves(const IpAddress& address, uint64_t out[2]) {
  be64 half;
  for (int i = 0; i < 2; ++i) {
    std::memcpy(&half, address.data() + 8 * i, sizeof half);
    out[i] = half.host();
  }
}

uint64_t mask_of(int bits) {
  if (bits <= 0) return 0;
  return bits >= 64 ? UINT64_MAX : ~(UINT64_MAX >> bits);
}

}  // namespace

void RouteTable::add(const Route& route) {
  Entry entry{};
  entry.is_v4 = route.destination.address.is_v4();
  entry.length = static_cast<uint8_t>(route.destination.length + (entry.is_v4 ? 96 : 0));
  entry.mask[0] = mask_of(entry.length);
  entry.mask[1] = mask_of(entry.length - 64);
  load_halves(route.destination.address, entry.value);
  entry.value[0] &= entry.mask[0];
  entry.value[1] &= entry.mask[1];
  entry.route = route;
  const auto before = [](const Entry& a, const Entry& b) {
    return a.length != b.length ? a.length > b.length : a.route.metric < b.route.metric;
  };
  entries_.insert(std::upper_bound(entries_.begin(), entries_.end(), entry, before), entry);
}

const Route* RouteTable::lookup(const IpAddress& destination) const noexcept {
  uint64_t value[2];
  load_halves(destination, value);
  const bool is_v4 = destination.is_v4();
  for (const Entry& entry : entries_) {
    // ::/0 would match mapped IPv4 as well: the families do not share routes.
    if (entry.is_v4 == is_v4 && (value[0] & entry.mask[0]) == entry.value[0] &&
        (value[1] & entry.mask[1]) == entry.value[1]) {
      return &entry.route;
    }
  }
  return nullptr;
}

}  // namespace postern
