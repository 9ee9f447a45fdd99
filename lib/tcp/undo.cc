// Whether a reduction was for nothing, and how it is taken back.
#include "tcp/connection.h"

namespace postern {

// RFC 3522, 4015: the echo is older than the first retransmission, so the original arrived.
// RFC 3708: every retransmission was reported as a duplicate. RFC 5682: after a timeout something
// that was never sent again is acknowledged.
void TcpConnection::try_undo(TcpContext& ctx, const TcpSegment& s, const Acked& acked,
                             bool same_window) {
  if (!unusual_.in_recovery && !unusual_.in_loss && seq_gt(snd_una_, recovery_point_)) {
    flags_.undo = false;
    return;
  }
  bool spurious = acked.dsack && undo_pending_ == 1;
  if (flags_.timestamps) {
    spurious = spurious || (acked.bytes != 0 && resent_ts_ != 0 && s.ts_echo != 0 &&
                            static_cast<int32_t>(s.ts_echo - resent_ts_) < 0);
  } else if (unusual_.in_loss) {
    spurious = spurious || (flags_.sack ? frto_with_sack(acked)
                                        : frto_without_sack(ctx, s, acked, same_window));
  }
  if (spurious) undo(ctx);
}

void TcpConnection::undo(TcpContext& ctx) {
  flags_.undo = false;
  frto_ = Frto::off;
  if (cwnd_ < undo_cwnd_) cwnd_ = undo_cwnd_;
  ssthresh_ = undo_ssthresh_;
  flags_.reordering = flags_.reordering || unusual_.in_recovery;
  unusual_.in_recovery = unusual_.in_loss = false;
  congestion().on_undo(congestion_view(ctx, snd_nxt_ - snd_una_));
  for (uint32_t index = sent_head_;; index = ctx.ranges->next(index)) {
    unmark(range(ctx, index), TcpRange::kLost);
    if (index == 0) break;
  }
}

// RFC 5682 3.1: one segment was sent again, and what is acknowledged beyond it is an original. An
// ACK of all that was out says nothing: the retransmission may have filled the only gap.
bool TcpConnection::frto_with_sack(const Acked& acked) const {
  return acked.bytes != 0 && acked.original && undo_pending_ == 1 &&
         seq_lt(snd_una_, recovery_point_);
}

// RFC 5682 2.1, its steps by number. True: the timeout was spurious.
bool TcpConnection::frto_without_sack(const TcpContext& ctx, const TcpSegment& s,
                                      const Acked& acked, bool same_window) {
  if (frto_ == Frto::off) return false;
  const bool second = frto_ == Frto::second_ack;
  if (is_duplicate_ack(s, acked, same_window)) {
    if (second) cwnd_ = 3U * mss_;  // 3a
    frto_ = Frto::off;              // 2a
    return false;
  }
  if (acked.bytes == 0) return false;
  if (second) return true;  // 3b
  const bool one_arrived = undo_pending_ == 1 && !range(ctx, sent_head_).has(TcpRange::kResent);
  const uint32_t flight = snd_nxt_ - snd_una_;
  const bool can_send = snd_end_ - snd_nxt_ >= mss_ && snd_wnd_ >= flight + mss_;
  frto_ = Frto::off;
  if (!one_arrived || seq_ge(snd_una_, recovery_point_) || !can_send) return false;  // 2a
  frto_ = Frto::second_ack;  // 2b: two new segments, nothing again
  cwnd_ = 2U * mss_;
  return false;
}

}  // namespace postern
