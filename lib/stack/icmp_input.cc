// ICMP messages received, and those sent about datagrams that nobody wants.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/checksum.h"
#include "ip/icmp.h"
#include "stack/core.h"
#include "wire/build.h"
#include "wire/nd.h"
#include "wire/problem.h"

namespace postern {
namespace {

constexpr uint32_t kIcmpHeader = 8;

constexpr uint32_t ip_header_length(bool is_v6) { return is_v6 ? 40 : 20; }
constexpr Protocol icmp_protocol(bool is_v6) { return is_v6 ? Protocol::icmp6 : Protocol::icmp; }

}  // namespace

Drop StackCore::icmp_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const auto type = static_cast<uint8_t>(p.source_port >> 8);
  const auto code = static_cast<uint8_t>(p.source_port);
  if (p.is_v6 && wire::is_neighbor_message(type)) return nd_input(packet, p);
  if (p.is_v6 && wire::is_group_message(type)) return group_input(packet, p);
  if (p.is_v6 && routers_.accepts(p.interface)) {
    if (type == wire::icmp6::router_advertisement) return router_advertisement_input(packet, p);
    if (type == wire::icmp6::redirect) return redirect_input(packet, p);
  }
  const uint8_t echo = p.is_v6 ? wire::icmp6::echo_request : wire::icmp4::echo_request;
  if (type == echo) return code == 0 ? icmp_echo(packet, p) : Drop::icmp_ignored;
  const int error = p.is_v6 ? icmp6_errno(type, code) : icmp4_errno(type, code);
  const bool redirect = !p.is_v6 && type == wire::icmp4::redirect;
  if (error == 0 && !redirect) return except(packet, p, Drop::icmp_ignored);
  const Drop drop = redirect ? redirect4_input(packet, p) : icmp_error(packet, p, error);
  return drop == Drop::icmp_ignored ? except_error(packet, p) : drop;
}

// RFC 792, RFC 1122 3.2.2.6, RFC 4443 4.2: the data comes back unchanged.
Drop StackCore::icmp_echo(const RxPacket& packet, const ParsedPacket& p) noexcept {
  IpAddress source = p.destination;
  if (!interfaces_.is_local(source)) {
    if (!p.is_v6) return Drop::icmp_ignored;  // smurf
    const IpAddress* own = interfaces_.select_source(p.source, p.interface);
    if (own == nullptr) return Drop::icmp_ignored;
    source = *own;
  }
  const uint32_t length = kIcmpHeader + p.payload_length;
  be32 rest;
  std::memcpy(&rest, packet.data + p.l4_offset + 4, sizeof rest);
  if (ip_header_length(p.is_v6) + length > interfaces_[p.interface].mtu_of(p.is_v6)) {
    return icmp_echo_in_fragments(packet, p, source, rest.host());
  }
  if (!icmp_limit_.take(now_)) return Drop::icmp_rate_limited;
  TxFrame* frame = begin_control();
  if (frame == nullptr) return Drop::icmp_rate_limited;
  counters.add(Counter::icmp_rx);
  std::byte* l4 = begin_ip(*frame, p.interface, MacAddress{},
                           {.source = source,
                            .destination = p.source,
                            .protocol = static_cast<uint8_t>(icmp_protocol(p.is_v6)),
                            .ttl = default_ttl(p.interface, p.is_v6),
                            .tos = p.tos,
                            .dont_fragment = false,
                            .id = ++ip_id_,
                            .payload_length = length});
  const uint8_t reply = p.is_v6 ? wire::icmp6::echo_reply : wire::icmp4::echo_reply;
  wire::write_icmp(l4, reply, 0, rest.host());
  const uint32_t sum =
      copy_and_checksum(l4 + kIcmpHeader, packet.data + p.payload_offset, p.payload_length);
  wire::finish_checksum(l4, kIcmpHeader, sum, p.payload_length, source, p.source,
                        icmp_protocol(p.is_v6));
  counters.add(Counter::icmp_tx);
  finish_control(*frame, p.source);
  return Drop::none;
}

