// UDP, TCP headers and ICMP in both families.
#include <gtest/gtest.h>

#include "base/checksum.h"
#include "frames.h"

namespace postern::wire {
namespace {

class Transport : public ::testing::TestWithParam<bool> {
 protected:
  bool v6() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Families, Transport, ::testing::Bool(),
                         [](const auto& p) { return p.param ? "V6" : "V4"; });

// ---- UDP ----

// proves: 1122-44
TEST_P(Transport, UdpRoundTripOfEveryLength) {
  const std::string text(1472, 'p');
  for (size_t n = 0; n <= text.size(); ++n) {
    const TestFrame frame = udp_frame(v6(), text.substr(0, n));
    const ParsedPacket p = frame.parse();
    ASSERT_EQ(p.drop, Drop::none) << n;
    ASSERT_EQ(p.kind, PacketKind::udp);
    ASSERT_EQ(p.source_port, 4000);
    ASSERT_EQ(p.destination_port, 53);
    ASSERT_EQ(payload(frame.packet(), p).size(), n);
    ASSERT_EQ(p.payload_offset, l4(v6()) + 8);
  }
}

TEST_P(Transport, UdpLengthBelowThePacketIsThePayload) {
  TestFrame frame = udp_frame(v6(), "seen");
  const auto extra = bytes_of("not seen");
  frame.bytes.insert(frame.bytes.end(), extra.begin(), extra.end());
  if (v6()) {
    frame.set16(kIp + 4, static_cast<uint16_t>(frame.bytes.size() - kL4v6));
  } else {
    frame.set16(kIp + 2, static_cast<uint16_t>(frame.bytes.size() - kIp));
    fix_ipv4_checksum(frame);
  }
  const ParsedPacket p = frame.parse();
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.payload_length, 4U);
}

TEST_P(Transport, UdpMalformed) {
  for (const uint16_t length : {0, 7, 14, 0xffff}) {
    TestFrame frame = udp_frame(v6(), "hello");
    frame.set16(l4(v6()) + 4, length);
    EXPECT_EQ(frame.parse().drop, Drop::udp_malformed) << length;
  }
  for (size_t n = 0; n < 8; ++n) {
    EXPECT_EQ(ip_frame(v6(), 17, std::vector<std::byte>(n)).parse().drop, Drop::udp_malformed);
  }
}

// proves: 1122-44
TEST_P(Transport, UdpChecksum) {
  for (size_t i = 0; i < 13; ++i) {
    if (i == 4 || i == 5) continue;  // the length is judged first
    TestFrame frame = udp_frame(v6(), "hello");
    frame.set(l4(v6()) + i, frame.get(l4(v6()) + i) ^ 0x20);
    EXPECT_EQ(frame.parse().drop, Drop::udp_bad_checksum) << i;
  }
}

// proves: 8200-27
TEST_P(Transport, UdpChecksumCoversAddresses) {
  TestFrame frame = udp_frame(v6(), "hello");
  const size_t last_of_source = v6() ? kIp + 23 : kIp + 15;
  frame.set(last_of_source, 0x77);
  if (!v6()) fix_ipv4_checksum(frame);
  EXPECT_EQ(frame.parse().drop, Drop::udp_bad_checksum);
}

// RFC 768: none was computed. RFC 8200 8.1: not so in IPv6.
// proves: 8200-26, 8504-24
TEST_P(Transport, UdpZeroChecksum) {
  TestFrame frame = udp_frame(v6(), "hello");
  frame.set16(l4(v6()) + 6, 0);
  EXPECT_EQ(frame.parse().drop, v6() ? Drop::udp_bad_checksum : Drop::none);
}

TEST_P(Transport, DeviceVerdictDecides) {
  TestFrame bad_udp = udp_frame(v6(), "x");
  bad_udp.meta.l4_checksum = ChecksumVerdict::bad;
  EXPECT_EQ(bad_udp.parse().drop, Drop::udp_bad_checksum);
  TcpSegment segment;
  segment.flags = tcp_flag::ack;
  TestFrame bad_tcp = tcp_frame(v6(), segment);
  bad_tcp.meta.l4_checksum = ChecksumVerdict::bad;
  EXPECT_EQ(bad_tcp.parse().drop, Drop::tcp_bad_checksum);
  TestFrame trusted = tcp_frame(v6(), segment);
  trusted.set16(l4(v6()) + 16, 0x1234);
  EXPECT_EQ(trusted.parse().drop, Drop::tcp_bad_checksum);
  trusted.meta.l4_checksum = ChecksumVerdict::good;
  EXPECT_EQ(trusted.parse().drop, Drop::none);
}

// Over a link that is trusted (ports[].checksums: off): whatever stands there, in IPv6 as well.
TEST_P(Transport, UncheckedIsAsGood) {
  TcpSegment segment;
  segment.flags = tcp_flag::ack;
  for (const uint16_t there : {0, 0x1234}) {
    TestFrame tcp = tcp_frame(v6(), segment);
    tcp.set16(l4(v6()) + 16, there);
    tcp.meta.l4_checksum = ChecksumVerdict::unchecked;
    EXPECT_EQ(tcp.parse().drop, Drop::none) << there;
    TestFrame udp = udp_frame(v6(), "hello");
    udp.set16(l4(v6()) + 6, there);
    udp.meta.l4_checksum = ChecksumVerdict::unchecked;
    const ParsedPacket p = udp.parse();
    EXPECT_EQ(p.drop, Drop::none) << there;
    EXPECT_EQ(p.payload_length, 5U);
  }
}

// ---- TCP header ----

TEST_P(Transport, TcpRoundTripOfTheHeader) {
  TcpSegment segment;
  segment.seq = 0x01020304;
  segment.ack = 0xf1f2f3f4;
  segment.window = 0xabcd;
  segment.urgent = 77;
  segment.flags = tcp_flag::ack | tcp_flag::psh | tcp_flag::ece;
  const TestFrame frame = tcp_frame(v6(), segment, "some payload");
  const ParsedPacket p = frame.parse();
  ASSERT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.kind, PacketKind::tcp);
  EXPECT_EQ(p.source_port, 40000);
  EXPECT_EQ(p.destination_port, 80);
  EXPECT_EQ(p.tcp_seq, segment.seq);
  EXPECT_EQ(p.tcp_ack, segment.ack);
  EXPECT_EQ(p.tcp_window, segment.window);
  EXPECT_EQ(p.tcp_urgent, 77);
  EXPECT_EQ(p.tcp_flags, segment.flags);
  EXPECT_EQ(p.tcp_options_length, 0);
  const auto body = payload(frame.packet(), p);
  EXPECT_EQ(std::vector<std::byte>(body.begin(), body.end()), bytes_of("some payload"));
}

