// The TCP engine: one connection. Pure: no DPDK, no clock, no allocation, no log, no global.
// Six verbs: on_segment, on_timer, the app operations, next_segment, next_deadline, take_events.
//
// This header is the contract; the private part belongs to the engine.
#pragma once

#include <cstdint>
#include <optional>

#include "tcp/types.h"

namespace postern {

class TcpConnection {
 public:
  // ---- opening. The object must be freshly constructed or finished. ----

  // Active open: sends SYN at the next next_segment(). `mss`: largest segment payload the path to
  // the peer carries without options (MTU - IP header - 20).
  void open_active(TcpContext& ctx, uint16_t mss);
  // Passive open: a SYN for a listener arrived. Answers SYN-ACK at the next next_segment().
  void open_passive(TcpContext& ctx, const TcpSegment& syn, uint16_t mss);

  // ---- the network ----

  // A segment for this connection, checksum proven, options parsed. Follows RFC 9293 3.10.7.
  // If the result says accept_data, the caller stores the bytes before it calls anything else.
  [[nodiscard]] TcpInput on_segment(TcpContext& ctx, const TcpSegment& segment);
  // The time named by next_deadline() has come (calling early is harmless).
  void on_timer(TcpContext& ctx);
  // The next segment to send now, or false. Called until false or until the burst is full; a true
  // result counts as sent. tx bytes are named by TcpSegment::tx_position and length.
  [[nodiscard]] bool next_segment(TcpContext& ctx, TcpSegment& out);
  // Cheap test whether next_segment may have something: keeps idle connections off ready lists.
  [[nodiscard]] bool wants_output() const;
  // When on_timer must be called at the latest; kNever if nothing is timed.
  [[nodiscard]] Time next_deadline() const;

  // ---- the application ----

  void on_send(TcpContext& ctx, uint32_t bytes, bool more);  // appended to the send stream
  void on_consumed(TcpContext& ctx, uint32_t rx_head);       // application has read up to here
  void on_shutdown_write(TcpContext& ctx);  // FIN after what is queued
  void on_close(TcpContext& ctx);  // no reader, no writer any more: RFC 9293 3.6, RST if unread data
  void on_abort(TcpContext& ctx);  // RST (if synchronized), over
  // False: value out of range, nothing changed.
  [[nodiscard]] bool set_option(TcpContext& ctx, TcpOption option, uint32_t value);
  // ICMP told of a smaller path MTU (RFC 1191): segments shrink to `mss`.
  void on_path_mtu(TcpContext& ctx, uint16_t mss);
  // ICMP told of an error that quotes this connection (RFC 5461, 5927). errno value.
  void on_icmp_error(TcpContext& ctx, int error, uint32_t quoted_seq);

  // ---- what to tell the application ----

  [[nodiscard]] uint16_t take_events();  // tcp_event bits since the last call
  [[nodiscard]] TcpState state() const;
  [[nodiscard]] int error() const;          // errno after tcp_event::failed
  [[nodiscard]] uint32_t rx_tail() const;   // stream position: bytes received in order
  [[nodiscard]] uint32_t tx_acked() const;  // stream position: bytes acknowledged
  [[nodiscard]] uint32_t tx_tail() const;   // stream position: bytes the application queued
  [[nodiscard]] uint16_t mss() const;       // payload per segment now, options subtracted
  [[nodiscard]] bool synchronized() const;  // handshake done

  // For tests and fuzzers: aborts with a message when the state contradicts itself.
  void check_invariants() const;
};

// RFC 9293 3.10.7.1: the reset that answers a segment for which there is no connection.
// False if none may be sent (the segment is itself a reset).
[[nodiscard]] bool reset_for(const TcpSegment& segment, TcpSegment& out);

}  // namespace postern
