// What TcpInfo measures, and the receive buffer that follows the application.
#include "bench.h"

namespace postern {
namespace {

using S = TcpState;

TcpInfo info(Bench& b) {
  TcpInfo out;
  b.tcp.info(b.context(), out);
  return out;
}

TcpSegment wide(Bench& b, uint32_t ack_number) {
  TcpSegment s = b.segment(ack, 1, ack_number);
  s.window = 65535;
  return s;
}

// Ten segments a round trip of 100 ms, `rounds` times.
void send_rounds(Bench& b, int rounds) {
  uint32_t sent = 0;
  for (int i = 0; i < rounds; ++i) {
    b.tcp.on_send(b.context(), 10000, false);
    b.send();
    b.now += 100ms;
    sent += 10000;
    (void)b.receive(wide(b, 1 + sent));
    b.send();
  }
}

TEST(TcpInfo, DeliveryRate) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  b.tcp.on_send(b.context(), 40000, false);
  b.send();
  for (const uint32_t acked : {10000U, 28000U}) {  // an ACK opens cwnd by 8 segments (RFC 9406)
    b.now += 100ms;
    (void)b.receive(wide(b, 1 + acked));
    b.send();
  }
  EXPECT_EQ(info(b).delivery_rate, 180'000U);
  EXPECT_FALSE(info(b).delivery_rate_app_limited);
}

TEST(TcpInfo, DeliveryRateOfASlowApplicationSaysSo) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  send_rounds(b, 5);
  TcpInfo i = info(b);
  EXPECT_EQ(i.delivery_rate, 100'000U);
  EXPECT_TRUE(i.delivery_rate_app_limited);
  b.now += 10s;
  send_rounds(b, 1);
  EXPECT_EQ(info(b).delivery_rate, 100'000U) << "a pause is no slow path";
}

TEST(TcpInfo, DeliveryRateIsNoHigherForAcksThatComeTogether) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  for (int i = 0; i < 2; ++i) {  // 5000 bytes each 50 ms
    b.tcp.on_send(b.context(), 5000, false);
    b.send();
    b.now += 50ms;
  }
  b.now += 50ms;
  (void)b.receive(wide(b, 1 + 5000));
  b.now += 1ms;
  (void)b.receive(wide(b, 1 + 10000));
  EXPECT_EQ(info(b).delivery_rate, 100'000U);
}

// Only a machine that stood still sees such a thing, or a peer that lies in its timestamps.
TEST(TcpInfo, RoundTripOfAnHourDoesNotOverflow) {
  Bench b;
  b.enter(S::syn_received);
  b.now += 100ms;
  (void)b.receive(wide(b, 1));
  for (uint32_t sent = 0; sent < 3000; sent += 1000) {
    b.tcp.on_send(b.context(), 1000, false);
    b.send();
    b.now += 3600s;
    (void)b.receive(wide(b, 1 + sent + 1000));
    EXPECT_GT(info(b).srtt, 30s);
    EXPECT_LE(info(b).srtt, 269s);
  }
}

TEST(TcpInfo, Bytes) {
  Bench b;
  b.enter(S::established);
  b.tcp.on_send(b.context(), 3000, false);
  b.send();
  (void)b.receive(b.segment(ack, 1, 2001, 700));
  TcpInfo i = info(b);
  EXPECT_EQ(i.bytes_acked, 2000U);
  EXPECT_EQ(i.bytes_sent, 3000U);
  EXPECT_EQ(i.bytes_received, 700U);
  EXPECT_EQ(i.bytes_resent, 0U);
  b.pass(2s);
  i = info(b);
  EXPECT_GE(i.bytes_resent, 1000U);
  EXPECT_EQ(i.bytes_resent, i.retransmits * 1000U);
  EXPECT_EQ(i.bytes_sent, 3000U + i.bytes_resent);
}

TEST(TcpInfo, BytesBeyondFourGigabytes) {
  Bench b;
  b.enter(S::established);
  uint32_t position = 1;
  constexpr uint64_t kTotal = 5ULL << 30;
  uint64_t received = 0;
  while (received < kTotal) {
    (void)b.receive(b.segment(ack, position, 1, 32768));
    position += 32768;
    received += 32768;
    b.tcp.on_consumed(b.context(), position - 1);
    TcpSegment s;
    while (b.tcp.next_segment(b.context(), s)) {
    }
  }
  EXPECT_EQ(info(b).bytes_received, received);
}

TEST(TcpInfo, LimitedByTheReceiver) {
  Bench b;
  b.enter(S::established);
  b.tcp.on_send(b.context(), 30000, false);  // the window is 10000
  b.send();
  b.now += 50ms;
  TcpInfo i = info(b);
  EXPECT_EQ(i.limited_by_receiver, 50ms);
  EXPECT_EQ(i.busy, 50ms);
  TcpSegment closed = b.segment(ack, 1, 10001);
  closed.window = 0;
  (void)b.receive(closed);
  b.send();
  b.now += 70ms;
  EXPECT_EQ(info(b).limited_by_receiver, 120ms);
}

TEST(TcpInfo, LimitedByCongestion) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  b.tcp.on_send(b.context(), 30000, false);  // cwnd is 10000
  b.send();
  b.now += 50ms;
  TcpInfo i = info(b);
  EXPECT_EQ(i.limited_by_congestion, 50ms);
  EXPECT_EQ(i.limited_by_receiver, 0ms);
}

TEST(TcpInfo, LimitedByTheSender) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  b.tcp.on_send(b.context(), 2000, false);
  b.send();
  b.now += 30ms;
  EXPECT_EQ(info(b).limited_by_sender, 30ms);
  EXPECT_EQ(info(b).limited_by_send_buffer, 0ms);
  (void)b.receive(wide(b, 2001));
  b.now += 5s;
  EXPECT_EQ(info(b).busy, 30ms) << "idle is not busy";
}

TEST(TcpInfo, LimitedByTheSendBuffer) {
  Bench b;
  ASSERT_TRUE(b.tcp.set_option(b.context(), TcpOption::send_buffer, 4000));
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  b.tcp.on_send(b.context(), 4000, false);
  b.send();
  b.now += 30ms;
  EXPECT_EQ(info(b).limited_by_send_buffer, 30ms);
  EXPECT_EQ(info(b).limited_by_sender, 30ms);
}

TEST(TcpInfo, ReorderingSeen) {  // RFC 8985 6.2.3
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  b.tcp.on_send(b.context(), 4000, false);
  b.send();
  b.now += 100ms;
  TcpSegment s = wide(b, 1);
  s.sack_count = 1;
  s.sack[0] = SackBlock{kIss + 2001, kIss + 3001};
  (void)b.receive(s);
  EXPECT_EQ(info(b).reorder_seen, 0U);
  (void)b.receive(wide(b, 3001));  // the first two were late, not lost
  EXPECT_TRUE(info(b).reordering);
  EXPECT_EQ(info(b).reorder_seen, 1U);
}

TEST(TcpCongestion, AnotherAlgorithmStartsAfresh) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  send_rounds(b, 3);
  for (const char* name : {"newreno", "dctcp", "cubic"}) {
    ASSERT_TRUE(b.tcp.set_option(b.context(), TcpOption::congestion,
                                 static_cast<uint32_t>(find_congestion(name))));
    EXPECT_STREQ(info(b).congestion, name);
  }
}

