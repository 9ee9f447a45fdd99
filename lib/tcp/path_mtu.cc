// The path's MTU: told by ICMP (RFC 1191, 8201), suspected where nothing tells (RFC 4821, 8899),
// and searched upwards again with probes, because paths change. A probe is one segment of new data
// that is larger than the MSS; its loss is no sign of congestion (RFC 4821 7.5).
#include "tcp/connection.h"

namespace postern {

namespace {
constexpr uint8_t kBlackHoleTimeouts = 3;  // in a row, of segments of the same size
constexpr uint16_t kSmaller[] = {1220,
                                 536};  // RFC 8899 5.1.2 with room for headers; RFC 9293 3.7.1
constexpr uint32_t kPathLifeMs = 10 * 60'000;  // RFC 1191 6.3, RFC 8201 4, RFC 8899 5.1.1
constexpr uint32_t kProbePauseMs = 5'000;      // after a black hole and after a probe that was lost
constexpr uint16_t kCloseEnough = 16;          // bytes between what works and what does not
constexpr uint32_t kFollowers = 3;             // segments that reveal the loss of a probe
}  // namespace

void TcpConnection::on_path_mtu(TcpContext& ctx, uint16_t mss) {
  if (state_ == TcpState::closed) return;
  if (mss >= path_mss_) {
    if (path_probe_ == PathProbe::sent && mss < probe_mss_) refuse_path_probe(ctx, mss);
    return;
  }
  const uint16_t before = mss_;
  lower_path_mss(ctx, mss);
  search_high_ = path_mss_ + 1U;  // that is known exactly
  path_told_ = false;
  // RFC 1191 6.4: what did not fit is sent again at once, without reducing cwnd. All of it: a
  // router that limits its messages tells once (RFC 4443 2.4 f).
  if (mss_ < before && synchronized() && snd_nxt_ != snd_una_) {
    mark_oversized_lost(ctx);
    flags_.output = true;
  }
}

void TcpConnection::lower_path_mss(const TcpContext& ctx, uint16_t mss) {
  path_mss_ = mss < ctx.config->mss_min ? ctx.config->mss_min : mss;
  path_judged_ms_ = ctx.now_ms;
  set_path_probe(PathProbe::off);
  set_send_mss();
}

// RFC 4821 7.7, RFC 8899 4.3: timeout after timeout, and what times out is a large segment. It may
// be its size, with the ICMP that would say so lost on its way; or not, so that the search begins
// with what worked before.
void TcpConnection::suspect_black_hole(const TcpContext& ctx) {
  if (retries_ % kBlackHoleTimeouts != 0 || snd_nxt_ - snd_una_ < mss_) return;
  for (const uint16_t smaller : kSmaller) {
    if (smaller < mss_) {
      lower_path_mss(ctx, smaller);
      search_high_ = link_mss_ + 1U;
      path_told_ = false;
      return;
    }
  }
}

// ---- the search: RFC 4821 7, RFC 8899 5.3 ----

void TcpConnection::set_path_probe(PathProbe state) {
  path_probe_ = state;
  note_rare_send();
}

// No larger segment would ever be sent.
uint16_t TcpConnection::largest_path_mss() const {
  const uint16_t both = peer_mss_ < link_mss_ ? peer_mss_ : link_mss_;
  return user_mss_ != 0 && user_mss_ < both ? user_mss_ : both;
}

// Called once a round trip.
void TcpConnection::search_path_mtu(const TcpContext& ctx) {
  if (path_mss_ == link_mss_) return;
  if (path_probe_ != PathProbe::off) judge_path_probe(ctx);
  const uint16_t largest = largest_path_mss();
  if (path_mss_ >= largest || path_probe_ != PathProbe::off) return;
  const uint32_t waited = ctx.now_ms - path_judged_ms_;
  if (search_high_ - path_mss_ <= kCloseEnough && !path_told_) {
    if (waited < kPathLifeMs) return;
    search_high_ = largest + 1U;
  }
  if (!flags_.sack) {
    // The loss of a probe could not be told from others: ICMP or timeouts say if it is too much.
    if (waited < kPathLifeMs) return;
    path_mss_ = link_mss_;
    set_send_mss();
    return;
  }
  if (waited < kProbePauseMs) return;
  if (!path_told_) {  // the most likely size first, then halves
    probe_mss_ = search_high_ > largest
                     ? largest
                     : static_cast<uint16_t>(path_mss_ + (search_high_ - path_mss_) / 2);
  }
  path_told_ = false;
  set_path_probe(PathProbe::wanted);
}

// What has become of the probe that the last round wanted, sent or lost.
void TcpConnection::judge_path_probe(const TcpContext& ctx) {
  if (path_probe_ == PathProbe::sent && seq_lt(snd_una_, probe_end_)) return;
  if (path_probe_ == PathProbe::lost && lost_bytes_ != 0) return;
  if (path_probe_ == PathProbe::sent) {
    path_mss_ = probe_mss_;
    set_send_mss();
    path_judged_ms_ = ctx.now_ms - kProbePauseMs;  // the next one at once
  } else if (path_probe_ == PathProbe::wanted) {
    path_judged_ms_ = ctx.now_ms;  // there was not enough to send
  }
  set_path_probe(PathProbe::off);
}

// The payload of the probe if it can go now, else 0. RFC 4821 7.4: enough must follow it, within
// window and cwnd, to reveal its loss. Of cwnd it uses one segment, as on Linux.
uint32_t TcpConnection::path_probe_length(const TcpContext& ctx, uint32_t queued) const {
  if (path_probe_ != PathProbe::wanted || unusual_.tail_now || unusual_.loss_marks ||
      unusual_.in_recovery || unusual_.in_loss) {
    return 0;
  }
  const uint32_t length = uint32_t{probe_mss_} - (flags_.timestamps ? 12 : 0);
  const uint32_t needed = length + kFollowers * mss_;
  const uint32_t flight = snd_nxt_ - snd_una_;
  const bool room =
      queued >= needed && snd_wnd_ >= flight + needed && cwnd_ >= needed && cwnd_ >= flight + mss_;
  const bool nodes = ctx.ranges != nullptr && ctx.ranges->available() >= 2;
  return room && nodes && probe_mss_ <= largest_path_mss() ? length : 0;
}

// The last range ends with a probe: from now on it is a range of its own.
void TcpConnection::path_probe_sent(TcpContext& ctx, TcpSegment& out) {
  out.gso_size = 0;
  if (newest_.left != out.seq && split_range(ctx, 0, out.seq) == 0) {
    set_path_probe(PathProbe::off);
    return;
  }
  newest_.flags |= TcpRange::kProbe;
  probe_end_ = newest_.right;
  set_path_probe(PathProbe::sent);
}

// Bytes of the probe that are lost and not yet sent again.
uint32_t TcpConnection::lost_path_probe(const TcpContext& ctx) {
  uint32_t bytes = 0;
  for (uint32_t index = sent_head_;; index = ctx.ranges->next(index)) {
    const TcpRange& r = range(ctx, index);
    if (r.has(TcpRange::kProbe) && r.has(TcpRange::kLost)) bytes += r.size();
    if (index == 0) return bytes;
  }
}

// Something is lost outside a recovery. RFC 4821 7.6.2: if that is the probe alone, it was too
// large, and is sent again in segments that fit; nothing else changes. Otherwise it says nothing of
// the size.
bool TcpConnection::path_probe_alone_lost(const TcpContext& ctx) {
  if (path_probe_ != PathProbe::sent && path_probe_ != PathProbe::lost) return false;
  if (lost_path_probe(ctx) != lost_bytes_) {
    path_judged_ms_ = ctx.now_ms;
    set_path_probe(PathProbe::off);
    return false;
  }
  if (path_probe_ == PathProbe::sent) {
    search_high_ = probe_mss_;
    path_judged_ms_ = ctx.now_ms;
    set_path_probe(PathProbe::lost);
  }
  return true;
}

// It goes again, in whatever size: what is acknowledged from now on says nothing of the first one.
void TcpConnection::resend_path_probe(const TcpContext& ctx, TcpRange& r) {
  unmark(r, TcpRange::kProbe);
  if (path_probe_ != PathProbe::sent) return;
  path_judged_ms_ = ctx.now_ms;
  set_path_probe(PathProbe::off);
}

// RFC 4821 7.6.1: ICMP says how much less would pass.
void TcpConnection::refuse_path_probe(TcpContext& ctx, uint16_t mss) {
  for (uint32_t index = sent_head_;; index = ctx.ranges->next(index)) {
    TcpRange& r = range(ctx, index);
    if (r.has(TcpRange::kProbe) && !r.has(TcpRange::kSacked | TcpRange::kLost)) {
      mark(r, TcpRange::kLost);
    }
    if (index == 0) break;
  }
  resend_hint_ = sent_head_;
  search_high_ = mss + 1U;
  probe_mss_ = mss;
  path_told_ = mss > path_mss_;
  path_judged_ms_ = ctx.now_ms;
  set_path_probe(PathProbe::lost);
  flags_.output = true;
}

}  // namespace postern
