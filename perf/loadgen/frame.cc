#include "frame.h"

#include <netinet/in.h>

namespace postern::perf {
namespace {

// The IPv4 header with its whole packet inside the frame; nullptr when it is not so.
const rte_ipv4_hdr* parse_ip(const rte_mbuf* m, uint8_t protocol, uint16_t least) noexcept {
  if (m->data_len < kEtherIp + least) return nullptr;
  const auto* ip = rte_pktmbuf_mtod_offset(m, const rte_ipv4_hdr*, sizeof(rte_ether_hdr));
  const uint16_t total = rte_be_to_cpu_16(ip->total_length);
  if (ip->version_ihl != RTE_IPV4_VHL_DEF || ip->next_proto_id != protocol) return nullptr;
  if (total < sizeof *ip + least || total + sizeof(rte_ether_hdr) > m->data_len) return nullptr;
  return ip;
}

bool sums_right(const rte_ipv4_hdr* ip, uint32_t length) noexcept {
  const uint64_t sum = uint64_t{sum32(rte_be_to_cpu_32(ip->src_addr))} +
                       sum32(rte_be_to_cpu_32(ip->dst_addr)) + ip->next_proto_id + length +
                       sum_bytes(reinterpret_cast<const uint8_t*>(ip + 1), length);
  return rte_raw_cksum(ip, sizeof *ip) == 0xffff && fold(sum) == 0xffff;
}

}  // namespace

IpTemplate::IpTemplate(const rte_ether_addr& from, const rte_ether_addr& to, uint32_t peer,
                       uint8_t protocol) noexcept {
  auto* ether = reinterpret_cast<rte_ether_hdr*>(bytes_);
  ether->src_addr = from;
  ether->dst_addr = to;
  ether->ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(ether + 1);
  ip->version_ihl = RTE_IPV4_VHL_DEF;
  ip->fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG);
  ip->time_to_live = 64;
  ip->next_proto_id = protocol;
  ip->dst_addr = rte_cpu_to_be_32(peer);
  sum_ = sum_bytes(reinterpret_cast<const uint8_t*>(ip), sizeof *ip);
  pseudo_sum_ = sum32(peer) + protocol;
}

bool parse_tcp(const rte_mbuf* m, bool verify, TcpView& out) noexcept {
  const rte_ipv4_hdr* ip = parse_ip(m, IPPROTO_TCP, sizeof(rte_tcp_hdr));
  if (ip == nullptr) return false;
  const auto* tcp = reinterpret_cast<const rte_tcp_hdr*>(ip + 1);
  const uint32_t total = rte_be_to_cpu_16(ip->total_length) - sizeof *ip;
  const uint32_t header = (tcp->data_off >> 4) * 4u;
  if (header < sizeof *tcp || header > total) return false;
  if (verify && !sums_right(ip, total)) return false;
  const auto* bytes = reinterpret_cast<const uint8_t*>(tcp);
  out.local = {rte_be_to_cpu_32(ip->dst_addr), rte_be_to_cpu_16(tcp->dst_port)};
  out.seq = rte_be_to_cpu_32(tcp->sent_seq);
  out.ack = rte_be_to_cpu_32(tcp->recv_ack);
  out.flags = tcp->tcp_flags;
  out.window = rte_be_to_cpu_16(tcp->rx_win);
  out.options = bytes + sizeof *tcp;
  out.options_length = static_cast<uint8_t>(header - sizeof *tcp);
  out.payload = bytes + header;
  out.length = total - header;
  return true;
}

bool parse_udp(const rte_mbuf* m, bool verify, UdpView& out) noexcept {
  const rte_ipv4_hdr* ip = parse_ip(m, IPPROTO_UDP, sizeof(rte_udp_hdr));
  if (ip == nullptr) return false;
  const auto* udp = reinterpret_cast<const rte_udp_hdr*>(ip + 1);
  const uint32_t total = rte_be_to_cpu_16(ip->total_length) - sizeof *ip;
  const uint32_t length = rte_be_to_cpu_16(udp->dgram_len);
  if (length < sizeof *udp || length > total) return false;
  if (verify && udp->dgram_cksum != 0 && !sums_right(ip, length)) return false;
  out.local = {rte_be_to_cpu_32(ip->dst_addr), rte_be_to_cpu_16(udp->dst_port)};
  out.payload = reinterpret_cast<const uint8_t*>(udp + 1);
  out.length = length - sizeof *udp;
  return true;
}

}  // namespace postern::perf
