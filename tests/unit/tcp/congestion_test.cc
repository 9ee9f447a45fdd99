// The congestion control algorithms alone.
#include "tcp/congestion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

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
  bool paced = false;

  CongestionView view() {
    return CongestionView{cwnd,   ssthresh, scratch,        kMss, now_us, rtt_us,
                          rtt_us, snd_una,  snd_una + cwnd, cwnd, paced};
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
  EXPECT_EQ(find_congestion("dctcp"), 2U);
  EXPECT_EQ(find_congestion("vegas"), kCongestionCount);
  for (size_t i = 0; i < kCongestionCount; ++i) EXPECT_EQ(kCongestion[i].name, kCongestionNames[i]);
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

// One window of data is acknowledged, `marked` of ten segments with ECE; then the window shrinks if
// any were.
void dctcp_window(Window& w, uint32_t marked) {
  const uint32_t segment = w.cwnd / 10;
  for (uint32_t i = 0; i < 10; ++i) {
    w.snd_una += segment;
    w.algorithm.on_feedback(w.view(), segment, i < marked);
  }
  if (marked != 0) w.cwnd = w.ssthresh = w.algorithm.on_echo(w.view());
}

TEST(Dctcp, StartsAsCarefulAsAnyTcp) {  // RFC 8257 4.2: alpha begins at 1
  Window w = window("dctcp");
  w.cwnd = 100 * kMss;
  dctcp_window(w, 1);
  EXPECT_EQ(w.cwnd, 50U * kMss);
}

TEST(Dctcp, FewMarksShrinkALittle) {  // RFC 8257 3.3
  Window w = window("dctcp");
  w.cwnd = 100 * kMss;
  for (int i = 0; i < 200; ++i) dctcp_window(w, 0);  // alpha falls towards 0
  for (int i = 0; i < 200; ++i) {
    w.cwnd = 100 * kMss;
    dctcp_window(w, 2);
  }
  // The fraction is 2 of 10, so the window falls by a tenth.
  EXPECT_NEAR(w.cwnd, 90U * kMss, kMss);
}

TEST(Dctcp, AllMarkedHalves) {  // RFC 8257 3.3
  Window w = window("dctcp");
  for (int i = 0; i < 50; ++i) {
    w.cwnd = 100 * kMss;
    dctcp_window(w, 10);
  }
  EXPECT_NEAR(w.cwnd, 50U * kMss, 10);
}

TEST(Dctcp, LossHalves) {  // RFC 8257 3.5
  Window w = window("dctcp");
  w.cwnd = 100 * kMss;
  for (int i = 0; i < 200; ++i) dctcp_window(w, 0);
  w.congest();
  EXPECT_EQ(w.cwnd, 50U * kMss);
}

TEST(Dctcp, GrowsAsReno) {  // RFC 8257 3.3: growth is not changed
  Window w = window("dctcp");
  w.round();
  EXPECT_EQ(w.cwnd, 20U * kMss);
  w.ssthresh = w.cwnd;
  w.round();
  EXPECT_EQ(w.cwnd, 21U * kMss);
}

TEST(Dctcp, WhatSlowStartLeavesCountsForAvoidance) {  // RFC 5681 3.1, RFC 3465
  Window w = window("dctcp");
  w.ssthresh = w.cwnd + 1000;
  w.ack(3000);
  EXPECT_EQ(w.cwnd, 11U * kMss);
  w.ack(8999);
  EXPECT_EQ(w.cwnd, 11U * kMss);
  w.ack(1);
  EXPECT_EQ(w.cwnd, 12U * kMss) << "2000 had counted already";
}

// RFC 9406, with each algorithm that has a slow start of the standard kind.
class HyStartTest : public testing::TestWithParam<const char*> {};

TEST_P(HyStartTest, LeavesSlowStartWhenTheRoundTripGrows) {  // RFC 9406 4.2
  Window w = window(GetParam());
  for (int i = 0; i < 3; ++i) w.round();
  EXPECT_EQ(w.cwnd, 80U * kMss);
  w.rtt_us = 130'000;  // more than last + max(4 ms, min(rtt / 8, 16 ms))
  int rounds = 0;
  for (; rounds < 12 && w.ssthresh == UINT32_MAX; ++rounds) w.round();
  EXPECT_EQ(rounds, 6) << "CSS_ROUNDS rounds, the first one partial";
  EXPECT_LT(w.cwnd, 80U * 4 * kMss) << "growth is slowed to a quarter: 1.25^5";
}

TEST_P(HyStartTest, LeavesAtTheThreshold) {  // RFC 9406 4.2: currentRoundMinRTT >= last + thresh
  for (const uint32_t rtt : {112'499U, 112'500U}) {  // 100 ms / 8
    Window w = window(GetParam());
    for (int i = 0; i < 3; ++i) w.round();
    w.rtt_us = rtt;
    for (int i = 0; i < 2; ++i) w.round();
    EXPECT_EQ(w.cwnd < 320U * kMss, rtt == 112'500) << rtt;
  }
}

TEST_P(HyStartTest, IgnoresJitter) {  // RFC 9406 4.2: RttThresh
  Window w = window(GetParam());
  for (int i = 0; i < 5; ++i) {
    w.rtt_us = 100'000 + static_cast<uint32_t>(i % 2) * 3000;
    w.round();
  }
  EXPECT_EQ(w.cwnd, 320U * kMss);
}

TEST_P(HyStartTest, ResumesWhenTheRoundTripFallsAgain) {  // RFC 9406 4.2: below the CSS baseline
  Window w = window(GetParam());
  for (int i = 0; i < 3; ++i) w.round();
  w.rtt_us = 130'000;
  for (int i = 0; i < 2; ++i) w.round();
  const uint32_t careful = w.cwnd;
  EXPECT_LT(careful, 160U * kMss);
  w.rtt_us = 100'000;
  for (int i = 0; i < 10; ++i) w.round();
  EXPECT_EQ(w.ssthresh, UINT32_MAX);
  EXPECT_GT(w.cwnd, careful * 500U);
}

TEST_P(HyStartTest, OnlyInTheInitialSlowStart) {  // RFC 9406 4.3
  Window w = window(GetParam());
  w.ssthresh = 500 * kMss;
  for (int i = 0; i < 3; ++i) w.round();
  w.rtt_us = 130'000;
  w.round();
  w.round();
  EXPECT_EQ(w.cwnd, 320U * kMss);
}

TEST_P(HyStartTest, OneAckCountsForEightSegments) {  // RFC 9406 4.3: L
  Window w = window(GetParam());
  w.cwnd = 100 * kMss;
  w.ack(50 * kMss);
  EXPECT_EQ(w.cwnd, 108U * kMss);
  w.paced = true;
  w.ack(50 * kMss);
  EXPECT_EQ(w.cwnd, 158U * kMss) << "no limit with pacing";
}

TEST_P(HyStartTest, StopsAtSsthresh) {  // RFC 5681 3.1
  Window w = window(GetParam());
  w.ssthresh = 12 * kMss;
  w.ack(5 * kMss);
  EXPECT_GE(w.cwnd, 12U * kMss);
  EXPECT_LT(w.cwnd, 13U * kMss) << "the rest counts in congestion avoidance";
}

INSTANTIATE_TEST_SUITE_P(Algorithms, HyStartTest, testing::Values("cubic", "newreno"),
                         [](const auto& param) { return std::string(param.param); });

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
