#include "engine_driver.h"

#include "bytes.h"
#include "tcp/connection.h"

namespace postern {

namespace {

constexpr uint16_t kLinkMss = 1460;

class Driver {
 public:
  Driver(const uint8_t* data, size_t size) : in_(data, size), pool_(in_.byte() % 33) {
    const uint8_t options = in_.byte();
    config_.timestamps = (options & 1) != 0;
    config_.sack = (options & 2) != 0;
    config_.window_scaling = (options & 4) != 0;
    config_.ecn = (options & 8) != 0;
    config_.congestion = static_cast<uint8_t>(((options >> 4) & 1) + ((options >> 6) & 1));
    config_.receive_buffer = (options & 32) != 0 ? 4000 : 1 << 20;
    config_.retries = 4;
    config_.syn_retries = config_.syn_ack_retries = 2;
  }

  void run() {
    TcpContext ctx = context();
    ctx.isn = isn_;
    ctx.ts_offset = in_.word();
    if (in_.byte() % 2 == 0) {
      tcp_.open_active(ctx, kLinkMss);
    } else {
      TcpSegment syn = segment();
      syn.flags = tcp_flag::syn;
      tcp_.open_passive(ctx, syn, kLinkMss);
      peer_next_ = syn.seq + 1;
    }
    for (int step = 0; !in_.done() && !gone_ && step < 2000; ++step) {
      one_step();
      check();
    }
    finish();
  }

 private:
  TcpContext context() {
    TcpContext ctx;
    ctx.set_now(now_);
    ctx.config = &config_;
    ctx.counters = &counters_;
    ctx.random = random_ = random_ * 1664525 + 1013904223;
    ctx.receive_room = room_;
    ctx.ranges = &pool_;
    return ctx;
  }

  // What a peer, or somebody who pretends to be one, may send.
  TcpSegment segment() {
    TcpSegment s;
    const uint8_t kind = in_.byte();
    s.flags = kind % 4 == 0 ? in_.byte() : static_cast<uint8_t>(tcp_flag::ack);
    s.seq = in_.near(peer_next_);
    s.ack = in_.near(ours_);
    s.length = kind % 3 == 0 ? in_.half() : kind % 3 == 1 ? 0U : in_.byte();
    s.window = in_.half();
    s.has_timestamps = (kind & 16) != 0 ? in_.byte() % 2 == 0 : config_.timestamps;
    if (s.has_timestamps) {
      s.ts_value = in_.near(peer_ts_);
      s.ts_echo = in_.near(our_ts_);
    }
    if ((kind & 32) != 0) {
      s.sack_count = static_cast<uint8_t>(in_.byte() % 5);
      for (int i = 0; i < s.sack_count; ++i) {
        s.sack[i].left = in_.near(una_);
        s.sack[i].right = s.sack[i].left + (in_.byte() % 2 == 0 ? in_.byte() : in_.half());
      }
    }
    if ((kind & 64) != 0) {
      s.has_mss = s.sack_permitted = true;
      s.mss = in_.half();
      s.has_window_scale = true;
      s.window_scale = in_.byte() % 16;
    }
    s.ecn = in_.byte() % 4;
    return s;
  }

  void one_step() {
    TcpContext ctx = context();
    switch (in_.byte() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        receive(ctx, segment());
        break;
      case 6:
        now_ += std::chrono::microseconds(in_.half());
        break;
      case 7:
        if (tcp_.next_deadline() != kNever && tcp_.next_deadline() > now_)
          now_ = tcp_.next_deadline();
        break;
      case 8:
        tcp_.on_send(ctx, in_.half(), in_.byte() % 4 == 0);
        break;
      case 9:
        tcp_.on_consumed(ctx, in_.near(tcp_.rx_tail()));
        break;
      case 10:
        room_ = in_.byte() % 2 == 0 ? in_.half() : 1 << 20;
        break;
      case 11:
        option(ctx);
        break;
      case 12:
        control(ctx);
        break;
      default:
        send_all();
    }
    ctx = context();
    if (tcp_.next_deadline() <= now_) tcp_.on_timer(ctx);
  }

  void option(TcpContext& ctx) {
    const auto which = static_cast<TcpOption>(in_.byte() % 13);
    (void)tcp_.set_option(ctx, which, in_.byte() % 2 == 0 ? in_.byte() : in_.word());
    if (in_.byte() % 4 == 0) tcp_.set_max_segment_burst(in_.half());
  }

