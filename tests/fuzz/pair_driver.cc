#include "pair_driver.h"

#include <cerrno>
#include <cstring>
#include <deque>
#include <vector>

#include "bytes.h"
#include "support/window_rule.h"
#include "tcp/connection.h"

namespace postern {

namespace {

constexpr uint32_t kMostBytes = 60'000;  // each way
constexpr uint16_t kMss = 1460;
constexpr size_t kMostOnTheWire = 256;

// One engine and its application.
class End {
 public:
  End(int side, Bytes& in) : side_(side), pool_(in.byte() % 33) {
    const uint8_t options = in.byte();
    config_.timestamps = (options & 1) == 0;
    config_.sack = (options & 2) == 0;
    config_.window_scaling = (options & 4) == 0;
    config_.ecn = (options & 8) != 0;
    config_.congestion = static_cast<uint8_t>((options >> 4) % kCongestionCount);
    config_.receive_buffer = (options & 128) != 0 ? 3000 : 1 << 20;
    if ((options & 64) != 0) tcp.set_max_segment_burst(16384);
  }

  TcpContext context(Time now) {
    TcpContext ctx;
    ctx.set_now(now);
    ctx.config = &config_;
    ctx.counters = &counters_;
    ctx.random = random_ = random_ * 1664525 + 1013904223;
    ctx.isn = 0xfffffff0U + static_cast<uint32_t>(side_) * 0x7fffff00U;  // close to the wrap
    ctx.ts_offset = 0xffffff00;
    const uint32_t used = stored_to_ - read;
    ctx.receive_room = room > used ? room - used : 0;
    ctx.ranges = &pool_;
    return ctx;
  }

  // What arrived in order is what was stored, and each stored byte is the right one.
  void look() {
    const uint32_t tail = tcp.rx_tail();
    if (!tcp.synchronized() && tail_ == 0) return;
    require(tail - tail_ <= kMostBytes, "the stream does not go back");
    require(tail <= stored_.size(), "no more is delivered than was stored");
    require(tail == tail_ || std::memchr(stored_.data() + tail_, 0, tail - tail_) == nullptr,
            "what is delivered was stored");
    tail_ = tail;
  }
  void store(const TcpSegment& s, const TcpInput& input) {
    require(input.length != 0 && input.skip + input.length <= s.length,
            "no more is accepted than there is");
    require(s.tx_position + input.skip == input.position, "both ends count the stream alike");
    const uint32_t end = input.position + input.length;
    require(end <= kMostBytes && end - read <= room_was_, "no more is accepted than has room");
    if (stored_.size() < end) stored_.resize(end);
    std::memset(stored_.data() + input.position, 1, input.length);
    stored_to_ = std::max(stored_to_, end);
  }
  void set_room(uint32_t bytes) {
    room = bytes;
    room_was_ = std::max(room_was_, bytes);
  }
  void write(TcpContext& ctx, uint32_t bytes, bool more) {
    bytes = std::min(bytes, kMostBytes - written);
    if (shut || bytes == 0) return;
    tcp.on_send(ctx, bytes, more);
    written += bytes;
  }
  void consume(TcpContext& ctx, uint32_t bytes) {
    look();
    read += std::min(bytes, tail_ - read);
    tcp.on_consumed(ctx, read);
  }
  void shut_down(TcpContext& ctx) {
    if (shut) return;
    shut = true;
    tcp.on_shutdown_write(ctx);
  }
  void events() {
    const uint16_t bits = tcp.take_events();
    peer_fin = peer_fin || (bits & tcp_event::peer_fin) != 0;
    failed = failed || (bits & tcp_event::failed) != 0;
    finished = finished || (bits & tcp_event::finished) != 0;
  }
  void check_returned() const {
    require(pool_.available() == pool_.capacity(), "memory is returned");
    require(tcp.next_deadline() == kNever, "no timer outlives the connection");
  }
  [[nodiscard]] uint32_t tail() const { return tail_; }

  TcpConnection tcp;
  bool open = false, shut = false, closed = false;
  bool peer_fin = false, failed = false, finished = false;
  uint32_t written = 0;
  uint32_t read = 0;
  uint32_t room = 1 << 20;

