// When what the application wrote goes out: CORK, MORE, QUICKACK (tcp(7)), pacing, urgent data.
#include "bench.h"

namespace postern {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using S = TcpState;

TcpSegment wide(Bench& b, uint32_t ack_number, uint32_t length = 0) {
  TcpSegment s = b.segment(ack, 1, ack_number, length);
  s.window = 65535;
  return s;
}

void set(Bench& b, TcpOption option, uint32_t value) {
  ASSERT_TRUE(b.tcp.set_option(b.context(), option, value));
}

// ---- TCP_CORK, MSG_MORE ----

TEST(TcpCork, HoldsAPartialSegmentAndLetsFullOnesGo) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::cork, 1);
  b.tcp.on_send(b.context(), 2300, false);
  EXPECT_THAT(b.send(), ElementsAre(HasLength(1000U), HasLength(1000U)));
  b.tcp.on_send(b.context(), 700, false);
  EXPECT_THAT(b.send(), ElementsAre(HasLength(1000U))) << "it has become full";
}

TEST(TcpCork, ClearingSendsAtOnce) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::cork, 1);
  b.tcp.on_send(b.context(), 300, false);
  EXPECT_THAT(b.send(), IsEmpty());
  set(b, TcpOption::cork, 0);
  EXPECT_THAT(b.send(), ElementsAre(AllOf(HasLength(300U), HasFlags(ack | psh))));
}

TEST(TcpCork, NodelayDoesNotPullTheCork) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::nodelay, 1);
  set(b, TcpOption::cork, 1);
  b.tcp.on_send(b.context(), 300, false);
  EXPECT_THAT(b.send(), IsEmpty());
}

TEST(TcpCork, HoldsFor200Milliseconds) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::cork, 1);
  b.tcp.on_send(b.context(), 300, false);
  b.send();
  b.pass(199ms);
  EXPECT_THAT(b.sent_in_passing, IsEmpty());
  b.pass(1ms);
  EXPECT_THAT(b.sent_in_passing, ElementsAre(HasLength(300U)));
}

TEST(TcpCork, AFinPullsIt) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::cork, 1);
  b.tcp.on_send(b.context(), 300, false);
  b.tcp.on_shutdown_write(b.context());
  EXPECT_THAT(b.send(), ElementsAre(AllOf(HasLength(300U), HasFlags(ack | psh | fin))));
}

TEST(TcpMore, HoldsUntilASendWithoutIt) {
  Bench b;
  b.enter(S::established);
  b.tcp.on_send(b.context(), 300, true);
  EXPECT_THAT(b.send(), IsEmpty());
  b.tcp.on_send(b.context(), 200, false);
  EXPECT_THAT(b.send(), ElementsAre(HasLength(500U)));
}

TEST(TcpMore, HoldsWhileOthersAreInFlightToo) {
  Bench b;
  b.enter(S::established);
  b.tcp.on_send(b.context(), 1300, true);
  EXPECT_THAT(b.send(), ElementsAre(HasLength(1000U)));
  (void)b.receive(b.segment(ack, 1, 1001));
  EXPECT_THAT(b.send(), IsEmpty()) << "an ACK is no reason";
  b.pass(200ms);
  EXPECT_THAT(b.sent_in_passing, ElementsAre(HasLength(300U)));
}

// ---- TCP_QUICKACK ----

TEST(TcpQuickAck, AcknowledgesEachSegment) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::quick_ack, 0);
  (void)b.receive(b.segment(ack, 1, 1, 100));
  EXPECT_THAT(b.send(), IsEmpty()) << "delayed";
  set(b, TcpOption::quick_ack, 1);
  EXPECT_THAT(b.send(), ElementsAre(HasAck(101U))) << "what was delayed goes at once";
  (void)b.receive(b.segment(ack, 101, 1, 100));
  EXPECT_THAT(b.send(), ElementsAre(HasAck(201U)));
}

TEST(TcpQuickAck, IsNotForEver) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::quick_ack, 1);
  uint32_t at_once = 0;
  for (uint32_t i = 0; i < 20; ++i) {
    (void)b.receive(b.segment(ack, 1 + i * 100, 1, 100));
    at_once += static_cast<uint32_t>(b.send().size());
    b.pass(1s);
  }
  EXPECT_EQ(at_once, 8U);
}

// ---- pacing ----

