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
    if (m->data_len < kUdpHeaders) return false;
    auto* ether = rte_pktmbuf_mtod(m, rte_ether_hdr*);
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(ether + 1);
    if (ip->version_ihl != RTE_IPV4_VHL_DEF) return false;
    if (ip->next_proto_id == IPPROTO_TCP) {
      if (!answer_segment(m, ip)) return false;
    } else if (ip->next_proto_id == IPPROTO_UDP) {
      swap_ports(reinterpret_cast<rte_udp_hdr*>(ip + 1));
    } else {
      return false;
    }
    const rte_be32_t source = ip->src_addr;  // leaves every checksum as it is
    ip->src_addr = ip->dst_addr;
    ip->dst_addr = source;
    std::swap(ether->src_addr, ether->dst_addr);
    return true;
  }

  // A SYN, data or a FIN is acknowledged and sent back; anything else is not answered.
  bool answer_segment(rte_mbuf* m, rte_ipv4_hdr* ip) const noexcept {
    TcpView view;
    if (!parse_tcp(m, options_.checksum, view)) return false;
    const bool syn = (view.flags & RTE_TCP_SYN_FLAG) != 0;
    const bool fin = (view.flags & RTE_TCP_FIN_FLAG) != 0;
    if ((view.flags & RTE_TCP_RST_FLAG) != 0 || (!syn && !fin && view.length == 0)) return false;
    auto* tcp = reinterpret_cast<rte_tcp_hdr*>(ip + 1);
    tcp->sent_seq = rte_cpu_to_be_32(syn ? 1 : view.ack);
    tcp->recv_ack = rte_cpu_to_be_32(view.seq + view.length + syn + fin);
    tcp->tcp_flags |= RTE_TCP_ACK_FLAG;
    swap_ports(tcp);
    if (options_.checksum) {
      tcp->cksum = 0;
      tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
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
