// Neighbor discovery as decisions: RFC 4861 7.2, RFC 4862 5.4.
#include "ip/nd.h"

#include <gtest/gtest.h>

#include "ip/ipv6.h"

namespace postern {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}}, kTheirs{{2, 0, 0, 0, 0, 2}},
    kOthers{{2, 0, 0, 0, 0, 3}};
const char* const kOwn = "2001:db8::1";

class Nd : public ::testing::Test {
 protected:
  explicit Nd(NdOptions options = {.probes = 1, .retry = 1s, .delay = 1s, .seed = 5})
      : neighbors(small()) {
    interfaces.add({.mac = kOurs, .offloads = {}, .addresses = {}});
    interfaces.reserve(0, 4);
    nd = std::make_unique<NdResponder>(interfaces, neighbors, options);
    nd->add(*Prefix::parse("2001:db8::1/64"), 0);
  }
  static NeighborOptions small() {
    NeighborOptions options;
    options.entries = 16;
    return options;
  }
  std::vector<NdResponder::Message> due() {
    std::vector<NdResponder::Message> all;
    NdResponder::Message m;
    while (nd->next_message(now, &m)) all.push_back(m);
    return all;
  }
  void settle() {
    for (int i = 0; i < 5; ++i, now += 1s) due();
  }
  NdResponder::Answer solicit(const char* target, const char* source, bool with_mac = true,
                              const MacAddress& from = kTheirs) {
    return nd->input({.has_mac = with_mac, .target = ip(target), .mac = from}, ip(source), from, 0,
                     now);
  }
  NdResponder::Answer advertise(const char* target, const MacAddress& mac, bool solicited,
                                bool override_known) {
    return nd->input({.type = wire::icmp6::neighbor_advertisement,
                      .solicited = solicited,
                      .override_known = override_known,
                      .has_mac = true,
                      .target = ip(target),
                      .mac = mac},
                     ip(target), mac, 0, now);
  }
  NeighborState state(const char* address) {
    NeighborHandle h;
    for (uint32_t i = 0; i < neighbors.capacity(); ++i) {
      const auto v = neighbors.view(i, now);
      if (v.state != NeighborState::free && v.address == ip(address)) return v.state;
    }
    return NeighborState::free;
  }
  InterfaceTable interfaces;
  NeighborTable neighbors;
  std::unique_ptr<NdResponder> nd;
  Time now{10s};
};

// ---- duplicate detection ----

// proves: 4861-28, 4862-2, 4862-3
TEST_F(Nd, AddressIsOursAfterNobodyAnsweredOneProbe) {
  EXPECT_TRUE(due().empty()) << "the first probe waits a random time";
  const Time first = nd->next_deadline();
  EXPECT_GE(first, now);
  EXPECT_LE(first, now + 1s);
  now = first;
  const auto probe = due();
  ASSERT_EQ(probe.size(), 1u);
  EXPECT_TRUE(probe[0].source.is_any());
  EXPECT_EQ(probe[0].destination, ip("ff02::1:ff00:1"));
  EXPECT_EQ(probe[0].mac, (MacAddress{{0x33, 0x33, 0xff, 0, 0, 1}}));
  EXPECT_FALSE(probe[0].nd.has_mac);
  EXPECT_FALSE(interfaces.is_local(ip(kOwn)));
  now += 999ms;
  EXPECT_TRUE(due().empty());
  now += 1ms;
  const auto announced = due();
  ASSERT_EQ(announced.size(), 1u);
  EXPECT_EQ(announced[0].nd.type, wire::icmp6::neighbor_advertisement);
  EXPECT_TRUE(announced[0].nd.override_known);
  EXPECT_FALSE(announced[0].nd.solicited);
  EXPECT_EQ(announced[0].destination, all_nodes());
  EXPECT_TRUE(interfaces.is_local(ip(kOwn)));
  EXPECT_EQ(nd->view(0).state, AddressState::preferred);
  EXPECT_EQ(nd->next_deadline(), kNever);
}

// proves: 4862-4
TEST_F(Nd, TentativeAddressIsNotAnsweredFor) {
  due();
  EXPECT_FALSE(solicit(kOwn, "fe80::2").send);
  EXPECT_EQ(state("fe80::2"), NeighborState::free);
}

// proves: 4862-4
TEST_F(Nd, AnotherHostThatAlsoWantsItMakesItADuplicate) {
  due();
  EXPECT_EQ(solicit(kOwn, "::", false).drop, Drop::nd_conflict);
  settle();
  EXPECT_EQ(nd->view(0).state, AddressState::duplicate);
  EXPECT_FALSE(interfaces.is_local(ip(kOwn)));
}

// proves: 4862-6, 4862-7
TEST_F(Nd, AnotherHostThatHasItMakesItADuplicate) {
  due();
  EXPECT_EQ(advertise(kOwn, kTheirs, false, true).drop, Drop::nd_conflict);
  settle();
  EXPECT_EQ(nd->view(0).state, AddressState::duplicate);
}

