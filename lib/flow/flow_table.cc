#include "flow/flow_table.h"

namespace postern {

namespace {

bool is_prime(uint64_t n) {
  if (n % 2 == 0) return n == 2;
  for (uint64_t d = 3; d * d <= n; d += 2) {
    if (n % d == 0) return false;
  }
  return n > 1;
}

// A load of 2/3, and a prime: then every stride visits every bucket before it comes round. With a
// common factor some flows would have two or three buckets only, and be refused in a table that has
// room.
size_t bucket_count_for(uint32_t max_entries) {
  constexpr uint64_t kFill = 2 * FlowIndex::kSlots;
  uint64_t n = (uint64_t{max_entries} * 3 + kFill - 1) / kFill;
  while (n > FlowIndex::kMaxProbe && !is_prime(n)) ++n;
  return n;
}

}  // namespace

FlowIndex::FlowIndex(uint32_t max_entries, const HashSecret& secret, bool prefault)
    : hash_(secret),
      buckets_(bucket_count_for(max_entries), prefault),
      bucket_count_(static_cast<uint32_t>(buckets_.size())),
      max_entries_(max_entries) {
  assert(max_entries > 0 && max_entries < kNoFlow);
}

bool FlowIndex::place(uint64_t hash, uint32_t value) noexcept {
  assert(value != kNoFlow);
  if (size_ == max_entries_) return false;
  Probe p = probe(hash);
  Bucket* passed[kMaxProbe];
  for (unsigned i = 0; i < kMaxProbe; ++i, next(&p)) {
    Bucket& bucket = buckets_[p.bucket];
    const uint32_t free = match(bucket, 0);
    if (free != 0) {
      const auto slot = static_cast<unsigned>(std::countr_zero(free)) / 2;
      bucket.tags[slot] = tag_of(hash);
      bucket.values[slot] = value;
      for (unsigned j = 0; j < i; ++j) ++passed[j]->overflow;
      ++size_;
      return true;
    }
    if (bucket.overflow >= UINT16_MAX - kMaxProbe) return false;
    passed[i] = &bucket;
  }
  return false;
}

bool FlowIndex::erase(const FlowKey& key, uint32_t value) noexcept {
  const uint64_t hash = hash_(key);
  Probe p = probe(hash);
  Bucket* passed[kMaxProbe];
  for (unsigned i = 0; i < kMaxProbe; ++i, next(&p)) {
    Bucket& bucket = buckets_[p.bucket];
    for (uint32_t mask = match(bucket, tag_of(hash)); mask != 0; mask &= mask - 1) {
      const auto slot = static_cast<unsigned>(std::countr_zero(mask)) / 2;
      if (bucket.values[slot] != value) continue;
      bucket.tags[slot] = 0;
      for (unsigned j = 0; j < i; ++j) --passed[j]->overflow;
      --size_;
      return true;
    }
    if (bucket.overflow == 0) return false;
    passed[i] = &bucket;
  }
  return false;
}

uint64_t FlowIndex::displaced() const noexcept {
  uint64_t steps = 0;
  for (const Bucket& bucket : buckets_) steps += bucket.overflow;
  return steps;
}

}  // namespace postern
