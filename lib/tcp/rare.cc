// Sending at a limited rate, and urgent data: what few connections use. unusual_.rare_send keeps it
// off the others' path, and the probes of path_mtu.cc as well.
#include "tcp/connection.h"

namespace postern {

using namespace tcp_flag;

void TcpConnection::note_rare_send() {
  unusual_.rare_send = max_pacing_rate_ != 0 || urgent_out_ || path_probe_ == PathProbe::wanted;
}

// ---- pacing ----

void TcpConnection::set_pacing_rate(uint32_t bytes_per_second) {
  max_pacing_rate_ = bytes_per_second == UINT32_MAX ? 0 : bytes_per_second;
  if (max_pacing_rate_ == 0) unusual_.pace_wait = false;
  note_rare_send();
}

// Bytes a second: what is allowed, and no more than the window needs: twice what it carries in a
// round trip during slow start, which doubles it, then 1.2 times (as Linux).
uint64_t TcpConnection::pacing_rate() const {
  if (max_pacing_rate_ == 0) return 0;
  if (srtt_ == 0) return max_pacing_rate_;
  const uint64_t tenths = cwnd_ < ssthresh_ ? 20 : 12;
  const uint64_t rate = uint64_t{cwnd_} * 8 * 100'000 * tenths / srtt_;
  return rate < max_pacing_rate_ ? (rate == 0 ? 1 : rate) : max_pacing_rate_;
}

// Whether data may go now. If not and there is some, next_deadline() says when.
bool TcpConnection::pace_allows(const TcpContext& ctx) {
  if (max_pacing_rate_ == 0) return true;
  unusual_.pace_wait = ctx.now < pace_at_ && (lost_bytes_ != 0 || snd_nxt_ != send_limit());
  return ctx.now >= pace_at_;
}

// `bytes` go out now: the next ones when these have had their time. A sender that was late or idle
// catches up by what a millisecond allows.
void TcpConnection::pace(const TcpContext& ctx, uint32_t bytes) {
  if (max_pacing_rate_ == 0) return;
  const Time earliest = ctx.now - kPaceBurst;
  if (pace_at_ < earliest) pace_at_ = earliest;
  const uint64_t ns = uint64_t{bytes} * 1'000'000'000 / pacing_rate();
  pace_at_ += std::chrono::nanoseconds(static_cast<int64_t>(ns));
}

// The most that one segment may carry, whole MSS: a millisecond's worth, two MSS at least (as Linux
// sizes TSO); one MSS while urgent data is outstanding, because each has its own pointer.
uint32_t TcpConnection::rare_burst_limit(uint32_t most) const {
  if (urgent_out_) return mss_;
  if (max_pacing_rate_ == 0) return most;
  const uint64_t quantum = pacing_rate() / 1000;
  const uint64_t limit = quantum < 2U * mss_ ? 2U * mss_ : quantum - quantum % mss_;
  return limit < most ? static_cast<uint32_t>(limit) : most;
}

// ---- urgent data: RFC 9293 3.8.5, RFC 6093 ----

void TcpConnection::on_urgent() {
  if (flags_.fin_queued || state_ == TcpState::closed || snd_end_ == iss_ + 1) return;
  snd_up_ = snd_end_;
  urgent_out_ = seq_gt(snd_up_, snd_una_);
  note_rare_send();
  // RFC 9293 3.8.5: the peer is told even if the window lets nothing through.
  if (synchronized() && urgent_out_) flags_.ack_now = true;
  flags_.output = true;
}

// RFC 6093 3.1: the pointer is to the octet behind the urgent ones.
void TcpConnection::fill_urgent(TcpSegment& out) {
  if (!urgent_out_) return;
  if (seq_ge(snd_una_, snd_up_)) {
    urgent_out_ = false;
    note_rare_send();
    return;
  }
  if (seq_ge(out.seq, snd_up_)) return;
  const uint32_t offset = snd_up_ - out.seq;
  out.flags |= urg;
  out.urgent = static_cast<uint16_t>(offset < 65535 ? offset : 65535);
}

// Sixth step of RFC 9293 3.10.7.4. The data stays in the stream (RFC 6093 4, 6); only the mark and
// the news of it are urgent. A mark that lies behind what was read says nothing.
void TcpConnection::check_urgent(const TcpSegment& s) {
  if ((s.flags & urg) == 0 || !may_receive()) return;
  const uint32_t up = s.seq + s.urgent;
  const uint32_t read = rcv_limit_ - receive_buffer_;
  if (seq_le(up, read) || (urgent_in_ && seq_le(up, rcv_up_))) return;
  rcv_up_ = up;
  urgent_in_ = true;
  events_ |= tcp_event::urgent;
}

bool TcpConnection::urgent_mark(uint32_t* position) const {
  if (!urgent_in_ || seq_le(rcv_up_, rcv_limit_ - receive_buffer_)) return false;
  *position = rcv_up_ - irs_ - 1;
  return true;
}

}  // namespace postern
