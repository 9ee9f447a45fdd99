// What a TcpConnection is made of beside numbers: its flags, what its timers are for, and what one
// acknowledgment brought. For lib/tcp alone.
#pragma once

#include <bit>
#include <cstdint>

namespace postern {

struct TcpConnectionParts {
  enum class Timer : uint8_t {  // of retransmit_at_
    none,
    syn,         // retransmission of SYN or SYN-ACK
    rto,         // RFC 6298
    tail_probe,  // RFC 8985 7
    reorder,     // RFC 8985 6.2
    persist,     // RFC 9293 3.8.6.1
    push,        // a partial segment held by Nagle's companions (CORK, MORE) has waited enough
  };
  // What keeps the sender from sending more, for info().
  enum class Limit : uint8_t { idle, sender, receiver, congestion };
  // RFC 4821: a segment that is larger than the path is known to carry; `lost`: not yet sent again.
  enum class PathProbe : uint8_t { off, wanted, sent, lost };
  // RFC 5682 2.1: which ACK after a timeout is waited for.
  enum class Frto : uint8_t { off, first_ack, second_ack };
  struct Flags {
    Timer timer : 3;  // what retransmit_at_ is for
    Limit limit : 2;
    // Negotiated
    bool timestamps : 1;
    bool sack : 1;
    bool ecn : 1;
    uint8_t snd_scale : 4;
    uint8_t rcv_scale : 4;
    // Set by the application
    bool nodelay : 1;
    bool keepalive : 1;
    bool orphan : 1;      // on_close was called
    bool fin_queued : 1;  // FIN follows what is queued
    // Progress
    bool passive : 1;
    bool fin_sent : 1;
    bool fin_received : 1;
    bool released : 1;      // tcp_event::released has been raised
    bool reordering : 1;    // RFC 8985: seen on this path
    bool cwnd_limited : 1;  // cwnd was what stopped next_segment
    bool ack_delayed : 1;   // ack_at_ is the delayed ACK's
    bool undo : 1;          // the last reduction may still prove spurious
    bool aging : 1;         // retries_ or backoff_ is not 0, or there is a user timeout
    // To send
    bool output : 1;   // next_segment may have something
    bool ack_now : 1;  // at least a pure ACK
  };
  static_assert(sizeof(Flags) == 4);
  // What the common path (common_path.cc) has no eye for.
  struct alignas(4) Unusual {
    // Set by the application
    bool cork : 1;
    bool more : 1;  // the last on_send said so
    // Progress
    bool loss_marks : 1;     // some range is sacked or lost
    bool in_recovery : 1;    // fast recovery
    bool in_loss : 1;        // after a retransmission timeout
    bool tail_probed : 1;    // a loss probe is outstanding
    bool window_probed : 1;  // an octet beyond the window is outstanding
    bool ece_pending : 1;    // RFC 3168: echo congestion until CWR; RFC 8257: DCTCP.CE
    bool cwr_pending : 1;    // RFC 3168: tell that cwnd was reduced
    bool echo_waits : 1;     // echo_ack_ is not empty
    bool fin_waits : 1;      // a FIN came before what it follows: fin_seq_
    bool dsack : 1;          // dsack_left_, dsack_right_ are to be reported
    bool rare_send : 1;      // sending needs a look at pacing, urgent data or path probes
    bool pace_wait : 1;      // data waits for pace_at_
    // To send
    bool syn_now : 1;     // SYN or SYN-ACK
    bool reset_now : 1;   // RST, the last thing sent
    bool refuse_now : 1;  // RST for one segment, the connection stays
    bool probe_now : 1;   // window probe
    bool tail_now : 1;    // loss probe
    bool alive_now : 1;   // keepalive probe
    bool push_now : 1;    // a partial segment may go
    uint8_t unused : 3;
    uint8_t unused_too;

    [[nodiscard]] bool none() const noexcept { return std::bit_cast<uint32_t>(*this) == 0; }
  };
  // What one acknowledgment brought.
  struct Acked {
    uint32_t bytes = 0;      // snd_una moved by
    uint32_t delivered = 0;  // newly acknowledged or sacked bytes
    uint32_t rtt_us = 0;     // 0: no sample
    uint32_t newest_time = 0;
    uint32_t newest_end = 0;
    bool newest_valid = false;
    bool newest_resent = false;
    bool original = false;  // something never retransmitted was delivered
    bool sacked_new = false;
    bool dsack = false;
    bool lost_more = false;
  };
};

}  // namespace postern
