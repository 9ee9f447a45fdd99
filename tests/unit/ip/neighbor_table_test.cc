#include "ip/neighbor_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"

namespace postern {
namespace {

using Resolution = NeighborTable::Resolution;

IpAddress address(uint32_t i) { return IpAddress::v4(0x0a000000 + i); }
MacAddress mac(uint8_t i) { return {{2, 0, 0, 0, 1, i}}; }

class NeighborTableTest : public ::testing::Test {
 protected:
  NeighborTableTest() {
    options.entries = 16;
    make();
  }
  void make() { table = std::make_unique<NeighborTable>(options); }
  NeighborOptions options;
  int probes() {
    int n = 0;
    while (table->next_probe(&probe)) ++n;
    return n;
  }
  NeighborState state(uint32_t i) {
    for (uint32_t e = 0; e < table->capacity(); ++e) {
      const auto v = table->view(e, now);
      if (v.state != NeighborState::free && v.address == address(i)) return v.state;
    }
    return NeighborState::free;
  }
  TxFrame frame(uint8_t byte, uint32_t length = 60) {
    bytes.assign(length, static_cast<std::byte>(byte));
    TxFrame f;
    f.data = bytes.data();
    f.length = length;
    return f;
  }
  std::unique_ptr<NeighborTable> table;
  NeighborTable::Probe probe;
  NeighborHandle h;
  Time now{100s};
  std::vector<std::byte> bytes;
};

// proves: 4861-18, 4861-30, 4861-31, 1122-1, 1122-2
TEST_F(NeighborTableTest, ResolvesAgesAndProbes) {
  EXPECT_EQ(table->resolve(address(1), 0, now, &h), Resolution::pending);
  EXPECT_EQ(probes(), 1);
  EXPECT_TRUE(probe.mac.is_zero());
  EXPECT_EQ(table->resolve(address(1), 0, now, &h), Resolution::pending);
  EXPECT_EQ(probes(), 0) << "one request at a time";
  table->update(address(1), 0, mac(1), true, now);
  NeighborHandle settled;
  bool reachable = false;
  ASSERT_TRUE(table->next_settled(&settled, &reachable));
  EXPECT_TRUE(reachable);
  EXPECT_EQ(settled, h);
  EXPECT_EQ(table->resolve(h, now), Resolution::resolved);
  EXPECT_EQ(table->mac(h), mac(1));
  now += 31s;
  EXPECT_EQ(state(1), NeighborState::stale);
  EXPECT_EQ(table->resolve(h, now), Resolution::resolved) << "used on while it is probed";
  EXPECT_EQ(state(1), NeighborState::probe);
  EXPECT_EQ(probes(), 1);
  EXPECT_EQ(probe.mac, mac(1)) << "unicast";
  table->update(address(1), 0, mac(1), true, now);
  EXPECT_EQ(state(1), NeighborState::reachable);
  EXPECT_EQ(table->next_deadline(), kNever);
}

// proves: MUST-20, 4861-29
TEST_F(NeighborTableTest, ProgressOfTheUpperLayerKeepsItReachable) {
  table->resolve(address(1), 0, now, &h);
  table->update(address(1), 0, mac(1), true, now);
  for (int i = 0; i < 10; ++i) {
    now += 20s;
    table->confirm(h, now);
  }
  EXPECT_EQ(state(1), NeighborState::reachable);
}

// proves: 4861-18, 1122-2
TEST_F(NeighborTableTest, FailsAfterThreeProbesAndBeginsAnew) {
  table->resolve(address(1), 0, now, &h);
  table->hold(h, frame(7));
  int asked = probes();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(table->next_deadline(), now + 1s);
    now += 1s;
    table->advance(now);
    asked += probes();
  }
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(state(1), NeighborState::failed);
  TxFrame lost;
  ASSERT_TRUE(table->next_failed(&lost));
  EXPECT_EQ(lost.data[20], std::byte{7});
  EXPECT_FALSE(table->next_failed(&lost));
  EXPECT_EQ(table->held(), 0u);
  bool reachable = true;
  ASSERT_TRUE(table->next_settled(&h, &reachable));
  EXPECT_FALSE(reachable);
  EXPECT_EQ(table->resolve(h, now), Resolution::failed) << "not asked again at once";
  now += 1s;
  EXPECT_EQ(table->resolve(h, now), Resolution::pending);
  EXPECT_EQ(probes(), 1);
}

// proves: 4861-19, 1122-3
TEST_F(NeighborTableTest, HoldsAFewFramesAndReleasesThemInOrder) {
  table->resolve(address(1), 0, now, &h);
  EXPECT_FALSE(table->hold(h, frame(1)));
  EXPECT_FALSE(table->hold(h, frame(2)));
  EXPECT_FALSE(table->hold(h, frame(3)));
  EXPECT_TRUE(table->hold(h, frame(4))) << "displaces the oldest";
  EXPECT_TRUE(table->hold(h, frame(5, 4000))) << "longer than a held frame may be";
  table->update(address(1), 0, mac(9), true, now);
  TxFrame out;
  std::vector<int> order;
  while (table->next_released(&out)) {
    EXPECT_EQ(std::memcmp(out.data, mac(9).bytes.data(), 6), 0);
    order.push_back(static_cast<int>(out.data[20]));
  }
  EXPECT_EQ(order, (std::vector<int>{3, 4}));
  EXPECT_EQ(table->held(), 0u);
}

TEST_F(NeighborTableTest, ADifferentMacMakesAnEntryStaleNotReachable) {
  table->resolve(address(1), 0, now, &h);
  table->update(address(1), 0, mac(1), true, now);
  table->update(address(1), 0, mac(2), false, now);  // unsolicited
  EXPECT_EQ(state(1), NeighborState::stale);
  EXPECT_EQ(table->resolve(h, now), Resolution::resolved);
  EXPECT_EQ(table->mac(h), mac(2));
}

TEST_F(NeighborTableTest, UpdatesOfStrangersAreNotLearned) {
  table->update(address(5), 0, mac(5), true, now);
  EXPECT_EQ(table->size(), 0u);
}

TEST_F(NeighborTableTest, AFloodOfRequestsSparesTheNeighborsInUse) {
  NeighborHandle used[4];
  for (uint32_t i = 0; i < 4; ++i) {
    table->resolve(address(i), 0, now, &used[i]);
    table->update(address(i), 0, mac(1), true, now);
  }
  for (uint32_t i = 100; i < 5000; ++i) table->learn(address(i), 0, mac(2), now);
  EXPECT_LE(table->size(), 8u) << "half of the table at most";
  for (auto& handle : used) EXPECT_EQ(table->resolve(handle, now), Resolution::resolved);
}

TEST_F(NeighborTableTest, AFloodOfDestinationsIsBounded) {
  table->resolve(address(1), 0, now, &h);
  table->update(address(1), 0, mac(1), true, now);
  int pending = 0;
  NeighborHandle other;
  for (uint32_t i = 100; i < 200; ++i) {
    pending += table->resolve(address(i), 0, now, &other) == Resolution::pending;
  }
  EXPECT_EQ(pending, 4) << "a quarter of the table";
  EXPECT_EQ(table->resolve(h, now), Resolution::resolved);
  for (int i = 0; i < 10; ++i) table->advance(now += 1s);
  EXPECT_EQ(table->resolve(address(150), 0, now, &other), Resolution::pending);
}

TEST_F(NeighborTableTest, AStaleHandleIsNeverAnothersMac) {
  table->resolve(address(1), 0, now, &h);
  table->update(address(1), 0, mac(1), true, now);
  now += 100s;
  NeighborHandle other;
  for (uint32_t i = 100; i < 140; ++i) {
    table->resolve(address(i), 0, now, &other);
    table->update(address(i), 0, mac(3), true, now);
  }
  EXPECT_EQ(state(1), NeighborState::free) << "the oldest went";
  EXPECT_EQ(table->resolve(h, now), Resolution::full);
}

TEST_F(NeighborTableTest, PermanentEntriesStay) {
  table->add_permanent(address(1), 0, mac(7));
  for (uint32_t i = 100; i < 500; ++i) {
    table->resolve(address(i), 0, now, &h);
    table->update(address(i), 0, mac(3), true, now);
  }
  table->update(address(1), 0, mac(8), true, now);
  now += 1000s;
  EXPECT_EQ(table->resolve(address(1), 0, now, &h), Resolution::resolved);
  EXPECT_EQ(table->mac(h), mac(7));
}

TEST_F(NeighborTableTest, KeysHoldBothFamiliesAndTheInterface) {
  const IpAddress v6 = *IpAddress::parse("fe80::1");
  NeighborHandle a, b, c;
  table->resolve(v6, 0, now, &a);
  table->resolve(v6, 1, now, &b);
  table->resolve(address(1), 0, now, &c);
  EXPECT_NE(a, b);
  table->update(v6, 1, mac(4), true, now);
  EXPECT_EQ(table->resolve(a, now), Resolution::pending);
  EXPECT_EQ(table->resolve(b, now), Resolution::resolved);
}

TEST_F(NeighborTableTest, RandomUseKeepsItsPromises) {
  options.entries = 32;
  options.held_frames = 8;
  make();
  Random random(5);
  TxFrame out;
  bool reachable;
  for (int i = 0; i < 200000; ++i) {
    const auto who = static_cast<uint32_t>(random.below(100));
    switch (random.below(7)) {
      case 0:
        table->update(address(who), 0, mac(1), random.below(2) == 0, now);
        break;
      case 1:
        table->learn(address(who), 0, mac(2), now);
        break;
      case 2:
        now += Duration(random.below(2'000'000'000));
        table->advance(now);
        while (table->next_failed(&out)) {
        }
        break;
      case 3:
        probes();
        break;
      case 4:
        while (table->next_settled(&h, &reachable)) {
        }
        break;
      case 5:
        while (table->next_released(&out)) {
        }
        break;
      default:
        if (table->resolve(address(who), 0, now, &h) == Resolution::pending) {
          table->hold(h, frame(1));
        }
    }
    ASSERT_LE(table->size(), 32u);
    ASSERT_LE(table->held(), 8u);
  }
  for (int i = 0; i < 5; ++i) table->advance(now += 1s);
  while (table->next_released(&out) || table->next_failed(&out)) {
  }
  EXPECT_EQ(table->held(), 0u);
}

}  // namespace
}  // namespace postern
