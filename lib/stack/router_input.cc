// Routers: what they advertise (RFC 4861 6.3), better ways that they know (8.3), and what to do
// when one is silent (7.3).
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
  RouterDiscovery::Way way;
  return routers_.find(v.address, &way) && way.next_hop != v.address;
}

bool StackCore::learned_way(const IpAddress& destination, RouteChoice routes,
                            RouterDiscovery::Way* out) const noexcept {
  if (!routers_.active()) return false;
  if (routers_.redirected(destination, out)) return true;
  if (!routers_.find(destination, out)) return false;
  // What the operator has written gives way to longer prefixes only.
  return routes.empty() || routes.front().destination.length < out->prefix_length;
}

}  // namespace postern
