#include "ip/interface.h"

#include <algorithm>

namespace postern {
namespace {

uint32_t host_mask(uint8_t length) { return length >= 32 ? 0 : UINT32_MAX >> length; }

}  // namespace

void InterfaceTable::add(Interface interface) {
  for (const Prefix& prefix : interface.addresses) local_.push_back(prefix.address);
  std::sort(local_.begin(), local_.end());
  interfaces_.push_back(std::move(interface));
}

bool InterfaceTable::is_local(const IpAddress& address) const noexcept {
  constexpr size_t kScan = 8;  // below this a scan beats the branches of a search
  if (local_.size() > kScan) return std::binary_search(local_.begin(), local_.end(), address);
  return std::find(local_.begin(), local_.end(), address) != local_.end();
}

bool InterfaceTable::is_broadcast(const IpAddress& address, uint16_t interface) const noexcept {
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
  const Prefix* best = nullptr;
  bool best_contains = false;
  for (const Prefix& prefix : interfaces_[interface].addresses) {
    if (prefix.address.is_v4() != destination.is_v4()) continue;
    const bool contains = prefix.contains(destination);
    const bool better = best == nullptr || (contains && !best_contains) ||
                        (contains && best_contains && prefix.length > best->length);
    if (!better) continue;
    best = &prefix;
    best_contains = contains;
  }
  return best == nullptr ? nullptr : &best->address;
}

}  // namespace postern
