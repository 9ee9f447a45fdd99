// Looking in: `postern ss`, `postern neigh`, getsockname.
#include <algorithm>

#include "stack/core.h"

namespace postern {
namespace {

Prefix network_of(Prefix p) {
  for (unsigned bit = p.length; bit < 128; ++bit) {
    p.address.data()[bit / 8] &= static_cast<uint8_t>(~(0x80U >> bit % 8));
  }
  return p;
}

}  // namespace

SocketInfo StackCore::describe(const Socket& socket) const noexcept {
  SocketInfo info;
  info.socket = {socket.app, socket.slot, socket.generation};
  info.orphan = socket.closed || !socket.owned ? 1 : 0;
  info.receive_queue = socket.rx.unread();
  switch (socket.kind) {
    case SocketKind::udp: {
      const auto& udp = static_cast<const UdpSocket&>(socket);
      const UdpBinding& binding = udp_table_.binding(udp_.index_of(&udp));
      info.protocol = static_cast<uint8_t>(Protocol::udp);
      info.local = binding.local;
      info.remote = binding.remote;
      info.send_queue = udp.tx_tail - udp.tx_acked;
      break;
    }
    case SocketKind::listener: {
      const auto& listener = static_cast<const Listener&>(socket);
      info.protocol = static_cast<uint8_t>(Protocol::tcp);
      info.listening = true;
      info.state = TcpState::listen;
      info.local = listener.local;
      info.receive_queue = listener.unaccepted;
      info.backlog = listener.backlog;
      break;
    }
    default: {
      const auto& tcp = static_cast<const TcpSocket&>(socket);
      info.protocol = static_cast<uint8_t>(Protocol::tcp);
      info.state = tcp.tcp.state();
      info.local = {tcp.key.local, tcp.key.local_port};
      info.remote = {tcp.key.remote, tcp.key.remote_port};
      info.mss = tcp.tcp.mss();
      info.send_queue = tcp.tx.outstanding();
      break;
    }
  }
  return info;
}

// The cursor counts through listeners, then UDP sockets, then connections.
size_t StackCore::list_sockets(uint64_t* cursor, std::span<SocketInfo> out) const noexcept {
  size_t n = 0;
  uint64_t base = 0;
  const auto walk = [&](const auto& slab) {
    const uint64_t end = base + slab.capacity();
    while (*cursor < end && n < out.size()) {
      if (*cursor - base >= slab.high_water()) {
        *cursor = end;
        break;
      }
      const auto* socket = slab.at(static_cast<uint32_t>(*cursor - base));
      ++*cursor;
      if (socket != nullptr && !socket->dead) out[n++] = describe(*socket);
    }
    base = end;
  };
  if (*cursor == UINT64_MAX) return 0;
  walk(listeners_);
  walk(udp_);
  walk(tcp_);
  if (*cursor == base) *cursor = UINT64_MAX;
  return n;
}

size_t StackCore::list_neighbors(uint64_t* cursor, std::span<NeighborInfo> out,
                                 Time now) const noexcept {
  size_t n = 0;
  while (*cursor < neighbors_.capacity() && n < out.size()) {
    const NeighborTable::View v = neighbors_.view(static_cast<uint32_t>((*cursor)++), now);
    if (v.state == NeighborState::free || v.interface == interfaces_.loop()) continue;
    out[n++] = {v.address, v.mac, v.interface, neighbor_state_name(v.state),
                v.confirmed == Time{} ? Duration{} : now - v.confirmed};
  }
  if (*cursor >= neighbors_.capacity()) *cursor = UINT64_MAX;
  return n;
}

size_t StackCore::list_addresses(std::span<AddressInfo> out) const noexcept {
  size_t n = 0;
  const auto add = [&](const auto& v) {
    if (n < out.size()) out[n++] = {v.address, v.interface, address_state_name(v.state)};
  };
  for (size_t i = 0; i < nd_.size(); ++i) add(nd_.view(i));
  for (size_t i = 0; i < arp_.size(); ++i) add(arp_.view(i));
  return n;
}

size_t StackCore::list_learned_routes(std::span<LearnedRoute> out, Time now) const noexcept {
  const auto left = [now](Time until) { return until == kNever ? Duration::max() : until - now; };
  const Prefix everything{IpAddress{}, 0};
  size_t n = 0;
  for (const RouterDiscovery::OnLink& l : routers_.prefixes()) {
    if (n < out.size()) out[n++] = {l.prefix, {}, l.interface, false, left(l.until)};
  }
  for (const RouterDiscovery::Router& r : routers_.routers()) {
    if (n < out.size()) out[n++] = {everything, r.address, r.interface, r.silent, left(r.until)};
  }
  return n;
}

bool StackCore::learned_route(const IpAddress& destination, LearnedRoute* out) const noexcept {
  RouterDiscovery::Way way;
  if (!learned_way(destination, routes_->lookup(destination), &way)) return false;
  const bool direct = way.next_hop == destination;
  *out = {network_of({destination, way.prefix_length}), direct ? IpAddress{} : way.next_hop,
          way.interface, false, Duration::max()};
  return true;
}

bool StackCore::socket_info(SocketRef ref, SocketInfo* out) const noexcept {
  const Socket* socket = find_socket(ref);
  if (socket == nullptr) return false;
  *out = describe(*socket);
  return true;
}

bool StackCore::tcp_info(SocketRef ref, Time now, TcpInfo* out) const noexcept {
  const Socket* socket = find_socket(ref);
  if (socket == nullptr || socket->kind != SocketKind::tcp) return false;
  TcpContext ctx = ctx_;
  ctx.set_now(now);
  static_cast<const TcpSocket*>(socket)->tcp.info(ctx, *out);
  return true;
}

}  // namespace postern
