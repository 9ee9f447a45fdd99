// Path MTU: ICMP, black holes, aging; and the bounds that keep small ones from being an attack.
#include "bench.h"

namespace postern {
namespace {

using ::testing::Each;
using S = TcpState;

// Established with an MSS of 1460, and `bytes` in flight.
void fill(Bench& b, uint32_t bytes, uint16_t mss = 1460) {
  TcpSegment s = b.segment(syn, 0);
  s.mss = mss;
  b.tcp.open_passive(b.context(), s, 1460);
  b.send();
  b.now += 100ms;
  (void)b.receive(b.segment(ack, 1, 1));
  b.tcp.on_send(b.context(), bytes, false);
  b.send();
}

// Sends `bytes` behind the `written` that are acknowledged already, and acknowledges as they come.
std::vector<TcpSegment> transfer(Bench& b, uint32_t written, uint32_t bytes) {
  std::vector<TcpSegment> all;
  b.tcp.on_send(b.context(), bytes, false);
  for (uint32_t arrived = 0; arrived != bytes;) {
    for (const TcpSegment& s : b.send()) {
      arrived += s.length;
      all.push_back(s);
    }
    b.now += 50ms;
    (void)b.receive(b.segment(ack, 1, written + arrived + 1));
  }
  return all;
}

// RFC 4821 7.7, RFC 8899 4.3.
TEST(TcpPathMtu, BlackHole) {
  Bench b;
  fill(b, 8000);
  b.pass(1500ms);  // two timeouts
  EXPECT_EQ(b.tcp.mss(), 1460);
  b.pass(3s);
  EXPECT_EQ(b.tcp.mss(), 1220);
  b.pass(60s);
  EXPECT_EQ(b.tcp.mss(), 536);
  EXPECT_EQ(b.sent_in_passing.back().length, 536U);
  (void)b.receive(b.segment(ack, 1, 537));
  for (const TcpSegment& s : b.send()) EXPECT_LE(s.length, 536U);
  EXPECT_EQ(b.tcp.state(), S::established);
}

TEST(TcpPathMtu, SmallSegmentsAreNoBlackHole) {
  Bench b;
  fill(b, 300);
  b.pass(60s);
  EXPECT_EQ(b.tcp.mss(), 1460);
}

// RFC 4821 7, RFC 8899 5.3: the search begins five seconds later, with what worked before.
TEST(TcpPathMtu, SearchesUpwardsAfterABlackHole) {
  Bench b;
  fill(b, 8000);
  b.pass(4500ms);
  ASSERT_EQ(b.tcp.mss(), 1220);
  uint32_t written = 8000;
  (void)b.receive(b.segment(ack, 1, written + 1));
  uint32_t probes = 0;
  const Time begin = b.now;
  while (b.tcp.mss() == 1220 && b.now - begin < 4s) {
    for (const TcpSegment& sent : transfer(b, written, 9000)) {
      EXPECT_EQ(sent.gso_size, 0U);
      if (sent.length <= 1220) continue;
      ++probes;
      EXPECT_EQ(sent.length, 1460U);
      EXPECT_GE(b.now - begin, 500ms);
    }
    written += 9000;
  }
  EXPECT_EQ(probes, 1U);
  EXPECT_EQ(b.tcp.mss(), 1460);
  EXPECT_EQ(b.pool.available(), b.pool.capacity());
}

// A probe never exceeds what the peer offered or the application allows.
TEST(TcpPathMtu, SearchesNoFurtherThanThePeerTakes) {
  for (const uint32_t limit : {1300U, 0U}) {
    Bench b;
    if (limit != 0) {
      ASSERT_TRUE(b.tcp.set_option(b.context(), TcpOption::max_segment, limit));
    }
    fill(b, 3000, 1400);
    b.tcp.on_path_mtu(b.context(), 1000);
    b.send();
    (void)b.receive(b.segment(ack, 1, 3001));
    b.now += 10min;
    uint32_t longest = 0;
    for (uint32_t written = 3000; written < 93000; written += 9000) {
      for (const TcpSegment& sent : transfer(b, written, 9000)) {
        longest = std::max(longest, sent.length);
      }
    }
    EXPECT_EQ(longest, limit != 0 ? limit : 1400U);
    EXPECT_EQ(b.tcp.mss(), longest);
  }
}

// Without SACK the loss of a probe could not be told from others: all segments grow at once.
TEST(TcpPathMtu, WithoutSackIsForgottenAfterTenMinutes) {  // RFC 1191 6.3, RFC 8201 4
  Bench b;
  b.config.sack = false;
  fill(b, 8000);
  b.tcp.on_path_mtu(b.context(), 1000);
  b.send();
  EXPECT_EQ(b.tcp.mss(), 1000);
  b.now += 100ms;
  (void)b.receive(b.segment(ack, 1, 8001));
  EXPECT_EQ(b.tcp.mss(), 1000);
  b.now += 10min;
  b.tcp.on_send(b.context(), 100, false);
  b.send();
  b.now += 100ms;
  (void)b.receive(b.segment(ack, 1, 8101));
  EXPECT_EQ(b.tcp.mss(), 1460);
}

TEST(TcpPathMtu, OnlyFalls) {  // RFC 5927 7
  Bench b;
  fill(b, 8000);
  b.tcp.on_path_mtu(b.context(), 9000);
  EXPECT_EQ(b.tcp.mss(), 1460);
}

// CVE-2019-11479: a tiny MSS multiplies the packets that we send.
TEST(TcpLimits, TinyMss) {
  Bench b;
  fill(b, 8000, 1);
  EXPECT_EQ(b.tcp.mss(), 88);
  b.tcp.on_path_mtu(b.context(), 1);
  EXPECT_EQ(b.tcp.mss(), 88);
}

// CVE-2019-11477, 11478: SACK blocks that split what was sent ever finer use a bounded number of
// nodes, and of the pool; nothing is lost.
TEST(TcpLimits, SackPanic) {
  Bench b;
  b.pool = TcpRangePool(4096);
  b.config.initial_window = 60;
  fill(b, 60000, 1000);
  TcpSegment s = b.segment(ack, 1, 1);
  s.window = 65535;
  (void)b.receive(s);
  b.send();
  b.now += 100ms;
  for (uint32_t at = 2; at + 8 < 60000; at += 8) {
    s.sack_count = 1;
    s.sack[0] = SackBlock{kIss + at, kIss + at + 4};
    (void)b.receive(s);
    b.send();
  }
  EXPECT_LE(b.pool.capacity() - b.pool.available(), 1024U);
  s.sack_count = 0;
  s.ack = kIss + 60001;
  (void)b.receive(s);
  EXPECT_EQ(b.tcp.tx_acked(), 60000U);
  EXPECT_EQ(b.pool.available(), b.pool.capacity());
}

// RFC 5961 5.2: an optimistic ACK acknowledges what was never sent.
TEST(TcpLimits, OptimisticAck) {
  Bench b;
  fill(b, 8000);
  TcpInfo before;
  b.tcp.info(b.context(), before);
  EXPECT_EQ(b.receive(b.segment(ack, 1, 20000)).drop, Drop::tcp_bad_ack);
  TcpInfo after;
  b.tcp.info(b.context(), after);
  EXPECT_EQ(after.cwnd, before.cwnd);
  EXPECT_EQ(b.tcp.tx_acked(), 0U);
}

// RFC 3465: an acknowledgment in a hundred pieces opens the window no further.
TEST(TcpLimits, AckDivision) {
  uint32_t cwnd[2] = {};
  for (const uint32_t pieces : {1U, 100U}) {
    Bench b;
    fill(b, 14600);
    b.now += 100ms;
    for (uint32_t i = 1; i <= pieces; ++i) {
      (void)b.receive(b.segment(ack, 1, 1 + 1460 * 6 / pieces * i));
    }
    TcpInfo info;
    b.tcp.info(b.context(), info);
    cwnd[pieces == 1 ? 0 : 1] = info.cwnd;
  }
  EXPECT_LE(cwnd[1], cwnd[0]);
}

}  // namespace
}  // namespace postern
