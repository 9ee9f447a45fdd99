#include "dataplane/impairment.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <map>

#include "../dpdk/eal_environment.h"
#include "dpdk/compat.h"
#include "dpdk/pool.h"
#include "frames.h"

namespace postern {
namespace {

constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}}, kTheirs{{2, 0, 0, 0, 0, 2}};
constexpr uint32_t kPackets = 20000;

class ImpairmentTest : public testing::Test {
 protected:
  ImpairmentTest() : pool_((test::eal(), "impair"), 1023, 2048, -1) {}

  rte_mbuf* numbered(uint32_t number, unsigned type = 0x0800) {
    test::Frame f = type == 0x0800 ? test::ipv4(kOurs, kTheirs, 1, 2, 17, test::Frame(40))
                                   : test::arp(1, kOurs, kTheirs, 1, {}, 2);
    rte_mbuf* m = rte_pktmbuf_alloc(pool_.get());
    std::memcpy(rte_pktmbuf_append(m, static_cast<uint16_t>(f.size())), f.data(), f.size());
    m->hash.usr = number;
    return m;
  }

  // Sends kPackets in bursts of 16; the numbers that came out, in order.
  std::vector<uint32_t> run(ImpairmentOptions options) {
    Impairment stage(options, 1, pool_.get());
    std::vector<uint32_t> out;
    Time now{};
    rte_mbuf* in[16];
    rte_mbuf* got[2 * 16 + Impairment::kHeld];
    for (uint32_t i = 0; i < kPackets; i += 16) {
      for (uint32_t k = 0; k < 16; ++k) in[k] = numbered(i + k);
      take(out, got, stage.apply(in, got, now += 10us, counters_));
    }
    take(out, got, stage.apply({}, got, now + Impairment::kLongestHold, counters_));
    EXPECT_EQ(stage.next_deadline(), kNever);
    EXPECT_EQ(pool_.in_use(), 0U);
    return out;
  }
  static void take(std::vector<uint32_t>& out, rte_mbuf** got, size_t n) {
    for (size_t i = 0; i < n; ++i) out.push_back(got[i]->hash.usr);
    rte_pktmbuf_free_bulk(got, static_cast<unsigned>(n));
  }
  static void expect_share(double count, double probability) {
    const double sigma = std::sqrt(kPackets * probability * (1 - probability));
    EXPECT_NEAR(count, kPackets * probability, 5 * sigma);
  }

  PacketPool pool_;
  Counters counters_;
};

TEST_F(ImpairmentTest, NothingHappensAtProbabilityZero) {
  const auto out = run({.seed = 1});
  ASSERT_EQ(out.size(), kPackets);
  EXPECT_TRUE(std::is_sorted(out.begin(), out.end()));
  EXPECT_EQ(counters_.get(Drop::impaired), 0U);
}

TEST_F(ImpairmentTest, LosesItsShareAndCountsIt) {
  const auto out = run({.seed = 2, .loss = 0.05});
  EXPECT_EQ(out.size() + counters_.get(Drop::impaired), kPackets);
  expect_share(static_cast<double>(counters_.get(Drop::impaired)), 0.05);
}

TEST_F(ImpairmentTest, DoublesItsShare) {
  const auto out = run({.seed = 3, .duplicate = 0.1});
  std::map<uint32_t, int> copies;
  for (uint32_t n : out) ++copies[n];
  EXPECT_EQ(copies.size(), kPackets);
  expect_share(static_cast<double>(out.size() - kPackets), 0.1);
}

TEST_F(ImpairmentTest, ReordersWithinBoundsAndLosesNothing) {
  auto out = run({.seed = 4, .reorder = 0.02});
  unsigned late = 0;
  uint32_t highest = 0;
  for (uint32_t n : out) {
    highest = std::max(highest, n);
    if (n < highest) {
      ++late;
      EXPECT_LE(highest - n, 8U + Impairment::kHeld);
    }
  }
  expect_share(late, 0.02);
  std::sort(out.begin(), out.end());
  ASSERT_EQ(out.size(), kPackets);
  for (uint32_t i = 0; i < kPackets; ++i) ASSERT_EQ(out[i], i);
}

TEST_F(ImpairmentTest, SameSeedSameFate) {
  const ImpairmentOptions options{
      .seed = 5, .loss = 0.1, .duplicate = 0.1, .reorder = 0.1, .corrupt = 0.1};
  const auto first = run(options);
  EXPECT_EQ(run(options), first);
  ImpairmentOptions other = options;
  other.seed = 6;
  EXPECT_NE(run(other), first);
}

TEST_F(ImpairmentTest, CorruptsOneBitThatAChecksumCanSee) {
  Impairment stage({.seed = 7, .corrupt = 1.0}, 1, pool_.get());
  const test::Frame clean = test::ipv4(kOurs, kTheirs, 1, 2, 17, test::Frame(40));
  for (int i = 0; i < 500; ++i) {
    rte_mbuf* in = numbered(0);
    in->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    rte_mbuf* out[2 + Impairment::kHeld];
    ASSERT_EQ(stage.apply({&in, 1}, out, Time{}, counters_), 1U);
    const auto* data = rte_pktmbuf_mtod(out[0], const uint8_t*);
    int flipped = 0;
    for (size_t b = 0; b < clean.size(); ++b) {
      const int bits =
          std::popcount(static_cast<unsigned>(data[b] ^ static_cast<uint8_t>(clean[b])));
      EXPECT_TRUE(bits == 0 || b >= 14) << b;
      flipped += bits;
    }
    EXPECT_EQ(flipped, 1);
    EXPECT_EQ(out[0]->ol_flags, 0U);  // the device's word no longer holds
    rte_pktmbuf_free(out[0]);
  }
}

TEST_F(ImpairmentTest, LeavesArpAlone) {
  Impairment stage({.seed = 8, .corrupt = 1.0}, 1, pool_.get());
  const test::Frame clean = test::arp(1, kOurs, kTheirs, 1, {}, 2);
  rte_mbuf* in = numbered(0, 0x0806);
  rte_mbuf* out[2 + Impairment::kHeld];
  ASSERT_EQ(stage.apply({&in, 1}, out, Time{}, counters_), 1U);
  EXPECT_EQ(std::memcmp(rte_pktmbuf_mtod(out[0], void*), clean.data(), clean.size()), 0);
  rte_pktmbuf_free(out[0]);
}

TEST_F(ImpairmentTest, HeldPacketsGoBackToTheirPool) {
  {
    Impairment stage({.seed = 9, .reorder = 1.0}, 1, pool_.get());
    rte_mbuf* in[3] = {numbered(0), numbered(1), numbered(2)};
    rte_mbuf* out[6 + Impairment::kHeld];
    const size_t n = stage.apply(in, out, Time{}, counters_);
    rte_pktmbuf_free_bulk(out, static_cast<unsigned>(n));
    EXPECT_EQ(stage.next_deadline(), Time{} + Impairment::kLongestHold);
  }
  EXPECT_EQ(pool_.in_use(), 0U);
}

}  // namespace
}  // namespace postern
