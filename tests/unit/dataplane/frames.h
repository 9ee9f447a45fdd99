// Frames for the data plane's tests, written byte by byte, with right checksums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/checksum.h"
#include "wire/headers.h"

namespace postern::test {

using Frame = std::vector<std::byte>;

inline void put(Frame& f, std::initializer_list<unsigned> bytes) {
  for (unsigned b : bytes) f.push_back(static_cast<std::byte>(b));
}
inline void put16(Frame& f, unsigned v) { put(f, {v >> 8 & 0xff, v & 0xff}); }
inline void put32(Frame& f, uint32_t v) {
  put16(f, v >> 16);
  put16(f, v & 0xffff);
}
inline void put_mac(Frame& f, const MacAddress& mac) {
  for (uint8_t b : mac.bytes) put(f, {b});
}
inline void put_checksum(Frame& f, size_t at, uint32_t sum) {
  const be16 c = checksum_finish(sum);
  std::memcpy(f.data() + at, &c, 2);
}

inline Frame ethernet(const MacAddress& to, const MacAddress& from, unsigned type) {
  Frame f;
  put_mac(f, to);
  put_mac(f, from);
  put16(f, type);
  return f;
}

// Ethernet and IPv4 headers in front of `payload`. fragment: the flags-and-offset word.
inline Frame ipv4(const MacAddress& to, const MacAddress& from, uint32_t source,
                  uint32_t destination, uint8_t protocol, std::span<const std::byte> payload,
                  unsigned fragment = 0x4000) {
  Frame f = ethernet(to, from, 0x0800);
  put(f, {0x45, 0});
  put16(f, static_cast<unsigned>(20 + payload.size()));
  put16(f, 1);
  put16(f, fragment);
  put(f, {64, protocol, 0, 0});
  put32(f, source);
  put32(f, destination);
  put_checksum(f, 24, checksum_add({f.data() + 14, 20}));
  f.insert(f.end(), payload.begin(), payload.end());
  return f;
}

// Ports and 16 more bytes: enough of TCP for steering.
inline Frame tcp_header(uint16_t source, uint16_t destination) {
  Frame f;
  put16(f, source);
  put16(f, destination);
  put32(f, 1);
  put32(f, 2);
  put(f, {0x50, 0x10, 0x10, 0, 0, 0, 0, 0});
  return f;
}

inline Frame udp(uint32_t source, uint32_t destination, uint16_t source_port,
                 uint16_t destination_port, std::span<const std::byte> payload) {
  Frame f;
  put16(f, source_port);
  put16(f, destination_port);
  put16(f, static_cast<unsigned>(8 + payload.size()));
  put16(f, 0);
  f.insert(f.end(), payload.begin(), payload.end());
  put_checksum(f, 6,
               checksum_combine(pseudo_header_sum(IpAddress::v4(source), IpAddress::v4(destination),
                                                  17, static_cast<uint32_t>(f.size())),
                                checksum_add(f)));
  return f;
}

inline Frame icmp_echo(uint16_t id, uint16_t sequence, size_t bytes) {
  Frame f;
  put(f, {8, 0, 0, 0});
  put16(f, id);
  put16(f, sequence);
  for (size_t i = 0; i < bytes; ++i) put(f, {static_cast<unsigned>(i & 0xff)});
  put_checksum(f, 2, checksum_add(f));
  return f;
}

inline Frame arp(unsigned operation, const MacAddress& to, const MacAddress& sender,
                 uint32_t sender_ip, const MacAddress& target, uint32_t target_ip) {
  Frame f = ethernet(to, sender, 0x0806);
  put16(f, 1);
  put16(f, 0x0800);
  put(f, {6, 4});
  put16(f, operation);
  put_mac(f, sender);
  put32(f, sender_ip);
  put_mac(f, target);
  put32(f, target_ip);
  return f;
}

inline Frame ipv6(const IpAddress& source, const IpAddress& destination, uint8_t next,
                  std::span<const std::byte> payload) {
  Frame f = ethernet({{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 0, 2}}, 0x86dd);
  put32(f, 0x60000000);
  put16(f, static_cast<unsigned>(payload.size()));
  put(f, {next, 64});
  for (int i = 0; i < 16; ++i) put(f, {source.data()[i]});
  for (int i = 0; i < 16; ++i) put(f, {destination.data()[i]});
  f.insert(f.end(), payload.begin(), payload.end());
  return f;
}

}  // namespace postern::test
