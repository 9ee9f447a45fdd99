#include "ip/route_table.h"

#include <algorithm>
#include <tuple>

#include "base/byte_order.h"

namespace postern {
namespace {

constexpr int kIndexBits = 16;
constexpr int kNodeBits = 8;
constexpr size_t kFew = 8;  // ranges that are searched rather than divided by another node

uint64_t mask_of(int bits) {
  if (bits <= 0) return 0;
  return bits >= 64 ? UINT64_MAX : ~(UINT64_MAX >> bits);
}

}  // namespace

// An IPv4 address stands in the first 32 bits, so that the index serves both families.
RouteTable::Key RouteTable::key_of(const IpAddress& address) noexcept {
  if (address.is_v4()) return {uint64_t{address.v4_value()} << 32, 0};
  be64 high, low;
  std::memcpy(&high, address.data(), sizeof high);
  std::memcpy(&low, address.data() + 8, sizeof low);
  return {high.host(), low.host()};
}

// Sweeps over prefixes in the order of their first addresses, the wider one first where two begin
// at the same; those that are open enclose one another.
class RouteTable::Builder {
 public:
  struct Item {
    Key begin;
    Key end;  // last address
    uint8_t length = 0;
    uint32_t first = 0;
    uint32_t count = 0;
  };

  explicit Builder(Family& family) : family_(family) { emit({}, 0, 0); }

  void add(const Item& item) {
    close_until([&](const Item& open) { return open.end < item.begin; });
    emit(item.begin, item.first, item.count);
    open_.push_back(item);
  }

  void finish() {
    close_until([](const Item&) { return true; });
    std::vector<Range>& ranges = family_.ranges;
    ranges.shrink_to_fit();
    family_.index.resize(size_t{1} << kIndexBits);
    size_t from = 0;
    for (size_t top = 0; top < family_.index.size(); ++top) {
      const uint64_t begin = uint64_t{top} << (64 - kIndexBits);
      from = holder(from, {begin, 0});
      family_.index[top] = slot(from, begin, kIndexBits);
    }
    family_.nodes.shrink_to_fit();
  }

 private:
  // The range that an address is in, which lies at `from` or behind.
  [[nodiscard]] size_t holder(size_t from, const Key& address) const {
    const auto after = [](const Key& value, const Range& range) { return value < range.begin; };
    const std::vector<Range>& ranges = family_.ranges;
    const auto begin = ranges.begin() + static_cast<std::ptrdiff_t>(from);
    // Most are near.
    const auto near = ranges.end() - begin > 64 ? begin + 64 : ranges.end();
    const bool is_near = near == ranges.end() || address < near->begin;
    const auto found = std::upper_bound(begin, is_near ? near : ranges.end(), address, after);
    return static_cast<size_t>(found - ranges.begin()) - 1;
  }

  // For the addresses whose first `bits` are those of `begin`; the first of them is in range `at`.
  [[nodiscard]] Slot slot(size_t at, uint64_t begin, int bits) {
    const size_t last = holder(at, {begin | ~mask_of(bits), UINT64_MAX});
    if (last - at <= kFew || bits + kNodeBits > 64) {
      return {static_cast<uint32_t>(at), static_cast<uint32_t>(last - at)};
    }
    const auto node = static_cast<uint32_t>(family_.nodes.size());
    family_.nodes.emplace_back();
    for (uint64_t i = 0; i < 1U << kNodeBits; ++i) {
      const uint64_t child = begin | i << (64 - bits - kNodeBits);
      at = holder(at, {child, 0});
      const Slot divided = slot(at, child, bits + kNodeBits);  // may move `nodes`
      family_.nodes[node][i] = divided;
    }
    return {node, kNode};
  }

  // Behind the end of a prefix that which encloses it goes on.
  template <class Ended>
  void close_until(const Ended& ended) {
    while (!open_.empty() && ended(open_.back())) {
      const Key end = open_.back().end;
      open_.pop_back();
      if (end == Key{UINT64_MAX, UINT64_MAX}) continue;
      const Key next{end.low == UINT64_MAX ? end.high + 1 : end.high, end.low + 1};
      const bool inside = !open_.empty();
      emit(next, inside ? open_.back().first : 0, inside ? open_.back().count : 0);
    }
  }

  void emit(Key begin, uint32_t first, uint32_t count) {
    std::vector<Range>& ranges = family_.ranges;
    if (!ranges.empty() && ranges.back().begin == begin) {
      ranges.back() = {begin, first, count};
    } else {
      ranges.push_back({begin, first, count});
    }
  }

  Family& family_;
  std::vector<Item> open_;
};

RouteTable::RouteTable(std::span<const Route> routes) : routes_(routes.begin(), routes.end()) {
  const auto masked = [](const Route& r) {
    const Key key = key_of(r.destination.address);
    return Key{key.high & mask_of(r.destination.length),
               key.low & mask_of(r.destination.length - 64)};
  };
  const auto prefix_of = [&](const Route& r) {
    return std::tuple(r.destination.address.is_v4(), masked(r), r.destination.length);
  };
  std::stable_sort(routes_.begin(), routes_.end(), [&](const Route& a, const Route& b) {
    const auto pa = prefix_of(a), pb = prefix_of(b);
    return pa != pb ? pa < pb : a.metric < b.metric;
  });
  Builder v6(v6_), v4(v4_);
  for (size_t i = 0; i < routes_.size();) {
    const Route& route = routes_[i];
    const auto same = [&](const Route& r) { return prefix_of(r) == prefix_of(route); };
    size_t best = i, end = i;
    while (best < routes_.size() && same(routes_[best]) && routes_[best].metric == route.metric) {
      ++best;
    }
    shares_ = shares_ || best - i > 1;
    for (end = best; end < routes_.size() && same(routes_[end]);) ++end;
    const Key begin = masked(route);
    const int length = route.destination.length;
    (route.destination.address.is_v4() ? v4 : v6)
        .add({begin,
              {begin.high | ~mask_of(length), begin.low | ~mask_of(length - 64)},
              route.destination.length,
              static_cast<uint32_t>(i),
              static_cast<uint32_t>(best - i)});
    i = end;
  }
  v6.finish();
  v4.finish();
}

RouteChoice RouteTable::lookup(const IpAddress& destination) const noexcept {
  const Family& family = destination.is_v4() ? v4_ : v6_;
  const Key key = key_of(destination);
  Slot slot = family.index[key.high >> (64 - kIndexBits)];
  for (int shift = 64 - kIndexBits - kNodeBits; slot.more == kNode; shift -= kNodeBits) {
    slot = family.nodes[slot.at][key.high >> shift & ((1U << kNodeBits) - 1)];
  }
  // The first range holds the first address.
  const Range* const begin = family.ranges.data() + slot.at;
  const Range* const behind =
      std::upper_bound(begin + 1, begin + 1 + slot.more, key,
                       [](const Key& value, const Range& range) { return value < range.begin; });
  const Range& range = behind[-1];
  return {routes_.data() + range.first, range.count};
}

}  // namespace postern
