// The TCP engine: one connection. Pure: no DPDK, no clock, no allocation, no log, no global.
// Six verbs: on_segment, on_timer, the app operations, next_segment, next_deadline, take_events.
//
// Stream position p of the application is sequence number iss + 1 + p when sending and
// irs + 1 + p when receiving. Variables carry the names of RFC 9293 3.3.1, 5681, 6298 and 8985.
// README.md says which file holds which part.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/seq.h"
#include "tcp/congestion.h"
#include "tcp/connection_parts.h"
#include "tcp/ranges.h"
#include "tcp/types.h"

namespace postern {

class TcpConnection : TcpConnectionParts {
 public:
  // ---- opening. The object must be freshly constructed, options possibly set. ----

  // Active open: sends SYN at the next next_segment(). `mss`: largest segment payload the path to
  // the peer carries without options (MTU - IP header - 20).
  void open_active(TcpContext& ctx, uint16_t mss);
  // Passive open: a SYN for a listener arrived. Answers SYN-ACK at the next next_segment().
  void open_passive(TcpContext& ctx, const TcpSegment& syn, uint16_t mss);

  // Passive open whose SYN-ACK was a SYN cookie (syn_cookie.h): `syn` is what the cookie says of
  // the SYN, ctx.isn the cookie. The ACK that brought it is for on_segment next.
  void open_cookie(TcpContext& ctx, const TcpSegment& syn, uint16_t mss);

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
  [[nodiscard]] bool wants_output() const { return flags_.output; }
  // When on_timer must be called at the latest; kNever if nothing is timed.
  [[nodiscard]] Time next_deadline() const {
    const Time at = retransmit_at_ < ack_at_ ? retransmit_at_ : ack_at_;
    return unusual_.pace_wait && pace_at_ < at ? pace_at_ : at;
  }
  // next_segment may return up to this many payload bytes at once (in units of 1024, 64512 at
  // most), rounded down to whole segments, at least one; longer ones carry gso_size. Default: one
  // segment.
  void set_max_segment_burst(uint32_t bytes);

  // ---- the application ----

  // Appended to the send stream; allowed from open_* on, not after on_shutdown_write.
  void on_send(TcpContext& ctx, uint32_t bytes, bool more);
  // The last byte that was queued is urgent (MSG_OOB; RFC 6093).
  void on_urgent();
  // The application has read up to stream position rx_head. Positions that are not between the
  // last one and rx_tail() are ignored.
  void on_consumed(TcpContext& ctx, uint32_t rx_head);
  void on_shutdown_write(TcpContext& ctx);  // FIN after what is queued
  void on_close(
      TcpContext& ctx);  // no reader, no writer any more: RFC 9293 3.6, RST if unread data
  void on_abort(TcpContext& ctx);  // RST (if synchronized), over
  // False: value out of range, nothing changed. Allowed before open_*.
  [[nodiscard]] bool set_option(TcpContext& ctx, TcpOption option, uint32_t value);
  // ICMP told of a smaller path MTU (RFC 1191): segments shrink to `mss`.
  void on_path_mtu(TcpContext& ctx, uint16_t mss);
  // ICMP told of an error that quotes this connection (RFC 5461, 5927). errno value.
  void on_icmp_error(TcpContext& ctx, int error, uint32_t quoted_seq);

  // ---- what to tell the application ----

  [[nodiscard]] uint16_t take_events() {  // tcp_event bits since the last call
    const uint16_t events = events_;
    events_ = 0;
    return events;
  }
  [[nodiscard]] TcpState state() const { return state_; }
  [[nodiscard]] int error() const { return error_; }  // errno after tcp_event::failed
  [[nodiscard]] uint32_t rx_tail() const {            // stream position: bytes received in order
    return rcv_nxt_ - irs_ - 1 - (flags_.fin_received ? 1 : 0);
  }
  [[nodiscard]] uint32_t tx_acked() const {  // stream position: bytes acknowledged
    const uint32_t data = seq_min(snd_una_, snd_end_) - iss_;
    return data == 0 ? 0 : data - 1;
  }
  [[nodiscard]] uint32_t tx_tail() const { return snd_end_ - iss_ - 1; }  // bytes queued so far
  [[nodiscard]] uint16_t mss() const { return mss_; }                     // payload per segment now
  // False: no urgent data is ahead of what the application has read. Else where it ends, which may
  // lie beyond rx_tail() (RFC 9293 3.8.5, RFC 6093: it is in the stream like other data).
  [[nodiscard]] bool urgent_mark(uint32_t* position) const;
  // Handshake done.
  [[nodiscard]] bool synchronized() const {
    return state_ != TcpState::closed && state_ != TcpState::syn_sent &&
           state_ != TcpState::syn_received && state_ != TcpState::listen;
  }

