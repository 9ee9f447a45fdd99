// A segment arrives: RFC 9293 3.10.7.4, one function a step, in its order.
#include <cerrno>

#include "tcp/connection.h"

namespace postern {

using namespace tcp_flag;

TcpInput TcpConnection::on_segment(TcpContext& ctx, const TcpSegment& s) {
  ctx.counters->add(Counter::tcp_rx_segments);
  // Every return is of `in`, so that it is built in the caller's place: to copy what was just
  // written word by word waits until the words have left the store buffer.
  TcpInput in;
  if (state_ == TcpState::established && fast_path(ctx, s, in)) [[likely]]
    return in;
  switch (state_) {
    case TcpState::closed:
    case TcpState::listen:
      in.drop = Drop::tcp_no_socket;
      break;
    case TcpState::syn_sent:
      in = on_segment_syn_sent(ctx, s);
      break;
    default:
      in = on_segment_synchronized(ctx, s);
  }
  return in;
}

TcpInput TcpConnection::on_segment_synchronized(TcpContext& ctx, const TcpSegment& segment) {
  TcpSegment s = segment;
  TcpInput in;
  // RFC 9293 3.5.1: the SYN-ACK that crosses ours in a simultaneous open carries the ACK we need.
  if (state_ == TcpState::syn_received && s.seq == irs_ && (s.flags & (syn | ack)) == (syn | ack)) {
    s.flags = static_cast<uint8_t>(s.flags & ~syn);
    s.window = static_cast<uint16_t>(s.window >> flags_.snd_scale);  // a SYN's is not scaled
    ++s.seq;
  }
  if (!check_timestamps(ctx, s, in)) return in;
  if (!check_sequence(ctx, s, in)) return in;  // first
  if (!check_reset(ctx, s, in)) return in;     // second; third: security, not in this world
  if (!check_syn(ctx, s, in)) return in;       // fourth
  if (!check_ack(ctx, s, in)) return in;       // fifth
  check_urgent(s);                             // sixth
  if (!process_text(ctx, s, in)) return in;    // seventh
  check_fin(ctx, s);                           // eighth
  return in;
}

// RFC 7323 5.3: before the sequence check. Resets are exempt.
bool TcpConnection::check_timestamps(TcpContext& ctx, const TcpSegment& s, TcpInput& in) {
  if (!flags_.timestamps || (s.flags & rst) != 0) return true;
  if (!s.has_timestamps) {  // RFC 7323 3.2
    in.drop = Drop::tcp_paws;
    return false;
  }
  if (static_cast<int32_t>(s.ts_value - ts_recent_) >= 0) return true;
  if (ts_is_stale(ctx.now)) {  // RFC 7323 5.5: 24 days idle, the peer's clock has wrapped
    ts_recent_ = s.ts_value;
    return true;
  }
  in.drop = Drop::tcp_paws;
  answer_unacceptable(ctx, s);
  return false;
}

// First: is any of it within the receive window?
bool TcpConnection::check_sequence(TcpContext& ctx, const TcpSegment& s, TcpInput& in) {
  const uint32_t space = s.length + ((s.flags & syn) != 0) + ((s.flags & fin) != 0);
  const uint32_t end = s.seq + space;
  // The right edge itself is acceptable without data: it is where a peer stands that has filled
  // the window, although RFC 9293's table says no while something before it is missing. A closed
  // window still lets ACK and RST through (RFC 9293 3.10.7.4).
  const bool acceptable =
      space == 0 ? seq_le(rcv_nxt_, s.seq) && seq_le(s.seq, rcv_adv_)
                 : seq_gt(end, rcv_nxt_) && (seq_lt(s.seq, rcv_adv_) || s.seq == rcv_nxt_);
  if (acceptable) {
    note_timestamp(ctx, s);
    note_ecn(s);
    heard(ctx);
    return true;
  }
  if (space == 0 && unusual_.window_probed && s.seq == rcv_nxt_ - 1 && s.ack == snd_nxt_ + 1) {
    return true;  // both probed a closed window, and both octets were taken: someone must hear it
  }
  const bool old = space != 0 && seq_le(end, rcv_nxt_);
  in.drop = old ? Drop::tcp_duplicate : Drop::tcp_bad_sequence;
  if ((s.flags & rst) != 0) return false;
  if (state_ == TcpState::syn_received && (s.flags & (syn | ack)) == syn && s.seq == irs_) {
    unusual_.syn_now = flags_.output = true;  // our SYN-ACK was lost
    return false;
  }
  if (old && s.length != 0) report_duplicate(s.seq, s.seq + s.length);
  if (state_ == TcpState::time_wait && (s.flags & fin) != 0) {
    ack_at_ = ctx.now + ctx.config->time_wait;  // its FIN again: our ACK was lost
  }
  answer_unacceptable(ctx, s);
  return false;
}

// Second: RFC 5961 3.2.
bool TcpConnection::check_reset(TcpContext& ctx, const TcpSegment& s, TcpInput& in) {
  if ((s.flags & rst) == 0) return true;
  if (state_ == TcpState::time_wait) {  // RFC 1337
    in.drop = Drop::tcp_bad_sequence;
    return false;
  }
  if (s.seq != rcv_nxt_) {  // RFC 5961 3.2; the right edge is good enough for an ACK only
    in.drop = s.seq == rcv_adv_ ? Drop::tcp_bad_sequence : Drop::tcp_challenge_ack;
    if (s.seq != rcv_adv_) challenge(ctx);
    return false;
  }
  ctx.counters->add(Counter::tcp_resets_received);
  switch (state_) {
    case TcpState::syn_received:
      ctx.counters->add(Counter::tcp_failed_opens);
      fail(ctx, ECONNREFUSED);
      break;
    case TcpState::close_wait:  // the peer was done before: what is left to tell is for writers
      fail(ctx, EPIPE);
      break;
    case TcpState::closing:
    case TcpState::last_ack:
      if (tx_acked() == tx_tail()) {  // all that mattered has arrived
        close_now(ctx);
        break;
      }
      [[fallthrough]];
    default:
      fail(ctx, ECONNRESET);
  }
  return false;
}

// Fourth: RFC 5961 4.2.
bool TcpConnection::check_syn(TcpContext& ctx, const TcpSegment& s, TcpInput& in) {
  if ((s.flags & syn) == 0) return true;
  in.drop = Drop::tcp_challenge_ack;
  challenge(ctx);
  return false;
}

// Fifth: the ACK field; RFC 5961 5.2 for its range.
bool TcpConnection::check_ack(TcpContext& ctx, const TcpSegment& s, TcpInput& in) {
  if ((s.flags & ack) == 0) {
    in.drop = Drop::tcp_bad_flags;
    return false;
  }
  const uint32_t highest = snd_nxt_ + (unusual_.window_probed ? 1 : 0);
  if (state_ == TcpState::syn_received) {
    if (!(seq_gt(s.ack, snd_una_) && seq_le(s.ack, highest))) {
      refuse(s.ack);
      in.drop = Drop::tcp_bad_ack;
      return false;
    }
    establish(ctx, s);
    snd_wnd_ = max_snd_wnd_ = uint32_t{s.window} << flags_.snd_scale;
    snd_wl1_ = s.seq;
    return true;
  }
  if (seq_gt(s.ack, highest) || seq_lt(s.ack, snd_una_ - max_snd_wnd_)) {
    in.drop = Drop::tcp_bad_ack;
    challenge(ctx);
    return false;
  }
  if (seq_ge(s.ack, snd_una_)) {
    // The window of a duplicate ACK is compared before it is taken.
    const bool same_window = (uint32_t{s.window} << flags_.snd_scale) == snd_wnd_;
    update_window(s);
    process_acknowledgment(ctx, s, same_window);
  } else if (flags_.sack && s.sack_count != 0) {
    process_acknowledgment(ctx, s, false);
  }
  return after_ack(ctx);
}

// What the acknowledgment of our FIN means. False: the connection is over.
bool TcpConnection::after_ack(TcpContext& ctx) {
  maybe_released();
  const bool fin_acked = flags_.fin_sent && snd_una_ == send_limit();
  switch (state_) {
    case TcpState::fin_wait_1:
      if (fin_acked) {
        set_state(TcpState::fin_wait_2);
        if (!flags_.ack_delayed) arm_idle(ctx);
      }
      return true;
    case TcpState::closing:
      if (fin_acked) enter_time_wait(ctx);
      return true;
    case TcpState::last_ack:
      if (fin_acked) close_now(ctx);
      return !fin_acked;
    default:
      return true;
  }
}

// Seventh: the text, cut to what is new, within the window, and storable. False: the connection is
// over.
bool TcpConnection::process_text(TcpContext& ctx, const TcpSegment& s, TcpInput& in) {
  if (s.length == 0) return true;
  if (!may_receive()) {
    in.drop = Drop::tcp_after_close;
    return true;
  }
  const uint32_t end = s.seq + s.length;
  if (flags_.orphan && seq_gt(end, rcv_nxt_)) {  // RFC 9293 3.6.1, RFC 2525 2.17: no reader
    in.drop = Drop::tcp_after_close;
    close_now(ctx, true);
    return false;
  }
  const uint32_t left = seq_max(s.seq, rcv_nxt_);
  const uint32_t storable = stored_end(ctx) + ctx.receive_room;
  uint32_t right = seq_min(end, seq_min(seq_max(rcv_adv_, rcv_nxt_), storable));
  if (unusual_.fin_waits) right = seq_min(right, fin_seq_);  // nothing follows a FIN
  if (seq_lt(s.seq, rcv_nxt_)) report_duplicate(s.seq, seq_min(end, rcv_nxt_));
  if (seq_ge(left, right)) {
    flags_.ack_now = flags_.output = true;
    in.drop = seq_le(end, rcv_nxt_)                          ? Drop::tcp_duplicate
              : unusual_.fin_waits && seq_ge(left, fin_seq_) ? Drop::tcp_after_close
              : seq_ge(left, storable)                       ? Drop::app_rx_memory
                                                             : Drop::tcp_window_full;
    return true;
  }
  if (left == rcv_nxt_) {
    accept_in_order(ctx, left, right, in);
  } else {
    in.drop = accept_out_of_order(ctx, left, right);
    in.accept_data = in.drop == Drop::none;
    in.length = right - left;
    in.position = left - irs_ - 1;
  }
  in.skip = left - s.seq;
  return true;
}

// Eighth: the FIN bit. One that comes before what it follows is remembered; the first holds.
void TcpConnection::check_fin(TcpContext& ctx, const TcpSegment& s) {
  if (flags_.fin_received) return;
  const uint32_t at = s.seq + s.length;
  if ((s.flags & fin) != 0 && seq_ge(at, rcv_nxt_) && seq_le(at, rcv_adv_)) {
    if (!unusual_.fin_waits) {
      unusual_.fin_waits = true;
      fin_seq_ = at;
      if (ooo_head_ != 0) cut_out_of_order(*ctx.ranges, at);
    }
    flags_.ack_now = flags_.output = true;
  }
  if (!unusual_.fin_waits || rcv_nxt_ != fin_seq_) return;
  unusual_.fin_waits = false;
  flags_.fin_received = true;
  ++rcv_nxt_;
  rcv_adv_ = seq_max(rcv_adv_, rcv_nxt_);
  events_ |= tcp_event::peer_fin;
  flags_.ack_now = flags_.output = true;
  switch (state_) {
    case TcpState::established:
      set_state(TcpState::close_wait);
      break;
    case TcpState::fin_wait_1:  // our FIN is not acknowledged, or step five had moved us on
      set_state(TcpState::closing);
      break;
    case TcpState::fin_wait_2:
      enter_time_wait(ctx);
      break;
    default:
      break;
  }
}

// RFC 9293 3.10.7.4, SND.WND. A window that shrinks is believed (RFC 9293 3.8.6). Beyond the RFC's
// rule, whatever acknowledges something new brings its window along, even a retransmission: the
// window counts from SND.UNA, and the old one would reach too far from the new.
void TcpConnection::update_window(const TcpSegment& s) {
  if (seq_lt(s.seq, snd_wl1_) && seq_le(s.ack, snd_una_)) return;
  snd_wl1_ = s.seq;
  const uint32_t window = uint32_t{s.window} << flags_.snd_scale;
  if (window == snd_wnd_) return;
  if (window > snd_wnd_) {
    if (window > max_snd_wnd_) max_snd_wnd_ = window;
    if (timer_is(Timer::persist)) backoff_ = retries_ = 0;
    flags_.output = true;
  }
  snd_wnd_ = window;
}

// RFC 7323 4.3: the timestamp to echo is that of the segment that moved the window's left edge.
void TcpConnection::note_timestamp(TcpContext& ctx, const TcpSegment& s) {
  if (!flags_.timestamps || !s.has_timestamps || (s.flags & rst) != 0) return;
  if (seq_gt(s.seq, last_ack_sent_) || static_cast<int32_t>(s.ts_value - ts_recent_) < 0) return;
  ts_recent_ = s.ts_value;
  ts_age_ = age_stamp(ctx.now);
}

// RFC 3168 6.1.3: congestion is echoed until the sender says that it has slowed down.
void TcpConnection::note_ecn(const TcpSegment& s) {
  if (!flags_.ecn) return;
  if (congestion().exact_ecn) return echo_exactly(s);
  if ((s.flags & cwr) != 0) unusual_.ece_pending = false;
  if (s.ecn == 3 && s.length != 0) unusual_.ece_pending = true;
}

// RFC 8257 3.2: ECE says what the last segment carried. Where that changes, what came before is
// acknowledged by itself, as it was. More changes than are remembered until the next output blur.
void TcpConnection::echo_exactly(const TcpSegment& s) {
  const bool ce = s.ecn == 3;
  if (s.length == 0 || ce == unusual_.ece_pending) return;
  const uint32_t told = echo_count_ == 0 ? last_ack_sent_ : echo_ack_[echo_count_ - 1];
  if (rcv_nxt_ != told && echo_count_ < kMaxEchoes) {
    echo_ack_[echo_count_] = rcv_nxt_;
    echo_marks_ = static_cast<uint8_t>(echo_marks_ << 1 | (ce ? 0 : 1));
    ++echo_count_;
    unusual_.echo_waits = true;
  }
  unusual_.ece_pending = ce;
  flags_.ack_now = flags_.output = true;
}

// The peer is alive.
void TcpConnection::heard(TcpContext& ctx) {
  last_rx_ms_ = ctx.now_ms;
  if (probes_sent_ == 0) return;
  probes_sent_ = 0;
  if (!flags_.ack_delayed) arm_idle(ctx);
}

// An ACK says where we stand. Something with data is always answered, an empty segment within the
// budget: two ends that disagree must not answer each other for ever.
void TcpConnection::answer_unacceptable(TcpContext& ctx, const TcpSegment& s) {
  if (s.length == 0 && (s.flags & (syn | fin)) == 0) {
    challenge(ctx);
  } else {
    flags_.ack_now = flags_.output = true;
  }
}

// RFC 5961 7: a budget per connection, so that one peer learns nothing about another; its size is
// random, so that this peer learns nothing either: of the turn and of this connection.
void TcpConnection::challenge(TcpContext& ctx) {
  const uint32_t now = ctx.now_ms;
  if (challenges_left_ == 0 && now - challenge_ms_ < 1000) return;
  if (now - challenge_ms_ >= 1000) {
    challenge_ms_ = now;
    challenges_left_ = static_cast<uint8_t>(5 + (ctx.random ^ iss_) % 6);
  }
  --challenges_left_;
  ctx.counters->add(Counter::tcp_challenge_acks);
  flags_.ack_now = flags_.output = true;
}

// RFC 9293 3.10.7: <SEQ=SEG.ACK><CTL=RST>, and the connection stays as it is.
void TcpConnection::refuse(uint32_t seq) {
  refuse_seq_ = seq;
  unusual_.refuse_now = flags_.output = true;
}

bool reset_for(const TcpSegment& s, TcpSegment& out) {
  if ((s.flags & rst) != 0) return false;
  out = TcpSegment{};
  if ((s.flags & ack) != 0) {
    out.seq = s.ack;
    out.flags = rst;
  } else {
    out.ack = s.seq + s.length + ((s.flags & syn) != 0) + ((s.flags & fin) != 0);
    out.flags = rst | ack;
  }
  return true;
}

}  // namespace postern
