#include "frame.h"

#include <netinet/in.h>

#include <cstring>

namespace postern::perf {
namespace {

bool parse_v4(const rte_mbuf* m, bool verify, IpView& out) noexcept {
  if (m->data_len < sizeof(rte_ether_hdr) + sizeof(rte_ipv4_hdr)) return false;
  auto* ip = rte_pktmbuf_mtod_offset(m, rte_ipv4_hdr*, sizeof(rte_ether_hdr));
  const uint32_t total = rte_be_to_cpu_16(ip->total_length);
  if (ip->version_ihl != RTE_IPV4_VHL_DEF || total < sizeof *ip) return false;
  if (total + sizeof(rte_ether_hdr) > m->data_len) return false;
  if (verify && rte_raw_cksum(ip, sizeof *ip) != 0xffff) return false;
  out.payload = reinterpret_cast<uint8_t*>(ip + 1);
  out.length = total - static_cast<uint32_t>(sizeof *ip);
  out.protocol = ip->next_proto_id;
  out.local = {rte_be_to_cpu_32(ip->dst_addr), 0};
  out.pseudo_sum = uint64_t{sum32(rte_be_to_cpu_32(ip->src_addr))} + sum32(out.local.address) +
                   ip->next_proto_id;
  return true;
}

bool parse_v6(const rte_mbuf* m, IpView& out) noexcept {
  if (m->data_len < sizeof(rte_ether_hdr) + sizeof(rte_ipv6_hdr)) return false;
  auto* ip = rte_pktmbuf_mtod_offset(m, rte_ipv6_hdr*, sizeof(rte_ether_hdr));
  out.payload = reinterpret_cast<uint8_t*>(ip + 1);
  out.length = rte_be_to_cpu_16(ip->payload_len);
  if ((reinterpret_cast<const uint8_t*>(ip)[0] >> 4) != 6) return false;
  if (out.length + sizeof(rte_ether_hdr) + sizeof *ip > m->data_len) return false;
  out.protocol = ip->proto;
  rte_be32_t low = 0;
  std::memcpy(&low, reinterpret_cast<const uint8_t*>(&ip->dst_addr) + 12, sizeof low);
  out.local = {rte_be_to_cpu_32(low), 0};
  out.pseudo_sum =
      uint64_t{sum_bytes(reinterpret_cast<const uint8_t*>(&ip->src_addr), 32)} + ip->proto;
  return true;
}

bool sums_right(const IpView& ip, uint32_t length) noexcept {
  return fold(ip.pseudo_sum + length + sum_bytes(ip.payload, length)) == 0xffff;
}

}  // namespace

IpTemplate::IpTemplate(const rte_ether_addr& from, const rte_ether_addr& to,
                       const HostAddress& local, const HostAddress& peer, uint8_t protocol) noexcept
    : v6_(peer.v6) {
  auto* ether = reinterpret_cast<rte_ether_hdr*>(bytes_);
  ether->src_addr = from;
  ether->dst_addr = to;
  if (v6_) {
    ether->ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV6);
    auto* ip = reinterpret_cast<rte_ipv6_hdr*>(ether + 1);
    ip->vtc_flow = RTE_BE32(6u << 28);
    ip->proto = protocol;
    ip->hop_limits = 64;
    std::memcpy(&ip->src_addr, local.bytes(0).data(), 16);
    std::memcpy(&ip->dst_addr, peer.bytes(peer.low).data(), 16);
    pseudo_sum_ = sum_bytes(reinterpret_cast<const uint8_t*>(&ip->src_addr), 32) + protocol;
    return;
  }
  ether->ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(ether + 1);
  ip->version_ihl = RTE_IPV4_VHL_DEF;
  ip->fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG);
  ip->time_to_live = 64;
  ip->next_proto_id = protocol;
  ip->dst_addr = rte_cpu_to_be_32(peer.low);
  sum_ = sum_bytes(reinterpret_cast<const uint8_t*>(ip), sizeof *ip);
  pseudo_sum_ = sum32(peer.low) + protocol;
}

bool parse_ip(const rte_mbuf* m, bool verify, IpView& out) noexcept {
  if (m->data_len < sizeof(rte_ether_hdr)) return false;
  const auto* ether = rte_pktmbuf_mtod(m, const rte_ether_hdr*);
  if (ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6)) return parse_v6(m, out);
  return ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV4) && parse_v4(m, verify, out);
}

bool parse_tcp(const rte_mbuf* m, bool verify, TcpView& out) noexcept {
  IpView ip;
  if (!parse_ip(m, verify, ip) || ip.protocol != IPPROTO_TCP) return false;
  if (ip.length < sizeof(rte_tcp_hdr)) return false;
  const auto* tcp = reinterpret_cast<const rte_tcp_hdr*>(ip.payload);
  const uint32_t header = (tcp->data_off >> 4) * 4u;
  if (header < sizeof *tcp || header > ip.length) return false;
  if (verify && !sums_right(ip, ip.length)) return false;
  out.local = {ip.local.address, rte_be_to_cpu_16(tcp->dst_port)};
  out.seq = rte_be_to_cpu_32(tcp->sent_seq);
  out.ack = rte_be_to_cpu_32(tcp->recv_ack);
  out.flags = tcp->tcp_flags;
  out.window = rte_be_to_cpu_16(tcp->rx_win);
  out.options = ip.payload + sizeof *tcp;
  out.options_length = static_cast<uint8_t>(header - sizeof *tcp);
  out.payload = ip.payload + header;
  out.length = ip.length - header;
  return true;
}

bool parse_udp(const rte_mbuf* m, bool verify, UdpView& out) noexcept {
  IpView ip;
  if (!parse_ip(m, verify, ip) || ip.protocol != IPPROTO_UDP) return false;
  if (ip.length < sizeof(rte_udp_hdr)) return false;
  const auto* udp = reinterpret_cast<const rte_udp_hdr*>(ip.payload);
  const uint32_t length = rte_be_to_cpu_16(udp->dgram_len);
  if (length < sizeof *udp || length > ip.length) return false;
  // RFC 8200 8.1: over IPv6 the checksum is not optional; over IPv4 0 means none.
  const auto* ether = rte_pktmbuf_mtod(m, const rte_ether_hdr*);
  const bool summed = udp->dgram_cksum != 0 || ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6);
  if (verify && summed && !sums_right(ip, length)) return false;
  out.local = {ip.local.address, rte_be_to_cpu_16(udp->dst_port)};
  out.payload = ip.payload + sizeof *udp;
  out.length = length - static_cast<uint32_t>(sizeof *udp);
  return true;
}

}  // namespace postern::perf