// ---- the receive buffer: dynamic right-sizing ----

// Segments of 1000 bytes that are read at once, `count` of them in each of `rounds` round trips.
void stream(Bench& b, uint32_t& position, int rounds, uint32_t count) {
  for (int r = 0; r < rounds; ++r) {
    for (uint32_t i = 0; i < count; ++i) {
      b.now += Duration(100ms) / count;
      (void)b.receive(b.segment(ack, 1 + position, 1, 1000));
      position += 1000;
      b.tcp.on_consumed(b.context(), position);
      b.send();
    }
  }
}

TEST(TcpReceiveBuffer, GrowsWithTheRate) {
  Bench b;
  b.config.receive_buffer = 64 << 10;
  b.config.receive_buffer_max = 4 << 20;
  b.enter(S::established);  // the round trip is 100 ms
  uint32_t position = 0;
  stream(b, position, 3, 50);
  const uint32_t first = info(b).receive_buffer;
  EXPECT_GE(first, 100'000U) << "twice what is read in a round trip";
  stream(b, position, 3, 400);
  EXPECT_GE(info(b).receive_buffer, 800'000U);
  EXPECT_LE(info(b).receive_buffer, 4U << 20);
}

TEST(TcpReceiveBuffer, StaysWhereTheApplicationIsSlow) {
  Bench b;
  b.config.receive_buffer = 64 << 10;
  b.enter(S::established);
  uint32_t position = 0;
  stream(b, position, 50, 5);
  EXPECT_EQ(info(b).receive_buffer, 64U << 10);
}

TEST(TcpReceiveBuffer, NeverTakesMoreThanHalfOfTheMemory) {
  Bench b;
  b.config.receive_buffer = 64 << 10;
  b.enter(S::established);
  uint32_t position = 0;
  for (int i = 0; i < 400; ++i) {
    b.now += 1ms;
    (void)b.receive(b.segment(ack, 1 + position, 1, 1000));
    position += 1000;
    TcpContext ctx = b.context();
    ctx.receive_room = 10'000;
    b.tcp.on_consumed(ctx, position);
    b.send();
  }
  EXPECT_LE(info(b).receive_buffer, (64U << 10) + 4 * 5000U);
}

TEST(TcpReceiveBuffer, SetByTheApplicationItStays) {
  Bench b;
  ASSERT_TRUE(b.tcp.set_option(b.context(), TcpOption::receive_buffer, 64 << 10));
  b.enter(S::established);
  uint32_t position = 0;
  stream(b, position, 10, 100);
  EXPECT_EQ(info(b).receive_buffer, 64U << 10);
}

// RFC 7323 2.2: the scale is said once, so it must do for the largest window.
TEST(TcpReceiveBuffer, ScaleCoversTheMaximum) {
  Bench b;
  b.config.receive_buffer = 64 << 10;
  b.config.receive_buffer_max = 64 << 20;
  b.tcp.open_active(b.context(), 1460);
  const TcpSegment s = b.send().at(0);
  EXPECT_GE(65535U << s.window_scale, 64U << 20);
}

}  // namespace
}  // namespace postern
