// The congestion control algorithms alone.
#include "tcp/congestion.h"

#include <gtest/gtest.h>

#include <cmath>

namespace postern {
namespace {

constexpr uint16_t kMss = 1000;

struct Window {
  const CongestionControl& algorithm;
  uint32_t cwnd = 10 * kMss;
  uint32_t ssthresh = UINT32_MAX;
  CongestionScratch scratch{};
  uint32_t now_us = 1'000'000;
  uint32_t rtt_us = 100'000;
  uint32_t snd_una = 1;

  CongestionView view() {
    return CongestionView{cwnd,   ssthresh, scratch, kMss,           now_us,
                          rtt_us, rtt_us,   snd_una, snd_una + cwnd, cwnd};
  }
  void ack(uint32_t bytes) {
    snd_una += bytes;
    algorithm.on_ack(view(), bytes, rtt_us);
  }
  // One round trip in which all of cwnd is acknowledged, a segment at a time.
  void round() {
    const uint32_t segments = cwnd / kMss;
    for (uint32_t i = 0; i < segments; ++i) {
      now_us += rtt_us / segments;
      ack(kMss);
    }
  }
  void congest() {
    ssthresh = algorithm.on_congestion(view());
    cwnd = ssthresh;
  }
};

Window window(const char* name) { return Window{kCongestion.at(find_congestion(name))}; }

TEST(Congestion, Table) {
  EXPECT_EQ(kCongestion[0].name, "cubic") << "the default";
  EXPECT_EQ(find_congestion("newreno"), 1U);
  EXPECT_EQ(find_congestion("vegas"), kCongestionCount);
}

TEST(Congestion, InitialWindow) {  // RFC 6928 2
  EXPECT_EQ(initial_window(1460, 10), 14600U);
  EXPECT_EQ(initial_window(536, 10), 5360U);
  EXPECT_EQ(initial_window(8960, 10), 17920U);
}

TEST(NewReno, SlowStartDoublesARound) {  // RFC 5681 3.1
  Window w = window("newreno");
  w.round();
  EXPECT_EQ(w.cwnd, 20U * kMss);
}

TEST(NewReno, CongestionAvoidanceAddsOneSegmentARound) {  // RFC 5681 3.1, RFC 3465 2.1
  Window w = window("newreno");
  w.ssthresh = w.cwnd;
  for (uint32_t i = 1; i <= 20; ++i) {
    w.round();
    EXPECT_EQ(w.cwnd, (10 + i) * kMss);
  }
}

TEST(NewReno, SlowStartStopsAtSsthresh) {
  Window w = window("newreno");
  w.ssthresh = 12 * kMss;
  w.ack(5 * kMss);
  EXPECT_EQ(w.cwnd, 12U * kMss);
}

TEST(NewReno, HalvesTheFlight) {  // RFC 5681 (4)
  Window w = window("newreno");
  w.congest();
  EXPECT_EQ(w.cwnd, 5U * kMss);
  w.cwnd = 3 * kMss;
  w.congest();
  EXPECT_EQ(w.cwnd, 2U * kMss) << "two segments at least";
}

TEST(NewReno, DividedAcksGainNothing) {  // RFC 3465
  Window whole = window("newreno");
  Window divided = window("newreno");
  whole.ssthresh = divided.ssthresh = 1;
  for (int i = 0; i < 100; ++i) whole.ack(kMss);
  for (int i = 0; i < 1000; ++i) divided.ack(kMss / 10);
  EXPECT_NEAR(whole.cwnd, divided.cwnd, kMss);
}

TEST(Cubic, ReducesByBeta) {  // RFC 9438 4.6
  Window w = window("cubic");
  w.cwnd = 100 * kMss;
  w.congest();
  EXPECT_EQ(w.cwnd, 70U * kMss);
}

// RFC 9438 4.2: W(t) = C (t - K)^3 + W_max.
TEST(Cubic, FollowsTheCurve) {
  Window w = window("cubic");
  w.rtt_us = 10'000;
  w.cwnd = 2000 * kMss;
  w.congest();
  const double w_max = 2000;
  const double k = std::cbrt(w_max * 0.3 / 0.4);
  const uint32_t start = w.now_us;
  for (int i = 0; i < 1500; ++i) {
    w.round();
    const double t = (w.now_us - start) * 1e-6;
    const double expected = 0.4 * std::pow(t - k, 3) + w_max;
    ASSERT_NEAR(w.cwnd / double{kMss}, expected, expected * 0.02) << "at " << t << " s";
  }
}

// RFC 9438 4.3: in short, slow networks CUBIC is no slower than Reno.
TEST(Cubic, RenoFriendly) {
  Window w = window("cubic");
  w.rtt_us = 10'000;
  w.cwnd = 20 * kMss;
  w.congest();
  const uint32_t begin = w.cwnd;
  for (int i = 0; i < 20; ++i) w.round();
  EXPECT_GE(w.cwnd, begin + 20 * kMss * 9 / 17 - kMss);
  EXPECT_LE(w.cwnd, begin + 21 * kMss);
}

TEST(Cubic, FastConvergence) {  // RFC 9438 4.7: a second loss below W_max lowers it further
  Window w = window("cubic");
  w.rtt_us = 10'000;
  w.cwnd = 1000 * kMss;
  w.congest();
  w.congest();
  const uint32_t low = w.cwnd;              // 490; W_max is 0.85 * 700 = 595
  for (int i = 0; i < 640; ++i) w.round();  // K = cbrt(105 / 0.4) = 6.4 s
  EXPECT_NEAR(w.cwnd / double{kMss}, 595, 12);
  EXPECT_EQ(low, 490U * kMss);
}

TEST(Cubic, HystartLeavesSlowStartWhenTheRoundTripGrows) {  // RFC 9406 4.2
  Window w = window("cubic");
  for (int i = 0; i < 3; ++i) w.round();
  EXPECT_EQ(w.cwnd, 80U * kMss);
  w.rtt_us = 130'000;  // more than last + max(4 ms, min(rtt / 8, 16 ms))
  for (int i = 0; i < 12 && w.ssthresh == UINT32_MAX; ++i) w.round();
  EXPECT_NE(w.ssthresh, UINT32_MAX);
  EXPECT_LT(w.cwnd, 80U * 8 * kMss) << "growth was slowed for five rounds";
}

TEST(Cubic, HystartIgnoresJitter) {
  Window w = window("cubic");
  for (int i = 0; i < 5; ++i) {
    w.rtt_us = 100'000 + static_cast<uint32_t>(i % 2) * 3000;
    w.round();
  }
  EXPECT_EQ(w.cwnd, 320U * kMss);
}

TEST(Cubic, IdleTimeDoesNotCount) {  // RFC 9438 4.8
  Window w = window("cubic");
  w.rtt_us = 10'000;
  w.cwnd = 1000 * kMss;
  w.congest();
  w.round();
  const uint32_t before = w.cwnd;
  w.now_us += 60'000'000;
  w.algorithm.on_restart(w.view(), 60'000'000);
  w.round();
  EXPECT_LT(w.cwnd, before + 20 * kMss);
}

}  // namespace
}  // namespace postern