// proves: 4862-5
TEST_F(Nd, OurOwnProbeComingBackIsNoConflict) {
  due();
  EXPECT_EQ(solicit(kOwn, "::", false, kOurs).drop, Drop::nd_not_for_us);
  settle();
  EXPECT_EQ(nd->view(0).state, AddressState::preferred);
}

// ---- addresses that come and go ----

// proves: 6724-4, 4862-10
TEST_F(Nd, DeprecatedAddressesAreAvoidedAndAnsweredFor) {
  settle();
  nd->reserve(4);
  const Prefix made = *Prefix::parse("2001:db8:0:1::5/64");
  ASSERT_TRUE(nd->add_learned(made, 0, now + 60s, now + 100s, now));
  EXPECT_FALSE(nd->add_learned(made, 0, now + 60s, now + 100s, now)) << "it is there";
  for (int i = 0; i < 5; ++i, now += 1s) due();
  const IpAddress near = ip("2001:db8:0:1::9");
  EXPECT_EQ(*interfaces.select_source(near, 0), made.address) << "the longer match";
  now += 60s;
  due();
  EXPECT_EQ(*interfaces.select_source(near, 0), ip(kOwn)) << "RFC 6724 rule 3 before rule 8";
  EXPECT_TRUE(solicit("2001:db8:0:1::5", "fe80::2").send);
  now += 40s;
  due();
  EXPECT_FALSE(interfaces.is_local(made.address));
  EXPECT_FALSE(solicit("2001:db8:0:1::5", "fe80::2").send);
  EXPECT_EQ(nd->size(), 1u);
}

class NdAtOnce : public Nd {
 protected:
  NdAtOnce() : Nd({.probes = 0, .seed = 5}) {}
};

// proves: 4862-12
TEST_F(NdAtOnce, AddressIsOursFromTheStart) {
  EXPECT_TRUE(interfaces.is_local(ip(kOwn)));
  EXPECT_EQ(due().size(), 1u) << "announced once";
}

class NdSilent : public Nd {
 protected:
  NdSilent() : Nd({.probes = 1, .speaks = false, .seed = 5}) {}
};

TEST_F(NdSilent, ComesToTheSameStateWithoutAWord) {
  for (int i = 0; i < 5; ++i, now += 1s) EXPECT_TRUE(due().empty());
  EXPECT_TRUE(interfaces.is_local(ip(kOwn)));
  EXPECT_FALSE(solicit(kOwn, "fe80::2").send);
  EXPECT_EQ(state("fe80::2"), NeighborState::stale) << "but it learns";
}

// ---- answers ----

// proves: 4861-22, 4861-23
TEST_F(Nd, AnswersForItsOwnAndLearnsTheAsker) {
  settle();
  const auto a = solicit(kOwn, "2001:db8::2");
  EXPECT_EQ(a.drop, Drop::none);
  ASSERT_TRUE(a.send);
  EXPECT_TRUE(a.message.nd.solicited);
  EXPECT_TRUE(a.message.nd.override_known);
  EXPECT_FALSE(a.message.nd.router);
  EXPECT_EQ(a.message.nd.mac, kOurs);
  EXPECT_EQ(a.message.source, ip(kOwn));
  EXPECT_EQ(a.message.destination, ip("2001:db8::2"));
  EXPECT_EQ(a.message.mac, kTheirs);
  EXPECT_EQ(state("2001:db8::2"), NeighborState::stale);
}

// proves: 4861-22, 4861-24
TEST_F(Nd, WhoAsksForAnAddressThatIsTakenHearsItWithAllOthers) {
  settle();
  const auto a = solicit(kOwn, "::", false);
  ASSERT_TRUE(a.send);
  EXPECT_FALSE(a.message.nd.solicited);
  EXPECT_EQ(a.message.destination, all_nodes());
}

TEST_F(Nd, AskersOffTheLinkAreNotLearned) {
  settle();
  EXPECT_TRUE(solicit(kOwn, "2001:db8:1::2").send);
  EXPECT_EQ(state("2001:db8:1::2"), NeighborState::free);
}

// proves: 4861-21
TEST_F(Nd, SilentAboutOthers) {
  settle();
  EXPECT_EQ(solicit("2001:db8::7", "2001:db8::2").drop, Drop::nd_not_for_us);
}

TEST_F(Nd, ConflictIsNamedAndRefutedOnceInTenSeconds) {
  settle();
  EXPECT_TRUE(advertise(kOwn, kTheirs, false, true).send);
  EXPECT_FALSE(advertise(kOwn, kTheirs, false, true).send);
  EXPECT_EQ(advertise(kOwn, kTheirs, false, true).drop, Drop::nd_conflict);
  EXPECT_TRUE(interfaces.is_local(ip(kOwn)));
  now += 10s;
  EXPECT_TRUE(advertise(kOwn, kTheirs, false, true).send);
}

