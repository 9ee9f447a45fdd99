// Opening: SYN, SYN-ACK, simultaneous open, and the options that are settled then.
#include <cerrno>

#include "tcp/connection.h"

namespace postern {

void TcpConnection::open_active(TcpContext& ctx, uint16_t mss) {
  open(ctx, mss);
  flags_.ecn = wants_ecn(ctx);
  set_state(TcpState::syn_sent);
  ctx.counters->add(Counter::tcp_active_opens);
}

void TcpConnection::open_passive(TcpContext& ctx, const TcpSegment& syn, uint16_t mss) {
  open(ctx, mss);
  flags_.passive = true;
  flags_.ecn = wants_ecn(ctx) &&
               (syn.flags & (tcp_flag::ece | tcp_flag::cwr)) == (tcp_flag::ece | tcp_flag::cwr);
  take_syn_options(ctx, syn);
  set_state(TcpState::syn_received);
}

// When the SYN-ACK went out is not known, so it gives no RTT sample but by timestamps. Should the
// ACK not be good enough, it is sent again.
void TcpConnection::open_cookie(TcpContext& ctx, const TcpSegment& syn, uint16_t mss) {
  open_passive(ctx, syn, mss);
  unusual_.syn_now = flags_.output = false;
  cookie_ = true;
  snd_nxt_ = iss_ + 1;
  rcv_adv_ = rcv_nxt_ + syn_window(ctx);
  newest_ = TcpRange{iss_, iss_ + 1, ctx.now_us, TcpRange::kResent};
  arm(Timer::syn, ctx.now + rto(ctx));
}

// The window of a SYN is not scaled.
uint16_t TcpConnection::syn_window(const TcpContext& ctx) const {
  uint32_t limit = receive_buffer_ < ctx.receive_room ? receive_buffer_ : ctx.receive_room;
  if (state_ == TcpState::syn_received) limit = receive_limit(ctx) - rcv_nxt_;
  return static_cast<uint16_t>(limit < 65535 ? limit : 65535);
}

void TcpConnection::open(TcpContext& ctx, uint16_t mss) {
  iss_ = ctx.isn;
  snd_una_ = snd_nxt_ = fack_ = snd_small_ = iss_;
  snd_end_ = iss_ + 1;
  newest_ = TcpRange{iss_, iss_};
  ts_offset_ = ctx.ts_offset;
  path_mss_ = link_mss_ = mss < ctx.config->mss_min ? ctx.config->mss_min : mss;
  if (receive_buffer_ == 0) {
    receive_buffer_ = ctx.config->receive_buffer;
    tune_buffer_ = true;
  }
  if (send_buffer_ == 0) send_buffer_ = ctx.config->send_buffer;
  if (congestion_ >= kCongestionCount) {
    congestion_ = ctx.config->congestion < kCongestionCount ? ctx.config->congestion : 0;
  }
  flags_.timestamps = ctx.config->timestamps;
  flags_.sack = ctx.config->sack;
  window_scaling_ = ctx.config->window_scaling;
  // The scale is settled now for life, so it covers what the configuration may allow later.
  uint32_t largest =
      receive_buffer_ > ctx.config->receive_buffer ? receive_buffer_ : ctx.config->receive_buffer;
  if (largest < ctx.config->receive_buffer_max) largest = ctx.config->receive_buffer_max;
  uint8_t scale = 0;
  while (scale < 14 && (largest >> scale) > 65535) ++scale;
  flags_.rcv_scale = window_scaling_ ? scale : 0;
  receive_buffer_ = receive_buffer_ < least_buffer() ? least_buffer() : receive_buffer_;
  quick_acks_ = kQuickAcks;
  last_rx_ms_ = progress_ms_ = ctx.now_ms;
  set_send_mss();
  cwnd_ = initial_window(mss_, ctx.config->initial_window);
  unusual_.syn_now = flags_.output = true;
}

// From the peer's SYN: where its stream begins, and what both sides can do (RFC 7323, 2018).
void TcpConnection::take_syn_options(TcpContext& ctx, const TcpSegment& s) {
  irs_ = s.seq;
  rcv_nxt_ = rcv_adv_ = last_ack_sent_ = irs_ + 1;
  rcv_limit_ = rcv_nxt_ + receive_buffer_;
  snd_wl1_ = s.seq;
  snd_wnd_ = max_snd_wnd_ = s.window;  // the window of a SYN is never scaled
  // RFC 9293 MUST-15: 536 without the option. A tiny offer is a known attack on our packet rate.
  const uint16_t offered = s.has_mss ? s.mss : 536;
  peer_mss_ = offered < ctx.config->mss_min ? ctx.config->mss_min : offered;
  flags_.sack = flags_.sack && s.sack_permitted;
  flags_.timestamps = flags_.timestamps && s.has_timestamps;
  if (flags_.timestamps) {
    ts_recent_ = s.ts_value;
    ts_age_ = age_stamp(ctx.now);
  }
  window_scaling_ = window_scaling_ && s.has_window_scale;
  flags_.snd_scale = window_scaling_ ? (s.window_scale > 14 ? 14 : s.window_scale) : 0;
  if (!window_scaling_) flags_.rcv_scale = 0;
  set_send_mss();
  rcv_mss_ = mss_ < 536 ? mss_ : 536;
}

// RFC 9293 3.7.1, RFC 6691: the offer counts no options, what we send does.
void TcpConnection::set_send_mss() {
  uint16_t mss = peer_mss_ < path_mss_ ? peer_mss_ : path_mss_;
  if (user_mss_ != 0 && user_mss_ < mss) mss = user_mss_;
  mss_ = static_cast<uint16_t>(mss - (flags_.timestamps ? 12 : 0));
  // RFC 5681 3.1: the window is never below one segment, so it grows with the segment.
  if (synchronized() && cwnd_ < mss_) cwnd_ = mss_;
}

// RFC 9293 3.10.7.3.
TcpInput TcpConnection::on_segment_syn_sent(TcpContext& ctx, const TcpSegment& s) {
  const bool has_ack = (s.flags & tcp_flag::ack) != 0;
  const bool ack_ok = has_ack && seq_gt(s.ack, iss_) && seq_le(s.ack, snd_nxt_);
  // First: the ACK bit.
  if (has_ack && !ack_ok) {
    if ((s.flags & tcp_flag::rst) == 0) refuse(s.ack);
    return TcpInput{.drop = Drop::tcp_bad_ack};
  }
  // Second: the RST bit.
  if ((s.flags & tcp_flag::rst) != 0) {
    if (!has_ack) return TcpInput{.drop = Drop::tcp_bad_sequence};
    ctx.counters->add(Counter::tcp_resets_received);
    ctx.counters->add(Counter::tcp_failed_opens);
    fail(ctx, ECONNREFUSED);
    return {};
  }
  // Fourth: the SYN bit.
  if ((s.flags & tcp_flag::syn) == 0) return TcpInput{.drop = Drop::tcp_bad_flags};
  const bool ece = (s.flags & tcp_flag::ece) != 0;
  const bool cwr = (s.flags & tcp_flag::cwr) != 0;
  flags_.ecn = flags_.ecn && ece && (has_ack ? !cwr : cwr);
  take_syn_options(ctx, s);
  if (has_ack) {
    establish(ctx, s);
    flags_.ack_now = flags_.output = true;
  } else {  // simultaneous open
    set_state(TcpState::syn_received);
    unusual_.syn_now = flags_.output = true;
  }
  // Data on a SYN is not kept: the peer sends it again once the connection is established.
  return {};
}

// Our SYN is acknowledged: to ESTABLISHED, or on to FIN-WAIT-1 if the application is done already.
void TcpConnection::establish(TcpContext& ctx, const TcpSegment& s) {
  const bool resent = newest_.has(TcpRange::kResent);
  if (!resent) {
    const uint32_t rtt = ctx.now_us - newest_.time;
    sample_rtt(rtt == 0 ? 1 : rtt);
  } else if (flags_.timestamps && s.has_timestamps && s.ts_echo != 0) {
    sample_rtt_from_echo(ctx, s.ts_echo);
  }
  snd_una_ = fack_ = recovery_point_ = s.ack;
  newest_ = TcpRange{snd_una_, snd_una_};
  // RFC 5681 3.1: a lost SYN is a sign of congestion.
  const bool lost = resent && !cookie_;
  cwnd_ = lost ? mss_ : initial_window(mss_, ctx.config->initial_window);
  syn_was_resent_ = lost;
  unusual_.syn_now = false;
  backoff_ = retries_ = 0;
  flags_.aging = user_timeout_ms_ != 0;
  progress_ms_ = limit_since_ms_ = ctx.now_ms;
  tune_since_us_ = round_start_us_ = round_sent_us_ = ctx.now_us;
  round_end_ = snd_una_;
  arm(Timer::none, kNever);
  set_state(flags_.fin_queued ? TcpState::fin_wait_1 : TcpState::established);
  if (flags_.passive) ctx.counters->add(Counter::tcp_passive_opens);
  events_ |= tcp_event::connected;
  arm_idle(ctx);
  flags_.output = true;
}

}  // namespace postern
