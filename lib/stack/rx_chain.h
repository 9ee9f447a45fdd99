// The receive stream of one socket: payload in chunks of the application's pool, as the section
// RECEIVE CHUNKS of the shared-memory layout says. Bytes are stored once, at their final position,
// in order or not; chunks for a gap are allocated with the bytes behind it.
//
// Positions are free-running 32-bit counts. head <= tail <= end:
//   head  the application has consumed everything before it
//   tail  everything before it has arrived
//   end   storage is there up to here
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/seq.h"
#include "stack/chunk_pool.h"

namespace postern {

class RxChain {
 public:
  [[nodiscard]] uint32_t head() const noexcept { return head_; }
  [[nodiscard]] uint32_t tail() const noexcept { return tail_; }
  [[nodiscard]] uint32_t unread() const noexcept { return tail_ - head_; }
  [[nodiscard]] bool holds_chunks() const noexcept { return first_ != 0; }

  // True if store() of bytes that end at `position` cannot fail. `position` may lie before end.
  [[nodiscard]] bool can_cover(const ChunkPool& pool, uint32_t position) const noexcept {
    const uint32_t end = first_ == 0 ? tail_ : end_;
    return seq_le(position, end) || units_for(position - end) <= pool.free_units();
  }
  // Bytes behind the furthest one stored for which there are chunks already.
  [[nodiscard]] uint32_t room_behind_stored() const noexcept {
    return first_ == 0 ? 0 : end_ - seq_max(stored_, tail_);
  }

  // Copies `length` bytes to stream position `position` >= tail(). can_cover() was true.
  void store(ChunkPool& pool, uint32_t position, const std::byte* bytes, uint32_t length) noexcept {
    if (first_ == 0 && position == tail_ && length - 1 < ChunkPool::kSmallPayload) {
      begin(pool, bytes, length);
    } else {
      store_anywhere(pool, position, bytes, length);
    }
  }
  // Where the next bytes in order go, as far as the last chunk has room for them; empty if
  // something is stored beyond tail(). advance_in_chunk() follows.
  [[nodiscard]] std::span<std::byte> rest_of_chunk(const ChunkPool& pool) const noexcept {
    if (first_ == 0 || write_ != last_ || seq_gt(stored_, tail_)) return {};
    return {pool.payload(last_) + (tail_ - last_start_), end_ - tail_};
  }
  void advance_in_chunk(uint32_t length) noexcept { stored_ = tail_ = tail_ + length; }
  // Everything before `tail` has arrived.
  void advance_tail(const ChunkPool& pool, uint32_t tail) noexcept;
  // The application has read up to `head` <= tail().
  void consume(ChunkPool& pool, uint32_t head) noexcept;
  // Gives all chunks back; the stream is over.
  void clear(ChunkPool& pool) noexcept;

  // First unit of a chain that the application has not been told of, 0 if none.
  [[nodiscard]] uint32_t new_chain() const noexcept { return announced_ ? 0 : first_; }
  void mark_announced() noexcept { announced_ = true; }

 private:
  static constexpr uint32_t kBulk = 4096;  // bytes waiting from which chunks are large

  static uint32_t units_for(uint32_t bytes) noexcept {
    return (bytes + ChunkPool::kSmallPayload - 1) / ChunkPool::kSmallPayload;
  }
  void begin(ChunkPool& pool, const std::byte* bytes, uint32_t length) noexcept;
  void store_anywhere(ChunkPool& pool, uint32_t position, const std::byte* bytes,
                      uint32_t length) noexcept;
  void extend(ChunkPool& pool, uint32_t position) noexcept;
  [[nodiscard]] uint32_t locate(const ChunkPool& pool, uint32_t position) const noexcept;
  void drop_front(ChunkPool& pool) noexcept;

  uint32_t head_ = 0;
  uint32_t tail_ = 0;
  uint32_t end_ = 0;         // position after the last chunk; valid if first_ != 0
  uint32_t stored_ = 0;      // after the furthest byte stored; beyond tail_: out of order
  uint32_t last_start_ = 0;  // position of the last chunk's first byte
  uint32_t first_ = 0;       // units
  uint32_t write_ = 0;       // chunk that holds tail_, or ends there
  uint32_t last_ = 0;
  bool announced_ = false;
};

}  // namespace postern
