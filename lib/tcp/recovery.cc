// What an acknowledgment means: what is lost, and how fast to go on.
//
// With SACK, loss is detected by time (RACK-TLP, RFC 8985); without, by counting duplicate ACKs
// (NewReno, RFC 6582). During fast recovery cwnd follows PRR (RFC 6937). The ranges that this works
// on are in in_flight.cc.
#include "tcp/connection.h"

namespace postern {

using std::chrono::microseconds;

namespace {
constexpr uint32_t kDupThresh = 3;
}  // namespace

// ---- what an acknowledgment says ----

// An acceptable ACK field: RFC 9293 3.10.7.4 fifth, RFC 5681 3.
void TcpConnection::process_acknowledgment(TcpContext& ctx, const TcpSegment& s, bool same_window) {
  const uint32_t flight = snd_nxt_ - snd_una_;
  const bool calm = !(unusual_.loss_marks || unusual_.in_recovery || unusual_.in_loss);
  Acked acked;
  if (seq_gt(s.ack, snd_una_)) take_cumulative(ctx, s, acked);
  if (flags_.sack && s.sack_count != 0) take_sack(ctx, s, acked);
  if (acked.rtt_us != 0) {
    sample_rtt(acked.rtt_us);
  } else if (acked.bytes != 0 && flags_.timestamps && s.ts_echo != 0) {
    sample_rtt_from_echo(ctx, s.ts_echo);
  }
  delivered_ += flags_.sack ? acked.delivered : acked.bytes;
  if (acked.bytes != 0 && seq_ge(snd_una_, round_end_)) {
    end_round(ctx, acked.newest_valid ? acked.newest_time : round_sent_us_);
  }
  if (unusual_.tail_probed) check_tail_probe(ctx, s, acked);
  if (!calm || unusual_.loss_marks || acked.dsack || (acked.bytes == 0 && flight != 0)) {
    recover(ctx, s, acked, same_window, calm);
  }
  const bool echo = flags_.ecn && (s.flags & tcp_flag::ece) != 0;
  if (flags_.ecn && acked.bytes != 0 && congestion().on_feedback != nullptr) {
    congestion().on_feedback(congestion_view(ctx, flight), acked.bytes, echo);
  }
  if (echo) on_congestion_echo(ctx, flight);
  if (unusual_.in_recovery) {
    proportional_rate(acked.delivered, acked.bytes != 0 && !acked.lost_more);
  } else if (acked.bytes != 0 && !echo) {  // RFC 3168 6.1.2: an ECE does not open the window
    grow(ctx, acked, flight);
  }
  if (acked.bytes != 0 || acked.delivered != 0) {
    if (!timer_is(Timer::reorder) || snd_una_ == snd_nxt_) arm_retransmit(ctx);
    if (snd_nxt_ != send_limit() || unusual_.loss_marks) {
      flags_.output = true;
    } else if (snd_una_ == snd_nxt_) {
      set_limit(ctx, Limit::idle);
    }
  }
}

void TcpConnection::take_cumulative(TcpContext& ctx, const TcpSegment& s, Acked& acked) {
  if (unusual_.window_probed && s.ack == snd_nxt_ + 1) {  // the octet beyond the window was taken
    unusual_.window_probed = false;
    snd_nxt_ = s.ack;
    newest_ = TcpRange{s.ack, s.ack};
  }
  acknowledge_ranges(ctx, s.ack, acked);
  acked.bytes = s.ack - snd_una_;
  if (s.ack - iss_ < snd_una_ - iss_) ++sent_wraps_;
  snd_una_ = s.ack;
  events_ |= tcp_event::acked;
  if (flags_.aging) progressed(ctx);
}

// Forward progress: RFC 6298 5.3, the retries start over.
void TcpConnection::progressed(const TcpContext& ctx) {
  progress_ms_ = ctx.now_ms;
  retries_ = backoff_ = soft_error_ = 0;
  flags_.aging = user_timeout_ms_ != 0;
}

// ---- loss ----

void TcpConnection::recover(TcpContext& ctx, const TcpSegment& s, Acked& acked, bool same_window,
                            bool was_calm) {
  if (flags_.undo) try_undo(ctx, s, acked, same_window);
  if (unusual_.in_recovery || unusual_.in_loss) {
    if (seq_ge(snd_una_, recovery_point_)) leave_recovery();
  }
  const uint32_t lost_before = lost_bytes_;
  if (flags_.sack) {
    if (acked.dsack) on_dsack();
    rack_update(ctx, s, acked, was_calm);
    rack_detect(ctx);
  } else {
    count_duplicate_acks(ctx, s, acked, same_window);
  }
  acked.lost_more = lost_bytes_ > lost_before;
  if (lost_bytes_ != 0 && !unusual_.in_recovery && !unusual_.in_loss) respond_to_loss(ctx);
  if (lost_bytes_ != 0) flags_.output = true;
  if (acked.delivered != 0) flags_.output = true;  // RFC 3042: each duplicate ACK lets one out
}

// RFC 5681 2.
bool TcpConnection::is_duplicate_ack(const TcpSegment& s, const Acked& acked,
                                     bool same_window) const {
  return acked.bytes == 0 && snd_nxt_ != snd_una_ && s.length == 0 &&
         (s.flags & (tcp_flag::syn | tcp_flag::fin)) == 0 && same_window && s.ack == snd_una_;
}

// RFC 5681 3.2, RFC 6582 3.2: without SACK each duplicate ACK stands for a segment that left.
void TcpConnection::count_duplicate_acks(TcpContext& ctx, const TcpSegment& s, Acked& acked,
                                         bool same_window) {
  const uint32_t flight = snd_nxt_ - snd_una_;
  if (acked.bytes != 0) {
    const uint32_t segments = (acked.bytes + mss_ - 1) / mss_;
    dupacks_ =
        static_cast<uint8_t>(dupacks_ > segments && unusual_.in_recovery ? dupacks_ - segments : 0);
    if (unusual_.in_recovery) mark_front_lost(ctx);  // a partial ACK
  } else if (is_duplicate_ack(s, acked, same_window)) {
    if (dupacks_ < 255) ++dupacks_;
    acked.delivered = mss_;
  }
  const uint32_t limit = flight > mss_ ? flight - mss_ : 0;
  const uint32_t left = uint32_t{dupacks_} * mss_;
  sacked_bytes_ = unusual_.in_loss ? 0 : left < limit ? left : limit;
  unusual_.loss_marks = (sacked_bytes_ | lost_bytes_) != 0;
  // RFC 6582 3.2 step 2: not again for the window that was just repaired.
  const bool guarded = reno_guard_ && snd_una_ == recovery_point_;
  if (dupacks_ >= kDupThresh && !unusual_.in_recovery && !unusual_.in_loss && !guarded) {
    mark_front_lost(ctx);
  }
}

// RFC 8985 6.2. Times are compared by their age, which an hour of silence does not turn around;
// what was known before the connection was calm, or before a timeout, is too old to compare with.
void TcpConnection::rack_update(const TcpContext& ctx, const TcpSegment& s, const Acked& acked,
                                bool was_calm) {
  if (was_calm) rack_valid_ = false;
  if (!acked.newest_valid) return;
  const uint32_t now = ctx.now_us;
  const uint32_t rtt = now - acked.newest_time;
  if (acked.newest_resent) {
    // Is it the original that was acknowledged? Then it says nothing about the retransmission.
    if (rtt < min_rtt_) return;
    const uint32_t sent_ms = ctx.now_ms - (rtt + 999) / 1000 + ts_offset_;
    if (flags_.timestamps && s.has_timestamps && static_cast<int32_t>(s.ts_echo - sent_ms) < 0)
      return;
  }
  rack_rtt_ = rtt;
  const uint32_t age = now - rack_time_;
  if (!rack_valid_ || rtt < age || (rtt == age && seq_gt(acked.newest_end, rack_end_))) {
    rack_valid_ = true;
    rack_time_ = acked.newest_time;
    rack_end_ = acked.newest_end;
  }
}

// RFC 8985 6.2.4.
uint32_t TcpConnection::rack_window() const {
  if (!flags_.reordering) {
    if (unusual_.in_recovery || unusual_.in_loss || sacked_bytes_ >= kDupThresh * mss_) return 0;
  }
  const uint32_t window = min_rtt_ / 4 * reorder_steps_;
  const uint32_t limit = srtt_ >> 3;
  return window < limit ? window : limit;
}

// RFC 8985 6.2.5: what was sent long enough before something that has arrived is lost. The rest of
// the candidates are looked at again when the reordering window has passed.
void TcpConnection::rack_detect(TcpContext& ctx) {
  if (!unusual_.loss_marks && !unusual_.in_recovery && !unusual_.in_loss) {
    if (timer_is(Timer::reorder)) arm_retransmit(ctx);
    return;
  }
  const uint32_t now = ctx.now_us;
  const uint32_t patience = rack_rtt_ + rack_window();
  const uint32_t arrived = now - rack_time_;
  uint32_t longest = 0;
  bool found = false;
  for (uint32_t index = sent_head_; rack_valid_; index = ctx.ranges->next(index)) {
    TcpRange& r = range(ctx, index);
    const uint32_t age = now - r.time;
    if (!r.has(TcpRange::kSacked | TcpRange::kLost) && r.left != r.right &&
        (age > arrived || (age == arrived && seq_gt(rack_end_, r.right)))) {
      if (age >= patience) {
        r.flags = static_cast<uint8_t>(r.flags & ~TcpRange::kPartial);
        mark(r, TcpRange::kLost);
        found = true;
      } else if (patience - age > longest) {
        longest = patience - age;
      }
    }
    if (index == 0) break;
  }
  if (found) resend_hint_ = sent_head_;
  if (longest != 0) {
    arm(Timer::reorder, ctx.now + microseconds(longest));
  } else if (flags_.timer == Timer::reorder) {
    arm_retransmit(ctx);
  }
}

void TcpConnection::on_reorder_timer(TcpContext& ctx) {
  rack_detect(ctx);
  if (lost_bytes_ != 0 && !unusual_.in_recovery && !unusual_.in_loss) respond_to_loss(ctx);
  flags_.output = true;
  if (flags_.timer == Timer::none) arm_retransmit(ctx);
}

// RFC 8985 6.2.4: a spurious retransmission widens the window, for 16 recoveries.
void TcpConnection::on_dsack() {
  if (undo_pending_ != 0) --undo_pending_;
  if (seq_lt(snd_una_, rack_round_) && rack_round_valid_) return;  // once a round trip
  rack_round_ = snd_nxt_;
  rack_round_valid_ = true;
  flags_.reordering = true;
  if (reorder_steps_ < 20) ++reorder_steps_;
  reorder_persist_ = 16;
}

// The first segment that is not known to have arrived is lost.
void TcpConnection::mark_front_lost(TcpContext& ctx) {
  uint32_t index = sent_head_;
  TcpRange* r = &range(ctx, index);
  if (r->has(TcpRange::kLost | TcpRange::kSacked) || r->left == r->right) return;
  if (r->size() > mss_) {
    const uint32_t front = split_range(ctx, index, r->left + mss_);
    if (front != 0) index = front;
  }
  r = &range(ctx, index);
  mark(*r, TcpRange::kLost);
  resend_hint_ = sent_head_;
}

// Ranges with segments larger than the MSS has become.
void TcpConnection::mark_oversized_lost(TcpContext& ctx) {
  for (uint32_t index = sent_head_;; index = ctx.ranges->next(index)) {
    TcpRange& r = range(ctx, index);
    if (!r.has(TcpRange::kSacked | TcpRange::kLost) && r.size() > mss_) {
      r.flags = static_cast<uint8_t>(r.flags & ~TcpRange::kPartial);
      mark(r, TcpRange::kLost);
    }
    if (index == 0) break;
  }
  resend_hint_ = sent_head_;
}

// RFC 6298 5.4: after a timeout everything not known to have arrived is lost. If the very first
// is known to have arrived, the peer has thrown it away again (RFC 2018 8).
void TcpConnection::mark_all_lost(TcpContext& ctx) {
  const bool reneged = range(ctx, sent_head_).has(TcpRange::kSacked);
  if (!flags_.sack) sacked_bytes_ = 0;
  for (uint32_t index = sent_head_;; index = ctx.ranges->next(index)) {
    TcpRange& r = range(ctx, index);
    if (reneged) unmark(r, TcpRange::kSacked);
    r.flags = static_cast<uint8_t>(r.flags & ~TcpRange::kPartial);
    if (!r.has(TcpRange::kSacked | TcpRange::kLost) && r.left != r.right) mark(r, TcpRange::kLost);
    if (index == 0) break;
  }
  resend_hint_ = sent_head_;
}

// ---- the rate ----

CongestionView TcpConnection::congestion_view(const TcpContext& ctx, uint32_t flight) {
  return CongestionView{cwnd_,    ssthresh_, scratch_, mss_,   ctx.now_us,           srtt_ >> 3,
                        min_rtt_, snd_una_,  snd_nxt_, flight, max_pacing_rate_ != 0};
}

// RFC 5681 3.1 (4), with what is needed to take it back.
void TcpConnection::reduce(TcpContext& ctx, uint32_t flight, bool echo) {
  undo_cwnd_ = cwnd_;
  undo_ssthresh_ = ssthresh_;
  undo_pending_ = 0;
  resent_ts_ = 0;
  flags_.undo = true;
  const CongestionControl& control = congestion();
  const auto respond = echo && control.on_echo != nullptr ? control.on_echo : control.on_congestion;
  ssthresh_ = respond(congestion_view(ctx, flight));
}

void TcpConnection::respond_to_loss(TcpContext& ctx) {
  if (!path_probe_alone_lost(ctx)) enter_recovery(ctx);
}

void TcpConnection::enter_recovery(TcpContext& ctx) {
  ctx.counters->add(Counter::tcp_fast_retransmits);
  reduce(ctx, snd_nxt_ - snd_una_);
  recovery_point_ = snd_nxt_;
  recovery_flight_ = snd_nxt_ - snd_una_;
  prr_delivered_ = prr_out_ = 0;
  unusual_.in_recovery = true;
  unusual_.tail_probed = false;
  if (cwnd_ < pipe() + mss_) cwnd_ = pipe() + mss_;  // the first retransmission goes at once
}

void TcpConnection::start_loss(TcpContext& ctx) {
  const bool first = !unusual_.in_recovery && !unusual_.in_loss;
  if (first) {
    reduce(ctx, snd_nxt_ - snd_una_);
    congestion().on_timeout(congestion_view(ctx, snd_nxt_ - snd_una_));
  }
  frto_ = first && !flags_.sack && !flags_.timestamps ? Frto::first_ack : Frto::off;
  cwnd_ = mss_;
  unusual_.in_recovery = unusual_.tail_probed = unusual_.tail_now = false;
  unusual_.in_loss = true;
  rack_valid_ = false;
  recovery_point_ = snd_nxt_;
  dupacks_ = 0;
  mark_all_lost(ctx);
}

void TcpConnection::leave_recovery() {
  if (unusual_.in_recovery && cwnd_ > ssthresh_) cwnd_ = ssthresh_;
  if (cwnd_ < mss_) cwnd_ = mss_;
  unusual_.in_recovery = unusual_.in_loss = false;
  frto_ = Frto::off;
  recovery_point_ = snd_nxt_;  // a DSACK up to here may still undo the reduction
  if (!flags_.sack) {
    dupacks_ = 0;
    sacked_bytes_ = 0;
    unusual_.loss_marks = lost_bytes_ != 0;
    reno_guard_ = true;
    recovery_point_ = snd_una_;
  }
  if (reorder_persist_ != 0 && --reorder_persist_ == 0) reorder_steps_ = 1;
}

// RFC 6937: as many bytes out as were delivered, in proportion to the reduction.
void TcpConnection::proportional_rate(uint32_t delivered, bool safe) {
  prr_delivered_ += delivered;
  const uint32_t in_flight = pipe();
  uint32_t out = 0;
  if (in_flight > ssthresh_) {
    const uint64_t flight = recovery_flight_ == 0 ? 1 : recovery_flight_;
    const auto target =
        static_cast<uint32_t>((uint64_t{prr_delivered_} * ssthresh_ + flight - 1) / flight);
    out = target > prr_out_ ? target - prr_out_ : 0;
  } else {
    uint32_t limit = prr_delivered_ > prr_out_ ? prr_delivered_ - prr_out_ : 0;
    if (limit < delivered) limit = delivered;
    if (safe) limit += mss_;
    out = ssthresh_ - in_flight < limit ? ssthresh_ - in_flight : limit;
  }
  cwnd_ = in_flight + out;
  if (prr_out_ == 0 && cwnd_ < in_flight + mss_) cwnd_ = in_flight + mss_;
  if (cwnd_ < mss_) cwnd_ = mss_;
}

// RFC 5681 3.1, RFC 3465: only while cwnd was what held us back (RFC 7661 4.2).
void TcpConnection::grow(TcpContext& ctx, const Acked& acked, uint32_t flight) {
  const bool limited =
      flags_.cwnd_limited || (cwnd_ < ssthresh_ ? flight >= cwnd_ / 2 : flight + mss_ >= cwnd_);
  flags_.cwnd_limited = false;
  if (!limited || cwnd_ > UINT32_MAX / 4) return;
  if (unusual_.in_loss && frto_ == Frto::second_ack) return;
  // After a timeout a cumulative ACK may cover what arrived long ago (RFC 3465 2.3).
  const uint32_t most = unusual_.in_loss ? 2U * mss_ : UINT32_MAX;
  const uint32_t counted = acked.delivered < most ? acked.delivered : most;
  congestion().on_ack(congestion_view(ctx, flight), counted, acked.rtt_us);
}

// RFC 3168 6.1.2: once per window.
void TcpConnection::on_congestion_echo(TcpContext& ctx, uint32_t flight) {
  if (unusual_.in_recovery || unusual_.in_loss) return;
  if (ecn_reduced_ && seq_lt(snd_una_, recovery_point_)) return;
  reduce(ctx, flight, true);
  flags_.undo = false;
  ecn_reduced_ = unusual_.cwr_pending = true;
  recovery_point_ = snd_nxt_;
  if (cwnd_ > ssthresh_) cwnd_ = ssthresh_;
}

}  // namespace postern