TEST(TcpPacing, SpreadsSegments) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  set(b, TcpOption::pacing_rate, 100'000);  // a segment of 1000 bytes in 10 ms
  b.tcp.on_send(b.context(), 8000, false);
  std::vector<TcpSegment> first = b.send();
  EXPECT_LE(first.size(), 1U);
  b.pass(35ms);
  EXPECT_EQ(first.size() + b.sent_in_passing.size(), 4U);
  b.pass(35ms);
  EXPECT_EQ(first.size() + b.sent_in_passing.size(), 8U) << "at 0, 9, 19, ... 69 ms";
  TcpInfo info;
  b.tcp.info(b.context(), info);
  EXPECT_EQ(info.pacing_rate, 100'000U);
}

TEST(TcpPacing, IsBoundedByTheWindowsRate) {
  Bench b;
  b.enter(S::established);  // 100 ms, cwnd 10000, slow start
  set(b, TcpOption::pacing_rate, 1'000'000'000);
  TcpInfo info;
  b.tcp.info(b.context(), info);
  EXPECT_EQ(info.pacing_rate, 200'000U);
}

TEST(TcpPacing, ControlAndAcksDoNotWait) {
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::pacing_rate, 1000);
  b.tcp.on_send(b.context(), 2000, false);
  EXPECT_EQ(b.send().size(), 1U);
  (void)b.receive(b.segment(ack, 1, 1, 2000));
  EXPECT_THAT(b.send(), ElementsAre(AllOf(HasLength(0U), HasAck(2001U))));
}

TEST(TcpPacing, RetransmissionsArePacedAndTheTimeoutStands) {  // RFC 6298 5.4
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  set(b, TcpOption::pacing_rate, 50'000);
  b.tcp.on_send(b.context(), 5000, false);
  b.send();
  b.pass(3s);
  EXPECT_GT(b.counters.get(Counter::tcp_rto), 0U);
  (void)b.receive(wide(b, 5001));
  EXPECT_EQ(b.tcp.tx_acked(), 5000U);
}

TEST(TcpPacing, SwitchedOffNothingWaits) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(wide(b, 1));
  set(b, TcpOption::pacing_rate, 1000);
  b.tcp.on_send(b.context(), 3000, false);
  b.send();
  set(b, TcpOption::pacing_rate, UINT32_MAX);
  EXPECT_EQ(b.send().size(), 2U);
}

// ---- urgent data ----

// proves: MUST-62
TEST(TcpUrgent, PointsBehindTheUrgentByte) {  // RFC 6093 3.1, RFC 9293 3.8.5
  Bench b;
  b.enter(S::established);
  set(b, TcpOption::nodelay, 1);
  b.tcp.on_send(b.context(), 1500, false);
  b.tcp.on_urgent();
  const std::vector<TcpSegment> sent = b.send();
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[0].flags & urg, urg);
  EXPECT_EQ(sent[0].urgent, 1500U) << "from this segment's sequence number";
  EXPECT_EQ(sent[1].flags & urg, urg);
  EXPECT_EQ(sent[1].urgent, 500U);
  b.tcp.on_send(b.context(), 100, false);
  EXPECT_THAT(b.send(), ElementsAre(HasFlags(ack | psh))) << "what follows is not urgent";
}

TEST(TcpUrgent, AnyLength) {  // RFC 9293 MUST-31
  Bench b;
  b.config.initial_window = 80;
  b.enter(S::established);
  TcpSegment open = b.segment(ack, 1, 1);
  open.window = 65535;
  (void)b.receive(open);
  b.tcp.on_send(b.context(), 70000, false);
  b.tcp.on_urgent();
  const std::vector<TcpSegment> sent = b.send();
  ASSERT_FALSE(sent.empty());
  EXPECT_EQ(sent[0].urgent, 65535U) << "as far as the field reaches";
  EXPECT_EQ(sent[10].urgent, 60000U);
}

TEST(TcpUrgent, ToldAlthoughTheWindowIsClosed) {  // RFC 9293 3.8.5
  Bench b;
  b.enter(S::established);
  TcpSegment closed = b.segment(ack, 1, 1);
  closed.window = 0;
  (void)b.receive(closed);
  b.send();
  b.tcp.on_send(b.context(), 10, false);
  b.tcp.on_urgent();
  const std::vector<TcpSegment> sent = b.send();
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].length, 0U);
  EXPECT_EQ(sent[0].flags & urg, urg);
  EXPECT_EQ(sent[0].urgent, 10U);
}

