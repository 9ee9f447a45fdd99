// Fragments into packets: RFC 791 3.2, RFC 8200 4.5, RFC 5722, and what is done to those who abuse
// it.
#include "ip/reassembly.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/checksum.h"
#include "base/random.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern {
namespace {

using Bytes = std::vector<std::byte>;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }

Bytes pattern(size_t n) {
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 131 + (i >> 8));
  return bytes;
}

class Reassembly : public ::testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] bool v6() const { return GetParam(); }
  [[nodiscard]] const char* source() const { return v6() ? "2001:db8::9" : "192.0.2.9"; }

  // UDP in an IP payload of `n` bytes, checksum good.
  Bytes datagram(size_t n) const {
    Bytes payload = pattern(n);
    wire::write_udp(payload.data(), 1000, 2000, n - 8);
    wire::finish_checksum(payload.data(), 8, n - 8, ip(source()), destination(), Protocol::udp);
    return payload;
  }
  [[nodiscard]] IpAddress destination() const { return ip(v6() ? "2001:db8::1" : "192.0.2.1"); }

  // Bytes [offset, offset + n) of `payload` as a frame.
  Bytes frame(const Bytes& payload, size_t offset, size_t n, bool more, uint32_t id = 7,
              uint8_t tos = 0, const char* from = nullptr) const {
    Bytes frame(14 + 48 + n);
    std::byte* p = frame.data();
    p += wire::write_ethernet(p, {{2}}, {{4}},
                              v6() ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
    wire::IpFields fields{.source = ip(from != nullptr ? from : source()),
                          .destination = destination(),
                          .protocol = static_cast<uint8_t>(Protocol::udp),
                          .tos = tos,
                          .dont_fragment = false,
                          .id = static_cast<uint16_t>(id),
                          .payload_length = static_cast<uint32_t>(n)};
    if (v6()) {
      fields.protocol = wire::kFragmentProtocol;
      fields.payload_length += 8;
      p += wire::write_ip(p, fields);
      p += wire::write_fragment_header(p, static_cast<uint8_t>(Protocol::udp),
                                       static_cast<uint32_t>(offset), more, id);
    } else {
      fields.fragment_offset = static_cast<uint16_t>(offset);
      fields.more_fragments = more;
      p += wire::write_ip(p, fields);
    }
    std::copy_n(payload.begin() + static_cast<std::ptrdiff_t>(offset), n,
                frame.begin() + (p - frame.data()));
    frame.resize(static_cast<size_t>(p - frame.data()) + n);
    return frame;
  }

  Drop add(Reassembler& r, const Bytes& frame) {
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    const ParsedPacket parsed = wire::parse(packet);
    EXPECT_EQ(parsed.drop, Drop::none);
    EXPECT_TRUE(parsed.fragment);
    return r.add(parsed, wire::read_fragment(packet, parsed), now, &whole);
  }
  Drop add(Reassembler& r, const Bytes& payload, size_t offset, size_t n, uint32_t id = 7) {
    return add(r, frame(payload, offset, n, offset + n < payload.size(), id));
  }

  // The whole packet parses as if it had come so.
  void expect_whole(const Bytes& payload) {
    ASSERT_FALSE(whole.empty());
    std::byte* const at = whole.data() - 14;
    wire::write_ethernet(at, {{2}}, {{4}}, v6() ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
    RxPacket packet;
    packet.data = at;
    packet.length = static_cast<uint32_t>(whole.size() + 14);
    const ParsedPacket p = wire::parse(packet);
    ASSERT_EQ(p.drop, Drop::none) << drop_name(p.drop);
    EXPECT_FALSE(p.fragment);
    EXPECT_EQ(p.kind, PacketKind::udp);
    EXPECT_EQ(p.payload_length, payload.size() - 8);
    EXPECT_TRUE(std::equal(payload.begin() + 8, payload.end(), at + p.payload_offset));
    ecn = p.tos & 3;
  }

  Time now{1s};
  std::span<std::byte> whole;
  int ecn = 0;
};

INSTANTIATE_TEST_SUITE_P(Family, Reassembly, ::testing::Bool(),
                         [](const auto& family) { return family.param ? "IPv6" : "IPv4"; });

// proves: 8200-15, 1122-11
TEST_P(Reassembly, InAnyOrderOfAnySize) {
  Random random(3);
  Reassembler r({});
  for (const size_t size :
       {size_t{16}, size_t{17}, size_t{1600}, size_t{2048}, size_t{9001}, size_t{65515}}) {
    for (const size_t piece : {size_t{8}, size_t{1480}, size_t{4096}}) {
      if (size / piece > 60 || size <= piece) continue;
      std::vector<size_t> offsets;
      for (size_t at = 0; at < size; at += piece) offsets.push_back(at);
      for (size_t i = offsets.size(); i > 1; --i)
        std::swap(offsets[i - 1], offsets[random.below(i)]);
      const Bytes payload = datagram(size);
      for (size_t i = 0; i < offsets.size(); ++i) {
        EXPECT_TRUE(whole.empty() || i == 0);
        ASSERT_EQ(add(r, payload, offsets[i], std::min(piece, size - offsets[i])), Drop::none);
      }
      expect_whole(payload);
      EXPECT_EQ(r.packets(), 0u);
      EXPECT_EQ(r.pages_used(), 0u);
    }
  }
}

TEST_P(Reassembly, ADuplicateIsDroppedAndThePacketLives) {
  Reassembler r({});
  const Bytes payload = datagram(3000);
  ASSERT_EQ(add(r, payload, 0, 1480), Drop::none);
  EXPECT_EQ(add(r, payload, 0, 1480), Drop::ip_fragment_duplicate);
  EXPECT_EQ(add(r, payload, 0, 720), Drop::ip_fragment_duplicate)
      << "cut otherwise, the same bytes";
  ASSERT_EQ(add(r, payload, 1480, 1480), Drop::none);
  ASSERT_EQ(add(r, payload, 2960, 40), Drop::none);
  expect_whole(payload);
}

// proves: 8200-20, 5722-1, 5722-2
TEST_P(Reassembly, AnOverlapEndsThePacketAndWhatIsStillToCome) {
  const Bytes payload = datagram(3000);
  const struct {
    size_t offset, length;
  } overlaps[] = {{8, 1480}, {1472, 1480}, {0, 2960}, {720, 1480}};
  for (const auto& overlap : overlaps) {
    Reassembler r({});
    ASSERT_EQ(add(r, payload, 0, 1480), Drop::none);
    EXPECT_EQ(add(r, payload, overlap.offset, overlap.length), Drop::ip_fragment_overlap);
    EXPECT_EQ(r.pages_used(), 0u);
    EXPECT_EQ(r.take_displaced(), 1u);
    EXPECT_EQ(add(r, payload, 0, 1480), Drop::ip_fragment_overlap);
    EXPECT_EQ(add(r, payload, 1480, 1480), Drop::ip_fragment_overlap);
    EXPECT_EQ(add(r, payload, 2960, 40), Drop::ip_fragment_overlap);
    Reassembler::Expired expired;
    ASSERT_TRUE(r.next_expired(now + 60s, &expired));
    EXPECT_TRUE(expired.quote.empty()) << "RFC 5722: silently";
  }
}

// proves: 5722-1
TEST_P(Reassembly, OtherBytesAtTheSamePlaceAreAnOverlap) {
  Reassembler r({});
  Bytes payload = datagram(3000);
  ASSERT_EQ(add(r, payload, 0, 1480), Drop::none);
  payload[100] ^= std::byte{1};
  EXPECT_EQ(add(r, payload, 0, 1480), Drop::ip_fragment_overlap);
}

TEST_P(Reassembly, TwoEndsAndDataBehindTheEnd) {
  const Bytes payload = datagram(3000);
  Reassembler r({});
  ASSERT_EQ(add(r, frame(payload, 1480, 800, false)), Drop::none);
  EXPECT_EQ(add(r, frame(payload, 2280, 80, true)), Drop::ip_fragment_overlap);
  Reassembler s({});
  ASSERT_EQ(add(s, frame(payload, 1480, 800, false)), Drop::none);
  EXPECT_EQ(add(s, frame(payload, 2280, 80, false)), Drop::ip_fragment_overlap);
  Reassembler t({});
  ASSERT_EQ(add(t, frame(payload, 2280, 80, true)), Drop::none);
  EXPECT_EQ(add(t, frame(payload, 1480, 800, false)), Drop::ip_fragment_overlap);
}

TEST_P(Reassembly, TinyFirstFragmentsAndTransportHeadersInPieces) {
  Reassembler r({});
  const Bytes payload = datagram(64);
  Bytes tcp = frame(payload, 0, 16, true);
  tcp[v6() ? 14 + 40 : 14 + 9] = std::byte{6};
  if (!v6()) {  // its header checksum
    std::memset(tcp.data() + 24, 0, 2);
    const be16 sum = checksum_finish(checksum_add({tcp.data() + 14, 20}));
    std::memcpy(tcp.data() + 24, &sum, 2);
  }
  EXPECT_EQ(add(r, tcp), Drop::ip_fragment_tiny);
  EXPECT_EQ(r.packets(), 0u);
}

TEST_P(Reassembly, MoreThanAPacketCanHold) {
  Reassembler r({});
  const Bytes payload(65535);
  if (v6()) GTEST_SKIP() << "the parser has refused it: 65,535 bytes are the fragmented part's";
  EXPECT_EQ(add(r, frame(payload, 65528, 7, false)), Drop::ip_fragment_too_long);
  EXPECT_EQ(r.packets(), 0u);
}

// proves: 8200-16, 1122-12
TEST_P(Reassembly, TimeEndsAndTheFirstFragmentIsQuoted) {
  Reassembler r({});
  const Bytes payload = datagram(3000);
  const Bytes first = frame(payload, 0, 1480, true, 1);
  ASSERT_EQ(add(r, first), Drop::none);
  now += 1s;
  ASSERT_EQ(add(r, frame(payload, 1480, 1480, true, 2)), Drop::none);
  const Duration life = v6() ? 60s : 30s;
  EXPECT_EQ(r.next_deadline(), now - 1s + life);
  Reassembler::Expired expired;
  EXPECT_FALSE(r.next_expired(now - 1s + life - 1ns, &expired));
  ASSERT_TRUE(r.next_expired(now - 1s + life, &expired));
  EXPECT_EQ(expired.source, ip(source()));
  EXPECT_EQ(expired.fragments, 1u);
  ASSERT_GE(expired.quote.size(), 1280u);
  EXPECT_TRUE(std::equal(expired.quote.begin(), expired.quote.end(), first.begin() + 14));
  EXPECT_FALSE(r.next_expired(now - 1s + life, &expired)) << "the other is a second younger";
  ASSERT_TRUE(r.next_expired(now + life, &expired));
  EXPECT_TRUE(expired.quote.empty()) << "its first fragment never came";
  EXPECT_EQ(r.next_deadline(), kNever);
  EXPECT_EQ(r.pages_used(), 0u);
}

TEST_P(Reassembly, EcnOfAllFragmentsTogether) {
  const Bytes payload = datagram(2000);
  Reassembler r({});
  ASSERT_EQ(add(r, frame(payload, 0, 1480, true, 7, 2)), Drop::none);
  ASSERT_EQ(add(r, frame(payload, 1480, 520, false, 7, 3)), Drop::none);
  expect_whole(payload);
  EXPECT_EQ(ecn, 3);
  ASSERT_EQ(add(r, frame(payload, 0, 1480, true, 8, 0)), Drop::none);
  EXPECT_EQ(add(r, frame(payload, 1480, 520, false, 8, 3)), Drop::ip_fragment_ecn);
}

// A flood of first fragments from one source takes its share and no more: another source's packet
// in the making lives on.
// proves: 8200-14
TEST_P(Reassembly, OneSourceHasItsShare) {
  Reassembler r({.memory = 1 << 20, .memory_of_source = 128 << 10});
  const Bytes payload = datagram(3000);
  const char* const other = v6() ? "2001:db8::77" : "192.0.2.77";
  ASSERT_EQ(add(r, frame(payload, 0, 1480, true, 1, 0, other)), Drop::none);
  uint32_t lost = 0;
  for (uint32_t id = 0; id < 5000; ++id) {
    ASSERT_EQ(add(r, frame(payload, 0, 1480, true, id)), Drop::none);
    lost += r.take_displaced();
    ASSERT_LE(r.pages_used(), (128u << 10) / 2048 + 1);
    ASSERT_LE(r.packets(), 65u);
  }
  EXPECT_EQ(lost, 5000u - 64);
  ASSERT_EQ(add(r, frame(payload, 1480, 1480, true, 1, 0, other)), Drop::none);
  ASSERT_EQ(add(r, frame(payload, 2960, 40, false, 1, 0, other)), Drop::none);
  EXPECT_EQ(whole.size(), 3000u + (v6() ? 40 : 20));
}

TEST_P(Reassembly, ManySourcesTakeThePoolAndNoMore) {
  Reassembler r({.memory = 256 << 10, .memory_of_source = 64 << 10});
  const Bytes payload = datagram(3000);
  uint32_t lost = 0;
  for (uint32_t i = 0; i < 3000; ++i) {
    const std::string from = (v6() ? "2001:db8::" : "10.0.") + std::to_string(i / 200 + 1) +
                             (v6() ? ":" : ".") + std::to_string(i % 200 + 1);
    ASSERT_EQ(add(r, frame(payload, 0, 1480, true, 1, 0, from.c_str())), Drop::none);
    lost += r.take_displaced();
    ASSERT_LE(r.pages_used(), 128u);
  }
  EXPECT_EQ(lost + r.packets(), 3000u);
  const Bytes honest = datagram(2000);
  ASSERT_EQ(add(r, honest, 0, 1480), Drop::none) << "the newest is served";
  ASSERT_EQ(add(r, honest, 1480, 520), Drop::none);
  expect_whole(honest);
}

TEST_P(Reassembly, GapsAreLimited) {
  Reassembler r({});
  const Bytes payload = datagram(4000);
  Drop drop = Drop::none;
  int taken = 0;
  for (size_t at = 0; at + 8 < payload.size() && drop == Drop::none; at += 16, ++taken) {
    drop = add(r, payload, at, 8);
  }
  EXPECT_EQ(drop, Drop::ip_fragment_memory);
  EXPECT_EQ(taken, 33);
}

// Any fragments in any order: bounded, and what comes whole is what was sent or has two senders.
TEST_P(Reassembly, RandomPiecesKeepTheBounds) {
  Random random(11);
  Reassembler r({.memory = 256 << 10, .memory_of_source = 128 << 10});
  const Bytes payload = datagram(6000);
  int complete = 0;
  for (int i = 0; i < 30000; ++i) {
    const size_t at = random.below(750) * 8;
    const size_t n =
        std::min(payload.size() - at, (1 + random.below(random.below(4) == 0 ? 700 : 20)) * 8);
    (void)add(r, payload, at, n, static_cast<uint32_t>(random.below(40)));
    if (!whole.empty()) ++complete;
    ASSERT_LE(r.pages_used(), 128u);
    ASSERT_LE(r.packets(), 64u);
    now += 10ms;
    Reassembler::Expired expired;
    while (r.next_expired(now, &expired)) {
    }
  }
  now += 100s;
  Reassembler::Expired expired;
  while (r.next_expired(now, &expired)) {
  }
  EXPECT_EQ(r.pages_used(), 0u);
  EXPECT_EQ(r.packets(), 0u);
}

}  // namespace
}  // namespace postern
