// The transition table of RFC 9293 3.3.2 and 3.10: each state against each kind of event.
#include <cerrno>

#include "bench.h"

namespace postern {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using S = TcpState;

constexpr uint8_t kNothing = 0xff;

struct Row {
  S state;
  const char* what;
  uint8_t flags;
  uint32_t seq;
  uint32_t ack;
  uint32_t length;
  S next;
  uint8_t answer;  // flags of the only segment sent, kNothing for none
};

// Our FIN, where it was sent, is at 1; the peer's, where it was, at 1 as well.
const Row kRows[] = {
    {S::syn_sent, "SYN-ACK", syn | ack, 0, 1, 0, S::established, ack},
    {S::syn_sent, "SYN", syn, 0, 0, 0, S::syn_received, syn | ack},
    {S::syn_sent, "ACK alone", ack, 0, 1, 0, S::syn_sent, kNothing},
    {S::syn_sent, "bad ACK", ack, 0, 9, 0, S::syn_sent, rst},
    {S::syn_sent, "RST", rst, 0, 0, 0, S::syn_sent, kNothing},
    {S::syn_sent, "RST with ACK", rst | ack, 0, 1, 0, S::closed, kNothing},
    {S::syn_sent, "FIN", fin | ack, 0, 1, 0, S::syn_sent, kNothing},
    {S::syn_received, "ACK", ack, 1, 1, 0, S::established, kNothing},
    {S::syn_received, "bad ACK", ack, 1, 5, 0, S::syn_received, rst},
    {S::syn_received, "RST", rst, 1, 0, 0, S::closed, kNothing},
    {S::syn_received, "SYN again", syn, 0, 0, 0, S::syn_received, syn | ack},
    {S::syn_received, "FIN with ACK", fin | ack, 1, 1, 0, S::close_wait, ack},
    {S::established, "FIN", fin | ack, 1, 1, 0, S::close_wait, ack},
    {S::established, "text", ack, 1, 1, 10, S::established, ack},
    {S::established, "RST", rst, 1, 0, 0, S::closed, kNothing},
    {S::established, "RST in window", rst, 2, 0, 0, S::established, ack},
    {S::established, "RST outside", rst, 0, 0, 0, S::established, kNothing},
    {S::established, "SYN", syn, 1, 0, 0, S::established, ack},
    {S::established, "ACK of the future", ack, 1, 5, 0, S::established, ack},
    {S::established, "no ACK", psh, 1, 0, 5, S::established, kNothing},
    {S::fin_wait_1, "ACK of FIN", ack, 1, 2, 0, S::fin_wait_2, kNothing},
    {S::fin_wait_1, "FIN", fin | ack, 1, 1, 0, S::closing, ack},
    {S::fin_wait_1, "FIN, ACK of FIN", fin | ack, 1, 2, 0, S::time_wait, ack},
    {S::fin_wait_1, "text", ack, 1, 1, 10, S::fin_wait_1, ack},
    {S::fin_wait_1, "RST", rst, 1, 0, 0, S::closed, kNothing},
    {S::fin_wait_1, "SYN", syn, 1, 0, 0, S::fin_wait_1, ack},
    {S::fin_wait_2, "FIN", fin | ack, 1, 2, 0, S::time_wait, ack},
    {S::fin_wait_2, "text", ack, 1, 2, 10, S::fin_wait_2, ack},
    {S::fin_wait_2, "RST", rst, 1, 0, 0, S::closed, kNothing},
    {S::fin_wait_2, "SYN", syn, 1, 0, 0, S::fin_wait_2, ack},
    {S::closing, "ACK of FIN", ack, 2, 2, 0, S::time_wait, kNothing},
    {S::closing, "ACK of less", ack, 2, 1, 0, S::closing, kNothing},
    {S::closing, "FIN again", fin | ack, 1, 1, 0, S::closing, ack},
    {S::closing, "RST", rst, 2, 0, 0, S::closed, kNothing},
    {S::time_wait, "FIN again", fin | ack, 1, 2, 0, S::time_wait, ack},
    {S::time_wait, "RST (RFC 1337)", rst, 2, 0, 0, S::time_wait, kNothing},
    {S::time_wait, "SYN", syn, 2, 0, 0, S::time_wait, ack},
    {S::time_wait, "old text", ack, 1, 2, 1, S::time_wait, ack},
    {S::close_wait, "FIN again", fin | ack, 1, 1, 0, S::close_wait, ack},
    {S::close_wait, "ACK", ack, 2, 1, 0, S::close_wait, kNothing},
    {S::close_wait, "RST", rst, 2, 0, 0, S::closed, kNothing},
    {S::close_wait, "SYN", syn, 2, 0, 0, S::close_wait, ack},
    {S::last_ack, "ACK of FIN", ack, 2, 2, 0, S::closed, kNothing},
    {S::last_ack, "ACK of less", ack, 2, 1, 0, S::last_ack, kNothing},
    {S::last_ack, "FIN again", fin | ack, 1, 1, 0, S::last_ack, ack},
    {S::last_ack, "RST", rst, 2, 0, 0, S::closed, kNothing},
};

TEST(TcpStates, SegmentArrives) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(testing::Message() << "state " << static_cast<int>(row.state) << ": " << row.what);
    Bench b;
    b.enter(row.state);
    const TcpSegment s = b.segment(row.flags, row.seq, row.ack, row.length);
    (void)b.receive(s);
    EXPECT_EQ(b.tcp.state(), row.next);
    if (row.answer == kNothing) {
      EXPECT_THAT(b.send(), IsEmpty());
    } else {
      EXPECT_THAT(b.send(), ElementsAre(HasFlags(row.answer)));
    }
  }
}

