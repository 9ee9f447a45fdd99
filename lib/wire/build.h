// Headers -> bytes. Writers go front to back into a frame buffer; each returns how many bytes it
// wrote, so that the next begins there. The caller proves the room beforehand: at most
// kMaxHeaders bytes for all headers of one packet.
//
// A TCP frame with its payload copied and summed in one pass:
//
//   std::byte* p = frame.data;
//   p += write_ethernet(p, destination, source, ether_type::ipv4);
//   p += write_ip(p, {.source = a, .destination = b, .protocol = 6, .payload_length = h + n});
//   std::byte* const l4 = p;
//   p += write_tcp(p, port, peer_port, segment);           // checksum field zero
//   const uint32_t sum = copy_and_checksum(p, bytes, n);   // h is even, so n may be odd
//   finish_checksum(l4, h, sum, n, a, b, Protocol::tcp);
//
// With checksum offload the last two lines become a plain copy and
//
//   offload_checksum(l4, a, b, Protocol::tcp, h + n);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/address.h"
#include "wire/arp.h"
#include "wire/headers.h"
#include "wire/packet.h"
#include "wire/segment.h"

namespace postern::wire {

// Ethernet with a tag, IPv6, TCP with all its options.
inline constexpr size_t kMaxHeaders = 18 + 40 + 60;

// vlan: identifier of an inline tag, 0 for none. 14 or 18 bytes.
size_t write_ethernet(std::byte* out, const MacAddress& destination, const MacAddress& source,
                      uint16_t type, uint16_t vlan = 0) noexcept;

// 28 bytes. The caller pads the frame to 60 bytes where its device does not.
size_t write_arp(std::byte* out, const ArpPacket& arp) noexcept;

struct IpFields {
  IpAddress source;  // both addresses of one family, which chooses the header
  IpAddress destination;
  uint8_t protocol = 0;
  uint8_t ttl = 64;
  uint8_t tos = 0;              // DSCP and ECN, or traffic class
  bool dont_fragment = true;    // IPv4
  uint16_t id = 0;              // IPv4: RFC 6864, may be anything while dont_fragment
  uint32_t flow_label = 0;      // IPv6: 20 bits, RFC 6437
  uint32_t payload_length = 0;  // transport header and payload, <= 65,515 or 65,535
  // IPv4 fragments: offset of this one in bytes, a multiple of 8, and whether more follow.
  uint16_t fragment_offset = 0;
  bool more_fragments = false;
  bool offload_checksum = false;  // IPv4: leave the header checksum zero for the device
};

// 20 bytes for IPv4, 40 for IPv6. With TSO, payload_length is that of the whole frame.
size_t write_ip(std::byte* out, const IpFields& fields) noexcept;
size_t write_ipv4(std::byte* out, const IpFields& fields) noexcept;
size_t write_ipv6(std::byte* out, const IpFields& fields) noexcept;

// 8 bytes, checksum zero.
size_t write_udp(std::byte* out, uint16_t source_port, uint16_t destination_port,
                 size_t payload_length) noexcept;

// Header and options in bytes, a multiple of 4 within 20..60. Options are laid out as Linux lays
// them out; SACK blocks that do not fit (the fourth beside timestamps) are left out.
[[nodiscard]] size_t tcp_header_length(const TcpSegment& segment) noexcept;

// tcp_header_length(segment) bytes, checksum zero.
size_t write_tcp(std::byte* out, uint16_t source_port, uint16_t destination_port,
                 const TcpSegment& segment) noexcept;

// 8 bytes, checksum zero. Echo: rest = identifier << 16 | sequence.
size_t write_icmp(std::byte* out, uint8_t type, uint8_t code, uint32_t rest) noexcept;

// How many bytes of an offending IP packet an ICMP error quotes: as much as fits in 576 bytes of
// IPv4 (RFC 1812 4.3.2.3) or 1,280 of IPv6 (RFC 4443 2.4 c), of `length` that there are.
[[nodiscard]] size_t icmp_quote_length(bool is_v6, size_t length) noexcept;

// Sets the checksum of a UDP, TCP or ICMP header in software. `payload_sum`: running sum
// (base/checksum.h) of the payload, which begins at an even position behind the header.
// A UDP result of zero becomes 0xffff (RFC 768).
void finish_checksum(std::byte* header, size_t header_length, uint32_t payload_sum,
                     size_t payload_length, const IpAddress& source, const IpAddress& destination,
                     Protocol protocol) noexcept;

// The same with the payload in place right behind the header.
void finish_checksum(std::byte* header, size_t header_length, size_t payload_length,
                     const IpAddress& source, const IpAddress& destination,
                     Protocol protocol) noexcept;

// Leaves the folded pseudo-header sum in the checksum field, for a device that adds the rest.
// `length`: header and payload; what the device expects with TSO is length 0.
void offload_checksum(std::byte* header, const IpAddress& source, const IpAddress& destination,
                      Protocol protocol, uint32_t length) noexcept;

}  // namespace postern::wire
