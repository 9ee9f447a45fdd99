#include "stack/tx_queue.h"

#include <algorithm>

namespace postern {

TxExtentPool::TxExtentPool(uint32_t count) : extents_(count) {
  for (uint32_t i = count; i-- > 0;) {
    extents_[i].next = free_;
    free_ = i;
  }
}

uint32_t TxExtentPool::allocate() noexcept {
  const uint32_t index = free_;
  if (index == kNone) return kNone;
  free_ = extents_[index].next;
  extents_[index].next = kNone;
  ++used_;
  return index;
}

void TxExtentPool::free(uint32_t index) noexcept {
  extents_[index].next = free_;
  free_ = index;
  --used_;
}

TxQueue::Result TxQueue::append(TxExtentPool& pool, uint64_t offset, uint32_t length) noexcept {
  if (count_ == 0) {
    first_ = {offset, length, kNone};
    last_ = cursor_ = kInline;
    cursor_position_ = begin_;
    count_ = 1;
    end_ += length;
    return Result::ok;
  }
  TxExtent& last = extent(pool, last_);
  if (last.offset + last.length == offset) {
    last.length += length;
    end_ += length;
    return Result::ok;
  }
  if (count_ >= kMaxExtents) return Result::too_many;
  const uint32_t index = pool.allocate();
  if (index == kNone) return Result::no_memory;
  pool[index] = {offset, length, kNone};
  last.next = index;
  last_ = index;
  ++count_;
  end_ += length;
  return Result::ok;
}

void TxQueue::release(TxExtentPool& pool, uint32_t acked) noexcept {
  while (count_ != 0 && begin_ != acked) {
    const uint32_t n = acked - begin_;
    if (n < first_.length) {
      first_.offset += n;
      first_.length -= n;
      begin_ = acked;
      if (cursor_ == kInline) cursor_position_ = acked;
      return;
    }
    begin_ += first_.length;
    const uint32_t next = first_.next;
    if (--count_ == 0) {
      last_ = kNone;
      return;
    }
    // The second extent moves into the queue itself.
    first_ = pool[next];
    pool.free(next);
    if (last_ == next) last_ = kInline;
    if (cursor_ == kInline || cursor_ == next) {
      cursor_ = kInline;
      cursor_position_ = begin_;
    }
  }
}

void TxQueue::clear(TxExtentPool& pool) noexcept { release(pool, end_); }

// at() for a position outside the first extent.
TxQueue::Piece TxQueue::seek(TxExtentPool& pool, uint32_t position, uint32_t length) noexcept {
  if (seq_lt(position, cursor_position_)) {  // retransmission: from the front
    cursor_ = kInline;
    cursor_position_ = begin_;
  }
  const TxExtent* e = &extent(pool, cursor_);
  while (position - cursor_position_ >= e->length) {
    cursor_position_ += e->length;
    cursor_ = e->next;
    e = &pool[cursor_];
  }
  const uint32_t skip = position - cursor_position_;
  return {e->offset + skip, std::min(length, e->length - skip)};
}

}  // namespace postern
