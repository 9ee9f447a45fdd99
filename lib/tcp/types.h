// What goes into and comes out of the TCP engine. Pure values: no clock, no memory, no packet.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/counters.h"
#include "base/drop.h"
#include "base/time.h"
#include "wire/segment.h"

namespace postern {

class TcpRangePool;  // tcp/ranges.h

// RFC 9293 3.3.2. Values are Linux's, so that shm_socket.tcp_state and `postern ss` agree with ss.
enum class TcpState : uint8_t {
  established = 1,
  syn_sent = 2,
  syn_received = 3,
  fin_wait_1 = 4,
  fin_wait_2 = 5,
  time_wait = 6,
  closed = 7,
  close_wait = 8,
  last_ack = 9,
  listen = 10,
  closing = 11,
};

// When a SYN is answered by a cookie instead of being remembered (RFC 4987).
enum class SynCookies : uint8_t { automatic, always, never };

// Shared by all connections of a worker; read-only while it runs. From YAML `tcp:`.
struct TcpConfig {
  Duration rto_initial = 1s;        // RFC 6298 2.1
  Duration rto_min = 200ms;         // as Linux; RFC 6298 says 1 s
  Duration rto_max = 120s;          // RFC 6298 2.5: at least 60 s
  Duration delayed_ack = 40ms;      // RFC 9293 3.8.6.3: below 500 ms
  Duration time_wait = 60s;         // 2 MSL
  Duration fin_wait_2 = 60s;        // for orphans only
  Duration keepalive_idle = 7200s;  // RFC 9293 3.8.4: at least 2 h by default
  Duration keepalive_interval = 75s;
  uint8_t keepalive_probes = 9;
  uint8_t syn_retries = 7;  // RFC 9293 3.8.3: three minutes at least
  uint8_t syn_ack_retries = 5;
  uint8_t retries = 15;  // R2 in retransmissions
  uint8_t orphan_retries = 8;
  uint16_t initial_window = 10;       // segments, RFC 6928
  uint16_t mss_ipv4 = 8960;           // what we announce at most; the stack lowers it to the MTU
  uint16_t mss_min = 88;              // smaller offers are treated as this
  uint32_t receive_buffer = 1 << 20;  // bytes offered as window at first, without SO_RCVBUF
  uint32_t receive_buffer_max = 6 << 20;  // to which that grows with the rate of the application
  uint32_t send_buffer = 4 << 20;         // bytes
  bool timestamps = true;                 // RFC 7323
  bool window_scaling = true;             // RFC 7323
  bool sack = true;                       // RFC 2018
  bool ecn = false;                       // RFC 3168, offered on active opens
  SynCookies syncookies = SynCookies::automatic;  // automatic: while handshakes have no room
  uint8_t congestion = 0;                         // index in the table of algorithms (congestion.h)
};

// What the engine may use while it runs, handed to every call. One per worker.
struct TcpContext {
  // Sets the time of the calls that follow.
  void set_now(Time t) noexcept {
    const auto ns = static_cast<uint64_t>(t.time_since_epoch().count());
    now = t;
    now_us = static_cast<uint32_t>(ns / 1'000);
    now_ms = static_cast<uint32_t>(ns / 1'000'000);
  }

  Time now{};
  uint32_t now_us = 0;  // the same in microseconds and milliseconds, as they are mostly asked for:
  uint32_t now_ms = 0;  // divided once for all connections of a turn
  const TcpConfig* config = nullptr;
  Counters* counters = nullptr;
  uint32_t isn = 0;        // opens: initial sequence number for this 4-tuple, RFC 6528
  uint32_t ts_offset = 0;  // opens: offset of the timestamp clock for this 4-tuple
  uint32_t random = 0;     // a random word, for all connections of a turn
  // Bytes that the caller can store beyond the furthest one of this connection that it stores
  // already. Nothing beyond is accepted or offered.
  uint32_t receive_room = 0;
  // What is in flight and what came out of order (ranges.h); null: none, slow recovery.
  TcpRangePool* ranges = nullptr;
};

// What became of a received segment.
struct TcpInput {
  Drop drop = Drop::none;    // also set when only the answer matters (challenge ACK)
  bool accept_data = false;  // true: store payload[skip, skip + length) at stream position
  uint32_t skip = 0;         // bytes of the segment's payload to skip
  uint32_t length = 0;
  uint32_t position = 0;  // stream position (0 = first byte after the peer's SYN)
};

// Changes for the application or the stack, collected until take_events(). Bits.
namespace tcp_event {
inline constexpr uint16_t connected = 1;  // handshake completed (either side)
inline constexpr uint16_t readable = 2;   // rx_tail() moved
inline constexpr uint16_t peer_fin = 4;   // nothing follows rx_tail()
inline constexpr uint16_t acked = 8;      // tx_acked() moved
inline constexpr uint16_t failed = 16;    // over: error() says why (ECONNRESET, ETIMEDOUT ...)
inline constexpr uint16_t released = 32;  // no tx storage needed any more and nothing will be
                                          // delivered: the application side can be detached
inline constexpr uint16_t urgent = 128;   // urgent_mark() is there or has moved (RFC 9293 3.8.5)
inline constexpr uint16_t finished = 64;  // CLOSED: the connection object can be freed
}  // namespace tcp_event

// A connection as `postern ss -i` and TCP_INFO show it.
struct TcpInfo {
  TcpState state = TcpState::closed;
  bool timestamps = false;
  bool sack = false;
  bool window_scaling = false;
  bool ecn = false;
  bool in_recovery = false;                // fast recovery or after a timeout
  bool reordering = false;                 // seen on this path
  bool delivery_rate_app_limited = false;  // the rate is what the application asked for, or less
  uint8_t snd_scale = 0;
  uint8_t rcv_scale = 0;
  uint8_t backoff = 0;  // doublings of the RTO
  uint8_t retries = 0;  // timeouts since something was last acknowledged (RFC 9293 3.8.3: R1)
  uint8_t probes = 0;   // of keepalive, without an answer
  uint16_t mss = 0;
  uint16_t rcv_mss = 0;
  uint16_t path_mss = 0;  // what the path is known to carry, without options
  Duration rto{};
  Duration srtt{};
  Duration rttvar{};
  Duration min_rtt{};
  uint32_t cwnd = 0;      // bytes
  uint32_t ssthresh = 0;  // bytes, UINT32_MAX: none yet
  uint32_t snd_wnd = 0;   // bytes
  uint32_t rcv_wnd = 0;   // bytes
  uint32_t in_flight = 0;
  uint32_t sacked = 0;
  uint32_t lost = 0;
  uint32_t unsent = 0;
  uint32_t receive_buffer = 0;
  uint32_t send_buffer = 0;
  // Since the connection opened.
  uint32_t retransmits = 0;   // segments
  uint32_t reorder_seen = 0;  // times that something arrived in another order
  uint64_t bytes_sent = 0;    // retransmissions included
  uint64_t bytes_resent = 0;
  uint64_t bytes_acked = 0;
  uint64_t bytes_received = 0;  // in order
  // Bytes a second.
  uint64_t delivery_rate = 0;    // of the last round trip that says something; 0: none yet
  uint64_t pacing_rate = 0;      // 0: not paced
  uint64_t max_pacing_rate = 0;  // 0: not limited
  // What the sender waited for while it had something to do: the application (of which: for room in
  // its send buffer), the peer's window, cwnd or pacing. Their sum is how long it was busy.
  Duration busy{};
  Duration limited_by_sender{};
  Duration limited_by_send_buffer{};
  Duration limited_by_receiver{};
  Duration limited_by_congestion{};
  const char* congestion = "";
};

// Options an application can set, units as the POSIX and Linux options have them: seconds for
// keepalive, milliseconds for the user timeout, bytes for buffers and max_segment; the stack maps
// shm_option to them.
enum class TcpOption : uint8_t {
  nodelay,
  cork,
  keepalive,
  keepalive_idle,
  keepalive_interval,
  keepalive_probes,
  user_timeout,
  receive_buffer,
  send_buffer,
  max_segment,
  quick_ack,
  congestion,
  pacing_rate,  // bytes a second at most, as SO_MAX_PACING_RATE; 0 or UINT32_MAX: not paced
};
inline constexpr size_t kTcpOptionCount = size_t{static_cast<uint8_t>(TcpOption::pacing_rate)} + 1;

}  // namespace postern