  // RFC 6191, RFC 9293 MAY-2: whether a SYN for this connection in TIME-WAIT may open a new one at
  // once. The caller aborts this one and opens the next with an ISN above safe_isn().
  [[nodiscard]] bool may_reopen(const TcpSegment& syn) const;
  [[nodiscard]] uint32_t safe_isn() const { return snd_nxt_ + 65535; }

  void info(const TcpContext& ctx, TcpInfo& out) const;

  // RFC 5927 4.1: whether an ICMP message that quotes this sequence number can be genuine.
  [[nodiscard]] bool in_flight(uint32_t seq) const { return seq_in(seq, snd_una_, snd_nxt_); }

  // For tests and fuzzers: aborts with a message when the state contradicts itself.
  void check_invariants(const TcpContext& ctx) const;

 private:
  friend struct TcpLayout;  // asserts of offsets, connection.cc

  static constexpr uint8_t kQuickAcks = 8;          // segments
  static constexpr uint8_t kMaxEchoes = 4;          // per output
  static constexpr uint8_t kCongestionUnset = 255;  // until the connection opens
  static constexpr Duration kPaceBurst = 1ms;
  static constexpr Duration kCorkLimit = 200ms;  // as Linux; tcp(7) TCP_CORK

  // ---- handshake.cc ----
  void open(TcpContext& ctx, uint16_t mss);
  void take_syn_options(TcpContext& ctx, const TcpSegment& s);
  void set_send_mss();
  uint16_t syn_window(const TcpContext& ctx) const;
  TcpInput on_segment_syn_sent(TcpContext& ctx, const TcpSegment& s);
  void establish(TcpContext& ctx, const TcpSegment& s);

  // ---- common_path.cc ----
  bool fast_path(TcpContext& ctx, const TcpSegment& s, TcpInput& in);
  void acknowledge_all(TcpContext& ctx);
  bool send_plain(TcpContext& ctx, TcpSegment& out);

  // ---- input.cc: RFC 9293 3.10.7.4, in its order. False: the segment is done with. ----
  TcpInput on_segment_synchronized(TcpContext& ctx, const TcpSegment& segment);
  bool check_timestamps(TcpContext& ctx, const TcpSegment& s, TcpInput& in);
  bool check_sequence(TcpContext& ctx, const TcpSegment& s, TcpInput& in);
  bool check_reset(TcpContext& ctx, const TcpSegment& s, TcpInput& in);
  bool check_syn(TcpContext& ctx, const TcpSegment& s, TcpInput& in);
  bool check_ack(TcpContext& ctx, const TcpSegment& s, TcpInput& in);
  bool after_ack(TcpContext& ctx);
  bool process_text(TcpContext& ctx, const TcpSegment& s, TcpInput& in);
  void check_fin(TcpContext& ctx, const TcpSegment& s);
  void update_window(const TcpSegment& s);
  void note_timestamp(TcpContext& ctx, const TcpSegment& s);
  void note_ecn(const TcpSegment& s);
  void echo_exactly(const TcpSegment& s);
  void heard(TcpContext& ctx);
  void answer_unacceptable(TcpContext& ctx, const TcpSegment& s);
  void challenge(TcpContext& ctx);
  void refuse(uint32_t seq);

