// Datagrams into frames, in fragments where they exceed the MTU (RFC 791 3.2, RFC 8200 4.5).
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checksum.h"
#include "stack/common_frame.h"
#include "stack/core.h"
#include "udp/datagram.h"
#include "wire/build.h"

namespace postern {
namespace {

constexpr uint32_t kUdpHeader = 8;

}  // namespace

size_t StackCore::udp_output(UdpSocket& socket, std::span<TxFrame> frames) noexcept {
  const UdpSender sender{apps_[socket.app].memory().tx_pool,
                         udp_table_.binding(udp_.index_of(&socket)).local.port};
  size_t n = 0;
  for (size_t tries = 0; tries < kTurn && n < frames.size(); ++tries) {
    if (socket.send_head == kNoIndex) break;
    UdpSend& item = udp_sends_[socket.send_head];
    if (udp_common(socket, sender, item, frames[n])) {
      ++n;
      udp_sent(socket);
      continue;
    }
    bool done = true;
    if (udp_frame(socket, item, frames[n], &done)) ++n;
    if (done) udp_sent(socket);
    if (static_cast<ListNode<ReadyTag>&>(socket).is_linked()) break;  // waits for its neighbor
  }
  tell_acked(socket, socket.tx_acked, socket.tx_tail - socket.tx_acked);
  if (socket.send_head != kNoIndex) {
    make_ready(socket);
  } else if (socket.closed) {
    udp_drained(socket);
  }
  return n;
}

bool StackCore::udp_common(const UdpSocket& socket, const UdpSender& sender, const UdpSend& item,
                           TxFrame& frame) noexcept {
  const KnownWay& way = known_way_;
  if (way.to != item.remote.address || way.asked != item.local || way.zone != item.zone ||
      item.sent != 0 || kCommonL4 - kCommonL3 + kCommonUdp + item.length > way.mtu ||
      socket.mtu_discover == MtuDiscover::probe) {
    return false;
  }
  const Interface& interface = interfaces_[way.interface];
  const TxOffloads& offloads = interface.offloads;
  const std::byte* const payload = sender.payloads + item.offset;
  std::byte* const out = frame.data + kCommonL4 + kCommonUdp;
  uint32_t sum = 0;
  if (offloads.l4_checksum == L4Checksum::software) {
    sum = copy_and_checksum(out, payload, item.length);
  } else {
    std::memcpy(out, payload, item.length);
  }
  const uint8_t ttl = item.ttl != 0 ? item.ttl : socket.ttl;
  write_common_datagram(frame.data, {way.source, sender.port, item.remote, item.length}, sum,
                        offloads.l4_checksum,
                        {.destination = way.mac,
                         .source = interface.mac,
                         .id = next_ip_id(),
                         .tos = item.tos != 0 ? item.tos : socket.tos,
                         .ttl = ttl != 0 ? ttl : default_ttl(way.interface, false),
                         .dont_fragment = socket.mtu_discover != MtuDiscover::dont,
                         .offload_ip_checksum = offloads.ip_checksum});
  describe_common(frame, Protocol::udp, kCommonUdp, offloads);
  frame.interface = way.interface;
  frame.length = kCommonL4 + kCommonUdp + item.length;
  counters.add(Counter::udp_tx_datagrams);
  return true;
}

// The datagram at the head of the queue is gone: its storage belongs to the application again.
void StackCore::udp_sent(UdpSocket& socket) noexcept {
  UdpSend& item = udp_sends_[socket.send_head];
  socket.tx_acked += item.record_bytes;
  socket.send_head = item.next;
  if (socket.send_head == kNoIndex) socket.send_tail = kNoIndex;
  --socket.send_count;
  udp_sends_.destroy(&item);
}

int StackCore::udp_route(const UdpSocket& socket, const UdpSend& item, Path* path,
                         IpAddress* source) noexcept {
  const IpAddress& to = item.remote.address;
  FlowKey flow;
  const bool choose = routes_->shares();
  if (choose) {
    const uint16_t port = udp_table_.binding(udp_.index_of(&socket)).local.port;
    flow = FlowKey(item.remote, {item.local, port}, static_cast<uint8_t>(Protocol::udp));
  }
  NextHop hop;
  const int error = is_many(to) ? many_hop(socket, item, &hop)
                                : next_hop(to, link_of(item.zone), &hop, choose ? &flow : nullptr);
  if (error != 0) return error;
  path->interface = hop.interface;
  path->many = to.is_multicast() || interfaces_.is_broadcast(to, hop.interface);
  if (!path->many) {
    path->resolution = neighbors_.resolve(hop.address, hop.interface, now_, &path->neighbor);
  } else if (!to.is_multicast() && !socket.broadcast) {
    return EACCES;
  }
  *source = item.local;
  if (!source->is_any()) return 0;
  const IpAddress* chosen = source_for(to, {path->interface, to});
  if (chosen == nullptr) return EADDRNOTAVAIL;
  *source = *chosen;
  return 0;
}

bool StackCore::udp_frame(UdpSocket& socket, UdpSend& item, TxFrame& frame, bool* done) noexcept {
  Path path;
  IpAddress source;
  if (const int error = udp_route(socket, item, &path, &source); error != 0) {
    if (error != EACCES) counters.drop(drop_of_route(error));
    tell_error(socket, error);
    return false;
  }
  const bool is_v6 = !item.remote.address.is_v4();
  const MtuDiscover discover = socket.mtu_discover;
  const uint32_t mtu = discover == MtuDiscover::probe
                           ? interfaces_[path.interface].mtu_of(is_v6)
                           : mtu_towards(item.remote.address, path.interface);
  const uint32_t total = kUdpHeader + item.length;
  const bool whole = item.sent == 0 && total <= mtu - (is_v6 ? 40U : 20U);
  if (!whole && discover >= MtuDiscover::only) {
    if (wants_errors(socket, item.remote.address)) {
      queue_local_error(socket, item.remote, EMSGSIZE, mtu);
    }
    tell_error(socket, EMSGSIZE);
    return false;
  }
  // Only few frames are held for a neighbor: fragments wait in the queue.
  if (!whole && path.resolution == NeighborTable::Resolution::pending) {
    waiting_[path.neighbor.index].push_back(socket);
    *done = false;
    return false;
  }
  const TxOffloads& offloads = interfaces_[path.interface].offloads;
  // To a group 0 is a TTL too: it stays here.
  const uint8_t ttl = item.remote.address.is_multicast() ? socket.group_ttl
                      : socket.ttl != 0                  ? socket.ttl
                                                         : default_ttl(path.interface, is_v6);
  wire::IpFields fields{.source = source,
                        .destination = item.remote.address,
                        .protocol = static_cast<uint8_t>(Protocol::udp),
                        .ttl = item.ttl != 0 ? item.ttl : ttl,
                        .tos = item.tos != 0 ? item.tos : socket.tos,
                        .dont_fragment = whole && discover != MtuDiscover::dont,
                        .payload_length = total,
                        .offload_checksum = offloads.ip_checksum};
  // `sent` counts bytes of the IP payload, the UDP header included.
  const uint32_t offset = item.sent;
  uint32_t here = total;
  std::byte* l4;
  if (whole) {
    fields.id = next_ip_id();
    l4 = begin_ip(frame, path.interface, MacAddress{}, fields);
  } else {
    if (offset == 0) item.id = fragment_id(is_v6);
    here = std::min(total - offset, fragment_room(mtu, is_v6));
    l4 = begin_fragment(frame, path.interface, fields,
                        {offset, here, offset + here < total, item.id});
  }
  item.sent += here;
  *done = item.sent == total;
  frame.l4_length = kUdpHeader;
  const bool by_device = offloads.l4_checksum == L4Checksum::device;
  udp_payload(socket, item, offset, here, l4, source, frame,
              by_device && !whole ? L4Checksum::software : offloads.l4_checksum);
  if (*done) counters.add(Counter::udp_tx_datagrams);
  if (!path.many) {
    if (path.resolution == NeighborTable::Resolution::resolved && !is_v6 && !routes_->shares() &&
        interfaces_[path.interface].vlan == 0) {
      known_way_ = {
          item.remote.address,          item.local, source, mtu, path.interface, item.zone,
          neighbors_.mac(path.neighbor)};
    }
    return place_frame(frame, path);
  }
  if (offset == 0) loop_to_members(socket, item, source, path.interface);
  std::memcpy(frame.data, many_mac(item.remote.address).bytes.data(), 6);
  return fields.ttl != 0;  // RFC 1112 6.1: one of 0 does not leave the host
}

// Bytes [offset, offset + n) of UDP header and payload to `out`.
void StackCore::udp_payload(UdpSocket& socket, const UdpSend& item, uint32_t offset, uint32_t n,
                            std::byte* out, const IpAddress& source, TxFrame& frame,
                            L4Checksum by) noexcept {
  const std::byte* const payload = apps_[socket.app].memory().tx_pool + item.offset;
  if (offset != 0) {
    std::memcpy(out, payload + offset - kUdpHeader, n);
    return;
  }
  const UdpBinding& binding = udp_table_.binding(udp_.index_of(&socket));
  wire::write_udp(out, binding.local.port, item.remote.port, item.length);
  const uint32_t here = n - kUdpHeader;
  const uint32_t total = kUdpHeader + item.length;
  if (by != L4Checksum::software) {
    std::memcpy(out + kUdpHeader, payload, here);
    if (by == L4Checksum::none) return;
    frame.needs_l4_checksum = true;
    wire::offload_checksum(out, source, item.remote.address, Protocol::udp, total);
    return;
  }
  // The checksum stands in the first fragment and covers all of them; `here` is even then.
  uint32_t sum = copy_and_checksum(out + kUdpHeader, payload, here);
  if (here < item.length) sum = checksum_add({payload + here, item.length - here}, sum);
  wire::finish_checksum(out, kUdpHeader, sum, item.length, source, item.remote.address,
                        Protocol::udp);
}

}  // namespace postern
