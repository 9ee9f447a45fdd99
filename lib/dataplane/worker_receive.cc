// From the device to the stack: burst, impairment, hand-over to the worker that owns the flow.
#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/edge.h"
#include "dataplane/steering.h"
#include "dataplane/worker_impl.h"
#include "dpdk/burst.h"

namespace postern {

uint32_t Worker::Impl::receive() noexcept {
  uint32_t received = 0;
  for (uint16_t i = 0; i < options.ports.size(); ++i) received += receive_from(i);
  if (looped_count > 0) received += receive_looped();
  if (options.count > 1) {
    received += receive_handed_over();
    stages.mark(Stage::input);
  }
  return received;
}

uint32_t Worker::Impl::receive_from(uint16_t interface) noexcept {
  const Port& port = *options.ports[interface];
  if (options.index >= port.queues()) return 0;
  std::array<rte_mbuf*, kRxBurst> burst;
  const size_t n = rx_burst(port, static_cast<uint16_t>(options.index), burst);
  stages.mark(Stage::receive);
  if (n == 0 && rx_impairment == nullptr) return 0;
  if (n != 0) stages.received(n);
  uint64_t bytes = 0;
  uint32_t segments = 0;
  for (size_t i = 0; i < n; ++i) {
    burst[i]->port = port.id();  // net_ring leaves the sender's
    bytes += rte_pktmbuf_pkt_len(burst[i]);
    segments += burst[i]->nb_segs;
  }
  counters.add(Counter::rx_bytes, bytes);
  counters.add(Counter::rx_packets, n);

  std::array<rte_mbuf*, 2 * kRxBurst + Impairment::kHeld> impaired;
  rte_mbuf** packets = burst.data();
  size_t count = segments == n ? n : keep_contiguous(packets, n);
  if (rx_impairment != nullptr) {
    count = rx_impairment->apply({packets, count}, impaired.data(), now, counters);
    packets = impaired.data();
  }
  if (options.count > 1) count = hand_over(interface, packets, count);
  deliver(packets, count);
  stages.mark(Stage::input);
  return static_cast<uint32_t>(n + count);
}

size_t Worker::Impl::keep_contiguous(rte_mbuf** packets, size_t n) noexcept {
  size_t kept = 0;
  for (size_t i = 0; i < n; ++i) {
    if (make_contiguous(packets[i])) {
      packets[kept++] = packets[i];
    } else {
      counters.drop(Drop::frame_fragmented_buffers);
      rte_pktmbuf_free(packets[i]);
    }
  }
  return kept;
}

// Gives the packets of other workers' flows to them; keeps and counts those that stay.
size_t Worker::Impl::hand_over(uint16_t interface, rte_mbuf** packets, size_t n) noexcept {
  size_t kept = 0;
  for (size_t i = 0; i < n; ++i) {
    rte_mbuf* packet = packets[i];
    const uint32_t target = steer(
        {rte_pktmbuf_mtod(packet, const std::byte*), rte_pktmbuf_data_len(packet)}, options.count);
    if (target == options.index || target == kSteerHere) {
      packets[kept++] = packet;
    } else if (target == kSteerEveryone) {
      packets[kept++] = teach_everyone(interface, packet);
    } else {
      give_to(target, packet);
    }
  }
  return kept;
}

// Copies for the others; only worker 0's copy asks for an answer. Returns our own.
rte_mbuf* Worker::Impl::teach_everyone(uint16_t interface, rte_mbuf* packet) noexcept {
  const MacAddress& mac = options.ports[interface]->mac();
  const auto quiet = [&mac](rte_mbuf* m) {
    answer_not({rte_pktmbuf_mtod(m, std::byte*), rte_pktmbuf_data_len(m)}, mac);
  };
  for (uint32_t other = 0; other < options.count; ++other) {
    if (other == options.index) continue;
    rte_mbuf* copy = rte_pktmbuf_copy(packet, pool.get(), 0, UINT32_MAX);
    if (copy == nullptr) {
      counters.drop(Drop::handoff_full);
      continue;
    }
    copy->port = packet->port;
    if (other != 0) quiet(copy);
    give_to(other, copy);
  }
  if (options.index != 0) quiet(packet);
  return packet;
}

void Worker::Impl::give_to(uint32_t other, rte_mbuf* packet) noexcept {
  if (!options.mesh->received(options.index, other).push(packet)) {
    counters.drop(Drop::handoff_full);
    rte_pktmbuf_free(packet);
    return;
  }
  counters.add(Counter::handoff_packets);
  options.mesh->bell(other).ring();
}

bool Worker::Impl::give_whole(const RxPacket& whole) noexcept {
  const uint32_t target = steer({whole.data, whole.length}, options.count);
  if (target >= options.count || target == options.index) return false;
  rte_mbuf* packet = rte_pktmbuf_alloc(pool.get());
  if (packet == nullptr) return false;
  if (whole.length > rte_pktmbuf_tailroom(packet)) {
    rte_pktmbuf_free(packet);
    return false;
  }
  std::memcpy(rte_pktmbuf_append(packet, static_cast<uint16_t>(whole.length)), whole.data,
              whole.length);
  packet->port = whole.interface == stack.loop() ? kLoopPort : options.ports[whole.interface]->id();
  packet->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD;
  if (whole.vlan != 0) {
    packet->ol_flags |= RTE_MBUF_F_RX_VLAN_STRIPPED;
    packet->vlan_tci = whole.vlan;
  }
  give_to(target, packet);
  return true;
}

uint32_t Worker::Impl::receive_handed_over() noexcept {
  std::array<rte_mbuf*, kRxBurst> burst;
  size_t total = 0;
  for (uint32_t from = 0; from < options.count; ++from) {
    if (from == options.index) continue;
    const size_t n =
        options.mesh->received(from, options.index).pop_burst(burst.data(), burst.size());
    deliver(burst.data(), n);
    const size_t m =
        options.mesh->to_send(from, options.index).pop_burst(burst.data(), burst.size());
    for (size_t i = 0; i < m; ++i) send(burst[i], arrivals[burst[i]->port].interface);
    total += n + m;
  }
  return static_cast<uint32_t>(total);
}

uint32_t Worker::Impl::receive_looped() noexcept {
  size_t count = std::exchange(looped_count, 0);
  const auto received = static_cast<uint32_t>(count);
  if (options.count > 1) count = hand_over(stack.loop(), looped.data(), count);
  deliver(looped.data(), count);
  stages.mark(Stage::input);
  return received;
}

void Worker::Impl::deliver(rte_mbuf** packets, size_t n) noexcept {
  while (n > 0) {
    const size_t part = std::min(n, kRxBurst);
    for (size_t i = 0; i < part; ++i) {
      const Arrival& arrival = arrivals[packets[i]->port];
      views[i] = view_of(packets[i], arrival.interface, arrival.unjudged);
    }
    stack.receive({views.data(), part}, now);
    free_burst({packets, part});
    packets += part;
    n -= part;
  }
}

}  // namespace postern
