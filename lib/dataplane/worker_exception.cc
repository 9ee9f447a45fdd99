// Packets of the kernel, out of the port that their tap belongs to.
#include <cstring>

#include "dataplane/edge.h"
#include "dataplane/exception_path.h"
#include "dataplane/worker_impl.h"

namespace postern {
namespace {

constexpr uint32_t kPacketsPerTurn = 32;  // of each port
// Of a device's queue, so that it always has room for the stack's own.
constexpr size_t kShare = TransmitQueue::kCapacity / 2;

}  // namespace

uint32_t Worker::Impl::send_for_kernel() noexcept {
  uint32_t sent = 0;
  for (uint16_t i = 0; i < transmit_queues.size(); ++i) {
    RecordRing* const ring = options.exception->from_kernel(i);
    if (ring == nullptr || ring->empty()) continue;
    for (uint32_t n = 0; n < kPacketsPerTurn && transmit_queues[i]->waiting() < kShare; ++n) {
      const std::span<const std::byte> frame = ring->front();
      if (frame.data() == nullptr || (first_spare == kTxBurst && !refill())) break;
      TxFrame& to = frames[first_spare];
      if (frame.size() > to.capacity) {
        counters.drop(Drop::exception_too_long);
      } else {
        std::memcpy(to.data, frame.data(), frame.size());
        to.length = static_cast<uint32_t>(frame.size());
        to.needs_ip_checksum = to.needs_l4_checksum = false;
        to.tso_mss = 0;
        seal(spare[first_spare], to);
        transmit(spare[first_spare++], i);
        counters.add(Counter::exception_tx);
      }
      ring->pop();
      ++sent;
    }
  }
  return sent;
}

}  // namespace postern
