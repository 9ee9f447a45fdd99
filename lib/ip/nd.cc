#include "ip/nd.h"

#include <algorithm>

#include "ip/ipv6.h"

namespace postern {
namespace {

constexpr Duration kDefendInterval = 10s;  // as for ARP, RFC 5227

}  // namespace

NdResponder::NdResponder(InterfaceTable& interfaces, NeighborTable& neighbors,
                         const NdOptions& options)
    : interfaces_(interfaces), neighbors_(neighbors), options_(options), random_(options.seed) {}

void NdResponder::add(const Prefix& address, uint16_t interface) {
  Own& own = own_.emplace_back();
  own.prefix = address;
  own.interface = interface;
  if (options_.probes == 0) prefer(own);
  deadline_ = Time{};
}

NdResponder::Own* NdResponder::find(const IpAddress& address, uint16_t interface) noexcept {
  const auto it = std::find_if(own_.begin(), own_.end(), [&](const Own& own) {
    return own.interface == interface && own.prefix.address == address;
  });
  return it == own_.end() ? nullptr : &*it;
}

bool NdResponder::is_member(const IpAddress& group, uint16_t interface) const noexcept {
  const auto ours = [&](const Own& own) {
    return own.interface == interface && group == solicited_node(own.prefix.address);
  };
  const auto here = [&](const Own& own) { return own.interface == interface; };
  return group == all_nodes() ? std::any_of(own_.begin(), own_.end(), here)
                              : std::any_of(own_.begin(), own_.end(), ours);
}

bool NdResponder::on_link(const IpAddress& address, uint16_t interface) const noexcept {
  return address.is_link_local() || std::any_of(own_.begin(), own_.end(), [&](const Own& own) {
           return own.interface == interface && own.prefix.contains(address);
         });
}

// ---- received ----

NdResponder::Answer NdResponder::input(const wire::NdMessage& nd, const IpAddress& source,
                                       const MacAddress& from, uint16_t interface,
                                       Time now) noexcept {
  const MacAddress& mac = interfaces_[interface].mac;
  if (from == mac || (nd.has_mac && nd.mac == mac)) return {Drop::nd_not_for_us, false, {}};
  if (nd.type == wire::icmp6::neighbor_advertisement) return advertised(nd, interface, now);
  Own* own = find(nd.target, interface);
  if (own == nullptr) return {Drop::nd_not_for_us, false, {}};
  if (own->state == AddressState::tentative && source.is_any()) {
    own->state = AddressState::duplicate;  // RFC 4862 5.4.3: two want it, neither gets it
    own->due = kNever;
    return {Drop::nd_conflict, false, {}};
  }
  if (!own->assigned()) return {Drop::nd_not_for_us, false, {}};
  // RFC 4861 7.2.3: who asks will be answered, and spoken to.
  if (nd.has_mac && on_link(source, interface)) neighbors_.learn(source, interface, nd.mac, now);
  return solicited(*own, nd, source);
}

// RFC 4861 7.2.4
NdResponder::Answer NdResponder::solicited(Own& own, const wire::NdMessage& nd,
                                           const IpAddress& source) noexcept {
  Answer answer;
  answer.send = options_.speaks;
  answer.message = announcement(own);
  if (source.is_any()) return answer;
  answer.message.nd.solicited = true;
  answer.message.destination = source;
  answer.message.mac = nd.has_mac ? nd.mac : MacAddress{};
  return answer;
}

// RFC 4861 7.2.5, RFC 4862 5.4.4
NdResponder::Answer NdResponder::advertised(const wire::NdMessage& nd, uint16_t interface,
                                            Time now) noexcept {
  Own* own = find(nd.target, interface);
  if (own == nullptr) {
    const bool known = neighbors_.advertise(nd.target, interface, nd.has_mac ? &nd.mac : nullptr,
                                            nd.solicited, nd.override_known, now);
    return {known ? Drop::none : Drop::nd_not_for_us, false, {}};
  }
  if (own->assigned()) return conflict(*own, now);
  own->state = AddressState::duplicate;
  own->due = kNever;
  return {Drop::nd_conflict, false, {}};
}

// Somebody else claims an address that was free when we took it. We keep it and say so.
NdResponder::Answer NdResponder::conflict(Own& own, Time now) noexcept {
  Answer answer;
  answer.drop = Drop::nd_conflict;
  if (own.defended_once && now - own.defended < kDefendInterval) return answer;
  own.defended_once = true;
  own.defended = now;
  answer.send = options_.speaks;
  answer.message = announcement(own);
  return answer;
}

// ---- unasked ----

NdResponder::Message NdResponder::probe(const Own& own) const noexcept {
  Message m;
  m.nd.target = own.prefix.address;
  m.destination = solicited_node(own.prefix.address);
  m.mac = multicast_mac(m.destination);
  m.interface = own.interface;
  return m;
}

NdResponder::Message NdResponder::announcement(const Own& own) const noexcept {
  Message m;
  m.nd = {.type = wire::icmp6::neighbor_advertisement,
          .override_known = true,
          .has_mac = true,
          .target = own.prefix.address,
          .mac = interfaces_[own.interface].mac};
  m.source = own.prefix.address;
  m.destination = all_nodes();
  m.mac = multicast_mac(m.destination);
  m.interface = own.interface;
  return m;
}

void NdResponder::prefer(Own& own) noexcept {
  if (own.assigned()) return;
  own.state = AddressState::preferred;
  interfaces_.assign(own.interface, own.prefix);
}

// RFC 4862 5.5.4: preferred, then deprecated, or back when a router has renewed it.
void NdResponder::age(Own& own, Time now) noexcept {
  const bool deprecated = own.preferred <= now;
  own.state = deprecated ? AddressState::deprecated : AddressState::preferred;
  own.due = deprecated ? own.valid : std::min(own.preferred, own.valid);
  interfaces_.deprecate(own.interface, own.prefix.address, deprecated);
}

void NdResponder::expire(Time now) noexcept {
  std::erase_if(own_, [&](const Own& own) {
    if (own.valid > now) return false;
    if (own.assigned()) interfaces_.remove(own.interface, own.prefix.address);
    return true;
  });
}

bool NdResponder::add_learned(const Prefix& address, uint16_t interface, Time preferred, Time valid,
                              Time now) noexcept {
  if (own_.size() == own_.capacity() || find(address.address, interface) != nullptr) return false;
  Own& own = own_.emplace_back();
  own.prefix = address;
  own.interface = interface;
  own.preferred = preferred;
  own.valid = valid;
  own.due = now;
  deadline_ = std::min(deadline_, now);
  return true;
}

void NdResponder::set_lifetimes(const IpAddress& address, uint16_t interface, Time preferred,
                                Time valid, Time now) noexcept {
  Own* own = find(address, interface);
  if (own == nullptr) return;
  own->preferred = preferred;
  own->valid = valid;
  if (own->assigned()) age(*own, now);
  find_deadline();
}

bool NdResponder::is_duplicate(const IpAddress& address, uint16_t interface) noexcept {
  const Own* own = find(address, interface);
  return own != nullptr && own->state == AddressState::duplicate;
}

void NdResponder::remove(const IpAddress& address, uint16_t interface) noexcept {
  Own* own = find(address, interface);
  if (own == nullptr) return;
  if (own->assigned()) interfaces_.remove(interface, address);
  own_.erase(own_.begin() + (own - own_.data()));
}

// One step of an address' life; true: *out is to be sent.
bool NdResponder::step(Own& own, Time now, Message* out) noexcept {
  if (own.announced) {
    age(own, now);
    return false;
  }
  if (!own.started) {
    own.started = true;
    const auto spread = static_cast<uint64_t>(options_.delay.count());
    own.due = options_.probes == 0 ? now : now + Duration(random_.below(spread + 1));
    if (own.due > now) return false;
  }
  if (own.probed < options_.probes) {
    ++own.probed;
    own.due = now + options_.retry;
    *out = probe(own);
    return true;
  }
  prefer(own);
  own.announced = true;
  age(own, now);
  *out = announcement(own);
  return true;
}

bool NdResponder::next_message(Time now, Message* out) noexcept {
  if (deadline_ > now) return false;
  expire(now);
  for (Own& own : own_) {
    if (own.due <= now && step(own, now, out) && options_.speaks) return true;
  }
  find_deadline();
  return false;
}

void NdResponder::find_deadline() noexcept {
  deadline_ = kNever;
  for (const Own& own : own_) deadline_ = std::min({deadline_, own.due, own.valid});
}

}  // namespace postern
