// The loss of the last segments, which no later one reveals: tail loss probes (RFC 8985 7).
#include "tcp/connection.h"

namespace postern {

using std::chrono::microseconds;

// Nothing new to send: the last segment again.
bool TcpConnection::send_tail_probe(TcpContext& ctx, TcpSegment& out) {
  if (newest_.left == newest_.right || newest_.has(TcpRange::kSacked | TcpRange::kLost)) {
    arm_retransmit(ctx);
    return false;
  }
  // The last segment as it went out, if the range began with a full one.
  const uint32_t fin = flags_.fin_sent ? 1 : 0;
  const uint32_t rest = (newest_.size() - fin) % mss_;
  const uint32_t most = (rest == 0 ? mss_ : rest) + fin;
  if (newest_.size() > most && split_range(ctx, 0, newest_.right - most) == 0) {
    // Without a node it cannot be told apart: the timeout, when it would have been.
    const Duration waited = microseconds(ctx.now_us - newest_.time);
    const Duration whole = rto(ctx);
    arm(Timer::rto, deadline(ctx, whole > waited ? whole - waited : Duration{}));
    return false;
  }
  resend(ctx, newest_);
  probed_tail(ctx, true);
  build_data(ctx, out, newest_.left, newest_.right);
  out.retransmission = true;
  return true;
}

void TcpConnection::probed_tail(TcpContext& ctx, bool resent) {
  unusual_.tail_probed = true;
  tail_resent_ = resent;
  tail_end_ = snd_nxt_;
  arm(Timer::rto, deadline(ctx, rto(ctx)));
}

// RFC 8985 7.4: did the probe repair a loss? Then the window was too large.
void TcpConnection::check_tail_probe(TcpContext& ctx, const TcpSegment& s, const Acked& acked) {
  if (seq_lt(s.ack, tail_end_)) return;
  if (!tail_resent_ || acked.dsack) {
    unusual_.tail_probed = false;
  } else if (seq_gt(s.ack, tail_end_)) {
    unusual_.tail_probed = false;
    if (unusual_.in_recovery || unusual_.in_loss) return;
    reduce(ctx, snd_nxt_ - snd_una_ + acked.bytes);
    flags_.undo = false;
    if (cwnd_ > ssthresh_) cwnd_ = ssthresh_;
  } else if (acked.bytes == 0 && s.sack_count == 0 && s.length == 0) {
    unusual_.tail_probed = false;  // both the original and the probe arrived
  }
}

}  // namespace postern
