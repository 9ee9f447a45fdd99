// Packets of the kernel, out of the interface that their tap belongs to.
#include <cstring>

#include "dataplane/edge.h"
#include "dataplane/exception_path.h"
#include "dataplane/worker_impl.h"
#include "wire/headers.h"

namespace postern {
namespace {

constexpr uint32_t kPacketsPerTurn = 32;  // of each port
// Of a device's queue, so that it always has room for the stack's own.
constexpr size_t kShare = TransmitQueue::kCapacity / 2;

// The frame as it goes on the wire: of a VLAN with its tag, which the tap's has not. 0: no room.
uint32_t write_tagged(TxFrame& to, std::span<const std::byte> frame, uint16_t vlan) noexcept {
  constexpr size_t kMacs = 12;
  const size_t tag = vlan == 0 ? 0 : sizeof(wire::VlanTag);
  if (frame.size() + tag > to.capacity || frame.size() < kMacs) return 0;
  std::memcpy(to.data, frame.data(), kMacs);
  if (tag != 0) {
    const be16 words[] = {be16(wire::ether_type::vlan), be16(vlan)};
    std::memcpy(to.data + kMacs, words, sizeof words);
  }
  std::memcpy(to.data + kMacs + tag, frame.data() + kMacs, frame.size() - kMacs);
  return static_cast<uint32_t>(frame.size() + tag);
}

}  // namespace

uint32_t Worker::Impl::send_for_kernel() noexcept {
  uint32_t sent = 0;
  const std::vector<InterfaceConfig>& interfaces = options.stack.interfaces;
  for (uint16_t i = 0; i < interfaces.size(); ++i) {
    const uint16_t port = interfaces[i].vlan == 0 ? i : interfaces[i].port;
    RecordRing* const ring = options.exception->from_kernel(i);
    if (ring == nullptr || ring->empty()) continue;
    for (uint32_t n = 0; n < kPacketsPerTurn && transmit_queues[port]->waiting() < kShare; ++n) {
      const std::span<const std::byte> frame = ring->front();
      if (frame.data() == nullptr || (first_spare == kTxBurst && !refill())) break;
      TxFrame& to = frames[first_spare];
      to.length = write_tagged(to, frame, interfaces[i].vlan);
      if (to.length == 0) {
        counters.drop(Drop::exception_too_long);
      } else {
        to.needs_ip_checksum = to.needs_l4_checksum = false;
        to.tso_mss = 0;
        seal(spare[first_spare], to);
        transmit(spare[first_spare++], port, !tx_impairment.empty());
        counters.add(Counter::exception_tx);
      }
      ring->pop();
      ++sent;
    }
  }
  return sent;
}

}  // namespace postern
