// Packets that wait for a device: what it does not take is kept, never spun on. One per worker and
// port.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/mesh.h"
#include "dpdk/burst.h"

namespace postern {

class TransmitQueue {
 public:
  static constexpr size_t kCapacity = 1024;

  // `mesh` null: there is one worker. A port with fewer queues than workers is reached through the
  // worker that owns the queue.
  TransmitQueue(const Port& port, uint32_t worker, WorkerMesh* mesh)
      : port_(&port), mesh_(mesh), worker_(worker), owner_(worker % port.queues()) {}
  ~TransmitQueue() {
    for (; count_ > 0; --count_) rte_pktmbuf_free(ring_[head_++ % kCapacity]);
  }
  TransmitQueue(const TransmitQueue&) = delete;
  TransmitQueue& operator=(const TransmitQueue&) = delete;

  [[nodiscard]] size_t room() const noexcept { return kCapacity - count_; }
  [[nodiscard]] size_t waiting() const noexcept { return count_; }

  // Takes the packet. Full: the oldest gives way and is returned, for the caller to count and free.
  [[nodiscard]] rte_mbuf* push(rte_mbuf* packet) noexcept {
    rte_mbuf* oldest = nullptr;
    if (count_ == kCapacity) {
      oldest = ring_[head_++ % kCapacity];
      --count_;
    }
    ring_[(head_ + count_++) % kCapacity] = packet;
    return oldest;
  }

  // Offers what waits to the device (or the owner of its queue) until it takes no more; how many it
  // took.
  size_t flush() noexcept {
    size_t sent = 0;
    while (count_ > 0) {
      const size_t first = head_ % kCapacity;
      const size_t n = std::min({count_, kCapacity - first, kBurst});
      const size_t taken = give({&ring_[first], n});
      head_ += taken;
      count_ -= taken;
      sent += taken;
      if (taken < n) break;
    }
    return sent;
  }

  // Payload that is named and not copied is good for this turn only: what waits gets it into its
  // own buffer, which has room for a whole frame.
  void copy_gathered() noexcept {
    for (size_t i = std::max(head_, copied_); i < head_ + count_; ++i) {
      rte_mbuf* packet = ring_[i % kCapacity];
      if (packet->nb_segs > 1 && RTE_MBUF_HAS_EXTBUF(packet->next)) rte_pktmbuf_linearize(packet);
    }
    copied_ = head_ + count_;
  }

 private:
  static constexpr size_t kBurst = 64;
  size_t give(std::span<rte_mbuf*> packets) noexcept {
    if (owner_ == worker_) return tx_burst(*port_, static_cast<uint16_t>(worker_), packets);
    for (rte_mbuf* packet : packets) packet->port = port_->id();
    const size_t n = mesh_->to_send(worker_, owner_).push_burst(packets.data(), packets.size());
    if (n > 0) mesh_->bell(owner_).ring();
    return n;
  }

  const Port* port_;
  WorkerMesh* mesh_;
  uint32_t worker_;
  uint32_t owner_;  // of the queue
  size_t head_ = 0;
  size_t count_ = 0;
  size_t copied_ = 0;  // those before it, counted as head_ is, have been seen by copy_gathered()
  std::array<rte_mbuf*, kCapacity> ring_{};
};

}  // namespace postern
