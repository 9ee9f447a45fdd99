#include "ip/arp.h"

#include <gtest/gtest.h>

namespace postern {
namespace {

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}}, kTheirs{{2, 0, 0, 0, 0, 2}};

class Arp : public ::testing::Test {
 protected:
  Arp() : neighbors(small()) {
    interfaces.add({.mac = kOurs, .offloads = {}, .addresses = {*Prefix::parse("10.0.0.1/24")}});
    interfaces.add({.mac = {{2, 0, 0, 0, 0, 9}},
                    .offloads = {},
                    .addresses = {*Prefix::parse("10.0.9.1/24")}});
    arp = std::make_unique<ArpResponder>(interfaces, neighbors, ArpOptions{});
  }
  ArpResponder::Answer request(const char* from, const char* to, const MacAddress& mac = kTheirs) {
    return arp->input({wire::ArpPacket::kRequest, mac, ip(from), {}, ip(to)}, 0, now);
  }
  static NeighborOptions small() {
    NeighborOptions options;
    options.entries = 16;
    return options;
  }
  InterfaceTable interfaces;
  NeighborTable neighbors;
  std::unique_ptr<ArpResponder> arp;
  Time now{10s};
};

// proves: 5227-10
TEST_F(Arp, AnswersForItsOwnAndLearnsTheAsker) {
  const auto a = request("10.0.0.2", "10.0.0.1");
  EXPECT_EQ(a.drop, Drop::none);
  ASSERT_TRUE(a.send);
  EXPECT_EQ(a.destination, kTheirs);
  EXPECT_EQ(a.packet.operation, wire::ArpPacket::kReply);
  EXPECT_EQ(a.packet.sender_mac, kOurs);
  EXPECT_EQ(a.packet.sender_ip, ip("10.0.0.1"));
  NeighborHandle h;
  EXPECT_EQ(neighbors.resolve(ip("10.0.0.2"), 0, now, &h), NeighborTable::Resolution::resolved);
}

TEST_F(Arp, SilentAboutOthersAndOtherInterfaces) {
  EXPECT_FALSE(request("10.0.0.2", "10.0.0.3").send);
  EXPECT_EQ(request("10.0.0.2", "10.0.0.3").drop, Drop::arp_not_for_us);
  EXPECT_FALSE(request("10.0.0.2", "10.0.9.1").send) << "that address is on another wire";
}

TEST_F(Arp, AProbeIsAnsweredButNotLearned) {
  EXPECT_TRUE(request("0.0.0.0", "10.0.0.1").send);
  EXPECT_EQ(neighbors.size(), 0u);
}

TEST_F(Arp, SendersOffTheLinkAreNotLearned) {
  request("192.0.2.5", "10.0.0.1");
  request("10.0.0.255", "10.0.0.1");
  EXPECT_EQ(neighbors.size(), 0u);
}

// proves: 5227-8, 5227-9
TEST_F(Arp, ConflictIsNamedAndRefutedOnceInTenSeconds) {
  auto a = request("10.0.0.1", "10.0.0.1");
  EXPECT_EQ(a.drop, Drop::arp_conflict);
  ASSERT_TRUE(a.send);
  EXPECT_TRUE(a.destination.is_broadcast());
  EXPECT_EQ(a.packet.sender_ip, a.packet.target_ip);
  now += 9s;
  EXPECT_FALSE(request("10.0.0.1", "10.0.0.7").send);
  now += 2s;
  EXPECT_TRUE(request("10.0.0.1", "10.0.0.7").send);
}

TEST_F(Arp, OurOwnFrameReflectedIsNoConflict) {
  EXPECT_EQ(request("10.0.0.1", "10.0.0.1", kOurs).drop, Drop::arp_not_for_us);
}

TEST_F(Arp, OnlyAnAnswerToOurQuestionMakesReachable) {
  NeighborHandle h;
  neighbors.resolve(ip("10.0.0.2"), 0, now, &h);
  arp->input({wire::ArpPacket::kReply, kTheirs, ip("10.0.0.2"), kOurs, ip("10.0.0.1")}, 0, now);
  EXPECT_EQ(neighbors.view(h.index, now).state, NeighborState::reachable);
}

// proves: 5227-7
TEST_F(Arp, AnnouncesEachAddressTwice) {
  ArpResponder::Announcement out;
  int n = 0;
  while (arp->next_announcement(now, &out)) ++n;
  EXPECT_EQ(n, 2);
  EXPECT_EQ(arp->next_deadline(), now + 2s);
  now += 2s;
  while (arp->next_announcement(now, &out)) ++n;
  EXPECT_EQ(n, 4);
  EXPECT_EQ(arp->next_deadline(), kNever);
}

