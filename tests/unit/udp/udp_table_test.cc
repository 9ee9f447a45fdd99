#include "udp/udp_table.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/random.h"
#include "udp/datagram.h"

namespace postern {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

class UdpTableTest : public ::testing::Test {
 protected:
  UdpTable table{64, HashSecret{1, 2, 3, 4}};
  Endpoint peer{ip("10.0.0.9"), 999};
};

TEST_F(UdpTableTest, MostSpecificWins) {
  table.insert(0, {{ip("::"), 53}, {}, false});
  EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, peer).socket, 0u);
  EXPECT_EQ(table.find({ip("2001:db8::1"), 53}, peer).socket, 0u);
  table.insert(1, {{ip("0.0.0.0"), 53}, {}, false});
  EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, peer).socket, 1u);
  EXPECT_EQ(table.find({ip("2001:db8::1"), 53}, peer).socket, 0u);
  table.insert(2, {{ip("10.0.0.1"), 53}, {}, false});
  EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, peer).socket, 2u);
  EXPECT_EQ(table.find({ip("10.0.0.2"), 53}, peer).socket, 1u);
  table.insert(3, {{ip("10.0.0.1"), 53}, peer, false});
  EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, peer).socket, 3u);
  EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, {peer.address, 998}).socket, 2u);
  table.insert(4, {{ip("0.0.0.0"), 54}, peer, false});
  EXPECT_EQ(table.find({ip("10.0.0.1"), 54}, peer).socket, 4u) << "connected, any local address";
  EXPECT_EQ(table.find({ip("10.0.0.1"), 54}, {peer.address, 1}).socket, UdpTable::kNone);
  EXPECT_TRUE(table.connected_on(54));
  table.remove(3);
  table.remove(4);
  EXPECT_FALSE(table.connected_on(54));
  EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, peer).socket, 2u);
}

TEST_F(UdpTableTest, V6OnlyLeavesIpv4Alone) {
  table.insert(0, {{ip("::"), 53}, {}, true});
  EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, peer).socket, UdpTable::kNone);
  EXPECT_EQ(table.find({ip("2001:db8::1"), 53}, peer).socket, 0u);
}

TEST_F(UdpTableTest, EqualBindingsShareFlowsAndKeepThem) {
  for (uint32_t i = 0; i < 4; ++i) table.insert(i, {{ip("0.0.0.0"), 53}, {}, false});
  std::map<uint32_t, int> load;
  for (uint16_t port = 1000; port < 5000; ++port) {
    const uint32_t s = table.find({ip("10.0.0.1"), 53}, {ip("10.0.0.9"), port}).socket;
    ASSERT_LT(s, 4u);
    EXPECT_EQ(table.find({ip("10.0.0.1"), 53}, {ip("10.0.0.9"), port}).socket, s);
    ++load[s];
  }
  EXPECT_EQ(load.size(), 4u);
  for (const auto& [socket, n] : load) EXPECT_GT(n, 300) << socket;
}

TEST_F(UdpTableTest, TellsWhetherTheSenderMatters) {
  const Endpoint local{ip("10.0.0.1"), 53};
  EXPECT_FALSE(table.find(local, peer).whoever_sends) << "nobody is there";
  table.insert(0, {{ip("0.0.0.0"), 53}, {}, false});
  EXPECT_TRUE(table.find(local, peer).whoever_sends);
  table.insert(1, {{ip("0.0.0.0"), 53}, {}, false});
  EXPECT_FALSE(table.find(local, peer).whoever_sends) << "two share the port";
  table.remove(1);
  table.insert(2, {{ip("10.0.0.1"), 53}, {peer.address, 7}, false});
  EXPECT_FALSE(table.find(local, peer).whoever_sends) << "one is connected to somebody";
  table.remove(2);
  EXPECT_TRUE(table.find(local, peer).whoever_sends);
}

TEST_F(UdpTableTest, RandomUseAgreesWithAModel) {
  Random random(9);
  std::map<uint32_t, UdpBinding> model;
  for (int i = 0; i < 50000; ++i) {
    const auto socket = static_cast<uint32_t>(random.below(64));
    if (model.count(socket) != 0) {
      table.remove(socket);
      model.erase(socket);
      continue;
    }
    UdpBinding b{{IpAddress::v4(static_cast<uint32_t>(random.below(3))),
                  static_cast<uint16_t>(1 + random.below(4))},
                 {},
                 false};
    if (random.below(2) == 0) {
      b.remote = {ip("10.0.0.9"), static_cast<uint16_t>(1 + random.below(3))};
    }
    table.insert(socket, b);
    model[socket] = b;
    const Endpoint local{IpAddress::v4(static_cast<uint32_t>(1 + random.below(2))),
                         static_cast<uint16_t>(1 + random.below(4))};
    const Endpoint remote{ip("10.0.0.9"), static_cast<uint16_t>(1 + random.below(3))};
    // The best score among all, and what the table says must have it.
    const auto score = [&](const UdpBinding& x) {
      if (x.local.port != local.port) return -1;
      if (x.remote.port != 0 && x.remote != remote) return -1;
      if (!x.local.address.is_any() && x.local.address != local.address) return -1;
      return (x.remote.port != 0 ? 2 : 0) + (x.local.address.is_any() ? 0 : 1);
    };
    int best = -1;
    for (const auto& [s, x] : model) best = std::max(best, score(x));
    const uint32_t found = table.find(local, remote).socket;
    ASSERT_EQ(found == UdpTable::kNone ? -1 : score(model.at(found)), best);
    if (!table.find(local, remote).whoever_sends) continue;
    for (uint16_t port = 1; port <= 4; ++port) {
      ASSERT_EQ(table.find(local, {ip("10.0.0.9"), port}).socket, found) << port;
    }
  }
}

TEST(Datagram, RecordSizes) {
  EXPECT_EQ(datagram_record_size(0), 48u);
  EXPECT_EQ(datagram_record_size(1), 56u);
  EXPECT_EQ(datagram_record_size(8), 56u);
  EXPECT_EQ(datagram_record_size(65507), 65560u);
}

}  // namespace
}  // namespace postern
