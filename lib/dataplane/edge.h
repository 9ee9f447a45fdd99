// Where DPDK's packet buffers become the stack's values and back. Worker only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dpdk/compat.h"
#include "wire/packet.h"

namespace postern {

// Makes the frame contiguous in its first buffer. False: it does not fit there.
inline bool make_contiguous(rte_mbuf* packet) noexcept {
  return packet->nb_segs == 1 || rte_pktmbuf_linearize(packet) == 0;
}

// A view of a contiguous frame, valid while the buffer is. `unjudged`: of a checksum of TCP or UDP
// that the device says nothing about.
inline RxPacket view_of(const rte_mbuf* packet, uint16_t interface,
                        ChecksumVerdict unjudged = ChecksumVerdict::unknown) noexcept {
  const auto verdict = [flags = packet->ol_flags](uint64_t good, uint64_t bad) {
    return (flags & bad) == bad && (flags & good) != good ? ChecksumVerdict::bad
           : (flags & good) == good                       ? ChecksumVerdict::good
                                                          : ChecksumVerdict::unknown;
  };
  RxPacket p;
  p.data = rte_pktmbuf_mtod(packet, const std::byte*);
  p.length = rte_pktmbuf_data_len(packet);
  p.interface = interface;
  p.l4_checksum = unjudged;
  if ((packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) p.vlan = packet->vlan_tci & 0xfff;
  if ((packet->ol_flags & (RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK)) == 0) {
    return p;
  }
  // In each pair of bits both set means "not valid, but the content is": a packet that never was on
  // a wire.
  p.ip_checksum = verdict(RTE_MBUF_F_RX_IP_CKSUM_GOOD, RTE_MBUF_F_RX_IP_CKSUM_BAD);
  const ChecksumVerdict l4 = verdict(RTE_MBUF_F_RX_L4_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_BAD);
  if (l4 != ChecksumVerdict::unknown) p.l4_checksum = l4;
  return p;
}

// Lets the stack write into an empty buffer.
inline void aim(TxFrame& f, rte_mbuf* packet) noexcept {
  f.data = rte_pktmbuf_mtod(packet, std::byte*);
  f.capacity = rte_pktmbuf_tailroom(packet);
  f.payload = nullptr;
}

// What the stack wrote, for the device: lengths and the work that is left to it.
inline void seal(rte_mbuf* packet, const TxFrame& f) noexcept {
  packet->data_len = static_cast<uint16_t>(f.length);
  packet->pkt_len = f.length;
  if (!f.needs_ip_checksum && !f.needs_l4_checksum && f.tso_mss == 0) return;
  packet->tx_offload =
      rte_mbuf_tx_offload(f.l2_length, f.l3_length, f.l4_length, f.tso_mss, 0, 0, 0);
  uint64_t flags = RTE_MBUF_F_TX_IPV6;
  if (!f.is_v6) flags = RTE_MBUF_F_TX_IPV4 | (f.needs_ip_checksum ? RTE_MBUF_F_TX_IP_CKSUM : 0);
  if (f.needs_l4_checksum) {
    flags |= f.protocol == static_cast<uint8_t>(Protocol::tcp) ? RTE_MBUF_F_TX_TCP_CKSUM
                                                               : RTE_MBUF_F_TX_UDP_CKSUM;
  }
  if (f.tso_mss != 0) flags |= RTE_MBUF_F_TX_TCP_SEG;
  packet->ol_flags |= flags;
}

// Does here what the device was to do. Contiguous frames without segmentation.
void finish_checksums(rte_mbuf* packet) noexcept;

inline void forget_verdicts(rte_mbuf* packet) noexcept {
  packet->ol_flags &= ~(RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK);
}

}  // namespace postern