// ---- is the address free? ----

class ArpProbes : public Arp {
 protected:
  ArpProbes() {
    interfaces.reserve(0, 1);
    arp = std::make_unique<ArpResponder>(interfaces, neighbors,
                                         ArpOptions{.probes = 3, .speaks = true, .seed = 4});
    arp->add(*Prefix::parse("10.0.0.50/24"), 0);
    pass(0s);
  }
  // What is sent about the new address in that time.
  std::vector<std::pair<Time, wire::ArpPacket>> pass(Duration time) {
    std::vector<std::pair<Time, wire::ArpPacket>> sent;
    for (const Time end = now + time;; now += 10ms) {
      ArpResponder::Announcement out;
      while (arp->next_announcement(now, &out)) {
        if (out.packet.target_ip == ip("10.0.0.50")) sent.emplace_back(now, out.packet);
      }
      if (now >= end) return sent;
    }
  }
  AddressState state() { return arp->view(arp->size() - 1).state; }
  bool is_ours() { return interfaces.is_local(ip("10.0.0.50")); }
};

// proves: 5227-1, 5227-2, 5227-3, 5227-6, 5227-7
TEST_F(ArpProbes, AddressIsOursAfterThreeQuestions) {
  const Time begin = now;
  const auto sent = pass(12s);
  ASSERT_EQ(sent.size(), 5u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(sent[i].second.sender_ip.is_any());
    EXPECT_EQ(sent[i].second.operation, wire::ArpPacket::kRequest);
    EXPECT_EQ(sent[i].second.sender_mac, kOurs);
  }
  EXPECT_LE(sent[0].first - begin, 1s);
  for (int i = 1; i < 3; ++i) {
    EXPECT_GE(sent[i].first - sent[i - 1].first, 1s);
    EXPECT_LE(sent[i].first - sent[i - 1].first, 2s + 10ms);
  }
  EXPECT_GE(sent[3].first - sent[2].first, 2s) << "ANNOUNCE_WAIT";
  for (int i = 3; i < 5; ++i) EXPECT_EQ(sent[i].second.sender_ip, ip("10.0.0.50")) << "announced";
  EXPECT_EQ(state(), AddressState::preferred);
  EXPECT_TRUE(is_ours());
  EXPECT_TRUE(request("10.0.0.2", "10.0.0.50").send);
}

TEST_F(ArpProbes, TentativeAddressIsNotAnsweredFor) {
  pass(3s);
  EXPECT_EQ(state(), AddressState::tentative);
  EXPECT_FALSE(request("10.0.0.2", "10.0.0.50").send);
  EXPECT_FALSE(is_ours());
}

// proves: 5227-4, 5227-5
TEST_F(ArpProbes, AnotherHostThatHasItKeepsIt) {
  pass(2s);
  const auto a =
      arp->input({wire::ArpPacket::kReply, kTheirs, ip("10.0.0.50"), kOurs, ip("0.0.0.0")}, 0, now);
  EXPECT_EQ(a.drop, Drop::arp_conflict);
  EXPECT_FALSE(a.send);
  EXPECT_TRUE(pass(20s).empty());
  EXPECT_EQ(state(), AddressState::duplicate);
  EXPECT_FALSE(is_ours());
  EXPECT_FALSE(request("10.0.0.2", "10.0.0.50").send);
}

// proves: 5227-4
TEST_F(ArpProbes, AnotherHostThatAsksForItToo) {
  pass(2s);
  EXPECT_EQ(request("0.0.0.0", "10.0.0.50").drop, Drop::arp_conflict);
  pass(20s);
  EXPECT_EQ(state(), AddressState::duplicate);
}

// proves: 5227-4
TEST_F(ArpProbes, OurOwnProbeComingBackIsNoConflict) {
  pass(2s);
  EXPECT_EQ(request("0.0.0.0", "10.0.0.50", kOurs).drop, Drop::arp_not_for_us);
  pass(20s);
  EXPECT_EQ(state(), AddressState::preferred);
}

TEST_F(ArpProbes, SilentWorkersGoTheSameWay) {
  arp = std::make_unique<ArpResponder>(interfaces, neighbors,
                                       ArpOptions{.probes = 3, .speaks = false, .seed = 9});
  arp->add(*Prefix::parse("10.0.0.50/24"), 0);
  EXPECT_TRUE(pass(20s).empty());
  EXPECT_EQ(state(), AddressState::preferred);
  EXPECT_TRUE(is_ours());
}

}  // namespace
}  // namespace postern
