#include "wire/build.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/checksum.h"

namespace postern::wire {

namespace {

// A T that begins at out; its fields are written one by one, so no byte is read.
template <class T>
T& overlay(std::byte* out) {
  static_assert(alignof(T) == 1);
  return *reinterpret_cast<T*>(out);
}

Ipv4Bytes v4_bytes(const IpAddress& a) {
  Ipv4Bytes bytes;
  std::memcpy(bytes.b, a.data() + 12, 4);
  return bytes;
}

Ipv6Bytes v6_bytes(const IpAddress& a) {
  Ipv6Bytes bytes;
  std::memcpy(bytes.b, a.data(), 16);
  return bytes;
}

// Where the checksum stands in a header of a protocol.
std::byte* checksum_field(std::byte* header, Protocol protocol) {
  switch (protocol) {
    case Protocol::tcp:
      return header + offsetof(TcpHeader, checksum);
    case Protocol::udp:
      return header + offsetof(UdpHeader, checksum);
    case Protocol::icmp:
    case Protocol::icmp6:
      break;
  }
  return header + offsetof(IcmpHeader, checksum);
}

// ---- TCP options, as Linux lays them out ----

constexpr size_t kMssLength = 4;
constexpr size_t kWindowScaleLength = 4;    // a no-operation before it
constexpr size_t kTimestampsLength = 12;    // two no-operations, or SACK permitted, before it
constexpr size_t kSackPermittedLength = 4;  // two no-operations before it, if alone
constexpr size_t kSackBlockLength = 8;
constexpr size_t kMaxOptions = 40;

size_t sack_blocks(const TcpSegment& s) {
  const size_t used = (s.has_mss ? kMssLength : 0) + (s.has_timestamps ? kTimestampsLength : 0) +
                      (s.has_window_scale ? kWindowScaleLength : 0) +
                      (s.sack_permitted && !s.has_timestamps ? kSackPermittedLength : 0);
  return std::min<size_t>(s.sack_count, (kMaxOptions - used - 4) / kSackBlockLength);
}

class OptionWriter {
 public:
  explicit OptionWriter(std::byte* out) : at_(out) {}
  void word(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    value(uint32_t{a} << 24 | uint32_t{b} << 16 | uint32_t{c} << 8 | d);
  }
  void value(uint32_t v) {
    const be32 wire(v);
    std::memcpy(at_, &wire, 4);
    at_ += 4;
  }

