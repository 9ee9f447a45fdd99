// Conversations of another stack on our addresses: whoever sees a packet that no socket of ours
// wants asks here whether it answers something that stack has sent. One thread writes, every worker
// reads, without locks.
//
// A set of eight slots, two cache lines, holds the fingerprints of the flows that hash to it; the
// one that was quiet for longest gives way. Nothing else ends an entry: that the other stack hears
// of a conversation it has forgotten does no harm. Two flows are taken for one another with a
// chance of 2^-61.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/hash.h"
#include "base/time.h"
#include "flow/flow_table.h"

namespace postern {

class ForeignFlows {
 public:
  // Rounded up to a power of two. The only allocation.
  ForeignFlows(uint32_t entries, const HashSecret& secret)
      : hash_(secret),
        mask_(std::bit_ceil(entries < kWays ? uint32_t{kWays} : entries) / kWays - 1),
        sets_(std::make_unique<Set[]>(size_t{mask_} + 1)) {}

  // The writer: the flow was used.
  void note(const FlowKey& key, Time now) noexcept {
    const uint64_t hash = fingerprint(key);
    Set& set = set_of(hash);
    Slot* oldest = &set[0];
    for (Slot& slot : set) {
      const uint64_t held = slot.fingerprint.load(std::memory_order_relaxed);
      if (held == hash || held == kFree) {
        oldest = &slot;
        break;
      }
      if (slot.used.load(std::memory_order_relaxed) <
          oldest->used.load(std::memory_order_relaxed)) {
        oldest = &slot;
      }
    }
    oldest->used.store(now.time_since_epoch().count(), std::memory_order_relaxed);
    oldest->fingerprint.store(hash, std::memory_order_relaxed);
  }

  // Any thread.
  [[nodiscard]] bool contains(const FlowKey& key) const noexcept {
    const uint64_t hash = fingerprint(key);
    for (const Slot& slot : set_of(hash)) {
      if (slot.fingerprint.load(std::memory_order_relaxed) == hash) return true;
    }
    return false;
  }

 private:
  static constexpr size_t kWays = 8;
  static constexpr uint64_t kFree = 0;
  struct Slot {
    std::atomic<uint64_t> fingerprint{kFree};
    std::atomic<int64_t> used{0};
  };
  using Set = std::array<Slot, kWays>;

  [[nodiscard]] uint64_t fingerprint(const FlowKey& key) const noexcept {
    const uint64_t hash = hash_(key);
    return hash == kFree ? 1 : hash;
  }
  [[nodiscard]] Set& set_of(uint64_t hash) const noexcept { return sets_[(hash >> 32) & mask_]; }

  const KeyedHash hash_;
  const uint32_t mask_;
  const std::unique_ptr<Set[]> sets_;
};

}  // namespace postern
