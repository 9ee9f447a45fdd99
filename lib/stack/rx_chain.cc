#include "stack/rx_chain.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace postern {

// Appends chunks until there is storage up to `position`.
void RxChain::extend(ChunkPool& pool, uint32_t position) noexcept {
  uint32_t at = first_ == 0 ? tail_ : end_;
  while (seq_lt(at, position)) {
    const bool bulk = position - at > kBulk || at - head_ >= kBulk;
    uint32_t units = kChunkLargeUnits;
    uint32_t unit = bulk ? pool.allocate_large() : 0;
    if (unit == 0) {
      units = 1;
      unit = pool.allocate_small();
    }
    ChunkHeader* chunk = pool.header(unit);
    *chunk = {0, units * kChunkUnit - static_cast<uint32_t>(sizeof(ChunkHeader)), at, units};
    if (first_ == 0) {
      first_ = write_ = unit;
      announced_ = false;
    } else {
      std::atomic_ref<uint32_t>(pool.header(last_)->next).store(unit, std::memory_order_release);
    }
    last_ = unit;
    last_start_ = at;
    at += chunk->capacity;
    end_ = at;
  }
}

// The chunk that holds `position`; tail_ <= position < end_.
uint32_t RxChain::locate(const ChunkPool& pool, uint32_t position) const noexcept {
  if (seq_ge(position, last_start_)) return last_;
  uint32_t unit = write_;
  const ChunkHeader* chunk = pool.header(unit);
  while (position - chunk->start >= chunk->capacity) {
    unit = chunk->next;
    chunk = pool.header(unit);
  }
  return unit;
}

// A request that finds the chain empty: one small chunk holds it.
void RxChain::begin(ChunkPool& pool, const std::byte* bytes, uint32_t length) noexcept {
  const uint32_t unit = pool.allocate_small();
  *pool.header(unit) = {0, ChunkPool::kSmallPayload, tail_, 1};
  std::memcpy(pool.payload(unit), bytes, length);
  first_ = write_ = last_ = unit;
  announced_ = false;
  last_start_ = tail_;
  end_ = tail_ + ChunkPool::kSmallPayload;
  stored_ = tail_ + length;
}

void RxChain::store_anywhere(ChunkPool& pool, uint32_t position, const std::byte* bytes,
                             uint32_t length) noexcept {
  if (length == 0) return;
  extend(pool, position + length);
  stored_ = seq_max(stored_, position + length);
  uint32_t unit = locate(pool, position);
  for (;;) {
    const ChunkHeader* chunk = pool.header(unit);
    const uint32_t offset = position - chunk->start;
    const uint32_t n = std::min(length, chunk->capacity - offset);
    std::memcpy(pool.payload(unit) + offset, bytes, n);
    length -= n;
    if (length == 0) return;
    position += n;
    bytes += n;
    unit = chunk->next;
  }
}

void RxChain::advance_tail(const ChunkPool& pool, uint32_t tail) noexcept {
  tail_ = tail;
  if (first_ == 0 || write_ == last_) return;
  if (seq_ge(tail, last_start_)) {
    write_ = last_;
    return;
  }
  const ChunkHeader* chunk = pool.header(write_);
  while (tail - chunk->start >= chunk->capacity) {
    write_ = chunk->next;
    chunk = pool.header(write_);
  }
}

void RxChain::drop_front(ChunkPool& pool) noexcept {
  const ChunkHeader* chunk = pool.header(first_);
  const uint32_t unit = first_;
  first_ = unit == last_ ? 0 : chunk->next;
  pool.free(unit, chunk->units);
}

// A chunk goes only when head is past its end: a reader that stands exactly there still needs the
// link to the next one.
void RxChain::consume(ChunkPool& pool, uint32_t head) noexcept {
  head_ = head;
  if (head == tail_ && seq_le(stored_, tail_)) {
    clear(pool);
    return;
  }
  while (first_ != write_) {
    const ChunkHeader* chunk = pool.header(first_);
    if (head - chunk->start <= chunk->capacity) return;
    drop_front(pool);
  }
}

void RxChain::clear(ChunkPool& pool) noexcept {
  while (first_ != 0) drop_front(pool);
  write_ = last_ = 0;
}

}  // namespace postern
