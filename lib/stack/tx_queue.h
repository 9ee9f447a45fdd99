// The send stream of one socket: extents of the application's transmit region in the order in which
// the application queued them. The first extent lies in the queue itself, further ones in a pool
// shared by the worker; adjacent ones are merged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/seq.h"

namespace postern {

inline constexpr uint32_t kMaxExtents = 64;           // SHM_MAX_EXTENTS
inline constexpr uint32_t kMaxOutstanding = 1 << 24;  // SHM_MAX_OUTSTANDING

struct TxExtent {
  uint64_t offset = 0;  // bytes from the start of the transmit region
  uint32_t length = 0;
  uint32_t next = UINT32_MAX;
};

class TxExtentPool {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  explicit TxExtentPool(uint32_t count);
  [[nodiscard]] uint32_t allocate() noexcept;  // kNone: exhausted
  void free(uint32_t index) noexcept;
  TxExtent& operator[](uint32_t index) noexcept { return extents_[index]; }
  [[nodiscard]] uint32_t used() const noexcept { return used_; }

 private:
  std::vector<TxExtent> extents_;
  uint32_t free_ = kNone;
  uint32_t used_ = 0;
};

class TxQueue {
 public:
  enum class Result : uint8_t { ok, too_many, no_memory };

  // Appends [offset, offset + length) of the transmit region; length > 0.
  Result append(TxExtentPool& pool, uint64_t offset, uint32_t length) noexcept;
  // Storage before stream position `acked` is no longer needed. begin() <= acked <= end().
  void release(TxExtentPool& pool, uint32_t acked) noexcept;
  void clear(TxExtentPool& pool) noexcept;

  [[nodiscard]] uint32_t begin() const noexcept { return begin_; }  // stream positions
  [[nodiscard]] uint32_t end() const noexcept { return end_; }
  [[nodiscard]] uint32_t outstanding() const noexcept { return end_ - begin_; }

  struct Piece {
    uint64_t offset = 0;
    uint32_t length = 0;
  };
  // The piece of memory at stream position `position`, at most `length` bytes; begin() <= position
  // and position + length <= end(), length > 0. O(1) when positions ascend.
  [[nodiscard]] Piece at(TxExtentPool& pool, uint32_t position, uint32_t length) noexcept {
    const uint32_t skip = position - cursor_position_;
    if (cursor_ != kInline || skip >= first_.length) return seek(pool, position, length);
    return {first_.offset + skip, length < first_.length - skip ? length : first_.length - skip};
  }

 private:
  static constexpr uint32_t kInline = UINT32_MAX - 1;
  static constexpr uint32_t kNone = TxExtentPool::kNone;

  [[nodiscard]] Piece seek(TxExtentPool& pool, uint32_t position, uint32_t length) noexcept;
  [[nodiscard]] TxExtent& extent(TxExtentPool& pool, uint32_t index) noexcept {
    return index == kInline ? first_ : pool[index];
  }

  TxExtent first_;  // head of the stream
  uint32_t begin_ = 0;
  uint32_t end_ = 0;
  uint32_t last_ = kNone;         // index of the last extent, kInline or of the pool
  uint32_t cursor_ = kInline;     // extent that at() looked at last
  uint32_t cursor_position_ = 0;  // stream position of its first byte
  uint32_t count_ = 0;
};

}  // namespace postern
