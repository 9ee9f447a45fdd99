// Egress: what has no socket first, then the ready sockets in turn.
#include <algorithm>
#include <cstring>

#include "stack/core.h"
#include "wire/build.h"

namespace postern {

bool StackCore::wants_egress() const noexcept {
  return !ready_.empty() || !control_.empty() || neighbors_.has_work() || cut_.socket != nullptr;
}

size_t StackCore::egress(Time now, std::span<TxFrame> frames) noexcept {
  set_now(now);
  known_way_.mtu = 0;  // neighbors and routes have come and gone
  known_neighbor_ = kNoNeighbor;
  size_t n = control_output(frames);
  // A visit may bring no frame (its neighbor is unknown, the engine was only asked): bounded too.
  for (size_t visits = frames.size() + kBurst; n < frames.size() && visits > 0; --visits) {
    if (cut_.socket != nullptr) {
      n += cut_output(frames.subspan(n));
      continue;
    }
    Socket* socket = ready_.front();
    if (socket == nullptr) break;
    const size_t turn = std::min<size_t>(frames.size() - n, kTurn);
    n += socket_output(*socket, frames.subspan(n, turn));
  }
  // Sockets may have begun to ask for neighbors.
  if (n < frames.size() && neighbors_.has_work()) n += control_output(frames.subspan(n));
  if (interfaces_.has_vlans()) {
    for (TxFrame& frame : frames.first(n)) {
      const Interface& interface = interfaces_[frame.interface];
      if (interface.vlan != 0) frame.interface = interface.port;
    }
  }
  reap();
  return n;
}

size_t StackCore::socket_output(Socket& socket, std::span<TxFrame> frames) noexcept {
  static_cast<ListNode<ReadyTag>&>(socket).unlink();  // those with more to say go to the end
  return socket.kind == SocketKind::tcp ? tcp_output(static_cast<TcpSocket&>(socket), frames)
                                        : udp_output(static_cast<UdpSocket&>(socket), frames);
}

// ---- frames without a socket ----

size_t StackCore::control_output(std::span<TxFrame> frames) noexcept {
  if (announcement_due() <= now_) announce();
  NeighborTable::Probe probe;
  while (control_.room() && neighbors_.next_probe(&probe)) send_probe(probe);
  size_t n = 0;
  TxFrame held;
  while (n < frames.size() && neighbors_.next_released(&held)) copy_frame(held, frames[n++]);
  while (n < frames.size() && !control_.empty()) {
    copy_frame(control_.front(), frames[n++]);
    control_.pop();
  }
  return n;
}

void StackCore::copy_frame(const TxFrame& from, TxFrame& to) noexcept {
  std::byte* const data = to.data;
  const uint32_t capacity = to.capacity;
  to = from;
  to.data = data;
  to.capacity = capacity;
  to.length = std::min(from.length, capacity);
  std::memcpy(data, from.data, to.length);
}

void StackCore::announce() noexcept {
  ArpResponder::Announcement announcement;
  while (control_.room() && arp_.next_announcement(now_, &announcement)) {
    send_arp(announcement.packet, kBroadcastMac, announcement.interface);
  }
  NdResponder::Message message;
  while (control_.room() && nd_.next_message(now_, &message)) send_nd(message);
  if (groups_.next_deadline() <= now_) send_group_messages();
  uint16_t interface = 0;
  while (control_.room() && routers_.next_solicitation(now_, &interface)) {
    solicit_routers(interface);
  }
}

void StackCore::send_probe(const NeighborTable::Probe& probe) noexcept {
  if (!probe.address.is_v4()) return solicit(probe);
  const Interface& interface = interfaces_[probe.interface];
  const IpAddress* source = interfaces_.select_source(probe.address, probe.interface);
  if (source == nullptr) return;
  send_arp({wire::ArpPacket::kRequest, interface.mac, *source, MacAddress{}, probe.address},
           probe.mac.is_zero() ? kBroadcastMac : probe.mac, probe.interface);
}

TxFrame* StackCore::begin_control() noexcept { return control_.begin(); }

// Ethernet and IP headers of a frame whose neighbor is still to be looked up. Returns where the
// transport header goes.
std::byte* StackCore::begin_ip(TxFrame& frame, uint16_t interface, const MacAddress& destination,
                               const wire::IpFields& fields) noexcept {
  const bool is_v6 = !fields.source.is_v4();
  const Interface& link = interfaces_[interface];
  const size_t l2 =
      wire::write_ethernet(frame.data, destination, link.mac,
                           is_v6 ? wire::ether_type::ipv6 : wire::ether_type::ipv4, link.vlan);
  const size_t l3 = wire::write_ip(frame.data + l2, fields);
  frame.interface = interface;
  frame.tso_mss = 0;
  frame.l2_length = static_cast<uint8_t>(l2);
  frame.l3_length = static_cast<uint8_t>(l3);
  frame.l4_length = 0;
  frame.protocol = fields.protocol;
  frame.is_v6 = is_v6;
  frame.needs_ip_checksum = fields.offload_checksum && !is_v6;
  frame.needs_l4_checksum = false;
  frame.length = static_cast<uint32_t>(l2 + l3 + fields.payload_length);
  return frame.data + l2 + l3;
}

std::byte* StackCore::begin_fragment(TxFrame& frame, uint16_t interface, wire::IpFields fields,
                                     const FragmentPlace& place) noexcept {
  counters.add(Counter::ip_fragments_tx);
  fields.payload_length = place.length;
  if (fields.source.is_v4()) {
    fields.id = static_cast<uint16_t>(place.id);
    fields.fragment_offset = static_cast<uint16_t>(place.offset);
    fields.more_fragments = place.more;
    return begin_ip(frame, interface, MacAddress{}, fields);
  }
  const uint8_t next = fields.protocol;
  fields.protocol = wire::kFragmentProtocol;
  fields.payload_length += static_cast<uint32_t>(sizeof(wire::Ipv6Fragment));
  std::byte* const out = begin_ip(frame, interface, MacAddress{}, fields);
  return out + wire::write_fragment_header(out, next, place.offset, place.more, place.id);
}

// The frame is complete but for its destination: sends it, holds it for the neighbor, or drops it.
void StackCore::finish_control(TxFrame& frame, const IpAddress& destination) noexcept {
  Path path;
  if (const int error = find_path(destination, &path, frame.interface); error != 0) {
    return counters.drop(drop_of_route(error));
  }
  set_interface(frame, path.interface);
  if (place_frame(frame, path)) control_.commit();
}

// The frame leaves by another interface than it was written for.
void StackCore::set_interface(TxFrame& frame, uint16_t interface) noexcept {
  if (frame.interface == interface) return;
  const Interface& link = interfaces_[interface];
  const size_t before = frame.l2_length;
  const uint16_t type = frame.is_v6 ? wire::ether_type::ipv6 : wire::ether_type::ipv4;
  const size_t l2 = sizeof(wire::EthernetHeader) + (link.vlan != 0 ? sizeof(wire::VlanTag) : 0);
  std::memmove(frame.data + l2, frame.data + before, frame.length - before);
  wire::write_ethernet(frame.data, MacAddress{}, link.mac, type, link.vlan);
  frame.l2_length = static_cast<uint8_t>(l2);
  frame.length = static_cast<uint32_t>(frame.length - before + l2);
  frame.interface = interface;
}

bool StackCore::place_frame(TxFrame& frame, const Path& path) noexcept {
  switch (path.resolution) {
    case NeighborTable::Resolution::resolved:
      std::memcpy(frame.data, neighbors_.mac(path.neighbor).bytes.data(), 6);
      return true;
    case NeighborTable::Resolution::pending:
      if (neighbors_.hold(path.neighbor, frame)) counters.drop(Drop::neighbor_queue_full);
      return false;
    case NeighborTable::Resolution::failed:
      counters.drop(Drop::neighbor_unreachable);
      return false;
    default:
      counters.drop(Drop::neighbor_table_full);
      return false;
  }
}

}  // namespace postern
