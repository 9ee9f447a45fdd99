// Routers' words as decisions: RFC 4861 6.3, RFC 4862 5.5, RFC 7217, RFC 7559.
#include "ip/router_discovery.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "ip/ipv6.h"

namespace postern {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
Prefix prefix(const char* text) { return *Prefix::parse(text); }
constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}}, kRouterMac{{2, 0, 0, 0, 0, 9}};

class RouterDiscoveryTest : public ::testing::Test {
 protected:
  explicit RouterDiscoveryTest(std::array<uint64_t, 2> key = {7, 8}) : neighbors(small()) {
    interfaces.add({.mac = kOurs, .mtu = 1500, .offloads = {}, .addresses = {}});
    interfaces.reserve(0, 1);
    neighbors.reserve_interfaces(1);
    NdOptions options;
    options.probes = 1;
    options.delay = Duration{};
    nd = std::make_unique<NdResponder>(interfaces, neighbors, options);
    nd->add({link_local_address(kOurs), 64}, 0);
    routers = std::make_unique<RouterDiscovery>(interfaces, neighbors, *nd,
                                                RouterDiscoveryOptions{.seed = 3});
    routers->add(0, {true, key});
  }
  static NeighborOptions small() {
    NeighborOptions options;
    options.entries = 64;
    return options;
  }
  // Lets time pass in steps of a second at most.
  void pass(Duration time) {
    for (const Time end = now + time; now < end;) {
      now = std::min(end, now + 1s);
      routers->advance(now);
      NdResponder::Message m;
      while (nd->next_message(now, &m)) continue;
      uint16_t interface;
      while (routers->next_solicitation(now, &interface)) asked.push_back(now);
    }
  }
  bool hear(wire::RouterAdvertisement ra, const char* from = "fe80::9") {
    return routers->advertisement(ra, ip(from), 0, now);
  }
  static wire::RouterAdvertisement ra(uint16_t lifetime, int8_t preference = 0) {
    wire::RouterAdvertisement m;
    m.lifetime = lifetime;
    m.preference = preference;
    m.has_mac = true;
    m.mac = kRouterMac;
    return m;
  }
  static wire::RouterAdvertisement with(const char* text, uint32_t valid, uint32_t preferred,
                                        bool on_link = true, bool autonomous = true) {
    wire::RouterAdvertisement m = ra(1800);
    m.prefixes[m.prefix_count++] = {prefix(text), on_link, autonomous, valid, preferred};
    return m;
  }
  // Where packets go: "router", "link", or "".
  std::string way(const char* destination) {
    RouterDiscovery::Way w;
    if (!routers->find(ip(destination), &w)) return "";
    return w.next_hop == ip(destination) ? "link" : w.next_hop.to_string();
  }
  // The addresses that are not link-local, by state.
  std::map<std::string, AddressState> addresses() {
    std::map<std::string, AddressState> out;
    for (size_t i = 0; i < nd->size(); ++i) {
      const auto v = nd->view(i);
      if (!v.address.address.is_link_local()) out[v.address.address.to_string()] = v.state;
    }
    return out;
  }
  IpAddress only_address() {
    const auto all = addresses();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? IpAddress{} : ip(all.begin()->first.c_str());
  }

  InterfaceTable interfaces;
  NeighborTable neighbors;
  std::unique_ptr<NdResponder> nd;
  std::unique_ptr<RouterDiscovery> routers;
  std::vector<Time> asked;
  Time now{10s};
};
class Eui64 : public RouterDiscoveryTest {
 protected:
  Eui64() : RouterDiscoveryTest({0, 0}) {}
};

// proves: 4861-10
TEST_F(RouterDiscoveryTest, AsksUntilAnAnswerComesAndSlowsDown) {
  pass(70s);
  ASSERT_GE(asked.size(), 4u);
  EXPECT_LE(asked[0], Time{10s} + 2s) << "after a random delay of a second at most";
  EXPECT_EQ(asked[1] - asked[0], 4s);
  EXPECT_EQ(asked[2] - asked[1], 8s);
  EXPECT_EQ(asked[3] - asked[2], 16s);
  hear(ra(0));
  const size_t before = asked.size();
  pass(200s);
  EXPECT_GT(asked.size(), before) << "who is no default router is no answer";
  hear(ra(1800));
  const size_t answered = asked.size();
  pass(1000s);
  EXPECT_EQ(asked.size(), answered);
}

