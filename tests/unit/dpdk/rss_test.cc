#include "dpdk/rss.h"

#include <gtest/gtest.h>
#include <rte_thash.h>

#include <array>

#include "base/random.h"

namespace postern {
namespace {

// DPDK's bit-by-bit Toeplitz over host-order words, with the key that devices get.
uint32_t reference(const IpAddress& a, const IpAddress& b, uint16_t pa, uint16_t pb) {
  uint32_t words[9];
  unsigned n = 0;
  const size_t skip = a.is_v4() ? 12 : 0;
  for (const IpAddress* address : {&a, &b}) {
    for (size_t i = skip; i < 16; i += 4) {
      const uint8_t* d = address->data() + i;
      words[n++] = uint32_t{d[0]} << 24 | uint32_t{d[1]} << 16 | uint32_t{d[2]} << 8 | d[3];
    }
  }
  words[n++] = uint32_t{pa} << 16 | pb;
  const auto key = rss::key();
  return rte_softrss(words, n, key.data());
}

IpAddress random_v6(Random& random) {
  uint8_t bytes[16];
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
  bytes[0] = 0x20;
  return IpAddress::v6(bytes);
}

TEST(Rss, AgreesWithTheDevicesHash) {
  Random random(7);
  for (int i = 0; i < 1000; ++i) {
    const bool v6 = i % 2 == 1;
    const Endpoint a{v6 ? random_v6(random) : IpAddress::v4(static_cast<uint32_t>(random())),
                     static_cast<uint16_t>(random())};
    const Endpoint b{v6 ? random_v6(random) : IpAddress::v4(static_cast<uint32_t>(random())),
                     static_cast<uint16_t>(random())};
    EXPECT_EQ(rss::hash(rss::fold(a, b)), reference(a.address, b.address, a.port, b.port));
    EXPECT_EQ(rss::fold(a, b), rss::fold(b, a));
  }
}

TEST(Rss, BucketsAreTheHashsLowBits) {
  for (uint32_t folded = 0; folded <= 0xffff; ++folded) {
    const auto word = static_cast<uint16_t>(folded);
    ASSERT_EQ(rss::bucket_of(word), rss::hash(word) % rss::kBuckets) << folded;
  }
}

TEST(Rss, SpreadsFlowsOfOnePair) {
  const IpAddress server = IpAddress::v4(0x0a000001), client = IpAddress::v4(0x0a000002);
  for (uint32_t workers : {2U, 3U, 4U, 7U}) {
    std::array<unsigned, 8> flows{};
    for (uint16_t port = 32768; port < 32768 + 4096; ++port) {
      ++flows[rss::worker_of(rss::hash(rss::fold({server, 80}, {client, port})), workers)];
    }
    for (uint32_t w = 0; w < workers; ++w) {
      EXPECT_GT(flows[w], 4096 / workers * 8 / 10) << workers << " workers";
    }
  }
}

}  // namespace
}  // namespace postern
