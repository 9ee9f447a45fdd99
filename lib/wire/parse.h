// Bytes -> ParsedPacket or a named Drop. The only code that meets network byte order and unproven
// lengths on receive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/headers.h"
#include "wire/packet.h"
#include "wire/segment.h"

namespace postern::wire {

// Parses one frame: Ethernet, one 802.1Q tag (inline, or stripped by the device), ARP, IPv4 (RFC
// 791, 1122), IPv6 with its extension headers (RFC 8200), UDP, TCP, ICMP. Pure; reads nothing
// outside [data, data + length).
//
// What it judges: lengths, checksums (unless the device's verdict is known), sources that no host
// can have, options and extension headers, TCP flags. What is left to the stack, which knows the
// interface: whether MAC, VLAN and IP destination are ours, and the MTU.
//
// Notes on fields:
// - vlan: identifier 1..4094, 0 if untagged or priority-tagged.
// - A fragment has kind by its protocol, l4_offset = payload_offset = first byte of its data; the
//   IPv6 fragment header is the 8 bytes before. An IPv6 atomic fragment (RFC 6946) is no fragment.
// - arp: read_arp() (wire/arp.h) has its fields; sender IP 0.0.0.0 is a probe (RFC 5227).
// - ip6_bad_extension: link, interface, addresses and l3_offset are valid all the same, and
//   wire/problem.h says what its sender is to be told.
// - icmp: source_port = type << 8 | code; payload begins after the 8-byte header.
// - kind other with drop none: an IP protocol that has no parser; `protocol` says which.
[[nodiscard]] ParsedPacket parse(const RxPacket& packet) noexcept;

// The same without the short cut for common packets (parse_common.h), which changes no result.
void parse_any(const RxPacket& packet, ParsedPacket* out) noexcept;

// The same for a burst, prefetching headers ahead. out has room for burst.size().
void parse_burst(std::span<const RxPacket> burst, ParsedPacket* out) noexcept;

// The TCP header and options of a packet that parse() returned with kind tcp. Fills all of
// *segment; unknown options are skipped (RFC 9293 MUST-6). An option whose length is impossible
// (RFC 9293 MUST-7) makes it tcp_malformed.
// SYN-only options (MSS, window scale, SACK permitted) are reported wherever they stand: the engine
// heeds them on SYN only. A window scale above 14 is reported as 14 (RFC 7323 2.3).
[[nodiscard]] Drop parse_tcp(const RxPacket& packet, const ParsedPacket& parsed,
                             TcpSegment* segment) noexcept;

// The payload of a parsed packet.
[[nodiscard]] inline std::span<const std::byte> payload(const RxPacket& packet,
                                                        const ParsedPacket& parsed) noexcept {
  return {packet.data + parsed.payload_offset, parsed.payload_length};
}

// Of an echo: kind icmp.
[[nodiscard]] inline uint16_t icmp_identifier(const RxPacket& packet,
                                              const ParsedPacket& parsed) noexcept {
  const auto& icmp = *reinterpret_cast<const IcmpHeader*>(packet.data + parsed.l4_offset);
  return static_cast<uint16_t>(icmp.rest.host() >> 16);
}

// The packet that an ICMP error quotes (RFC 792, RFC 4443 2.4): its addresses and the first 8 bytes
// of its transport header. It is ours as we sent it, if it is genuine, so source is local.
struct QuotedPacket {
  uint8_t protocol = 0;  // 0: the quotation is too short or not understood
  IpAddress source;
  IpAddress destination;
  uint16_t source_port = 0;  // TCP and UDP only
  uint16_t destination_port = 0;
  uint32_t tcp_seq = 0;
  std::span<const std::byte> payload{};  // UDP only: what is quoted of it
};
// `parsed` has kind icmp. Bounds-checked; fragments other than the first are not understood.
[[nodiscard]] QuotedPacket parse_icmp_quote(const RxPacket& packet,
                                            const ParsedPacket& parsed) noexcept;

}  // namespace postern::wire
