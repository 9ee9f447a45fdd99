// A burst, from bytes to protocol: steps 2 to 4 of the walk of a packet.
#include <algorithm>
#include <cstring>
#include <utility>

#include "stack/core.h"

namespace postern {

void StackCore::receive(std::span<const RxPacket> burst, Time now) noexcept {
  set_now(now);
  known_udp_ = {};  // sockets have come and gone
  while (!burst.empty()) {
    const size_t n = std::min(burst.size(), kBurst);
    receive_some(burst.data(), n);
    burst = burst.subspan(n);
  }
  neighbors_settled();
  reap();
}

// Parses all, looks up all flows, then handles one packet after the other; connections that were
// touched are settled once.
void StackCore::receive_some(const RxPacket* packets, size_t n) noexcept {
  auto& [parsed, keys, flows, position] = burst_;
  wire::parse_burst({packets, n}, parsed.data());
  size_t count = 0;
  for (size_t i = 0; i < n; ++i) {
    const ParsedPacket& p = parsed[i];
    position[i] = kNoPosition;
    if (p.kind != PacketKind::tcp || p.drop != Drop::none || p.fragment) continue;
    keys[count] = key_of_packet(p);
    position[i] = static_cast<uint8_t>(count++);
  }
  position[n] = kNoPosition;
  if (count != 0) flows_.find_burst(keys.data(), count, flows.data(), key_of());
  for (size_t i = 0; i < count; ++i) {
    if (flows[i] != kNoFlow) __builtin_prefetch(&tcp_[flows[i]].tcp);
  }
  for (size_t i = 0; i < n; i += std::exchange(run_.count, 1)) {
    ParsedPacket& p = parsed[i];
    if (position[i] == kNoPosition && p == known_udp_.target) {
      run_.count = udp_run(packets + i, &p, n - i);
      continue;
    }
    if (p.drop == Drop::none) {
      p.drop = check_link(p);
    } else if (p.drop == Drop::ip6_bad_extension && check_link(p) == Drop::none) {
      tell_problem(packets[i], p);
    }
    if (p.drop == Drop::none) {
      const uint32_t flow = position[i] == kNoPosition ? kNoFlow : flows[position[i]];
      const uint8_t next = position[i + 1];
      if (next != kNoPosition && flows[next] == flow && flow != kNoFlow) [[unlikely]] {
        coalesce(packets, i);
      }
      // The key of a flow proves the destination ours.
      p.drop = flow != kNoFlow ? tcp_input(packets[i], p, flow) : dispatch(packets[i], p);
    }
    if (p.drop != Drop::none) counters.drop(p.drop, run_.count);
  }
  settle_batch();
}

// Packets from i on that are segments of one flow, continue each other and differ in nothing else:
// the engine takes them as one. (What Linux calls GRO; its conditions are these.)
void StackCore::coalesce(const RxPacket* packets, size_t i) noexcept {
  const auto& [parsed, keys, flows, position] = burst_;
  const ParsedPacket& first = parsed[i];
  constexpr uint8_t kPlain = tcp_flag::ack | tcp_flag::psh;
  constexpr size_t kOptions = sizeof(wire::TcpHeader);
  uint32_t length = first.payload_length;
  size_t end = i + 1;
  for (; length != 0 && position[end] != kNoPosition; ++end) {
    const ParsedPacket& p = parsed[end];
    if (flows[position[end]] != flows[position[i]] || p.tcp_seq != first.tcp_seq + length) break;
    if (((p.tcp_flags | first.tcp_flags) & ~kPlain) != 0 || p.payload_length == 0) break;
    const bool same = p.tcp_ack == first.tcp_ack && p.tcp_window == first.tcp_window &&
                      p.tos == first.tos && p.vlan == first.vlan &&
                      p.interface == packets[i].interface &&
                      p.mac_destination == first.mac_destination &&
                      p.tcp_options_length == first.tcp_options_length &&
                      length + p.payload_length <= kLongestRun;
    if (!same ||
        std::memcmp(packets[end].data + p.l4_offset + kOptions,
                    packets[i].data + first.l4_offset + kOptions, p.tcp_options_length) != 0) {
      break;
    }
    length += p.payload_length;
  }
  run_ = {&packets[i], &first, end - i};
}

Drop StackCore::check_link(ParsedPacket& p) const noexcept {
  if (p.interface > interfaces_.loop()) return Drop::eth_not_ours;
  if (p.vlan != 0) {
    p.interface = interfaces_.find_vlan(p.interface, p.vlan);
    if (p.interface == InterfaceTable::kNone) return Drop::vlan_unknown;
  }
  if (p.mac_destination == interfaces_[p.interface].mac) return Drop::none;
  return p.mac_destination.is_multicast() ? Drop::none : Drop::eth_not_ours;
}

// Of a packet to an address of ours.
Drop StackCore::check_source(const ParsedPacket& p) const noexcept {
  if (interfaces_.is_broadcast(p.source, p.interface)) return Drop::ip4_bad_source;
  // Neighbor discovery has use for it: it is how a second owner of an address shows.
  return p.kind != PacketKind::icmp && forged(p) ? Drop::ip_source_ours : Drop::none;
}

// From outside, but with an address of ours as its source: RFC 1122 3.2.1.3, and the LAND attack.
bool StackCore::forged(const ParsedPacket& p) const noexcept {
  return p.interface != interfaces_.loop() && interfaces_.is_local(p.source);
}

Drop StackCore::dispatch(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (p.kind == PacketKind::arp) return arp_input(packet, p);
  if (!interfaces_.is_local(p.destination)) return dispatch_to_many(packet, p);
  // RFC 1122 3.3.6. ICMP looks for itself.
  if (p.mac_destination.is_multicast() && p.kind != PacketKind::icmp) return Drop::eth_not_ours;
  if (const Drop drop = check_source(p); drop != Drop::none) return drop;
  if (p.fragment) return fragment_input(packet, p);
  switch (p.kind) {
    case PacketKind::tcp:
      return tcp_input(packet, p, kNoFlow);
    case PacketKind::udp:
      return udp_input(packet, p);
    case PacketKind::icmp:
      return icmp_input(packet, p);
    default:
      break;
  }
  const Drop drop = group_input(packet, p);
  if (drop == Drop::ip_unknown_protocol) tell_unknown_protocol(packet, p);
  return drop;
}

}  // namespace postern
