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
    arp = std::make_unique<ArpResponder>(interfaces, neighbors);
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

}  // namespace
}  // namespace postern
