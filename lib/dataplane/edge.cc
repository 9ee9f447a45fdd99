#include "dataplane/edge.h"

#include <span>

#include "base/checksum.h"
#include "wire/headers.h"

namespace postern {

void finish_checksums(rte_mbuf* packet) noexcept {
  auto* l3 = rte_pktmbuf_mtod_offset(packet, std::byte*, packet->l2_len);
  const uint64_t l4_work = packet->ol_flags & RTE_MBUF_F_TX_L4_MASK;
  if ((packet->ol_flags & RTE_MBUF_F_TX_IP_CKSUM) != 0) {
    auto* ip = reinterpret_cast<wire::Ipv4Header*>(l3);
    ip->checksum = uint16_t{0};
    ip->checksum = checksum_finish(checksum_add({l3, packet->l3_len}));
  }
  if (l4_work == RTE_MBUF_F_TX_TCP_CKSUM || l4_work == RTE_MBUF_F_TX_UDP_CKSUM) {
    // The field already holds the sum of the pseudo-header.
    std::byte* l4 = l3 + packet->l3_len;
    const size_t length = rte_pktmbuf_data_len(packet) - packet->l2_len - packet->l3_len;
    const bool udp = l4_work == RTE_MBUF_F_TX_UDP_CKSUM;
    auto* field = reinterpret_cast<be16*>(l4 + (udp ? 6 : 16));
    const be16 sum = checksum_finish(checksum_add({l4, length}));
    *field = udp && sum.host() == 0 ? be16(0xffff) : sum;  // RFC 768: 0 means none
  }
  packet->ol_flags &= ~(RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_L4_MASK);
}

}  // namespace postern
