// Headers as they stand on the wire. Overlays only: no lengths are proven here (wire/parse.h does).
// Every field is a byte or a big-endian type, so that any address will do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/address.h"
#include "base/byte_order.h"

namespace postern::wire {

namespace ether_type {
inline constexpr uint16_t ipv4 = 0x0800, arp = 0x0806, vlan = 0x8100, ipv6 = 0x86dd;
}

struct EthernetHeader {
  MacAddress destination;
  MacAddress source;
  be16 type;
};
static_assert(sizeof(EthernetHeader) == 14 && alignof(EthernetHeader) == 1);

// IEEE 802.1Q: what follows the tag's own EtherType (0x8100).
struct VlanTag {
  be16 tci;   // priority 3 bits, drop eligible 1, VLAN identifier 12
  be16 type;  // of what the tag encloses
};
static_assert(sizeof(VlanTag) == 4);

struct Ipv4Bytes {
  uint8_t b[4];
};
struct Ipv6Bytes {
  uint8_t b[16];
};
inline IpAddress address_of(const Ipv4Bytes& a) {
  return IpAddress::v4(uint32_t{a.b[0]} << 24 | uint32_t{a.b[1]} << 16 | uint32_t{a.b[2]} << 8 |
                       a.b[3]);
}
inline IpAddress address_of(const Ipv6Bytes& a) { return IpAddress::v6(a.b); }

// RFC 826, for Ethernet and IPv4.
struct ArpHeader {
  be16 hardware_type;  // 1
  be16 protocol_type;  // 0x0800
  uint8_t hardware_length;
  uint8_t protocol_length;
  be16 operation;
  MacAddress sender_mac;
  Ipv4Bytes sender_ip;
  MacAddress target_mac;
  Ipv4Bytes target_ip;
};
static_assert(sizeof(ArpHeader) == 28);

// RFC 791
struct Ipv4Header {
  uint8_t version_ihl;
  uint8_t tos;
  be16 total_length;
  be16 id;
  be16 flags_fragment;  // 0, DF, MF, offset in units of 8 bytes (13 bits)
  uint8_t ttl;
  uint8_t protocol;
  be16 checksum;
  Ipv4Bytes source;
  Ipv4Bytes destination;

  static constexpr uint16_t kDontFragment = 0x4000;
  static constexpr uint16_t kMoreFragments = 0x2000;
  static constexpr uint16_t kOffsetMask = 0x1fff;
  [[nodiscard]] uint8_t version() const { return version_ihl >> 4; }
  [[nodiscard]] size_t header_length() const { return size_t{version_ihl & 15U} * 4; }
};
static_assert(sizeof(Ipv4Header) == 20);

// RFC 8200
struct Ipv6Header {
  be32 version_class_flow;
  be16 payload_length;
  uint8_t next_header;
  uint8_t hop_limit;
  Ipv6Bytes source;
  Ipv6Bytes destination;

  [[nodiscard]] uint8_t version() const {
    return static_cast<uint8_t>(version_class_flow.host() >> 28);
  }
  [[nodiscard]] uint8_t traffic_class() const {
    return static_cast<uint8_t>(version_class_flow.host() >> 20);
  }
};
static_assert(sizeof(Ipv6Header) == 40);

// RFC 8200 4.3, 4.4, 4.6: what hop-by-hop, routing and destination options headers begin with.
struct Ipv6Extension {
  uint8_t next_header;
  uint8_t length;         // in units of 8 bytes, the first 8 not counted
  uint8_t type;           // routing header: type
  uint8_t segments_left;  // routing header
  be32 rest;
};
static_assert(sizeof(Ipv6Extension) == 8);

namespace next_header {
inline constexpr uint8_t hop_by_hop = 0, routing = 43, fragment = 44, none = 59,
                         destination_options = 60;
}

inline constexpr int kMaxExtensions = 8;  // headers of a packet that are walked

// RFC 8200 4.5
struct Ipv6Fragment {
  uint8_t next_header;
  uint8_t reserved;
  be16 offset_more;  // offset in units of 8 bytes (13 bits), 2 reserved, M
  be32 id;

  static constexpr uint16_t kMore = 1;
  static constexpr uint16_t kOffsetMask = 0xfff8;  // already in bytes
};
static_assert(sizeof(Ipv6Fragment) == 8);

// RFC 768
struct UdpHeader {
  be16 source_port;
  be16 destination_port;
  be16 length;
  be16 checksum;
};
static_assert(sizeof(UdpHeader) == 8);

// RFC 9293 3.1
struct TcpHeader {
  be16 source_port;
  be16 destination_port;
  be32 seq;
  be32 ack;
  uint8_t data_offset;  // high four bits, in units of 4 bytes
  uint8_t flags;
  be16 window;
  be16 checksum;
  be16 urgent;

  [[nodiscard]] size_t header_length() const { return size_t{data_offset} >> 4 << 2; }
};
static_assert(sizeof(TcpHeader) == 20);

// RFC 792 and RFC 4443: both families begin alike.
struct IcmpHeader {
  uint8_t type;
  uint8_t code;
  be16 checksum;
  be32 rest;  // echo: identifier << 16 | sequence; unreachable: next-hop MTU; v6 too big: MTU
};
static_assert(sizeof(IcmpHeader) == 8);

namespace icmp4 {
inline constexpr uint8_t echo_reply = 0, unreachable = 3, redirect = 5, echo_request = 8,
                         time_exceeded = 11, parameter_problem = 12;
// Codes of unreachable.
inline constexpr uint8_t net = 0, host = 1, protocol = 2, port = 3, fragmentation_needed = 4,
                         admin_prohibited = 13;
}  // namespace icmp4

namespace icmp6 {
inline constexpr uint8_t unreachable = 1, packet_too_big = 2, time_exceeded = 3,
                         parameter_problem = 4, echo_request = 128, echo_reply = 129,
                         router_solicitation = 133, router_advertisement = 134,
                         neighbor_solicitation = 135, neighbor_advertisement = 136, redirect = 137;
// Codes of unreachable.
inline constexpr uint8_t no_route = 0, admin_prohibited = 1, address = 3, port = 4;
// Codes of parameter_problem; the last: RFC 7112.
inline constexpr uint8_t field = 0, next_header = 1, option = 2, first_fragment = 3;
}  // namespace icmp6

// Kinds of TCP options (RFC 9293 3.1, RFC 7323, RFC 2018).
namespace tcp_option {
inline constexpr uint8_t end = 0, no_operation = 1, mss = 2, window_scale = 3, sack_permitted = 4,
                         sack = 5, timestamps = 8;
}  // namespace tcp_option

}  // namespace postern::wire