  // ---- receive.cc ----
  bool may_receive() const {
    return !flags_.fin_received &&
           (state_ == TcpState::established || state_ == TcpState::fin_wait_1 ||
            state_ == TcpState::fin_wait_2);
  }
  uint32_t stored_end(const TcpContext& ctx) const {
    return ooo_head_ == 0 ? rcv_nxt_ : (*ctx.ranges)[ooo_last_].right;
  }
  uint32_t receive_limit(const TcpContext& ctx) const;
  uint32_t window_step() const;
  // Two units of the scaled window: a smaller buffer could not be offered.
  uint32_t least_buffer() const {
    const uint32_t units = 2U << flags_.rcv_scale;
    return units < 512 ? 512 : units;
  }
  uint16_t select_window(TcpContext& ctx);
  void accept_in_order(TcpContext& ctx, uint32_t left, uint32_t right, TcpInput& in);
  Drop accept_out_of_order(TcpContext& ctx, uint32_t left, uint32_t right);
  void absorb_out_of_order(TcpContext& ctx);
  void join_following(TcpRangePool& pool, uint32_t at);
  void cut_out_of_order(TcpRangePool& pool, uint32_t end);
  void report_duplicate(uint32_t left, uint32_t right);
  void schedule_ack(TcpContext& ctx, uint32_t length);
  void fill_sack(const TcpContext& ctx, TcpSegment& out);
  void tune_receive_buffer(const TcpContext& ctx, uint32_t rx_head);

  // ---- output.cc ----
  bool nothing_follows() const;
  void rest(const TcpContext& ctx);
  bool send_control(TcpContext& ctx, TcpSegment& out);
  bool send_retransmission(TcpContext& ctx, TcpSegment& out);
  bool send_new(TcpContext& ctx, TcpSegment& out);
  bool send_probe(TcpContext& ctx, TcpSegment& out);
  void build(TcpContext& ctx, TcpSegment& out, uint32_t seq, uint8_t bits);
  void build_syn(TcpContext& ctx, TcpSegment& out);
  bool build_echo(TcpContext& ctx, TcpSegment& out);
  void build_data(TcpContext& ctx, TcpSegment& out, uint32_t left, uint32_t right);
  uint32_t new_data_length(uint32_t queued);
  bool partial_may_go() const;
  // Nothing was sent for so long that it may be longer than the RTO.
  bool was_idle(const TcpContext& ctx) const {
    return newest_.sends != 0 &&
           std::chrono::microseconds(ctx.now_us - newest_.time) >= ctx.config->rto_min;
  }
  void restart_after_idle(TcpContext& ctx);
  void stamp(const TcpContext& ctx, TcpSegment& out) const {
    if (!flags_.timestamps) return;
    out.has_timestamps = true;
    out.ts_value = ctx.now_ms + ts_offset_;
    out.ts_echo = ts_recent_;
  }
  // Whatever is sent acknowledges. A SYN-ACK leaves the timers to the handshake.
  void acknowledge(TcpContext& ctx, TcpSegment& out) {
    out.ack = last_ack_sent_ = rcv_nxt_;
    flags_.ack_now = false;
    if (!flags_.ack_delayed || (out.flags & tcp_flag::syn) != 0) return;
    flags_.ack_delayed = false;
    arm_idle(ctx);
  }
  void resend(TcpContext& ctx, TcpRange& r);
  uint32_t burst_limit() const {  // whole segments
    const uint32_t bytes = burst_kib_ * 1024U;
    const uint32_t most = bytes < 2U * mss_ ? mss_ : bytes - bytes % mss_;
    return unusual_.rare_send ? rare_burst_limit(most) : most;
  }

  // ---- path_mtu.cc ----
  void lower_path_mss(const TcpContext& ctx, uint16_t mss);
  void suspect_black_hole(const TcpContext& ctx);
  void set_path_probe(PathProbe state);
  void search_path_mtu(const TcpContext& ctx);
  void judge_path_probe(const TcpContext& ctx);
  uint16_t largest_path_mss() const;
  uint32_t path_probe_length(const TcpContext& ctx, uint32_t queued) const;
  void path_probe_sent(TcpContext& ctx, TcpSegment& out);
  uint32_t lost_path_probe(const TcpContext& ctx);
  bool path_probe_alone_lost(const TcpContext& ctx);
  void resend_path_probe(const TcpContext& ctx, TcpRange& r);
  void refuse_path_probe(TcpContext& ctx, uint16_t mss);

  // ---- rare.cc ----
  void note_rare_send();
  void set_pacing_rate(uint32_t bytes_per_second);
  uint64_t pacing_rate() const;
  bool pace_allows(const TcpContext& ctx);
  void pace(const TcpContext& ctx, uint32_t bytes);
  uint32_t rare_burst_limit(uint32_t most) const;
  void fill_urgent(TcpSegment& out);
  void check_urgent(const TcpSegment& s);

