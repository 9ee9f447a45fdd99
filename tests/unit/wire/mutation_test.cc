// Seeded mutations of valid frames: whatever arrives, the parser answers within the frame. Runs
// under AddressSanitizer as well, where each frame is an exact heap block.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <tuple>

#include "base/checksum.h"
#include "base/random.h"
#include "frames.h"
#include "wire/arp.h"
#include "wire/group.h"

namespace postern::wire {
namespace {

// About one source of a group.
TestFrame group_query(bool v6) {
  std::vector<std::byte> message(v6 ? 8 : 0, std::byte{0});  // of MLD behind a router alert
  const auto put = [&message](std::initializer_list<int> values) {
    for (const int v : values) message.push_back(static_cast<std::byte>(v));
  };
  if (v6) {
    message[0] = std::byte{58};
    message[2] = std::byte{5};
    message[3] = std::byte{2};
    message[6] = std::byte{1};
    put({130, 0, 0, 0, 0, 10, 0, 0, 0xff, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7});
  } else {
    put({0x11, 10, 0, 0, 239, 1, 2, 3});
  }
  put({2, 125, 0, 1});
  message.resize(message.size() + (v6 ? 16 : 4), std::byte{10});
  const IpAddress from = v6 ? address("fe80::9") : peer_address(false);
  const IpAddress to = v6 ? address("ff15::7") : address("239.1.2.3");
  const std::span<std::byte> body = std::span(message).subspan(v6 ? 8 : 0);
  const uint32_t sum = v6 ? pseudo_header_sum(from, to, 58, static_cast<uint32_t>(body.size())) : 0;
  const be16 checksum = checksum_finish(checksum_add(body, sum));
  std::memcpy(body.data() + 2, &checksum, sizeof checksum);
  return ip_frame({.source = from,
                   .destination = to,
                   .protocol = v6 ? uint8_t{0} : kIgmpProtocol,
                   .ttl = 1,
                   .payload_length = static_cast<uint32_t>(message.size())},
                  message);
}

std::vector<TestFrame> seeds() {
  std::vector<TestFrame> frames;
  frames.push_back(arp_frame(
      {ArpPacket::kRequest, kPeerMac, peer_address(false), MacAddress{}, our_address(false)}));
  TcpSegment syn;
  syn.flags = tcp_flag::syn;
  syn.has_mss = syn.has_window_scale = syn.sack_permitted = syn.has_timestamps = true;
  TcpSegment ack;
  ack.flags = tcp_flag::ack;
  ack.sack_count = 4;
  for (const bool v6 : {false, true}) {
    frames.push_back(udp_frame(v6, "datagram"));
    frames.push_back(tcp_frame(v6, syn));
    frames.push_back(tcp_frame(v6, ack, "stream"));
    const TestFrame quoted = tcp_frame(v6, ack, "x");
    frames.push_back(
        icmp_frame(v6, v6 ? 1 : 3, 3, 0, std::span(quoted.bytes).subspan(kIp, l4(v6) - kIp + 8)));
  }
  TestFrame extended = udp_frame(true, "extended");
  extended.insert(kL4v6,
                  {60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 1, 2, 3, 4});
  extended.set(kIp + 6, 0);
  extended.set16(kIp + 4, static_cast<uint16_t>(extended.bytes.size() - kL4v6));
  frames.push_back(extended);
  frames.push_back(group_query(false));
  frames.push_back(group_query(true));
  return frames;
}

void mutate(TestFrame& frame, Random& random) {
  for (uint64_t n = random.below(6); n > 0; --n) {
    const size_t at = random.below(frame.bytes.size() + 1);
    const auto byte = static_cast<uint8_t>(random());
    switch (random.below(6)) {
      case 0:
        frame.bytes.resize(at);
        break;
      case 1:
        frame.insert(at, {byte, static_cast<uint8_t>(random()), 0, 0});
        break;
      case 2:
        frame.bytes.resize(frame.bytes.size() + random.below(64), static_cast<std::byte>(byte));
        break;
      default: {
        if (at == frame.bytes.size()) break;
        constexpr std::array<uint8_t, 8> kEdges{0, 1, 2, 0x45, 0x4f, 0x7f, 0x80, 0xff};
        frame.set(at, random.chance(0.5) ? byte : kEdges[byte % kEdges.size()]);
      }
    }
  }
  // With trusted checksums mutations reach the layers above.
  if (random.chance(0.8)) {
    frame.meta.ip_checksum = ChecksumVerdict::good;
    frame.meta.l4_checksum = ChecksumVerdict::good;
  }
  if (random.chance(0.1)) frame.meta.vlan = static_cast<uint16_t>(random());
}

// The parser says of a common packet what it says without its short cut.
void expect_same_without_short_cut(const RxPacket& packet, const ParsedPacket& p) {
  ParsedPacket q;
  parse_any(packet, &q);
  ASSERT_EQ(p.drop, q.drop);
  if (p.drop != Drop::none) return;
  const auto fields = [](const ParsedPacket& x) {
    return std::tuple(x.kind, x.protocol, x.ttl, x.tos, x.is_v6, x.fragment, x.interface, x.vlan,
                      x.mac_source.bytes, x.mac_destination.bytes, x.source, x.destination,
                      x.source_port, x.destination_port, x.l3_offset, x.l4_offset, x.payload_offset,
                      x.payload_length);
  };
  ASSERT_EQ(fields(p), fields(q));
  if (p.kind != PacketKind::tcp) return;
  ASSERT_EQ(std::tuple(p.tcp_seq, p.tcp_ack, p.tcp_window, p.tcp_urgent, p.tcp_flags,
                       p.tcp_options_length),
            std::tuple(q.tcp_seq, q.tcp_ack, q.tcp_window, q.tcp_urgent, q.tcp_flags,
                       q.tcp_options_length));
}

// Every source that a query is said to have is there.
size_t read_group_fully(const RxPacket& packet, const ParsedPacket& p) {
  GroupMessage kind;
  GroupQuery query;
  IpAddress group;
  if (read_group_message(packet, p, &kind, &query, &group) != Drop::none) return 0;
  size_t read = 0;
  for (size_t n = 0; kind == GroupMessage::query && n < query.source_count; ++n) {
    read += query.source(n).is_any() ? 0 : 1;
  }
  return read;
}

// So that mutations are tried where the short cut looks.
TEST(Mutations, EveryByteOfACommonPacketIsParsedTheSameWithoutShortCut) {
  TcpSegment data;
  data.flags = tcp_flag::ack | tcp_flag::psh;
  data.seq = 0x12345678;
  data.ack = 0x9abcdef0;
  data.window = 512;
  data.has_timestamps = true;
  for (const ChecksumVerdict verdict : {ChecksumVerdict::good, ChecksumVerdict::bad,
                                        ChecksumVerdict::unknown, ChecksumVerdict::unchecked}) {
    for (const TestFrame& original :
         {tcp_frame(false, data, "payload"), udp_frame(false, "datagram")}) {
      for (size_t at = 0; at < original.bytes.size(); ++at) {
        for (int value = 0; value < 256; ++value) {
          TestFrame frame = original;
          frame.set(at, static_cast<uint8_t>(value));
          frame.meta.ip_checksum = frame.meta.l4_checksum = verdict;
          const RxPacket packet = frame.packet();
          expect_same_without_short_cut(packet, parse(packet));
          if (HasFatalFailure()) FAIL() << "byte " << at << " is " << value;
        }
      }
      for (size_t length = 0; length < original.bytes.size(); ++length) {
        TestFrame frame = original;
        frame.bytes.resize(length);
        frame.meta.ip_checksum = frame.meta.l4_checksum = verdict;
        const RxPacket packet = frame.packet();
        expect_same_without_short_cut(packet, parse(packet));
        if (HasFatalFailure()) FAIL() << "length " << length;
      }
    }
  }
}

TEST(Mutations, ParserStaysWithinTheFrame) {
  const std::vector<TestFrame> originals = seeds();
  Random random(20240607);
  std::array<size_t, kDropCount> outcomes{};
  size_t sources_read = 0;
  size_t tcp_parsed = 0;
  for (int round = 0; round < 100000; ++round) {
    TestFrame frame = originals[random.below(originals.size())];
    mutate(frame, random);
    // An exact heap block: one byte too far is an error that the sanitizer sees.
    const size_t n = frame.bytes.size();
    const auto block = std::make_unique<std::byte[]>(n);
    std::copy(frame.bytes.begin(), frame.bytes.end(), block.get());
    RxPacket packet = frame.packet();
    packet.data = block.get();
    const ParsedPacket p = parse(packet);
    expect_same_without_short_cut(packet, p);
    ++outcomes[static_cast<size_t>(p.drop)];
    if (p.drop != Drop::none) continue;
    ASSERT_LE(size_t{p.payload_offset} + p.payload_length, n) << round;
    ASSERT_LE(p.l3_offset, n);
    ASSERT_LE(p.l4_offset, n);
    if (p.kind == PacketKind::tcp && !p.fragment) {
      TcpSegment segment;
      const Drop drop = parse_tcp(packet, p, &segment);
      ASSERT_TRUE(drop == Drop::none || drop == Drop::tcp_malformed);
      ASSERT_LE(segment.sack_count, segment.sack.size());
      ASSERT_LE(segment.window_scale, 14);
      ++tcp_parsed;
    }
    if (p.kind == PacketKind::icmp && !p.fragment) (void)parse_icmp_quote(packet, p);
    if (p.kind == PacketKind::arp) (void)read_arp(packet, p);
    const bool igmp = !p.is_v6 && p.protocol == kIgmpProtocol;
    const bool mld = p.is_v6 && p.kind == PacketKind::icmp &&
                     is_group_message(static_cast<uint8_t>(p.source_port >> 8));
    if ((igmp || mld) && !p.fragment) sources_read += read_group_fully(packet, p);
  }
  EXPECT_GT(sources_read, 100U);
  // The mutations are worth something only if they reach everything.
  EXPECT_GT(tcp_parsed, 5000U);
  for (const Drop d : {Drop::none,
                       Drop::frame_too_short,
                       Drop::eth_bad_source,
                       Drop::eth_unknown_type,
                       Drop::vlan_unknown,
                       Drop::arp_malformed,
                       Drop::ip4_malformed,
                       Drop::ip4_bad_checksum,
                       Drop::ip4_bad_source,
                       Drop::ip4_bad_option,
                       Drop::ip6_malformed,
                       Drop::ip6_bad_source,
                       Drop::ip6_bad_extension,
                       Drop::udp_malformed,
                       Drop::udp_bad_checksum,
                       Drop::tcp_malformed,
                       Drop::tcp_bad_checksum,
                       Drop::tcp_bad_flags,
                       Drop::icmp_malformed,
                       Drop::icmp_bad_checksum}) {
    EXPECT_GT(outcomes[static_cast<size_t>(d)], 0U) << drop_name(d);
  }
}

}  // namespace
}  // namespace postern::wire
