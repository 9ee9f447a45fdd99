// Routers: what they advertise (RFC 4861 6.3), better ways that they know (8.3), and what to do
// when one is silent (7.3).
#include <cstring>

#include "ip/ipv6.h"
#include "stack/core.h"
#include "wire/build.h"
#include "wire/nd.h"
#include "wire/router.h"

namespace postern {

Drop StackCore::router_advertisement_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  wire::RouterAdvertisement ra;
  if (const Drop drop = wire::read_advertisement(packet, p, &ra); drop != Drop::none) return drop;
  counters.add(Counter::nd_rx);
  if (routers_.advertisement(ra, p.source, p.interface, now_)) neighbors_.forget_handles();
  join_address_groups(p.interface);
  return Drop::none;
}

// RFC 4862 5.4.2, as for configured addresses; of those that are there already nothing is told.
void StackCore::join_address_groups(uint16_t interface) noexcept {
  for (size_t i = 0; i < nd_.size(); ++i) {
    const NdResponder::View v = nd_.view(i);
    if (v.interface != interface) continue;
    (void)groups_.change(GroupTable::Change::join, GroupTable::kHost,
                         solicited_node(v.address.address), interface, {}, now_);
  }
}

// RFC 4861 8.1: only the router that the destination's packets take now may say so.
Drop StackCore::redirect_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  wire::Redirect redirect;
  if (const Drop drop = wire::read_redirect(packet, p, &redirect); drop != Drop::none) return drop;
  NextHop hop;
  if (next_hop(redirect.destination, kNoInterface, &hop) != 0 || hop.interface != p.interface ||
      hop.address != p.source || interfaces_.is_local(redirect.target)) {
    return Drop::nd_not_for_us;
  }
  counters.add(Counter::nd_rx);
  routers_.redirect(redirect, p.interface, now_);
  neighbors_.forget_handles();
  return Drop::none;
}

// RFC 1122 3.2.2.2: the router that is named is on the link, and the one in use says so; whether of
// a host or of its network makes no difference. As every ICMP error it counts only if it quotes
// what a live flow could have sent (RFC 5927).
Drop StackCore::redirect4_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  constexpr uint8_t kHostAndService = 3;
  if (static_cast<uint8_t>(p.source_port) > kHostAndService) return Drop::icmp_ignored;
  const wire::QuotedPacket quoted = wire::parse_icmp_quote(packet, p);
  if (quoted.protocol == 0) return Drop::icmp_malformed;
  if (!config_.neighbors.redirects || !is_of_live_flow(quoted)) return Drop::icmp_ignored;
  be32 gateway;
  std::memcpy(&gateway, packet.data + p.l4_offset + 4, sizeof gateway);
  const IpAddress target = IpAddress::v4(gateway.host());
  const FlowKey key({quoted.destination, quoted.destination_port},
                    {quoted.source, quoted.source_port}, quoted.protocol);
  NextHop now, then;
  const bool asked = next_hop(quoted.destination, kNoInterface, &now, &key) == 0 &&
                     now.interface == p.interface && now.address == p.source;
  const bool on_link = next_hop(target, kNoInterface, &then) == 0 &&
                       then.interface == p.interface && then.address == target &&
                       !target.is_multicast() && !interfaces_.is_broadcast(target, p.interface);
  if (!asked || !on_link) return Drop::icmp_ignored;
  counters.add(Counter::icmp_rx);
  routers_.redirect({quoted.destination, target, false, {}}, p.interface, now_);
  neighbors_.forget_handles();
  return Drop::none;
}

bool StackCore::is_of_live_flow(const wire::QuotedPacket& quoted) const noexcept {
  const Endpoint local{quoted.source, quoted.source_port};
  const Endpoint remote{quoted.destination, quoted.destination_port};
  if (!interfaces_.is_local(local.address)) return false;
  if (quoted.protocol == static_cast<uint8_t>(Protocol::udp)) {
    return udp_table_.find(local, remote).socket != UdpTable::kNone;
  }
  if (quoted.protocol != static_cast<uint8_t>(Protocol::tcp)) return false;
  const uint32_t flow = flows_.find(FlowKey(remote, local, quoted.protocol), key_of());
  return flow != kNoFlow && !tcp_[flow].network_done && tcp_[flow].tcp.in_flight(quoted.tcp_seq);
}

void StackCore::solicit_routers(uint16_t interface) noexcept {
  TxFrame* frame = begin_control();
  if (frame == nullptr) return;
  const IpAddress* source = interfaces_.select_source(all_routers(), interface);
  const MacAddress* mac = source == nullptr ? nullptr : &interfaces_[interface].mac;
  const IpAddress from = source == nullptr ? IpAddress{} : *source;
  const uint32_t length = source == nullptr ? 8 : wire::kMaxRouterSolicitation;
  std::byte* l4 = begin_ip(*frame, interface, multicast_mac(all_routers()),
                           {.source = from,
                            .destination = all_routers(),
                            .protocol = static_cast<uint8_t>(Protocol::icmp6),
                            .ttl = wire::kNdHopLimit,
                            .payload_length = length});
  wire::write_router_solicitation(l4, mac);
  wire::finish_checksum(l4, length, 0, 0, from, all_routers(), Protocol::icmp6);
  counters.add(Counter::nd_tx);
  control_.commit();
}

bool StackCore::neighbor_failed(NeighborHandle handle) noexcept {
  const NeighborTable::View v = neighbors_.view(handle.index, now_);
  if (!routers_.unreachable(v.address, v.interface)) return false;
  neighbors_.forget_handles();
  if (v.address.is_v4()) return true;  // what was redirected there goes by the routes again
  RouterDiscovery::Way way;
  return routers_.find(v.address, &way) && way.next_hop != v.address;
}

bool StackCore::learned_way(const IpAddress& destination, RouteChoice routes,
                            RouterDiscovery::Way* out) const noexcept {
  if (routers_.redirected(destination, out)) return true;
  if (destination.is_v4() || !routers_.active() || !routers_.find(destination, out)) return false;
  // What the operator has written gives way to longer prefixes only.
  return routes.empty() || routes.front().destination.length < out->prefix_length;
}

}  // namespace postern
