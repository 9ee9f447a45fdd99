// FlowTable: who gets this packet. Flows of one worker by their addresses, one cache line of table
// a lookup, whole bursts at a time.
//
// A bucket is one cache line: ten 16-bit tags, ten 32-bit values, and how many entries went past it
// because it was full. An entry lives in the first bucket of its probe sequence that had room when
// it came. A lookup leaves a bucket only if something went past it and is still there, so there are
// no tombstones; under endless churn at full load one entry in ten lives past its first bucket.
// Keys are elsewhere (in the connection, or in an array of the table's): a tag match names a
// candidate, the full key decides.
//
// The hash is keyed (base/hash.h), so that nobody can aim at a bucket, and a probe sequence has at
// most kMaxProbe buckets, so that nothing depends on that.
#pragma once

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/address.h"
#include "base/equal_words.h"
#include "base/hash.h"
#include "base/region.h"

namespace postern {

struct FlowAddresses {
  IpAddress remote;
  IpAddress local;
};
struct FlowPorts {
  uint16_t remote_port = 0;  // host order
  uint16_t local_port = 0;
  uint32_t protocol = 0;  // IP protocol number
};

// A flow as the local host sees it. Every byte counts in hash and comparison.
struct FlowKey : FlowAddresses, FlowPorts {
  FlowKey() = default;
  FlowKey(const Endpoint& remote_end, const Endpoint& local_end, uint8_t ip_protocol)
      : FlowKey(remote_end.address, remote_end.port, local_end.address, local_end.port,
                ip_protocol) {}
  // The ports are stored as the word they are read as by hash and comparison: a key is made for
  // every packet, and a load that spans smaller stores waits until they have left the store buffer.
  FlowKey(const IpAddress& remote_address, uint16_t remote_port_, const IpAddress& local_address,
          uint16_t local_port_, uint8_t ip_protocol)
      : FlowAddresses{remote_address, local_address},
        FlowPorts(std::bit_cast<FlowPorts>(uint64_t{remote_port_} | uint64_t{local_port_} << 16 |
                                           uint64_t{ip_protocol} << 32)) {
    static_assert(std::endian::native == std::endian::little);
  }
  friend bool operator==(const FlowKey& a, const FlowKey& b) noexcept { return equal_words(a, b); }
};
static_assert(sizeof(FlowKey) == 40 && std::has_unique_object_representations_v<FlowKey>);

inline constexpr uint32_t kNoFlow = UINT32_MAX;  // never a value

// The table proper, for keys that are kept with the objects that the values name. KeyOf arguments
// are callables `const FlowKey& (uint32_t value) noexcept` that give the key of a value in the
// table. Not thread-safe: one owner. After construction nothing allocates.
class FlowIndex {
 public:
  static constexpr unsigned kSlots = 10;
  static constexpr unsigned kMaxProbe = 16;
  static constexpr size_t kBurst = 32;  // lookups in flight at a time

  // Room for max_entries flows (at least 1) at a load of 2/3: 9.6 bytes a flow. Throws
  // std::bad_alloc.
  FlowIndex(uint32_t max_entries, const HashSecret& secret, bool prefault = false);

  // The value of a key or kNoFlow.
  template <class KeyOf>
  [[nodiscard]] uint32_t find(const FlowKey& key, KeyOf&& key_of) const noexcept {
    return find_from(hash_(key), 0, key, key_of);
  }

  // find() for n keys into out[0..n). Misses in the cache overlap: hashes all, prefetches all
  // buckets, matches all tags, prefetches all candidates' keys, compares all.
  template <class KeyOf>
  void find_burst(const FlowKey* keys, size_t n, uint32_t* out, KeyOf&& key_of) const noexcept;

  // False: the key is present, or the table is full (max_entries, or no room within kMaxProbe
  // buckets: below 1 in 10^9 at full load). value != kNoFlow.
  template <class KeyOf>
  [[nodiscard]] bool insert(const FlowKey& key, uint32_t value, KeyOf&& key_of) noexcept {
    const uint64_t hash = hash_(key);
    return find_from(hash, 0, key, key_of) == kNoFlow && place(hash, value);
  }

  // Removes the entry (key, value). False: there is none. Does not look at stored keys.
  bool erase(const FlowKey& key, uint32_t value) noexcept;