 private:
  int side_;
  TcpConfig config_;
  Counters counters_;
  TcpRangePool pool_;
  uint32_t random_ = 1;
  uint32_t tail_ = 0;
  uint32_t stored_to_ = 0;
  uint32_t room_was_ = 1 << 20;
  std::vector<uint8_t> stored_;  // 1: this byte was
};

class Pair {
 public:
  Pair(const uint8_t* data, size_t size)
      : in_(data, size), ends_{End(0, in_), End(1, in_)}, strip_(in_.byte() % 16) {}

  void run() {
    open(0);
    if (in_.byte() % 8 == 0) open(1);
    for (int step = 0; !in_.done() && step < 3000; ++step) one_step();
    settle();
    for (const End& e : ends_) e.check_returned();
    if (aborted_ || ends_[0].failed || ends_[1].failed) return;
    for (int side = 0; side < 2; ++side) {
      require(ends_[side].tail() == ends_[1 - side].written, "every byte arrived");
    }
  }

 private:
  void open(int side) {
    TcpContext ctx = ends_[side].context(now_);
    ends_[side].tcp.open_active(ctx, kMss);
    ends_[side].open = true;
  }

  void one_step() {
    const uint8_t what = in_.byte();
    const int side = what & 1;
    switch (what >> 1 & 15) {
      case 0:
      case 1:
      case 2:
        send(side, 1 + in_.byte() % 16);
        break;
      case 3:
      case 4:
      case 5:
        for (size_t n = 1 + in_.byte() % 8; n != 0 && !wire_[side].empty(); --n) deliver(side, 0);
        break;
      case 6:
        if (!wire_[side].empty()) deliver(side, in_.byte() % wire_[side].size());
        break;
      case 7:
        if (!wire_[side].empty()) wire_[side].pop_front();
        break;
      case 8:
        if (!wire_[side].empty()) put(side, wire_[side][in_.byte() % wire_[side].size()]);
        break;
      case 9:
        now_ += std::chrono::microseconds(in_.half());
        timers();
        break;
      case 10:
        next_timer();
        break;
      case 11:
        if (!wire_[side].empty() && wire_[side].front().ecn == 2) wire_[side].front().ecn = 3;
        break;
      default:
        application(side, what >> 5);
    }
    look();
  }

  void application(int side, int what) {
    End& e = ends_[side];
    if (!e.open || e.finished || e.failed) return;
    TcpContext ctx = e.context(now_);
    const uint16_t amount = in_.half();
    switch (what) {
      case 0:
      case 1:
        e.write(ctx, amount, false);
        break;
      case 2:
        e.write(ctx, amount % 2000, true);
        break;
      case 3:
        e.consume(ctx, amount);
        break;
      case 4:
        e.set_room(amount);
        break;
      case 5:
        if (amount % 4 == 0) e.shut_down(ctx);
        break;
      case 6:
        (void)e.tcp.set_option(ctx, static_cast<TcpOption>(amount % 13), amount >> 4);
        break;
      default:
        if (amount % 64 == 0) {
          e.tcp.on_abort(ctx);
          aborted_ = true;
        } else if (amount % 64 < 4) {
          e.tcp.on_path_mtu(ctx, static_cast<uint16_t>(500 + amount % 900));
        }
    }
  }

  // One segment onto the wire towards the other side, cut up as a device with TSO would.
  void put(int from, const TcpSegment& s) {
    if (wire_[from].size() < kMostOnTheWire) wire_[from].push_back(s);
  }
  void cut(int from, const TcpSegment& whole) {
    const uint32_t size = whole.gso_size == 0 ? whole.length : whole.gso_size;
    if (whole.length <= size) return put(from, whole);
    for (uint32_t at = 0; at < whole.length; at += size) {
      TcpSegment part = whole;
      part.seq += at;
      part.tx_position += at;
      part.length = std::min(size, whole.length - at);
      if (at + part.length != whole.length) {
        part.flags = static_cast<uint8_t>(part.flags & ~(tcp_flag::fin | tcp_flag::psh));
      }
      put(from, part);
    }
  }

