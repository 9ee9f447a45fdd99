// Ranges of sequence space in linked lists: what was sent and when (the SACK scoreboard), and what
// arrived out of order. The nodes come from one pool of the worker, so that an idle connection
// holds none and the engine never allocates. Any operation may find the pool empty; the engine
// then loses precision (coarser send times, an out-of-order segment refused), never correctness.
#pragma once

#include <cstdint>
#include <vector>

namespace postern {

struct TcpRange {
  static constexpr uint8_t kSacked = 1;   // the receiver has it
  static constexpr uint8_t kLost = 2;     // to be sent again; excludes kSacked
  static constexpr uint8_t kResent = 4;   // transmitted more than once (Karn)
  static constexpr uint8_t kPartial = 8;  // only the front of it was sent again; see Recovery

  uint32_t left = 0;   // first sequence number
  uint32_t right = 0;  // one past the last
  uint32_t time = 0;   // sent: microseconds of the last transmission; received: order of arrival
  uint32_t next = 0;   // index in the pool, 0: last
  uint8_t flags = 0;
  uint8_t sends = 0;  // transmissions, saturating
  uint16_t unused = 0;

  [[nodiscard]] uint32_t size() const { return right - left; }
  [[nodiscard]] bool has(uint8_t bits) const { return (flags & bits) != 0; }
};
static_assert(sizeof(TcpRange) == 20);

// Fixed at start; owned by one worker, not thread-safe. Index 0 is never handed out.
class TcpRangePool {
 public:
  explicit TcpRangePool(uint32_t capacity) : nodes_(capacity + 1), free_(capacity) {
    for (uint32_t i = 1; i < capacity; ++i) nodes_[i].next = i + 1;
    head_ = capacity == 0 ? 0 : 1;
  }

  // 0 if not more than `reserve` nodes are free.
  [[nodiscard]] uint32_t allocate(uint32_t reserve = 0) {
    if (free_ <= reserve) return 0;
    const uint32_t index = head_;
    head_ = nodes_[index].next;
    --free_;
    nodes_[index] = TcpRange{};
    return index;
  }
  void release(uint32_t index) {
    nodes_[index].next = head_;
    head_ = index;
    ++free_;
  }
  [[nodiscard]] TcpRange& operator[](uint32_t index) { return nodes_[index]; }
  [[nodiscard]] const TcpRange& operator[](uint32_t index) const { return nodes_[index]; }
  [[nodiscard]] uint32_t available() const { return free_; }
  [[nodiscard]] uint32_t capacity() const { return static_cast<uint32_t>(nodes_.size()) - 1; }

 private:
  std::vector<TcpRange> nodes_;
  uint32_t free_ = 0;
  uint32_t head_ = 0;
};

}  // namespace postern
