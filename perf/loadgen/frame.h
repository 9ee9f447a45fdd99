// Frames to and from the server: templates for what is sent, one bounds-checked view of what came.
#pragma once

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <cstdint>
#include <span>

#include "host_address.h"

namespace postern::perf {

// One's complement sums in host order: add, then fold.
constexpr uint32_t sum32(uint32_t value) { return (value >> 16) + (value & 0xffff); }
constexpr uint16_t fold(uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint16_t>(sum);
}

// Sum of bytes that start at an even offset.
inline uint32_t sum_bytes(const uint8_t* data, size_t length) noexcept {
  return rte_be_to_cpu_16(rte_raw_cksum(data, length));
}

struct Endpoint {
  uint32_t address;  // HostAddress::low
  uint16_t port;     // host order
};

// Ethernet and IP headers towards the server, of the family of its address.
class IpTemplate {
 public:
  IpTemplate(const rte_ether_addr& from, const rte_ether_addr& to, const HostAddress& local,
             const HostAddress& peer, uint8_t protocol) noexcept;

  // Bytes before what write() returns.
  uint16_t length() const noexcept { return v6_ ? kV6 : kV4; }

  // Writes both headers for a packet whose IP payload has `length` bytes, from the client address
  // whose last 32 bits are `source`. Returns what follows.
  uint8_t* write(rte_mbuf* m, uint32_t source, uint16_t length) const noexcept {
    auto* bytes = rte_pktmbuf_mtod(m, uint8_t*);
    if (v6_) {
      __builtin_memcpy(bytes, bytes_, kV6);
      auto* ip = reinterpret_cast<rte_ipv6_hdr*>(bytes + sizeof(rte_ether_hdr));
      ip->payload_len = rte_cpu_to_be_16(length);
      const rte_be32_t low = rte_cpu_to_be_32(source);
      __builtin_memcpy(reinterpret_cast<uint8_t*>(&ip->src_addr) + 12, &low, sizeof low);
      return bytes + kV6;
    }
    __builtin_memcpy(bytes, bytes_, kV4);
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(bytes + sizeof(rte_ether_hdr));
    const auto total = static_cast<uint16_t>(length + sizeof(rte_ipv4_hdr));
    ip->total_length = rte_cpu_to_be_16(total);
    ip->src_addr = rte_cpu_to_be_32(source);
    ip->hdr_checksum =
        rte_cpu_to_be_16(static_cast<uint16_t>(~fold(uint64_t{sum_} + total + sum32(source))));
    return bytes + kV4;
  }

  // Pseudo-header sum without the source's last 32 bits and the length.
  uint32_t pseudo_sum() const noexcept { return pseudo_sum_; }

 private:
  static constexpr uint16_t kV4 = sizeof(rte_ether_hdr) + sizeof(rte_ipv4_hdr);
  static constexpr uint16_t kV6 = sizeof(rte_ether_hdr) + sizeof(rte_ipv6_hdr);

  alignas(16) uint8_t bytes_[kV6 + 10] = {};
  bool v6_;
  uint32_t sum_ = 0;  // of the IPv4 header
  uint32_t pseudo_sum_ = 0;
};

// An IP packet of one frame: either family, no fragment, no option, no extension header.
struct IpView {
  uint8_t* payload;
  uint32_t length;      // of the payload
  uint64_t pseudo_sum;  // without the length
  Endpoint local;       // the port is 0
  uint8_t protocol;
};

// False: not such a packet, cut short, or, with `verify`, a wrong header checksum.
bool parse_ip(const rte_mbuf* m, bool verify, IpView& out) noexcept;

// What arrived, host order.
struct TcpView {
  Endpoint local;  // of the frame's destination
  uint32_t seq, ack;
  uint32_t length;  // payload bytes
  const uint8_t* payload;
  const uint8_t* options;
  uint8_t options_length;
  uint8_t flags;
  uint16_t window;
};

struct UdpView {
  Endpoint local;
  uint32_t length;
  const uint8_t* payload;
};

// False: not TCP (UDP), cut short, or, with `verify`, a wrong checksum.
bool parse_tcp(const rte_mbuf* m, bool verify, TcpView& out) noexcept;
bool parse_udp(const rte_mbuf* m, bool verify, UdpView& out) noexcept;

}  // namespace postern::perf