// proves: 4861-6, 4861-8
TEST_F(RouterDiscoveryTest, RoutersExpire) {
  EXPECT_EQ(way("2001:db8:ff::1"), "");
  EXPECT_TRUE(hear(ra(60)));
  EXPECT_EQ(way("2001:db8:ff::1"), "fe80::9");
  pass(59s);
  EXPECT_FALSE(hear(ra(60))) << "nothing new";
  pass(59s);
  EXPECT_EQ(way("2001:db8:ff::1"), "fe80::9");
  pass(1s);
  EXPECT_EQ(way("2001:db8:ff::1"), "");
}

// proves: 4861-6
TEST_F(RouterDiscoveryTest, RouterOfLifetimeZeroIsNone) {
  EXPECT_FALSE(hear(ra(0)));
  EXPECT_EQ(way("2001:db8:ff::1"), "");
  hear(ra(60));
  EXPECT_TRUE(hear(ra(0)));
  EXPECT_EQ(way("2001:db8:ff::1"), "");
}

// proves: 8504-10
TEST_F(RouterDiscoveryTest, PreferredRoutersFirst) {
  hear(ra(60, -1), "fe80::1");
  hear(ra(60, 0), "fe80::2");
  EXPECT_EQ(way("2001:db8:ff::1"), "fe80::2");
  hear(ra(60, 1), "fe80::3");
  EXPECT_EQ(way("2001:db8:ff::1"), "fe80::3");
}

// proves: 4861-9
TEST_F(RouterDiscoveryTest, ARouterThatDoesNotAnswerIsTheLastChoice) {
  hear(ra(60, 1), "fe80::1");
  hear(ra(60, 0), "fe80::2");
  EXPECT_FALSE(routers->unreachable(ip("fe80::77"), 0));
  EXPECT_TRUE(routers->unreachable(ip("fe80::1"), 0));
  EXPECT_EQ(way("2001:db8:ff::1"), "fe80::2");
  // When all are silent they take turns (RFC 4861 6.3.6).
  routers->unreachable(ip("fe80::2"), 0);
  hear(ra(60, 0), "fe80::2");
  EXPECT_EQ(way("2001:db8:ff::1"), "fe80::2") << "heard again";
}

// proves: 4861-9
TEST_F(RouterDiscoveryTest, SilentRoutersTakeTurns) {
  hear(ra(60), "fe80::1");
  hear(ra(60), "fe80::2");
  std::set<std::string> used;
  for (int i = 0; i < 4; ++i) {
    const std::string at = way("2001:db8:ff::1");
    used.insert(at);
    routers->unreachable(ip(at.c_str()), 0);
  }
  EXPECT_EQ(used.size(), 2u);
}

