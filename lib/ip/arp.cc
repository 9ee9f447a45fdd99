#include "ip/arp.h"

#include <algorithm>

namespace postern {
namespace {

constexpr MacAddress kBroadcast{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
// RFC 5227 1.1
constexpr Duration kProbeWait = 1s, kProbeLeast = 1s, kProbeMost = 2s, kAnnounceWait = 2s;
constexpr uint8_t kAnnounceRounds = 2;      // RFC 5227 ANNOUNCE_NUM
constexpr Duration kAnnounceInterval = 2s;  // RFC 5227 ANNOUNCE_INTERVAL
constexpr Duration kDefendInterval = 10s;   // RFC 5227 DEFEND_INTERVAL

wire::ArpPacket announcement(const MacAddress& mac, const IpAddress& address) {
  return {wire::ArpPacket::kRequest, mac, address, MacAddress{}, address};
}

}  // namespace

ArpResponder::ArpResponder(InterfaceTable& interfaces, NeighborTable& neighbors,
                           const ArpOptions& options)
    : interfaces_(interfaces), neighbors_(neighbors), options_(options), random_(options.seed) {
  for (uint16_t i = 0; i < interfaces.size(); ++i) {
    for (const Prefix& prefix : interfaces[i].addresses) {
      if (!prefix.address.is_v4()) continue;
      Own& own = own_.emplace_back();
      own.prefix = prefix;
      own.interface = i;
      deadline_ = Time{};
    }
  }
}

void ArpResponder::add(const Prefix& address, uint16_t interface) {
  Own& own = own_.emplace_back();
  own.prefix = address;
  own.interface = interface;
  own.state = AddressState::tentative;
  deadline_ = Time{};
}

ArpResponder::Own* ArpResponder::find(const IpAddress& address, uint16_t interface) noexcept {
  const auto it = std::find_if(own_.begin(), own_.end(), [&](const Own& own) {
    return own.prefix.address == address && own.interface == interface;
  });
  return it == own_.end() ? nullptr : &*it;
}

bool ArpResponder::on_link(const IpAddress& address, uint16_t interface) const noexcept {
  const auto& prefixes = interfaces_[interface].addresses;
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const Prefix& prefix) {
    return prefix.address.is_v4() && prefix.contains(address);
  });
}

// RFC 5227 2.4: somebody else claims the address. We keep it and say so, not too often.
ArpResponder::Answer ArpResponder::conflict(Own& own, uint16_t interface, Time now) noexcept {
  Answer answer;
  answer.drop = Drop::arp_conflict;
  if (own.state != AddressState::preferred) {  // RFC 5227 2.1.1: it never becomes ours
    own.state = AddressState::duplicate;
    own.due = kNever;
    return answer;
  }
  if (own.defended_once && now - own.defended < kDefendInterval) return answer;
  own.defended_once = true;
  own.defended = now;
  answer.send = true;
  answer.packet = announcement(interfaces_[interface].mac, own.prefix.address);
  answer.destination = kBroadcast;
  return answer;
}

ArpResponder::Answer ArpResponder::input(const wire::ArpPacket& arp, uint16_t interface,
                                         Time now) noexcept {
  const MacAddress& mac = interfaces_[interface].mac;
  Answer answer;
  answer.drop = Drop::arp_not_for_us;
  if (arp.sender_mac == mac) return answer;  // our own, reflected
  if (Own* own = find(arp.sender_ip, interface)) return conflict(*own, interface, now);
  const bool probe = arp.sender_ip.is_any();
  Own* const target = find(arp.target_ip, interface);
  const bool for_us = target != nullptr && target->state == AddressState::preferred;
  if (probe && target != nullptr && target->state == AddressState::tentative) {
    return conflict(*target, interface, now);  // two want it, neither gets it
  }
  const bool reply = arp.operation == wire::ArpPacket::kReply;
  if (!probe && on_link(arp.sender_ip, interface) &&
      !interfaces_.is_broadcast(arp.sender_ip, interface)) {
    // RFC 826: merge what is known already; add the sender if we are the target.
    if (reply || !for_us) {
      neighbors_.update(arp.sender_ip, interface, arp.sender_mac, reply && for_us, now);
    } else {
      neighbors_.learn(arp.sender_ip, interface, arp.sender_mac, now);
    }
  }
  if (!for_us) {
    if (arp.sender_ip == arp.target_ip) answer.drop = Drop::none;  // an announcement
    return answer;
  }
  answer.drop = Drop::none;
  if (reply) return answer;
  answer.send = true;
  answer.packet = {wire::ArpPacket::kReply, mac, arp.target_ip, arp.sender_mac, arp.sender_ip};
  answer.destination = arp.sender_mac;
  return answer;
}

Duration ArpResponder::up_to(Duration longest) noexcept {
  return Duration(random_.below(static_cast<uint64_t>(longest.count()) + 1));
}

// One step of an address' life; true: *out is to be sent.
bool ArpResponder::step(Own& own, Time now, Announcement* out) noexcept {
  const MacAddress& mac = interfaces_[own.interface].mac;
  if (own.state == AddressState::tentative) {
    if (!own.started) {
      own.started = true;
      own.due = now + up_to(kProbeWait);
      if (own.due > now) return false;
    }
    if (own.probed < options_.probes) {
      const bool last = ++own.probed == options_.probes;
      own.due = now + (last ? kAnnounceWait : kProbeLeast + up_to(kProbeMost - kProbeLeast));
      *out = {{wire::ArpPacket::kRequest, mac, IpAddress::v4(0), MacAddress{}, own.prefix.address},
              own.interface};
      return true;
    }
    own.state = AddressState::preferred;
    interfaces_.assign(own.interface, own.prefix);
  }
  own.due = ++own.announced < kAnnounceRounds ? now + kAnnounceInterval : kNever;
  *out = {announcement(mac, own.prefix.address), own.interface};
  return true;
}

bool ArpResponder::next_announcement(Time now, Announcement* out) noexcept {
  if (deadline_ > now) return false;
  for (Own& own : own_) {
    if (own.due <= now && step(own, now, out) && options_.speaks) return true;
  }
  deadline_ = kNever;
  for (const Own& own : own_) deadline_ = std::min(deadline_, own.due);
  return false;
}

}  // namespace postern