// Each fragment counts as an answer, and all are sent or none.
Drop StackCore::icmp_echo_in_fragments(const RxPacket& packet, const ParsedPacket& p,
                                       const IpAddress& source, uint32_t rest) noexcept {
  const uint32_t total = kIcmpHeader + p.payload_length;
  const uint32_t room = fragment_room(interfaces_[p.interface].mtu_of(p.is_v6), p.is_v6);
  const uint32_t count = (total + room - 1) / room;
  if (control_.free() < count || !icmp_limit_.take(now_, count)) return Drop::icmp_rate_limited;
  counters.add(Counter::icmp_rx);
  std::array<std::byte, kIcmpHeader> head;
  const std::byte* const data = packet.data + p.payload_offset;
  wire::write_icmp(head.data(), p.is_v6 ? wire::icmp6::echo_reply : wire::icmp4::echo_reply, 0,
                   rest);
  wire::finish_checksum(head.data(), kIcmpHeader, checksum_add({data, p.payload_length}),
                        p.payload_length, source, p.source, icmp_protocol(p.is_v6));
  const uint32_t id = fragment_id(p.is_v6);
  for (uint32_t at = 0; at < total; at += room) {
    const uint32_t n = std::min(room, total - at);
    TxFrame& frame = *begin_control();
    std::byte* const out = begin_fragment(frame, p.interface,
                                          {.source = source,
                                           .destination = p.source,
                                           .protocol = static_cast<uint8_t>(icmp_protocol(p.is_v6)),
                                           .ttl = default_ttl(p.interface, p.is_v6),
                                           .tos = p.tos,
                                           .dont_fragment = false},
                                          {at, n, at + n < total, id});
    const uint32_t headed = at == 0 ? kIcmpHeader : 0;
    std::memcpy(out, head.data(), headed);
    std::memcpy(out + headed, data + (at + headed - kIcmpHeader), n - headed);
    finish_control(frame, p.source);
  }
  counters.add(Counter::icmp_tx);
  return Drop::none;
}

// RFC 1122 3.2.1.6, RFC 5927: an error counts only if it quotes a packet that a live flow could
// have sent.
Drop StackCore::icmp_error(const RxPacket& packet, const ParsedPacket& p, int error) noexcept {
  const wire::QuotedPacket quoted = wire::parse_icmp_quote(packet, p);
  if (quoted.protocol == 0) return Drop::icmp_malformed;
  if (!interfaces_.is_local(quoted.source)) return Drop::icmp_ignored;
  be32 rest;
  std::memcpy(&rest, packet.data + p.l4_offset + 4, sizeof rest);
  uint32_t mtu = p.is_v6 ? rest.host() : rest.host() & 0xffff;
  if (error == EMSGSIZE && mtu == 0) {  // RFC 1191 5: an old router; guess from the quoted length
    be16 total;
    if (p.payload_length < 4) return Drop::icmp_malformed;
    std::memcpy(&total, packet.data + p.payload_offset + 2, sizeof total);
    mtu = mtu_plateau(total.host());
  }
  if (quoted.protocol == static_cast<uint8_t>(Protocol::udp)) {
    return icmp_error_udp(packet, p, quoted, {error, mtu});
  }
  if (quoted.protocol != static_cast<uint8_t>(Protocol::tcp)) return Drop::icmp_ignored;
  return icmp_error_tcp(quoted, {error, mtu});
}

Drop StackCore::icmp_error_tcp(const wire::QuotedPacket& quoted,
                               const IcmpReport& report) noexcept {
  const FlowKey key({quoted.destination, quoted.destination_port},
                    {quoted.source, quoted.source_port}, quoted.protocol);
  const uint32_t flow = flows_.find(key, key_of());
  if (flow == kNoFlow) return Drop::icmp_ignored;
  TcpSocket& socket = tcp_[flow];
  if (socket.network_done) return Drop::icmp_ignored;
  counters.add(Counter::icmp_rx);
  TcpContext& ctx = tcp_context(socket);
  if (report.error != EMSGSIZE) {
    socket.tcp.on_icmp_error(ctx, report.error, quoted.tcp_seq);
    tell_soft_error(socket, quoted, report.error);
  } else if (socket.tcp.in_flight(quoted.tcp_seq)) {
    lower_path_mtu(quoted.destination, report.mtu, socket.interface);
    apply_path_mtu(socket, ctx);
  } else {
    return Drop::icmp_ignored;
  }
  settle(socket);
  return Drop::none;
}

void StackCore::lower_path_mtu(const IpAddress& destination, uint32_t mtu,
                               uint16_t interface) noexcept {
  const uint32_t before = mtu_towards(destination, interface);
  if (mtu >= before) return;  // the path is no narrower than we think
  if (path_mtu_.narrow(destination, mtu, now_) < before) {
    counters.add(Counter::ip_path_mtu_lowered);
  }
}

