#include <gtest/gtest.h>

#include "frames.h"

namespace postern::wire {
namespace {

// Puts extension headers in front of the transport; `first` is the kind of the first of them, and
// the last of them must name the frame's protocol.
TestFrame extended(const TestFrame& base, uint8_t first, std::initializer_list<uint8_t> headers) {
  TestFrame frame = base;
  frame.insert(kL4v6, headers);
  frame.set(kIp + 6, first);
  frame.set16(kIp + 4, static_cast<uint16_t>(frame.bytes.size() - kL4v6));
  return frame;
}
TestFrame extended(uint8_t first, std::initializer_list<uint8_t> headers) {
  return extended(udp_frame(true, "extended"), first, headers);
}

TEST(ParseIpv6, ReportsTheHeader) {
  IpFields fields;
  fields.source = peer_address(true);
  fields.destination = our_address(true);
  fields.protocol = 89;
  fields.ttl = 17;
  fields.tos = 0xb9;
  fields.flow_label = 0xabcde;
  const TestFrame frame = ip_frame(fields, bytes_of("ospf"));
  const ParsedPacket p = frame.parse();
  ASSERT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.kind, PacketKind::other);
  EXPECT_EQ(p.protocol, 89);
  EXPECT_EQ(p.ttl, 17);
  EXPECT_EQ(p.tos, 0xb9);
  EXPECT_TRUE(p.is_v6);
  EXPECT_EQ(p.source, peer_address(true));
  EXPECT_EQ(p.destination, our_address(true));
  EXPECT_EQ(p.l4_offset, kL4v6);
}

TEST(ParseIpv6, TrimsPadding) {
  TestFrame frame = udp_frame(true, "x");
  frame.bytes.resize(frame.bytes.size() + 9, std::byte{0xee});
  EXPECT_EQ(frame.parse().drop, Drop::none);
  EXPECT_EQ(frame.parse().payload_length, 1U);
}

// proves: 8200-1
TEST(ParseIpv6, Malformed) {
  TestFrame version = udp_frame(true, "hello");
  version.set(kIp, 0x40);
  EXPECT_EQ(version.parse().drop, Drop::ip6_malformed);
  for (size_t n = kIp; n < kL4v6 + 13; ++n) {
    TestFrame cut = udp_frame(true, "hello");
    cut.bytes.resize(n);
    EXPECT_EQ(cut.parse().drop, Drop::ip6_malformed) << n;
  }
}

TEST(ParseIpv6, ImpossibleSources) {
  for (const char* text : {"::1", "ff02::1", "::", "192.0.2.9" /* mapped, on the wire */}) {
    TestFrame frame = udp_frame(true, "x");
    std::memcpy(&frame.bytes[kIp + 8], address(text).data(), 16);
    fix_l4_checksum(frame, true, Protocol::udp);
    EXPECT_EQ(frame.parse().drop, Drop::ip6_bad_source) << text;
  }
}

TEST(ParseIpv6, UnspecifiedSourceMayAskForItsAddress) {
  std::vector<std::byte> solicitation(24);
  write_icmp(solicitation.data(), icmp6::neighbor_solicitation, 0, 0);
  IpFields fields;
  fields.destination = address("ff02::1:ff00:1");
  fields.protocol = 58;
  fields.ttl = 255;
  finish_checksum(solicitation.data(), 8, 16, fields.source, fields.destination, Protocol::icmp6);
  EXPECT_EQ(ip_frame(fields, solicitation).parse().drop, Drop::none);
}

TEST(ParseIpv6, MappedDestinationIsNobody) {
  TestFrame frame = udp_frame(true, "x");
  std::memcpy(&frame.bytes[kIp + 24], address("192.0.2.1").data(), 16);
  EXPECT_EQ(frame.parse().drop, Drop::ip6_not_ours);
}

// proves: 8200-2, 8200-3, 8200-6, 8200-7, 8200-12, 8504-2
TEST(ParseIpv6, WalksExtensions) {
  const TestFrame frame =
      extended(0, {60, 0, 1, 4, 0,  0, 0, 0,  // hop-by-hop: PadN
                   43, 1, 0, 0, 0,  0, 1, 0, 5, 6, 7, 8,
                   0,  0, 0, 0, 17, 0, 4, 0, 0, 0, 0, 0});  // routing, nothing left
  TestFrame good = frame;
  // Destination options of 16 bytes: an unknown option of type 0x1e, which may be skipped.
  good.set(kL4v6 + 8 + 2, 0x1e);
  good.set(kL4v6 + 8 + 3, 12);
  const ParsedPacket p = good.parse();
  ASSERT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.kind, PacketKind::udp);
  EXPECT_EQ(p.protocol, 17);
  EXPECT_EQ(p.l4_offset, kL4v6 + 32);
  EXPECT_EQ(p.destination_port, 53);
}

