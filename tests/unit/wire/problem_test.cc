// What is said about IPv6 headers that stop a packet: RFC 8200 4, RFC 4443 3.4.
#include "wire/problem.h"

#include <gtest/gtest.h>

#include "frames.h"

namespace postern::wire {
namespace {

// `headers` behind the IPv6 header, the first of kind `next`, then a datagram.
TestFrame with_headers(uint8_t next, std::vector<uint8_t> headers,
                       const IpAddress& destination = our_address(true), uint8_t icmp_type = 0) {
  TestFrame frame = icmp_type == 0 ? udp_frame(true, "hello")
                                   : icmp_frame(true, icmp_type, 0, 0, bytes_of("hello"));
  std::memcpy(&frame.bytes[kIp + 24], destination.data(), 16);
  fix_l4_checksum(frame, true, icmp_type == 0 ? Protocol::udp : Protocol::icmp6);
  frame.bytes.insert(frame.bytes.begin() + kL4v6, headers.size(), std::byte{});
  for (size_t i = 0; i < headers.size(); ++i) frame.set(kL4v6 + i, headers[i]);
  frame.set(kIp + 6, next);
  frame.set16(kIp + 4, static_cast<uint16_t>(frame.bytes.size() - kL4v6));
  return frame;
}

// "code pointer", or "" for silence.
std::string said(const TestFrame& frame, Drop expected = Drop::ip6_bad_extension) {
  const ParsedPacket parsed = frame.parse();
  EXPECT_EQ(parsed.drop, expected);
  const Problem p = ipv6_problem(frame.packet(), parsed);
  return p.told ? std::to_string(p.code) + " " + std::to_string(p.pointer) : "";
}

const IpAddress kGroup = address("ff02::1");

// proves: 8200-9, 8200-10, 4443-13
TEST(Ipv6Problem, UnknownOptionsByTheirFirstTwoBits) {
  const auto option = [](uint8_t type) { return std::vector<uint8_t>{17, 0, 1, 0, type, 2, 0, 0}; };
  EXPECT_EQ(said(with_headers(60, option(0x1e)), Drop::none).substr(0, 1), "1") << "skipped";
  EXPECT_EQ(said(with_headers(60, option(0x5e))), "") << "01: silently";
  EXPECT_EQ(said(with_headers(60, option(0x9e))), "2 44") << "10: told";
  EXPECT_EQ(said(with_headers(60, option(0xde))), "2 44") << "11: told";
  EXPECT_EQ(said(with_headers(60, option(0x9e), kGroup)), "2 44") << "10: of a group too";
  EXPECT_EQ(said(with_headers(60, option(0xde), kGroup)), "") << "11: not of a group";
  EXPECT_EQ(said(with_headers(0, option(0x9e))), "2 44") << "hop-by-hop";
}

// proves: 8200-13
TEST(Ipv6Problem, RoutingHeaderWithStationsLeft) {
  for (const uint8_t type : {0, 2, 4, 253}) {
    EXPECT_EQ(said(with_headers(43, {17, 0, type, 1, 0, 0, 0, 0})), "0 42") << int{type};
  }
  EXPECT_EQ(said(with_headers(43, {17, 0, 0, 1, 0, 0, 0, 0}, kGroup)), "") << "RFC 4443 2.4 e.3";
}

// proves: 8200-4, 8200-5, 4443-12
TEST(Ipv6Problem, HeadersThatNobodyKnowsWhereTheyStand) {
  EXPECT_EQ(said(with_headers(60, {0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0})), "1 40")
      << "hop-by-hop options that are not first";
  EXPECT_EQ(said(with_headers(200, {}), Drop::none), "1 6");
  EXPECT_EQ(said(with_headers(60, {200, 0, 1, 4, 0, 0, 0, 0}), Drop::none), "1 40");
  EXPECT_EQ(said(with_headers(200, {}, kGroup), Drop::none), "") << "RFC 4443 2.4 e.3";
}

// proves: 8200-22
TEST(Ipv6Problem, NoNextHeaderIsIgnored) { EXPECT_EQ(said(with_headers(59, {}), Drop::none), ""); }

// proves: 8200-17, 8200-18
TEST(Ipv6Problem, FragmentsThatCannotBe) {
  // 13 bytes of datagram in a fragment that is not the last.
  EXPECT_EQ(said(with_headers(44, {17, 0, 0, 1, 0, 0, 0, 9})), "0 4");
  EXPECT_EQ(said(with_headers(44, {17, 0, 0xff, 0xf8, 0, 0, 0, 9})), "0 42") << "beyond 65,535";
}

// proves: 4443-8
TEST(Ipv6Problem, NothingIsSaidAboutErrors) {
  const std::vector<uint8_t> option{58, 0, 1, 0, 0x9e, 2, 0, 0};
  EXPECT_EQ(said(with_headers(60, option, our_address(true), icmp6::unreachable)), "");
  EXPECT_EQ(said(with_headers(60, option, our_address(true), icmp6::echo_request)), "2 44");
}

TEST(Ipv6Problem, WhatIsCutOrTooLongIsNotAnswered) {
  EXPECT_EQ(said(with_headers(60, {17, 200, 1, 4, 0, 0, 0, 0})), "");
  EXPECT_EQ(said(with_headers(60, {17, 0, 1, 5, 0, 0, 0, 0})), "") << "option beyond its header";
  std::vector<uint8_t> chain;
  for (int i = 0; i < 9; ++i) chain.insert(chain.end(), {60, 0, 1, 4, 0, 0, 0, 0});
  EXPECT_EQ(said(with_headers(60, chain)), "");
}

// Any bytes in the place of headers: nothing beyond the frame is read (address sanitizer), and a
// pointer names a byte of the packet.
TEST(Ipv6Problem, AnyHeaders) {
  uint32_t random = 7;
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> headers(8 * (1 + i % 5));
    for (uint8_t& b : headers)
      b = static_cast<uint8_t>((random = random * 1664525 + 1013904223) >> 24);
    static constexpr uint8_t kKinds[] = {0, 43, 44, 60};
    for (size_t at = 0; at < headers.size(); at += 8) {
      headers[at] = kKinds[headers[at] % 4];
      headers[at + 1] %= 2;
    }
    const TestFrame frame = with_headers(kKinds[i % 4], headers);
    const ParsedPacket parsed = frame.parse();
    const Problem p = ipv6_problem(frame.packet(), parsed);
    if (p.told) {
      ASSERT_LT(p.pointer, frame.bytes.size() - kIp);
    }
  }
}

}  // namespace
}  // namespace postern::wire
