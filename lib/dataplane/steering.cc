#include "dataplane/steering.h"

#include <algorithm>
#include <cstring>

#include "dpdk/rss.h"
#include "wire/headers.h"

namespace postern {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint8_t kIcmp = 1, kIgmp = 2, kTcp = 6, kUdp = 17, kIcmp6 = 58;
constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kDestination = 60;
constexpr size_t kMaxExtensions = 8;

uint8_t byte_at(Bytes b, size_t i) { return static_cast<uint8_t>(b[i]); }
uint16_t word_at(Bytes b, size_t i) {
  return static_cast<uint16_t>(byte_at(b, i) << 8 | byte_at(b, i + 1));
}
uint16_t fold(Bytes b, size_t offset, size_t bytes) {
  return rss::fold(reinterpret_cast<const uint8_t*>(b.data()) + offset, bytes);
}
Bytes after(Bytes b, size_t n) { return b.subspan(std::min(n, b.size())); }

// An IP packet without what is in front of it, cut to what matters here.
struct IpView {
  bool valid = false;
  bool fragment = false;
  uint8_t protocol = 0;
  uint16_t addresses = 0;  // folded
  Bytes transport;
};

IpView view_v4(Bytes b) {
  if (b.size() < sizeof(wire::Ipv4Header)) return {};
  const size_t header = size_t{byte_at(b, 0) & 15U} * 4;
  if (header < sizeof(wire::Ipv4Header) || header > b.size()) return {};
  const bool fragment =
      (word_at(b, 6) & (wire::Ipv4Header::kMoreFragments | wire::Ipv4Header::kOffsetMask)) != 0;
  return {true, fragment, byte_at(b, 9), fold(b, 12, 8), after(b, header)};
}

IpView view_v6(Bytes b) {
  if (b.size() < sizeof(wire::Ipv6Header)) return {};
  IpView v{true, false, byte_at(b, 6), fold(b, 8, 32), after(b, sizeof(wire::Ipv6Header))};
  for (size_t i = 0; i < kMaxExtensions; ++i) {
    if (v.protocol == kFragment) {
      v.fragment = true;
      return v;
    }
    const bool extension =
        v.protocol == kHopByHop || v.protocol == kRouting || v.protocol == kDestination;
    if (!extension) return v;
    if (v.transport.size() < 8) return {};
    v.protocol = byte_at(v.transport, 0);
    v.transport = after(v.transport, (size_t{byte_at(v.transport, 1)} + 1) * 8);
  }
  return {};
}

IpView view(Bytes b) {
  if (b.empty()) return {};
  const uint8_t version = byte_at(b, 0) >> 4;
  return version == 4 ? view_v4(b) : version == 6 ? view_v6(b) : IpView{};
}

uint32_t owner_of(uint16_t folded, uint32_t workers) {
  return rss::worker_of(rss::bucket_of(folded), workers);
}

constexpr bool has_ports(uint8_t protocol) { return protocol == kTcp || protocol == kUdp; }

uint32_t flow_owner(const IpView& v, uint32_t workers) {
  const bool ports = !v.fragment && has_ports(v.protocol);
  if (ports && v.transport.size() < 4) return kSteerHere;
  const uint16_t folded =
      ports ? static_cast<uint16_t>(v.addresses ^ fold(v.transport, 0, 4)) : v.addresses;
  return owner_of(folded, workers);
}

// An error quotes the packet it is about after 8 bytes (RFC 792, RFC 4443).
uint32_t quoted_owner(const IpView& error, uint32_t workers) {
  const IpView quoted = view(after(error.transport, 8));
  return quoted.valid ? flow_owner(quoted, workers) : kSteerHere;
}

uint32_t steer_icmp(const IpView& v, uint32_t workers) {
  if (v.transport.empty()) return kSteerHere;
  switch (byte_at(v.transport, 0)) {
    case 3:
    case 4:
    case 5:
    case 11:
    case 12:  // unreachable, quench, redirect, exceeded, parameter
      return quoted_owner(v, workers);
    default:
      return 0;
  }
}

uint32_t steer_icmp6(const IpView& v, uint32_t workers) {
  if (v.transport.empty()) return kSteerHere;
  const uint8_t type = byte_at(v.transport, 0);
  if (type < 128) return quoted_owner(v, workers);
  const bool teaches = type >= 134 && type <= 137;  // RA, NS, NA, redirect
  return teaches ? kSteerEveryone : 0;
}

// Offset of the EtherType's payload; a VLAN tag that the device left is stepped over.
struct Ethernet {
  uint16_t type = 0;
  size_t payload = 0;
};
Ethernet ethernet(Bytes frame) {
  if (frame.size() < sizeof(wire::EthernetHeader)) return {};
  const uint16_t type = word_at(frame, 12);
  if (type != wire::ether_type::vlan) return {type, 14};
  return frame.size() < 18 ? Ethernet{} : Ethernet{word_at(frame, 16), 18};
}

// What nearly every frame is: untagged, whole, TCP or UDP, without options or extension headers.
// Ports follow addresses then.
bool is_common_v4(Bytes frame) {
  return frame.size() >= 38 && word_at(frame, 12) == wire::ether_type::ipv4 &&
         byte_at(frame, 14) == 0x45 && has_ports(byte_at(frame, 23)) &&
         (word_at(frame, 20) & ~unsigned{wire::Ipv4Header::kDontFragment}) == 0;
}
bool is_common_v6(Bytes frame) {
  return frame.size() >= 58 && word_at(frame, 12) == wire::ether_type::ipv6 &&
         has_ports(byte_at(frame, 20));
}

}  // namespace

uint32_t steer(std::span<const std::byte> frame, uint32_t workers) noexcept {
  if (is_common_v4(frame)) return owner_of(fold(frame, 26, 12), workers);
  if (is_common_v6(frame)) return owner_of(fold(frame, 22, 36), workers);
  const Ethernet link = ethernet(frame);
  if (link.type == wire::ether_type::arp) return kSteerEveryone;
  IpView v;
  if (link.type == wire::ether_type::ipv4) v = view_v4(frame.subspan(link.payload));
  if (link.type == wire::ether_type::ipv6) v = view_v6(frame.subspan(link.payload));
  if (!v.valid) return kSteerHere;
  if (v.fragment) return flow_owner(v, workers);
  if (v.protocol == kIcmp) return steer_icmp(v, workers);
  if (v.protocol == kIgmp) return 0;  // who speaks for the host
  if (v.protocol == kIcmp6) return steer_icmp6(v, workers);
  return flow_owner(v, workers);
}

uint32_t owner_of(const Endpoint& a, const Endpoint& b, uint32_t workers) noexcept {
  return owner_of(rss::fold(a, b), workers);
}

void answer_not(std::span<std::byte> frame, const MacAddress& mac) noexcept {
  const Ethernet link = ethernet(frame);
  if (link.type != wire::ether_type::arp || frame.size() < link.payload + sizeof(wire::ArpHeader)) {
    return;
  }
  auto* arp = reinterpret_cast<wire::ArpHeader*>(frame.data() + link.payload);
  if (arp->operation.host() != 1) return;
  arp->operation = uint16_t{2};
  arp->target_mac = mac;
}

}  // namespace postern
