// The common frames, written in one go: untagged Ethernet, IPv4 without options, and TCP with no
// option or with timestamps alone, or UDP. Byte for byte what the general writers of wire/build.h
// make of them, which write everything else.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/byte_order.h"
#include "base/checksum.h"
#include "flow/flow_table.h"
#include "wire/headers.h"
#include "wire/packet.h"
#include "wire/segment.h"

namespace postern {

inline constexpr uint32_t kCommonL3 = 14;  // where headers begin
inline constexpr uint32_t kCommonL4 = 34;
inline constexpr uint32_t kCommonUdp = 8;  // length of a UDP header

struct CommonFields {
  const MacAddress& destination;
  const MacAddress& source;
  uint16_t id = 0;
  uint8_t tos = 0;
  uint8_t ttl = 64;
  bool dont_fragment = true;
  bool offload_ip_checksum = false;
};

struct CommonHeaders {
  uint32_t length = 0;  // 54 or 66
  uint64_t sum = 0;     // of the pseudo-header, not folded
};

// The segment carries no option but timestamps.
[[nodiscard]] inline bool is_common_segment(const TcpSegment& s) noexcept {
  return (s.has_mss | s.has_window_scale | s.sack_permitted | s.sack_count) == 0;
}

namespace detail {

inline void put32(std::byte* at, uint32_t v) noexcept {
  const be32 wire(v);
  std::memcpy(at, &wire, sizeof wire);
}

template <class T>
T load(const std::byte* at) noexcept {
  T v;
  std::memcpy(&v, at, sizeof v);
  return v;
}

// The checksum field for a sum of few words.
inline be16 finish(uint64_t sum) noexcept { return checksum_finish(checksum_fold64(sum)); }

inline void put_tcp(std::byte* at, const FlowKey& key, const TcpSegment& s) noexcept {
  const uint32_t words = s.has_timestamps ? 8 : 5;
  put32(at, uint32_t{key.local_port} << 16 | key.remote_port);
  put32(at + 4, s.seq);
  put32(at + 8, s.ack);
  put32(at + 12, words << 28 | uint32_t{s.flags} << 16 | s.window);
  put32(at + 16, s.urgent);  // checksum 0
  if (!s.has_timestamps) return;
  put32(at + 20, 0x0101080a);  // two no-operations; timestamps, 10 bytes
  put32(at + 24, s.ts_value);
  put32(at + 28, s.ts_echo);
}

}  // namespace detail

// Ethernet and IPv4. Returns the sum of the pseudo-header, not folded.
inline uint64_t write_common_ipv4(std::byte* out, const IpAddress& local_address,
                                  const IpAddress& remote_address, Protocol protocol,
                                  uint32_t l4_length, const CommonFields& f) noexcept {
  using namespace detail;
  const auto local = load<uint32_t>(reinterpret_cast<const std::byte*>(local_address.data()) + 12);
  const auto remote =
      load<uint32_t>(reinterpret_cast<const std::byte*>(remote_address.data()) + 12);
  std::memcpy(out, &f.destination, 6);
  std::memcpy(out + 6, &f.source, 6);
  put32(out + 12, uint32_t{wire::ether_type::ipv4} << 16 | 0x4500U | f.tos);
  put32(out + 16, (20 + l4_length) << 16 | f.id);
  const uint32_t fragment = f.dont_fragment ? wire::Ipv4Header::kDontFragment : 0;
  put32(out + 20, fragment << 16 | uint32_t{f.ttl} << 8 | static_cast<uint32_t>(protocol));
  std::memcpy(out + 26, &local, 4);
  std::memcpy(out + 30, &remote, 4);
  const uint64_t addresses = uint64_t{local} + remote;
  be16 ip_checksum{0};
  if (!f.offload_ip_checksum) {
    ip_checksum = finish(addresses + load<uint16_t>(out + 14) + load<uint32_t>(out + 16) +
                         load<uint32_t>(out + 20));
  }
  std::memcpy(out + 24, &ip_checksum, 2);
  return addresses + checksum_word(static_cast<uint16_t>(protocol)) +
         checksum_word(static_cast<uint16_t>(l4_length));
}

// Writes all headers of a segment, the checksum of TCP zero. `key` has IPv4 addresses.
inline CommonHeaders write_common_headers(std::byte* out, const FlowKey& key, const TcpSegment& s,
                                          const CommonFields& f) noexcept {
  const uint32_t tcp_header = s.has_timestamps ? 32 : 20;
  const uint64_t pseudo =
      write_common_ipv4(out, key.local, key.remote, Protocol::tcp, tcp_header + s.length, f);
  detail::put_tcp(out + kCommonL4, key, s);
  return {kCommonL4 + tcp_header, pseudo};
}

// The headers of a datagram; its checksum too, of which a device adds header and payload.
// `payload`: running sum of the payload.
struct CommonDatagram {
  const IpAddress& source;
  uint16_t port = 0;
  const Endpoint& remote;
  uint32_t length = 0;  // of the payload
};
inline void write_common_datagram(std::byte* out, const CommonDatagram& d, uint32_t payload,
                                  L4Checksum by, const CommonFields& f) noexcept {
  const uint32_t length = kCommonUdp + d.length;
  const uint64_t pseudo =
      write_common_ipv4(out, d.source, d.remote.address, Protocol::udp, length, f);
  std::byte* const udp = out + kCommonL4;
  detail::put32(udp, uint32_t{d.port} << 16 | d.remote.port);
  be16 checksum{0};
  if (by == L4Checksum::device) {
    checksum = std::bit_cast<be16>(checksum_fold(checksum_fold64(pseudo)));
  } else if (by == L4Checksum::software) {
    checksum = detail::finish(pseudo + payload + detail::load<uint32_t>(udp) +
                              checksum_word(static_cast<uint16_t>(length)));
    if (checksum == be16(0)) checksum = 0xffff;  // RFC 768: 0 means none
  }
  const be16 wire_length(static_cast<uint16_t>(length));
  std::memcpy(udp + 4, &wire_length, 2);
  std::memcpy(udp + 6, &checksum, 2);
}

// Sets the checksum of TCP, to which a device adds header and payload. `payload`: running sum of
// the payload.
inline void finish_common_checksum(std::byte* out, const CommonHeaders& headers, uint32_t payload,
                                   L4Checksum by) noexcept {
  if (by == L4Checksum::none) return;  // it is 0
  be16 checksum;
  if (by == L4Checksum::device) {
    checksum = std::bit_cast<be16>(checksum_fold(checksum_fold64(headers.sum)));
  } else {
    uint64_t sum = headers.sum + payload;
    for (uint32_t at = kCommonL4; at < headers.length; at += 4) {
      sum += detail::load<uint32_t>(out + at);
    }
    checksum = detail::finish(sum);
  }
  std::memcpy(out + kCommonL4 + offsetof(wire::TcpHeader, checksum), &checksum, sizeof checksum);
}

// What the device has to know of a common frame, but its length and interface.
inline void describe_common(TxFrame& frame, Protocol protocol, uint32_t l4_length,
                            const TxOffloads& offloads) noexcept {
  frame.tso_mss = 0;
  frame.pieces = 0;
  frame.l2_length = kCommonL3;
  frame.l3_length = kCommonL4 - kCommonL3;
  frame.protocol = static_cast<uint8_t>(protocol);
  frame.is_v6 = false;
  frame.l4_length = static_cast<uint8_t>(l4_length);
  frame.needs_ip_checksum = offloads.ip_checksum;
  frame.needs_l4_checksum = offloads.l4_checksum == L4Checksum::device;
}

}  // namespace postern