TEST(TcpUrgent, NewsOncePerAdvance) {  // RFC 9293 MUST-32, MUST-33; RFC 6093 4: in line
  Bench b;
  b.enter(S::established);
  (void)b.events();
  TcpSegment s = b.segment(ack | urg, 1, 1, 10);
  s.urgent = 20;
  const TcpInput in = b.receive(s);
  EXPECT_TRUE(in.accept_data);
  EXPECT_EQ(b.tcp.rx_tail(), 10U) << "in the stream";
  EXPECT_NE(b.events() & tcp_event::urgent, 0);
  uint32_t mark = 0;
  ASSERT_TRUE(b.tcp.urgent_mark(&mark));
  EXPECT_EQ(mark, 20U);
  s = b.segment(ack | urg, 11, 1, 5);
  s.urgent = 10;
  (void)b.receive(s);
  EXPECT_EQ(b.events() & tcp_event::urgent, 0) << "the same mark";
  s = b.segment(ack | urg, 16, 1, 5);
  s.urgent = 6;
  (void)b.receive(s);
  EXPECT_NE(b.events() & tcp_event::urgent, 0) << "it advanced";
  (void)b.receive(b.segment(ack, 21, 1, 1));
  b.tcp.on_consumed(b.context(), 20);
  EXPECT_TRUE(b.tcp.urgent_mark(&mark));
  EXPECT_EQ(mark, 21U);
  b.tcp.on_consumed(b.context(), 21);
  EXPECT_FALSE(b.tcp.urgent_mark(&mark));
}

TEST(TcpUrgent, OnlyWithTheFlag) {  // RFC 9293 3.1: the pointer counts if URG is set
  Bench b;
  b.enter(S::established);
  (void)b.events();
  TcpSegment s = b.segment(ack, 11, 1, 10);  // behind a gap, off the fast path
  s.urgent = 5;
  (void)b.receive(s);
  EXPECT_EQ(b.events() & tcp_event::urgent, 0);
  uint32_t mark = 0;
  EXPECT_FALSE(b.tcp.urgent_mark(&mark));
}

TEST(TcpUrgent, PointerIntoThePastIsNoNews) {
  Bench b;
  b.enter(S::established);
  (void)b.receive(b.segment(ack, 1, 1, 10));
  b.tcp.on_consumed(b.context(), 10);
  (void)b.events();
  TcpSegment s = b.segment(ack | urg, 11, 1, 10);
  s.urgent = 0;
  (void)b.receive(s);
  EXPECT_EQ(b.events() & tcp_event::urgent, 0);
}

// ---- a closed window (RFC 9293 3.8.6.1) ----

// Timers of a daemon expire late, never early; the peer answers at once, as on a LAN.
void answer_late_timers(Bench& b, uint32_t acked, int times) {
  for (int i = 0; i < times; ++i) {
    b.now = b.tcp.next_deadline() + 2ms;
    b.tcp.on_timer(b.context());
    ASSERT_EQ(b.send().size(), 1U) << "timeout " << i;
    TcpSegment closed = b.segment(ack, 1, acked);
    closed.window = 0;
    (void)b.receive(closed);
  }
}

TEST(TcpClosedWindow, LateTimersDoNotEndWhatIsAnswered) {
  Bench b;
  b.config.retries = 3;
  b.enter(S::established);
  TcpSegment closed = b.segment(ack, 1, 1);
  closed.window = 0;
  (void)b.receive(closed);
  b.tcp.on_send(b.context(), 1000, false);
  EXPECT_THAT(b.send(), IsEmpty());
  answer_late_timers(b, 1, 20);
  EXPECT_EQ(b.tcp.state(), S::established);
}

TEST(TcpClosedWindow, NorWhereItClosedOverDataInFlight) {
  Bench b;
  b.config.retries = 3;
  b.enter(S::established);
  b.tcp.on_send(b.context(), 1000, false);
  EXPECT_THAT(b.send(), ElementsAre(HasLength(1000U)));
  answer_late_timers(b, 1, 20);
  EXPECT_EQ(b.tcp.state(), S::established);
}

}  // namespace
}  // namespace postern
