// RFC 9293 3.8.6, watched on the wire between two ends: the right edge of an offered window never
// moves left, but for what scaling cannot express, and nobody sends beyond it.
#pragma once

#include "base/seq.h"
#include "wire/segment.h"

namespace postern::test {

class WindowRule {
 public:
  // A segment as side 0 or 1 sends it. `stripped`: a middlebox takes window scaling off SYNs.
  // Why that may not be, or nullptr. One byte beyond the window is a probe.
  const char* sent(int side, const TcpSegment& s, bool stripped = false) {
    End& e = ends_[side];
    const End& peer = ends_[1 - side];
    const bool syn = (s.flags & tcp_flag::syn) != 0;
    if (syn) {
      e.scaled = s.has_window_scale && !stripped;
      e.scale = s.window_scale;
    }
    if ((s.flags & tcp_flag::rst) != 0 || (s.flags & tcp_flag::ack) == 0) return nullptr;
    const uint32_t unit = e.scaled && peer.scaled && !syn ? 1U << e.scale : 1;
    const uint32_t edge = s.ack + s.window * unit;
    const bool most = syn && s.window == 65535;  // all that the field of a SYN can say
    if (e.known && !most && seq_le(edge + unit, e.edge)) return "window shrunk";
    if (!e.known || seq_gt(edge, e.edge)) e.edge = edge;
    e.known = true;
    if (s.length > 1 && peer.known && seq_gt(s.seq + s.length, peer.edge)) {
      return "sent beyond the window";
    }
    return nullptr;
  }

 private:
  struct End {
    bool known = false;
    bool scaled = false;
    uint8_t scale = 0;
    uint32_t edge = 0;  // furthest right edge put on the wire
  };
  End ends_[2];
};

}  // namespace postern::test
