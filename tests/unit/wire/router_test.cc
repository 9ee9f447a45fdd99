// Router advertisements and redirects on the wire: RFC 4861 6.1, 8.1.
#include "wire/router.h"

#include <gtest/gtest.h>

#include "frames.h"

namespace postern::wire {
namespace {

using Bytes = std::vector<uint8_t>;

const IpAddress kRouter = address("fe80::1"), kAllNodes = address("ff02::1");

TestFrame frame(uint8_t type, uint8_t code, uint32_t rest, const Bytes& body,
                const IpAddress& source = kRouter, uint8_t ttl = 255) {
  std::vector<std::byte> icmp(8 + body.size());
  write_icmp(icmp.data(), type, code, rest);
  std::memcpy(icmp.data() + 8, body.data(), body.size());
  finish_checksum(icmp.data(), icmp.size(), 0, source, kAllNodes, Protocol::icmp6);
  return ip_frame({.source = source,
                   .destination = kAllNodes,
                   .protocol = 58,
                   .ttl = ttl,
                   .payload_length = static_cast<uint32_t>(icmp.size())},
                  icmp);
}

const Bytes kTimes{0, 0, 0x75, 0x30, 0, 0, 7, 0xd0};  // 30,000 and 2,000 ms
const Bytes kMacOption{1, 1, 2, 0, 0, 0, 0, 9};
const Bytes kMtuOption{5, 1, 0, 0, 0, 0, 5, 0xb4};  // 1460
const Bytes kPrefixOption{3,    4,    64,   0xc0, 0, 0, 0x0e, 0x10, 0, 0, 7, 8, 0, 0, 0, 0,
                          0x20, 0x01, 0x0d, 0xb8, 0, 1, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0};

Bytes join(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Drop read(const TestFrame& f, RouterAdvertisement* out) {
  const ParsedPacket parsed = f.parse();
  EXPECT_EQ(parsed.drop, Drop::none);
  return read_advertisement(f.packet(), parsed, out);
}
Drop read(const TestFrame& f, Redirect* out) {
  const ParsedPacket parsed = f.parse();
  EXPECT_EQ(parsed.drop, Drop::none);
  return read_redirect(f.packet(), parsed, out);
}

TestFrame advertisement(const Bytes& options, uint32_t rest = 0x40080708) {
  return frame(icmp6::router_advertisement, 0, rest, join({kTimes, options}));
}

TEST(Advertisement, IsRead) {
  RouterAdvertisement ra;
  ASSERT_EQ(read(advertisement(join({kMacOption, kMtuOption, kPrefixOption})), &ra), Drop::none);
  EXPECT_EQ(ra.hop_limit, 64);
  EXPECT_EQ(ra.preference, 1);
  EXPECT_EQ(ra.lifetime, 1800);
  EXPECT_EQ(ra.reachable_ms, 30'000u);
  EXPECT_EQ(ra.retrans_ms, 2'000u);
  EXPECT_EQ(ra.mtu, 1460u);
  ASSERT_TRUE(ra.has_mac);
  EXPECT_EQ(ra.mac, (MacAddress{{2, 0, 0, 0, 0, 9}}));
  ASSERT_EQ(ra.prefix_count, 1);
  const PrefixOption& p = ra.prefixes[0];
  EXPECT_EQ(p.prefix, *Prefix::parse("2001:db8:1::/64"));
  EXPECT_TRUE(p.on_link);
  EXPECT_TRUE(p.autonomous);
  EXPECT_EQ(p.valid, 3600u);
  EXPECT_EQ(p.preferred, 1800u);
}

TEST(Advertisement, PreferenceOfARouter) {
  RouterAdvertisement ra;
  const std::pair<uint32_t, int> cases[] = {{0x00, 0}, {0x08, 1}, {0x10, 0}, {0x18, -1}};
  for (const auto& [flags, preference] : cases) {
    ASSERT_EQ(read(advertisement({}, flags << 16), &ra), Drop::none);
    EXPECT_EQ(ra.preference, preference) << flags;
  }
}

// RFC 4861 6.1.2, check by check.
// proves: 4861-2
TEST(Advertisement, InvalidOnesAreRefused) {
  constexpr uint8_t type = icmp6::router_advertisement;
  RouterAdvertisement ra;
  EXPECT_EQ(read(frame(type, 0, 0, kTimes, address("2001:db8::1")), &ra), Drop::nd_malformed)
      << "not from the link";
  EXPECT_EQ(read(frame(type, 0, 0, kTimes, kRouter, 254), &ra), Drop::nd_bad_hop_limit);
  EXPECT_EQ(read(frame(type, 1, 0, kTimes), &ra), Drop::nd_malformed) << "code";
  EXPECT_EQ(read(frame(type, 0, 0, {0, 0, 0, 0, 0, 0, 0}), &ra), Drop::nd_malformed) << "short";
  EXPECT_EQ(read(advertisement({5, 0, 0, 0, 0, 0, 0, 0}), &ra), Drop::nd_malformed)
      << "an option of length 0";
  EXPECT_EQ(read(advertisement({5, 2, 0, 0, 0, 0, 0, 0}), &ra), Drop::nd_malformed)
      << "an option beyond the end";
}

// proves: 4861-3, 8504-7
TEST(Advertisement, OptionsThatAreNotUnderstoodAreSkipped) {
  RouterAdvertisement ra;
  const Bytes unknown{200, 1, 1, 2, 3, 4, 5, 6};
  Bytes long_prefix = kPrefixOption;
  long_prefix[2] = 129;
  const Bytes long_mtu{5, 2, 0, 0, 0, 0, 5, 0xb4, 0, 0, 0, 0, 0, 0, 0, 0};
  const Bytes group_mac{1, 1, 3, 0, 0, 0, 0, 9};
  ASSERT_EQ(
      read(advertisement(join({unknown, long_prefix, long_mtu, group_mac, kPrefixOption})), &ra),
      Drop::none);
  EXPECT_EQ(ra.prefix_count, 1);
  EXPECT_EQ(ra.mtu, 0u);
  EXPECT_FALSE(ra.has_mac);
}

TEST(Advertisement, MorePrefixesThanAreReadDoNoHarm) {
  Bytes options;
  for (int i = 0; i < 40; ++i) options = join({options, kPrefixOption});
  RouterAdvertisement ra;
  ASSERT_EQ(read(advertisement(options), &ra), Drop::none);
  EXPECT_EQ(ra.prefix_count, RouterAdvertisement::kMaxPrefixes);
}

Bytes bytes(const IpAddress& a) { return {a.data(), a.data() + 16}; }

TestFrame redirect(const char* target, const char* destination, const Bytes& options = {},
                   const IpAddress& source = kRouter, uint8_t ttl = 255, uint8_t code = 0) {
  return frame(icmp6::redirect, code, 0,
               join({bytes(address(target)), bytes(address(destination)), options}), source, ttl);
}

TEST(Redirect, IsRead) {
  Redirect r;
  ASSERT_EQ(read(redirect("fe80::2", "2001:db8:9::1", {2, 1, 2, 0, 0, 0, 0, 8}), &r), Drop::none);
  EXPECT_EQ(r.target, address("fe80::2"));
  EXPECT_EQ(r.destination, address("2001:db8:9::1"));
  ASSERT_TRUE(r.has_mac);
  EXPECT_EQ(r.mac.bytes[5], 8);
  EXPECT_EQ(read(redirect("2001:db8:9::1", "2001:db8:9::1"), &r), Drop::none) << "on the link";
}

// RFC 4861 8.1, check by check.
// proves: 4861-32
TEST(Redirect, InvalidOnesAreRefused) {
  const char* const to = "2001:db8:9::1";
  Redirect r;
  EXPECT_EQ(read(redirect("fe80::2", to, {}, address("2001:db8::1")), &r), Drop::nd_malformed);
  EXPECT_EQ(read(redirect("fe80::2", to, {}, kRouter, 64), &r), Drop::nd_bad_hop_limit);
  EXPECT_EQ(read(redirect("fe80::2", to, {}, kRouter, 255, 1), &r), Drop::nd_malformed);
  EXPECT_EQ(read(redirect("2001:db8::7", to), &r), Drop::nd_malformed) << "no router's address";
  EXPECT_EQ(read(redirect("fe80::2", "ff02::9"), &r), Drop::nd_malformed) << "a group";
  EXPECT_EQ(read(redirect("fe80::2", to, {2, 0, 0, 0, 0, 0, 0, 0}), &r), Drop::nd_malformed);
  EXPECT_EQ(read(frame(icmp6::redirect, 0, 0, Bytes(31)), &r), Drop::nd_malformed) << "short";
}

// proves: 4861-1
TEST(RouterSolicitation, TellsTheMacUnlessItIsFromNowhere) {
  std::array<std::byte, kMaxRouterSolicitation> out{};
  EXPECT_EQ(write_router_solicitation(out.data(), nullptr), 8u);
  EXPECT_EQ(out[0], std::byte{133});
  EXPECT_EQ(write_router_solicitation(out.data(), &kOurMac), 16u);
  EXPECT_EQ(out[8], std::byte{1});
  EXPECT_EQ(out[9], std::byte{1});
  EXPECT_EQ(std::memcmp(&out[10], kOurMac.bytes.data(), 6), 0);
}

}  // namespace
}  // namespace postern::wire
