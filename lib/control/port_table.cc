#include "control/port_table.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>

namespace postern {
namespace {

// Whether a packet could be meant for both. An IPv6 wildcard without V6ONLY takes IPv4 as well.
bool overlap(const Reservation& a, const Reservation& b) {
  const auto takes_v4 = [](const Reservation& r) {
    return !r.is_v6 || r.local.address.is_v4() ||
           (r.local.address.is_any() && (r.flags & SHM_BIND_V6ONLY) == 0);
  };
  const auto takes_v6 = [](const Reservation& r) { return r.is_v6 && !r.local.address.is_v4(); };
  const bool same_family = (takes_v4(a) && takes_v4(b)) || (takes_v6(a) && takes_v6(b));
  if (!same_family) return false;
  return a.local.address.is_any() || b.local.address.is_any() || a.local.address == b.local.address;
}

bool may_share(const Reservation& a, const Reservation& b) {
  const uint32_t both = a.flags & b.flags;
  const bool groups = a.local.address.is_multicast() && b.local.address.is_multicast();
  if (groups && (both & SHM_BIND_REUSEADDR) != 0) return true;  // each gets a copy
  if (a.uid != b.uid) return false;
  if ((both & SHM_BIND_REUSEPORT) != 0) return true;
  if ((both & SHM_BIND_REUSEADDR) == 0) return false;
  return a.protocol == IPPROTO_UDP || (!a.listening && !b.listening);
}

}  // namespace

PortTable::PortTable(std::vector<IpAddress> ours, uint16_t ephemeral_first, uint16_t ephemeral_last)
    : ours_(std::move(ours)), ephemeral_first_(ephemeral_first), ephemeral_last_(ephemeral_last) {}

bool PortTable::conflicts(const Reservation& wanted, uint16_t port) const {
  const auto [first, last] = by_port_.equal_range(key(wanted.protocol, port));
  return std::any_of(first, last, [&](const auto& entry) {
    const Reservation& other = by_binding_.at(entry.second);
    return overlap(wanted, other) && !may_share(wanted, other);
  });
}

// 0: every port is taken. A port that is chosen is shared with nobody, whatever the flags say.
uint16_t PortTable::choose_port(const Reservation& wanted, uint32_t random) const {
  Reservation alone = wanted;
  alone.flags &= ~uint32_t{SHM_BIND_REUSEADDR | SHM_BIND_REUSEPORT};
  const uint32_t count = uint32_t{ephemeral_last_} - ephemeral_first_ + 1;
  for (uint32_t i = 0; i < count; ++i) {
    const auto port = static_cast<uint16_t>(ephemeral_first_ + (random % count + i) % count);
    if (!conflicts(alone, port)) return port;
  }
  return 0;
}

uint32_t PortTable::next_binding() {
  do {
    ++last_binding_;
  } while (last_binding_ == 0 || by_binding_.contains(last_binding_));
  return last_binding_;
}

PortTable::Result PortTable::bind(const Reservation& wanted, uint32_t random) {
  const IpAddress& address = wanted.local.address;
  if (wanted.protocol != IPPROTO_TCP && wanted.protocol != IPPROTO_UDP) return {EINVAL, 0, {}};
  if (!address.is_any() && !wanted.is_v6 && !address.is_v4()) return {EAFNOSUPPORT, 0, {}};
  if (address.is_v4() && wanted.is_v6 && (wanted.flags & SHM_BIND_V6ONLY) != 0) {
    return {EINVAL, 0, {}};
  }
  const bool group = wanted.protocol == IPPROTO_UDP &&
                     (address.is_multicast() || address == IpAddress::v4(UINT32_MAX));
  if (!group && !address.is_any() &&
      std::find(ours_.begin(), ours_.end(), address) == ours_.end()) {
    return {EADDRNOTAVAIL, 0, {}};
  }
  Reservation reservation = wanted;
  reservation.listening = false;
  if (wanted.local.port == 0) {
    reservation.local.port = choose_port(wanted, random);
    if (reservation.local.port == 0) return {EADDRINUSE, 0, {}};
  } else if (conflicts(wanted, wanted.local.port)) {
    return {EADDRINUSE, 0, {}};
  }
  const uint32_t binding = next_binding();
  by_port_.emplace(key(wanted.protocol, reservation.local.port), binding);
  by_binding_.emplace(binding, reservation);
  ++per_app_[wanted.app];
  return {0, binding, reservation.local};
}

int PortTable::listen(uint16_t app, uint32_t binding) {
  Reservation* own = find(app, binding);
  if (own == nullptr || own->protocol != IPPROTO_TCP || own->listening) return EINVAL;
  Reservation wanted = *own;
  wanted.listening = true;
  const auto [first, last] = by_port_.equal_range(key(own->protocol, own->local.port));
  const bool taken = std::any_of(first, last, [&](const auto& entry) {
    const Reservation& other = by_binding_.at(entry.second);
    return entry.second != binding && other.listening && overlap(wanted, other) &&
           !may_share(wanted, other);
  });
  if (taken) return EADDRINUSE;
  own->listening = true;
  return 0;
}

void PortTable::unlisten(uint32_t binding) {
  const auto found = by_binding_.find(binding);
  if (found != by_binding_.end()) found->second.listening = false;
}

bool PortTable::unbind(uint16_t app, uint32_t binding) {
  const Reservation* own = find(app, binding);
  if (own == nullptr) return false;
  const auto [first, last] = by_port_.equal_range(key(own->protocol, own->local.port));
  const auto entry =
      std::find_if(first, last, [&](const auto& pair) { return pair.second == binding; });
  by_port_.erase(entry);
  by_binding_.erase(binding);
  if (--per_app_[app] == 0) per_app_.erase(app);
  return true;
}

void PortTable::remove_app(uint16_t app) {
  std::erase_if(by_port_, [&](const auto& e) { return by_binding_.at(e.second).app == app; });
  std::erase_if(by_binding_, [&](const auto& entry) { return entry.second.app == app; });
  per_app_.erase(app);
}

Reservation* PortTable::find(uint16_t app, uint32_t binding) {
  const auto found = by_binding_.find(binding);
  return found == by_binding_.end() || found->second.app != app ? nullptr : &found->second;
}

bool PortTable::holds(uint16_t app, uint8_t protocol, uint16_t port) const {
  const auto [first, last] = by_port_.equal_range(key(protocol, port));
  return std::any_of(first, last,
                     [&](const auto& e) { return by_binding_.at(e.second).app == app; });
}

size_t PortTable::count(uint16_t app) const {
  const auto found = per_app_.find(app);
  return found == per_app_.end() ? 0 : found->second;
}

}  // namespace postern