  void control(TcpContext& ctx) {
    switch (in_.byte() % 16) {
      case 0:
        tcp_.on_close(ctx);
        break;
      case 1:
        tcp_.on_shutdown_write(ctx);
        break;
      case 2:
        tcp_.on_path_mtu(ctx, in_.half());
        break;
      case 3:
        tcp_.on_icmp_error(ctx, 113, in_.near(una_));
        break;
      case 4:
        if (in_.byte() % 8 == 0) tcp_.on_abort(ctx);
        break;
      case 5:
        tcp_.on_urgent();
        break;
      default:
        break;
    }
  }

  void receive(TcpContext& ctx, const TcpSegment& s) {
    const uint32_t tail = tcp_.rx_tail();
    const TcpInput in = tcp_.on_segment(ctx, s);
    if (!in.accept_data) return;
    require(in.length != 0 && in.skip <= s.length && in.length <= s.length - in.skip,
            "accepted more than the segment holds");
    require(in.position - tail < (1U << 31), "accepted old data");
    peer_next_ = s.seq + s.length;
    if (s.has_timestamps) peer_ts_ = s.ts_value;
  }

  void send_all() {
    TcpSegment out;
    for (int i = 0; i < 100; ++i) {
      TcpContext ctx = context();
      if (!tcp_.next_segment(ctx, out)) {
        require(!tcp_.wants_output(), "wants output, but there is none");
        return;
      }
      tcp_.check_invariants(ctx);
      if ((out.flags & tcp_flag::rst) != 0) continue;
      require(out.length == 0 || seq_le(out.tx_position + out.length, tcp_.tx_tail()),
              "sent what the application did not write");
      check_window(out);
      // Longer than the MSS in one piece: a probe of the path, of data that was never sent.
      const bool probe = out.gso_size == 0 && out.length <= kLinkMss && !out.retransmission;
      require(out.length <= tcp_.mss() || out.gso_size == tcp_.mss() || probe,
              "a segment too long");
      ours_ = out.seq + out.length;
      una_ = out.seq;
      if ((out.flags & tcp_flag::ack) != 0) peer_next_ = out.ack;
      if (out.has_timestamps) our_ts_ = out.ts_value;
    }
  }

  // RFC 9293 3.8.6: the right edge never moves left, but for what the field cannot express, which
  // on a SYN is not scaled.
  void check_window(const TcpSegment& s) {
    if ((s.flags & tcp_flag::ack) == 0) return;
    TcpInfo info;
    tcp_.info(context(), info);
    const bool scaled = info.window_scaling && (s.flags & tcp_flag::syn) == 0;
    if ((s.flags & tcp_flag::syn) != 0 && s.window == 65535) return;
    const uint32_t unit = scaled ? 1U << info.rcv_scale : 1;
    const uint32_t edge = s.ack + s.window * unit;
    require(!edge_known_ || seq_gt(edge + unit, edge_), "the window never shrinks");
    if (!edge_known_ || seq_gt(edge, edge_)) edge_ = edge;
    edge_known_ = true;
  }

  void check() {
    const TcpContext ctx = context();
    tcp_.check_invariants(ctx);
    require(seq_le(tcp_.tx_acked(), tcp_.tx_tail()), "acknowledged what was not written");
    const uint16_t events = tcp_.take_events();
    if ((events & tcp_event::finished) != 0) {
      require(tcp_.state() == TcpState::closed, "finished, but not closed");
      gone_ = true;
    }
  }

  void finish() {
    if (!gone_) {
      TcpContext ctx = context();
      tcp_.on_abort(ctx);
      send_all();
    }
    require(pool_.available() == pool_.capacity(), "ranges leaked");
    require(tcp_.next_deadline() == kNever, "a timer outlives the connection");
  }

  Bytes in_;
  TcpConfig config_;
  Counters counters_;
  TcpRangePool pool_;
  TcpConnection tcp_;
  Time now_{Duration(5s)};
  uint32_t isn_ = 0xffffff00;
  uint32_t ours_ = 0xffffff00;
  uint32_t una_ = 0xffffff00;
  uint32_t peer_next_ = 0x7fffff00;
  uint32_t peer_ts_ = 0;
  uint32_t our_ts_ = 0;
  uint32_t room_ = 1 << 20;
  uint32_t random_ = 1;
  bool edge_known_ = false;
  uint32_t edge_ = 0;  // furthest right edge that was offered
  bool gone_ = false;
};

}  // namespace

void drive_engine(const uint8_t* data, size_t size) {
  Driver driver(data, size);
  driver.run();
}

}  // namespace postern
