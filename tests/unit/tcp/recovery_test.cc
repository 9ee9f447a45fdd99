// What scripts cannot say briefly: long windows, exhausted pools, bounds.
#include "bench.h"

namespace postern {
namespace {

using S = TcpState;

// A connection with `segments` full segments in flight.
void fill(Bench& b, uint32_t segments) {
  b.config.initial_window = static_cast<uint16_t>(segments);
  b.enter(S::established);
  TcpSegment wide = b.segment(ack, 1, 1);
  wide.window = 65535;
  (void)b.receive(wide);
  b.tcp.on_send(b.context(), segments * 1000, false);
  ASSERT_EQ(b.send().size(), segments);
}

TcpSegment sack(Bench& b, uint32_t ack_number, uint32_t left, uint32_t right) {
  TcpSegment s = b.segment(ack, 1, ack_number);
  s.window = 65535;
  s.sack_count = 1;
  s.sack[0] = SackBlock{kIss + left, kIss + right};
  return s;
}

TEST(TcpRecovery, WhatGoesOutTogetherIsOneRange) {
  Bench b;
  fill(b, 14);
  EXPECT_EQ(b.pool.available(), b.pool.capacity());
}

TEST(TcpRecovery, SackedNeighboursJoin) {
  Bench b;
  fill(b, 14);
  b.now += 100ms;
  for (uint32_t i = 1; i < 14; ++i) (void)b.receive(sack(b, 1, 1001, 1001 + i * 1000));
  EXPECT_LE(b.pool.capacity() - b.pool.available(), 3U);
}

TEST(TcpRecovery, EachLostSegmentIsSentOnce) {
  Bench b;
  fill(b, 14);
  b.now += 100ms;
  (void)b.receive(sack(b, 1, 10001, 14001));
  std::vector<uint32_t> again;
  for (int round = 0; round < 30; ++round) {
    for (const TcpSegment& s : b.send()) again.push_back(s.seq - kIss);
    b.now += 100ms;
    if (again.empty()) break;
    (void)b.receive(sack(b, 1 + static_cast<uint32_t>(again.size()) * 1000, 10001, 14001));
  }
  std::vector<uint32_t> expected;
  for (uint32_t i = 0; i < 10; ++i) expected.push_back(1 + i * 1000);
  EXPECT_EQ(again, expected);
}

TEST(TcpRecovery, ProportionalRateReduction) {  // RFC 6937: never more than delivered, on average
  Bench b;
  fill(b, 20);
  b.tcp.on_send(b.context(), 40000, false);
  b.now += 100ms;
  TcpInfo info;
  uint32_t out = 0;
  for (uint32_t i = 1; i < 20; ++i) {
    (void)b.receive(sack(b, 1, 1001, 1001 + i * 1000));
    out += static_cast<uint32_t>(b.send().size());
  }
  b.tcp.info(b.context(), info);
  EXPECT_TRUE(info.in_recovery);
  EXPECT_GE(out, 19U * 7 / 10);
  EXPECT_LE(out, 19U);
  EXPECT_NEAR(info.ssthresh, 14000, 1);
}

TEST(TcpRecovery, NoPoolAtAll) {
  Bench b;
  b.pool = TcpRangePool(0);
  fill(b, 10);
  b.pass(5s);
  std::vector<TcpSegment> sent = b.sent_in_passing;
  ASSERT_FALSE(sent.empty());
  for (const TcpSegment& s : sent) EXPECT_EQ(s.seq, kIss + 1) << "the first, again and again";
  (void)b.receive(b.segment(ack, 1, 10001));
  EXPECT_EQ(b.tcp.tx_acked(), 10000U);
}

TEST(TcpReceive, GapsAreBounded) {
  Bench b;
  b.enter(S::established);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < 400; ++i) {
    if (b.receive(b.segment(ack, 1001 + 20 * i, 1, 10)).accept_data) ++kept;
    b.send();
  }
  EXPECT_EQ(kept, 128U);
  EXPECT_GE(b.pool.available(), b.pool.capacity() / 4) << "others need nodes too";
  // The stream is still whole.
  const TcpInput in = b.receive(b.segment(ack, 1, 1, 1000));
  EXPECT_TRUE(in.accept_data);
  EXPECT_EQ(b.tcp.rx_tail(), 1010U);
}

TEST(TcpReceive, MemoryIsNeverExceeded) {
  Bench b;
  b.enter(S::established);
  TcpContext ctx = b.context();
  ctx.receive_room = 300;
  TcpInput in = b.tcp.on_segment(ctx, b.segment(ack, 1, 1, 1000));
  EXPECT_TRUE(in.accept_data);
  EXPECT_EQ(in.length, 300U);
  ctx.receive_room = 0;
  in = b.tcp.on_segment(ctx, b.segment(ack, 301, 1, 1000));
  EXPECT_FALSE(in.accept_data);
  EXPECT_EQ(in.drop, Drop::app_rx_memory);
}

// What is stored already may be filled however little memory is left: else a gap could never close.
TEST(TcpReceive, GapsFillWithoutMemory) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(b.segment(ack, 1001, 1, 1000));
  TcpContext ctx = b.context();
  ctx.receive_room = 0;
  const TcpInput in = b.tcp.on_segment(ctx, b.segment(ack, 1, 1, 1000));
  EXPECT_TRUE(in.accept_data);
  EXPECT_EQ(in.length, 1000U);
  EXPECT_EQ(b.tcp.rx_tail(), 2000U);
}

