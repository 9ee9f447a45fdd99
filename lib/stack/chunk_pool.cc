#include "stack/chunk_pool.h"

#include <algorithm>
#include <bit>

namespace postern {

void ChunkPool::push(uint32_t* head, uint32_t page) noexcept {
  pages_[page].previous = kNone;
  pages_[page].next = *head;
  if (*head != kNone) pages_[*head].previous = page;
  *head = page;
}

void ChunkPool::unlink(uint32_t* head, uint32_t page) noexcept {
  const Page& p = pages_[page];
  (p.previous == kNone ? *head : pages_[p.previous].next) = p.next;
  if (p.next != kNone) pages_[p.next].previous = p.previous;
}

void ChunkPool::reset(std::byte* memory, uint32_t units, Page* pages) noexcept {
  memory_ = memory;
  pages_ = pages;
  whole_ = split_ = kNone;
  usable_units_ = free_units_ = units == 0 ? 0 : units - 1;
  for (auto page = static_cast<uint32_t>(pages_for(units)); page-- > 0;) {
    const uint32_t first = page * kChunkLargeUnits;
    const uint32_t count = std::min(units - first, kChunkLargeUnits);
    uint32_t mask = count == kChunkLargeUnits ? kWhole : (uint32_t{1} << count) - 1;
    if (page == 0) mask &= ~uint32_t{1};
    pages_[page].free = mask;
    if (mask != 0) push(mask == kWhole ? &whole_ : &split_, page);
  }
}

uint32_t ChunkPool::allocate_small() noexcept {
  uint32_t page = split_;
  if (page == kNone) {
    page = whole_;
    if (page == kNone) return 0;
    unlink(&whole_, page);
    push(&split_, page);
  }
  Page& p = pages_[page];
  const auto bit = static_cast<uint32_t>(std::countr_zero(p.free));
  p.free &= p.free - 1;
  if (p.free == 0) unlink(&split_, page);
  --free_units_;
  return page * kChunkLargeUnits + bit;
}

uint32_t ChunkPool::allocate_large() noexcept {
  const uint32_t page = whole_;
  if (page == kNone) return 0;
  unlink(&whole_, page);
  pages_[page].free = 0;
  free_units_ -= kChunkLargeUnits;
  return page * kChunkLargeUnits;
}

void ChunkPool::free(uint32_t unit, uint32_t units) noexcept {
  const uint32_t page = unit / kChunkLargeUnits;
  Page& p = pages_[page];
  free_units_ += units;
  if (units == kChunkLargeUnits) {
    p.free = kWhole;
    push(&whole_, page);
    return;
  }
  const bool listed = p.free != 0;
  p.free |= uint32_t{1} << (unit % kChunkLargeUnits);
  if (!listed) push(&split_, page);
  if (p.free == kWhole) {
    unlink(&split_, page);
    push(&whole_, page);
  }
}

}  // namespace postern
