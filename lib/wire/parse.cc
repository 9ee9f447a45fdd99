#include "wire/parse.h"

#include <algorithm>

#include "base/checksum.h"
#include "wire/cursor.h"
#include "wire/headers.h"
#include "wire/parse_common.h"

namespace postern::wire {

namespace {

// What the layers of one frame share while it is parsed.
struct Frame {
  const RxPacket& packet;
  Cursor cursor;
  ParsedPacket& out;
};

constexpr uint16_t kVlanMask = 0x0fff;
constexpr uint16_t kVlanReserved = 0x0fff;  // IEEE 802.1Q: no identifier

uint16_t offset_of(const Frame& f) { return static_cast<uint16_t>(f.cursor.position()); }

// ---- transport ----

// The running sum of pseudo-header and the first n bytes at the cursor, which exist.
uint32_t transport_sum(const Frame& f, size_t n) {
  const uint32_t pseudo =
      pseudo_header_sum(f.out.source, f.out.destination, f.out.protocol, static_cast<uint32_t>(n));
  return checksum_add({f.cursor.data(), n}, pseudo);
}

bool transport_checksum_good(const Frame& f, size_t n) {
  return detail::judged_good(f.packet.l4_checksum,
                             [&] { return checksum_is_good(transport_sum(f, n)); });
}

void set_payload(Frame& f) {
  f.out.payload_offset = static_cast<uint32_t>(f.cursor.position());
  f.out.payload_length = static_cast<uint32_t>(f.cursor.remaining());
}

Drop parse_udp(Frame& f) {
  f.out.kind = PacketKind::udp;
  const auto* const udp = f.cursor.peek<UdpHeader>();
  if (udp == nullptr) return Drop::udp_malformed;
  const size_t length = udp->length.host();
  if (length < sizeof(UdpHeader) || !f.cursor.truncate(length)) return Drop::udp_malformed;
  if (udp->checksum == be16(0)) {
    const bool missing = f.packet.l4_checksum != ChecksumVerdict::unchecked;
    if (f.out.is_v6 && missing) return Drop::udp_bad_checksum;  // RFC 8200 8.1
  } else if (!transport_checksum_good(f, length)) {
    return Drop::udp_bad_checksum;
  }
  (void)f.cursor.take<UdpHeader>();
  f.out.source_port = udp->source_port.host();
  f.out.destination_port = udp->destination_port.host();
  set_payload(f);
  return Drop::none;
}

Drop parse_tcp_header(Frame& f) {
  f.out.kind = PacketKind::tcp;
  const auto* const tcp = f.cursor.peek<TcpHeader>();
  if (tcp == nullptr) return Drop::tcp_malformed;
  const size_t header = tcp->header_length();
  if (header < sizeof(TcpHeader) || header > f.cursor.remaining()) return Drop::tcp_malformed;
  if (!transport_checksum_good(f, f.cursor.remaining())) return Drop::tcp_bad_checksum;
  if (!tcp_flags_sane(tcp->flags)) return Drop::tcp_bad_flags;
  (void)f.cursor.take_bytes(header);
  f.out.source_port = tcp->source_port.host();
  f.out.destination_port = tcp->destination_port.host();
  f.out.tcp_seq = tcp->seq.host();
  f.out.tcp_ack = tcp->ack.host();
  f.out.tcp_window = tcp->window.host();
  f.out.tcp_urgent = tcp->urgent.host();
  f.out.tcp_flags = tcp->flags;
  f.out.tcp_options_length = static_cast<uint8_t>(header - sizeof(TcpHeader));
  set_payload(f);
  return Drop::none;
}

Drop parse_icmp(Frame& f) {
  f.out.kind = PacketKind::icmp;
  const auto* const icmp = f.cursor.peek<IcmpHeader>();
  if (icmp == nullptr) return Drop::icmp_malformed;
  // RFC 792 sums the message alone, RFC 4443 2.3 the pseudo-header too. Devices judge neither
  // reliably, so it is done here unless one vouches for it.
  const size_t length = f.cursor.remaining();
  if (f.packet.l4_checksum != ChecksumVerdict::good) {
    const uint32_t sum =
        f.out.is_v6 ? transport_sum(f, length) : checksum_add({f.cursor.data(), length});
    if (!checksum_is_good(sum)) return Drop::icmp_bad_checksum;
  }
  (void)f.cursor.take<IcmpHeader>();
  f.out.source_port = static_cast<uint16_t>(icmp->type << 8 | icmp->code);
  set_payload(f);
  return Drop::none;
}

PacketKind kind_of(uint8_t protocol, bool is_v6) {
  switch (static_cast<Protocol>(protocol)) {
    case Protocol::tcp:
      return PacketKind::tcp;
    case Protocol::udp:
      return PacketKind::udp;
    case Protocol::icmp:
      return is_v6 ? PacketKind::other : PacketKind::icmp;
    case Protocol::icmp6:
      return is_v6 ? PacketKind::icmp : PacketKind::other;
  }
  return PacketKind::other;
}

// The cursor stands at the transport header, cut to the IP payload.
Drop parse_transport(Frame& f) {
  f.out.l4_offset = offset_of(f);
  f.out.kind = kind_of(f.out.protocol, f.out.is_v6);
  if (!f.out.fragment) {
    if (f.out.kind == PacketKind::tcp) return parse_tcp_header(f);
    if (f.out.kind == PacketKind::udp) return parse_udp(f);
    if (f.out.kind == PacketKind::icmp) return parse_icmp(f);
  }
  set_payload(f);
  return Drop::none;
}

// A fragment's place: within the largest datagram, and all but the last in units of 8 bytes (RFC
// 791 3.2, RFC 8200 4.5). What else reassembly needs is in the header.
bool fragment_place_possible(size_t offset, size_t length, bool more) {
  return offset + length <= 65535 && (!more || (length % 8 == 0 && length > 0));
}

// ---- IPv4 ----

// RFC 791 3.1. Options are walked for their lengths; source routes are refused (RFC 7126 4.3, 4.4).
bool ipv4_options_acceptable(Cursor options) {
  constexpr uint8_t kEnd = 0;
  constexpr uint8_t kNoOperation = 1;
  constexpr uint8_t kLooseSourceRoute = 131;
  constexpr uint8_t kStrictSourceRoute = 137;
  while (const auto* const kind = options.take<uint8_t>()) {
    if (*kind == kEnd) return true;
    if (*kind == kNoOperation) continue;
    if (*kind == kLooseSourceRoute || *kind == kStrictSourceRoute) return false;
    const auto* const length = options.take<uint8_t>();
    if (length == nullptr || *length < 2) return false;
    if (options.take_bytes(*length - 2U) == nullptr) return false;
  }
  return true;
}

Drop parse_ipv4(Frame& f) {
  f.out.l3_offset = offset_of(f);
  const auto* const ip = f.cursor.peek<Ipv4Header>();
  if (ip == nullptr || ip->version() != 4) return Drop::ip4_malformed;
  const size_t header = ip->header_length();
  const size_t total = ip->total_length.host();
  if (header < sizeof(Ipv4Header) || total < header) return Drop::ip4_malformed;
  if (!f.cursor.truncate(total)) return Drop::ip4_malformed;
  if (f.packet.ip_checksum == ChecksumVerdict::bad) return Drop::ip4_bad_checksum;
  if (f.packet.ip_checksum == ChecksumVerdict::unknown &&
      !checksum_is_good(checksum_add({f.cursor.data(), header}))) {
    return Drop::ip4_bad_checksum;
  }
  (void)f.cursor.take<Ipv4Header>();
  const size_t options = header - sizeof(Ipv4Header);
  if (!ipv4_options_acceptable(Cursor(f.cursor.take_bytes(options), options))) {
    return Drop::ip4_bad_option;
  }
  f.out.source = address_of(ip->source);
  f.out.destination = address_of(ip->destination);
  if (!ipv4_source_possible(f.out.source.v4_value())) return Drop::ip4_bad_source;
  f.out.protocol = ip->protocol;
  f.out.ttl = ip->ttl;
  f.out.tos = ip->tos;
  const uint16_t place = ip->flags_fragment.host();
  const size_t offset = (place & Ipv4Header::kOffsetMask) * size_t{8};
  const bool more = (place & Ipv4Header::kMoreFragments) != 0;
  f.out.fragment = more || offset != 0;
  if (f.out.fragment && !fragment_place_possible(offset, total - header, more)) {
    return Drop::ip4_malformed;
  }
  return parse_transport(f);
}

// ---- IPv6 ----

// RFC 8200 4.2. Unknown options are skipped where their type allows it; the others, and a jumbo
// length, make the packet unacceptable.
bool ipv6_options_acceptable(Cursor options) {
  constexpr uint8_t kPad1 = 0;
  constexpr uint8_t kActionMask = 0xc0;  // 00: skip if unknown
  while (const auto* const type = options.take<uint8_t>()) {
    if (*type == kPad1) continue;
    const auto* const length = options.take<uint8_t>();
    if (length == nullptr || options.take_bytes(*length) == nullptr) return false;
    if ((*type & kActionMask) != 0) return false;
  }
  return true;
}

// Hop-by-hop, routing or destination options. Consumes the header.
bool take_extension(Frame& f, uint8_t* next) {
  const auto* const extension = f.cursor.peek<Ipv6Extension>();
  if (extension == nullptr) return false;
  const size_t length = (size_t{extension->length} + 1) * 8;
  const std::byte* const bytes = f.cursor.take_bytes(length);
  if (bytes == nullptr) return false;
  const uint8_t kind = *next;
  *next = extension->next_header;
  // RFC 8200 4.4: nothing is left to visit, so the type does not matter; else we are no router.
  if (kind == next_header::routing) return extension->segments_left == 0;
  return ipv6_options_acceptable(Cursor(bytes + 2, length - 2));
}

bool take_fragment(Frame& f, uint8_t* next) {
  const auto* const fragment = f.cursor.take<Ipv6Fragment>();
  if (fragment == nullptr) return false;
  *next = fragment->next_header;
  const uint16_t place = fragment->offset_more.host();
  const bool more = (place & Ipv6Fragment::kMore) != 0;
  const size_t offset = place & Ipv6Fragment::kOffsetMask;
  f.out.fragment = more || offset != 0;
  return !f.out.fragment || fragment_place_possible(offset, f.cursor.remaining(), more);
}

// RFC 8200 4.1: hop-by-hop options are first or absent; the chain ends at the first header that is
// no extension, or behind a fragment header that is one of several.
Drop walk_extensions(Frame& f, uint8_t next) {
  for (int i = 0;; ++i) {
    const bool is_options = next == next_header::hop_by_hop ||
                            next == next_header::destination_options ||
                            next == next_header::routing;
    if (!is_options && next != next_header::fragment) break;
    if (i == kMaxExtensions) return Drop::ip6_bad_extension;
    if (next == next_header::hop_by_hop && i != 0) return Drop::ip6_bad_extension;
    if (!(is_options ? take_extension(f, &next) : take_fragment(f, &next))) {
      return Drop::ip6_bad_extension;
    }
    if (f.out.fragment) break;
  }
  f.out.protocol = next;
  return Drop::none;
}

// RFC 4291 2.5.3, 2.7. Mapped addresses (RFC 4291 2.5.5.2) are ours for IPv4 and must not come from
// the wire, where they would pass for another host.
bool ipv6_source_possible(const IpAddress& a) {
  constexpr uint8_t kLoopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return !a.is_v4() && !a.is_multicast() && a != IpAddress::v6(kLoopback);
}

Drop parse_ipv6(Frame& f) {
  f.out.l3_offset = offset_of(f);
  f.out.is_v6 = true;
  const auto* const ip = f.cursor.take<Ipv6Header>();
  if (ip == nullptr || ip->version() != 6) return Drop::ip6_malformed;
  if (!f.cursor.truncate(ip->payload_length.host())) return Drop::ip6_malformed;
  f.out.source = address_of(ip->source);
  f.out.destination = address_of(ip->destination);
  if (!ipv6_source_possible(f.out.source)) return Drop::ip6_bad_source;
  if (f.out.destination.is_v4()) return Drop::ip6_not_ours;
  f.out.ttl = ip->hop_limit;
  f.out.tos = ip->traffic_class();
  if (const Drop drop = walk_extensions(f, ip->next_header); drop != Drop::none) return drop;
  // "::" asks whether an address is free (RFC 4862 5.4.2) and says nothing else.
  if (f.out.source.is_any() && f.out.protocol != static_cast<uint8_t>(Protocol::icmp6)) {
    return Drop::ip6_bad_source;
  }
  return parse_transport(f);
}

// ---- ARP and Ethernet ----

Drop parse_arp(Frame& f) {
  constexpr uint16_t kEthernet = 1;
  f.out.l3_offset = offset_of(f);
  f.out.kind = PacketKind::arp;
  const auto* const arp = f.cursor.take<ArpHeader>();
  if (arp == nullptr || arp->hardware_type != be16(kEthernet) ||
      arp->protocol_type != be16(ether_type::ipv4) || arp->hardware_length != sizeof(MacAddress) ||
      arp->protocol_length != sizeof(Ipv4Bytes)) {
    return Drop::arp_malformed;
  }
  const uint16_t operation = arp->operation.host();
  if (operation != 1 && operation != 2) return Drop::arp_malformed;
  if (arp->sender_mac.is_multicast() || arp->sender_mac.is_zero()) return Drop::arp_malformed;
  f.out.source = address_of(arp->sender_ip);
  f.out.destination = address_of(arp->target_ip);
  // RFC 5227 2.1.1: a probe's sender address is zero.
  if (!f.out.source.is_any() && !ipv4_source_possible(f.out.source.v4_value())) {
    return Drop::arp_malformed;
  }
  return Drop::none;
}

// The tag that the device stripped, or the one inline; both at once are double tagging.
Drop take_vlan(Frame& f, uint16_t* type) {
  f.out.vlan = f.packet.vlan & kVlanMask;
  if (*type == ether_type::vlan) {
    const auto* const tag = f.cursor.take<VlanTag>();
    if (tag == nullptr) return Drop::frame_too_short;
    if (f.out.vlan != 0) return Drop::vlan_unknown;
    f.out.vlan = tag->tci.host() & kVlanMask;
    *type = tag->type.host();
    if (*type == ether_type::vlan) return Drop::vlan_unknown;
  }
  return f.out.vlan == kVlanReserved ? Drop::vlan_unknown : Drop::none;
}

Drop parse_frame(Frame& f) {
  const auto* const ethernet = f.cursor.take<EthernetHeader>();
  if (ethernet == nullptr) return Drop::frame_too_short;
  f.out.mac_source = ethernet->source;
  f.out.mac_destination = ethernet->destination;
  if (ethernet->source.is_multicast()) return Drop::eth_bad_source;
  uint16_t type = ethernet->type.host();
  if (const Drop drop = take_vlan(f, &type); drop != Drop::none) return drop;
  switch (type) {
    case ether_type::ipv4:
      return parse_ipv4(f);
    case ether_type::ipv6:
      return parse_ipv6(f);
    case ether_type::arp:
      return parse_arp(f);
    default:
      return Drop::eth_unknown_type;
  }
}

}  // namespace

void parse_any(const RxPacket& packet, ParsedPacket* out) noexcept {
  *out = ParsedPacket{};
  out->interface = packet.interface;
  Frame frame{packet, Cursor(packet.data, packet.length), *out};
  out->drop = parse_frame(frame);
}

ParsedPacket parse(const RxPacket& packet) noexcept {
  ParsedPacket out;
  if (!parse_common(packet, &out)) parse_any(packet, &out);
  return out;
}

void parse_burst(std::span<const RxPacket> burst, ParsedPacket* out) noexcept {
  constexpr size_t kAhead = 4;
  const size_t n = burst.size();
  for (size_t i = 0; i < std::min(kAhead, n); ++i) __builtin_prefetch(burst[i].data);
  for (size_t i = 0; i < n; ++i) {
    if (i + kAhead < n) __builtin_prefetch(burst[i + kAhead].data);
    if (!parse_common(burst[i], out + i)) parse_any(burst[i], out + i);
  }
}

// ---- ICMP quotations ----

namespace {

// The transport's first bytes at the cursor.
void read_quoted_ports(Cursor cursor, QuotedPacket* quoted) {
  const auto* const ports = cursor.take<be32>();
  const auto* const seq = cursor.take<be32>();
  if (seq == nullptr) {
    quoted->protocol = 0;
    return;
  }
  const bool has_ports = quoted->protocol == static_cast<uint8_t>(Protocol::tcp) ||
                         quoted->protocol == static_cast<uint8_t>(Protocol::udp);
  if (!has_ports) return;
  quoted->source_port = static_cast<uint16_t>(ports->host() >> 16);
  quoted->destination_port = static_cast<uint16_t>(ports->host());
  if (quoted->protocol == static_cast<uint8_t>(Protocol::tcp)) {
    quoted->tcp_seq = seq->host();
  } else {
    quoted->payload = cursor.rest();
  }
}

QuotedPacket quoted_ipv4(Cursor cursor) {
  QuotedPacket quoted;
  const auto* const ip = cursor.take<Ipv4Header>();
  if (ip == nullptr || ip->version() != 4 || ip->header_length() < sizeof(Ipv4Header)) return {};
  if (cursor.take_bytes(ip->header_length() - sizeof(Ipv4Header)) == nullptr) return {};
  if ((ip->flags_fragment.host() & Ipv4Header::kOffsetMask) != 0) return {};
  quoted.protocol = ip->protocol;
  quoted.source = address_of(ip->source);
  quoted.destination = address_of(ip->destination);
  read_quoted_ports(cursor, &quoted);
  return quoted;
}

// We send no extension headers but a fragment header, so a genuine quotation has no other.
QuotedPacket quoted_ipv6(Cursor cursor) {
  QuotedPacket quoted;
  const auto* const ip = cursor.take<Ipv6Header>();
  if (ip == nullptr || ip->version() != 6) return {};
  quoted.protocol = ip->next_header;
  quoted.source = address_of(ip->source);
  quoted.destination = address_of(ip->destination);
  if (quoted.source.is_v4() || quoted.destination.is_v4()) return {};
  if (quoted.protocol == next_header::fragment) {
    const auto* const fragment = cursor.take<Ipv6Fragment>();
    if (fragment == nullptr) return {};
    if ((fragment->offset_more.host() & Ipv6Fragment::kOffsetMask) != 0) return {};
    quoted.protocol = fragment->next_header;
  }
  read_quoted_ports(cursor, &quoted);
  return quoted;
}

}  // namespace

QuotedPacket parse_icmp_quote(const RxPacket& packet, const ParsedPacket& parsed) noexcept {
  const Cursor cursor(payload(packet, parsed));
  return parsed.is_v6 ? quoted_ipv6(cursor) : quoted_ipv4(cursor);
}

}  // namespace postern::wire