  // ---- in_flight.cc ----
  TcpRange& range(const TcpContext& ctx, uint32_t index) {
    return index == 0 ? newest_ : (*ctx.ranges)[index];
  }
  uint32_t pipe() const;
  void append_range(TcpContext& ctx, uint32_t left, uint32_t right);
  uint32_t allocate_sent(TcpContext& ctx);
  void link_last(TcpContext& ctx, uint32_t node);
  uint32_t split_range(TcpContext& ctx, uint32_t index, uint32_t at);
  void mark(TcpRange& r, uint8_t flag);
  void unmark(TcpRange& r, uint8_t flags);
  void count_delivered(TcpContext& ctx, const TcpRange& r, uint32_t right, Acked& acked);
  void acknowledge_ranges(TcpContext& ctx, uint32_t ack, Acked& acked);
  void acknowledge_front(TcpContext& ctx, TcpRange& r, uint32_t ack, Acked& acked);
  void take_sack(TcpContext& ctx, const TcpSegment& s, Acked& acked);
  bool is_dsack(const TcpSegment& s) const;
  void mark_sacked(TcpContext& ctx, const SackBlock* blocks, uint32_t count, Acked& acked);
  bool join_sacked(TcpContext& ctx, uint32_t previous, uint32_t index);

  // ---- recovery.cc: what is lost, and the rate ----
  void process_acknowledgment(TcpContext& ctx, const TcpSegment& s, bool same_window);
  void take_cumulative(TcpContext& ctx, const TcpSegment& s, Acked& acked);
  void progressed(const TcpContext& ctx);
  void recover(TcpContext& ctx, const TcpSegment& s, Acked& acked, bool same_window, bool was_calm);
  bool is_duplicate_ack(const TcpSegment& s, const Acked& acked, bool same_window) const;
  void count_duplicate_acks(TcpContext& ctx, const TcpSegment& s, Acked& acked, bool same_window);
  void rack_update(const TcpContext& ctx, const TcpSegment& s, const Acked& acked, bool was_calm);
  void rack_detect(TcpContext& ctx);
  uint32_t rack_window() const;
  void on_reorder_timer(TcpContext& ctx);
  void on_dsack();
  void mark_front_lost(TcpContext& ctx);
  void mark_oversized_lost(TcpContext& ctx);
  void mark_all_lost(TcpContext& ctx);
  CongestionView congestion_view(const TcpContext& ctx, uint32_t flight);
  const CongestionControl& congestion() const { return kCongestion[congestion_]; }
  bool wants_ecn(const TcpContext& ctx) const { return ctx.config->ecn || congestion().exact_ecn; }
  void reduce(TcpContext& ctx, uint32_t flight, bool echo = false);
  void respond_to_loss(TcpContext& ctx);
  void enter_recovery(TcpContext& ctx);
  void start_loss(TcpContext& ctx);
  void leave_recovery();
  void proportional_rate(uint32_t delivered, bool safe);
  void grow(TcpContext& ctx, const Acked& acked, uint32_t flight);
  void on_congestion_echo(TcpContext& ctx, uint32_t flight);

  // ---- undo.cc ----
  void try_undo(TcpContext& ctx, const TcpSegment& s, const Acked& acked, bool same_window);
  void undo(TcpContext& ctx);
  bool frto_with_sack(const Acked& acked) const;
  bool frto_without_sack(const TcpContext& ctx, const TcpSegment& s, const Acked& acked,
                         bool same_window);

  // ---- tail_probe.cc: RFC 8985 7 ----
  bool tail_probe_useful() const;
  Duration tail_probe_timeout(const TcpContext& ctx) const;
  bool send_tail_probe(TcpContext& ctx, TcpSegment& out);
  void probed_tail(TcpContext& ctx, bool resent);
  void check_tail_probe(TcpContext& ctx, const TcpSegment& s, const Acked& acked);

