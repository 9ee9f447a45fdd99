// What must always hold. For tests and fuzzers; never called on a worker.
#include <cstdio>
#include <cstdlib>

#include "tcp/connection.h"

namespace postern {

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tcp invariant broken: %s\n", what);
  std::abort();
}

}  // namespace

#define REQUIRE(condition) require(condition, #condition)

void TcpConnection::check_invariants(const TcpContext& ctx) const {
  check_send_invariants(ctx);
  check_receive_invariants(ctx);
  if (state_ == TcpState::closed) {
    REQUIRE(sent_head_ == 0 && ooo_head_ == 0);
    REQUIRE(next_deadline() == kNever);
    return;
  }
  REQUIRE((flags_.timer == Timer::none) == (retransmit_at_ == kNever));
  REQUIRE(!flags_.ack_delayed || ack_at_ != kNever);
  REQUIRE(!flags_.fin_sent || flags_.fin_queued);
  // Nothing may wait for ever: data in flight or waiting is timed, or about to be looked at.
  const bool waiting = can_send_data() && snd_una_ != send_limit();
  REQUIRE(!waiting || flags_.timer != Timer::none || flags_.output || unusual_.pace_wait);
  REQUIRE(!unusual_.pace_wait || unusual_.rare_send);
  REQUIRE(state_ != TcpState::time_wait || ack_at_ != kNever);
  REQUIRE(state_ != TcpState::syn_sent || flags_.timer == Timer::syn || flags_.output);
}

void TcpConnection::check_send_invariants(const TcpContext& ctx) const {
  REQUIRE(seq_le(snd_una_, snd_nxt_));
  REQUIRE(seq_le(snd_nxt_, send_limit()) || state_ == TcpState::syn_sent);
  REQUIRE(!synchronized() || cwnd_ >= mss_ / 2);
  REQUIRE(mss_ >= 64 || state_ == TcpState::closed);
  if (!synchronized()) return;
  uint64_t sacked = 0;
  uint64_t lost = 0;
  uint32_t nodes = 0;
  uint32_t expected = snd_una_;
  uint32_t last = 0;
  bool lost_before_hint = false;
  bool hint_seen = false;
  for (uint32_t index = sent_head_;; index = ctx.ranges->next(index)) {
    const TcpRange& r = index == 0 ? newest_ : (*ctx.ranges)[index];
    hint_seen = hint_seen || index == resend_hint_;
    REQUIRE(r.left == expected);
    REQUIRE(seq_lt(r.left, r.right) || (index == 0 && r.left == r.right));
    REQUIRE(!(r.has(TcpRange::kSacked) && r.has(TcpRange::kLost)));
    if (r.has(TcpRange::kSacked)) sacked += r.size();
    if (r.has(TcpRange::kLost)) lost += r.size();
    lost_before_hint = lost_before_hint || (r.has(TcpRange::kLost) && !hint_seen);
    expected = r.right;
    if (index == 0) break;
    last = index;
    ++nodes;
  }
  REQUIRE(expected == snd_nxt_);
  REQUIRE(nodes == sent_count_ && last == sent_last_);
  REQUIRE(lost == lost_bytes_);
  REQUIRE(!flags_.sack || sacked == sacked_bytes_);
  REQUIRE(hint_seen && !lost_before_hint);
  REQUIRE(unusual_.loss_marks == ((sacked_bytes_ | lost_bytes_) != 0));
  REQUIRE(!(unusual_.in_recovery && unusual_.in_loss));
}

void TcpConnection::check_receive_invariants(const TcpContext& ctx) const {
  if (!synchronized()) return;
  REQUIRE(seq_le(rcv_nxt_, rcv_adv_));
  REQUIRE(seq_le(last_ack_sent_, rcv_nxt_));
  uint32_t count = 0;
  uint32_t last = 0;
  uint32_t end = rcv_nxt_;
  for (uint32_t index = ooo_head_; index != 0; index = ctx.ranges->next(index)) {
    const TcpRange& r = (*ctx.ranges)[index];
    REQUIRE(seq_lt(end, r.left) && seq_lt(r.left, r.right));
    REQUIRE(seq_le(r.right, rcv_adv_));
    end = r.right;
    last = index;
    ++count;
  }
  REQUIRE(count == ooo_count_ && last == ooo_last_);
  REQUIRE(!unusual_.fin_waits || (seq_lt(rcv_nxt_, fin_seq_) && seq_le(end, fin_seq_)));
}

}  // namespace postern
