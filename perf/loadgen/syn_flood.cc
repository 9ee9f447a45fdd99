// SYN segments from every client address and port in turn, never completed.
#include <netinet/in.h>

#include <cstring>

#include "frame.h"
#include "load.h"

namespace postern::perf {
namespace {

class SynFlood final : public Load {
 public:
  SynFlood(const Options& options, Link& link)
      : options_(options),
        link_(link),
        ip_(link.mac(), link.peer_mac(), options.local, options.peer, IPPROTO_TCP),
        pace_(options.rate) {}

  void receive(std::span<rte_mbuf*> frames, Tsc) override {
    for (rte_mbuf* m : frames) {
      TcpView view;
      if (parse_tcp(m, options_.checksum, view)) {
        if ((view.flags & RTE_TCP_SYN_FLAG) != 0) ++counters_.completed;
        if ((view.flags & RTE_TCP_RST_FLAG) != 0) ++counters_.resets;
      } else {
        ++counters_.bad_frames;
      }
      rte_pktmbuf_free(m);
    }
  }

  void generate(Tsc now) override {
    for (unsigned budget = Link::kBurst; budget != 0; --budget) {
      if (link_.room() < Link::kBurst) return;
      if (pace_.limited()) {
        if (!pace_.due(now)) return;
        pace_.take();
      }
      if (!send()) return;
    }
  }

 private:
  bool send() noexcept {
    rte_mbuf* m = link_.allocate(static_cast<uint16_t>(ip_.length() + sizeof(rte_tcp_hdr)));
    if (m == nullptr) return false;
    if (++tuple_ == options_.tuple_count()) tuple_ = 0;
    const auto client = static_cast<uint32_t>(tuple_ / options_.ports);
    const uint32_t address = options_.local.low + client;
    const auto port = static_cast<uint16_t>(options_.first_port + tuple_ % options_.ports);
    auto* tcp = reinterpret_cast<rte_tcp_hdr*>(ip_.write(m, address, sizeof(rte_tcp_hdr)));
    std::memset(tcp, 0, sizeof *tcp);
    tcp->src_port = rte_cpu_to_be_16(port);
    tcp->dst_port = rte_cpu_to_be_16(options_.port);
    tcp->sent_seq = rte_cpu_to_be_32(static_cast<uint32_t>(tuple_ * 2654435761u));
    tcp->data_off = (sizeof *tcp / 4) << 4;
    tcp->tcp_flags = RTE_TCP_SYN_FLAG;
    tcp->rx_win = RTE_BE16(65535);
    if (options_.checksum) {
      const uint64_t sum = uint64_t{ip_.pseudo_sum()} + sum32(address) + sizeof *tcp +
                           sum_bytes(reinterpret_cast<uint8_t*>(tcp), sizeof *tcp);
      tcp->cksum = rte_cpu_to_be_16(static_cast<uint16_t>(~fold(sum)));
    }
    link_.send(m);
    ++counters_.sent;
    return true;
  }

  const Options& options_;
  Link& link_;
  IpTemplate ip_;
  Pace pace_;
  uint64_t tuple_ = 0;
};

}  // namespace

std::unique_ptr<Load> make_syn_flood(const Options& options, Link& link) {
  return std::make_unique<SynFlood>(options, link);
}

}  // namespace postern::perf
