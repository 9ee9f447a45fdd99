// Packets for several: to groups (RFC 1112, 3376, 3810) and to broadcast addresses (RFC 919, 1122
// 3.3.6), received, sent, and come back to members on this host.
#include "wire/group.h"

#include <algorithm>
#include <cerrno>

#include "ip/ipv6.h"
#include "stack/core.h"
#include "wire/build.h"

namespace postern {
namespace {

constexpr IpAddress kAllHosts = IpAddress::v4(0xe0000001);

}  // namespace

// ---- received ----

Drop StackCore::check_many(const ParsedPacket& p) const noexcept {
  if (p.is_v6) {
    const bool member =
        p.destination.is_multicast() && (nd_.is_member(p.destination, p.interface) ||
                                         groups_.is_member(p.destination, p.interface));
    return member && p.kind != PacketKind::tcp ? Drop::none : Drop::ip6_not_ours;
  }
  const bool ours = interfaces_.is_broadcast(p.destination, p.interface) ||
                    p.destination == kAllHosts || groups_.is_member(p.destination, p.interface);
  // RFC 1122 3.2.1.3: TCP is never taken from broadcasts or groups.
  return ours && p.kind != PacketKind::tcp ? Drop::none : Drop::ip4_not_ours;
}

// The destination is no address of ours.
Drop StackCore::dispatch_to_many(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (const Drop drop = check_many(p); drop != Drop::none) {
    return p.destination.is_multicast() ? except(packet, p, drop) : drop;
  }
  if (interfaces_.is_broadcast(p.source, p.interface)) return Drop::ip4_bad_source;
  if (p.kind != PacketKind::icmp && forged(p)) return Drop::ip_source_ours;
  if (p.fragment) return fragment_input(packet, p);
  if (p.kind == PacketKind::udp) {
    const Drop drop = udp_to_many(packet, p);
    return drop == Drop::udp_no_socket ? except(packet, p, drop) : drop;
  }
  return p.kind == PacketKind::icmp ? icmp_input(packet, p) : group_input(packet, p);
}

// Every socket that wants it gets a copy, whoever's it is. Nobody is told that there was none (RFC
// 1122 3.2.2).
Drop StackCore::udp_to_many(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const bool group = p.destination.is_multicast();
  Drop why = Drop::udp_no_socket;
  uint32_t copies = 0;
  const auto visit = [&](uint32_t index) {
    UdpSocket& socket = udp_[index];
    if (group && !groups_.wants(index, p.destination, p.interface, p.source, socket.group_others)) {
      if (why == Drop::udp_no_socket) why = Drop::udp_source_filtered;
      return;
    }
    const Drop drop = udp_deliver(socket, packet, p);
    if (drop == Drop::none) {
      ++copies;
    } else if (copies != 0) {
      counters.drop(drop);
    } else {
      why = drop;
    }
  };
  udp_table_.for_each({p.destination, p.destination_port}, {p.source, p.source_port}, visit);
  counters.add(Counter::udp_group_copies, copies);
  return copies != 0 ? Drop::none : why;
}

// IGMP and MLD; what is neither has no parser here.
Drop StackCore::group_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const bool igmp = !p.is_v6 && p.protocol == wire::kIgmpProtocol;
  if (!igmp && p.kind != PacketKind::icmp) return except(packet, p, Drop::ip_unknown_protocol);
  wire::GroupMessage kind;
  wire::GroupQuery query;
  IpAddress group;
  const Drop drop = wire::read_group_message(packet, p, &kind, &query, &group);
  if (drop != Drop::none) return drop;
  if (kind == wire::GroupMessage::query) {
    counters.add(Counter::group_queries_rx);
    groups_.on_query(query, p.is_v6, p.interface, now_);
    return except(packet, p, Drop::none);  // the kernel beside us may be asked as well
  } else if (kind == wire::GroupMessage::old_report) {
    groups_.on_old_report(group, p.interface);
  }
  return Drop::none;
}

// ---- membership ----

int StackCore::change_group(SocketRef ref, GroupTable::Change change, const IpAddress& group,
                            uint16_t interface, const IpAddress& source, Time now) noexcept {
  set_now(now);
  auto* socket = find_kind<UdpSocket>(ref, SocketKind::udp);
  if (socket == nullptr || socket->closed) return ESTALE;
  return groups_.change(change, udp_.index_of(socket), group, interface, source, now);
}

void StackCore::send_group_messages() noexcept {
  GroupTable::Output output;
  while (control_.room() && groups_.next_output(now_, &output)) send_group_message(output);
}

