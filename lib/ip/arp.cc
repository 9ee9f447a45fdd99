#include "ip/arp.h"

#include <algorithm>

namespace postern {
namespace {

constexpr MacAddress kBroadcast{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
constexpr uint8_t kAnnounceRounds = 2;      // RFC 5227 ANNOUNCE_NUM
constexpr Duration kAnnounceInterval = 2s;  // RFC 5227 ANNOUNCE_INTERVAL
constexpr Duration kDefendInterval = 10s;   // RFC 5227 DEFEND_INTERVAL

wire::ArpPacket announcement(const MacAddress& mac, const IpAddress& address) {
  return {wire::ArpPacket::kRequest, mac, address, MacAddress{}, address};
}

}  // namespace

ArpResponder::ArpResponder(const InterfaceTable& interfaces, NeighborTable& neighbors)
    : interfaces_(interfaces), neighbors_(neighbors) {
  for (uint16_t i = 0; i < interfaces.size(); ++i) {
    for (const Prefix& prefix : interfaces[i].addresses) {
      if (prefix.address.is_v4()) own_.push_back({prefix.address, i, {}, false});
    }
  }
  if (own_.empty()) announce_at_ = kNever;
}

ArpResponder::Own* ArpResponder::find(const IpAddress& address, uint16_t interface) noexcept {
  const auto it = std::find_if(own_.begin(), own_.end(), [&](const Own& own) {
    return own.address == address && own.interface == interface;
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
  if (own.defended_once && now - own.defended < kDefendInterval) return answer;
  own.defended_once = true;
  own.defended = now;
  answer.send = true;
  answer.packet = announcement(interfaces_[interface].mac, own.address);
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
  const bool for_us = find(arp.target_ip, interface) != nullptr;
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

bool ArpResponder::next_announcement(Time now, Announcement* out) noexcept {
  if (announce_at_ > now) return false;
  const Own& own = own_[announce_next_];
  *out = {announcement(interfaces_[own.interface].mac, own.address), own.interface};
  if (++announce_next_ < own_.size()) return true;
  announce_next_ = 0;
  announce_at_ = ++announce_round_ < kAnnounceRounds ? now + kAnnounceInterval : kNever;
  return true;
}

}  // namespace postern
