// The peer that costs least: every answer is the question with its ends swapped, no state kept. It
// shows what loadgen can do alone, and what the bare link carries.
#include <netinet/in.h>

#include "frame.h"
#include "load.h"

namespace postern::perf {
namespace {

template <typename Header>
void swap_ports(Header* header) noexcept {
  const rte_be16_t port = header->src_port;
  header->src_port = header->dst_port;
  header->dst_port = port;
}

class Reflector final : public Load {
 public:
  Reflector(const Options& options, Link& link) : options_(options), link_(link) {}

  void receive(std::span<rte_mbuf*> frames, Tsc) override {
    for (rte_mbuf* m : frames) {
      if (link_.room() != 0 && turn_round(m)) {
        ++counters_.completed;
        link_.send(m);
      } else {
        rte_pktmbuf_free(m);
      }
    }
  }

  void generate(Tsc) override {}

 private:
  bool turn_round(rte_mbuf* m) const noexcept {
    IpView ip;
    if (!parse_ip(m, false, ip)) return false;
    if (ip.protocol == IPPROTO_TCP) {
      if (!answer_segment(m, ip)) return false;
    } else if (ip.protocol == IPPROTO_UDP && ip.length >= sizeof(rte_udp_hdr)) {
      swap_ports(reinterpret_cast<rte_udp_hdr*>(ip.payload));
    } else {
      return false;
    }
    auto* ether = rte_pktmbuf_mtod(m, rte_ether_hdr*);
    std::swap(ether->src_addr, ether->dst_addr);
    // Addresses that change places leave every checksum as it is.
    if (ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV6)) {
      auto* header = reinterpret_cast<rte_ipv6_hdr*>(ether + 1);
      std::swap(header->src_addr, header->dst_addr);
    } else {
      auto* header = reinterpret_cast<rte_ipv4_hdr*>(ether + 1);
      const rte_be32_t source = header->src_addr;  // packed: not for std::swap
      header->src_addr = header->dst_addr;
      header->dst_addr = source;
    }
    return true;
  }

  // A SYN, data or a FIN is acknowledged and sent back; anything else is not answered.
  bool answer_segment(rte_mbuf* m, const IpView& ip) const noexcept {
    TcpView view;
    if (!parse_tcp(m, options_.checksum, view)) return false;
    const bool syn = (view.flags & RTE_TCP_SYN_FLAG) != 0;
    const bool fin = (view.flags & RTE_TCP_FIN_FLAG) != 0;
    if ((view.flags & RTE_TCP_RST_FLAG) != 0 || (!syn && !fin && view.length == 0)) return false;
    auto* tcp = reinterpret_cast<rte_tcp_hdr*>(ip.payload);
    tcp->sent_seq = rte_cpu_to_be_32(syn ? 1 : view.ack);
    tcp->recv_ack = rte_cpu_to_be_32(view.seq + view.length + syn + fin);
    tcp->tcp_flags |= RTE_TCP_ACK_FLAG;
    swap_ports(tcp);
    if (options_.checksum) {
      tcp->cksum = 0;
      const uint64_t sum = ip.pseudo_sum + ip.length + sum_bytes(ip.payload, ip.length);
      tcp->cksum = rte_cpu_to_be_16(static_cast<uint16_t>(~fold(sum)));
    }
    return true;
  }

  const Options& options_;
  Link& link_;
};

}  // namespace

std::unique_ptr<Load> make_reflector(const Options& options, Link& link) {
  return std::make_unique<Reflector>(options, link);
}

}  // namespace postern::perf