  // ---- timers.cc ----
  void sample_rtt(uint32_t rtt_us);
  void sample_rtt_from_echo(const TcpContext& ctx, uint32_t echo);
  Duration rto(const TcpContext& ctx) const;
  void arm(Timer timer, Time at);
  bool timer_is(Timer timer) const { return flags_.timer == timer; }
  void arm_retransmit(TcpContext& ctx);
  [[gnu::noinline]] void arm_waiting(TcpContext& ctx);
  void arm_idle(TcpContext& ctx);
  Time deadline(const TcpContext& ctx, Duration timeout) const;
  Duration keepalive_idle(const TcpContext& ctx) const;
  Duration keepalive_interval(const TcpContext& ctx) const;
  void on_retransmit_timer(TcpContext& ctx);
  void on_ack_timer(TcpContext& ctx);
  void on_syn_timer(TcpContext& ctx);
  void on_rto(TcpContext& ctx, Time due);
  void on_persist(TcpContext& ctx, Time due);
  void on_keepalive(TcpContext& ctx);
  bool patience_over(const TcpContext& ctx) const;
  bool given_up(const TcpContext& ctx) const;
  bool answered(const TcpContext& ctx, Time due) const;

  // ---- invariants.cc ----
  void check_send_invariants(const TcpContext& ctx) const;
  void check_receive_invariants(const TcpContext& ctx) const;

  // ---- info.cc ----
  Limit limit_now() const;
  void set_limit(const TcpContext& ctx, Limit limit) {
    if (flags_.limit != limit) change_limit(ctx, limit);
  }
  void change_limit(const TcpContext& ctx, Limit limit);
  void end_round(const TcpContext& ctx, uint32_t sent_us);
  void fill_rates(const TcpContext& ctx, TcpInfo& out) const;
  void fill_times(const TcpContext& ctx, TcpInfo& out) const;

  // ---- connection.cc ----
  void set_state(TcpState state) { state_ = state; }
  void set_switch(TcpContext& ctx, TcpOption option, bool on);
  bool set_number(TcpContext& ctx, TcpOption option, uint32_t value);
  bool set_receive_buffer(uint32_t value);
  void grow_receive_buffer(uint32_t value) {
    rcv_limit_ += value - receive_buffer_;
    receive_buffer_ = value;
  }
  void fail(TcpContext& ctx, int error, bool tell = false);
  void close_now(TcpContext& ctx, bool tell = false);
  void release_ranges(TcpContext& ctx);
  void enter_time_wait(TcpContext& ctx);
  void maybe_released();

  static uint64_t nanoseconds(Time t) {
    return static_cast<uint64_t>(t.time_since_epoch().count());
  }
  static uint32_t to_ms(Time t) { return static_cast<uint32_t>(nanoseconds(t) / 1000000); }
  // RFC 7323 5.5: ts_recent_ ages in units of 1.6 days.
  static uint8_t age_stamp(Time t) { return static_cast<uint8_t>(nanoseconds(t) >> 47); }
  bool ts_is_stale(Time t) const { return static_cast<uint8_t>(age_stamp(t) - ts_age_) >= 15; }
  // Sequence number after all that will ever be sent, FIN included once it is queued.
  uint32_t send_limit() const { return snd_end_ + (flags_.fin_queued ? 1 : 0); }
  bool can_send_data() const {
    return state_ == TcpState::established || state_ == TcpState::close_wait ||
           state_ == TcpState::fin_wait_1 || state_ == TcpState::closing ||
           state_ == TcpState::last_ack;
  }

  // ---- first line: sending ----
  uint32_t snd_una_ = 0;
  uint32_t snd_nxt_ = 0;
  uint32_t snd_wnd_ = 0;  // bytes
  uint32_t snd_wl1_ = 0;  // SND.WL2 is implied: an old ACK never gets to the window (RFC 9293)
  uint32_t snd_end_ = 1;  // sequence number after the last byte that the application queued
  uint32_t iss_ = 0;
  uint32_t cwnd_ = 0;       // bytes
  uint32_t srtt_ = 0;       // microseconds << 3; 0: no sample
  uint32_t rttvar_ = 0;     // microseconds << 2
  uint32_t min_rtt_ = 0;    // microseconds; 0: no sample
  TcpRange newest_;         // what was sent last; ranges before it are in the pool
  uint32_t sent_head_ = 0;  // the first of them, 0: newest_
  uint32_t sent_last_ = 0;  // the last of them, 0: none

