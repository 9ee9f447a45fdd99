#include <gtest/gtest.h>

#include "frames.h"

namespace postern::wire {
namespace {

// A UDP frame with IPv4 options in front of the transport, checksums right.
TestFrame with_options(std::initializer_list<uint8_t> options) {
  TestFrame frame = udp_frame(false, "options");
  frame.insert(kL4v4, options);
  frame.set(kIp, static_cast<uint8_t>(0x40 | (5 + options.size() / 4)));
  frame.set16(kIp + 2, static_cast<uint16_t>(frame.bytes.size() - kIp));
  fix_ipv4_checksum(frame);
  return frame;
}

TEST(ParseIpv4, ReportsTheHeader) {
  IpFields fields;
  fields.source = peer_address(false);
  fields.destination = our_address(false);
  fields.protocol = 89;
  fields.ttl = 17;
  fields.tos = 0xb9;
  const TestFrame frame = ip_frame(fields, bytes_of("ospf"));
  const ParsedPacket p = frame.parse();
  ASSERT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.kind, PacketKind::other);
  EXPECT_EQ(p.protocol, 89);
  EXPECT_EQ(p.ttl, 17);
  EXPECT_EQ(p.tos, 0xb9);
  EXPECT_FALSE(p.is_v6);
  EXPECT_FALSE(p.fragment);
  EXPECT_EQ(p.source, peer_address(false));
  EXPECT_EQ(p.destination, our_address(false));
  EXPECT_EQ(p.l4_offset, kL4v4);
  EXPECT_EQ(p.payload_length, 4U);
}

TEST(ParseIpv4, TrimsPadding) {
  TestFrame frame = udp_frame(false, "x");
  frame.bytes.resize(60, std::byte{0xee});
  const ParsedPacket p = frame.parse();
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.payload_length, 1U);
}

// proves: 1122-6
TEST(ParseIpv4, Malformed) {
  const auto change = [](size_t at, uint8_t value) {
    TestFrame frame = udp_frame(false, "hello");
    frame.set(at, value);
    fix_ipv4_checksum(frame);
    return frame.parse().drop;
  };
  EXPECT_EQ(change(kIp, 0x65), Drop::ip4_malformed) << "version";
  EXPECT_EQ(change(kIp, 0x44), Drop::ip4_malformed) << "header length below 20";
  EXPECT_EQ(change(kIp, 0x4f), Drop::ip4_malformed) << "header longer than the packet";
  EXPECT_EQ(change(kIp + 3, 19), Drop::ip4_malformed) << "total below the header";
  EXPECT_EQ(change(kIp + 3, 34), Drop::ip4_malformed) << "total beyond the frame";
  for (size_t n = kIp; n < kL4v4 + 13; ++n) {
    TestFrame cut = udp_frame(false, "hello");
    cut.bytes.resize(n);
    EXPECT_EQ(cut.parse().drop, Drop::ip4_malformed) << n;
  }
}

// proves: 1122-7
TEST(ParseIpv4, Checksum) {
  for (size_t i = 0; i < 20; ++i) {
    if (i == 0 || i == 2 || i == 3) continue;  // lengths and version are judged first
    TestFrame frame = udp_frame(false, "hello");
    frame.set(kIp + i, frame.get(kIp + i) ^ 0x20);
    EXPECT_EQ(frame.parse().drop, Drop::ip4_bad_checksum) << i;
  }
}

TEST(ParseIpv4, DeviceVerdictDecides) {
  TestFrame frame = udp_frame(false, "hello");
  frame.meta.ip_checksum = ChecksumVerdict::bad;
  EXPECT_EQ(frame.parse().drop, Drop::ip4_bad_checksum);
  frame.meta.ip_checksum = ChecksumVerdict::good;
  frame.set16(kIp + 10, 0);
  EXPECT_EQ(frame.parse().drop, Drop::none) << "trusted, not recomputed";
}

