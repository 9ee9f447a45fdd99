// Ranges of sequence space in linked lists: what was sent and when (the SACK scoreboard), and what
// arrived out of order. The nodes come from one pool of the worker, so that an idle connection
// holds none and the engine never allocates. Any operation may find the pool empty; the engine
// then loses precision (coarser send times, an out-of-order segment refused), never correctness.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace postern {

// Neighbours do not overlap; what was sent at the same time is one range until SACK splits it.
struct TcpRange {
  static constexpr uint8_t kSacked = 1;   // the receiver has it
  static constexpr uint8_t kLost = 2;     // to be sent again; excludes kSacked
  static constexpr uint8_t kResent = 4;   // transmitted more than once (Karn)
  static constexpr uint8_t kPartial = 8;  // only its front was sent again, for want of a node
  static constexpr uint8_t kProbe = 16;   // a probe of the path's MTU

  uint32_t left = 0;   // first sequence number
  uint32_t right = 0;  // one past the last
  uint32_t time = 0;   // sent: microseconds of the last transmission; received: order of arrival
  uint8_t flags = 0;
  uint8_t sends = 0;  // transmissions, saturating

  [[nodiscard]] uint32_t size() const { return right - left; }
  [[nodiscard]] bool has(uint8_t bits) const { return (flags & bits) != 0; }
};
static_assert(sizeof(TcpRange) == 16);

// Fixed at start; owned by one worker, not thread-safe. Index 0 is never handed out.
class TcpRangePool {
 public:
  explicit TcpRangePool(uint32_t capacity)
      : ranges_(size_t{capacity} + 1), next_(size_t{capacity} + 1), free_(capacity) {
    for (uint32_t i = 1; i < capacity; ++i) next_[i] = i + 1;
    head_ = capacity == 0 ? 0 : 1;
  }

  // 0 if not more than `reserve` nodes are free.
  [[nodiscard]] uint32_t allocate(uint32_t reserve = 0) {
    if (free_ <= reserve) return 0;
    const uint32_t index = head_;
    head_ = next_[index];
    next_[index] = 0;
    --free_;
    return index;
  }
  void release(uint32_t index) {
    next_[index] = head_;
    head_ = index;
    ++free_;
  }
  [[nodiscard]] TcpRange& operator[](uint32_t index) { return ranges_[index]; }
  [[nodiscard]] const TcpRange& operator[](uint32_t index) const { return ranges_[index]; }
  // The successor in the list that the node is in, 0: last.
  [[nodiscard]] uint32_t& next(uint32_t index) { return next_[index]; }
  [[nodiscard]] uint32_t next(uint32_t index) const { return next_[index]; }
  [[nodiscard]] uint32_t available() const { return free_; }
  [[nodiscard]] uint32_t capacity() const { return static_cast<uint32_t>(ranges_.size()) - 1; }

 private:
  std::vector<TcpRange> ranges_;
  std::vector<uint32_t> next_;
  uint32_t free_ = 0;
  uint32_t head_ = 0;
};

}  // namespace postern
