// Every interleaving of the ring with the sleep protocol of shmsock.h, under total store order. The
// steps are those of Channel and of libpostern's ring.c, one atomic access each; the mutations
// leave one of them out and have to be found.
#include <gtest/gtest.h>

#include "interleave.h"

namespace postern::test {
namespace {

constexpr uint8_t kEntries = 2;  // capacity of the ring
constexpr uint8_t kTotal = 3;    // entries sent: the ring laps once
// words of memory
constexpr uint8_t kBody0 = 0, kBody1 = 1, kSeq0 = 2, kSeq1 = 3, kHead = 4, kArmed = 5, kBell = 6;
// locals
constexpr size_t kIndex = 0, kRung = 1, kSaw = 2, kOwnArmed = 3, kBad = 4;

struct Mutation {
  bool producer_fence = true;
  bool consumer_fence = true;
  bool membarrier = false;  // the consumer fences the producer as well
  bool second_look = true;
  bool body_first = true;         // the body is written before seq
  bool flow_control = true;       // the producer looks at head
  bool rung_is_odd_value = true;  // remembers the value, not merely that it rang
};

uint8_t body(uint8_t index) { return index % 2 == 0 ? kBody0 : kBody1; }
uint8_t seq(uint8_t index) { return index % 2 == 0 ? kSeq0 : kSeq1; }

bool fence(Machine& m) { return m.drained(); }
bool fence_other(Machine& m) { return m.other_drained(); }
bool nothing(Machine&) { return true; }

Program producer(const Mutation& mutation) {
  const auto write_body = [](Machine& m) {
    m.store(body(m.local(kIndex)), static_cast<uint8_t>(100 + m.local(kIndex)));
    return true;
  };
  const auto write_seq = [](Machine& m) {
    m.store(seq(m.local(kIndex)), static_cast<uint8_t>(m.local(kIndex) + 1));
    return true;
  };
  Program p;
  p.push_back([mutation](Machine& m) {  // 0: room?
    if (!mutation.flow_control) return true;
    return static_cast<uint8_t>(m.local(kIndex) - m.load(kHead)) < kEntries;
  });
  p.push_back(mutation.body_first ? Step(write_body) : Step(write_seq));  // 1
  p.push_back(mutation.body_first ? Step(write_seq) : Step(write_body));  // 2
  p.push_back(mutation.producer_fence ? Step(fence) : Step(nothing));     // 3
  p.push_back([mutation](Machine& m) {                                    // 4: armed?
    m.local(kSaw) = m.load(kArmed);
    const bool odd = (m.local(kSaw) & 1) != 0;
    const bool due =
        mutation.rung_is_odd_value ? m.local(kSaw) != m.local(kRung) : m.local(kRung) == 0;
    if (!odd || !due) m.jump(6);
    return true;
  });
  p.push_back([](Machine& m) {  // 5: ring
    m.local(kRung) = m.local(kSaw);
    m.kernel(kBell) = 1;
    return true;
  });
  p.push_back([](Machine& m) {  // 6: next
    if (++m.local(kIndex) < kTotal) m.jump(0);
    return true;
  });
  return p;
}

Program consumer(const Mutation& mutation) {
  const auto there = [](Machine& m) {
    return m.load(seq(m.local(kIndex))) == static_cast<uint8_t>(m.local(kIndex) + 1);
  };
  Program p;
  p.push_back([there](Machine& m) {  // 0: an entry?
    if (m.local(kIndex) == kTotal)
      m.jump(12);
    else if (!there(m))
      m.jump(4);
    return true;
  });
  p.push_back([](Machine& m) {  // 1: copy it
    if (m.load(body(m.local(kIndex))) != 100 + m.local(kIndex)) m.local(kBad) = 1;
    return true;
  });
  p.push_back([](Machine& m) {  // 2: publish head
    m.store(kHead, static_cast<uint8_t>(++m.local(kIndex)));
    return true;
  });
  p.push_back([](Machine& m) {  // 3
    m.jump(0);
    return true;
  });
  p.push_back([](Machine& m) {  // 4: arm
    m.store(kArmed, ++m.local(kOwnArmed));
    return true;
  });
  p.push_back(mutation.consumer_fence ? Step(fence) : Step(nothing));    // 5
  p.push_back(mutation.membarrier ? Step(fence_other) : Step(nothing));  // 6
  p.push_back([there, mutation](Machine& m) {                            // 7: look once more
    if (mutation.second_look && there(m)) m.jump(10);
    return true;
  });
  p.push_back([](Machine& m) {  // 8: sleep until rung
    return m.kernel(kBell) != 0;
  });
  p.push_back([](Machine& m) {  // 9: empty the doorbell
    m.kernel(kBell) = 0;
    return true;
  });
  p.push_back([](Machine& m) {  // 10: disarm
    m.store(kArmed, ++m.local(kOwnArmed));
    return true;
  });
  p.push_back([](Machine& m) {  // 11
    m.jump(0);
    return true;
  });
  return p;  // 12: all taken
}

Result check(const Mutation& mutation) {
  return explore(
      {producer(mutation), consumer(mutation)},
      [](const State& s) -> const char* {
        if (s.side[1].pc == 8) return "the consumer sleeps for ever";
        if (s.side[0].pc < 7) return "the producer waits for ever";
        return nullptr;
      },
      [](const State& s) -> const char* {
        return s.side[1].local[kBad] != 0 ? "a torn entry was taken" : nullptr;
      });
}

TEST(SleepProtocol, NobodySleepsThroughAnEntry) {
  const Result r = check({});
  EXPECT_EQ(r.failure, "");
  EXPECT_GT(r.states, 500U);  // the search did happen
}

// The membarrier takes hold of the producer at any moment while the consumer waits for it.
TEST(SleepProtocol, AMembarrierOfTheConsumerStandsForTheProducersFence) {
  Mutation m;
  m.producer_fence = false;
  m.membarrier = true;
  const Result r = check(m);
  EXPECT_EQ(r.failure, "");
  EXPECT_GT(r.states, 500U);
}

TEST(SleepProtocol, MembarrierWithoutSecondLookIsFound) {
  Mutation m;
  m.producer_fence = false;
  m.membarrier = true;
  m.second_look = false;
  EXPECT_EQ(check(m).failure, "the consumer sleeps for ever");
}

TEST(SleepProtocol, MissingProducerFenceIsFound) {
  Mutation m;
  m.producer_fence = false;
  EXPECT_EQ(check(m).failure, "the consumer sleeps for ever");
}

TEST(SleepProtocol, MissingConsumerFenceIsFound) {
  Mutation m;
  m.consumer_fence = false;
  EXPECT_EQ(check(m).failure, "the consumer sleeps for ever");
}

TEST(SleepProtocol, MissingSecondLookIsFound) {
  Mutation m;
  m.second_look = false;
  EXPECT_EQ(check(m).failure, "the consumer sleeps for ever");
}

TEST(SleepProtocol, RingingOnlyOnceIsFound) {
  Mutation m;
  m.rung_is_odd_value = false;
  EXPECT_EQ(check(m).failure, "the consumer sleeps for ever");
}

TEST(SleepProtocol, SequenceBeforeBodyIsFound) {
  Mutation m;
  m.body_first = false;
  EXPECT_EQ(check(m).failure, "a torn entry was taken");
}

TEST(SleepProtocol, IgnoringTheHeadIsFound) {
  Mutation m;
  m.flow_control = false;
  EXPECT_NE(check(m).failure, "");
}

}  // namespace
}  // namespace postern::test