// proves: MUST-63, 1122-9, 1122-46, 1812-11
TEST(ParseIpv4, ImpossibleSources) {
  for (const char* text :
       {"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255"}) {
    IpFields fields;
    fields.source = address(text);
    fields.destination = our_address(false);
    fields.protocol = 89;
    EXPECT_EQ(ip_frame(fields, bytes_of("x")).parse().drop, Drop::ip4_bad_source) << text;
  }
}

// proves: MUST-50, 1122-16
TEST(ParseIpv4, AcceptsHarmlessOptions) {
  const auto timestamp = with_options({68, 8, 5, 0, 0, 0, 0, 0});
  EXPECT_EQ(timestamp.parse().drop, Drop::none);
  EXPECT_EQ(timestamp.parse().l4_offset, kL4v4 + 8);
  EXPECT_EQ(timestamp.parse().payload_length, 7U);
  EXPECT_EQ(with_options({1, 1, 148, 4, 0, 0, 0, 0}).parse().drop, Drop::none)
      << "router alert, end of list";
  EXPECT_EQ(with_options({0, 131, 3, 4}).parse().drop, Drop::none)
      << "nothing counts after the end";
}

// proves: 1122-37
TEST(ParseIpv4, RefusesSourceRoutes) {
  EXPECT_EQ(with_options({131, 7, 4, 10, 0, 0, 1, 0}).parse().drop, Drop::ip4_bad_option);
  EXPECT_EQ(with_options({1, 137, 7, 4, 10, 0, 0, 1}).parse().drop, Drop::ip4_bad_option);
}

TEST(ParseIpv4, RefusesBadOptionLengths) {
  EXPECT_EQ(with_options({7, 0, 0, 0}).parse().drop, Drop::ip4_bad_option);
  EXPECT_EQ(with_options({7, 1, 0, 0}).parse().drop, Drop::ip4_bad_option);
  EXPECT_EQ(with_options({7, 5, 0, 0}).parse().drop, Drop::ip4_bad_option);
  EXPECT_EQ(with_options({1, 1, 1, 7}).parse().drop, Drop::ip4_bad_option) << "no length at all";
}

TestFrame fragment(uint16_t offset, bool more, size_t length) {
  IpFields fields;
  fields.source = peer_address(false);
  fields.destination = our_address(false);
  fields.protocol = 17;
  fields.dont_fragment = false;
  fields.fragment_offset = offset;
  fields.more_fragments = more;
  return ip_frame(fields, std::vector<std::byte>(length));
}

TEST(ParseIpv4, FragmentsAreFlaggedAndNotReadFurther) {
  for (const TestFrame& frame :
       {fragment(0, true, 64), fragment(64, true, 64), fragment(64, false, 3)}) {
    const ParsedPacket p = frame.parse();
    EXPECT_EQ(p.drop, Drop::none);
    EXPECT_TRUE(p.fragment);
    EXPECT_EQ(p.kind, PacketKind::udp);
    EXPECT_EQ(p.source_port, 0);
    EXPECT_EQ(p.payload_offset, p.l4_offset);
    EXPECT_EQ(p.payload_length, frame.bytes.size() - kL4v4);
  }
}

TEST(ParseIpv4, ImpossibleFragments) {
  EXPECT_EQ(fragment(65528, false, 8).parse().drop, Drop::ip4_malformed) << "beyond 65,535";
  EXPECT_EQ(fragment(65528, false, 7).parse().drop, Drop::none);
  EXPECT_EQ(fragment(0, true, 63).parse().drop, Drop::ip4_malformed) << "off the grid of 8";
  EXPECT_EQ(fragment(8, true, 0).parse().drop, Drop::ip4_malformed) << "empty";
}

TEST(ParseIpv4, Icmp6IsNoProtocolOfIpv4) {
  const TestFrame frame = ip_frame(false, 58, std::vector<std::byte>(8));
  EXPECT_EQ(frame.parse().kind, PacketKind::other);
}

}  // namespace
}  // namespace postern::wire