// RFC 1122 4.1.3.3: only a connected socket can be told whom the error is about. The path's MTU
// concerns all of them.
// With IP_RECVERR the queue says whom, so that then all hear of it.
Drop StackCore::icmp_error_udp(const RxPacket& packet, const ParsedPacket& p,
                               const wire::QuotedPacket& quoted,
                               const IcmpReport& report) noexcept {
  const Endpoint local{quoted.source, quoted.source_port};
  const Endpoint remote{quoted.destination, quoted.destination_port};
  const uint32_t index = udp_table_.find(local, remote).socket;
  if (index == UdpTable::kNone) return Drop::icmp_ignored;
  UdpSocket& socket = udp_[index];
  const bool wanted = wants_errors(socket, remote.address);
  const bool told = udp_table_.binding(index).remote == remote || wanted;
  if (report.error == EMSGSIZE) {
    NextHop hop;
    if (next_hop(quoted.destination, kNoInterface, &hop) != 0) return Drop::icmp_ignored;
    lower_path_mtu(quoted.destination, report.mtu, hop.interface);
  } else if (!told) {
    return Drop::icmp_ignored;
  }
  counters.add(Counter::icmp_rx);
  const bool quiet = report.error == EMSGSIZE && socket.mtu_discover == MtuDiscover::dont;
  if (!told || quiet) return Drop::none;
  if (wanted) queue_icmp_error(socket, packet, p, quoted, report);
  tell_error(socket, report.error);
  return Drop::none;
}

// RFC 1122 4.1.3.1, RFC 1812 4.3.2.
void StackCore::icmp_port_unreachable(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (!icmp_error_allowed(p.source, p.destination) || !interfaces_.is_local(p.destination) ||
      p.mac_destination.is_multicast()) {
    return;
  }
  const size_t available = p.payload_offset + p.payload_length - p.l3_offset;
  send_icmp_error({p.destination, p.source, p.interface,
                   p.is_v6 ? wire::icmp6::unreachable : wire::icmp4::unreachable,
                   p.is_v6 ? wire::icmp6::port : wire::icmp4::port},
                  {packet.data + p.l3_offset, available});
}

// To a group it is answered from the interface's own address (RFC 4443 2.2).
void StackCore::tell_problem(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const wire::Problem problem = wire::ipv6_problem(packet, p);
  if (!problem.told || p.source.is_any() || p.source.is_multicast() || forged(p)) return;
  const bool to_group = p.destination.is_multicast();
  if (to_group ? check_many(p) != Drop::none : !interfaces_.is_local(p.destination)) return;
  if (!to_group && p.mac_destination.is_multicast()) return;
  const IpAddress* const from =
      to_group ? interfaces_.select_source(p.source, p.interface) : &p.destination;
  if (from == nullptr) return;
  send_icmp_error(
      {*from, p.source, p.interface, wire::icmp6::parameter_problem, problem.code, problem.pointer},
      ip_packet(packet, p));
}

// RFC 8200 4.5, RFC 7112: not even the transport header is in it.
void StackCore::tell_short_first_fragment(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (!icmp_error_allowed(p.source, p.destination) || p.mac_destination.is_multicast()) return;
  send_icmp_error({p.destination, p.source, p.interface, wire::icmp6::parameter_problem,
                   wire::icmp6::first_fragment},
                  ip_packet(packet, p));
}

void StackCore::tell_unknown_protocol(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (p.is_v6) return tell_problem(packet, p);
  if (!icmp_error_allowed(p.source, p.destination) || p.mac_destination.is_multicast()) return;
  send_icmp_error(
      {p.destination, p.source, p.interface, wire::icmp4::unreachable, wire::icmp4::protocol},
      ip_packet(packet, p));
}

void StackCore::send_icmp_error(const IcmpError& error, std::span<const std::byte> about) noexcept {
  if (!icmp_limit_.take(now_)) return counters.drop(Drop::icmp_rate_limited);
  TxFrame* frame = begin_control();
  if (frame == nullptr) return;
  const bool is_v6 = !error.local.is_v4();
  const size_t quote = wire::icmp_quote_length(is_v6, about.size());
  std::byte* l4 = begin_ip(*frame, error.interface, MacAddress{},
                           {.source = error.local,
                            .destination = error.remote,
                            .protocol = static_cast<uint8_t>(icmp_protocol(is_v6)),
                            .ttl = default_ttl(error.interface, is_v6),
                            .tos = 0xc0,  // RFC 1812 4.3.2.5: internetwork control
                            .dont_fragment = false,
                            .id = ++ip_id_,
                            .payload_length = static_cast<uint32_t>(kIcmpHeader + quote)});
  wire::write_icmp(l4, error.type, error.code, error.rest);
  const uint32_t sum = copy_and_checksum(l4 + kIcmpHeader, about.data(), quote);
  wire::finish_checksum(l4, kIcmpHeader, sum, quote, error.local, error.remote,
                        icmp_protocol(is_v6));
  counters.add(Counter::icmp_tx);
  finish_control(*frame, error.remote);
}

}  // namespace postern
