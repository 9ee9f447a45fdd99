// Handshakes without memory (RFC 4987): what answers a SYN when its listener, or the worker, has as
// many connections in handshake as it may have.
#include <algorithm>

#include "stack/core.h"
#include "wire/build.h"

namespace postern {

namespace {

// One part in so many of a worker's connections may be in handshake: a flood leaves the rest.
constexpr uint32_t kHandshakeShare = 4;

}  // namespace

bool StackCore::handshakes_full(const Listener& listener) const noexcept {
  if (config_.tcp.syncookies == SynCookies::always) return true;
  return listener.syn_received + listener.unaccepted >= listener.backlog ||
         handshakes_ >= std::max<uint32_t>(1, config_.max_connections / kHandshakeShare);
}

// The SYN-ACK is made by an engine that is forgotten at once, so that it says what the connection
// will hold to if the ACK comes. ECN is not asked for: the cookie has no room for it.
Drop StackCore::send_cookie(Listener& listener, const ParsedPacket& p,
                            const TcpSegment& syn) noexcept {
  if (config_.tcp.syncookies == SynCookies::never) return Drop::tcp_backlog_full;
  const FlowKey key(p.source, p.source_port, p.destination, p.destination_port, p.protocol);
  NextHop hop;
  if (const int error = next_hop(p.source, p.interface, &hop, &key); error != 0) {
    return drop_of_route(error);
  }
  TxFrame* frame = begin_control();
  if (frame == nullptr) return Drop::tcp_backlog_full;
  TcpContext& ctx = listener_context(listener);
  set_initial_numbers(ctx, key);
  ctx.isn = cookie_secret_.encode(std::as_bytes(std::span(&key, 1)), syn, now_);
  TcpSegment plain = syn;
  plain.flags = tcp_flag::syn;
  TcpConnection tcp;
  inherit_options(listener, tcp, ctx);
  tcp.open_passive(ctx, plain, path_mss(hop.interface, p.is_v6));
  TcpSegment answer;
  if (!tcp.next_segment(ctx, answer)) return Drop::tcp_backlog_full;
  const auto length = static_cast<uint32_t>(wire::tcp_header_length(answer));
  std::byte* l4 =
      begin_ip(*frame, hop.interface, MacAddress{},
               {.source = p.destination,
                .destination = p.source,
                .protocol = p.protocol,
                .ttl = listener.ttl != 0 ? listener.ttl : default_ttl(p.interface, p.is_v6),
                .tos = listener.tos,
                .payload_length = length});
  wire::write_tcp(l4, p.destination_port, p.source_port, answer);
  wire::finish_checksum(l4, length, 0, 0, p.destination, p.source, Protocol::tcp);
  finish_control(*frame, p.source);
  listener.cookies_until = now_ + kSynCookieLife;
  counters.add(Counter::tcp_syncookies_sent);
  return Drop::none;
}

// The engine looks at the ACK as at any other; only a good one gets this far.
Drop StackCore::cookie_open(Listener& listener, const RxPacket& packet, const ParsedPacket& p,
                            const TcpSegment& ack) noexcept {
  const FlowKey key(p.source, p.source_port, p.destination, p.destination_port, p.protocol);
  TcpSegment syn;
  if (!cookie_secret_.decode(std::as_bytes(std::span(&key, 1)), ack, now_, &syn)) {
    counters.add(Counter::tcp_syncookies_failed);
    tcp_reset(p, ack);
    return Drop::tcp_no_socket;
  }
  counters.add(Counter::tcp_syncookies_received);
  // The client believes to be connected: it sends its data again, and finds room or gives up.
  if (listener.unaccepted >= listener.backlog) return Drop::tcp_backlog_full;
  Drop why = Drop::none;
  TcpSocket* socket = create_child(listener, p, key, &why);
  if (socket == nullptr) return why;
  TcpContext& ctx = tcp_context(*socket);
  set_initial_numbers(ctx, key);
  ctx.isn = ack.ack - 1;
  inherit_options(listener, socket->tcp, ctx);
  socket->tcp.open_cookie(ctx, syn, path_mss(socket->interface, p.is_v6));
  apply_path_mtu(*socket, ctx);
  const Drop drop = tcp_segment(*socket, ack, packet.data + p.payload_offset);
  settle(*socket);  // it takes its place in the accept queue before the next one is looked at
  return drop;
}

}  // namespace postern