// What `postern drops` calls a segment that changes nothing.
TEST(TcpStates, WhatIsDroppedIsNamed) {
  const struct {
    const char* what;
    uint8_t flags;
    uint32_t seq, ack, length;
    int stamp;  // relative to the last one; kNothing: no timestamps
    Drop drop;
  } rows[] = {
      {"no timestamps", ack, 11, 1, 10, kNothing, Drop::tcp_paws},
      {"an old timestamp", ack, 11, 1, 10, -2, Drop::tcp_paws},
      {"old text", ack, 1, 1, 10, 0, Drop::tcp_duplicate},
      {"an old ACK", ack, 10, 1, 0, 0, Drop::tcp_bad_sequence},
      {"text beyond the window", ack, 3 << 20, 1, 10, 0, Drop::tcp_bad_sequence},
      {"RST within the window", rst, 12, 0, 0, 0, Drop::tcp_challenge_ack},
      {"RST outside", rst, 10, 0, 0, 0, Drop::tcp_bad_sequence},
      {"SYN", syn, 11, 0, 0, 0, Drop::tcp_challenge_ack},
      {"ACK of the future", ack, 11, 2, 0, 0, Drop::tcp_bad_ack},
      {"no ACK", psh, 11, 0, 10, 0, Drop::tcp_bad_flags},
      {"in order", ack, 11, 1, 10, 0, Drop::none},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Bench b;
    b.config.timestamps = true;
    const auto stamped = [&](TcpSegment s, int stamp) {
      s.has_timestamps = stamp != kNothing;
      s.ts_value = static_cast<uint32_t>(1000 + stamp);
      return s;
    };
    b.tcp.open_passive(b.context(), stamped(b.segment(syn, 0), 0), 1460);
    b.send();
    (void)b.receive(stamped(b.segment(ack, 1, 1), 0));
    (void)b.receive(stamped(b.segment(ack, 1, 1, 10), 0));
    b.send();
    const TcpSegment s = stamped(b.segment(row.flags, row.seq, row.ack, row.length), row.stamp);
    EXPECT_EQ(b.receive(s).drop, row.drop);
    EXPECT_EQ(b.tcp.state(), S::established);
  }
}

struct Call {
  S state;
  S after_close;
  int close_answer;
  S after_abort;
  bool reset;
};

// RFC 9293 3.10.4 (CLOSE) and 3.10.5 (ABORT).
const Call kCalls[] = {
    {S::syn_sent, S::closed, kNothing, S::closed, false},
    {S::syn_received, S::syn_received, kNothing, S::closed, true},
    {S::established, S::fin_wait_1, fin | ack, S::closed, true},
    {S::fin_wait_1, S::fin_wait_1, kNothing, S::closed, true},
    {S::fin_wait_2, S::fin_wait_2, kNothing, S::closed, true},
    {S::closing, S::closing, kNothing, S::closed, true},
    {S::time_wait, S::time_wait, kNothing, S::closed, false},
    {S::close_wait, S::last_ack, fin | ack, S::closed, true},
    {S::last_ack, S::last_ack, kNothing, S::closed, true},
};