// RFC 3376 4.2.13, RFC 3810 5.2.13: from an address of the interface, of IPv6 a link-local one,
// from none while there is none.
void StackCore::send_group_message(const GroupTable::Output& output) noexcept {
  const Interface& link = interfaces_[output.interface];
  IpAddress source = output.is_v6 ? IpAddress{} : IpAddress::v4(0);
  for (const Prefix& prefix : link.addresses) {
    const IpAddress& a = prefix.address;
    if (a.is_v4() == output.is_v6 || !source.is_any()) continue;
    if (a.is_v4() || a.is_link_local()) source = a;
  }
  TxFrame& frame = *begin_control();
  const size_t l2 = sizeof(wire::EthernetHeader) + (link.vlan != 0 ? sizeof(wire::VlanTag) : 0);
  const std::span<std::byte> room{frame.data + l2, std::min<size_t>(link.mtu, frame.capacity - l2)};
  IpAddress destination;
  size_t length = 0;
  if (output.old) {
    length =
        wire::write_old_group_message(room, output.message, source, output.group, &destination);
  } else {
    wire::GroupReportWriter writer(room, source);
    groups_.fill(output, writer, now_);
    if (writer.empty()) return;
    destination = writer.destination();
    length = writer.finish();
  }
  wire::write_ethernet(frame.data, multicast_mac(destination), link.mac,
                       output.is_v6 ? wire::ether_type::ipv6 : wire::ether_type::ipv4, link.vlan);
  frame.interface = output.interface;
  frame.l2_length = static_cast<uint8_t>(l2);
  frame.is_v6 = output.is_v6;
  frame.length = static_cast<uint32_t>(l2 + length);
  control_.commit();
  counters.add(Counter::group_reports_tx);
}

// ---- sent ----

// By the interface that the datagram says, else the one that the socket chose, else by that of the
// source address, else by the route; where no route says anything, by the first interface of the
// family.
int StackCore::many_hop(const UdpSocket& socket, const UdpSend& item, NextHop* out) const noexcept {
  const IpAddress& to = item.remote.address;
  const auto has = [](const Interface& link, auto predicate) {
    return std::any_of(link.addresses.begin(), link.addresses.end(), predicate);
  };
  const uint16_t said = item.zone != 0 ? item.zone : socket.group_interface;
  *out = {0, to};
  if (said != 0 && said <= interfaces_.size() && to.is_multicast()) {
    out->interface = static_cast<uint16_t>(said - 1);
    return 0;
  }
  for (uint16_t i = 0; i < interfaces_.size() && !item.local.is_any(); ++i) {
    if (!has(interfaces_[i], [&](const Prefix& p) { return p.address == item.local; })) continue;
    out->interface = i;
    return 0;
  }
  const RouteChoice choice = routes_->lookup(to);
  if (!choice.empty() && choice.data()->kind == RouteKind::unicast) {
    out->interface = choice.data()->interface;
    return 0;
  }
  for (uint16_t i = 0; i < interfaces_.size(); ++i) {
    if (!has(interfaces_[i], [&](const Prefix& p) { return p.address.is_v4() == to.is_v4(); })) {
      continue;
    }
    out->interface = i;
    return 0;
  }
  return ENETUNREACH;
}

MacAddress StackCore::many_mac(const IpAddress& destination) const noexcept {
  return destination.is_multicast() ? multicast_mac(destination) : kBroadcastMac;
}

// RFC 1112 6.1: a host that is a member of the group hears itself, unless the socket says no.
void StackCore::loop_to_members(const UdpSocket& socket, const UdpSend& item,
                                const IpAddress& source, uint16_t interface) noexcept {
  const bool group = item.remote.address.is_multicast();
  if (group && (!socket.group_loop || !groups_.is_member(item.remote.address, interface))) return;
  RxPacket packet;
  packet.data = apps_[socket.app].memory().tx_pool + item.offset;
  packet.length = item.length;
  packet.interface = interface;
  ParsedPacket p;
  p.kind = PacketKind::udp;
  p.protocol = static_cast<uint8_t>(Protocol::udp);
  const uint8_t own_ttl = group ? socket.group_ttl : socket.ttl;
  p.ttl = item.ttl != 0 ? item.ttl : own_ttl;
  if (!group && p.ttl == 0) p.ttl = default_ttl(interface, !source.is_v4());
  p.tos = item.tos != 0 ? item.tos : socket.tos;
  p.is_v6 = !source.is_v4();
  p.interface = interface;
  p.source = source;
  p.destination = item.remote.address;
  p.source_port = udp_table_.binding(udp_.index_of(&socket)).local.port;
  p.destination_port = item.remote.port;
  p.payload_length = item.length;
  const Drop drop = udp_to_many(packet, p);
  if (drop != Drop::none && drop != Drop::udp_no_socket) counters.drop(drop);
}

}  // namespace postern