  bool send(int side, int most) {
    End& e = ends_[side];
    if (!e.open) return false;
    TcpSegment out;
    int sent = 0;
    for (; sent < most; ++sent) {
      TcpContext ctx = e.context(now_);
      if (!e.tcp.next_segment(ctx, out)) break;
      e.tcp.check_invariants(ctx);
      require(out.length == 0 || out.tx_position + out.length <= e.written,
              "only what the application wrote is sent");
      require(out.length <= kMss || out.gso_size != 0, "no segment is too long");
      const char* wrong = rule_.sent(side, out, (strip_ & 4) != 0);
      require(wrong == nullptr, wrong);
      if ((out.flags & tcp_flag::syn) != 0) strip(out);
      cut(side, out);
    }
    e.events();
    return sent != 0;
  }
  void strip(TcpSegment& s) const {
    if ((strip_ & 1) != 0) s.has_timestamps = false;
    if ((strip_ & 2) != 0) s.sack_permitted = false;
    if ((strip_ & 4) != 0) s.has_window_scale = false;
    if ((strip_ & 8) != 0) s.has_mss = false;
  }

  void deliver(int from, size_t which) {
    const TcpSegment s = wire_[from][which];
    wire_[from].erase(wire_[from].begin() + static_cast<std::ptrdiff_t>(which));
    const int side = 1 - from;
    End& e = ends_[side];
    if (e.finished) {
      TcpSegment reset;
      if (reset_for(s, reset)) put(side, reset);
      return;
    }
    TcpContext ctx = e.context(now_);
    if (!e.open) {
      if ((s.flags & (tcp_flag::syn | tcp_flag::ack | tcp_flag::rst)) != tcp_flag::syn) return;
      e.tcp.open_passive(ctx, s, kMss);
      e.open = true;
      return;
    }
    const TcpInput input = e.tcp.on_segment(ctx, s);
    if (input.accept_data) e.store(s, input);
    e.events();
  }

  void timers() {
    for (End& e : ends_) {
      if (!e.open || e.tcp.next_deadline() > now_) continue;
      TcpContext ctx = e.context(now_);
      e.tcp.on_timer(ctx);
      ++timer_calls_;
    }
  }
  void next_timer() {
    Time next = kNever;
    for (const End& e : ends_) {
      if (e.open) next = std::min(next, e.tcp.next_deadline());
    }
    if (next == kNever) return;
    now_ = std::max(now_, next);
    timers();
  }

  void look() {
    for (End& e : ends_) {
      if (!e.open) continue;
      const TcpContext ctx = e.context(now_);
      e.tcp.check_invariants(ctx);
      e.events();
      e.look();
    }
  }

  // A perfect wire and applications that want to end.
  void settle() {
    timer_calls_ = 0;
    const Time begin = now_;
    for (int step = 0; !over(); ++step) {
      require(step < 20'000 && now_ - begin < Duration(7200s), "it comes to an end");
      require(timer_calls_ < 2000, "no storm of timers");
      bool moved = false;
      for (int side = 0; side < 2; ++side) {
        end_application(side);
        moved = send(side, 64) || moved;
      }
      now_ += 1ms;
      for (int side = 0; side < 2; ++side) {
        moved = moved || !wire_[side].empty();
        while (!wire_[side].empty()) deliver(side, 0);
      }
      timers();
      look();
      if (!moved && !over()) next_timer();
    }
  }
  [[nodiscard]] bool over() const {
    for (const End& e : ends_) {
      if (e.open && !e.finished) return false;
    }
    return true;
  }
  void end_application(int side) {
    End& e = ends_[side];
    if (!e.open || e.finished || e.closed) return;
    TcpContext ctx = e.context(now_);
    e.set_room(1 << 20);
    // At a few bytes a second the rest would take hours.
    (void)e.tcp.set_option(ctx, TcpOption::pacing_rate, 0);
    e.consume(ctx, kMostBytes);
    e.shut_down(ctx);
    // Nobody need have told it that the peer is gone: then it gives up.
    const End& peer = ends_[1 - side];
    const bool alone = peer.finished && (aborted_ || peer.failed);
    if (!e.peer_fin && !e.failed && !alone) return;
    e.closed = true;
    e.tcp.on_close(ctx);
  }

  Bytes in_;
  End ends_[2];
  uint8_t strip_;
  bool aborted_ = false;
  test::WindowRule rule_;
  std::deque<TcpSegment> wire_[2];  // by sender
  Time now_{Duration(5s)};
  uint32_t timer_calls_ = 0;
};

}  // namespace

void drive_pair(const uint8_t* data, size_t size) { Pair(data, size).run(); }

}  // namespace postern