TEST(TcpStates, Close) {
  for (const Call& row : kCalls) {
    SCOPED_TRACE(static_cast<int>(row.state));
    Bench b;
    b.enter(row.state);
    b.tcp.on_close(b.context());
    EXPECT_EQ(b.tcp.state(), row.after_close);
    if (row.close_answer == kNothing) {
      EXPECT_THAT(b.send(), IsEmpty());
    } else {
      EXPECT_THAT(b.send(), ElementsAre(HasFlags(row.close_answer)));
    }
  }
}

TEST(TcpStates, Abort) {
  for (const Call& row : kCalls) {
    SCOPED_TRACE(static_cast<int>(row.state));
    Bench b;
    b.enter(row.state);
    (void)b.events();
    b.tcp.on_abort(b.context());
    EXPECT_EQ(b.tcp.state(), row.after_abort);
    // The object is needed until the reset is out.
    EXPECT_EQ((b.events() & tcp_event::finished) != 0, !row.reset);
    EXPECT_EQ(b.send().size(), row.reset ? 1U : 0U);
    EXPECT_EQ((b.events() & tcp_event::finished) != 0, row.reset);
    EXPECT_EQ(b.tcp.next_deadline(), kNever);
    EXPECT_EQ(b.pool.available(), b.pool.capacity());
  }
}

// proves: MUST-13
TEST(TcpStates, TimeWaitEndsAfterTwoMsl) {
  Bench b;
  b.enter(S::time_wait);
  b.pass(59s);
  EXPECT_EQ(b.tcp.state(), S::time_wait);
  b.pass(1s);
  EXPECT_EQ(b.tcp.state(), S::closed);
  EXPECT_TRUE((b.events() & tcp_event::finished) != 0);
}

TEST(TcpStates, ReleasedOnceAndBeforeFinished) {
  Bench b;
  b.enter(S::established);
  b.tcp.on_send(b.context(), 500, false);
  b.tcp.on_close(b.context());
  b.send();
  EXPECT_EQ(b.events() & tcp_event::released, 0);
  (void)b.receive(b.segment(ack, 1, 501));
  EXPECT_NE(b.events() & tcp_event::released, 0) << "the data is acknowledged, the FIN is not";
  (void)b.receive(b.segment(fin | ack, 1, 502));
  b.send();
  EXPECT_EQ(b.events() & tcp_event::released, 0);
  b.pass(61s);
  EXPECT_EQ(b.events(), tcp_event::finished);
}

TEST(TcpStates, FailureNamesItsReason) {
  Bench b;
  b.enter(S::established);
  (void)b.events();
  (void)b.receive(b.segment(rst, 1));
  EXPECT_EQ(b.events(), tcp_event::failed | tcp_event::released | tcp_event::finished);
  EXPECT_EQ(b.tcp.error(), ECONNRESET);
}

TEST(TcpStates, StreamPositionsBeforeTheHandshake) {
  Bench b;
  EXPECT_EQ(b.tcp.rx_tail(), 0U);
  EXPECT_EQ(b.tcp.tx_tail(), 0U);
  b.enter(S::syn_sent);
  EXPECT_EQ(b.tcp.rx_tail(), 0U);
  EXPECT_EQ(b.tcp.tx_acked(), 0U);
  b.tcp.on_send(b.context(), 7, false);
  EXPECT_EQ(b.tcp.tx_tail(), 7U);
}

// RFC 9293 3.10.7.1.
// RFC 9293 3.8.6: memory that others took meanwhile does not move the right edge back.
TEST(TcpStates, SynAckOnceMoreOffersNoLess) {
  Bench b;
  b.tcp.open_passive(b.context(), b.segment(syn, 0), 1460);
  TcpSegment first;
  ASSERT_TRUE(b.tcp.next_segment(b.context(), first));
  b.now = b.tcp.next_deadline();
  b.tcp.on_timer(b.context());
  TcpContext& ctx = b.context();
  ctx.receive_room = 1000;
  TcpSegment again;
  ASSERT_TRUE(b.tcp.next_segment(ctx, again));
  EXPECT_EQ(again.flags, first.flags);
  EXPECT_EQ(again.window, first.window);
}

