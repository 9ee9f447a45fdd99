// The short cut of parse() for what nearly every packet of a busy socket is: untagged Ethernet,
// IPv4 without options, whole, TCP or UDP. It takes a packet only if parse() proper would, with the
// same result; whatever is unusual or wrong about a packet is left to that.
#pragma once

#include <cstring>

#include "base/checksum.h"
#include "wire/headers.h"
#include "wire/packet.h"

namespace postern::wire {

// What ipv4_source_possible() says of classes A to C, of the first byte alone; false of all others.
inline bool common_source(uint8_t first) noexcept {
  if (first == 127) return false;
  return first - 1U < 223;
}

// RFC 1122 3.2.1.3: no packet from the wire comes from group, broadcast, loopback or "this" net.
inline bool ipv4_source_possible(uint32_t a) noexcept {
  const uint32_t top = a >> 24;
  return top != 0 && top != 127 && top >> 4 != 0xe && a != 0xffffffff;
}

// Everything but an opening SYN and a reset carries ACK (RFC 9293 3.1), and neither SYN, RST nor
// FIN goes with the other two's opposite. Scanners send the rest.
inline bool tcp_flags_sane(uint8_t flags) noexcept {
  const bool syn = (flags & tcp_flag::syn) != 0;
  const bool rst = (flags & tcp_flag::rst) != 0;
  if (syn) return (flags & (tcp_flag::fin | tcp_flag::rst)) == 0;
  return rst || (flags & tcp_flag::ack) != 0;
}

namespace detail {

template <class T>
T load(const void* at) noexcept {
  T v;
  std::memcpy(&v, at, sizeof v);
  return v;
}

// RFC 791: of a header of 20 bytes.
inline bool ipv4_checksum_good(const Ipv4Header& ip) noexcept {
  const auto* const at = reinterpret_cast<const std::byte*>(&ip);
  uint64_t sum = load<uint64_t>(at);
  const auto second = load<uint64_t>(at + 8);
  sum += second;
  sum += sum < second ? 1 : 0;
  const uint64_t last = load<uint32_t>(at + 16);
  sum += last;
  sum += sum < last ? 1 : 0;
  return checksum_is_good(checksum_fold64(sum));
}

// RFC 9293 3.1, RFC 768: of a transport header and payload right behind that header.
inline bool transport_checksum_good(const Ipv4Header& ip, size_t l4_length) noexcept {
  const uint64_t pseudo = uint64_t{load<uint32_t>(&ip.source)} + load<uint32_t>(&ip.destination) +
                          checksum_word(ip.protocol) +
                          checksum_word(static_cast<uint16_t>(l4_length));
  const auto* const l4 = reinterpret_cast<const std::byte*>(&ip) + sizeof(Ipv4Header);
  return checksum_is_good(checksum_add({l4, l4_length}, pseudo));
}

// Good by the device's word or, where it has none, by the sum; or it does not matter.
template <class Sum>
bool judged_good(ChecksumVerdict verdict, Sum&& sum) noexcept {
  if (verdict == ChecksumVerdict::unknown) return sum();
  return verdict != ChecksumVerdict::bad;
}

inline bool common_tcp(const std::byte* l4, size_t length, ParsedPacket* out) noexcept {
  const auto& tcp = *reinterpret_cast<const TcpHeader*>(l4);
  if (length < sizeof(TcpHeader)) return false;
  const size_t header = tcp.header_length();
  if (header < sizeof(TcpHeader) || header > length || !tcp_flags_sane(tcp.flags)) return false;
  out->kind = PacketKind::tcp;
  out->source_port = tcp.source_port.host();
  out->destination_port = tcp.destination_port.host();
  out->payload_offset = static_cast<uint32_t>(out->l4_offset + header);
  out->payload_length = static_cast<uint32_t>(length - header);
  out->tcp_seq = tcp.seq.host();
  out->tcp_ack = tcp.ack.host();
  out->tcp_window = tcp.window.host();
  out->tcp_urgent = tcp.urgent.host();
  out->tcp_flags = tcp.flags;
  out->tcp_options_length = static_cast<uint8_t>(header - sizeof(TcpHeader));
  return true;
}

// One without a checksum is common where nobody looks at it.
inline bool common_udp(const std::byte* l4, size_t length, ChecksumVerdict verdict,
                       ParsedPacket* out) noexcept {
  const auto& udp = *reinterpret_cast<const UdpHeader*>(l4);
  if (length < sizeof(UdpHeader) || udp.length.host() != length ||
      (udp.checksum == be16(0) && verdict != ChecksumVerdict::unchecked)) {
    return false;
  }
  out->kind = PacketKind::udp;
  out->source_port = udp.source_port.host();
  out->destination_port = udp.destination_port.host();
  out->payload_offset = static_cast<uint32_t>(out->l4_offset + sizeof(UdpHeader));
  out->payload_length = static_cast<uint32_t>(length - sizeof(UdpHeader));
  return true;
}

}  // namespace detail

// False: nothing is said about the packet, *out is not valid.
inline bool parse_common(const RxPacket& packet, ParsedPacket* out) noexcept {
  constexpr size_t kL3 = sizeof(EthernetHeader);
  constexpr size_t kL4 = kL3 + sizeof(Ipv4Header);
  constexpr uint16_t kFragment = Ipv4Header::kMoreFragments | Ipv4Header::kOffsetMask;
  // EtherType, version and header length; behind them stands the type of service.
  constexpr uint32_t kKind = 0x00450008;
  if (packet.length < kL4 || packet.vlan != 0) return false;
  const auto& ethernet = *reinterpret_cast<const EthernetHeader*>(packet.data);
  const auto& ip = *reinterpret_cast<const Ipv4Header*>(packet.data + kL3);
  // Huge if the header itself is longer.
  const size_t l4_length = size_t{ip.total_length.host()} - sizeof(Ipv4Header);
  if ((detail::load<uint32_t>(&ethernet.type) & 0xffffff) != kKind ||
      (ip.flags_fragment.host() & kFragment) != 0 || ethernet.source.is_multicast() ||
      l4_length > packet.length - kL4) {
    return false;
  }
  out->source = IpAddress::v4_from_memory(detail::load<uint32_t>(&ip.source));
  out->destination = IpAddress::v4_from_memory(detail::load<uint32_t>(&ip.destination));
  out->l3_offset = kL3;
  out->l4_offset = kL4;
  const std::byte* const l4 = packet.data + kL4;
  const bool tcp = ip.protocol == static_cast<uint8_t>(Protocol::tcp);
  const bool udp = ip.protocol == static_cast<uint8_t>(Protocol::udp);
  if (!(tcp && detail::common_tcp(l4, l4_length, out)) &&
      !(udp && detail::common_udp(l4, l4_length, packet.l4_checksum, out))) {
    return false;
  }
  if (!common_source(detail::load<uint8_t>(&ip.source)) ||
      !detail::judged_good(packet.ip_checksum, [&] { return detail::ipv4_checksum_good(ip); }) ||
      !detail::judged_good(packet.l4_checksum,
                           [&] { return detail::transport_checksum_good(ip, l4_length); })) {
    return false;
  }
  out->drop = Drop::none;
  out->protocol = ip.protocol;
  out->ttl = ip.ttl;
  out->tos = ip.tos;
  out->is_v6 = out->fragment = false;
  out->interface = packet.interface;
  out->vlan = 0;
  out->mac_source = ethernet.source;
  out->mac_destination = ethernet.destination;
  return true;
}

}  // namespace postern::wire
