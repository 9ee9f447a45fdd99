// A bad network, for tests: loses, doubles, reorders and corrupts packets with given probabilities,
// the same way for the same seed. Lost packets are counted as Drop::impaired.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/counters.h"
#include "base/random.h"
#include "base/time.h"

struct rte_mbuf;
struct rte_mempool;

namespace postern {

struct ImpairmentOptions {
  uint64_t seed = 0;                                         // 0: off
  double loss = 0, duplicate = 0, reorder = 0, corrupt = 0;  // probabilities 0..1
  bool rx = true, tx = true;
};

// One direction of one worker.
class Impairment {
 public:
  static constexpr size_t kHeld = 16;
  static constexpr Duration kLongestHold = 2ms;

  // `copies`: where duplicates come from. `stream` tells the stages of one seed apart.
  Impairment(const ImpairmentOptions& options, uint64_t stream, rte_mempool* copies);
  ~Impairment();
  Impairment(const Impairment&) = delete;
  Impairment& operator=(const Impairment&) = delete;

  // Takes all of `in`; writes what goes on to `out`, which has room for 2 * in.size() + kHeld;
  // returns how many. Call it without packets too, so that those held back too long go on.
  size_t apply(std::span<rte_mbuf* const> in, rte_mbuf** out, Time now,
               Counters& counters) noexcept;
  // When a packet held back is due; kNever if none.
  [[nodiscard]] Time next_deadline() const noexcept;

 private:
  struct Held {
    rte_mbuf* packet = nullptr;
    Time due{};
    uint32_t after = 0;  // packets that still pass before it
  };
  size_t release(rte_mbuf** out, Time now, bool passed) noexcept;
  [[nodiscard]] bool hold(rte_mbuf* packet, Time now) noexcept;
  void corrupt(rte_mbuf* packet) noexcept;

  ImpairmentOptions options_;
  Random random_;
  rte_mempool* copies_;
  std::array<Held, kHeld> held_{};
  size_t held_count_ = 0;
};

}  // namespace postern
