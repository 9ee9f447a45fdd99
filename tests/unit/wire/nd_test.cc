// Neighbor discovery on the wire: RFC 4861 7.1.
#include "wire/nd.h"

#include <gtest/gtest.h>

#include "frames.h"

namespace postern::wire {
namespace {

const IpAddress kTarget = address("2001:db8::1");
const IpAddress kGroup = address("ff02::1:ff00:1");

TestFrame nd_frame(const NdMessage& message, const IpAddress& source, const IpAddress& destination,
                   uint8_t ttl = 255) {
  std::vector<std::byte> icmp(kMaxNdMessage);
  icmp.resize(write_nd(icmp.data(), message));
  finish_checksum(icmp.data(), icmp.size(), 0, source, destination, Protocol::icmp6);
  return ip_frame({.source = source,
                   .destination = destination,
                   .protocol = 58,
                   .ttl = ttl,
                   .payload_length = static_cast<uint32_t>(icmp.size())},
                  icmp);
}

NdMessage solicitation(bool with_mac = true) {
  return {.has_mac = with_mac, .target = kTarget, .mac = kPeerMac};
}

NdMessage advertisement() {
  return {.type = icmp6::neighbor_advertisement,
          .router = true,
          .override_known = true,
          .has_mac = true,
          .target = kTarget,
          .mac = kPeerMac};
}

Drop read(const TestFrame& frame, NdMessage* out) {
  const ParsedPacket parsed = frame.parse();
  EXPECT_EQ(parsed.drop, Drop::none);
  return read_nd(frame.packet(), parsed, out);
}

TEST(NeighborMessage, SolicitationIsReadAsWritten) {
  NdMessage out;
  ASSERT_EQ(read(nd_frame(solicitation(), peer_address(true), kGroup), &out), Drop::none);
  EXPECT_EQ(out.type, icmp6::neighbor_solicitation);
  EXPECT_EQ(out.target, kTarget);
  EXPECT_TRUE(out.has_mac);
  EXPECT_EQ(out.mac, kPeerMac);
}

TEST(NeighborMessage, AdvertisementIsReadAsWritten) {
  NdMessage out;
  ASSERT_EQ(read(nd_frame(advertisement(), kTarget, peer_address(true)), &out), Drop::none);
  EXPECT_EQ(out.type, icmp6::neighbor_advertisement);
  EXPECT_TRUE(out.router);
  EXPECT_FALSE(out.solicited);
  EXPECT_TRUE(out.override_known);
  EXPECT_EQ(out.mac, kPeerMac);
}

// RFC 4861 7.1.1, 7.1.2: hop limit 255 proves that no router has forwarded it.
// proves: 4861-12, 4861-14
TEST(NeighborMessage, FromBeyondARouter) {
  NdMessage out;
  EXPECT_EQ(read(nd_frame(solicitation(), peer_address(true), kGroup, 254), &out),
            Drop::nd_bad_hop_limit);
  EXPECT_EQ(read(nd_frame(advertisement(), kTarget, kGroup, 64), &out), Drop::nd_bad_hop_limit);
}

// proves: 4861-13
TEST(NeighborMessage, DuplicateDetectionAsksWithoutAnAddress) {
  NdMessage out;
  const IpAddress nobody;
  EXPECT_EQ(read(nd_frame(solicitation(false), nobody, kGroup), &out), Drop::none);
  EXPECT_FALSE(out.has_mac);
  EXPECT_EQ(read(nd_frame(solicitation(true), nobody, kGroup), &out), Drop::nd_malformed);
  EXPECT_EQ(read(nd_frame(solicitation(false), nobody, our_address(true)), &out),
            Drop::nd_malformed);
}

// proves: 4861-12
TEST(NeighborMessage, ImpossibleTargets) {
  NdMessage out;
  NdMessage m = solicitation();
  m.target = address("ff02::1");
  EXPECT_EQ(read(nd_frame(m, peer_address(true), kGroup), &out), Drop::nd_malformed);
  m.target = address("192.0.2.1");
  EXPECT_EQ(read(nd_frame(m, peer_address(true), kGroup), &out), Drop::nd_malformed);
}

// proves: 4861-14
TEST(NeighborMessage, SolicitedAnswersAreNotForGroups) {
  NdMessage out;
  NdMessage m = advertisement();
  m.solicited = true;
  EXPECT_EQ(read(nd_frame(m, kTarget, address("ff02::1")), &out), Drop::nd_malformed);
}

// Each option's length byte, spoiled: zero, beyond the message, two units where one is right.
// proves: 4861-12
TEST(NeighborMessage, OptionLengths) {
  constexpr size_t kOption = kL4v6 + 24;
  for (const uint8_t length : {0, 2, 255}) {
    TestFrame frame = nd_frame(solicitation(), peer_address(true), our_address(true));
    frame.set(kOption + 1, length);
    fix_l4_checksum(frame, true, Protocol::icmp6);
    NdMessage out;
    EXPECT_EQ(read(frame, &out), Drop::nd_malformed) << int{length};
  }
}

// proves: 4861-15
TEST(NeighborMessage, UnknownOptionsAreSkipped) {
  TestFrame frame = nd_frame(solicitation(), peer_address(true), our_address(true));
  frame.set(kL4v6 + 24, 14);  // nonce, RFC 3971
  fix_l4_checksum(frame, true, Protocol::icmp6);
  NdMessage out;
  EXPECT_EQ(read(frame, &out), Drop::none);
  EXPECT_FALSE(out.has_mac);
}

TEST(NeighborMessage, GroupMacInAnOption) {
  NdMessage m = solicitation();
  m.mac = {{0x33, 0x33, 0, 0, 0, 1}};
  NdMessage out;
  EXPECT_EQ(read(nd_frame(m, peer_address(true), kGroup), &out), Drop::nd_malformed);
}

// proves: 4861-12, 4861-14
TEST(NeighborMessage, CodeAndTruncation) {
  TestFrame frame = nd_frame(solicitation(), peer_address(true), our_address(true));
  frame.set(kL4v6 + 1, 1);
  fix_l4_checksum(frame, true, Protocol::icmp6);
  NdMessage out;
  EXPECT_EQ(read(frame, &out), Drop::nd_malformed);
  std::vector<std::byte> icmp(20);
  write_icmp(icmp.data(), icmp6::neighbor_solicitation, 0, 0);
  finish_checksum(icmp.data(), icmp.size(), 0, peer_address(true), kGroup, Protocol::icmp6);
  const TestFrame cut = ip_frame({.source = peer_address(true),
                                  .destination = kGroup,
                                  .protocol = 58,
                                  .ttl = 255,
                                  .payload_length = 20},
                                 icmp);
  EXPECT_EQ(read(cut, &out), Drop::nd_malformed);
}

}  // namespace
}  // namespace postern::wire
