// What goes out: control, retransmissions, new data, probes, pure ACKs, in that order.
#include "tcp/connection.h"

namespace postern {

using namespace tcp_flag;

bool TcpConnection::next_segment(TcpContext& ctx, TcpSegment& out) {
  if (!flags_.output) return false;
  if (send_plain(ctx, out)) return true;
  if (send_control(ctx, out)) return true;
  if (can_send_data()) {
    if (!unusual_.rare_send || pace_allows(ctx)) {
      if (lost_bytes_ != 0 && send_retransmission(ctx, out)) return true;
      if (send_new(ctx, out)) {
        if (nothing_follows()) rest(ctx);
        return true;
      }
    }
    if (send_probe(ctx, out)) return true;
    if (timer_is(Timer::none) && !unusual_.pace_wait) arm_retransmit(ctx);
  } else if (unusual_.alive_now) {
    if (send_probe(ctx, out)) return true;
  }
  if (flags_.ack_now) {
    build(ctx, out, snd_nxt_, ack);
    if (unusual_.rare_send) fill_urgent(out);
    return true;
  }
  rest(ctx);
  return false;
}

// After new data: that was all, so that nobody has to ask again.
bool TcpConnection::nothing_follows() const {
  return snd_nxt_ == send_limit() && lost_bytes_ == 0 && !unusual_.probe_now &&
         !unusual_.alive_now && !unusual_.refuse_now && !unusual_.rare_send;
}

void TcpConnection::rest(const TcpContext& ctx) {
  flags_.output = false;
  set_limit(ctx, limit_now());
}

// Resets, SYNs, and an ACK that must carry SACK blocks: data segments have no room for them.
bool TcpConnection::send_control(TcpContext& ctx, TcpSegment& out) {
  if (unusual_.refuse_now) {
    unusual_.refuse_now = false;
    out = TcpSegment{};
    out.seq = refuse_seq_;
    out.flags = rst;
    ctx.counters->add(Counter::tcp_tx_segments);
    ctx.counters->add(Counter::tcp_resets_sent);
    return true;
  }
  if (unusual_.reset_now) {
    unusual_.reset_now = false;
    build(ctx, out, snd_nxt_, rst | ack);
    ctx.counters->add(Counter::tcp_resets_sent);
    events_ |= tcp_event::finished;
    return true;
  }
  if (unusual_.syn_now) {
    build_syn(ctx, out);
    return true;
  }
  if (unusual_.echo_waits && build_echo(ctx, out)) return true;
  if (flags_.ack_now && (ooo_head_ != 0 || unusual_.dsack)) {
    build(ctx, out, snd_nxt_, ack);
    return true;
  }
  return false;
}

void TcpConnection::build_syn(TcpContext& ctx, TcpSegment& out) {
  unusual_.syn_now = false;
  const bool again = snd_nxt_ != iss_;
  const bool answer = state_ == TcpState::syn_received;
  snd_nxt_ = iss_ + 1;
  if (!answer) rcv_adv_ = rcv_nxt_;
  build(ctx, out, iss_, answer ? syn | ack : syn);
  out.has_mss = true;
  out.mss = path_mss_;
  out.has_window_scale = window_scaling_;
  out.window_scale = flags_.rcv_scale;
  out.sack_permitted = flags_.sack;
  // RFC 3168 6.1.1: ECN is not asked for again if the first SYN got no answer.
  if (again && !answer) flags_.ecn = false;
  if (flags_.ecn) out.flags |= answer ? ece : ece | cwr;
  out.window = syn_window(ctx);
  if (answer) {  // once more: at least as much as the first time, RFC 9293 3.8.6
    const uint32_t edge = seq_max(rcv_adv_, rcv_nxt_ + out.window);
    out.window = static_cast<uint16_t>(edge - rcv_nxt_ < 65535 ? edge - rcv_nxt_ : 65535);
    rcv_adv_ = edge;
  }
  out.retransmission = again;
  newest_ = TcpRange{iss_, iss_ + 1, ctx.now_us};
  if (again) {
    newest_.flags = TcpRange::kResent;
    ctx.counters->add(Counter::tcp_retransmits);
  }
  arm(Timer::syn, deadline(ctx, rto(ctx)));
}

// The header that all segments share. Whatever is sent acknowledges.
void TcpConnection::build(TcpContext& ctx, TcpSegment& out, uint32_t seq, uint8_t bits) {
  out = TcpSegment{};
  out.seq = seq;
  out.flags = bits;
  ctx.counters->add(Counter::tcp_tx_segments);
  stamp(ctx, out);
  if ((bits & ack) == 0) {
    out.ts_echo = 0;
    return;
  }
  if ((bits & (syn | rst)) == 0) {
    out.window = select_window(ctx);
    if (unusual_.ece_pending) out.flags |= ece;
    if (unusual_.dsack || ooo_head_ != 0) fill_sack(ctx, out);
  }
  acknowledge(ctx, out);
}

// RFC 8257 3.2: the ACK of what came before CE changed. It promises no more than was promised.
// False: all of that has been acknowledged meanwhile.
bool TcpConnection::build_echo(TcpContext& ctx, TcpSegment& out) {
  uint32_t at = last_ack_sent_;
  bool marked = false;
  while (echo_count_ != 0 && seq_le(at, last_ack_sent_)) {
    at = echo_ack_[0];
    --echo_count_;
    marked = (echo_marks_ >> echo_count_ & 1) != 0;
    for (uint8_t i = 0; i < echo_count_; ++i) echo_ack_[i] = echo_ack_[i + 1];
  }
  unusual_.echo_waits = echo_count_ != 0;
  if (seq_le(at, last_ack_sent_)) return false;
  out = TcpSegment{};
  out.seq = snd_nxt_;
  out.ack = at;
  out.flags = marked ? ack | ece : ack;
  const uint32_t window = (rcv_adv_ - at) >> flags_.rcv_scale;
  out.window = static_cast<uint16_t>(window < 65535 ? window : 65535);
  stamp(ctx, out);
  last_ack_sent_ = at;
  ctx.counters->add(Counter::tcp_tx_segments);
  return true;
}

// [left, right) of the send stream, the FIN included if it lies within.
void TcpConnection::build_data(TcpContext& ctx, TcpSegment& out, uint32_t left, uint32_t right) {
  const bool has_fin = seq_gt(right, snd_end_);
  const uint32_t length = right - left - (has_fin ? 1 : 0);
  build(ctx, out, left, ack);
  out.sack_count = 0;  // no room; an ACK of its own carries them
  out.length = length;
  out.tx_position = left - iss_ - 1;
  if (has_fin) out.flags |= fin;
  if (right - (has_fin ? 1 : 0) == snd_end_ && length != 0) out.flags |= psh;
  if (length > mss_) out.gso_size = mss_;
  if (unusual_.rare_send) {
    fill_urgent(out);
    pace(ctx, length);
  }
  ctx.counters->add(Counter::tcp_tx_bytes, length);
  if (quick_acks_ != 0 && rcv_nxt_ != irs_ + 1) quick_acks_ = 0;  // a dialogue: ACKs ride on data
}

// RFC 6675 5 NextSeg 1: what is lost goes first.
bool TcpConnection::send_retransmission(TcpContext& ctx, TcpSegment& out) {
  if (frto_ == Frto::second_ack) return false;
  if (pipe() + mss_ > cwnd_ && pipe() != 0) {
    flags_.cwnd_limited = true;
    return false;
  }
  uint32_t index = resend_hint_;
  while (!range(ctx, index).has(TcpRange::kLost) && index != 0) index = ctx.ranges->next(index);
  if (!range(ctx, index).has(TcpRange::kLost)) {
    resend_hint_ = 0;
    return false;
  }
  const uint32_t left = range(ctx, index).left;
  uint32_t room = cwnd_ > pipe() ? (cwnd_ - pipe()) / mss_ * mss_ : 0;
  if (room < mss_) room = mss_;
  const uint32_t most = seq_min(room, burst_limit());
  uint32_t right = range(ctx, index).right;
  if (right - left > most + (seq_gt(right, snd_end_) ? 1 : 0)) {
    right = left + most;
    const uint32_t front = split_range(ctx, index, right);
    if (front != 0) {
      index = front;
    } else {
      range(ctx, index).flags |= TcpRange::kPartial;
    }
  }
  resend_hint_ = index;
  resend(ctx, range(ctx, index));
  build_data(ctx, out, left, right);
  out.retransmission = true;
  if (unusual_.in_recovery) prr_out_ += right - left;
  return true;
}

// Books a range as sent again now.
void TcpConnection::resend(TcpContext& ctx, TcpRange& r) {
  unmark(r, TcpRange::kLost);
  if (r.has(TcpRange::kProbe)) resend_path_probe(ctx, r);
  r.flags |= TcpRange::kResent;
  if (r.sends < 255) ++r.sends;
  r.time = ctx.now_us;
  if (flags_.undo && undo_pending_ < 255) ++undo_pending_;
  if (flags_.undo && resent_ts_ == 0) {
    resent_ts_ = ctx.now_ms + ts_offset_;
    if (resent_ts_ == 0) resent_ts_ = 1;
  }
  ++total_resent_;
  resent_bytes_ += r.size();
  ctx.counters->add(Counter::tcp_retransmits);
  if (timer_is(Timer::none)) arm_retransmit(ctx);
}

// Data never sent before, within window and cwnd, and the FIN behind it.
bool TcpConnection::send_new(TcpContext& ctx, TcpSegment& out) {
  if (flags_.fin_sent) return false;
  const uint32_t queued = snd_end_ - snd_nxt_;
  if (queued == 0 && !flags_.fin_queued) return false;
  if (snd_una_ == snd_nxt_ && was_idle(ctx)) restart_after_idle(ctx);
  const uint32_t path_probe = unusual_.rare_send ? path_probe_length(ctx, queued) : 0;
  const uint32_t length = path_probe != 0 ? path_probe : new_data_length(queued);
  const bool has_fin = flags_.fin_queued && length == queued;
  if (length == 0 && !(has_fin && queued == 0)) return false;
  const uint32_t left = snd_nxt_;
  const uint32_t right = left + length + (has_fin ? 1 : 0);
  const bool probe = unusual_.tail_now;
  unusual_.push_now = unusual_.tail_now = unusual_.window_probed = false;
  if (length % mss_ != 0) snd_small_ = left + length;
  flags_.fin_sent = has_fin;
  append_range(ctx, left, right);
  snd_nxt_ = right;
  build_data(ctx, out, left, right);
  if (path_probe != 0) path_probe_sent(ctx, out);
  if (flags_.ecn && length != 0) {
    out.ecn = 2;  // ECT(0)
    if (unusual_.cwr_pending) out.flags |= cwr;
    unusual_.cwr_pending = false;
  }
  if (unusual_.in_recovery) prr_out_ += right - left;
  if (probe) {
    probed_tail(ctx, false);
  } else if (snd_una_ == left) {
    if (flags_.aging) progress_ms_ = ctx.now_ms;
    arm_retransmit(ctx);
  } else if (timer_is(Timer::tail_probe) || timer_is(Timer::none)) {
    arm_retransmit(ctx);
  }
  return true;
}

// How much of the queued data may go now; 0: nothing.
uint32_t TcpConnection::new_data_length(uint32_t queued) {
  const uint32_t flight = snd_nxt_ - snd_una_;
  const uint32_t window = snd_wnd_ > flight ? snd_wnd_ - flight : 0;
  uint32_t length = queued;
  if (length > burst_limit()) length = burst_limit();
  if (length > window) length = window;
  const uint32_t in_flight = pipe();
  // RFC 8985 7.3: a loss probe may exceed cwnd by one segment.
  const uint32_t allowed = cwnd_ + (unusual_.tail_now ? mss_ : 0U);
  const uint32_t room = allowed > in_flight ? allowed - in_flight : 0;
  if (length > room) {
    flags_.cwnd_limited = true;
    length = room / mss_ * mss_;
    if (length == 0 && in_flight == 0) length = seq_min(mss_, seq_min(queued, window));
  }
  const uint32_t partial = length % mss_;
  if (partial == 0) return length;
  if (length < queued && length > mss_) return length - partial;
  if (length < queued) {
    // RFC 9293 3.8.6.2.1: the window allows part of a segment only.
    return length >= max_snd_wnd_ / 2 || unusual_.push_now ? length : 0;
  }
  return partial_may_go() ? length : length - partial;
}

// RFC 9293 3.7.4 (Nagle) in Minshall's form: only another short segment in flight holds one back.
bool TcpConnection::partial_may_go() const {
  if (flags_.fin_queued || unusual_.push_now || unusual_.tail_now) return true;
  if (unusual_.rare_send && urgent_out_ && seq_lt(snd_una_, snd_up_)) return true;  // as Linux
  if (unusual_.cork || unusual_.more) return false;
  if (flags_.nodelay || snd_una_ == snd_nxt_) return true;
  const bool small_in_flight = seq_gt(snd_small_, snd_una_) && seq_le(snd_small_, snd_nxt_);
  return !small_in_flight;
}

// RFC 5681 4.1.
void TcpConnection::restart_after_idle(TcpContext& ctx) {
  const uint32_t idle_us = ctx.now_us - newest_.time;
  if (idle_us < std::chrono::duration_cast<std::chrono::microseconds>(rto(ctx)).count()) {
    return;
  }
  const uint32_t restart = initial_window(mss_, ctx.config->initial_window);
  if (cwnd_ > restart) {
    ssthresh_ =
        ssthresh_ > cwnd_ / 4 * 3 ? ssthresh_ : cwnd_ / 4 * 3;  // RFC 7661 4.4.2 keeps this much
    cwnd_ = restart;
  }
  congestion().on_restart(congestion_view(ctx, 0), idle_us);
  newest_.sends = 0;
}

// Probes: of the window, of the tail, of the peer's life.
bool TcpConnection::send_probe(TcpContext& ctx, TcpSegment& out) {
  if (unusual_.tail_now) {
    unusual_.tail_now = false;
    return send_tail_probe(ctx, out);
  }
  if (unusual_.probe_now) {
    unusual_.probe_now = false;
    if (snd_nxt_ != snd_end_ && snd_una_ == snd_nxt_) {
      // RFC 9293 3.8.6.1: one octet beyond the window. It does not count as sent: if the window
      // opens, it goes again with what follows.
      unusual_.window_probed = true;
      build_data(ctx, out, snd_nxt_, snd_nxt_ + 1);
      ctx.counters->add(Counter::tcp_zero_window_probes);
      return true;
    }
  }
  if (unusual_.alive_now) {  // RFC 9293 3.8.4
    unusual_.alive_now = false;
    build(ctx, out, snd_nxt_ - 1, ack);
    ctx.counters->add(Counter::tcp_keepalive_probes);
    return true;
  }
  return false;
}

}  // namespace postern
