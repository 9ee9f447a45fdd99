// The shrinker, on engines that are set to give up too early: a failure with a known smallest form.
#include "shrink.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "script/player.h"

namespace postern::sim {
namespace {

constexpr uint8_t kRetries = 2;

// Readers that keep reading, so that it is retransmissions that go unanswered, not window probes.
Options impatient(uint64_t seed) {
  Options o = random_options(seed);
  for (TcpConfig& c : o.config) c.retries = kRetries;
  for (AppOptions& app : o.app) {
    app.bytes = std::min(app.bytes, 20'000U);
    app.stall_for = {};
    app.read_rate = 0;
  }
  return o;
}

// The first seed from `from` on that loses connections to it.
uint64_t failing_seed(uint64_t from) {
  for (uint64_t seed = from; seed < from + 2000; ++seed) {
    if (attempt(seed, impatient(seed)).failure.find("error 110") != std::string::npos) return seed;
  }
  return 0;
}

size_t fates(const Options& o) { return o.fates->of[0].size() + o.fates->of[1].size(); }

// What the script runner says of a script; empty: it plays to its end.
std::string play(const std::string& text) {
  std::string error;
  const auto script = script::parse("shrunk", text, error);
  if (!script.has_value()) return error;
  return script::Player(*script).run();
}

TEST(Shrink, AnImpatientEngineNeedsItsRetransmissionsLostAndNothingElse) {
  const uint64_t seed = failing_seed(1);
  ASSERT_NE(seed, 0U);
  const Runner run = [seed](const Options& o) { return attempt(seed, o); };
  const Shrunk s = shrink(impatient(seed), run);
  EXPECT_NE(s.failure.find("error 110"), std::string::npos) << s.failure;
  EXPECT_TRUE(s.options.scripted);
  // The segment and each of its retransmissions, whoever they are of; at most a probe more.
  EXPECT_GE(fates(s.options), kRetries + 1U) << describe(s.options);
  EXPECT_LE(fates(s.options), kRetries + 3U) << describe(s.options);
  EXPECT_NE(describe(s.options).find("retries 2"), std::string::npos) << describe(s.options);
  // Nothing is superfluous.
  for (int side = 0; side < 2; ++side) {
    for (const auto& [number, fate] : s.options.fates->of[side]) {
      Options less = s.options;
      less.fates->of[side].erase(number);
      EXPECT_EQ(run(less).failure, "") << "without packet " << number << " of side " << side;
    }
  }
}

TEST(Shrink, TheScriptsPlayTheSame) {
  const uint64_t seed = failing_seed(1);
  ASSERT_NE(seed, 0U);
  const Runner run = [seed](const Options& o) { return attempt(seed, o); };
  const Shrunk s = shrink(impatient(seed), run);
  const Attempt last = attempt(seed, s.options, true);
  EXPECT_EQ(last.failure, s.failure);
  int given_up = 0;
  for (const std::string& script : last.script) {
    EXPECT_EQ(play(script), "") << script;
    // The side that gave up says so where the script ends.
    given_up +=
        play(script + "+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [ETIMEDOUT], [4]) = 0\n") == "" ? 1
                                                                                              : 0;
  }
  EXPECT_EQ(given_up, 1);
}

// Whole runs, none of them shrunk: what the recorder writes is what the engines saw.
TEST(Shrink, ScriptsOfAnySeedPlayTheSame) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Options o = random_options(seed);
    for (AppOptions& app : o.app) app.bytes = std::min(app.bytes, 20000U);
    o.scripted = true;
    const Attempt a = attempt(seed, o, true);
    EXPECT_EQ(a.failure, "") << seed;
    for (int side = 0; side < 2; ++side) {
      EXPECT_EQ(play(a.script[side]), "") << "seed " << seed << ", side " << side;
    }
  }
}

// An engine that aborts is a failure like any other, known by what it said.
TEST(Shrink, AnAbortIsShrunkToo) {
  const auto broken = [](const Options& o) {
    Attempt a;
    if (o.fates.has_value()) {
      a.fates = *o.fates;
    } else {
      a.fates.of[1][3].lost = true;
    }
    if (o.app[0].bytes >= 700 && o.config[0].sack) a.failure = "tcp invariant broken: 1 == 2";
    return a;
  };
  Options o = random_options(5);
  o.app[0].bytes = 100'000;
  o.config[0].sack = true;
  const Shrunk s = shrink(o, broken);
  EXPECT_EQ(s.failure, "tcp invariant broken: 1 == 2");
  EXPECT_LT(s.options.app[0].bytes, 1400U);
  EXPECT_GE(s.options.app[0].bytes, 700U);
}

TEST(Attempt, SaysWhyAnEngineAborted) {
  Options o = random_options(1);
  // An MTU that no configuration allows: the engine's invariants do not hold with it.
  for (int side = 0; side < 2; ++side) {
    o.link[side].mss = 40;
    o.config[side].mss_min = 1;
  }
  const Attempt a = attempt(1, o);
  EXPECT_NE(a.failure.find("tcp invariant broken"), std::string::npos) << a.failure;
}

}  // namespace
}  // namespace postern::sim
