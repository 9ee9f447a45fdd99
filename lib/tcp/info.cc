// What a connection tells about itself, and the measuring for it.
#include "tcp/connection.h"

namespace postern {

using std::chrono::milliseconds;

// Nothing more can be sent now: why?
TcpConnection::Limit TcpConnection::limit_now() const {
  const uint32_t end = send_limit();
  if (!can_send_data() || snd_una_ == end) return Limit::idle;
  if (snd_nxt_ == end) return Limit::sender;
  if (unusual_.pace_wait) return Limit::congestion;
  const uint32_t flight = snd_nxt_ - snd_una_;
  const uint32_t window = snd_wnd_ > flight ? snd_wnd_ - flight : 0;
  const uint32_t queued = snd_end_ - snd_nxt_;
  if (window < queued && window < mss_) return Limit::receiver;
  const uint32_t in_flight = pipe();
  return in_flight + (queued < mss_ ? queued : mss_) > cwnd_ ? Limit::congestion : Limit::sender;
}

void TcpConnection::change_limit(const TcpContext& ctx, Limit limit) {
  const uint32_t now = ctx.now_ms;
  const uint32_t lasted = now - limit_since_ms_;
  limited_ms_[static_cast<int>(flags_.limit)] += lasted;
  if (send_buffer_full_) send_buffer_full_ms_ += lasted;
  limit_since_ms_ = now;
  flags_.limit = limit;
  send_buffer_full_ = limit == Limit::sender && snd_end_ - snd_una_ + mss_ > send_buffer_;
  if (limit == Limit::sender || limit == Limit::idle) round_limited_ = true;
}

// What was in flight when the round began is acknowledged. A rate that the application limited says
// what it asked for, not what the path can do: it is told only if it is the higher one. ACKs that
// arrive together make no path faster: the bytes took as long as it took to send them, at least
// (draft-cheng-iccrg-delivery-rate-estimation). `sent_us`: when the newest of them was sent.
void TcpConnection::end_round(const TcpContext& ctx, uint32_t sent_us) {
  const uint32_t now = ctx.now_us;
  const uint32_t bytes = delivered_ - round_delivered_;
  const uint32_t arriving = now - round_start_us_;
  const uint32_t sending = sent_us - round_sent_us_;
  const uint32_t us = seq_gt(sending, arriving) ? sending : arriving;
  if (us != 0 && bytes != 0 &&
      (!round_limited_ || uint64_t{bytes} * rate_us_ >= uint64_t{rate_bytes_} * us)) {
    rate_bytes_ = bytes;
    rate_us_ = us;
    rate_limited_ = round_limited_;
  }
  search_path_mtu(ctx);
  round_end_ = snd_nxt_;
  round_start_us_ = now;
  round_sent_us_ = sent_us;
  round_delivered_ = delivered_;
  round_limited_ = flags_.limit == Limit::sender || flags_.limit == Limit::idle;
}

void TcpConnection::fill_rates(const TcpContext&, TcpInfo& out) const {
  const auto whole = [](uint16_t wraps, uint32_t low) { return uint64_t{wraps} << 32 | low; };
  out.retransmits = total_resent_;
  out.reorder_seen = reorder_seen_;
  out.bytes_acked = whole(sent_wraps_, tx_acked());
  out.bytes_received = whole(received_wraps_, rx_tail());
  out.bytes_resent = resent_bytes_;
  const uint32_t sent = seq_min(snd_nxt_, snd_end_) - seq_min(snd_una_, snd_end_);
  out.bytes_sent = out.bytes_acked + (synchronized() ? sent : 0) + resent_bytes_;
  out.delivery_rate = rate_us_ == 0 ? 0 : uint64_t{rate_bytes_} * 1'000'000 / rate_us_;
  out.delivery_rate_app_limited = rate_limited_;
  out.pacing_rate = pacing_rate();
  out.max_pacing_rate = max_pacing_rate_;
}

void TcpConnection::fill_times(const TcpContext& ctx, TcpInfo& out) const {
  const uint32_t lasted = synchronized() ? ctx.now_ms - limit_since_ms_ : 0;
  const auto total = [&](Limit limit) {
    return limited_ms_[static_cast<int>(limit)] + (flags_.limit == limit ? lasted : 0);
  };
  const uint32_t sender = total(Limit::sender);
  const uint32_t receiver = total(Limit::receiver);
  const uint32_t congestion = total(Limit::congestion);
  out.limited_by_sender = milliseconds(sender);
  out.limited_by_receiver = milliseconds(receiver);
  out.limited_by_congestion = milliseconds(congestion);
  out.limited_by_send_buffer =
      milliseconds(send_buffer_full_ms_ + (send_buffer_full_ ? lasted : 0));
  out.busy = milliseconds(sender) + milliseconds(receiver) + milliseconds(congestion);
}

void TcpConnection::info(const TcpContext& ctx, TcpInfo& out) const {
  out.state = state_;
  out.timestamps = flags_.timestamps;
  out.sack = flags_.sack;
  out.window_scaling = window_scaling_;
  out.ecn = flags_.ecn;
  out.in_recovery = unusual_.in_recovery || unusual_.in_loss;
  out.reordering = flags_.reordering;
  out.snd_scale = flags_.snd_scale;
  out.rcv_scale = flags_.rcv_scale;
  out.backoff = backoff_;
  out.retries = retries_;
  out.probes = probes_sent_;
  out.mss = mss_;
  out.rcv_mss = rcv_mss_;
  out.path_mss = path_mss_;
  out.rto = rto(ctx);
  out.srtt = std::chrono::microseconds(srtt_ >> 3);
  out.rttvar = std::chrono::microseconds(rttvar_ >> 2);
  out.min_rtt = std::chrono::microseconds(min_rtt_);
  out.cwnd = cwnd_;
  out.ssthresh = ssthresh_;
  out.snd_wnd = snd_wnd_;
  out.rcv_wnd = seq_gt(rcv_adv_, rcv_nxt_) ? rcv_adv_ - rcv_nxt_ : 0;
  out.in_flight = pipe();
  out.sacked = sacked_bytes_;
  out.lost = lost_bytes_;
  out.unsent = snd_end_ - seq_min(snd_nxt_, snd_end_);
  out.receive_buffer = receive_buffer_;
  out.send_buffer = send_buffer_;
  fill_rates(ctx, out);
  fill_times(ctx, out);
  out.congestion = congestion_ < kCongestionCount ? congestion().name.data() : "";
}

}  // namespace postern
