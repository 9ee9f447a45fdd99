#include "engine_driver.h"

#include <cstdio>
#include <cstdlib>

#include "tcp/connection.h"

namespace postern {

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tcp engine: %s\n", what);
  std::abort();
}

class Driver {
 public:
  Driver(const uint8_t* data, size_t size) : data_(data), end_(data + size), pool_(byte() % 33) {
    const uint8_t options = byte();
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
    ctx.ts_offset = word();
    if (byte() % 2 == 0) {
      tcp_.open_active(ctx, 1460);
    } else {
      TcpSegment syn = segment();
      syn.flags = tcp_flag::syn;
      tcp_.open_passive(ctx, syn, 1460);
      peer_next_ = syn.seq + 1;
    }
    for (int step = 0; data_ != end_ && !gone_ && step < 2000; ++step) {
      one_step();
      check();
    }
    finish();
  }

 private:
  uint8_t byte() { return data_ == end_ ? uint8_t{0} : *data_++; }
  uint16_t half() {
    const uint16_t high = byte();
    return static_cast<uint16_t>(high << 8 | byte());
  }
  uint32_t word() {
    const uint32_t high = half();
    return high << 16 | half();
  }
  // Mostly near `base`, now and then anywhere.
  uint32_t near(uint32_t base) {
    const uint8_t kind = byte();
    switch (kind % 8) {
      case 0:
        return word();
      case 1:
        return base + half();
      case 2:
        return base - half();
      case 3:
        return base + byte();
      case 4:
        return base - byte();
      default:
        return base;
    }
  }

  TcpContext context() {
    TcpContext ctx;
    ctx.now = now_;
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
    const uint8_t kind = byte();
    s.flags = kind % 4 == 0 ? byte() : static_cast<uint8_t>(tcp_flag::ack);
    s.seq = near(peer_next_);
    s.ack = near(ours_);
    s.length = kind % 3 == 0 ? half() : kind % 3 == 1 ? 0U : byte();
    s.window = half();
    s.has_timestamps = (kind & 16) != 0 ? byte() % 2 == 0 : config_.timestamps;
    if (s.has_timestamps) {
      s.ts_value = near(peer_ts_);
      s.ts_echo = near(our_ts_);
    }
    if ((kind & 32) != 0) {
      s.sack_count = static_cast<uint8_t>(byte() % 5);
      for (int i = 0; i < s.sack_count; ++i) {
        s.sack[i].left = near(una_);
        s.sack[i].right = s.sack[i].left + (byte() % 2 == 0 ? byte() : half());
      }
    }
    if ((kind & 64) != 0) {
      s.has_mss = s.sack_permitted = true;
      s.mss = half();
      s.has_window_scale = true;
      s.window_scale = byte() % 16;
    }
    s.ecn = byte() % 4;
    return s;
  }

  void one_step() {
    TcpContext ctx = context();
    switch (byte() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        receive(ctx, segment());
        break;
      case 6:
        now_ += std::chrono::microseconds(half());
        break;
      case 7:
        if (tcp_.next_deadline() != kNever && tcp_.next_deadline() > now_)
          now_ = tcp_.next_deadline();
        break;
      case 8:
        tcp_.on_send(ctx, half(), byte() % 4 == 0);
        break;
      case 9:
        tcp_.on_consumed(ctx, near(tcp_.rx_tail()));
        break;
      case 10:
        room_ = byte() % 2 == 0 ? half() : 1 << 20;
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
    const auto which = static_cast<TcpOption>(byte() % 13);
    (void)tcp_.set_option(ctx, which, byte() % 2 == 0 ? byte() : word());
    if (byte() % 4 == 0) tcp_.set_max_segment_burst(half());
  }

  void control(TcpContext& ctx) {
    switch (byte() % 16) {
      case 0:
        tcp_.on_close(ctx);
        break;
      case 1:
        tcp_.on_shutdown_write(ctx);
        break;
      case 2:
        tcp_.on_path_mtu(ctx, half());
        break;
      case 3:
        tcp_.on_icmp_error(ctx, 113, near(una_));
        break;
      case 4:
        if (byte() % 8 == 0) tcp_.on_abort(ctx);
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
      require(out.length <= tcp_.mss() || out.gso_size == tcp_.mss(), "a segment too long");
      ours_ = out.seq + out.length;
      una_ = out.seq;
      if ((out.flags & tcp_flag::ack) != 0) peer_next_ = out.ack;
      if (out.has_timestamps) our_ts_ = out.ts_value;
    }
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

  const uint8_t* data_;
  const uint8_t* end_;
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
  bool gone_ = false;
};

}  // namespace

void drive_engine(const uint8_t* data, size_t size) {
  Driver driver(data, size);
  driver.run();
}

}  // namespace postern
