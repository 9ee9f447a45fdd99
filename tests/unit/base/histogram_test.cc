#include "base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

TEST(Histogram, EmptyIsZero) {
  const auto h = std::make_unique<Histogram>();
  EXPECT_EQ(h->count(), 0U);
  EXPECT_EQ(h->quantile(0.5), 0U);
  EXPECT_EQ(h->min(), 0U);
  EXPECT_EQ(h->max(), 0U);
  EXPECT_EQ(h->mean(), 0);
}

TEST(Histogram, BucketsTileTheWholeRange) {
  EXPECT_EQ(Histogram::bucket_of(0), 0U);
  for (size_t i = 0; i + 1 < Histogram::kBuckets; ++i) {
    ASSERT_EQ(Histogram::bucket_of(Histogram::upper_of(i)), i);
    ASSERT_EQ(Histogram::bucket_of(Histogram::upper_of(i) + 1), i + 1);
  }
  EXPECT_EQ(Histogram::upper_of(Histogram::kBuckets - 1), UINT64_MAX);
}

TEST(Histogram, QuantilesWithinRelativeError) {
  const auto h = std::make_unique<Histogram>();
  std::vector<uint64_t> values;
  Random random(1);
  for (int i = 0; i < 100000; ++i) values.push_back(random() >> (random() % 64));
  for (const uint64_t v : values) h->record(v);
  std::sort(values.begin(), values.end());
  for (const double q : {0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
    const uint64_t exact = values[rank == 0 ? 0 : rank - 1];
    EXPECT_GE(h->quantile(q), exact);
    EXPECT_LE(static_cast<double>(h->quantile(q)), static_cast<double>(exact) * (1 + 1.0 / 64));
  }
  EXPECT_EQ(h->max(), values.back());
  EXPECT_EQ(h->min(), values.front());
}

TEST(Histogram, MergeEqualsRecordingBoth) {
  const auto a = std::make_unique<Histogram>();
  const auto b = std::make_unique<Histogram>();
  const auto both = std::make_unique<Histogram>();
  for (uint64_t i = 0; i < 1000; ++i) {
    (i % 3 == 0 ? a : b)->record(i * i);
    both->record(i * i);
  }
  a->merge(*b);
  EXPECT_EQ(a->count(), both->count());
  EXPECT_EQ(a->quantile(0.7), both->quantile(0.7));
  EXPECT_DOUBLE_EQ(a->mean(), both->mean());
}

}  // namespace
}  // namespace postern