// proves: 8200-8, 8200-11
TEST(ParseIpv6, BadExtensions) {
  EXPECT_EQ(extended(60, {0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0}).parse().drop,
            Drop::ip6_bad_extension)
      << "hop-by-hop options not first";
  EXPECT_EQ(extended(60, {17, 200, 1, 4, 0, 0, 0, 0}).parse().drop, Drop::ip6_bad_extension)
      << "longer than the packet";
  EXPECT_EQ(extended(60, {17, 0, 1, 5, 0, 0, 0, 0}).parse().drop, Drop::ip6_bad_extension)
      << "option longer than its header";
  EXPECT_EQ(extended(60, {17, 0, 1, 2, 0, 0, 0, 1}).parse().drop, Drop::ip6_bad_extension)
      << "option without a length";
  EXPECT_EQ(extended(60, {17, 0, 0x5e, 4, 0, 0, 0, 0}).parse().drop, Drop::ip6_bad_extension)
      << "unknown option that forbids to go on";
  EXPECT_EQ(extended(0, {17, 0, 0xc2, 4, 0, 1, 0, 0}).parse().drop, Drop::ip6_bad_extension)
      << "jumbo length";
  EXPECT_EQ(extended(43, {17, 0, 0, 1, 0, 0, 0, 0}).parse().drop, Drop::ip6_bad_extension)
      << "source route with stations left";
}

TEST(ParseIpv6, CutExtension) {
  for (const uint8_t kind : {0, 43, 44, 60}) {
    const TestFrame frame = ip_frame(true, kind, std::vector<std::byte>(7));
    EXPECT_EQ(frame.parse().drop, Drop::ip6_bad_extension) << int{kind};
  }
}

// proves: 8504-3
TEST(ParseIpv6, ChainIsBounded) {
  TestFrame frame = udp_frame(true, "x");
  for (int i = 1; i <= 12; ++i) {
    frame.insert(kL4v6, {frame.get(kIp + 6), 0, 1, 4, 0, 0, 0, 0});
    frame.set(kIp + 6, 60);
    frame.set16(kIp + 4, static_cast<uint16_t>(frame.bytes.size() - kL4v6));
    EXPECT_EQ(frame.parse().drop, i <= 8 ? Drop::none : Drop::ip6_bad_extension) << i;
  }
}

TEST(ParseIpv6, FragmentsEndTheChain) {
  const ParsedPacket first = extended(44, {17, 0, 0, 1, 1, 2, 3, 4}).parse();
  EXPECT_EQ(first.drop, Drop::none);
  EXPECT_TRUE(first.fragment);
  EXPECT_EQ(first.kind, PacketKind::udp);
  EXPECT_EQ(first.l4_offset, kL4v6 + 8);
  EXPECT_EQ(first.payload_length, 16U);
  EXPECT_EQ(first.source_port, 0);
  const ParsedPacket later = extended(44, {0, 0, 0x05, 0xa8, 1, 2, 3, 4}).parse();
  EXPECT_EQ(later.drop, Drop::none);
  EXPECT_TRUE(later.fragment) << "what follows is data, whatever the next header";
}

// RFC 6946
// proves: 8200-21, 8504-4
TEST(ParseIpv6, AtomicFragmentIsWhole) {
  const ParsedPacket p = extended(44, {17, 0, 0, 0, 1, 2, 3, 4}).parse();
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_FALSE(p.fragment);
  EXPECT_EQ(p.destination_port, 53);
}

TEST(ParseIpv6, ImpossibleFragments) {
  EXPECT_EQ(extended(44, {17, 0, 0xff, 0xf8, 1, 2, 3, 4}).parse().drop, Drop::ip6_bad_extension)
      << "ends beyond 65,535";
  EXPECT_EQ(extended(udp_frame(true, "odd"), 44, {17, 0, 0, 1, 1, 2, 3, 4}).parse().drop,
            Drop::ip6_bad_extension)
      << "off the grid of 8";
}

TEST(ParseIpv6, IcmpIsNoProtocolOfIpv6) {
  EXPECT_EQ(ip_frame(true, 1, std::vector<std::byte>(8)).parse().kind, PacketKind::other);
}

}  // namespace
}  // namespace postern::wire
