#include "dataplane/impairment.h"

#include <algorithm>

#include "dataplane/edge.h"
#include "dpdk/compat.h"

namespace postern {

Impairment::Impairment(const ImpairmentOptions& options, uint64_t stream, rte_mempool* copies)
    : options_(options), random_(options.seed + stream * 0x9e3779b97f4a7c15), copies_(copies) {}

Impairment::~Impairment() {
  for (size_t i = 0; i < held_count_; ++i) rte_pktmbuf_free(held_[i].packet);
}

size_t Impairment::apply(std::span<rte_mbuf* const> in, rte_mbuf** out, Time now,
                         Counters& counters) noexcept {
  size_t n = release(out, now, false);
  for (rte_mbuf* packet : in) {
    if (random_.chance(options_.loss)) {
      counters.drop(Drop::impaired);
      rte_pktmbuf_free(packet);
      continue;
    }
    rte_mbuf* twin = random_.chance(options_.duplicate)
                         ? rte_pktmbuf_copy(packet, copies_, 0, UINT32_MAX)
                         : nullptr;
    if (random_.chance(options_.corrupt)) corrupt(packet);
    if (random_.chance(options_.reorder) && hold(packet, now)) packet = nullptr;
    if (packet != nullptr) out[n++] = packet;
    if (twin != nullptr) out[n++] = twin;
    n += release(out + n, now, true);
  }
  return n;
}

// Keeps the packet back until 1 to 8 others have passed; false: as many as possible are held.
bool Impairment::hold(rte_mbuf* packet, Time now) noexcept {
  if (held_count_ == kHeld) return false;
  held_[held_count_++] = {packet, now + kLongestHold, static_cast<uint32_t>(2 + random_.below(8))};
  return true;
}

size_t Impairment::release(rte_mbuf** out, Time now, bool passed) noexcept {
  size_t released = 0;
  size_t kept = 0;
  for (size_t i = 0; i < held_count_; ++i) {
    Held held = held_[i];
    if (passed && held.after > 0) --held.after;
    if (held.after == 0 || held.due <= now) {
      out[released++] = held.packet;
    } else {
      held_[kept++] = held;
    }
  }
  held_count_ = kept;
  return released;
}

Time Impairment::next_deadline() const noexcept {
  Time due = kNever;
  for (size_t i = 0; i < held_count_; ++i) due = std::min(due, held_[i].due);
  return due;
}

// Flips one bit of an IP packet, header or payload. The Ethernet header and ARP are left alone: on
// a real link the frame check sequence guards them, and nothing else does.
void Impairment::corrupt(rte_mbuf* packet) noexcept {
  auto* data = rte_pktmbuf_mtod(packet, uint8_t*);
  const uint32_t length = rte_pktmbuf_data_len(packet);
  if (length <= RTE_ETHER_HDR_LEN) return;
  const unsigned type = data[12] << 8U | data[13];
  if (type != RTE_ETHER_TYPE_IPV4 && type != RTE_ETHER_TYPE_IPV6) return;
  finish_checksums(packet);  // or the device would sum up the damage
  const uint64_t bit = random_.below(uint64_t{length - RTE_ETHER_HDR_LEN} * 8);
  data[RTE_ETHER_HDR_LEN + bit / 8] ^= static_cast<uint8_t>(1U << bit % 8);
  forget_verdicts(packet);
}

}  // namespace postern
