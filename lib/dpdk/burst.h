// The calls that workers make for packets. Apart from port.h, which needs no DPDK header.
#pragma once

#include <cstdint>
#include <span>

#include "dpdk/compat.h"
#include "dpdk/port.h"

namespace postern {

// Received buffers, owned by the caller from now; how many.
inline uint16_t rx_burst(const Port& port, uint16_t queue, std::span<rte_mbuf*> out) noexcept {
  const uint16_t n =
      rte_eth_rx_burst(port.id(), queue, out.data(), static_cast<uint16_t>(out.size()));
  compat::buffers_taken();
  return n;
}

// Hands buffers to the device, from the front; how many it took. The rest stays the caller's.
inline uint16_t tx_burst(const Port& port, uint16_t queue, std::span<rte_mbuf*> packets) noexcept {
  compat::buffers_given();
  return rte_eth_tx_burst(port.id(), queue, packets.data(), static_cast<uint16_t>(packets.size()));
}

// Gives buffers back; what is in `packets` afterwards is nobody's. Cheap for what a burst received
// is: buffers of one pool that nobody else holds.
inline void free_burst(std::span<rte_mbuf*> packets) noexcept {
  compat::buffers_given();
  if (packets.empty()) return;
  rte_mempool* const pool = packets.front()->pool;
  size_t whole = 0;
  for (rte_mbuf* const packet : packets) {
    if (packet->nb_segs != 1 || packet->pool != pool) [[unlikely]] {
      rte_pktmbuf_free(packet);
    } else if (rte_mbuf* const last = rte_pktmbuf_prefree_seg(packet); last != nullptr) {
      packets[whole++] = last;
    }
  }
  rte_mempool_put_bulk(pool, reinterpret_cast<void**>(packets.data()),
                       static_cast<unsigned>(whole));
}

// Has the driver make a packet ready whose work is left to the device, and that the device may want
// otherwise than DPDK's convention says: those that are to be cut up. False: it cannot take it.
inline bool prepare(const Port& port, rte_mbuf* packet) noexcept {
  return rte_eth_tx_prepare(port.id(), 0, &packet, 1) == 1;
}

}  // namespace postern
