// The short way of what almost every segment is: the next one in order and nothing unusual about it
// or about us; the acknowledgment of all that is in flight; one segment of new data. Whatever is
// not sure to be that takes the general way (input.cc, recovery.cc, output.cc), which comes to the
// same.
#include "tcp/connection.h"

namespace postern {

using namespace tcp_flag;

// ---- in: header prediction ----

bool TcpConnection::fast_path(TcpContext& ctx, const TcpSegment& s, TcpInput& in) {
  const uint32_t acked = s.ack - snd_una_;
  const uint32_t flight = snd_nxt_ - snd_una_;
  const bool plain = (s.flags & ~psh) == ack && s.seq == rcv_nxt_ && s.sack_count == 0 &&
                     acked <= flight && s.window != 0 && s.ecn != 3 &&
                     s.has_timestamps == flags_.timestamps;
  if (!plain || !unusual_.none() || ooo_head_ != 0) return false;
  if (flags_.timestamps) {
    if (static_cast<int32_t>(s.ts_value - ts_recent_) < 0) return false;
    // RFC 7323 4.3: seq is rcv_nxt, which is at or beyond Last.ACK.sent; equal when not delayed.
    if (rcv_nxt_ == last_ack_sent_) ts_recent_ = s.ts_value;
    ts_age_ = age_stamp(ctx.now);
  }
  const uint32_t allowed = rcv_adv_ - rcv_nxt_;
  if (s.length == 0) {
    if (acked == 0 && flight != 0) return false;  // perhaps a duplicate ACK
  } else if (s.length > allowed || s.length > ctx.receive_room || flags_.orphan) {
    return false;
  }
  if (flags_.keepalive) heard(ctx);
  update_window(s);
  if (acked != 0) {
    if (acked == flight && sent_head_ == 0 && newest_.flags == 0 && !flags_.ecn) [[likely]] {
      acknowledge_all(ctx);
    } else {
      process_acknowledgment(ctx, s, true);
    }
  }
  if (s.length != 0) accept_in_order(ctx, s.seq, s.seq + s.length, in);
  return true;
}

// All that is in flight is one range, never sent again, and has arrived.
void TcpConnection::acknowledge_all(TcpContext& ctx) {
  const uint32_t bytes = snd_nxt_ - snd_una_;
  const uint32_t took = ctx.now_us - newest_.time;
  Acked acked;
  acked.bytes = acked.delivered = bytes;
  acked.rtt_us = took == 0 ? 1 : took;
  if (snd_nxt_ - iss_ < snd_una_ - iss_) ++sent_wraps_;
  newest_.left = snd_una_ = snd_nxt_;
  events_ |= tcp_event::acked;
  if (flags_.aging) progressed(ctx);
  sample_rtt(acked.rtt_us);
  delivered_ += bytes;
  if (seq_ge(snd_una_, round_end_)) end_round(ctx, newest_.time);
  if (flags_.cwnd_limited || bytes + mss_ >= cwnd_ / 2) grow(ctx, acked, bytes);
  if (snd_nxt_ != send_limit()) {
    arm_retransmit(ctx);
    flags_.output = true;
  } else {
    arm(Timer::none, kNever);
    set_limit(ctx, Limit::idle);
  }
}

// ---- out ----

// All that is queued, if that is one segment which may go now.
bool TcpConnection::send_plain(TcpContext& ctx, TcpSegment& out) {
  const uint32_t length = snd_end_ - snd_nxt_;
  const uint32_t flight = snd_nxt_ - snd_una_;
  if (length - 1 >= mss_ || state_ != TcpState::established || !unusual_.none() || ooo_head_ != 0) {
    return false;
  }
  if (flight == 0) {
    if (was_idle(ctx)) restart_after_idle(ctx);
  } else if (length != mss_ && !flags_.nodelay) {
    return false;
  }
  if (flight + length > cwnd_ || flight + length > snd_wnd_) return false;
  out = TcpSegment{};
  out.seq = snd_nxt_;
  out.length = length;
  out.tx_position = snd_nxt_ - iss_ - 1;
  out.flags = ack | psh;
  if (flags_.ecn) out.ecn = 2;  // ECT(0)
  append_range(ctx, snd_nxt_, snd_end_);
  snd_nxt_ = snd_end_;
  if (length != mss_) snd_small_ = snd_end_;
  stamp(ctx, out);
  out.window = select_window(ctx);
  acknowledge(ctx, out);
  if (quick_acks_ != 0 && rcv_nxt_ != irs_ + 1) quick_acks_ = 0;
  ctx.counters->add(Counter::tcp_tx_segments);
  ctx.counters->add(Counter::tcp_tx_bytes, length);
  if (flight == 0 && flags_.aging) progress_ms_ = ctx.now_ms;
  if (flight == 0 || timer_is(Timer::tail_probe) || timer_is(Timer::none)) arm_retransmit(ctx);
  flags_.output = false;
  set_limit(ctx, Limit::sender);
  return true;
}

}  // namespace postern
