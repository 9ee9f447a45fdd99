// RFC 4987 3.6: what a cookie keeps, and which it refuses.
#include "tcp/syn_cookie.h"

#include <bit>
#include <span>

#include "bench.h"

namespace postern {
namespace {

using ::testing::AllOf;
using S = TcpState;

constexpr SynCookieKey kKey{0x0706050403020100, 0x0f0e0d0c0b0a0908};

class SynCookie : public testing::Test {
 protected:
  SynCookie() {
    syn_.flags = syn;
    syn_.seq = 0xfffffff7;
    syn_.has_mss = syn_.sack_permitted = syn_.has_window_scale = true;
    syn_.mss = 1460;
    syn_.window_scale = 7;
  }
  [[nodiscard]] std::span<const std::byte> tuple() const {
    return std::as_bytes(std::span(tuple_));
  }
  uint32_t encode() { return encode_syn_cookie(kKey, tuple(), syn_, now_); }
  TcpSegment ack_of(uint32_t isn) {
    TcpSegment s;
    s.flags = ack;
    s.seq = syn_.seq + 1;
    s.ack = isn + 1;
    s.window = 500;
    return s;
  }
  bool decode(const TcpSegment& s) { return decode_syn_cookie(kKey, tuple(), s, now_, &out_); }

  std::array<uint32_t, 9> tuple_{1, 2, 3, 4, 5, 6, 7, 8, 80};
  TcpSegment syn_;
  TcpSegment out_;
  Time now_{Duration(1000s)};
};

TEST_F(SynCookie, KeepsTheOptions) {
  ASSERT_TRUE(decode(ack_of(encode())));
  EXPECT_EQ(out_.flags, syn);
  EXPECT_EQ(out_.seq, syn_.seq);
  EXPECT_TRUE(out_.has_mss);
  EXPECT_EQ(out_.mss, 1460);
  EXPECT_TRUE(out_.has_window_scale);
  EXPECT_EQ(out_.window_scale, 7);
  EXPECT_TRUE(out_.sack_permitted);
  EXPECT_FALSE(out_.has_timestamps);
}

TEST(SynCookieSecretTest, IsReplacedAndTheOneBeforeHoldsAsLongAsItsCookies) {
  SynCookieSecret secret(kKey);
  const std::array<uint32_t, 2> tuple{1, 2};
  const auto bytes = std::as_bytes(std::span(tuple));
  TcpSegment syn_segment;
  syn_segment.flags = syn;
  syn_segment.seq = 7;
  TcpSegment out;
  const Time start = Time{} + 100 * SynCookieSecret::kLife;
  const auto ack_of = [](uint32_t isn) {
    TcpSegment s;
    s.flags = ack;
    s.seq = 8;
    s.ack = isn + 1;
    return s;
  };
  (void)secret.encode(bytes, syn_segment, start);  // a new secret from here
  const Time late = start + SynCookieSecret::kLife - 1s;
  const TcpSegment old = ack_of(secret.encode(bytes, syn_segment, late));
  EXPECT_TRUE(secret.decode(bytes, old, late, &out));
  const TcpSegment fresh = ack_of(secret.encode(bytes, syn_segment, late + 1s));
  EXPECT_NE(fresh.ack, old.ack);
  EXPECT_TRUE(secret.decode(bytes, fresh, late + 2s, &out));
  EXPECT_TRUE(secret.decode(bytes, old, late + 2s, &out)) << "of the secret before";
  // Two secrets later, in an epoch in which the cookie would still be good.
  SynCookieSecret other(kKey);
  EXPECT_FALSE(other.decode(bytes, old, late + 2s, &out)) << "the first secret is another";
  (void)secret.encode(bytes, syn_segment, late + SynCookieSecret::kLife + 1s);
  EXPECT_FALSE(secret.decode(bytes, old, late + 2s, &out));
}

TEST_F(SynCookie, NothingIsEverRoundedUp) {
  for (uint32_t mss = 88; mss < 9000; mss += 13) {
    for (uint8_t scale = 0; scale <= 14; ++scale) {
      syn_.mss = static_cast<uint16_t>(mss);
      syn_.window_scale = scale;
      ASSERT_TRUE(decode(ack_of(encode())));
      EXPECT_LE(out_.mss, mss);
      EXPECT_LE(out_.window_scale, scale);
      EXPECT_TRUE(out_.has_window_scale) << "a scale of 0 scales as well";
    }
  }
}

TEST_F(SynCookie, WithoutOptions) {
  syn_ = TcpSegment{};
  syn_.flags = syn;
  ASSERT_TRUE(decode(ack_of(encode())));
  EXPECT_EQ(out_.mss, 536) << "RFC 9293 MUST-15";
  EXPECT_FALSE(out_.has_window_scale);
  EXPECT_FALSE(out_.sack_permitted);
}

TEST_F(SynCookie, TimestampsAreSeenOnTheAck) {  // RFC 7323 3.2
  TcpSegment s = ack_of(encode());
  s.has_timestamps = true;
  s.ts_value = 77;
  ASSERT_TRUE(decode(s));
  EXPECT_TRUE(out_.has_timestamps);
  EXPECT_EQ(out_.ts_value, 77U);
}

TEST_F(SynCookie, HoldsForTwoEpochs) {
  const uint32_t isn = encode();
  now_ += 64s;
  EXPECT_TRUE(decode(ack_of(isn)));
  now_ += 64s;
  EXPECT_FALSE(decode(ack_of(isn)));
  now_ += 64s;
  EXPECT_FALSE(decode(ack_of(isn))) << "the parity of an older epoch fits again";
}

TEST_F(SynCookie, BelongsToOneConnection) {
  const uint32_t isn = encode();
  const TcpSegment s = ack_of(isn);
  for (size_t i = 0; i < tuple_.size(); ++i) {
    ++tuple_[i];
    EXPECT_FALSE(decode(s)) << i;
    --tuple_[i];
  }
  TcpSegment other = s;
  ++other.seq;
  EXPECT_FALSE(decode(other));
  EXPECT_TRUE(decode(s));
}

// Options that the attacker would like to have cannot be flipped in.
TEST_F(SynCookie, NoBitCanBeChanged) {
  const uint32_t isn = encode();
  for (int bit = 0; bit < 32; ++bit) EXPECT_FALSE(decode(ack_of(isn ^ 1U << bit))) << bit;
}

TEST_F(SynCookie, IsnsLookRandom) {
  uint32_t ones = 0;
  for (uint32_t i = 0; i < 1000; ++i) {
    tuple_[1] = i;
    ones += static_cast<uint32_t>(std::popcount(encode()));
  }
  EXPECT_NEAR(ones, 16000, 400);
}

// ---- the connection that comes of it ----

TEST(TcpOpenCookie, EstablishesAsIfTheSynHadBeenKept) {
  Bench b;
  TcpSegment s = b.segment(syn, 0);
  s.has_window_scale = true;
  s.window_scale = 4;
  b.tcp.open_cookie(b.context(), s, 1460);
  EXPECT_TRUE(b.send().empty()) << "the SYN-ACK is out";
  const TcpInput in = b.receive(b.segment(ack, 1, 1, 10));
  EXPECT_EQ(b.tcp.state(), S::established);
  EXPECT_TRUE(in.accept_data);
  EXPECT_NE(b.events() & tcp_event::connected, 0);
  TcpInfo info;
  b.tcp.info(b.context(), info);
  EXPECT_EQ(info.cwnd, 10'000U) << "not the window of a lost SYN";
  EXPECT_EQ(info.srtt, Duration{}) << "when the SYN-ACK left is not known";
  EXPECT_EQ(info.snd_wnd, 10'000U << 4);
  EXPECT_TRUE(info.sack);
}

TEST(TcpOpenCookie, AsksAgainIfTheAckDoesNotDo) {
  Bench b;
  b.tcp.open_cookie(b.context(), b.segment(syn, 0), 1460);
  b.pass(2s);
  ASSERT_FALSE(b.sent_in_passing.empty());
  EXPECT_THAT(b.sent_in_passing[0], AllOf(HasFlags(syn | ack), HasSeq(0U)));
}

}  // namespace
}  // namespace postern
