// What crosses between the data plane and the pure stack: a received frame, a parsed packet, and a
// frame to send. No DPDK type appears here; the data plane converts at its edge.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "base/address.h"
#include "base/drop.h"
#include "base/equal_words.h"

namespace postern {

// What the device says about a checksum of a received packet; `unchecked`: nobody looks, the link
// is trusted and its peer may not have filled it in (TCP and UDP only).
enum class ChecksumVerdict : uint8_t { unknown, good, bad, unchecked };

// A received frame in one contiguous buffer, from the first byte of the Ethernet header, without
// FCS. The bytes belong to the caller and live until the call that takes it returns.
struct RxPacket {
  const std::byte* data = nullptr;
  uint32_t length = 0;
  uint16_t interface = 0;  // index of the interface it arrived on
  uint16_t vlan = 0;       // tag stripped by the device, 0 if none
  ChecksumVerdict ip_checksum = ChecksumVerdict::unknown;
  ChecksumVerdict l4_checksum = ChecksumVerdict::unknown;
};

enum class Protocol : uint8_t { icmp = 1, tcp = 6, udp = 17, icmp6 = 58 };

enum class PacketKind : uint8_t { arp, tcp, udp, icmp, other };

namespace tcp_flag {
inline constexpr uint8_t fin = 0x01, syn = 0x02, rst = 0x04, psh = 0x08, ack = 0x10, urg = 0x20,
                         ece = 0x40, cwr = 0x80;
}

// By which link a packet came and where it is to go: packets that agree in it differ for the stack
// only in who sent them.
struct PacketTarget {
  Drop drop = Drop::none;  // anything else: the rest is not valid
  PacketKind kind = PacketKind::other;
  bool is_v6 = false;
  bool fragment = false;  // a fragment: transport fields are not parsed
  uint16_t interface = 0;
  uint16_t vlan = 0;
  MacAddress mac_destination;
  uint16_t destination_port = 0;  // host order
  IpAddress destination;

  friend bool operator==(const PacketTarget& a, const PacketTarget& b) noexcept {
    return equal_words(a, b);
  }
};
static_assert(sizeof(PacketTarget) == 32 && std::has_unique_object_representations_v<PacketTarget>);

// The result of wire::parse: all lengths proven, all checksums judged, everything in host order.
// Offsets are from RxPacket::data. After a successful parse no length arithmetic on raw bytes is
// needed again: [payload_offset, payload_offset + payload_length) lies within the frame.
struct ParsedPacket : PacketTarget {
  IpAddress source;
  MacAddress mac_source;
  uint16_t source_port = 0;  // host order; ICMP: type << 8 | code
  uint8_t protocol = 0;      // IP protocol number
  uint8_t ttl = 0;           // or hop limit
  uint8_t tos = 0;           // DSCP and ECN, or traffic class
  uint16_t l3_offset = 0;    // first byte of the IP (or ARP) header
  uint16_t l4_offset = 0;    // first byte of the transport header
  uint32_t payload_offset = 0;
  uint32_t payload_length = 0;
  // TCP only.
  uint32_t tcp_seq = 0;
  uint32_t tcp_ack = 0;
  uint16_t tcp_window = 0;  // as on the wire, not scaled
  uint16_t tcp_urgent = 0;
  uint8_t tcp_flags = 0;
  uint8_t tcp_options_length = 0;  // bytes at l4_offset + 20
};

// A frame to send. `data` is owned by the caller of Stack::egress and has room for `capacity`
// bytes; the stack writes the whole frame there and sets the rest. With checksum offload the
// transport checksum field holds the pseudo-header sum and needs_l4_checksum is set. A TCP segment
// that the device is to cut up may need more room: `length` bytes of each of the next `pieces`
// frames follow, and nothing else of these frames is set. Where the interface gathers, the last
// bytes of a frame may be named instead of written: they are at `payload`, an application's memory,
// good until the stack is called again.
struct TxFrame {
  std::byte* data = nullptr;  // in: where to write
  uint32_t capacity = 0;      // in: bytes at data
  uint32_t length = 0;        // out: bytes written
  uint16_t tso_mss = 0;       // out: segment size if the device is to segment, else 0
  uint16_t pieces = 0;        // out, with tso_mss: frames that hold the rest
  uint8_t l2_length = 0;      // out: header lengths, for offload
  uint8_t l3_length = 0;
  uint8_t protocol = 0;                // out: IP protocol, 0 for ARP
  bool is_v6 = false;                  // out
  uint8_t l4_length = 0;               // out
  bool needs_ip_checksum = false;      // out: left to the device
  bool needs_l4_checksum = false;      // out: left to the device
  uint16_t interface = 0;              // out
  uint32_t payload_length = 0;         // out, with payload
  const std::byte* payload = nullptr;  // in: null; out: payload_length bytes that follow
};

// Who fills in the checksum of TCP and UDP on transmit; `none`: it is 0.
enum class L4Checksum : uint8_t { software, device, none };

// What a device can do on transmit for the interface, as the stack needs to know it.
struct TxOffloads {
  bool ip_checksum = false;
  L4Checksum l4_checksum = L4Checksum::software;
  bool tso = false;     // with L4Checksum::device; takes a frame in several buffers
  bool gather = false;  // not with L4Checksum::software: takes payload from where it lies
};

}  // namespace postern
