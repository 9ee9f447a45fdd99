#include "dataplane/steering.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "frames.h"

namespace postern {
namespace {

using test::Frame;
constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}}, kTheirs{{2, 0, 0, 0, 0, 2}};
constexpr uint32_t kServer = 0x0a000001, kClient = 0x0a000002;
constexpr uint32_t kWorkers = 5;

Frame tcp(uint32_t from, uint32_t to, uint16_t from_port, uint16_t to_port) {
  return test::ipv4(kOurs, kTheirs, from, to, 6, test::tcp_header(from_port, to_port));
}

TEST(Steering, BothDirectionsOfAFlowMeetItsOwner) {
  for (uint16_t port = 1024; port < 1524; ++port) {
    const uint32_t owner =
        owner_of({IpAddress::v4(kServer), 80}, {IpAddress::v4(kClient), port}, kWorkers);
    EXPECT_LT(owner, kWorkers);
    EXPECT_EQ(steer(tcp(kClient, kServer, port, 80), kWorkers), owner);
    EXPECT_EQ(steer(tcp(kServer, kClient, 80, port), kWorkers), owner);
  }
}

TEST(Steering, VlanTagsAreSteppedOver) {
  Frame f = tcp(kClient, kServer, 4711, 80);
  const uint32_t owner = steer(f, kWorkers);
  const Frame tag = [] {
    Frame t;
    test::put(t, {0x81, 0, 0, 42});
    return t;
  }();
  f.insert(f.begin() + 12, tag.begin(), tag.end());
  EXPECT_EQ(steer(f, kWorkers), owner);
}

TEST(Steering, AllFragmentsOfAPacketMeet) {
  // The first has ports, the others have payload there.
  for (uint16_t port = 1; port < 100; ++port) {
    const Frame first =
        test::ipv4(kOurs, kTheirs, kClient, kServer, 17, test::tcp_header(port, 53), 0x2000);
    const Frame last =
        test::ipv4(kOurs, kTheirs, kClient, kServer, 17, test::tcp_header(99, port), 0x00b9);
    EXPECT_EQ(steer(first, kWorkers), steer(last, kWorkers));
  }
}

TEST(Steering, AnIcmpErrorFollowsTheFlowItQuotes) {
  for (uint16_t port = 1024; port < 1124; ++port) {
    const Frame sent = tcp(kServer, kClient, 80, port);
    Frame error;
    test::put(error, {3, 4, 0, 0, 0, 0, 5, 0});
    error.insert(error.end(), sent.begin() + 14, sent.begin() + 14 + 28);
    const Frame f = test::ipv4(kOurs, kTheirs, 0x0a0000fe, kServer, 1, error);
    EXPECT_EQ(steer(f, kWorkers), steer(sent, kWorkers));
  }
}

// Worker 0 reports which groups the host is in, so it has to hear the questions.
TEST(Steering, GroupMessagesGoToWhoSpeaksForTheHost) {
  const uint32_t all_hosts = 0xe0000001;
  for (uint32_t router = 0x0a000000; router < 0x0a000040; ++router) {
    Frame query;
    test::put(query, {0x11, 10, 0, 0, 0, 0, 0, 0});
    EXPECT_EQ(steer(test::ipv4(kOurs, kTheirs, router, all_hosts, 2, query), kWorkers), 0U);
  }
}

TEST(Steering, RequestsGoToWorkerZeroAndLessonsToEveryone) {
  EXPECT_EQ(
      steer(test::ipv4(kOurs, kTheirs, kClient, kServer, 1, test::icmp_echo(1, 1, 8)), kWorkers),
      0U);
  EXPECT_EQ(steer(test::arp(1, {{255, 255, 255, 255, 255, 255}}, kTheirs, kClient, {}, kServer),
                  kWorkers),
            kSteerEveryone);
  const uint8_t a[16] = {0xfe, 0x80, 1}, b[16] = {0xfe, 0x80, 2};
  const auto icmp6 = [&](unsigned type) {
    Frame p;
    test::put(p, {type, 0, 0, 0, 0, 0, 0, 0});
    return test::ipv6(IpAddress::v6(a), IpAddress::v6(b), 58, p);
  };
  EXPECT_EQ(steer(icmp6(135), kWorkers), kSteerEveryone);  // solicitation
  EXPECT_EQ(steer(icmp6(136), kWorkers), kSteerEveryone);  // advertisement
  EXPECT_EQ(steer(icmp6(128), kWorkers), 0U);              // echo
}

TEST(Steering, Ipv6ExtensionHeadersAreWalked) {
  const uint8_t a[16] = {0x20, 1, 0xd, 0xb8, 1}, b[16] = {0x20, 1, 0xd, 0xb8, 2};
  const IpAddress from = IpAddress::v6(a), to = IpAddress::v6(b);
  Frame plain = test::tcp_header(4000, 443);
  Frame extended;
  test::put(extended, {6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});  // 16 bytes of options
  extended.insert(extended.end(), plain.begin(), plain.end());
  const uint32_t owner = owner_of({from, 4000}, {to, 443}, kWorkers);
  EXPECT_EQ(steer(test::ipv6(from, to, 6, plain), kWorkers), owner);
  EXPECT_EQ(steer(test::ipv6(from, to, 60, extended), kWorkers), owner);
}

TEST(Steering, ReadsNothingBeyondTheFrame) {  // the sanitizers watch
  Random random(3);
  const uint8_t a[16] = {0x20, 1}, b[16] = {0x20, 2};
  std::vector<Frame> seeds = {
      tcp(kClient, kServer, 1, 2),
      test::ipv6(IpAddress::v6(a), IpAddress::v6(b), 0, test::icmp_echo(1, 1, 40)),
      test::arp(1, kOurs, kTheirs, kClient, {}, kServer)};
  Frame quoting;
  test::put(quoting, {11, 0, 0, 0, 0, 0, 0, 0});
  quoting.insert(quoting.end(), seeds[0].begin() + 14, seeds[0].end());
  seeds.push_back(test::ipv4(kOurs, kTheirs, kClient, kServer, 1, quoting));
  for (const Frame& seed : seeds) {
    for (size_t cut = 0; cut <= seed.size(); ++cut) {
      for (int round = 0; round < 8; ++round) {
        Frame f(seed.begin(), seed.begin() + static_cast<ptrdiff_t>(cut));  // its own allocation
        for (int flips = 0; flips < round && !f.empty(); ++flips) {
          f[random.below(f.size())] = static_cast<std::byte>(random());
        }
        const uint32_t target = steer(f, kWorkers);
        EXPECT_TRUE(target < kWorkers || target == kSteerHere || target == kSteerEveryone);
        answer_not(f, kOurs);
      }
    }
  }
}

TEST(Steering, OnlyWorkerZeroIsAsked) {
  Frame request = test::arp(1, kOurs, kTheirs, kClient, {}, kServer);
  answer_not(request, kOurs);
  EXPECT_EQ(request, test::arp(2, kOurs, kTheirs, kClient, kOurs, kServer));
  Frame other = tcp(kClient, kServer, 5, 6);
  const Frame before = other;
  answer_not(other, kOurs);
  EXPECT_EQ(other, before);
}

}  // namespace
}  // namespace postern
