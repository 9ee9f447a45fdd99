#include "base/slab.h"

#include <gtest/gtest.h>

#include <unordered_map>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

struct Counted {
  explicit Counted(int v) noexcept : value(v) { ++alive; }
  ~Counted() { --alive; }
  Counted(const Counted&) = delete;
  int value;
  static inline int alive = 0;
};

TEST(Slab, CreatesUntilFull) {
  Slab<Counted> slab(3);
  Counted* const a = slab.create(1);
  Counted* const b = slab.create(2);
  Counted* const c = slab.create(3);
  ASSERT_TRUE(a && b && c);
  EXPECT_TRUE(slab.full());
  EXPECT_EQ(slab.create(4), nullptr);
  EXPECT_EQ(slab.size(), 3U);
  slab.destroy(b);
  EXPECT_EQ(slab.create(5), b) << "the cell freed last comes first";
  EXPECT_EQ(b->value, 5);
}

TEST(Slab, StaleHandlesAreRefused) {
  Slab<Counted> slab(2);
  Counted* const a = slab.create(1);
  const SlabHandle handle = slab.handle_of(a);
  EXPECT_EQ(slab.get(handle), a);
  slab.destroy(a);
  EXPECT_EQ(slab.get(handle), nullptr);
  Counted* const again = slab.create(2);
  EXPECT_EQ(again, a);
  EXPECT_EQ(slab.get(handle), nullptr) << "never another's object";
  EXPECT_EQ(slab.get(slab.handle_of(again)), again);
}

TEST(Slab, AnyTwoWordsAreSafe) {
  Slab<Counted> slab(2);
  EXPECT_EQ(slab.get(SlabHandle{}), nullptr);
  EXPECT_EQ(slab.get(0, 0), nullptr);
  EXPECT_EQ(slab.get(0, 1), nullptr) << "never created";
  EXPECT_EQ(slab.get(2, 1), nullptr);
  EXPECT_EQ(slab.get(UINT32_MAX, UINT32_MAX), nullptr);
  Counted* const a = slab.create(1);
  const SlabHandle handle = slab.handle_of(a);
  slab.destroy(a);
  EXPECT_EQ(slab.get(handle.index, handle.generation + 1), nullptr)
      << "the generation of a free cell is no handle";
  EXPECT_EQ(slab.at(7), nullptr);
}

TEST(Slab, DestroysWhatIsLeft) {
  const int before = Counted::alive;
  {
    Slab<Counted> slab(8);
    for (int i = 0; i < 5; ++i) ASSERT_NE(slab.create(i), nullptr);
    slab.destroy(slab.at(2));
    EXPECT_EQ(Counted::alive, before + 4);
  }
  EXPECT_EQ(Counted::alive, before);
}

TEST(Slab, IteratesByIndex) {
  Slab<Counted> slab(8);
  for (int i = 0; i < 6; ++i) ASSERT_NE(slab.create(i), nullptr);
  slab.destroy(slab.at(1));
  std::vector<int> seen;
  slab.for_each([&](Counted& c) {
    seen.push_back(c.value);
    if (c.value == 3) slab.destroy(&c);
  });
  EXPECT_EQ(seen, (std::vector{0, 2, 3, 4, 5}));
  EXPECT_EQ(slab.at(3), nullptr);
  EXPECT_EQ(slab.high_water(), 6U);
}

struct alignas(64) Line {
  uint64_t words[8] = {};
};
TEST(Slab, KeepsAlignment) {
  Slab<Line> slab(5);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slab.create()) % 64, 0U);
  }
}

TEST(Slab, MatchesModelUnderChurn) {
  constexpr uint32_t kCapacity = 200;
  Slab<Counted> slab(kCapacity);
  std::vector<std::pair<SlabHandle, int>> live;
  std::vector<SlabHandle> stale;
  Random random(1);
  for (int step = 0; step < 50000; ++step) {
    if (random.chance(0.5) && !live.empty()) {
      const size_t i = random.below(live.size());
      Counted* const object = slab.get(live[i].first);
      ASSERT_NE(object, nullptr);
      ASSERT_EQ(object->value, live[i].second);
      slab.destroy(object);
      stale.push_back(live[i].first);
      live[i] = live.back();
      live.pop_back();
    } else if (Counted* const object = slab.create(step)) {
      live.emplace_back(slab.handle_of(object), step);
    } else {
      ASSERT_EQ(live.size(), kCapacity);
    }
    ASSERT_EQ(slab.size(), live.size());
    if (!stale.empty()) {
      ASSERT_EQ(slab.get(stale[random.below(stale.size())]), nullptr);
    }
  }
}

}  // namespace
}  // namespace postern
