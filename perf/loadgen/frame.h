// Frames to and from the server: templates for what is sent, one bounds-checked view of what came.
#pragma once

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include <cstdint>
#include <span>

namespace postern::perf {

inline constexpr uint16_t kEtherIp = sizeof(rte_ether_hdr) + sizeof(rte_ipv4_hdr);
inline constexpr uint16_t kUdpHeaders = kEtherIp + sizeof(rte_udp_hdr);
inline constexpr uint16_t kTcpHeaders = kEtherIp + sizeof(rte_tcp_hdr);

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
  uint32_t address;  // host order
  uint16_t port;     // host order
};

// Ethernet and IPv4 headers towards the server.
class IpTemplate {
 public:
  IpTemplate(const rte_ether_addr& from, const rte_ether_addr& to, uint32_t peer,
             uint8_t protocol) noexcept;

  // Writes both headers for a packet whose IPv4 payload has `length` bytes. Returns what follows.
  uint8_t* write(rte_mbuf* m, uint32_t source, uint16_t length) const noexcept {
    auto* bytes = rte_pktmbuf_mtod(m, uint8_t*);
    __builtin_memcpy(bytes, bytes_, kEtherIp);
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(bytes + sizeof(rte_ether_hdr));
    const auto total = static_cast<uint16_t>(length + sizeof(rte_ipv4_hdr));
    ip->total_length = rte_cpu_to_be_16(total);
    ip->src_addr = rte_cpu_to_be_32(source);
    ip->hdr_checksum =
        rte_cpu_to_be_16(static_cast<uint16_t>(~fold(uint64_t{sum_} + total + sum32(source))));
    return bytes + kEtherIp;
  }

  // Pseudo-header sum without source address and length.
  uint32_t pseudo_sum() const noexcept { return pseudo_sum_; }

 private:
  alignas(16) uint8_t bytes_[kEtherIp + 14] = {};
  uint32_t sum_ = 0;
  uint32_t pseudo_sum_ = 0;
};

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