  [[nodiscard]] uint32_t size() const noexcept { return size_; }
  [[nodiscard]] uint32_t capacity() const noexcept { return max_entries_; }
  [[nodiscard]] size_t memory() const noexcept { return buckets_.size() * sizeof(Bucket); }
  // Buckets that find() of this key looks at, 1 to kMaxProbe. For tests and reports.
  template <class KeyOf>
  [[nodiscard]] unsigned probes(const FlowKey& key, KeyOf&& key_of) const noexcept {
    const uint64_t hash = hash_(key);
    Probe p = probe(hash);
    for (unsigned n = 1;; ++n, next(&p)) {
      const Bucket& bucket = buckets_[p.bucket];
      const bool here = compare(bucket, match(bucket, tag_of(hash)), key, key_of) != kNoFlow;
      if (here || bucket.overflow == 0 || n == kMaxProbe) return n;
    }
  }
  // Buckets that all lookups of present keys visit beyond the first. Walks the table; for tests and
  // reports.
  [[nodiscard]] uint64_t displaced() const noexcept;

 private:
  struct alignas(64) Bucket {
    uint16_t tags[kSlots];  // 0: free
    uint16_t overflow;      // entries that were placed in a later bucket of their sequence
    uint16_t reserved;
    uint32_t values[kSlots];
  };
  static_assert(sizeof(Bucket) == 64 && offsetof(Bucket, overflow) == 20);

  // The buckets where a hash may live, in order.
  struct Probe {
    uint32_t bucket;
    uint32_t stride;
  };
  static uint32_t scale(uint32_t x, uint32_t range) noexcept {
    return static_cast<uint32_t>(uint64_t{x} * range >> 32);
  }
  [[nodiscard]] uint32_t first_bucket(uint64_t hash) const noexcept {
    return scale(static_cast<uint32_t>(hash >> 32), bucket_count_);
  }
  [[nodiscard]] Probe probe(uint64_t hash) const noexcept {
    // Double hashing; in a small table neighbours, so that all of it is reached.
    const uint32_t stride = bucket_count_ <= kMaxProbe
                                ? 1
                                : 1 + scale(static_cast<uint32_t>(hash >> 16), bucket_count_ - 1);
    return {first_bucket(hash), stride};
  }
  void next(Probe* p) const noexcept {
    const uint64_t sum = uint64_t{p->bucket} + p->stride;
    p->bucket = static_cast<uint32_t>(sum >= bucket_count_ ? sum - bucket_count_ : sum);
  }
  void prefetch_second(uint64_t hash) const noexcept {
    Probe p = probe(hash);
    next(&p);
    __builtin_prefetch(&buckets_[p.bucket]);
  }
  static uint16_t tag_of(uint64_t hash) noexcept {
    const auto tag = static_cast<uint16_t>(hash);
    return tag != 0 ? tag : 1;
  }

  // Two equal bits for each slot that holds the tag; slot = countr_zero(match) / 2.
  static uint32_t match(const Bucket& bucket, uint16_t tag) noexcept {
#ifdef __AVX2__
    const __m256i line = _mm256_load_si256(reinterpret_cast<const __m256i*>(&bucket));
    const __m256i same = _mm256_cmpeq_epi16(line, _mm256_set1_epi16(static_cast<short>(tag)));
    return static_cast<uint32_t>(_mm256_movemask_epi8(same)) & ((1U << (2 * kSlots)) - 1);
#else
    uint32_t mask = 0;
    for (unsigned i = 0; i < kSlots; ++i) mask |= bucket.tags[i] == tag ? 3U << (2 * i) : 0;
    return mask;
#endif
  }

  template <class KeyOf>
  static uint32_t compare(const Bucket& bucket, uint32_t mask, const FlowKey& key,
                          KeyOf& key_of) noexcept {
    for (; mask != 0; mask &= mask - 1, mask &= mask - 1) {
      const uint32_t value = bucket.values[std::countr_zero(mask) / 2];
      if (key_of(value) == key) return value;
    }
    return kNoFlow;
  }

