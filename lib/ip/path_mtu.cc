#include "ip/path_mtu.h"

#include <algorithm>
#include <bit>

namespace postern {
namespace {

constexpr Duration kLife = 10min;  // RFC 1191 6.3, RFC 8201 4

}  // namespace

PathMtuTable::PathMtuTable(uint32_t entries, const HashSecret& secret)
    : entries_(std::bit_ceil(std::max<uint32_t>(entries, kWays))),
      hash_(secret),
      mask_(entries_.size() / kWays - 1) {}

uint32_t PathMtuTable::narrow(const IpAddress& destination, uint32_t mtu, Time now) noexcept {
  const uint32_t believed = std::max(mtu, destination.is_v4() ? kLeastMtu4 : kLeastMtu6);
  View* const set = &entries_[set_of(destination)];
  View* oldest = set;
  for (View* e = set; e != set + kWays; ++e) {
    if (e->mtu != 0 && e->destination == destination) {
      if (e->expires > now && e->mtu <= believed) return e->mtu;
      *e = {destination, believed, now + kLife};
      return believed;
    }
    if (e->expires < oldest->expires) oldest = e;
  }
  if (oldest->mtu == 0) ++used_;
  *oldest = {destination, believed, now + kLife};
  return believed;
}

uint32_t PathMtuTable::search(const IpAddress& destination, Time now) const noexcept {
  const View* const set = &entries_[set_of(destination)];
  for (const View* e = set; e != set + kWays; ++e) {
    if (e->destination == destination && e->expires > now) return e->mtu;
  }
  return 0;
}

PathMtuTable::View PathMtuTable::view(size_t index, Time now) const noexcept {
  const View& e = entries_[index];
  return e.expires > now ? e : View{};
}

}  // namespace postern
