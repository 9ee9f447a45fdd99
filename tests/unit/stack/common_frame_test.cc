// The common frame's writer against the general ones, byte for byte.
#include "stack/common_frame.h"

#include <gtest/gtest.h>

#include <array>

#include "base/random.h"
#include "wire/build.h"

namespace postern {
namespace {

constexpr MacAddress kTo{{2, 1, 2, 3, 4, 5}}, kFrom{{2, 10, 11, 12, 13, 14}};

struct Case {
  FlowKey key;
  TcpSegment segment;
  uint16_t id = 0;
  uint8_t tos = 0, ttl = 0;
  bool offload_ip = false;
  L4Checksum l4 = L4Checksum::software;
  uint32_t payload = 0;  // running sum
};

Case random_case(Random& random) {
  Case c;
  const auto word = [&] { return static_cast<uint32_t>(random()); };
  // Words of all ones and all zeros are where sums carry.
  const auto edge = [&] {
    return random.chance(0.2) ? UINT32_MAX : random.chance(0.2) ? 0 : word();
  };
  c.key = FlowKey(IpAddress::v4(edge()), static_cast<uint16_t>(edge()), IpAddress::v4(edge()),
                  static_cast<uint16_t>(edge()), 6);
  c.segment.seq = edge();
  c.segment.ack = edge();
  c.segment.flags = static_cast<uint8_t>(word());
  c.segment.window = static_cast<uint16_t>(edge());
  c.segment.urgent = static_cast<uint16_t>(edge());
  c.segment.has_timestamps = random.chance(0.5);
  c.segment.ts_value = edge();
  c.segment.ts_echo = edge();
  c.segment.length = static_cast<uint32_t>(random.below(1461));
  c.id = static_cast<uint16_t>(edge());
  c.tos = static_cast<uint8_t>(word());
  c.ttl = static_cast<uint8_t>(word());
  c.offload_ip = random.chance(0.5);
  c.l4 = static_cast<L4Checksum>(random.below(3));
  c.payload = c.segment.length == 0 ? 0 : edge();
  return c;
}

size_t write_generally(std::byte* out, const Case& c) {
  const FlowKey& k = c.key;
  const auto header = static_cast<uint32_t>(wire::tcp_header_length(c.segment));
  std::byte* p = out;
  p += wire::write_ethernet(p, kTo, kFrom, wire::ether_type::ipv4);
  p += wire::write_ip(p, {.source = k.local,
                          .destination = k.remote,
                          .protocol = 6,
                          .ttl = c.ttl,
                          .tos = c.tos,
                          .id = c.id,
                          .payload_length = header + c.segment.length,
                          .offload_checksum = c.offload_ip});
  wire::write_tcp(p, k.local_port, k.remote_port, c.segment);
  if (c.l4 == L4Checksum::device) {
    wire::offload_checksum(p, k.local, k.remote, Protocol::tcp, header + c.segment.length);
  } else if (c.l4 == L4Checksum::software) {
    wire::finish_checksum(p, header, c.payload, c.segment.length, k.local, k.remote, Protocol::tcp);
  }
  return static_cast<size_t>(p - out) + header;
}

size_t write_common(std::byte* out, const Case& c) {
  const CommonHeaders headers = write_common_headers(out, c.key, c.segment,
                                                     {.destination = kTo,
                                                      .source = kFrom,
                                                      .id = c.id,
                                                      .tos = c.tos,
                                                      .ttl = c.ttl,
                                                      .offload_ip_checksum = c.offload_ip});
  finish_common_checksum(out, headers, c.payload, c.l4);
  return headers.length;
}

TEST(CommonFrame, IsWhatTheGeneralWritersWrite) {
  Random random(20260101);
  for (int round = 0; round < 200000; ++round) {
    const Case c = random_case(random);
    ASSERT_TRUE(is_common_segment(c.segment));
    std::array<std::byte, 80> expected, written;
    expected.fill(std::byte{0xa5});
    written.fill(std::byte{0x5a});
    const size_t n = write_generally(expected.data(), c);
    ASSERT_EQ(write_common(written.data(), c), n);
    for (size_t i = 0; i < n; ++i) {
      ASSERT_EQ(written[i], expected[i])
          << "byte " << i << " of round " << round
          << (c.segment.has_timestamps ? ", timestamps" : "")
          << (c.offload_ip ? ", IP offload" : "") << ", TCP by " << static_cast<int>(c.l4);
    }
    EXPECT_EQ(written[n], std::byte{0x5a}) << "wrote beyond its headers";
  }
}

TEST(CommonFrame, OfADatagramIsWhatTheGeneralWritersWrite) {
  Random random(20261126);
  for (int round = 0; round < 100000; ++round) {
    const Case c = random_case(random);
    const Endpoint local{c.key.local, c.key.local_port}, remote{c.key.remote, c.key.remote_port};
    const uint32_t length = c.segment.length;
    const bool dont_fragment = random.chance(0.5);
    std::array<std::byte, 44> expected, written;
    expected.fill(std::byte{0x5a});
    written.fill(std::byte{0x5a});
    std::byte* p = expected.data();
    p += wire::write_ethernet(p, kTo, kFrom, wire::ether_type::ipv4);
    p += wire::write_ip(p, {.source = local.address,
                            .destination = remote.address,
                            .protocol = 17,
                            .ttl = c.ttl,
                            .tos = c.tos,
                            .dont_fragment = dont_fragment,
                            .id = c.id,
                            .payload_length = 8 + length,
                            .offload_checksum = c.offload_ip});
    wire::write_udp(p, local.port, remote.port, length);
    if (c.l4 == L4Checksum::device) {
      wire::offload_checksum(p, local.address, remote.address, Protocol::udp, 8 + length);
    } else if (c.l4 == L4Checksum::software) {
      wire::finish_checksum(p, 8, c.payload, length, local.address, remote.address, Protocol::udp);
    }
    write_common_datagram(written.data(), {local.address, local.port, remote, length}, c.payload,
                          c.l4,
                          {.destination = kTo,
                           .source = kFrom,
                           .id = c.id,
                           .tos = c.tos,
                           .ttl = c.ttl,
                           .dont_fragment = dont_fragment,
                           .offload_ip_checksum = c.offload_ip});
    ASSERT_EQ(written, expected) << "round " << round;
  }
}

TEST(CommonFrame, OtherOptionsAreNotCommon) {
  TcpSegment s;
  EXPECT_TRUE(is_common_segment(s));
  s.has_timestamps = true;
  EXPECT_TRUE(is_common_segment(s));
  for (int i = 0; i < 4; ++i) {
    TcpSegment other = s;
    (i == 0 ? other.has_mss : i == 1 ? other.has_window_scale : other.sack_permitted) = true;
    if (i == 3) {
      other = s;
      other.sack_count = 1;
    }
    EXPECT_FALSE(is_common_segment(other)) << i;
  }
}

}  // namespace
}  // namespace postern
