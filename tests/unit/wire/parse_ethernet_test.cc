#include <gtest/gtest.h>

#include "frames.h"
#include "wire/arp.h"

namespace postern::wire {
namespace {

ArpPacket request() {
  return {ArpPacket::kRequest, kPeerMac, peer_address(false), MacAddress{}, our_address(false)};
}

TEST(ParseEthernet, TooShort) {
  for (size_t n = 0; n < 14; ++n) {
    TestFrame frame = udp_frame(false, "x");
    frame.bytes.resize(n);
    EXPECT_EQ(frame.parse().drop, Drop::frame_too_short) << n;
  }
}

TEST(ParseEthernet, MulticastSource) {
  TestFrame frame = udp_frame(false, "x");
  frame.set(6, 0x03);
  EXPECT_EQ(frame.parse().drop, Drop::eth_bad_source);
}

// proves: 1122-4
TEST(ParseEthernet, UnknownTypes) {
  for (const uint16_t type : {0x0000, 0x0026, 0x88cc, 0x88a8, 0x8137}) {
    TestFrame frame = udp_frame(false, "x");
    frame.set16(12, type);
    EXPECT_EQ(frame.parse().drop, Drop::eth_unknown_type) << type;
  }
}

TEST(ParseEthernet, ReportsAddressesAndInterface) {
  TestFrame frame = udp_frame(false, "x");
  frame.meta.interface = 7;
  const ParsedPacket p = frame.parse();
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.mac_source, kPeerMac);
  EXPECT_EQ(p.mac_destination, kOurMac);
  EXPECT_EQ(p.interface, 7);
  EXPECT_EQ(p.vlan, 0);
  EXPECT_EQ(p.l3_offset, kIp);
}

TEST(ParseVlan, InlineTag) {
  TestFrame frame = udp_frame(false, "tagged");
  frame.insert(12, {0x81, 0x00, 0xa0, 0x64});  // priority 5, identifier 100
  const ParsedPacket p = frame.parse();
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.vlan, 100);
  EXPECT_EQ(p.l3_offset, 18);
  EXPECT_EQ(p.payload_length, 6U);
}

TEST(ParseVlan, StrippedTag) {
  TestFrame frame = udp_frame(false, "tagged");
  frame.meta.vlan = 0xa064;
  EXPECT_EQ(frame.parse().drop, Drop::none);
  EXPECT_EQ(frame.parse().vlan, 100);
}

TEST(ParseVlan, PriorityTagIsUntagged) {
  TestFrame frame = udp_frame(false, "x");
  frame.insert(12, {0x81, 0x00, 0xe0, 0x00});
  EXPECT_EQ(frame.parse().drop, Drop::none);
  EXPECT_EQ(frame.parse().vlan, 0);
}

TEST(ParseVlan, DoubleAndReservedTagsAreUnknown) {
  TestFrame doubled = udp_frame(false, "x");
  doubled.insert(12, {0x81, 0x00, 0x00, 0x01, 0x81, 0x00, 0x00, 0x02});
  EXPECT_EQ(doubled.parse().drop, Drop::vlan_unknown);
  TestFrame both = udp_frame(false, "x");
  both.insert(12, {0x81, 0x00, 0x00, 0x01});
  both.meta.vlan = 2;
  EXPECT_EQ(both.parse().drop, Drop::vlan_unknown);
  TestFrame reserved = udp_frame(false, "x");
  reserved.insert(12, {0x81, 0x00, 0x0f, 0xff});
  EXPECT_EQ(reserved.parse().drop, Drop::vlan_unknown);
}

TEST(ParseVlan, CutTag) {
  TestFrame frame = udp_frame(false, "x");
  frame.insert(12, {0x81, 0x00, 0x00, 0x01});
  frame.bytes.resize(17);
  EXPECT_EQ(frame.parse().drop, Drop::frame_too_short);
}

TEST(ParseArp, RoundTrip) {
  const TestFrame frame = arp_frame(request());
  const ParsedPacket p = frame.parse();
  ASSERT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.kind, PacketKind::arp);
  const ArpPacket arp = read_arp(frame.packet(), p);
  EXPECT_EQ(arp.operation, ArpPacket::kRequest);
  EXPECT_EQ(arp.sender_mac, kPeerMac);
  EXPECT_EQ(arp.sender_ip, peer_address(false));
  EXPECT_TRUE(arp.target_mac.is_zero());
  EXPECT_EQ(arp.target_ip, our_address(false));
}

TEST(ParseArp, ProbeIsAccepted) {
  ArpPacket probe = request();
  probe.sender_ip = IpAddress::v4(0);
  EXPECT_EQ(arp_frame(probe).parse().drop, Drop::none);
}

TEST(ParseArp, Malformed) {
  struct Change {
    size_t at;
    uint8_t value;
  };
  // Hardware type, protocol type, lengths, operation, sender MAC, sender IP.
  for (const auto& [at, value] :
       {Change{15, 6}, Change{16, 0x86}, Change{18, 8}, Change{19, 16}, Change{21, 3},
        Change{21, 0}, Change{22, 0xff}, Change{28, 127}, Change{28, 239}}) {
    TestFrame frame = arp_frame(request());
    frame.set(at, value);
    EXPECT_EQ(frame.parse().drop, Drop::arp_malformed) << at;
  }
  TestFrame no_sender = arp_frame(request());
  for (size_t i = 22; i < 28; ++i) no_sender.set(i, 0);
  EXPECT_EQ(no_sender.parse().drop, Drop::arp_malformed);
  for (size_t n = 14; n < 42; ++n) {
    TestFrame cut = arp_frame(request());
    cut.bytes.resize(n);
    EXPECT_EQ(cut.parse().drop, Drop::arp_malformed) << n;
  }
}

TEST(ParseBurst, EqualsParsingOneByOne) {
  std::vector<TestFrame> frames;
  for (int i = 0; i < 37; ++i) {
    frames.push_back(i % 3 == 0 ? arp_frame(request()) : udp_frame(i % 2 == 0, "burst"));
  }
  frames[5].bytes.resize(3);
  std::vector<RxPacket> burst;
  for (const TestFrame& frame : frames) burst.push_back(frame.packet());
  std::vector<ParsedPacket> out(burst.size());
  for (size_t n : {size_t{0}, size_t{1}, size_t{3}, burst.size()}) {
    std::fill(out.begin(), out.end(), ParsedPacket{});
    parse_burst({burst.data(), n}, out.data());
    for (size_t i = 0; i < n; ++i) {
      const ParsedPacket alone = parse(burst[i]);
      EXPECT_EQ(out[i].drop, alone.drop);
      EXPECT_EQ(out[i].kind, alone.kind);
      EXPECT_EQ(out[i].payload_offset, alone.payload_offset);
      EXPECT_EQ(out[i].source, alone.source);
    }
  }
}

}  // namespace
}  // namespace postern::wire
