#include "numbers.h"

namespace postern::script {

TcpSegment Numbers::to_wire(const PacketSpec& packet) const {
  TcpSegment s = packet.segment;
  s.seq += remote_isn_;
  if (packet.has_ack) s.ack += isn_;
  if (s.has_timestamps && s.ts_echo != 0) {
    const auto known = sent_ts_.find(s.ts_echo);
    s.ts_echo = known != sent_ts_.end() ? known->second : s.ts_echo + ts_shift_;
  }
  for (int i = 0; i < s.sack_count; ++i) {
    s.sack[i].left += isn_;
    s.sack[i].right += isn_;
  }
  return s;
}

PacketSpec Numbers::to_script(const TcpSegment& sent) const {
  PacketSpec p;
  p.segment = sent;
  TcpSegment& s = p.segment;
  s.seq -= isn_;
  if ((s.flags & tcp_flag::ack) != 0) s.ack -= remote_isn_;
  if (s.has_timestamps) s.ts_value -= ts_shift_;
  for (int i = 0; i < s.sack_count; ++i) {
    s.sack[i].left -= remote_isn_;
    s.sack[i].right -= remote_isn_;
  }
  return p;
}

void Numbers::learn(const TcpSegment& sent, const TcpSegment& want) {
  if ((sent.flags & tcp_flag::syn) != 0) isn_ = sent.seq;
  if (!sent.has_timestamps || !want.has_timestamps) return;
  if (!ts_known_) ts_shift_ = sent.ts_value - want.ts_value;
  ts_known_ = true;
  sent_ts_[want.ts_value] = sent.ts_value;
}

}  // namespace postern::script
