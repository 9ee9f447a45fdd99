// RTT and RTO (RFC 6298), and what happens when time runs out.
#include <cerrno>

#include "tcp/connection.h"

namespace postern {

using std::chrono::duration_cast;
using std::chrono::microseconds;

namespace {
// Longer than any timer waits; eight times as much still fits srtt_.
constexpr uint32_t kLongestRtt = 1U << 28;
}  // namespace

void TcpConnection::sample_rtt(uint32_t rtt_us) {
  if (rtt_us > kLongestRtt) rtt_us = kLongestRtt;
  if (min_rtt_ == 0 || rtt_us < min_rtt_) min_rtt_ = rtt_us;
  if (srtt_ == 0) {
    srtt_ = rtt_us << 3;
    rttvar_ = rtt_us << 1;
    return;
  }
  const auto error = static_cast<int32_t>(rtt_us - (srtt_ >> 3));
  srtt_ += static_cast<uint32_t>(error);  // srtt += 1/8 error
  const uint32_t deviation =
      error < 0 ? static_cast<uint32_t>(-error) : static_cast<uint32_t>(error);
  rttvar_ += deviation - (rttvar_ >> 2);  // rttvar += 1/4 (|error| - rttvar)
  if (srtt_ == 0) srtt_ = 1;
}

// RFC 7323 4.1: the echo of our clock, to the millisecond.
void TcpConnection::sample_rtt_from_echo(const TcpContext& ctx, uint32_t echo) {
  const uint32_t ms = ctx.now_ms + ts_offset_ - echo;
  if (ms > 600'000) return;  // not an echo of ours
  sample_rtt(ms == 0 ? 1000 : ms * 1000);
}

// RFC 6298 2, with the deviation term never below rto_min: peers delay their ACKs.
Duration TcpConnection::rto(const TcpContext& ctx) const {
  Duration base = ctx.config->rto_initial;
  if (srtt_ != 0) {
    const Duration spread = microseconds(rttvar_);  // 4 * rttvar
    base = microseconds(srtt_ >> 3) + (spread > ctx.config->rto_min ? spread : ctx.config->rto_min);
  } else if (syn_was_resent_) {
    base = base > 3s ? base : Duration(3s);  // RFC 6298 5.7
  }
  for (uint8_t i = 0; i < backoff_ && base < ctx.config->rto_max; ++i) base *= 2;
  return base < ctx.config->rto_max ? base : ctx.config->rto_max;
}

void TcpConnection::arm(Timer timer, Time at) {
  flags_.timer = timer;
  retransmit_at_ = at;
}

// RFC 8985 7.2: whether the loss of what was sent last, in a state that sends, would not show
// otherwise.
bool TcpConnection::tail_probe_useful() const {
  return flags_.sack && srtt_ != 0 && backoff_ == 0 &&
         !(unusual_.loss_marks || unusual_.in_recovery || unusual_.in_loss || unusual_.tail_probed);
}

// RFC 8985 7.2 "PTO".
Duration TcpConnection::tail_probe_timeout(const TcpContext& ctx) const {
  Duration timeout = microseconds(srtt_ >> 2) + 2ms;  // 2 * srtt
  // The peer may wait with the ACK of a single segment.
  if (snd_nxt_ - snd_una_ <= mss_) timeout += ctx.config->rto_min;
  return timeout;
}

// Chooses what the retransmission timer is for now and starts it afresh.
void TcpConnection::arm_retransmit(TcpContext& ctx) {
  if (!can_send_data()) {
    arm(Timer::none, kNever);
    return;
  }
  if (snd_una_ != snd_nxt_) {
    const Duration timeout = rto(ctx);
    if (tail_probe_useful()) {  // RFC 8985 7.2: at the latest when the RTO would expire
      const Duration probe = tail_probe_timeout(ctx);
      arm(Timer::tail_probe, deadline(ctx, probe < timeout ? probe : timeout));
    } else {
      arm(Timer::rto, deadline(ctx, timeout));
    }
    return;
  }
  arm_waiting(ctx);
}

void TcpConnection::arm_waiting(TcpContext& ctx) {
  if (snd_end_ == snd_nxt_) {
    arm(Timer::none, kNever);
    return;
  }
  // Data waits and nothing is in flight that would bring an ACK: the window is closed, too small
  // to be worth a segment, or the application holds the segment back.
  const bool held = snd_wnd_ >= snd_end_ - snd_nxt_ || snd_wnd_ >= mss_;
  if (held) {
    arm(Timer::push, ctx.now + kCorkLimit);
  } else {
    arm(Timer::persist, deadline(ctx, rto(ctx)));
  }
}

// The earlier of a timeout and the end of the application's patience (RFC 5482).
Time TcpConnection::deadline(const TcpContext& ctx, Duration timeout) const {
  Time at = ctx.now + timeout;
  if (user_timeout_ms_ != 0) {
    const uint32_t waited = ctx.now_ms - progress_ms_;
    const uint32_t left = waited < user_timeout_ms_ ? user_timeout_ms_ - waited : 0;
    const Time limit = ctx.now + std::chrono::milliseconds(left);
    if (limit < at) at = limit;
  }
  return at;
}

// ack_at_ when no ACK is delayed: TIME-WAIT, an orphan in FIN-WAIT-2, keepalive.
void TcpConnection::arm_idle(TcpContext& ctx) {
  if (state_ == TcpState::time_wait) return;
  if (state_ == TcpState::fin_wait_2 && flags_.orphan) {
    ack_at_ = ctx.now + ctx.config->fin_wait_2;
    return;
  }
  ack_at_ = kNever;
  if (!flags_.keepalive || !synchronized()) return;
  const uint32_t silent = ctx.now_ms - last_rx_ms_;
  const auto wait = duration_cast<std::chrono::milliseconds>(
      probes_sent_ == 0 ? keepalive_idle(ctx)
                        : keepalive_interval(ctx) * probes_sent_ + keepalive_idle(ctx));
  const auto left = wait.count() - static_cast<int64_t>(silent);
  ack_at_ = ctx.now + std::chrono::milliseconds(left > 0 ? left : 0);
}

Duration TcpConnection::keepalive_idle(const TcpContext& ctx) const {
  return keep_idle_ != 0 ? Duration(std::chrono::seconds(keep_idle_)) : ctx.config->keepalive_idle;
}

Duration TcpConnection::keepalive_interval(const TcpContext& ctx) const {
  return keep_interval_ != 0 ? Duration(std::chrono::seconds(keep_interval_))
                             : ctx.config->keepalive_interval;
}

void TcpConnection::on_timer(TcpContext& ctx) {
  if (retransmit_at_ <= ctx.now) on_retransmit_timer(ctx);
  if (ack_at_ <= ctx.now) on_ack_timer(ctx);
  if (unusual_.pace_wait && pace_at_ <= ctx.now) {
    unusual_.pace_wait = false;
    flags_.output = true;
  }
}

void TcpConnection::on_retransmit_timer(TcpContext& ctx) {
  const Timer timer = flags_.timer;
  const Time due = retransmit_at_;
  arm(Timer::none, kNever);
  switch (timer) {
    case Timer::syn:
      on_syn_timer(ctx);
      break;
    case Timer::rto:
      on_rto(ctx, due);
      break;
    case Timer::tail_probe:
      if (patience_over(ctx)) {
        on_rto(ctx, due);
      } else {
        unusual_.tail_now = flags_.output = true;
      }
      break;
    case Timer::reorder:
      on_reorder_timer(ctx);
      break;
    case Timer::persist:
      on_persist(ctx, due);
      break;
    case Timer::push:
      unusual_.push_now = flags_.output = true;
      break;
    case Timer::none:
      break;
  }
}

void TcpConnection::on_syn_timer(TcpContext& ctx) {
  const uint8_t limit = flags_.passive ? ctx.config->syn_ack_retries : ctx.config->syn_retries;
  if (retries_ >= limit || patience_over(ctx)) {
    ctx.counters->add(Counter::tcp_failed_opens);
    fail(ctx, soft_error_ != 0 ? soft_error_ : ETIMEDOUT);
    return;
  }
  ++retries_;
  ++backoff_;
  unusual_.syn_now = flags_.output = true;
}

bool TcpConnection::patience_over(const TcpContext& ctx) const {
  return user_timeout_ms_ != 0 && ctx.now_ms - progress_ms_ >= user_timeout_ms_;
}

// RFC 9293 3.8.3: R2 is reached.
bool TcpConnection::given_up(const TcpContext& ctx) const {
  if (user_timeout_ms_ != 0) return patience_over(ctx);
  return retries_ >= (flags_.orphan ? ctx.config->orphan_retries : ctx.config->retries);
}

// RFC 6298 5.4 to 5.7, RFC 5681 3.1.
void TcpConnection::on_rto(TcpContext& ctx, Time due) {
  if (snd_una_ == snd_nxt_) return;
  // The peer has closed its window over data in flight, and answers: that is no failing path
  // (RFC 9293 3.8.6.1).
  if (snd_wnd_ == 0 && !flags_.orphan && answered(ctx, due)) retries_ = 0;
  if (given_up(ctx)) {
    fail(ctx, soft_error_ != 0 ? soft_error_ : ETIMEDOUT, true);
    return;
  }
  ctx.counters->add(Counter::tcp_rto);
  if (retries_ < 255) ++retries_;
  flags_.aging = true;
  if (backoff_ < 16) ++backoff_;
  suspect_black_hole(ctx);
  start_loss(ctx);
  flags_.output = true;
  arm(Timer::rto, deadline(ctx, rto(ctx)));
}

// Whether the peer was heard since the timer that was due then was started. It may expire late.
bool TcpConnection::answered(const TcpContext& ctx, Time due) const {
  return static_cast<int32_t>(last_rx_ms_ - to_ms(due - rto(ctx))) >= 0;
}

// RFC 9293 3.8.6.1: answers keep the connection open for ever, but not for an orphan.
void TcpConnection::on_persist(TcpContext& ctx, Time due) {
  if (!flags_.orphan && answered(ctx, due)) retries_ = 0;
  if (given_up(ctx)) {
    fail(ctx, soft_error_ != 0 ? soft_error_ : ETIMEDOUT, true);
    return;
  }
  if (retries_ < 255) ++retries_;
  flags_.aging = true;
  if (backoff_ < 16) ++backoff_;
  if (snd_wnd_ != 0) {
    unusual_.push_now = true;  // RFC 9293 3.8.6.2.1: the override timeout
  } else {
    unusual_.probe_now = true;
  }
  flags_.output = true;
  arm(Timer::persist, deadline(ctx, rto(ctx)));
}

void TcpConnection::on_ack_timer(TcpContext& ctx) {
  if (flags_.ack_delayed) {
    flags_.ack_delayed = false;
    flags_.ack_now = flags_.output = true;
    ack_at_ = kNever;
    arm_idle(ctx);
    return;
  }
  if (state_ == TcpState::time_wait) {
    close_now(ctx);
  } else if (state_ == TcpState::fin_wait_2 && flags_.orphan) {
    close_now(ctx);
  } else {
    on_keepalive(ctx);
  }
}

// RFC 9293 3.8.4: only when nothing else would find out.
void TcpConnection::on_keepalive(TcpContext& ctx) {
  ack_at_ = kNever;
  if (!flags_.keepalive || !synchronized()) return;
  if (snd_una_ != snd_end_ && snd_una_ != send_limit()) {  // the retransmission timer watches
    ack_at_ = ctx.now + keepalive_idle(ctx);
    return;
  }
  const auto silent = std::chrono::milliseconds(ctx.now_ms - last_rx_ms_);
  const Duration due = keepalive_idle(ctx) + keepalive_interval(ctx) * probes_sent_;
  if (silent < duration_cast<std::chrono::milliseconds>(due)) {
    arm_idle(ctx);
    return;
  }
  const uint8_t limit = keep_probes_ != 0 ? keep_probes_ : ctx.config->keepalive_probes;
  const bool impatient = user_timeout_ms_ != 0 && probes_sent_ != 0 &&
                         silent >= std::chrono::milliseconds(user_timeout_ms_);
  if (impatient || (user_timeout_ms_ == 0 && probes_sent_ >= limit)) {
    fail(ctx, soft_error_ != 0 ? soft_error_ : ETIMEDOUT, true);
    return;
  }
  if (probes_sent_ < 255) ++probes_sent_;
  unusual_.alive_now = flags_.output = true;
  ack_at_ = ctx.now + keepalive_interval(ctx);
}

}  // namespace postern
