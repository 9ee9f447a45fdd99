// Writers, seen through the parser and against known bytes.
#include "wire/build.h"

#include <gtest/gtest.h>

#include "base/checksum.h"
#include "base/random.h"
#include "frames.h"

namespace postern::wire {
namespace {

std::vector<std::byte> hex(std::string_view text) {
  std::vector<std::byte> out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<std::byte>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

// proves: 1122-4, 8504-1
TEST(WriteEthernet, PlainAndTagged) {
  std::vector<std::byte> out(18);
  EXPECT_EQ(write_ethernet(out.data(), kOurMac, kPeerMac, ether_type::ipv4), 14U);
  EXPECT_EQ(std::vector(out.begin(), out.begin() + 14), hex("0200000000010200000000020800"));
  EXPECT_EQ(write_ethernet(out.data(), kOurMac, kPeerMac, ether_type::ipv6, 100), 18U);
  EXPECT_EQ(out, hex("0200000000010200000000028100006486dd"));
}

// A header from the literature (checksum b861), so that writer and parser cannot agree on a
// mistake.
TEST(WriteIpv4, KnownBytes) {
  IpFields fields;
  fields.source = address("192.168.0.1");
  fields.destination = address("192.168.0.199");
  fields.protocol = 17;
  fields.payload_length = 0x73 - 20;
  std::vector<std::byte> out(20);
  EXPECT_EQ(write_ip(out.data(), fields), 20U);
  EXPECT_EQ(out, hex("450000730000400040"
                     "11b861c0a80001c0a800c7"));
  fields.offload_checksum = true;
  write_ip(out.data(), fields);
  EXPECT_EQ(out[10], std::byte{0});
  EXPECT_EQ(out[11], std::byte{0});
}

TEST(WriteIpv6, KnownBytes) {
  IpFields fields;
  fields.source = address("2001:db8::1");
  fields.destination = address("2001:db8::2");
  fields.protocol = 6;
  fields.tos = 0xa5;
  fields.flow_label = 0x12345;
  fields.ttl = 63;
  fields.payload_length = 20;
  std::vector<std::byte> out(40);
  EXPECT_EQ(write_ip(out.data(), fields), 40U);
  EXPECT_EQ(out, hex("6a5123450014063f20010db800000000000000000000000120010db8"
                     "000000000000000000000002"));
}

// proves: MUST-69
TEST(WriteTcp, LinuxSynLayout) {
  TcpSegment s;
  s.flags = tcp_flag::syn;
  s.has_mss = true;
  s.mss = 1460;
  s.sack_permitted = true;
  s.has_timestamps = true;
  s.ts_value = 0x11223344;
  s.has_window_scale = true;
  s.window_scale = 7;
  ASSERT_EQ(tcp_header_length(s), 40U);
  std::vector<std::byte> out(40);
  EXPECT_EQ(write_tcp(out.data(), 0x1234, 0x5678, s), 40U);
  EXPECT_EQ(std::vector(out.begin() + 20, out.end()), hex("020405b4"
                                                          "0402080a1122334400000000"
                                                          "01030307"));
  EXPECT_EQ(out[12], std::byte{0xa0});
}

TEST(WriteTcp, EstablishedLayouts) {
  TcpSegment s;
  s.flags = tcp_flag::ack;
  EXPECT_EQ(tcp_header_length(s), 20U);
  s.has_timestamps = true;
  s.ts_value = 1;
  s.ts_echo = 2;
  std::vector<std::byte> out(60);
  EXPECT_EQ(write_tcp(out.data(), 1, 2, s), 32U);
  EXPECT_EQ(std::vector(out.begin() + 20, out.begin() + 32), hex("0101080a0000000100000002"));
  s.sack_count = 4;
  for (uint32_t i = 0; i < 4; ++i) s.sack[i] = {i, i + 1};
  EXPECT_EQ(tcp_header_length(s), 60U) << "three blocks beside timestamps";
  write_tcp(out.data(), 1, 2, s);
  EXPECT_EQ(std::vector(out.begin() + 32, out.begin() + 36), hex("0101051a"));
  s.has_timestamps = false;
  EXPECT_EQ(tcp_header_length(s), 56U) << "four without";
}

TcpSegment random_segment(Random& random) {
  TcpSegment s;
  s.seq = static_cast<uint32_t>(random());
  s.ack = static_cast<uint32_t>(random());
  s.window = static_cast<uint16_t>(random());
  s.flags = tcp_flag::ack | static_cast<uint8_t>(random() & tcp_flag::psh);
  s.has_mss = random.chance(0.3);
  if (s.has_mss) s.mss = static_cast<uint16_t>(random());
  s.has_window_scale = random.chance(0.3);
  if (s.has_window_scale) s.window_scale = static_cast<uint8_t>(random.below(15));
  s.sack_permitted = random.chance(0.3);
  s.has_timestamps = random.chance(0.5);
  if (s.has_timestamps) {
    s.ts_value = static_cast<uint32_t>(random());
    s.ts_echo = static_cast<uint32_t>(random());
  }
  s.sack_count = static_cast<uint8_t>(random.below(5));
  for (size_t i = 0; i < s.sack_count; ++i) {
    s.sack[i] = {static_cast<uint32_t>(random()), static_cast<uint32_t>(random())};
  }
  return s;
}

// Any combination of options that can be written is read back, in both families.
TEST(WriteTcp, RoundTripOfRandomSegments) {
  Random random(1);
  const std::string text(200, 'x');
  for (int round = 0; round < 20000; ++round) {
    const TcpSegment sent = random_segment(random);
    const size_t n = random.below(text.size() + 1);
    const TestFrame frame = tcp_frame(random.chance(0.5), sent, text.substr(0, n));
    const ParsedPacket p = frame.parse();
    ASSERT_EQ(p.drop, Drop::none);
    ASSERT_LE(tcp_header_length(sent), 60U);
    TcpSegment got;
    ASSERT_EQ(parse_tcp(frame.packet(), p, &got), Drop::none);
    ASSERT_EQ(got.seq, sent.seq);
    ASSERT_EQ(got.ack, sent.ack);
    ASSERT_EQ(got.length, n);
    ASSERT_EQ(got.flags, sent.flags);
    ASSERT_EQ(got.has_mss, sent.has_mss);
    ASSERT_EQ(got.mss, sent.mss);
    ASSERT_EQ(got.has_window_scale, sent.has_window_scale);
    ASSERT_EQ(got.window_scale, sent.window_scale);
    ASSERT_EQ(got.sack_permitted, sent.sack_permitted);
    ASSERT_EQ(got.has_timestamps, sent.has_timestamps);
    ASSERT_EQ(got.ts_value, sent.ts_value);
    ASSERT_EQ(got.ts_echo, sent.ts_echo);
    ASSERT_LE(got.sack_count, sent.sack_count);
    for (size_t i = 0; i < got.sack_count; ++i) {
      ASSERT_EQ(got.sack[i].left, sent.sack[i].left);
      ASSERT_EQ(got.sack[i].right, sent.sack[i].right);
    }
  }
}

// The fused path: headers, copy with checksum, finish from the sums.
// proves: MUST-2
TEST(FinishChecksum, FromThePayloadSum) {
  Random random(2);
  std::vector<std::byte> body(1500);
  for (std::byte& b : body) b = static_cast<std::byte>(random());
  for (const bool v6 : {false, true}) {
    for (size_t n = 0; n < 300; ++n) {
      TcpSegment s;
      s.flags = tcp_flag::ack;
      s.has_timestamps = true;
      const size_t header = tcp_header_length(s);
      std::vector<std::byte> transport(header + n);
      write_tcp(transport.data(), 5, 6, s);
      const uint32_t sum = copy_and_checksum(transport.data() + header, body.data(), n);
      finish_checksum(transport.data(), header, sum, n, peer_address(v6), our_address(v6),
                      Protocol::tcp);
      ASSERT_EQ(ip_frame(v6, 6, transport).parse().drop, Drop::none) << n;
    }
  }
}

// What a device does with an offloaded checksum: add the packet to what the field holds.
TEST(OffloadChecksum, LeavesThePseudoHeader) {
  for (const bool v6 : {false, true}) {
    std::vector<std::byte> transport(8);
    write_udp(transport.data(), 7, 9, 5);
    const auto body = bytes_of("12345");
    transport.insert(transport.end(), body.begin(), body.end());
    offload_checksum(transport.data(), peer_address(v6), our_address(v6), Protocol::udp, 13);
    const be16 device = checksum_finish(checksum_add(transport));
    std::memcpy(&transport[6], &device, 2);
    EXPECT_EQ(ip_frame(v6, 17, transport).parse().drop, Drop::none);
  }
}

// RFC 768: a computed zero is sent as ones, or it would mean "none".
// proves: 8200-25
TEST(FinishChecksum, UdpZeroBecomesOnes) {
  for (const bool v6 : {false, true}) {
    std::vector<std::byte> transport(10);
    write_udp(transport.data(), 7, 9, 2);
    finish_checksum(transport.data(), 8, 2, peer_address(v6), our_address(v6), Protocol::udp);
    std::memcpy(&transport[8], &transport[6], 2);  // a payload that makes the sum all ones
    std::memset(&transport[6], 0, 2);
    finish_checksum(transport.data(), 8, 2, peer_address(v6), our_address(v6), Protocol::udp);
    EXPECT_EQ(transport[6], std::byte{0xff});
    EXPECT_EQ(transport[7], std::byte{0xff});
    EXPECT_EQ(ip_frame(v6, 17, transport).parse().drop, Drop::none);
  }
}

// proves: 4443-4, 1122-20, 1812-1
TEST(IcmpQuoteLength, KeepsTheErrorSmall) {
  EXPECT_EQ(icmp_quote_length(false, 100), 100U);
  EXPECT_EQ(icmp_quote_length(false, 1500), 548U);
  EXPECT_EQ(icmp_quote_length(true, 1500), 1232U);
}

TEST(WriteIpv4, FragmentsReadBack) {
  IpFields fields;
  fields.source = peer_address(false);
  fields.destination = our_address(false);
  fields.protocol = 17;
  fields.dont_fragment = false;
  fields.id = 0xbeef;
  fields.fragment_offset = 1480;
  fields.more_fragments = true;
  const TestFrame frame = ip_frame(fields, std::vector<std::byte>(16));
  EXPECT_TRUE(frame.parse().fragment);
  const auto& ip = *reinterpret_cast<const Ipv4Header*>(&frame.bytes[kIp]);
  EXPECT_EQ(ip.id.host(), 0xbeef);
  EXPECT_EQ(ip.flags_fragment.host(), 0x2000 | 185);
}

}  // namespace
}  // namespace postern::wire