// proves: 4861-7, 4862-8
TEST_F(RouterDiscoveryTest, PrefixesAreOnLinkUntilTheyExpire) {
  hear(with("2001:db8:1::/64", 30, 30, true, false));
  EXPECT_EQ(way("2001:db8:1::77"), "link");
  EXPECT_EQ(way("2001:db8:2::77"), "fe80::9");
  EXPECT_TRUE(addresses().empty()) << "not autonomous";
  pass(30s);
  EXPECT_EQ(way("2001:db8:1::77"), "fe80::9");
  hear(with("2001:db8:1::/64", UINT32_MAX, 30, true, false));
  pass(10'000s);
  EXPECT_EQ(routers->prefixes().size(), 1u) << "for ever";
  EXPECT_TRUE(hear(with("2001:db8:1::/64", 0, 0, true, false)));
  EXPECT_TRUE(routers->prefixes().empty());
}

// proves: 4861-7, 4862-8
TEST_F(RouterDiscoveryTest, ALinkLocalPrefixIsIgnored) {
  hear(with("fe80::/64", 600, 600));
  EXPECT_TRUE(routers->prefixes().empty());
  EXPECT_TRUE(addresses().empty());
}

// proves: 4861-5
TEST_F(RouterDiscoveryTest, Parameters) {
  auto m = ra(1800);
  m.hop_limit = 31;
  m.mtu = 1400;
  hear(m);
  EXPECT_EQ(routers->hop_limit(0), 31);
  EXPECT_EQ(interfaces[0].mtu_v6, 1400);
  EXPECT_EQ(interfaces[0].mtu, 1500) << "IPv4 is not concerned";
  m.hop_limit = 0;
  for (const uint32_t bad : {0u, 1279u, 1501u, 70'000u}) {
    m.mtu = bad;
    hear(m);
    EXPECT_EQ(interfaces[0].mtu_v6, 1400) << bad;
  }
  EXPECT_EQ(routers->hop_limit(0), 31) << "0 says nothing";
  // Reachable and retrans time, of IPv6 neighbors.
  m.retrans_ms = 5000;
  m.reachable_ms = 100'000;
  hear(m);
  NeighborHandle handle;
  EXPECT_EQ(neighbors.resolve(ip("fe80::55"), 0, now, &handle), NeighborTable::Resolution::pending);
  EXPECT_EQ(neighbors.next_deadline(), now + 5s);
  neighbors.update(ip("fe80::55"), 0, kRouterMac, true, now);
  EXPECT_EQ(neighbors.view(handle.index, now + 49s).state, NeighborState::reachable);
  EXPECT_EQ(neighbors.view(handle.index, now + 151s).state, NeighborState::stale);
}

// proves: 4862-2
TEST_F(Eui64, AutonomousPrefixMakesAnAddress) {
  hear(with("2001:db8:1::/64", 3600, 1800, false));
  const char* const made = "2001:db8:1::ff:fe00:1";
  ASSERT_EQ(addresses().count(made), 1u);
  EXPECT_EQ(addresses()[made], AddressState::tentative) << "asked for first";
  EXPECT_FALSE(interfaces.is_local(ip(made)));
  pass(3s);
  EXPECT_EQ(addresses()[made], AddressState::preferred);
  EXPECT_TRUE(interfaces.is_local(ip(made)));
  EXPECT_EQ(way("2001:db8:1::77"), "fe80::9") << "not said to be on the link";
}

// proves: 4862-8
TEST_F(RouterDiscoveryTest, PrefixesThatMakeNoAddress) {
  hear(with("2001:db8:1::/64", 100, 200));  // preferred beyond valid
  hear(with("2001:db8:2::/48", 200, 100));  // no room for an identifier of 64 bits
  hear(with("2001:db8:3::/64", 0, 0));
  EXPECT_TRUE(addresses().empty());
}

// proves: 4862-10, 4862-11
TEST_F(RouterDiscoveryTest, LifetimeEndsPreferenceAndThenTheAddress) {
  hear(with("2001:db8:1::/64", 100, 50));
  pass(5s);
  const IpAddress made = only_address();
  pass(44s);
  EXPECT_EQ(addresses().begin()->second, AddressState::preferred);
  EXPECT_FALSE(interfaces[0].is_deprecated(made));
  pass(1s);
  EXPECT_EQ(addresses().begin()->second, AddressState::deprecated);
  EXPECT_TRUE(interfaces[0].is_deprecated(made));
  EXPECT_TRUE(interfaces.is_local(made));
  pass(50s);
  EXPECT_TRUE(addresses().empty());
  EXPECT_FALSE(interfaces.is_local(made));
}

// proves: 4862-9
TEST_F(RouterDiscoveryTest, LifetimeIsRenewed) {
  hear(with("2001:db8:1::/64", 100, 50));
  pass(60s);
  EXPECT_EQ(addresses().begin()->second, AddressState::deprecated);
  hear(with("2001:db8:1::/64", 100, 50));
  EXPECT_EQ(addresses().begin()->second, AddressState::preferred);
  pass(49s);
  EXPECT_EQ(addresses().begin()->second, AddressState::preferred);
}

// RFC 4862 5.5.3 e: a lie cannot take an address away within two hours.
// proves: 4862-9
TEST_F(RouterDiscoveryTest, LifetimeIsNotShortenedBelowTwoHours) {
  hear(with("2001:db8:1::/64", 100'000, 50'000));
  pass(5s);
  hear(with("2001:db8:1::/64", 10, 0));
  EXPECT_EQ(addresses().begin()->second, AddressState::deprecated) << "the preference may end";
  pass(7100s);
  EXPECT_EQ(addresses().size(), 1u);
  hear(with("2001:db8:1::/64", 10, 0));
  pass(101s);
  EXPECT_TRUE(addresses().empty()) << "what was left is not prolonged either";
}

// proves: 8504-15
TEST_F(RouterDiscoveryTest, StableIdentifiersDifferByPrefixAndDoNotShowTheMac) {
  hear(with("2001:db8:1::/64", 3600, 1800));
  const IpAddress first = only_address();
  hear(with("2001:db8:2::/64", 3600, 1800));
  std::set<std::string> identifiers;
  for (const auto& [text, state] : addresses()) {
    const IpAddress a = ip(text.c_str());
    identifiers.emplace(reinterpret_cast<const char*>(a.data()) + 8, 8);
    EXPECT_NE(a, eui64_address(a, kOurs));
  }
  EXPECT_EQ(identifiers.size(), 2u);
  // Another start with the same key makes the same address.
  struct Again : RouterDiscoveryTest {
    void TestBody() override {}
    using RouterDiscoveryTest::hear;
    using RouterDiscoveryTest::only_address;
    using RouterDiscoveryTest::with;
  } again;
  again.hear(Again::with("2001:db8:1::/64", 3600, 1800));
  EXPECT_EQ(again.only_address(), first);
}

TEST_F(RouterDiscoveryTest, ConflictMakesAnotherStableAddress) {
  hear(with("2001:db8:1::/64", 3600, 1800));
  std::set<std::string> tried;
  for (int i = 0; i < 6; ++i) {
    const IpAddress made = only_address();
    tried.insert(made.to_string());
    wire::NdMessage claim;
    claim.type = wire::icmp6::neighbor_advertisement;
    claim.target = made;
    claim.has_mac = true;
    claim.mac = kRouterMac;
    EXPECT_EQ(nd->input(claim, made, kRouterMac, 0, now).drop, Drop::nd_conflict);
    routers->retry_duplicates(now);
  }
  EXPECT_EQ(tried.size(), 4u) << "three further attempts";
  EXPECT_EQ(addresses().begin()->second, AddressState::duplicate);
}

TEST_F(RouterDiscoveryTest, ALiarFillsListsOfFixedSize) {
  for (uint32_t i = 0; i < 1000; ++i) {
    uint8_t bytes[16] = {0x20, 1, 0xd, 0xb8, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
    auto m = ra(1800);
    m.prefixes[m.prefix_count++] = {{IpAddress::v6(bytes), 64}, true, true, 3600, 1800};
    uint8_t router[16] = {0xfe, 0x80};
    router[14] = static_cast<uint8_t>(i >> 8);
    router[15] = static_cast<uint8_t>(i);
    routers->advertisement(m, IpAddress::v6(router), 0, now);
  }
  EXPECT_EQ(routers->routers().size(), RouterDiscovery::kMaxRouters);
  EXPECT_EQ(routers->prefixes().size(), RouterDiscovery::kMaxPrefixes);
  EXPECT_EQ(addresses().size(), RouterDiscovery::kMaxAddresses);
  pass(10s);
  EXPECT_EQ(addresses().size(), RouterDiscovery::kMaxAddresses);
}

// proves: 4861-33
TEST_F(RouterDiscoveryTest, RedirectsHoldUntilTheirTargetIsSilent) {
  hear(ra(1800));
  routers->redirect({ip("2001:db8:9::1"), ip("fe80::5"), true, kRouterMac}, 0, now);
  RouterDiscovery::Way w;
  ASSERT_TRUE(routers->redirected(ip("2001:db8:9::1"), &w));
  EXPECT_EQ(w.next_hop, ip("fe80::5"));
  EXPECT_FALSE(routers->redirected(ip("2001:db8:9::2"), &w));
  EXPECT_TRUE(routers->unreachable(ip("fe80::5"), 0));
  EXPECT_FALSE(routers->redirected(ip("2001:db8:9::1"), &w));
}

}  // namespace
}  // namespace postern
