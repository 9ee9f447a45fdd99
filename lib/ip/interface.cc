#include "ip/interface.h"

#include <algorithm>

namespace postern {
namespace {

// RFC 6724 3.1: 2 link-local, 5 site-local, 14 global; a group says its own.
unsigned scope_of(const IpAddress& a) {
  if (a.is_multicast()) return a.data()[1] & 15U;
  if (a.is_link_local()) return 2;
  return a.data()[0] == 0xfe && (a.data()[1] & 0xc0) == 0xc0 ? 5 : 14;
}

// RFC 6724 2.1: the default policy table.
struct Label {
  uint8_t prefix[16];
  uint8_t length;
  uint8_t label;
};
constexpr Label kLabels[] = {
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, 0},
    {{0x20, 0x01, 0, 0}, 32, 5},  // Teredo
    {{0x20, 0x02}, 16, 2},        // 6to4
    {{0xfc}, 7, 13},              // unique local
    {{0xfe, 0xc0}, 10, 11},       // site-local
    {{0x3f, 0xfe}, 16, 12},       // 6bone
};

uint8_t label_of(const IpAddress& a) {
  for (const Label& l : kLabels) {
    if (Prefix{IpAddress::v6(l.prefix), l.length}.contains(a)) return l.label;
  }
  return 1;
}

unsigned common_prefix(const IpAddress& a, const IpAddress& b, unsigned limit) {
  unsigned n = 0;
  while (n < limit && ((a.data()[n / 8] ^ b.data()[n / 8]) & (0x80U >> n % 8)) == 0) ++n;
  return n;
}

// RFC 6724 5: whether source `a` is better than `b`.
bool better_source(const Interface& interface, const Prefix& a, const Prefix& b,
                   const IpAddress& destination) {
  if (a.address == destination || b.address == destination) return a.address == destination;
  const unsigned sa = scope_of(a.address), sb = scope_of(b.address), sd = scope_of(destination);
  if (sa != sb) return sa < sb ? sa >= sd : sb < sd;
  if (!interface.deprecated.empty()) {
    const bool da = interface.is_deprecated(a.address), db = interface.is_deprecated(b.address);
    if (da != db) return db;
  }
  const uint8_t ld = label_of(destination);
  const bool la = label_of(a.address) == ld, lb = label_of(b.address) == ld;
  if (la != lb) return la;
  return common_prefix(a.address, destination, a.length) >
         common_prefix(b.address, destination, b.length);
}

uint32_t host_mask(uint8_t length) { return length >= 32 ? 0 : UINT32_MAX >> length; }

}  // namespace

void InterfaceTable::add(Interface interface) {
  for (const Prefix& prefix : interface.addresses) {
    add_local(prefix.address);
    add_broadcast(prefix);
  }
  if (interface.vlan != 0) {
    const size_t at = interface.port * kTags + interface.vlan;
    if (of_vlan_.size() <= at) of_vlan_.resize((interface.port + 1) * kTags, kNone);
    of_vlan_[at] = static_cast<uint16_t>(interfaces_.size());
  }
  interface.mtu_v6 = interface.mtu;
  interfaces_.push_back(std::move(interface));
  ++loop_;
}

// What never leaves memory needs no checksum.
void InterfaceTable::add_loop(uint16_t mtu) {
  interfaces_.push_back({.mac = {},
                         .mtu = mtu,
                         .mtu_v6 = mtu,
                         .offloads = {.ip_checksum = true, .l4_checksum = L4Checksum::device},
                         .addresses = {}});
}

void InterfaceTable::reserve(uint16_t interface, size_t more_addresses) {
  auto& addresses = interfaces_[interface].addresses;
  addresses.reserve(std::max(addresses.size(), addresses.capacity()) + more_addresses);
  local_.reserve(std::max(local_.size(), local_.capacity()) + more_addresses);
  interfaces_[interface].deprecated.reserve(addresses.capacity());
}

void InterfaceTable::assign(uint16_t interface, const Prefix& address) noexcept {
  interfaces_[interface].addresses.push_back(address);
  add_local(address.address);
  add_broadcast(address);
}

void InterfaceTable::add_local(const IpAddress& address) noexcept {
  local_.insert(std::upper_bound(local_.begin(), local_.end(), address), address);
  local_filter_ |= uint64_t{1} << (address.data()[15] & 63);
}

void InterfaceTable::add_broadcast(const Prefix& prefix) noexcept {
  if (!prefix.address.is_v4()) return;
  const uint32_t broadcast = prefix.address.v4_value() | host_mask(prefix.length);
  broadcast_filter_ |= uint64_t{1} << (broadcast & 63);
}

void InterfaceTable::remove(uint16_t interface, const IpAddress& address) noexcept {
  deprecate(interface, address, false);
  std::erase_if(interfaces_[interface].addresses,
                [&](const Prefix& p) { return p.address == address; });
  const auto at = std::lower_bound(local_.begin(), local_.end(), address);
  if (at != local_.end() && *at == address) local_.erase(at);
}

void InterfaceTable::deprecate(uint16_t interface, const IpAddress& address,
                               bool deprecated) noexcept {
  std::vector<IpAddress>& list = interfaces_[interface].deprecated;
  std::erase(list, address);
  if (deprecated && list.size() < list.capacity()) list.push_back(address);
}

bool Interface::is_deprecated(const IpAddress& address) const noexcept {
  return std::find(deprecated.begin(), deprecated.end(), address) != deprecated.end();
}

bool InterfaceTable::find_local(const IpAddress& address) const noexcept {
  constexpr size_t kScan = 8;  // below this a scan beats the branches of a search
  if (local_.size() > kScan) return search_local(address);
  for (const IpAddress& local : local_) {
    if (local == address) return true;
  }
  return false;
}

bool InterfaceTable::search_local(const IpAddress& address) const noexcept {
  return std::binary_search(local_.begin(), local_.end(), address);
}

bool InterfaceTable::find_broadcast(const IpAddress& address, uint16_t interface) const noexcept {
  if (!address.is_v4()) return false;
  if (address.v4_value() == UINT32_MAX) return true;
  for (const Prefix& prefix : interfaces_[interface].addresses) {
    // A /31 or /32 has no broadcast address (RFC 3021).
    if (!prefix.address.is_v4() || prefix.length >= 31) continue;
    if (address.v4_value() == (prefix.address.v4_value() | host_mask(prefix.length))) return true;
  }
  return false;
}

const IpAddress* InterfaceTable::select_source(const IpAddress& destination,
                                               uint16_t interface) const noexcept {
  if (!destination.is_v4()) return select_source_v6(destination, interface);
  const Prefix* best = nullptr;
  bool best_contains = false;
  for (const Prefix& prefix : interfaces_[interface].addresses) {
    if (!prefix.address.is_v4()) continue;
    const bool contains = prefix.contains(destination);
    const bool better = best == nullptr || (contains && !best_contains) ||
                        (contains && best_contains && prefix.length > best->length);
    if (!better) continue;
    best = &prefix;
    best_contains = contains;
  }
  return best == nullptr ? nullptr : &best->address;
}

const IpAddress* InterfaceTable::select_source_v6(const IpAddress& destination,
                                                  uint16_t interface) const noexcept {
  const Interface& i = interfaces_[interface];
  const Prefix* best = nullptr;
  for (const Prefix& prefix : i.addresses) {
    if (prefix.address.is_v4()) continue;
    if (best == nullptr || better_source(i, prefix, *best, destination)) best = &prefix;
  }
  return best == nullptr ? nullptr : &best->address;
}

}  // namespace postern