TEST(TcpReset, ForNoConnection) {
  Bench b;
  TcpSegment out;
  EXPECT_FALSE(reset_for(b.segment(rst, 5), out));
  EXPECT_FALSE(reset_for(b.segment(rst | ack, 5, 5), out));
  ASSERT_TRUE(reset_for(b.segment(ack, 5, 77, 10), out));
  EXPECT_THAT(out, AllOf(HasFlags(rst), HasSeq(77U)));
  ASSERT_TRUE(reset_for(b.segment(syn, 5), out));
  EXPECT_THAT(out, AllOf(HasFlags(rst | ack), HasAck(6U)));
  EXPECT_EQ(out.seq, 0U);
  ASSERT_TRUE(reset_for(b.segment(fin, 5, 0, 10), out));
  EXPECT_THAT(out, HasAck(16U));
}

// RFC 6191, RFC 9293 MAY-2.
// proves: SHLD-4, MAY-2
TEST(TcpTimeWait, MayReopen) {
  Bench b;
  b.enter(S::time_wait);
  EXPECT_TRUE(b.tcp.may_reopen(b.segment(syn, 3)));
  EXPECT_FALSE(b.tcp.may_reopen(b.segment(syn, 2))) << "the sequence number was used";
  EXPECT_FALSE(b.tcp.may_reopen(b.segment(ack, 3, 2)));
  EXPECT_FALSE(b.tcp.may_reopen(b.segment(syn | ack, 3, 2)));
  EXPECT_TRUE(seq_gt(b.tcp.safe_isn(), kIss + 2));
  Bench open;
  open.enter(S::established);
  EXPECT_FALSE(open.tcp.may_reopen(open.segment(syn, 3)));
}

TEST(TcpOptions, OutOfRangeChangesNothing) {
  Bench b;
  for (const auto& [option, value] :
       std::vector<std::pair<TcpOption, uint32_t>>{{TcpOption::nodelay, 2},
                                                   {TcpOption::keepalive_idle, 0},
                                                   {TcpOption::keepalive_idle, 32768},
                                                   {TcpOption::keepalive_interval, 0},
                                                   {TcpOption::keepalive_probes, 128},
                                                   {TcpOption::max_segment, 10},
                                                   {TcpOption::congestion, kCongestionCount},
                                                   {TcpOption::receive_buffer, UINT32_MAX},
                                                   {TcpOption::user_timeout, UINT32_MAX}}) {
    EXPECT_FALSE(b.tcp.set_option(b.context(), option, value)) << static_cast<int>(option);
  }
}

TEST(TcpStates, CloseInFinWait2StartsItsTimer) {
  Bench b;
  b.enter(S::fin_wait_2);
  b.pass(1s);
  EXPECT_EQ(b.tcp.next_deadline(), kNever);
  b.tcp.on_close(b.context());
  EXPECT_EQ(b.tcp.next_deadline(), b.now + b.config.fin_wait_2);
}

TEST(TcpStates, NothingIsTimedWithoutKeepalive) {
  Bench b;
  b.enter(S::established);
  EXPECT_EQ(b.tcp.next_deadline(), kNever);
  ASSERT_TRUE(b.tcp.set_option(b.context(), TcpOption::quick_ack, 0));
  (void)b.receive(b.segment(ack, 1, 1, 100));
  b.pass(100ms);
  EXPECT_EQ(b.sent_in_passing.size(), 1U) << "the delayed ACK";
  EXPECT_EQ(b.tcp.next_deadline(), kNever);
}

TEST(TcpStates, AnAlgorithmThatDoesNotExistIsTheFirst) {
  Bench b;
  b.config.congestion = kCongestionCount;
  b.enter(S::established);
  TcpInfo info;
  b.tcp.info(b.context(), info);
  EXPECT_STREQ(info.congestion, "cubic");
}

}  // namespace
}  // namespace postern