TEST_P(Transport, TcpMalformed) {
  TcpSegment segment;
  segment.flags = tcp_flag::ack;
  for (const uint8_t offset : {0x00, 0x40, 0x70, 0xf0}) {  // the frame has room for 6 words
    TestFrame frame = tcp_frame(v6(), segment, "1234");
    frame.set(l4(v6()) + 12, offset);
    EXPECT_EQ(frame.parse().drop, Drop::tcp_malformed) << int{offset};
  }
  for (size_t n = 0; n < 20; ++n) {
    EXPECT_EQ(ip_frame(v6(), 6, std::vector<std::byte>(n)).parse().drop, Drop::tcp_malformed) << n;
  }
}

// proves: MUST-3
TEST_P(Transport, TcpChecksum) {
  TcpSegment segment;
  segment.flags = tcp_flag::ack;
  for (size_t i = 0; i < 25; ++i) {
    if (i == 12) continue;  // data offset is judged first
    TestFrame frame = tcp_frame(v6(), segment, "hello");
    frame.set(l4(v6()) + i, frame.get(l4(v6()) + i) ^ 0x20);
    EXPECT_EQ(frame.parse().drop, Drop::tcp_bad_checksum) << i;
  }
}

TEST_P(Transport, TcpFlags) {
  using namespace tcp_flag;
  const auto drop_of = [&](uint8_t flags) {
    TcpSegment segment;
    segment.flags = flags;
    return tcp_frame(v6(), segment).parse().drop;
  };
  for (const int flags : {+syn, syn | ack, +ack, ack | fin, ack | psh, +rst, rst | ack,
                          syn | ece | cwr, ack | urg | psh, syn | psh, rst | fin}) {
    EXPECT_EQ(drop_of(static_cast<uint8_t>(flags)), Drop::none) << flags;
  }
  for (const int flags : {0, +fin, syn | fin, syn | rst, syn | fin | ack, syn | rst | ack,
                          fin | psh | urg, +psh, +urg, 0xff, ece | cwr}) {
    EXPECT_EQ(drop_of(static_cast<uint8_t>(flags)), Drop::tcp_bad_flags) << flags;
  }
}

