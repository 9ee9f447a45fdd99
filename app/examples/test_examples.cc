// Parts of the C examples that need no socket.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

extern "C" {
#include "common/pattern.h"
#include "common/sha256.h"
#include "iperf_sink/protocol.h"
}

namespace {

TEST(Pattern, FollowsFromThePosition) {
  std::vector<unsigned char> whole(1000);
  pattern_fill(0, whole.data(), whole.size());
  for (size_t from = 0; from < 20; ++from) {
    std::vector<unsigned char> part(501);
    pattern_fill(from, part.data(), part.size());
    EXPECT_EQ(std::memcmp(part.data(), &whole[from], part.size()), 0) << from;
    EXPECT_EQ(pattern_match(from, &whole[from], 501), 501u);
    EXPECT_LT(pattern_match(from + 1, &whole[from], 501), 16u) << "a shift must show";
  }
}

TEST(Pattern, TellsWhereItDiffers) {
  std::vector<unsigned char> data(100);
  for (size_t wrong = 0; wrong < data.size(); ++wrong) {
    pattern_fill(3, data.data(), data.size());
    data[wrong] ^= 0x10;
    EXPECT_EQ(pattern_match(3, data.data(), data.size()), wrong);
  }
}

std::string sha256(const std::string& text, size_t piece) {
  struct sha256 hash;
  char out[65];
  sha256_init(&hash);
  for (size_t at = 0; at < text.size(); at += piece) {
    sha256_add(&hash, text.data() + at, std::min(piece, text.size() - at));
  }
  sha256_finish(&hash, out);
  return out;
}

// Vectors of FIPS 180-4's examples.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc", 1), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  for (const size_t piece : {1, 3, 55, 56, 64}) {
    EXPECT_EQ(sha256(two_blocks, piece),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  }
  EXPECT_EQ(sha256(std::string(1000000, 'a'), 777),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Iperf, Parameters) {
  struct iperf_parameters p;
  ASSERT_TRUE(
      parse_parameters(R"({"tcp":true,"omit":2,"time":10,"parallel":4,"reverse":true,"len":131072,)"
                       R"("title":"\"udp\":true,","client_version":"3.12"})",
                       &p));
  EXPECT_TRUE(p.tcp);
  EXPECT_TRUE(p.reverse);
  EXPECT_FALSE(p.bidirectional);
  EXPECT_EQ(p.streams, 4u);
  EXPECT_EQ(p.omit, 2u);
  EXPECT_EQ(p.block, 131072u);
}

TEST(Iperf, ParametersThatMakeNoSense) {
  struct iperf_parameters p;
  EXPECT_FALSE(parse_parameters("", &p));
  EXPECT_FALSE(parse_parameters("[1]", &p));
  ASSERT_TRUE(parse_parameters("{\"udp\":true,\"parallel\":999999999999,\"len\":0", &p));
  EXPECT_FALSE(p.tcp);
  EXPECT_EQ(p.streams, MAX_STREAMS + 1u) << "more than is served, for the caller to refuse";
  EXPECT_GT(p.block, 0u);
  ASSERT_TRUE(parse_parameters(R"({"title":"unfinished \")", &p));
}

TEST(Iperf, Results) {
  const struct iperf_stream_result streams[] = {{stream_id(0), 10}, {stream_id(1), 20}};
  char text[1024];
  const size_t length = format_results(text, sizeof text, streams, 2, 1.5, 3, false);
  ASSERT_EQ(length, std::strlen(text));
  EXPECT_NE(std::strstr(text, R"({"id":1,"bytes":10,)"), nullptr);
  EXPECT_NE(std::strstr(text, R"({"id":3,"bytes":20,)"), nullptr);
  EXPECT_EQ(format_results(text, 100, streams, 2, 1.5, 3, false), 0u);
}

}  // namespace
