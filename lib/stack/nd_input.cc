// IPv6 neighbor discovery: RFC 4861, 4862.
#include <algorithm>

#include "ip/ipv6.h"
#include "stack/core.h"
#include "wire/build.h"
#include "wire/nd.h"

namespace postern {

// IPv6 addresses are asked for before they are ours; where there is one, there is a link-local one
// too (RFC 4291 2.8).
void StackCore::add_addresses(const StackConfig& config) {
  constexpr uint8_t kLinkLocalPrefix = 64;
  for (uint16_t i = 0; i < config.interfaces.size(); ++i) {
    std::vector<Prefix> wanted;
    for (const Prefix& prefix : config.interfaces[i].addresses) {
      if (!prefix.address.is_v4()) wanted.push_back(prefix);
      if (!prefix.address.is_v4() || config.neighbors.arp_probes == 0) continue;
      interfaces_.reserve(i, 1);
      arp_.add(prefix, i);
    }
    if (wanted.empty() && !config.interfaces[i].accept_ra) continue;
    const auto link_local = [](const Prefix& p) { return p.address.is_link_local(); };
    if (std::none_of(wanted.begin(), wanted.end(), link_local)) {
      const Prefix own{link_local_address(config.interfaces[i].mac), kLinkLocalPrefix};
      wanted.push_back(own);
    }
    interfaces_.reserve(i, wanted.size());
    for (const Prefix& prefix : wanted) {
      nd_.add(prefix, i);
      // RFC 4862 5.4.2: before it is asked for. Of several with one group all but the first are
      // told that we are a member.
      (void)groups_.change(GroupTable::Change::join, GroupTable::kHost,
                           solicited_node(prefix.address), i, {}, Time{});
    }
  }
  neighbors_.reserve_interfaces(config.interfaces.size());
  for (uint16_t i = 0; i < config.interfaces.size(); ++i) {
    routers_.add(i, {config.interfaces[i].accept_ra, config.interfaces[i].identifier_key});
  }
}

Drop StackCore::nd_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  wire::NdMessage nd;
  if (const Drop drop = wire::read_nd(packet, p, &nd); drop != Drop::none) return drop;
  if (nd.type == wire::icmp6::neighbor_advertisement) except_answer(packet, p);
  const NdResponder::Answer answer = nd_.input(nd, p.source, p.mac_source, p.interface, now_);
  if (answer.drop == Drop::none) counters.add(Counter::nd_rx);
  if (answer.drop == Drop::nd_conflict) routers_.retry_duplicates(now_);
  // RFC 4861 7.2.5: one that is a router no more.
  if (nd.type == wire::icmp6::neighbor_advertisement && !nd.router &&
      routers_.no_router(nd.target, p.interface)) {
    neighbors_.forget_handles();
  }
  if (answer.send) send_nd(answer.message);
  return answer.drop;
}

void StackCore::send_nd(const NdResponder::Message& m) noexcept {
  TxFrame* frame = begin_control();
  if (frame == nullptr) return;
  const uint32_t length = m.nd.has_mac ? wire::kMaxNdMessage : wire::kMaxNdMessage - 8;
  std::byte* l4 = begin_ip(*frame, m.interface, m.mac,
                           {.source = m.source,
                            .destination = m.destination,
                            .protocol = static_cast<uint8_t>(Protocol::icmp6),
                            .ttl = wire::kNdHopLimit,
                            .payload_length = length});
  wire::write_nd(l4, m.nd);
  wire::finish_checksum(l4, length, 0, 0, m.source, m.destination, Protocol::icmp6);
  counters.add(Counter::nd_tx);
  if (m.mac.is_zero()) return finish_control(*frame, m.destination);
  control_.commit();
}

// RFC 4861 7.2.2 and 7.3.3: the group while the MAC is unknown, the neighbor itself to see whether
// it is still there.
void StackCore::solicit(const NeighborTable::Probe& probe) noexcept {
  const IpAddress* source = interfaces_.select_source(probe.address, probe.interface);
  if (source == nullptr) return;  // all are tentative still
  NdResponder::Message m;
  m.nd.target = probe.address;
  m.nd.has_mac = true;
  m.nd.mac = interfaces_[probe.interface].mac;
  m.source = *source;
  m.destination = probe.mac.is_zero() ? solicited_node(probe.address) : probe.address;
  m.mac = probe.mac.is_zero() ? multicast_mac(m.destination) : probe.mac;
  m.interface = probe.interface;
  send_nd(m);
}

}  // namespace postern
