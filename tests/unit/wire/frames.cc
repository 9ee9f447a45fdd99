#include "frames.h"

#include <cstdio>
#include <cstdlib>

#include "base/checksum.h"

namespace postern::wire {

IpAddress address(std::string_view text) {
  const auto parsed = IpAddress::parse(text);
  if (!parsed) {
    std::fprintf(stderr, "not an address: %.*s\n", static_cast<int>(text.size()), text.data());
    std::abort();
  }
  return *parsed;
}

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void TestFrame::insert(size_t at, std::initializer_list<uint8_t> what) {
  std::vector<std::byte> more;
  for (const uint8_t b : what) more.push_back(static_cast<std::byte>(b));
  bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), more.begin(), more.end());
}

TestFrame arp_frame(const ArpPacket& arp) {
  TestFrame frame;
  frame.bytes.resize(60);
  const size_t n = write_ethernet(frame.bytes.data(), kOurMac, kPeerMac, ether_type::arp);
  write_arp(frame.bytes.data() + n, arp);
  return frame;
}

TestFrame ip_frame(const IpFields& fields, std::span<const std::byte> transport) {
  const bool v6 = !fields.destination.is_v4();
  TestFrame frame;
  frame.bytes.resize(kMaxHeaders);
  std::byte* p = frame.bytes.data();
  p += write_ethernet(p, kOurMac, kPeerMac, v6 ? ether_type::ipv6 : ether_type::ipv4);
  IpFields whole = fields;
  whole.payload_length = static_cast<uint32_t>(transport.size());
  p += write_ip(p, whole);
  frame.bytes.resize(static_cast<size_t>(p - frame.bytes.data()));
  frame.bytes.insert(frame.bytes.end(), transport.begin(), transport.end());
  return frame;
}

TestFrame ip_frame(bool v6, uint8_t protocol, std::span<const std::byte> transport) {
  IpFields fields;
  fields.source = peer_address(v6);
  fields.destination = our_address(v6);
  fields.protocol = protocol;
  return ip_frame(fields, transport);
}

TestFrame udp_frame(bool v6, std::string_view payload) {
  std::vector<std::byte> transport(sizeof(UdpHeader));
  write_udp(transport.data(), 4000, 53, payload.size());
  const auto body = bytes_of(payload);
  transport.insert(transport.end(), body.begin(), body.end());
  finish_checksum(transport.data(), sizeof(UdpHeader), payload.size(), peer_address(v6),
                  our_address(v6), Protocol::udp);
  return ip_frame(v6, 17, transport);
}

TestFrame tcp_frame(bool v6, const TcpSegment& segment, std::string_view payload) {
  std::vector<std::byte> transport(60);
  const size_t header = write_tcp(transport.data(), 40000, 80, segment);
  transport.resize(header);
  const auto body = bytes_of(payload);
  transport.insert(transport.end(), body.begin(), body.end());
  finish_checksum(transport.data(), header, payload.size(), peer_address(v6), our_address(v6),
                  Protocol::tcp);
  return ip_frame(v6, 6, transport);
}

TestFrame icmp_frame(bool v6, uint8_t type, uint8_t code, uint32_t rest,
                     std::span<const std::byte> payload) {
  std::vector<std::byte> transport(sizeof(IcmpHeader));
  write_icmp(transport.data(), type, code, rest);
  transport.insert(transport.end(), payload.begin(), payload.end());
  const Protocol protocol = v6 ? Protocol::icmp6 : Protocol::icmp;
  finish_checksum(transport.data(), sizeof(IcmpHeader), payload.size(), peer_address(v6),
                  our_address(v6), protocol);
  return ip_frame(v6, static_cast<uint8_t>(protocol), transport);
}

void fix_ipv4_checksum(TestFrame& frame) {
  const size_t header = (frame.get(kIp) & 15U) * 4U;
  frame.set16(kIp + 10, 0);
  frame.set16(kIp + 10, checksum_finish(checksum_add({&frame.bytes[kIp], header})).host());
}

void fix_l4_checksum(TestFrame& frame, bool v6, Protocol protocol) {
  const size_t at = l4(v6);
  const size_t field = at + (protocol == Protocol::tcp ? 16 : protocol == Protocol::udp ? 6 : 2);
  frame.set16(field, 0);
  finish_checksum(&frame.bytes[at], 0, frame.bytes.size() - at, peer_address(v6), our_address(v6),
                  protocol);
}

}  // namespace postern::wire
