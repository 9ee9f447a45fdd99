// How connections begin: SYNs for listeners, connect(), numbers and ports that cannot be guessed.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/hash.h"
#include "stack/core.h"

namespace postern {
namespace {

uint64_t keyed(const std::array<uint64_t, 2>& key, const FlowKey& tuple) {
  return siphash24(key, std::as_bytes(std::span(&tuple, 1)));
}

}  // namespace

// RFC 6528: ISN = M + F(tuple, secret), M a clock of 4 microseconds. The offset of the timestamp
// clock is kept secret in the same way (RFC 7323 5.4), constant for a tuple, so that TIME-WAIT can
// tell old segments from new ones.
void StackCore::set_initial_numbers(TcpContext& ctx, const FlowKey& key) noexcept {
  const uint64_t f = keyed(isn_key_, key);
  const auto m = static_cast<uint64_t>(now_.time_since_epoch().count()) / 4000;
  ctx.isn = static_cast<uint32_t>(f + m);
  ctx.ts_offset = static_cast<uint32_t>(f >> 32);
}

uint16_t StackCore::path_mss(uint16_t interface, bool is_v6) const noexcept {
  const uint32_t headers = (is_v6 ? 40 : 20) + 20;
  const auto mss = static_cast<uint16_t>(interfaces_[interface].mtu_of(is_v6) - headers);
  return is_v6 ? mss : std::min(mss, config_.tcp.mss_ipv4);
}

uint32_t StackCore::segment_burst(const TcpSocket& socket) const noexcept {
  return interfaces_[socket.interface].offloads.tso ? kTsoBytes : kCutBytes;
}

// RFC 1191 6.3: what is known of the path holds for its next connection too.
void StackCore::apply_path_mtu(TcpSocket& socket, TcpContext& ctx) noexcept {
  const uint32_t mtu = path_mtu_.find(socket.key.remote, now_);
  if (mtu == 0) return;
  socket.tcp.on_path_mtu(ctx, static_cast<uint16_t>(mtu - (socket.is_v4 ? 20 : 40) - 20));
}

// ---- passive ----

// isn_given: replaces a connection in TIME-WAIT, the ISN must lie beyond what that one used.
Drop StackCore::tcp_passive_open(Listener& listener, const ParsedPacket& p, const TcpSegment& syn,
                                 uint32_t isn, bool isn_given) noexcept {
  if (p.mac_destination.is_multicast()) return Drop::tcp_no_socket;
  if (listener.unaccepted >= listener.backlog) return Drop::tcp_backlog_full;
  if (!isn_given && handshakes_full(listener)) return send_cookie(listener, p, syn);
  const FlowKey key(p.source, p.source_port, p.destination, p.destination_port, p.protocol);
  Drop why = Drop::none;
  TcpSocket* socket = create_child(listener, p, key, &why);
  if (socket == nullptr) return why;
  TcpContext& ctx = tcp_context(*socket);
  set_initial_numbers(ctx, key);
  if (isn_given) ctx.isn = isn;
  inherit_options(listener, socket->tcp, ctx);
  socket->tcp.open_passive(ctx, syn, path_mss(socket->interface, p.is_v6));
  apply_path_mtu(*socket, ctx);
  settle(*socket);
  return Drop::none;
}

// A connection in handshake, closed still.
TcpSocket* StackCore::create_child(Listener& listener, const ParsedPacket& p, const FlowKey& key,
                                   Drop* why) noexcept {
  NextHop hop;
  if (const int error = next_hop(p.source, p.interface, &hop, &key); error != 0) {
    *why = drop_of_route(error);
    return nullptr;
  }
  *why = Drop::tcp_table_full;
  TcpSocket* socket = create_tcp();
  if (socket == nullptr) return nullptr;
  if (!claim_tuple(*socket, key)) {
    destroy_unused(*socket);
    return nullptr;
  }
  socket->interface = hop.interface;
  socket->tos = listener.tos;
  socket->ttl = listener.ttl != 0 ? listener.ttl : default_ttl(hop.interface, p.is_v6);
  socket->listener = listeners_.handle_of(&listener);
  socket->opened = true;
  socket->network_done = false;
  socket->counted_backlog = true;
  ++listener.syn_received;
  ++handshakes_;
  listener.children.push_back(*socket);
  return socket;
}

// As on Linux: all that was set on the listener, QUICKACK excepted.
void StackCore::inherit_options(const Listener& listener, TcpConnection& tcp,
                                TcpContext& ctx) noexcept {
  for (size_t i = 0; i < kTcpOptionCount; ++i) {
    if ((listener.options_set >> i & 1) == 0) continue;
    (void)tcp.set_option(ctx, static_cast<TcpOption>(i), listener.options[i]);
  }
}

bool StackCore::claim_tuple(TcpSocket& socket, const FlowKey& key) noexcept {
  socket.key = key;
  socket.is_v4 = key.local.is_v4();
  socket.in_flow_table = flows_.insert(key, tcp_.index_of(&socket), key_of());
  return socket.in_flow_table;
}

// ---- active ----

int StackCore::tcp_active_open(TcpSocket& socket, const Endpoint& local, const Endpoint& remote,
                               uint16_t zone) noexcept {
  if (remote.port == 0 || remote.address.is_any()) return ECONNREFUSED;
  if (remote.address.is_multicast()) return ENETUNREACH;
  NextHop hop;
  if (const int error = next_hop(remote.address, link_of(zone), &hop); error != 0) return error;
  if (interfaces_.is_broadcast(remote.address, hop.interface)) return EACCES;
  Endpoint from = local;
  if (from.address.is_any()) {
    const IpAddress* source = source_for(remote.address, hop);
    if (source == nullptr) return EADDRNOTAVAIL;
    from.address = *source;
  } else if (!interfaces_.is_local(from.address)) {
    return EADDRNOTAVAIL;
  }
  if (from.address.is_v4() != remote.address.is_v4()) return EAFNOSUPPORT;
  socket.interface = hop.interface;
  if (socket.ttl == 0) socket.ttl = default_ttl(hop.interface, !remote.address.is_v4());
  TcpContext& ctx = tcp_context(socket);
  bool reused = false;
  if (const int error = choose_port(socket, from, remote, &ctx.isn, &reused); error != 0) {
    return error;
  }
  const uint32_t isn = ctx.isn;
  set_initial_numbers(ctx, socket.key);
  if (reused) ctx.isn = isn;
  socket.opened = true;
  socket.network_done = false;
  socket.tcp.open_active(ctx, path_mss(hop.interface, !remote.address.is_v4()));
  apply_path_mtu(socket, ctx);
  return 0;
}

// RFC 6056 3.3.4: an offset that is fixed and secret for each destination, plus a counter.
int StackCore::choose_port(TcpSocket& socket, const Endpoint& local, const Endpoint& remote,
                           uint32_t* isn, bool* reused) noexcept {
  if (local.port != 0) {
    const FlowKey key(remote, local, static_cast<uint8_t>(Protocol::tcp));
    return try_tuple(socket, key, isn, reused) ? 0 : EADDRNOTAVAIL;
  }
  const uint32_t range = uint32_t{config_.ephemeral_last} - config_.ephemeral_first + 1;
  const FlowKey portless(remote, local, static_cast<uint8_t>(Protocol::tcp));
  const auto offset = static_cast<uint32_t>(keyed(port_key_, portless) % range);
  const uint32_t start = offset + port_counter_;
  port_counter_ = (port_counter_ + 1 + random32() % 2) % range;
  for (uint32_t i = 0; i < range; ++i) {
    const auto port = static_cast<uint16_t>(config_.ephemeral_first + (start + i) % range);
    const Endpoint from{local.address, port};
    const FlowKey key(remote, from, static_cast<uint8_t>(Protocol::tcp));
    if (foreign(key)) continue;
    if (config_.owns_tuple != nullptr && !config_.owns_tuple(config_.opaque, from, remote))
      continue;
    if (try_tuple(socket, key, isn, reused)) return 0;
  }
  return EADDRNOTAVAIL;
}

// Takes the tuple if it is free, or held by a connection in TIME-WAIT that has timestamps to tell
// old segments from new ones (RFC 6191) and has been there for a second.
bool StackCore::try_tuple(TcpSocket& socket, const FlowKey& key, uint32_t* isn,
                          bool* reused) noexcept {
  if (claim_tuple(socket, key)) return true;
  const uint32_t flow = flows_.find(key, key_of());
  if (flow == kNoFlow) return false;  // the table is full
  TcpSocket& old = tcp_[flow];
  if (old.tcp.state() != TcpState::time_wait) return false;
  const Time entered = old.tcp.next_deadline() - config_.tcp.time_wait;
  TcpInfo info;
  old.tcp.info(ctx_, info);
  if (!info.timestamps || now_ - entered < 1s) return false;
  *isn = old.tcp.safe_isn();
  *reused = true;
  old.tcp.on_abort(tcp_context(old));
  settle(old);
  return claim_tuple(socket, key);
}

// The handshake could not even begin.
void StackCore::fail_connect(TcpSocket& socket, int error) noexcept {
  counters.add(Counter::tcp_failed_opens);
  socket.tcp.on_abort(tcp_context(socket));
  tell_error(socket, error);
  settle(socket);
}

}  // namespace postern
