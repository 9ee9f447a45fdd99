// TCP options on their way in.
#include <gtest/gtest.h>

#include "frames.h"

namespace postern::wire {
namespace {

struct Result {
  Drop drop;
  TcpSegment segment;
};

// A segment whose options are these bytes, padded with end-of-list to a multiple of 4.
Result parse_options(std::vector<uint8_t> options, uint8_t flags = tcp_flag::ack) {
  while (options.size() % 4 != 0) options.push_back(tcp_option::end);
  std::vector<std::byte> transport(20);
  TcpSegment bare;
  bare.flags = flags;
  write_tcp(transport.data(), 1, 2, bare);
  transport[12] = static_cast<std::byte>((20 + options.size()) / 4 << 4);
  for (const uint8_t b : options) transport.push_back(static_cast<std::byte>(b));
  finish_checksum(transport.data(), transport.size(), 0, peer_address(false), our_address(false),
                  Protocol::tcp);
  const TestFrame frame = ip_frame(false, 6, transport);
  const ParsedPacket p = frame.parse();
  EXPECT_EQ(p.drop, Drop::none);
  EXPECT_EQ(p.tcp_options_length, options.size());
  Result result{};
  result.drop = parse_tcp(frame.packet(), p, &result.segment);
  return result;
}

TEST(ParseTcpOptions, None) {
  const auto [drop, s] = parse_options({});
  EXPECT_EQ(drop, Drop::none);
  EXPECT_FALSE(s.has_mss || s.has_window_scale || s.has_timestamps || s.sack_permitted);
  EXPECT_EQ(s.sack_count, 0);
}

// proves: MUST-4
TEST(ParseTcpOptions, LinuxSyn) {
  const auto [drop, s] = parse_options(
      {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}, tcp_flag::syn);
  EXPECT_EQ(drop, Drop::none);
  EXPECT_TRUE(s.has_mss);
  EXPECT_EQ(s.mss, 1460);
  EXPECT_TRUE(s.sack_permitted);
  EXPECT_TRUE(s.has_timestamps);
  EXPECT_EQ(s.ts_value, 0x01020304U);
  EXPECT_EQ(s.ts_echo, 0U);
  EXPECT_TRUE(s.has_window_scale);
  EXPECT_EQ(s.window_scale, 7);
}

TEST(ParseTcpOptions, AlignedTimestamps) {
  const auto [drop, s] = parse_options({1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_EQ(drop, Drop::none);
  EXPECT_TRUE(s.has_timestamps);
  EXPECT_EQ(s.ts_value, 0x01020304U);
  EXPECT_EQ(s.ts_echo, 0x05060708U);
}

// proves: MUST-64
TEST(ParseTcpOptions, TimestampsInOtherPlaces) {
  for (const auto& options :
       std::vector<std::vector<uint8_t>>{{8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1},
                                         {1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1},
                                         {1, 1, 1, 1, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}}) {
    const auto [drop, s] = parse_options(options);
    EXPECT_EQ(drop, Drop::none);
    EXPECT_TRUE(s.has_timestamps);
    EXPECT_EQ(s.ts_value, 0x01020304U);
    EXPECT_EQ(s.ts_echo, 0x05060708U);
  }
}

// proves: MUST-5
TEST(ParseTcpOptions, SackBlocks) {
  std::vector<uint8_t> options{1, 1, 5, 34};
  for (uint8_t i = 0; i < 32; ++i) options.push_back(i);
  const auto [drop, s] = parse_options(options);
  EXPECT_EQ(drop, Drop::none);
  ASSERT_EQ(s.sack_count, 4);
  EXPECT_EQ(s.sack[0].left, 0x00010203U);
  EXPECT_EQ(s.sack[3].right, 0x1c1d1e1fU);
}

// proves: MUST-6, MUST-68
TEST(ParseTcpOptions, UnknownAreSkipped) {
  const auto [drop, s] = parse_options({254, 6, 1, 2, 3, 4, 99, 2, 2, 4, 0x02, 0x18});
  EXPECT_EQ(drop, Drop::none);
  EXPECT_TRUE(s.has_mss);
  EXPECT_EQ(s.mss, 536);
}

// proves: MUST-4
TEST(ParseTcpOptions, NothingCountsAfterTheEnd) {
  const auto [drop, s] = parse_options({0, 2, 0, 0, 2, 4, 1, 1});
  EXPECT_EQ(drop, Drop::none);
  EXPECT_FALSE(s.has_mss);
}

// RFC 7323 2.3
TEST(ParseTcpOptions, WindowScaleIsCapped) {
  EXPECT_EQ(parse_options({3, 3, 14}, tcp_flag::syn).segment.window_scale, 14);
  EXPECT_EQ(parse_options({3, 3, 15}, tcp_flag::syn).segment.window_scale, 14);
  EXPECT_EQ(parse_options({3, 3, 255}, tcp_flag::syn).segment.window_scale, 14);
}

// proves: MUST-7, MUST-68
TEST(ParseTcpOptions, BadLengths) {
  for (const auto& options : std::vector<std::vector<uint8_t>>{
           {8, 0, 0, 0},                          // RFC 9293 MUST-7: would loop
           {99, 1, 0, 0},                         // less than kind and length
           {99, 5, 0, 0},                         // beyond the header
           {1, 1, 1, 99},                         // no length
           {2, 3, 5, 1},                          // MSS of 3
           {2, 2, 1, 1},                          // MSS of 2
           {3, 4, 7, 0},                          // window scale of 4
           {3, 2, 1, 1},                          // window scale of 2
           {4, 3, 0, 1},                          // SACK permitted of 3
           {8, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1},  // timestamps of 9
           {8, 2, 1, 1},                          // timestamps of 2
           {5, 2, 1, 1},                          // SACK without blocks
           {5, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1},  // SACK with a part of a block
           {1, 1, 8, 10, 0, 0, 0, 0},             // timestamps beyond the header
       }) {
    EXPECT_EQ(parse_options(options).drop, Drop::tcp_malformed)
        << int{options[0]} << " " << int{options[1]};
  }
}

TEST(ParseTcpOptions, EveryTwoByteStartEnds) {
  for (int kind = 0; kind < 256; ++kind) {
    for (int length = 0; length < 256; ++length) {
      const auto result = parse_options(
          {static_cast<uint8_t>(kind), static_cast<uint8_t>(length), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
      const bool known = kind >= 2 && kind <= 8 && kind != 6 && kind != 7;
      if (kind > 8 || kind == 6 || kind == 7) {
        ASSERT_EQ(result.drop, length >= 2 && length <= 12 ? Drop::none : Drop::tcp_malformed)
            << kind << " " << length;
      }
      if (known && (length < 2 || length > 12)) {
        ASSERT_EQ(result.drop, Drop::tcp_malformed) << kind << " " << length;
      }
    }
  }
}

TEST(ParseTcp, CarriesHeaderAndEcn) {
  TcpSegment sent;
  sent.seq = 10;
  sent.ack = 20;
  sent.window = 30;
  sent.flags = tcp_flag::ack;
  TestFrame frame = tcp_frame(false, sent, "12345");
  frame.set(kIp + 1, 0x03);  // congestion experienced
  fix_ipv4_checksum(frame);
  TcpSegment got;
  ASSERT_EQ(parse_tcp(frame.packet(), frame.parse(), &got), Drop::none);
  EXPECT_EQ(got.seq, 10U);
  EXPECT_EQ(got.ack, 20U);
  EXPECT_EQ(got.window, 30);
  EXPECT_EQ(got.length, 5U);
  EXPECT_EQ(got.ecn, 3);
}

}  // namespace
}  // namespace postern::wire