// ---- ICMP ----

TEST_P(Transport, IcmpRoundTripOfEcho) {
  const uint8_t type = v6() ? icmp6::echo_request : icmp4::echo_request;
  const TestFrame frame = icmp_frame(v6(), type, 0, 0x12340007, bytes_of("ping payload"));
  const ParsedPacket p = frame.parse();
  ASSERT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.kind, PacketKind::icmp);
  EXPECT_EQ(p.source_port, type << 8);
  EXPECT_EQ(p.payload_length, 12U);
  const auto& header = *reinterpret_cast<const IcmpHeader*>(frame.bytes.data() + p.l4_offset);
  EXPECT_EQ(header.rest.host(), 0x12340007U);
}

// proves: 4443-1
TEST_P(Transport, IcmpMalformedAndChecksum) {
  const uint8_t protocol = v6() ? 58 : 1;
  for (size_t n = 0; n < 8; ++n) {
    EXPECT_EQ(ip_frame(v6(), protocol, std::vector<std::byte>(n)).parse().drop,
              Drop::icmp_malformed);
  }
  for (size_t i = 0; i < 12; ++i) {
    TestFrame frame = icmp_frame(v6(), 8, 0, 1, bytes_of("ping"));
    frame.set(l4(v6()) + i, frame.get(l4(v6()) + i) ^ 1);
    EXPECT_EQ(frame.parse().drop, Drop::icmp_bad_checksum) << i;
  }
}

// The IP packet of a frame that we sent, as an ICMP error would quote it.
std::vector<std::byte> quotation(const TestFrame& frame, size_t length) {
  return {frame.bytes.begin() + kIp,
          frame.bytes.begin() + static_cast<std::ptrdiff_t>(kIp + length)};
}

// proves: 4443-5, 1122-21, 8504-9
TEST_P(Transport, IcmpQuotation) {
  TcpSegment segment;
  segment.flags = tcp_flag::ack;
  segment.seq = 0xcafebabe;
  const TestFrame sent = tcp_frame(v6(), segment, "data");
  const size_t header = l4(v6()) - kIp;
  const uint8_t type = v6() ? icmp6::unreachable : icmp4::unreachable;
  const TestFrame error = icmp_frame(v6(), type, 0, 0, quotation(sent, header + 8));
  const ParsedPacket p = error.parse();
  ASSERT_EQ(p.drop, Drop::none);
  const QuotedPacket q = parse_icmp_quote(error.packet(), p);
  EXPECT_EQ(q.protocol, 6);
  EXPECT_EQ(q.source, peer_address(v6()));
  EXPECT_EQ(q.destination, our_address(v6()));
  EXPECT_EQ(q.source_port, 40000);
  EXPECT_EQ(q.destination_port, 80);
  EXPECT_EQ(q.tcp_seq, 0xcafebabe);
}

// proves: 4443-5
TEST_P(Transport, IcmpQuotationTooShortOrBroken) {
  const TestFrame sent = udp_frame(v6(), "data");
  const size_t header = l4(v6()) - kIp;
  for (size_t n = 0; n < header + 8; ++n) {
    const TestFrame error = icmp_frame(v6(), 3, 3, 0, quotation(sent, n));
    EXPECT_EQ(parse_icmp_quote(error.packet(), error.parse()).protocol, 0) << n;
  }
  TestFrame wrong = sent;
  wrong.set(kIp, 0x50);
  const TestFrame error = icmp_frame(v6(), 3, 3, 0, quotation(wrong, header + 8));
  EXPECT_EQ(parse_icmp_quote(error.packet(), error.parse()).protocol, 0);
}

}  // namespace
}  // namespace postern::wire
