#include "flow/flow_table.h"

namespace postern {

FlowIndex::FlowIndex(uint32_t max_entries, const HashSecret& secret, bool prefault)
    : hash_(secret),
      // A load of 3/4: ceil(max / 7.5) buckets.
      buckets_((uint64_t{max_entries} * 4 + 3 * kSlots - 1) / (3 * kSlots), prefault),
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
  uint64_t entries = 0;
  uint64_t past_first = 0;
  for (const Bucket& bucket : buckets_) {
    for (const uint16_t tag : bucket.tags) entries += tag != 0 ? 1 : 0;
    past_first += bucket.overflow;
  }
  // An entry k buckets down its sequence counts k times: an upper bound that is close, since
  // second steps are rare.
  return past_first < entries ? past_first : entries;
}

}  // namespace postern