// ---- advertisements: RFC 4861 7.2.5, appendix C ----

// proves: 4861-25, 4861-26
TEST_F(Nd, OnlyAnAnswerToOurQuestionMakesReachable) {
  settle();
  NeighborHandle h;
  EXPECT_EQ(advertise("2001:db8::2", kTheirs, true, true).drop, Drop::nd_not_for_us)
      << "nobody asked: no entry is made";
  neighbors.resolve(ip("2001:db8::2"), 0, now, &h);
  EXPECT_EQ(advertise("2001:db8::2", kTheirs, false, true).drop, Drop::none);
  EXPECT_EQ(state("2001:db8::2"), NeighborState::stale);
  neighbors.resolve(ip("2001:db8::2"), 0, now, &h);
  EXPECT_EQ(state("2001:db8::2"), NeighborState::probe);
  advertise("2001:db8::2", kTheirs, true, false);
  EXPECT_EQ(state("2001:db8::2"), NeighborState::reachable);
  EXPECT_EQ(neighbors.mac(h), kTheirs);
}

// proves: 4861-26
TEST_F(Nd, WithoutOverrideAnotherMacOnlyRaisesDoubt) {
  settle();
  NeighborHandle h;
  neighbors.resolve(ip("2001:db8::2"), 0, now, &h);
  advertise("2001:db8::2", kTheirs, true, false);
  ASSERT_EQ(state("2001:db8::2"), NeighborState::reachable);
  advertise("2001:db8::2", kOthers, false, false);
  EXPECT_EQ(state("2001:db8::2"), NeighborState::stale);
  EXPECT_EQ(neighbors.mac(h), kTheirs);
  advertise("2001:db8::2", kOthers, false, true);
  EXPECT_EQ(neighbors.mac(h), kOthers);
}

// ---- groups ----

// proves: 4861-16, 4862-3
TEST_F(Nd, MemberOfItsSolicitedNodeGroupsAndAllNodes) {
  EXPECT_TRUE(nd->is_member(ip("ff02::1"), 0));
  EXPECT_TRUE(nd->is_member(ip("ff02::1:ff00:1"), 0)) << "while tentative too";
  EXPECT_FALSE(nd->is_member(ip("ff02::1:ff00:2"), 0));
  EXPECT_FALSE(nd->is_member(ip("ff02::2"), 0));
  EXPECT_FALSE(nd->is_member(ip("ff02::1"), 1));
}

// proves: 4862-1, 8504-1, 8504-14
TEST(Ipv6, DerivedAddresses) {
  // RFC 4291 appendix A, RFC 2464 7.
  EXPECT_EQ(link_local_address({{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}}),
            ip("fe80::3656:78ff:fe9a:bcde"));
  EXPECT_EQ(solicited_node(ip("4037::1:800:200e:8c6c")), ip("ff02::1:ff0e:8c6c"));
  EXPECT_EQ(multicast_mac(ip("ff02::1:ff0e:8c6c")),
            (MacAddress{{0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c}}));
}

// ---- RFC 6724 5 ----

TEST(SourceSelection, ScopeThenLongestPrefix) {
  InterfaceTable table;
  table.add({.mac = kOurs,
             .offloads = {},
             .addresses = {*Prefix::parse("192.0.2.1/24"), *Prefix::parse("fe80::1/64"),
                           *Prefix::parse("2001:db8:1::1/64"), *Prefix::parse("2001:db8:2::1/64"),
                           *Prefix::parse("fd00::1/64")}});
  const auto source = [&](const char* to) { return table.select_source(ip(to), 0)->to_string(); };
  EXPECT_EQ(source("2001:db8:2::9"), "2001:db8:2::1");
  EXPECT_EQ(source("2001:db8:1::9"), "2001:db8:1::1");
  EXPECT_EQ(source("fe80::9"), "fe80::1") << "rule 2: the smallest scope that is enough";
  EXPECT_EQ(source("ff02::1"), "fe80::1");
  EXPECT_EQ(source("2400::1"), "2001:db8:1::1");
  EXPECT_EQ(source("fd00::9"), "fd00::1");
  EXPECT_EQ(source("2001:db8:2::1"), "2001:db8:2::1") << "rule 1";
  EXPECT_EQ(source("198.51.100.1"), "192.0.2.1");
}

TEST(SourceSelection, NoneOfTheFamily) {
  InterfaceTable table;
  table.add({.mac = kOurs, .offloads = {}, .addresses = {*Prefix::parse("192.0.2.1/24")}});
  EXPECT_EQ(table.select_source(ip("2001:db8::1"), 0), nullptr);
}

}  // namespace
}  // namespace postern