 private:
  std::byte* at_;
};

void write_timestamps(OptionWriter& out, const TcpSegment& s) {
  using namespace tcp_option;
  if (s.sack_permitted) {
    out.word(tcp_option::sack_permitted, 2, timestamps, 10);
  } else {
    out.word(no_operation, no_operation, timestamps, 10);
  }
  out.value(s.ts_value);
  out.value(s.ts_echo);
}

void write_options(std::byte* at, const TcpSegment& s) {
  using namespace tcp_option;
  OptionWriter out(at);
  if (s.has_mss) {
    out.word(tcp_option::mss, 4, static_cast<uint8_t>(s.mss >> 8), static_cast<uint8_t>(s.mss));
  }
  if (s.has_timestamps) {
    write_timestamps(out, s);
  } else if (s.sack_permitted) {
    out.word(no_operation, no_operation, tcp_option::sack_permitted, 2);
  }
  if (s.has_window_scale) out.word(no_operation, tcp_option::window_scale, 3, s.window_scale);
  const size_t blocks = sack_blocks(s);
  if (blocks == 0) return;
  out.word(no_operation, no_operation, tcp_option::sack,
           static_cast<uint8_t>(2 + blocks * kSackBlockLength));
  for (size_t i = 0; i < blocks; ++i) {
    out.value(s.sack[i].left);
    out.value(s.sack[i].right);
  }
}

}  // namespace

size_t write_ethernet(std::byte* out, const MacAddress& destination, const MacAddress& source,
                      uint16_t type, uint16_t vlan) noexcept {
  auto& ethernet = overlay<EthernetHeader>(out);
  ethernet.destination = destination;
  ethernet.source = source;
  if (vlan == 0) {
    ethernet.type = type;
    return sizeof(EthernetHeader);
  }
  ethernet.type = ether_type::vlan;
  auto& tag = overlay<VlanTag>(out + sizeof(EthernetHeader));
  tag.tci = vlan;
  tag.type = type;
  return sizeof(EthernetHeader) + sizeof(VlanTag);
}

size_t write_arp(std::byte* out, const ArpPacket& arp) noexcept {
  auto& header = overlay<ArpHeader>(out);
  header.hardware_type = 1;
  header.protocol_type = ether_type::ipv4;
  header.hardware_length = sizeof(MacAddress);
  header.protocol_length = sizeof(Ipv4Bytes);
  header.operation = arp.operation;
  header.sender_mac = arp.sender_mac;
  header.sender_ip = v4_bytes(arp.sender_ip);
  header.target_mac = arp.target_mac;
  header.target_ip = v4_bytes(arp.target_ip);
  return sizeof(ArpHeader);
}

size_t write_ipv4(std::byte* out, const IpFields& fields) noexcept {
  assert(fields.payload_length <= 65535 - sizeof(Ipv4Header));
  assert(fields.fragment_offset % 8 == 0);
  auto& ip = overlay<Ipv4Header>(out);
  ip.version_ihl = 0x45;
  ip.tos = fields.tos;
  ip.total_length = static_cast<uint16_t>(sizeof(Ipv4Header) + fields.payload_length);
  ip.id = fields.id;
  ip.flags_fragment = static_cast<uint16_t>(
      (fields.dont_fragment ? Ipv4Header::kDontFragment : 0) |
      (fields.more_fragments ? Ipv4Header::kMoreFragments : 0) | (fields.fragment_offset / 8));
  ip.ttl = fields.ttl;
  ip.protocol = fields.protocol;
  ip.checksum = 0;
  ip.source = v4_bytes(fields.source);
  ip.destination = v4_bytes(fields.destination);
  if (!fields.offload_checksum) {
    ip.checksum = checksum_finish(checksum_add({out, sizeof(Ipv4Header)}));
  }
  return sizeof(Ipv4Header);
}

size_t write_ipv6(std::byte* out, const IpFields& fields) noexcept {
  assert(fields.payload_length <= 65535);
  auto& ip = overlay<Ipv6Header>(out);
  ip.version_class_flow = 6U << 28 | uint32_t{fields.tos} << 20 | (fields.flow_label & 0xfffff);
  ip.payload_length = static_cast<uint16_t>(fields.payload_length);
  ip.next_header = fields.protocol;
  ip.hop_limit = fields.ttl;
  ip.source = v6_bytes(fields.source);
  ip.destination = v6_bytes(fields.destination);
  return sizeof(Ipv6Header);
}

size_t write_ip(std::byte* out, const IpFields& fields) noexcept {
  return fields.destination.is_v4() ? write_ipv4(out, fields) : write_ipv6(out, fields);
}

size_t write_udp(std::byte* out, uint16_t source_port, uint16_t destination_port,
                 size_t payload_length) noexcept {
  auto& udp = overlay<UdpHeader>(out);
  udp.source_port = source_port;
  udp.destination_port = destination_port;
  udp.length = static_cast<uint16_t>(sizeof(UdpHeader) + payload_length);
  udp.checksum = 0;
  return sizeof(UdpHeader);
}

size_t tcp_header_length(const TcpSegment& s) noexcept {
  const size_t blocks = sack_blocks(s);
  return sizeof(TcpHeader) + (s.has_mss ? kMssLength : 0) +
         (s.has_timestamps ? kTimestampsLength : 0) +
         (s.has_window_scale ? kWindowScaleLength : 0) +
         (s.sack_permitted && !s.has_timestamps ? kSackPermittedLength : 0) +
         (blocks > 0 ? 4 + blocks * kSackBlockLength : 0);
}

size_t write_tcp(std::byte* out, uint16_t source_port, uint16_t destination_port,
                 const TcpSegment& segment) noexcept {
  const size_t length = tcp_header_length(segment);
  auto& tcp = overlay<TcpHeader>(out);
  tcp.source_port = source_port;
  tcp.destination_port = destination_port;
  tcp.seq = segment.seq;
  tcp.ack = segment.ack;
  tcp.data_offset = static_cast<uint8_t>(length / 4 << 4);
  tcp.flags = segment.flags;
  tcp.window = segment.window;
  tcp.checksum = 0;
  tcp.urgent = segment.urgent;
  if (length > sizeof(TcpHeader)) write_options(out + sizeof(TcpHeader), segment);
  return length;
}

size_t write_icmp(std::byte* out, uint8_t type, uint8_t code, uint32_t rest) noexcept {
  auto& icmp = overlay<IcmpHeader>(out);
  icmp.type = type;
  icmp.code = code;
  icmp.checksum = 0;
  icmp.rest = rest;
  return sizeof(IcmpHeader);
}

size_t icmp_quote_length(bool is_v6, size_t length) noexcept {
  constexpr size_t kV4 = 576 - sizeof(Ipv4Header) - sizeof(IcmpHeader);
  constexpr size_t kV6 = 1280 - sizeof(Ipv6Header) - sizeof(IcmpHeader);
  return std::min(length, is_v6 ? kV6 : kV4);
}

void finish_checksum(std::byte* header, size_t header_length, uint32_t payload_sum,
                     size_t payload_length, const IpAddress& source, const IpAddress& destination,
                     Protocol protocol) noexcept {
  uint32_t sum = checksum_add({header, header_length}, payload_sum);
  if (protocol != Protocol::icmp) {  // RFC 792 has no pseudo-header
    const auto length = static_cast<uint32_t>(header_length + payload_length);
    sum = checksum_combine(
        sum, pseudo_header_sum(source, destination, static_cast<uint8_t>(protocol), length));
  }
  be16 checksum = checksum_finish(sum);
  if (protocol == Protocol::udp && checksum == be16(0)) checksum = 0xffff;
  std::memcpy(checksum_field(header, protocol), &checksum, sizeof checksum);
}

void finish_checksum(std::byte* header, size_t header_length, size_t payload_length,
                     const IpAddress& source, const IpAddress& destination,
                     Protocol protocol) noexcept {
  finish_checksum(header, header_length, checksum_add({header + header_length, payload_length}),
                  payload_length, source, destination, protocol);
}

void offload_checksum(std::byte* header, const IpAddress& source, const IpAddress& destination,
                      Protocol protocol, uint32_t length) noexcept {
  const uint16_t folded =
      checksum_fold(pseudo_header_sum(source, destination, static_cast<uint8_t>(protocol), length));
  std::memcpy(checksum_field(header, protocol), &folded, sizeof folded);
}

}  // namespace postern::wire
