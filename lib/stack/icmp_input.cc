// ICMP messages received, and those sent about datagrams that nobody wants.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checksum.h"
#include "ip/icmp.h"
#include "stack/core.h"
#include "wire/build.h"
#include "wire/nd.h"

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
  const uint8_t echo = p.is_v6 ? wire::icmp6::echo_request : wire::icmp4::echo_request;
  if (type == echo) return code == 0 ? icmp_echo(packet, p) : Drop::icmp_ignored;
  const int error = p.is_v6 ? icmp6_errno(type, code) : icmp4_errno(type, code);
  return error == 0 ? Drop::icmp_ignored : icmp_error(packet, p, error);
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
  if (ip_header_length(p.is_v6) + length > interfaces_[p.interface].mtu) return Drop::icmp_ignored;
  if (!icmp_limit_.take(now_)) return Drop::icmp_rate_limited;
  TxFrame* frame = begin_control();
  if (frame == nullptr) return Drop::icmp_rate_limited;
  counters.add(Counter::icmp_rx);
  std::byte* l4 = begin_ip(*frame, p.interface, MacAddress{},
                           {.source = source,
                            .destination = p.source,
                            .protocol = static_cast<uint8_t>(icmp_protocol(p.is_v6)),
                            .tos = p.tos,
                            .dont_fragment = false,
                            .id = ++ip_id_,
                            .payload_length = length});
  be32 rest;
  std::memcpy(&rest, packet.data + p.l4_offset + 4, sizeof rest);
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

// RFC 1122 3.2.1.6, RFC 5927: an error counts only if it quotes a packet that a live flow could
// have sent.
Drop StackCore::icmp_error(const RxPacket& packet, const ParsedPacket& p, int error) noexcept {
  const wire::QuotedPacket quoted = wire::parse_icmp_quote(packet, p);
  if (quoted.protocol == 0) return Drop::icmp_malformed;
  if (!interfaces_.is_local(quoted.source)) return Drop::icmp_ignored;
  if (quoted.protocol == static_cast<uint8_t>(Protocol::udp)) return icmp_error_udp(quoted, error);
  if (quoted.protocol != static_cast<uint8_t>(Protocol::tcp)) return Drop::icmp_ignored;
  be32 rest;
  std::memcpy(&rest, packet.data + p.l4_offset + 4, sizeof rest);
  uint32_t mtu = p.is_v6 ? rest.host() : rest.host() & 0xffff;
  if (error == EMSGSIZE && mtu == 0) {  // RFC 1191 5: an old router; guess from the quoted length
    be16 total;
    if (p.payload_length < 4) return Drop::icmp_malformed;
    std::memcpy(&total, packet.data + p.payload_offset + 2, sizeof total);
    mtu = mtu_plateau(total.host());
  }
  return icmp_error_tcp(quoted, mtu, error);
}

Drop StackCore::icmp_error_tcp(const wire::QuotedPacket& quoted, uint32_t mtu, int error) noexcept {
  const FlowKey key({quoted.destination, quoted.destination_port},
                    {quoted.source, quoted.source_port}, quoted.protocol);
  const uint32_t flow = flows_.find(key, key_of());
  if (flow == kNoFlow) return Drop::icmp_ignored;
  TcpSocket& socket = tcp_[flow];
  if (socket.network_done) return Drop::icmp_ignored;
  counters.add(Counter::icmp_rx);
  TcpContext& ctx = tcp_context(socket);
  if (error != EMSGSIZE) {
    socket.tcp.on_icmp_error(ctx, error, quoted.tcp_seq);
  } else if (socket.tcp.in_flight(quoted.tcp_seq)) {
    const uint32_t headers = ip_header_length(!quoted.source.is_v4()) + 20;
    const uint32_t floor = quoted.source.is_v4() ? 576 : 1280;
    socket.tcp.on_path_mtu(ctx, static_cast<uint16_t>(std::clamp(mtu, floor, 65535U) - headers));
  } else {
    return Drop::icmp_ignored;
  }
  settle(socket);
  return Drop::none;
}

// RFC 1122 4.1.3.3: only a connected socket can be told whom the error is about.
Drop StackCore::icmp_error_udp(const wire::QuotedPacket& quoted, int error) noexcept {
  const Endpoint local{quoted.source, quoted.source_port};
  const Endpoint remote{quoted.destination, quoted.destination_port};
  const uint32_t index = udp_table_.find(local, remote);
  if (index == UdpTable::kNone || udp_table_.binding(index).remote != remote) {
    return Drop::icmp_ignored;
  }
  counters.add(Counter::icmp_rx);
  tell_error(udp_[index], error);
  return Drop::none;
}

// RFC 1122 4.1.3.1, RFC 1812 4.3.2.
void StackCore::icmp_port_unreachable(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (!icmp_error_allowed(p.source, p.destination) || !interfaces_.is_local(p.destination) ||
      p.mac_destination.is_multicast()) {
    return;
  }
  if (!icmp_limit_.take(now_)) return counters.drop(Drop::icmp_rate_limited);
  TxFrame* frame = begin_control();
  if (frame == nullptr) return;
  const size_t available = p.payload_offset + p.payload_length - p.l3_offset;
  const size_t quote = wire::icmp_quote_length(p.is_v6, available);
  std::byte* l4 = begin_ip(*frame, p.interface, MacAddress{},
                           {.source = p.destination,
                            .destination = p.source,
                            .protocol = static_cast<uint8_t>(icmp_protocol(p.is_v6)),
                            .tos = 0xc0,  // RFC 1812 4.3.2.5: internetwork control
                            .dont_fragment = false,
                            .id = ++ip_id_,
                            .payload_length = static_cast<uint32_t>(kIcmpHeader + quote)});
  const uint8_t type = p.is_v6 ? wire::icmp6::unreachable : wire::icmp4::unreachable;
  wire::write_icmp(l4, type, p.is_v6 ? wire::icmp6::port : wire::icmp4::port, 0);
  const uint32_t sum = copy_and_checksum(l4 + kIcmpHeader, packet.data + p.l3_offset, quote);
  wire::finish_checksum(l4, kIcmpHeader, sum, quote, p.destination, p.source,
                        icmp_protocol(p.is_v6));
  counters.add(Counter::icmp_tx);
  finish_control(*frame, p.source);
}

}  // namespace postern