  // ---- second line: receiving, timers, state ----
  uint32_t rcv_nxt_ = 0;
  uint32_t rcv_adv_ = 0;       // right edge of the furthest window offered; never moves back
  uint32_t rcv_limit_ = 0;     // right edge that the receive buffer allows
  uint32_t irs_ = UINT32_MAX;  // rcv_nxt_ - 1 until the SYN arrives
  uint32_t ts_recent_ = 0;
  uint32_t ts_offset_ = 0;
  uint32_t last_ack_sent_ = 0;
  uint32_t ooo_head_ = 0;        // first range received out of order
  Time retransmit_at_ = kNever;  // what for: flags_.timer
  Time ack_at_ = kNever;         // delayed ACK, else keepalive, FIN-WAIT-2 or TIME-WAIT
  Flags flags_{};
  Unusual unusual_{};
  uint16_t events_ = 0;
  uint16_t mss_ = 536;      // payload per segment to the peer, options subtracted
  uint16_t rcv_mss_ = 536;  // largest payload seen from the peer, for the ACK policy
  uint8_t ts_age_ = 0;
  TcpState state_ : 4 = TcpState::closed;
  uint8_t quick_acks_ : 4 = 0;  // segments still to be acknowledged at once

  // ---- from here on: not for in-order traffic ----
  uint8_t backoff_ = 0;  // doublings of the RTO or the persist interval
  uint8_t retries_ = 0;  // timeouts since the peer last acknowledged something
  uint8_t dupacks_ = 0;  // without SACK
  uint8_t error_ = 0;
  uint8_t burst_kib_ = 0;   // of payload that next_segment may join
  uint8_t soft_error_ = 0;  // RFC 1122 4.2.3.9: told by ICMP, reported if the connection times out
  uint8_t congestion_ = kCongestionUnset;  // index in kCongestion
  uint8_t keep_probes_ = 0;                // option, 0: configured
  uint8_t probes_sent_ = 0;                // keepalive
  uint8_t reorder_steps_ = 1;              // RFC 8985 RACK.reo_wnd_mult
  uint8_t reorder_persist_ = 0;            // RFC 8985 RACK.reo_wnd_persist
  uint8_t challenges_left_ = 0;
  uint8_t undo_pending_ = 0;  // retransmissions since the reduction, less those reported by DSACK
  Frto frto_ = Frto::off;
  PathProbe path_probe_ = PathProbe::off;
  bool path_told_ : 1 = false;  // probe_mss_ is what ICMP said
  bool syn_was_resent_ : 1 = false;
  bool rack_round_valid_ : 1 = false;
  bool rack_valid_ : 1 = false;      // rack_time_ and rack_end_ hold
  bool tail_resent_ : 1 = false;     // the loss probe carried old data
  bool reno_guard_ : 1 = false;      // RFC 6582 3.2 step 2
  uint8_t echo_count_ = 0;           // of echo_ack_
  uint8_t echo_marks_ = 0;           // bit by bit, the newest lowest: whether it was CE
  bool ecn_reduced_ : 1 = false;     // cwnd was reduced for the window up to recovery_point_
  bool cookie_ : 1 = false;          // opened by a SYN cookie
  bool urgent_out_ : 1 = false;      // urgent data is not acknowledged yet
  bool urgent_in_ : 1 = false;       // the peer has sent some
  bool window_scaling_ : 1 = false;  // negotiated
  bool tune_buffer_ : 1 = false;     // receive_buffer_ follows the application
  bool send_buffer_full_ = false;    // with Limit::sender: it cannot write
  bool round_limited_ = false;       // by the application, in the round that runs
  bool rate_limited_ = false;        // in the round of rate_bytes_
  uint16_t sent_wraps_ = 0;          // of the stream position, 4 GiB each
  uint16_t received_wraps_ = 0;
  uint16_t keep_idle_ = 0;      // seconds, option, 0: configured
  uint16_t keep_interval_ = 0;  // seconds, option, 0: configured
  uint16_t link_mss_ = 0;       // of the first hop, without options
  uint16_t path_mss_ = 0;       // of the path as far as it is known
  uint16_t probe_mss_ = 0;      // what path_probe_ tries, without options
  uint16_t peer_mss_ = 536;     // as offered
  uint16_t user_mss_ = 0;       // TCP_MAXSEG, 0: none
  uint16_t ooo_count_ = 0;
  uint16_t sent_count_ = 0;
  uint32_t ooo_last_ = 0;
  uint32_t ooo_stamp_ = 0;
  uint32_t fin_seq_ = 0;  // where a FIN that came out of order stands
  uint32_t max_snd_wnd_ = 0;
  uint32_t snd_small_ = 0;  // end of the last segment that was not full (Minshall)
  uint32_t receive_buffer_ = 0;
  uint32_t send_buffer_ = 0;
  uint32_t user_timeout_ms_ = 0;
  uint32_t progress_ms_ = 0;  // when data last began to wait or the peer acknowledged some
  uint32_t last_rx_ms_ = 0;   // outside the fast path, or with keepalive
  uint32_t challenge_ms_ = 0;
  uint32_t path_judged_ms_ = 0;  // when path_mss_ fell, or a probe was lost
  uint32_t search_high_ = 0;     // least size that the path is believed not to carry
  uint32_t probe_end_ = 0;       // sequence number behind the probe of the path
  uint32_t refuse_seq_ = 0;
  std::array<uint32_t, kMaxEchoes> echo_ack_{};  // RFC 8257 3.2: where CE changed, to acknowledge
  uint32_t dsack_left_ = 0;
  uint32_t dsack_right_ = 0;
  uint32_t snd_up_ = 0;           // SND.UP, with urgent_out_
  uint32_t rcv_up_ = 0;           // RCV.UP, with urgent_in_
  uint32_t max_pacing_rate_ = 0;  // bytes a second, 0: not paced
  Time pace_at_{};                // data may go from then on

