// What the application asks of a connection, and how it ends.
#include "tcp/connection.h"

#include <cerrno>

namespace postern {

// The two cache lines that established in-order traffic touches, and the size that an idle
// connection costs.
struct TcpLayout {
  static_assert(offsetof(TcpConnection, snd_una_) == 0);
  static_assert(offsetof(TcpConnection, sent_last_) == 60);
  static_assert(offsetof(TcpConnection, rcv_nxt_) == 64);
  static_assert(offsetof(TcpConnection, backoff_) == 128);
  static_assert(sizeof(TcpConnection) <= 464);
};

void TcpConnection::on_send(TcpContext& ctx, uint32_t bytes, bool more) {
  if (flags_.fin_queued || state_ == TcpState::closed) return;
  if (flags_.aging && snd_una_ == snd_end_) progress_ms_ = ctx.now_ms;
  snd_end_ += bytes;
  unusual_.more = more;
  flags_.output = true;
}

void TcpConnection::on_consumed(TcpContext& ctx, uint32_t rx_head) {
  const uint32_t old_head = rcv_limit_ - receive_buffer_ - irs_ - 1;
  const uint32_t moved = rx_head - old_head;
  if (state_ == TcpState::closed || moved == 0 || moved > rx_tail() - old_head) return;
  rcv_limit_ += moved;
  if (!synchronized() || flags_.fin_received) return;
  if (tune_buffer_) tune_receive_buffer(ctx, rx_head);
  // RFC 9293 3.8.6.2.2: tell of the new window when it is worth a segment of its own.
  const uint32_t offered = rcv_adv_ - rcv_nxt_;
  const uint32_t now_possible = receive_limit(ctx) - rcv_nxt_;
  if (now_possible >= 2 * offered && now_possible - offered >= window_step()) {
    flags_.ack_now = flags_.output = true;
  }
}

void TcpConnection::on_shutdown_write(TcpContext& ctx) {
  if (flags_.fin_queued || state_ == TcpState::closed) return;
  flags_.fin_queued = true;
  unusual_.more = false;
  if (flags_.aging && snd_una_ == snd_end_) progress_ms_ = ctx.now_ms;
  if (state_ == TcpState::established) set_state(TcpState::fin_wait_1);
  if (state_ == TcpState::close_wait) set_state(TcpState::last_ack);
  flags_.output = true;
}

void TcpConnection::on_close(TcpContext& ctx) {
  if (flags_.orphan) return;
  if (state_ == TcpState::closed || state_ == TcpState::syn_sent) {
    if (state_ != TcpState::closed) close_now(ctx);
    return;
  }
  const uint32_t unread = rx_tail() - (rcv_limit_ - receive_buffer_ - irs_ - 1);
  flags_.orphan = true;
  if (unread != 0) {  // RFC 2525 2.17: data was lost, the peer must know
    on_abort(ctx);
    return;
  }
  on_shutdown_write(ctx);
  if (state_ == TcpState::fin_wait_2) arm_idle(ctx);
  maybe_released();
}

void TcpConnection::on_abort(TcpContext& ctx) {
  if (state_ == TcpState::closed) return;
  // RFC 9293 3.10.5: nobody waits for a reset before the SYN was sent or after both FINs.
  const bool tell = state_ != TcpState::syn_sent && state_ != TcpState::time_wait;
  close_now(ctx, tell);
}

bool TcpConnection::set_option(TcpContext& ctx, TcpOption option, uint32_t value) {
  switch (option) {
    case TcpOption::nodelay:
    case TcpOption::cork:
    case TcpOption::keepalive:
    case TcpOption::quick_ack:
      return value <= 1 && (set_switch(ctx, option, value != 0), true);
    default:
      return set_number(ctx, option, value);
  }
}

void TcpConnection::set_switch(TcpContext& ctx, TcpOption option, bool on) {
  if (option == TcpOption::nodelay) {
    flags_.nodelay = on;
    // As on Linux: what a cork holds back goes now.
    if (on && snd_end_ != snd_nxt_ && can_send_data()) unusual_.push_now = true;
  }
  if (option == TcpOption::cork) unusual_.cork = on;
  if (option == TcpOption::keepalive) {
    flags_.keepalive = on;
    last_rx_ms_ = ctx.now_ms;
    probes_sent_ = 0;
    if (!flags_.ack_delayed) arm_idle(ctx);
  }
  if (option == TcpOption::quick_ack) {
    quick_acks_ = on ? kQuickAcks : 0;
    if (on && flags_.ack_delayed) flags_.ack_now = true;
  }
  flags_.output = true;
}

bool TcpConnection::set_number(TcpContext& ctx, TcpOption option, uint32_t value) {
  const auto take = [value](auto& field, uint32_t low, uint32_t high) {
    if (value < low || value > high) return false;
    field = static_cast<std::remove_reference_t<decltype(field)>>(value);
    return true;
  };
  switch (option) {
    case TcpOption::keepalive_idle:
      if (!take(keep_idle_, 1, 32767)) return false;
      if (flags_.keepalive && !flags_.ack_delayed) arm_idle(ctx);
      return true;
    case TcpOption::keepalive_interval:
      return take(keep_interval_, 1, 32767);
    case TcpOption::keepalive_probes:
      return take(keep_probes_, 1, 127);
    case TcpOption::user_timeout:
      if (!take(user_timeout_ms_, 0, INT32_MAX)) return false;
      flags_.aging = value != 0 || retries_ != 0;
      progress_ms_ = ctx.now_ms;
      if (timer_is(Timer::rto) || timer_is(Timer::persist)) arm_retransmit(ctx);
      return true;
    case TcpOption::pacing_rate:
      set_pacing_rate(value);
      flags_.output = true;
      return true;
    case TcpOption::receive_buffer:
      return set_receive_buffer(value);
    case TcpOption::send_buffer:
      return take(send_buffer_, 1, UINT32_MAX);
    case TcpOption::max_segment:
      if (!take(user_mss_, ctx.config->mss_min, 32767)) return false;
      if (synchronized()) set_send_mss();
      return true;
    case TcpOption::congestion:
      if (value >= kCongestionCount) return false;
      if (value != congestion_) scratch_ = CongestionScratch{};  // each has its own layout
      congestion_ = static_cast<uint8_t>(value);
      return true;
    default:
      return false;
  }
}

bool TcpConnection::set_receive_buffer(uint32_t value) {
  if (value > (1U << 30)) return false;
  if (value < least_buffer()) value = least_buffer();
  if (state_ != TcpState::closed) {
    // What was offered stays offered (RFC 9293 3.8.6.2.2): a smaller buffer only stops growth.
    rcv_limit_ += value - receive_buffer_;
  }
  receive_buffer_ = value;
  tune_buffer_ = false;
  return true;
}

void TcpConnection::set_max_segment_burst(uint32_t bytes) {
  const uint32_t kib = bytes / 1024;
  burst_kib_ = static_cast<uint8_t>(kib > 63 ? 63 : kib);
}

void TcpConnection::on_icmp_error(TcpContext& ctx, int error, uint32_t quoted_seq) {
  // RFC 5927 4.1: only an error that quotes something in flight.
  if (state_ == TcpState::closed || !seq_in(quoted_seq, snd_una_, snd_nxt_)) return;
  if (state_ == TcpState::syn_sent || state_ == TcpState::syn_received) {
    ctx.counters->add(Counter::tcp_failed_opens);
    fail(ctx, error);
  } else {
    soft_error_ = static_cast<uint8_t>(error);  // RFC 5461 2: reported if nothing gets through
  }
}

void TcpConnection::fail(TcpContext& ctx, int error, bool tell) {
  error_ = static_cast<uint8_t>(error);
  events_ |= tcp_event::failed;
  close_now(ctx, tell);
}

// To CLOSED. With `tell`, a reset goes out first; `finished` follows it.
void TcpConnection::close_now(TcpContext& ctx, bool tell) {
  set_state(TcpState::closed);
  unusual_.syn_now = unusual_.refuse_now = unusual_.probe_now = false;
  unusual_.tail_now = unusual_.alive_now = unusual_.push_now = unusual_.pace_wait = false;
  flags_.ack_now = flags_.ack_delayed = false;
  unusual_.reset_now = flags_.output = tell;
  arm(Timer::none, kNever);
  ack_at_ = kNever;
  release_ranges(ctx);
  if (!flags_.released) events_ |= tcp_event::released;
  flags_.released = true;
  if (!tell) events_ |= tcp_event::finished;
}

void TcpConnection::release_ranges(TcpContext& ctx) {
  const auto release_list = [&](uint32_t& head) {
    while (head != 0) {
      const uint32_t next = ctx.ranges->next(head);
      ctx.ranges->release(head);
      head = next;
    }
  };
  release_list(sent_head_);
  release_list(ooo_head_);
  sent_last_ = resend_hint_ = ooo_last_ = 0;
  sent_count_ = ooo_count_ = 0;
  newest_ = TcpRange{snd_nxt_, snd_nxt_};
  sacked_bytes_ = lost_bytes_ = 0;
  unusual_.loss_marks = unusual_.in_recovery = unusual_.in_loss = false;
}

void TcpConnection::enter_time_wait(TcpContext& ctx) {
  set_state(TcpState::time_wait);
  arm(Timer::none, kNever);
  flags_.ack_delayed = false;
  ack_at_ = ctx.now + ctx.config->time_wait;
  release_ranges(ctx);
  maybe_released();
}

// The application's transmit memory is needed until its last byte is acknowledged.
void TcpConnection::maybe_released() {
  const bool over = flags_.orphan || state_ == TcpState::time_wait;
  if (flags_.released || !over || tx_acked() != tx_tail()) return;
  flags_.released = true;
  events_ |= tcp_event::released;
}

bool TcpConnection::may_reopen(const TcpSegment& syn) const {
  if (state_ != TcpState::time_wait || (syn.flags & tcp_flag::syn) == 0 ||
      (syn.flags & (tcp_flag::rst | tcp_flag::ack)) != 0) {
    return false;
  }
  if (flags_.timestamps && syn.has_timestamps) {
    const auto newer = static_cast<int32_t>(syn.ts_value - ts_recent_);
    return newer > 0 || (newer == 0 && seq_gt(syn.seq, rcv_nxt_));
  }
  return seq_gt(syn.seq, rcv_nxt_);
}

}  // namespace postern
