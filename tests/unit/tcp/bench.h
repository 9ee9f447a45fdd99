// One connection under test, brought into any state with a few words, and matchers for what it
// sends. Sequence numbers in tests count from each side's SYN, as in packet scripts.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "support/tcp_peer.h"

namespace postern {

using namespace tcp_flag;

inline constexpr uint32_t kIss = 0xfffffff0;  // sequence numbers wrap at once
inline constexpr uint32_t kIrs = 0x7ffffff0;

MATCHER_P(HasFlags, flags, "") { return arg.flags == flags; }
MATCHER_P(HasSeq, seq, "") { return arg.seq == kIss + seq; }
MATCHER_P(HasAck, ack, "") { return arg.ack == kIrs + ack; }
MATCHER_P(HasLength, length, "") { return arg.length == length; }

class Bench : public test::TcpPeer {
 public:
  Bench() : TcpPeer({kIss, kIrs}, 256) {
    config.timestamps = false;
    config.time_wait = 60s;
  }

  TcpSegment segment(uint8_t flags, uint32_t seq, uint32_t acked = 0, uint32_t length = 0) {
    TcpSegment s = TcpPeer::segment(flags, seq, acked, length);
    s.window = 10000;
    if ((flags & syn) != 0) {
      s.has_mss = true;
      s.mss = 1000;
      s.sack_permitted = true;
    }
    return s;
  }
  TcpInput receive(const TcpSegment& s) {
    const TcpInput in = tcp.on_segment(context(), s);
    tcp.check_invariants(context());
    return in;
  }
  std::vector<TcpSegment> send() {
    std::vector<TcpSegment> all;
    TcpSegment s;
    while (tcp.next_segment(context(), s)) {
      all.push_back(s);
      tcp.check_invariants(context());
    }
    return all;
  }
  uint16_t events() { return tcp.take_events(); }
  void pass(Duration time) {
    const Time to = now + time;
    while (tcp.next_deadline() <= to) {
      now = std::max(now, tcp.next_deadline());
      tcp.on_timer(context());
      tcp.check_invariants(context());
      for (const TcpSegment& s : send()) sent_in_passing.push_back(s);
    }
    now = to;
  }

  // Into a state, with nothing left to send.
  void enter(TcpState state) {
    switch (state) {
      case TcpState::closed:
        return;
      case TcpState::syn_sent:
        tcp.open_active(context(), 1460);
        break;
      case TcpState::syn_received:
        tcp.open_passive(context(), segment(syn, 0), 1460);
        break;
      case TcpState::established:
        enter(TcpState::syn_received);
        now += 100ms;
        (void)receive(segment(ack, 1, 1));
        break;
      case TcpState::fin_wait_1:
        enter(TcpState::established);
        tcp.on_shutdown_write(context());
        break;
      case TcpState::fin_wait_2:
        enter(TcpState::fin_wait_1);
        (void)receive(segment(ack, 1, 2));
        break;
      case TcpState::closing:
        enter(TcpState::fin_wait_1);
        (void)receive(segment(fin | ack, 1, 1));
        break;
      case TcpState::time_wait:
        enter(TcpState::fin_wait_2);
        (void)receive(segment(fin | ack, 1, 2));
        break;
      case TcpState::close_wait:
        enter(TcpState::established);
        (void)receive(segment(fin | ack, 1, 1));
        break;
      case TcpState::last_ack:
        enter(TcpState::close_wait);
        tcp.on_shutdown_write(context());
        break;
      case TcpState::listen:
        FAIL() << "the engine has no LISTEN";
    }
    send();
    ASSERT_EQ(tcp.state(), state);
  }

  TcpConnection tcp;
  std::vector<TcpSegment> sent_in_passing;
};

}  // namespace postern
