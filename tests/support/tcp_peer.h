// What one connection under test or measurement is given, and the segments of its peer, which is
// made up. Sequence numbers count from each side's SYN.
#pragma once

#include <cstdint>

#include "tcp/connection.h"

namespace postern::test {

class TcpPeer {
 public:
  struct Numbers {
    uint32_t iss, irs;  // initial: of the connection, and of its peer
  };
  explicit TcpPeer(Numbers numbers, uint32_t ranges) : pool(ranges), numbers_(numbers) {}

  TcpContext& context() {
    ctx_ = TcpContext{};
    ctx_.set_now(now);
    ctx_.config = &config;
    ctx_.counters = &counters;
    ctx_.isn = numbers_.iss;
    ctx_.receive_room = 1 << 24;
    ctx_.ranges = &pool;
    return ctx_;
  }
  [[nodiscard]] TcpSegment segment(uint8_t flags, uint32_t seq, uint32_t acked = 0,
                                   uint32_t length = 0) const {
    TcpSegment s;
    s.flags = flags;
    s.seq = numbers_.irs + seq;
    s.ack = (flags & tcp_flag::ack) != 0 ? numbers_.iss + acked : 0;
    s.length = length;
    s.window = 65535;
    return s;
  }
  // With a timestamp, and an echo of the connection's as of now.
  [[nodiscard]] TcpSegment timed(uint8_t flags, uint32_t seq, uint32_t acked = 0,
                                 uint32_t length = 0) const {
    TcpSegment s = segment(flags, seq, acked, length);
    s.has_timestamps = true;
    s.ts_value = s.ts_echo = static_cast<uint32_t>(now.time_since_epoch() / 1ms);
    return s;
  }
  // Offers SACK, timestamps and scaling.
  [[nodiscard]] TcpSegment full_syn() const {
    TcpSegment s = timed(tcp_flag::syn, 0);
    s.has_mss = s.sack_permitted = s.has_window_scale = true;
    s.mss = 1460;
    s.window_scale = 7;
    return s;
  }

  TcpConfig config;
  Counters counters;
  TcpRangePool pool;
  Time now{Duration(100s)};

 private:
  Numbers numbers_;
  TcpContext ctx_;
};

}  // namespace postern::test