  // Looks from the `skip`th bucket of the sequence on.
  template <class KeyOf>
  [[nodiscard]] uint32_t find_from(uint64_t hash, unsigned skip, const FlowKey& key,
                                   KeyOf& key_of) const noexcept {
    Probe p = probe(hash);
    for (unsigned i = 0; i < kMaxProbe; ++i, next(&p)) {
      const Bucket& bucket = buckets_[p.bucket];
      if (i >= skip) {
        const uint32_t value = compare(bucket, match(bucket, tag_of(hash)), key, key_of);
        if (value != kNoFlow) return value;
      }
      if (bucket.overflow == 0) break;
    }
    return kNoFlow;
  }

  template <class KeyOf>
  void find_some(const FlowKey* keys, size_t n, uint32_t* out, KeyOf& key_of) const noexcept;
  [[nodiscard]] bool place(uint64_t hash, uint32_t value) noexcept;

  KeyedHash hash_;
  RegionArray<Bucket> buckets_;
  uint32_t bucket_count_;
  uint32_t max_entries_;
  uint32_t size_ = 0;
};

template <class KeyOf>
void FlowIndex::find_burst(const FlowKey* keys, size_t n, uint32_t* out,
                           KeyOf&& key_of) const noexcept {
  for (; n > kBurst; n -= kBurst, keys += kBurst, out += kBurst) {
    find_some(keys, kBurst, out, key_of);
  }
  find_some(keys, n, out, key_of);
}

template <class KeyOf>
void FlowIndex::find_some(const FlowKey* keys, size_t n, uint32_t* out,
                          KeyOf& key_of) const noexcept {
  uint64_t hash[kBurst];
  const Bucket* home[kBurst];
  uint32_t mask[kBurst];
  for (size_t i = 0; i < n; ++i) {
    hash[i] = hash_(keys[i]);
    home[i] = &buckets_[first_bucket(hash[i])];
    __builtin_prefetch(home[i]);
  }
  for (size_t i = 0; i < n; ++i) {
    mask[i] = match(*home[i], tag_of(hash[i]));
    if (mask[i] != 0) {
      __builtin_prefetch(&key_of(home[i]->values[std::countr_zero(mask[i]) / 2]));
    } else if (home[i]->overflow != 0) {
      prefetch_second(hash[i]);
    }
  }
  for (size_t i = 0; i < n; ++i) {
    out[i] = compare(*home[i], mask[i], keys[i], key_of);
    if (out[i] == kNoFlow && home[i]->overflow != 0) {
      out[i] = find_from(hash[i], 1, keys[i], key_of);
    }
  }
}

// FlowIndex with the keys in an array of its own, by value: one more cache line a lookup, which a
// user who keeps FlowKey in its connection saves. Values are below max_entries, each at most once.
class FlowTable {
  struct alignas(64) Line {
    FlowKey key;
  };
  struct KeyOf {
    const Line* lines;
    const FlowKey& operator()(uint32_t value) const noexcept { return lines[value].key; }
  };

 public:
  explicit FlowTable(uint32_t max_entries, const HashSecret& secret, bool prefault = false)
      : index_(max_entries, secret, prefault), keys_(max_entries, prefault) {}

  [[nodiscard]] uint32_t find(const FlowKey& key) const noexcept {
    return index_.find(key, KeyOf{keys_.data()});
  }
  void find_burst(const FlowKey* keys, size_t n, uint32_t* out) const noexcept {
    index_.find_burst(keys, n, out, KeyOf{keys_.data()});
  }
  // False: the key is present or the table is full.
  [[nodiscard]] bool insert(const FlowKey& key, uint32_t value) noexcept {
    assert(value < keys_.size());
    if (!index_.insert(key, value, KeyOf{keys_.data()})) return false;
    keys_[value].key = key;
    return true;
  }
  // False: no such flow.
  bool erase(const FlowKey& key) noexcept {
    const uint32_t value = find(key);
    return value != kNoFlow && index_.erase(key, value);
  }
  // The key under which a value is in the table.
  [[nodiscard]] const FlowKey& key_of_value(uint32_t value) const noexcept {
    return keys_[value].key;
  }
  [[nodiscard]] uint32_t size() const noexcept { return index_.size(); }
  [[nodiscard]] uint32_t capacity() const noexcept { return index_.capacity(); }
  [[nodiscard]] size_t memory() const noexcept {
    return index_.memory() + keys_.size() * sizeof(Line);
  }

 private:
  FlowIndex index_;
  RegionArray<Line> keys_;
};

}  // namespace postern