  // Congestion control and recovery
  uint32_t ssthresh_ = UINT32_MAX;
  CongestionScratch scratch_;
  // Delivery rate: the round trip that runs, and the one to tell.
  uint32_t delivered_ = 0;  // bytes, wraps
  uint32_t round_end_ = 0;
  uint32_t round_start_us_ = 0;
  uint32_t round_sent_us_ = 0;  // when the newest of what had arrived by then was sent
  uint32_t round_delivered_ = 0;
  uint32_t rate_bytes_ = 0;
  uint32_t rate_us_ = 0;
  uint32_t sacked_bytes_ = 0;  // without SACK: duplicate ACKs times MSS
  uint32_t lost_bytes_ = 0;    // lost and not yet sent again
  uint32_t resend_hint_ = 0;   // no range before this one is lost
  uint32_t recovery_point_ = 0;
  uint32_t recovery_flight_ = 0;  // PRR RecoverFS
  uint32_t prr_delivered_ = 0;
  uint32_t prr_out_ = 0;
  uint32_t undo_cwnd_ = 0;
  uint32_t undo_ssthresh_ = 0;
  uint32_t resent_ts_ = 0;  // timestamp clock at the first retransmission (RFC 3522), 0: none
  uint32_t fack_ = 0;       // highest sequence number known to have arrived, while some is sacked
  uint32_t rack_time_ = 0;
  uint32_t rack_end_ = 0;
  uint32_t rack_rtt_ = 0;
  uint32_t rack_round_ = 0;  // snd_nxt_ at the last DSACK round
  uint32_t tail_end_ = 0;    // RFC 8985 TLP.end_seq
  // For info()
  uint32_t total_resent_ = 0;  // segments
  uint32_t reorder_seen_ = 0;
  uint64_t resent_bytes_ = 0;
  uint32_t limit_since_ms_ = 0;
  uint32_t limited_ms_[4] = {};       // by Limit
  uint32_t send_buffer_full_ms_ = 0;  // of them
  // Receive buffer tuning
  uint32_t tune_since_us_ = 0;
  uint32_t tune_from_ = 0;   // stream position read at tune_since_us_
  uint32_t tune_space_ = 0;  // bytes read in the round trip before
};

// RFC 9293 3.10.7.1: the reset that answers a segment for which there is no connection.
// False if none may be sent (the segment is itself a reset).
[[nodiscard]] bool reset_for(const TcpSegment& segment, TcpSegment& out);

}  // namespace postern
