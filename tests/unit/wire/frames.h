// Frames for tests of the parser: whole valid ones of every kind, to be changed byte by byte.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "wire/build.h"
#include "wire/parse.h"

namespace postern::wire {

inline const MacAddress kOurMac{{0x02, 0, 0, 0, 0, 1}};
inline const MacAddress kPeerMac{{0x02, 0, 0, 0, 0, 2}};

// "192.0.2.1" or "2001:db8::1"; aborts the test program if it is not an address.
IpAddress address(std::string_view text);

inline IpAddress our_address(bool v6) { return address(v6 ? "2001:db8::1" : "192.0.2.1"); }
inline IpAddress peer_address(bool v6) { return address(v6 ? "2001:db8::2" : "192.0.2.2"); }

std::vector<std::byte> bytes_of(std::string_view text);

// A frame and what the device said about it.
struct TestFrame {
  std::vector<std::byte> bytes;
  RxPacket meta;

  [[nodiscard]] RxPacket packet() const {
    RxPacket p = meta;
    p.data = bytes.data();
    p.length = static_cast<uint32_t>(bytes.size());
    return p;
  }
  [[nodiscard]] ParsedPacket parse() const { return wire::parse(packet()); }
  uint8_t get(size_t at) const { return static_cast<uint8_t>(bytes.at(at)); }
  void set(size_t at, uint8_t value) { bytes.at(at) = static_cast<std::byte>(value); }
  void set16(size_t at, uint16_t value) {
    set(at, static_cast<uint8_t>(value >> 8));
    set(at + 1, static_cast<uint8_t>(value));
  }
  void insert(size_t at, std::initializer_list<uint8_t> what);
};

inline constexpr size_t kIp = 14;          // first byte of the IP header
inline constexpr size_t kL4v4 = kIp + 20;  // transport behind a plain IPv4 header
inline constexpr size_t kL4v6 = kIp + 40;  // and behind an IPv6 header
inline size_t l4(bool v6) { return v6 ? kL4v6 : kL4v4; }

TestFrame arp_frame(const ArpPacket& arp);
// `transport`: header and payload with its checksum already right.
TestFrame ip_frame(bool v6, uint8_t protocol, std::span<const std::byte> transport);
TestFrame ip_frame(const IpFields& fields, std::span<const std::byte> transport);
TestFrame udp_frame(bool v6, std::string_view payload);
TestFrame tcp_frame(bool v6, const TcpSegment& segment, std::string_view payload = {});
TestFrame icmp_frame(bool v6, uint8_t type, uint8_t code, uint32_t rest,
                     std::span<const std::byte> payload);

// Recomputes after a change on purpose, so that the checksum is not what is found wrong.
void fix_ipv4_checksum(TestFrame& frame);
void fix_l4_checksum(TestFrame& frame, bool v6, Protocol protocol);

}  // namespace postern::wire
