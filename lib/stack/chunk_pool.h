// Receive memory of one application on one worker, in units of 2 KiB: small chunks of one unit,
// large ones of 32 that lie on a boundary of 32 (a page). A page is split for small chunks and
// whole again when its last small chunk returns.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/chunk.h"

namespace postern {

// Book-keeping is private memory, never the shared pool. Unit 0 is never given out: 0 means none.
class ChunkPool {
 public:
  static constexpr uint32_t kSmallPayload = kChunkUnit - sizeof(ChunkHeader);
  static constexpr uint32_t kLargePayload = kChunkUnit * kChunkLargeUnits - sizeof(ChunkHeader);

  struct Page {
    uint32_t free = 0;  // bit per unit
    uint32_t previous = 0;
    uint32_t next = 0;
  };
  static size_t pages_for(uint32_t units) noexcept {
    return (size_t{units} + kChunkLargeUnits - 1) / kChunkLargeUnits;
  }

  ChunkPool() = default;
  // `pages`: pages_for(units) of them, owned by the caller, valid as long as the pool is used.
  void reset(std::byte* memory, uint32_t units, Page* pages) noexcept;

  // First unit of a chunk, 0 if there is none. O(1), last freed first.
  [[nodiscard]] uint32_t allocate_small() noexcept;
  [[nodiscard]] uint32_t allocate_large() noexcept;
  void free(uint32_t unit, uint32_t units) noexcept;

  [[nodiscard]] uint32_t free_units() const noexcept { return free_units_; }
  // Payload that is sure to find room, in small chunks, at most 1 GiB.
  [[nodiscard]] uint32_t free_bytes() const noexcept {
    return std::min<uint32_t>(free_units_, (1U << 30) / kChunkUnit) * kSmallPayload;
  }
  [[nodiscard]] uint32_t used_units() const noexcept { return usable_units_ - free_units_; }

  [[nodiscard]] ChunkHeader* header(uint32_t unit) const noexcept {
    return reinterpret_cast<ChunkHeader*>(memory_ + size_t{unit} * kChunkUnit);
  }
  [[nodiscard]] std::byte* payload(uint32_t unit) const noexcept {
    return memory_ + size_t{unit} * kChunkUnit + sizeof(ChunkHeader);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kWhole = UINT32_MAX;

  void push(uint32_t* head, uint32_t page) noexcept;
  void unlink(uint32_t* head, uint32_t page) noexcept;

  std::byte* memory_ = nullptr;
  Page* pages_ = nullptr;
  uint32_t whole_ = kNone;  // pages of which every unit is free
  uint32_t split_ = kNone;  // pages of which some units are free
  uint32_t free_units_ = 0;
  uint32_t usable_units_ = 0;
};

}  // namespace postern
