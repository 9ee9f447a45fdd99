#include "dataplane/stages.h"

#include <gtest/gtest.h>

namespace postern {
namespace {

TEST(BurstClass, PowersOfTwoUpToAFullBurst) {
  const std::pair<size_t, size_t> expected[] = {{1, 0},  {2, 1},  {3, 1},  {4, 2},  {31, 4},
                                                {32, 5}, {63, 5}, {64, 6}, {500, 6}};
  for (const auto& [packets, bucket] : expected) EXPECT_EQ(burst_class(packets), bucket) << packets;
}

TEST(StageClock, BooksWhatPassedSinceTheLastMark) {
  StageClock clock;
  Counters counters;
  counters.add(Counter::rx_packets, 1000);
  clock.start(5000, counters);
  clock.book(Stage::receive, 5100);
  clock.book(Stage::input, 5400);
  clock.book(Stage::receive, 5410);  // the second port
  counters.add(Counter::rx_packets, 32);
  counters.add(Counter::tx_packets, 7);
  clock.finish(true, counters);

  const StageFigures& f = clock.figures();
  EXPECT_EQ(f.cycles[static_cast<size_t>(Stage::receive)], 110u);
  EXPECT_EQ(f.cycles[static_cast<size_t>(Stage::input)], 300u);
  EXPECT_EQ(f.busy_turns, 1u);
  EXPECT_EQ(f.packets_in, 32u);
  EXPECT_EQ(f.packets_out, 7u);
  EXPECT_EQ(f.idle_turns, 0u);
}

TEST(StageClock, AnIdleTurnIsBookedByItself) {
  StageClock clock;
  const Counters counters;
  clock.start(0, counters);
  clock.book(Stage::receive, 40);
  clock.book(Stage::events, 100);
  clock.finish(false, counters);
  EXPECT_EQ(clock.figures().idle_turns, 1u);
  EXPECT_EQ(clock.figures().idle_cycles, 100u);
  EXPECT_EQ(clock.figures().cycles[static_cast<size_t>(Stage::receive)], 0u);
}

TEST(StageClock, TurnsThatNoWorkTakesAreCounted) {
  StageClock clock;
  for (const Duration time : {1us, 99us, 100us, 3000us, 200us}) clock.turned(time);
  EXPECT_EQ(clock.figures().long_turns, 3u);
  EXPECT_EQ(clock.figures().long_turn_ns, 3'300'000u);
  EXPECT_EQ(clock.figures().longest_turn_ns, 3'000'000u);
}

TEST(StageClock, LooksAtOneTurnInSixtyFour) {
  StageClock clock;
  const Counters counters;
  constexpr uint64_t kTurns = 200'000;
  for (uint64_t i = 0; i < kTurns; ++i) {
    clock.begin(counters);
    clock.mark(Stage::events);
    clock.end(true, counters);
  }
  const double every =
      static_cast<double>(kTurns) / static_cast<double>(clock.figures().busy_turns);
  EXPECT_NEAR(every, StageClock::kMeanTurns, 3);
}

}  // namespace
}  // namespace postern