TEST(TcpReceive, ConsumptionIsChecked) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(b.segment(ack, 1, 1, 1000));
  b.tcp.on_consumed(b.context(), 5000);  // beyond what there is
  b.tcp.on_consumed(b.context(), 0xffffff00);
  b.tcp.check_invariants(b.context());
  b.tcp.on_consumed(b.context(), 1000);
  b.tcp.on_consumed(b.context(), 500);  // backwards
  b.tcp.on_close(b.context());
  EXPECT_EQ(b.tcp.state(), S::fin_wait_1) << "all was read, so no reset";
}

TEST(TcpRangePool, HandsOutEachNodeOnce) {
  TcpRangePool pool(3);
  const uint32_t a = pool.allocate();
  const uint32_t b = pool.allocate();
  EXPECT_NE(a, 0U);
  EXPECT_NE(a, b);
  EXPECT_EQ(pool.allocate(1), 0U) << "the reserve is kept";
  const uint32_t c = pool.allocate();
  EXPECT_NE(c, 0U);
  EXPECT_EQ(pool.allocate(), 0U);
  pool.release(b);
  EXPECT_EQ(pool.allocate(), b);
  EXPECT_EQ(TcpRangePool(0).allocate(), 0U);
}

// ---- Eifel (RFC 3522, 4015): the echo tells which transmission is acknowledged ----

TcpSegment timed(Bench& b, uint8_t flags, uint32_t seq, uint32_t ack_number, uint32_t echo) {
  TcpSegment s = b.segment(flags, seq, ack_number);
  s.window = 65535;
  s.has_timestamps = true;
  s.ts_value = 1000 + static_cast<uint32_t>(b.now.time_since_epoch() / 1ms);
  s.ts_echo = echo;
  return s;
}

// Two segments, the first of which a timeout has sent again. The clocks of both transmissions.
struct Twice {
  uint32_t first, again;
};
Twice sent_twice(Bench& b) {
  b.config.timestamps = true;
  b.tcp.open_passive(b.context(), timed(b, syn, 0, 0, 0), 1460);
  const uint32_t clock = b.send().at(0).ts_value;
  b.now += 100ms;
  (void)b.receive(timed(b, ack, 1, 1, clock));
  b.tcp.on_send(b.context(), 1900, false);
  const uint32_t first = b.send().at(0).ts_value;
  b.pass(700ms);  // the loss probe, then the timeout
  EXPECT_EQ(b.sent_in_passing.size(), 2U);
  return {first, b.sent_in_passing.back().ts_value};
}

uint32_t ssthresh_of(Bench& b) {
  TcpInfo info;
  b.tcp.info(b.context(), info);
  return info.ssthresh;
}

TEST(TcpEifel, AnEchoOfTheOriginalUndoes) {
  Bench b;
  const Twice clocks = sent_twice(b);
  ASSERT_NE(ssthresh_of(b), UINT32_MAX) << "a timeout reduced it";
  (void)b.receive(timed(b, ack, 1, 989, clocks.first));
  EXPECT_EQ(ssthresh_of(b), UINT32_MAX);
}

TEST(TcpEifel, AnEchoOfTheRetransmissionDoesNot) {
  Bench b;
  const Twice clocks = sent_twice(b);
  (void)b.receive(timed(b, ack, 1, 989, clocks.again));
  EXPECT_NE(ssthresh_of(b), UINT32_MAX);
}

TEST(TcpEifel, NorAnAckOfNothing) {
  Bench b;
  const Twice clocks = sent_twice(b);
  (void)b.receive(timed(b, ack, 1, 1, clocks.first));
  EXPECT_NE(ssthresh_of(b), UINT32_MAX);
}

}  // namespace
}  // namespace postern
