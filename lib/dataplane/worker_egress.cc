// From the stack to the device: frames, impairment, and what the device does not take yet.
#include <algorithm>
#include <cstring>

#include "dataplane/edge.h"
#include "dataplane/worker_impl.h"
#include "dpdk/burst.h"

namespace postern {

uint32_t Worker::Impl::egress() noexcept {
  uint32_t sent = flush_all();
  const bool impaired = !tx_impairment.empty();
  stages.mark(Stage::transmit);
  if (impaired) release_held();
  for (size_t budget = kTxBudget; budget > 0 && stack.wants_egress();) {
    size_t room = 0;
    for (const auto& queue : transmit_queues) room = std::max(room, queue->room());
    if (room == 0 || (first_spare == kTxBurst && !refill())) break;
    const size_t wanted = std::min({budget, room, kTxBurst - first_spare});
    const size_t n = stack.egress(now, {&frames[first_spare], wanted});
    for (size_t i = first_spare; i < first_spare + n; ++i) {
      seal(spare[i], frames[i]);
      if (frames[i].tso_mss != 0) [[unlikely]] {
        i += send_whole(i);
      } else {
        if (frames[i].payload != nullptr) gather(spare[i], frames[i]);
        transmit(spare[i], frames[i].interface, impaired);
      }
    }
    first_spare += n;
    stages.mark(Stage::output);
    sent += flush_all() + static_cast<uint32_t>(n);
    stages.mark(Stage::transmit);
    budget -= n;
    if (n < wanted) break;
  }
  if (gather_pool != nullptr) {
    for (auto& queue : transmit_queues) queue->copy_gathered();
  }
  return sent;
}

// Chains the application's memory behind the headers; without a buffer to do so, copies.
void Worker::Impl::gather(rte_mbuf* head, const TxFrame& frame) noexcept {
  const auto length = static_cast<uint16_t>(frame.payload_length);
  rte_mbuf* const payload = rte_pktmbuf_alloc(gather_pool->get());
  if (payload == nullptr) [[unlikely]] {
    std::memcpy(rte_pktmbuf_append(head, length), frame.payload, length);
    return;
  }
  rte_mbuf_ext_refcnt_update(&gathered, 1);
  rte_pktmbuf_attach_extbuf(payload, const_cast<std::byte*>(frame.payload), RTE_BAD_IOVA, length,
                            &gathered);
  payload->data_len = length;
  head->next = payload;
  head->nb_segs = 2;
  head->pkt_len += length;
}

// A segment that the device cuts up, and the buffers behind it that hold the rest; how many they
// are.
size_t Worker::Impl::send_whole(size_t at) noexcept {
  const TxFrame& frame = frames[at];
  rte_mbuf* const head = spare[at];
  rte_mbuf* last = head;
  for (size_t i = at + 1; i <= at + frame.pieces; ++i) {
    spare[i]->data_len = static_cast<uint16_t>(frames[i].length);
    last = last->next = spare[i];
    head->pkt_len += frames[i].length;
  }
  head->nb_segs = static_cast<uint16_t>(1 + frame.pieces);
  if (prepare(*options.ports[frame.interface], head)) {
    counters.add(Counter::tx_tso_packets);
    send(head, frame.interface);
  } else {
    counters.drop(Drop::tx_refused);
    rte_pktmbuf_free(head);
  }
  return frame.pieces;
}

// Empty frames once the last ones are used up. False: the pool is empty, the stack has to wait.
bool Worker::Impl::refill() noexcept {
  if (rte_pktmbuf_alloc_bulk(pool.get(), spare.data(), kTxBurst) != 0) {
    if (!starved) counters.drop(Drop::tx_no_buffer);  // once for each time it happens
    starved = true;
    return false;
  }
  compat::buffers_taken();
  starved = false;
  first_spare = 0;
  for (size_t i = 0; i < kTxBurst; ++i) aim(frames[i], spare[i]);
  return true;
}

void Worker::Impl::transmit(rte_mbuf* packet, uint16_t interface, bool impaired) noexcept {
  if (interface == stack.loop()) [[unlikely]]
    return loop(packet);
  if (impaired) return impair(packet, interface);
  send(packet, interface);
}

void Worker::Impl::impair(rte_mbuf* packet, uint16_t interface) noexcept {
  std::array<rte_mbuf*, 2 + Impairment::kHeld> out;
  const size_t n = tx_impairment[interface]->apply({&packet, 1}, out.data(), now, counters);
  for (size_t i = 0; i < n; ++i) send(out[i], interface);
}

void Worker::Impl::release_held() noexcept {
  std::array<rte_mbuf*, Impairment::kHeld> out;
  for (uint16_t i = 0; i < tx_impairment.size(); ++i) {
    const size_t n = tx_impairment[i]->apply({}, out.data(), now, counters);
    for (size_t k = 0; k < n; ++k) send(out[k], i);
  }
}

void Worker::Impl::send(rte_mbuf* packet, uint16_t interface) noexcept {
  counters.add(Counter::tx_packets);
  counters.add(Counter::tx_bytes, rte_pktmbuf_pkt_len(packet));
  if (rte_mbuf* displaced = transmit_queues[interface]->push(packet); displaced != nullptr) {
    counters.drop(Drop::tx_ring_full);
    rte_pktmbuf_free(displaced);
  }
}

// To be received in the next turn, as from a device that has proven all checksums.
void Worker::Impl::loop(rte_mbuf* packet) noexcept {
  counters.add(Counter::local_packets);
  packet->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
  packet->port = kLoopPort;
  looped[looped_count++] = packet;
}

uint32_t Worker::Impl::flush_all() noexcept {
  size_t sent = 0;
  for (auto& queue : transmit_queues) sent += queue->waiting() > 0 ? queue->flush() : 0;
  return static_cast<uint32_t>(sent);
}

}  // namespace postern
