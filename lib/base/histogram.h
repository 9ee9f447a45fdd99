// Log-linear histogram, as HdrHistogram arranges it: any 64-bit value, relative error below 1/64,
// 30 KiB, counting is an increment.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace postern {

// Not thread-safe: one writer. Values are the user's unit, by custom nanoseconds.
class Histogram {
 public:
  static constexpr unsigned kSubBits = 6;  // 64 buckets for each power of two

  void record(uint64_t value, uint64_t count = 1) noexcept {
    buckets_[bucket_of(value)] += count;
    count_ += count;
    sum_ += static_cast<double>(value) * static_cast<double>(count);
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
  }
  void merge(const Histogram& other) noexcept {
    for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
  }
  void reset() noexcept { *this = Histogram(); }

  [[nodiscard]] uint64_t count() const noexcept { return count_; }
  [[nodiscard]] uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  [[nodiscard]] uint64_t max() const noexcept { return max_; }
  [[nodiscard]] double mean() const noexcept {
    return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
  }
  // Smallest recorded bucket's upper end that at least `fraction` (0..1) of the values do not
  // exceed; never beyond max(). 0 if nothing was recorded.
  [[nodiscard]] uint64_t quantile(double fraction) const noexcept {
    if (count_ == 0) return 0;
    const double exact = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(count_);
    uint64_t left = static_cast<uint64_t>(exact);
    if (static_cast<double>(left) < exact || left == 0) ++left;
    for (size_t i = 0; i < kBuckets; ++i) {
      if (buckets_[i] >= left) return std::min(upper_of(i), max_);
      left -= buckets_[i];
    }
    return max_;
  }

  // For exporters: the buckets in order of value.
  static constexpr size_t kBuckets = (64 - kSubBits + 1) << kSubBits;
  [[nodiscard]] uint64_t bucket(size_t i) const noexcept { return buckets_[i]; }
  [[nodiscard]] static constexpr size_t bucket_of(uint64_t value) noexcept {
    if (value < (1U << kSubBits)) return value;
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - 1 - kSubBits;
    return (size_t{shift} << kSubBits) + (value >> shift);
  }
  // Largest value of a bucket.
  [[nodiscard]] static constexpr uint64_t upper_of(size_t i) noexcept {
    if (i < (1U << kSubBits)) return i;
    const unsigned shift = static_cast<unsigned>(i >> kSubBits) - 1;
    const uint64_t lower = ((i & ((1U << kSubBits) - 1)) | (1U << kSubBits)) << shift;
    return lower + ((uint64_t{1} << shift) - 1);
  }

 private:
  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  double sum_ = 0;
  uint64_t min_ = UINT64_MAX;
  uint64_t max_ = 0;
};

}  // namespace postern
