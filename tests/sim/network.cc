#include "network.h"

#include <algorithm>
#include <cstdio>

namespace postern::sim {

namespace {
constexpr uint64_t kMaxSteps = 4'000'000;
}

Network::Network(uint64_t seed, const Options& options)
    : random_(seed), wire_random_(seed + 0x9e3779b97f4a7c15ULL), options_(options) {
  for (int side = 0; side < 2; ++side) {
    End& e = ends_[side];
    e.config = options.config[side];
    e.app = options.app[side];
    e.pool = std::make_unique<TcpRangePool>(options.pool);
    e.tcp = std::make_unique<TcpConnection>();
    e.bytes.resize(options.app[1 - side].bytes);
    e.stored.resize(options.app[1 - side].bytes);
  }
}

TcpContext Network::context(int side) {
  End& e = ends_[side];
  TcpContext ctx;
  ctx.set_now(now_);
  ctx.config = &e.config;
  ctx.counters = &e.counters;
  ctx.random = options_.scripted ? 0 : static_cast<uint32_t>(random_());
  const uint32_t used = e.stored_to - e.read;
  ctx.receive_room = e.app.receive_memory > used ? e.app.receive_memory - used : 0;
  ctx.ranges = e.pool.get();
  return ctx;
}

TcpContext Network::opening(int side) {
  TcpContext ctx = context(side);
  ctx.isn = static_cast<uint32_t>(random_());
  ctx.ts_offset = static_cast<uint32_t>(random_());
  if (options_.scripted) {
    ctx.isn = side == 0 ? 0xfffff000 : 0xffffff00;
    ctx.ts_offset = 0x7ffffff0;
  }
  return ctx;
}

void Network::fail(const std::string& what) {
  if (result_.failure.empty()) result_.failure = what;
}

// A call of the application was made.
void Network::called(int side, const std::string& text) {
  if (observer_ != nullptr) observer_->call(side, running(), text);
  if (options_.scripted) transmit(side);
}

void Network::start(int side) {
  End& e = ends_[side];
  TcpContext ctx = opening(side);
  if (e.app.nodelay && !e.tcp->set_option(ctx, TcpOption::nodelay, 1)) fail("set_option");
  e.tcp->open_active(ctx, options_.link[side].mss);
  if (e.app.burst != 0) e.tcp->set_max_segment_burst(e.app.burst);
  e.open = true;
  called(side, "connect(3, ..., ...) = -1 EINPROGRESS");
}

void Network::accept(int side, const TcpSegment& syn) {
  End& e = ends_[side];
  TcpContext ctx = opening(side);
  e.tcp->open_passive(ctx, syn, options_.link[side].mss);
  if (e.app.burst != 0) e.tcp->set_max_segment_burst(e.app.burst);
  e.open = true;
  if (e.app.nodelay && !e.tcp->set_option(ctx, TcpOption::nodelay, 1)) fail("set_option");
}

void Network::timers() {
  for (int side = 0; side < 2; ++side) {
    End& e = ends_[side];
    for (int i = 0; i < (options_.scripted ? 100 : 1); ++i) {
      if (!e.open || e.finished || e.tcp->next_deadline() > now_) break;
      TcpContext ctx = context(side);
      e.tcp->on_timer(ctx);
      e.tcp->check_invariants(ctx);
      ++result_.timer_calls;
      if (options_.scripted) transmit(side);
    }
  }
}

Result Network::run() {
  for (int side = 0; side < (options_.simultaneous_open ? 2 : 1); ++side) start(side);
  const Time limit = now_ + options_.limit;
  for (uint64_t steps = 0; result_.failure.empty(); ++steps) {
    for (int side = 0; side < 2; ++side) step(side);
    if (ends_[0].finished && ends_[1].finished) break;
    const Time next = next_event();
    if (next == kNever || next > limit || steps > kMaxSteps) {
      fail("hang: states " + std::to_string(static_cast<int>(ends_[0].tcp->state())) + ", " +
           std::to_string(static_cast<int>(ends_[1].tcp->state())) + ", delivered " +
           std::to_string(ends_[0].tail) + " and " + std::to_string(ends_[1].tail) +
           (next == kNever      ? ", nothing timed"
            : steps > kMaxSteps ? ", storm"
                                : ", too slow"));
      break;
    }
    now_ = std::max(now_, next);
    if (options_.scripted) timers();
    while (!wire_.empty() && wire_.begin()->first <= now_) {
      const Packet packet = wire_.begin()->second;
      wire_.erase(wire_.begin());
      deliver(packet);
      if (options_.scripted) transmit(packet.to);
    }
    if (!options_.scripted) timers();
  }
  for (int side = 0; side < 2; ++side) {
    End& e = ends_[side];
    result_.delivered[side] = e.tail;
    result_.segments += e.counters.get(Counter::tcp_tx_segments);
    result_.retransmits += e.counters.get(Counter::tcp_retransmits);
    result_.timeouts += e.counters.get(Counter::tcp_rto);
    if (!result_.failure.empty()) continue;
    if (e.tail != ends_[1 - side].app.bytes) fail("bytes missing at the end");
    if (e.pool->available() != e.pool->capacity()) fail("ranges leaked");
    if (e.tcp->error() != 0) fail("error " + std::to_string(e.tcp->error()));
  }
  if (result_.timer_calls > 4 * result_.segments + 1000) fail("timer storm");
  return result_;
}

Time Network::next_event() const {
  Time next = wire_.empty() ? kNever : wire_.begin()->first;
  for (const End& e : ends_) {
    if (!e.open || e.finished) continue;
    next = std::min(next, e.tcp->next_deadline());
    if (!e.closed && e.next_write > now_) next = std::min(next, e.next_write);
    if (!e.closed && e.next_read > now_) next = std::min(next, e.next_read);
  }
  return next;
}

void Network::step(int side) {
  if (!ends_[side].open || ends_[side].finished) return;
  for (int round = 0; round < 2; ++round) {
    application(side);
    transmit(side);
    const TcpContext ctx = context(side);
    ends_[side].tcp->check_invariants(ctx);
    events(side);
  }
}

void Network::events(int side) {
  End& e = ends_[side];
  const uint16_t events = e.tcp->take_events();
  if ((events & tcp_event::peer_fin) != 0) e.peer_fin = true;
  if ((events & tcp_event::failed) != 0) {
    fail("connection failed on side " + std::to_string(side) + ", error " +
         std::to_string(e.tcp->error()) + ", delivered " + std::to_string(ends_[0].tail) + " and " +
         std::to_string(ends_[1].tail));
  }
  if ((events & tcp_event::finished) != 0) e.finished = true;
}

void Network::application(int side) {
  End& e = ends_[side];
  if (e.finished || e.tcp->state() == TcpState::closed) return;
  // Verify what is in order now.
  const uint32_t tail = e.tcp->rx_tail();
  for (; e.tail != tail; ++e.tail) {
    if (e.tail >= e.bytes.size() || !e.stored[e.tail]) return fail("a byte that was never stored");
    if (e.bytes[e.tail] != content(1 - side, e.tail)) return fail("a wrong byte");
  }
  if (e.tail != 0 && e.tail >= e.bytes.size() / 2 && result_.halfway.count() == 0) {
    result_.halfway = running();
  }
  if (e.tail != 0 && e.tail == e.bytes.size() && result_.elapsed < now_.time_since_epoch() &&
      !e.peer_fin) {
    result_.elapsed = running();
  }
  read(side);
  write(side);
  close(side);
}

void Network::read(int side) {
  End& e = ends_[side];
  const bool stalled = e.app.stall_for.count() != 0 && running() >= e.app.stall_at &&
                       running() < e.app.stall_at + e.app.stall_for;
  if (stalled) {
    e.next_read = Time(Duration(1s)) + e.app.stall_at + e.app.stall_for;
    return;
  }
  if (e.read == e.tail || now_ < e.next_read) return;
  uint32_t amount = e.tail - e.read;
  if (e.app.read_rate > 0) {
    amount = std::min<uint32_t>(amount, 2000);
    e.next_read = now_ + Duration(static_cast<int64_t>(amount / e.app.read_rate * 1e9) + 1);
  }
  e.read += amount;
  TcpContext ctx = context(side);
  e.tcp->on_consumed(ctx, e.read);
  const std::string n = std::to_string(amount);
  called(side, "read(4, ..., " + n + ") = " + n);
}

void Network::write(int side) {
  End& e = ends_[side];
  while (e.written != e.app.bytes && now_ >= e.next_write) {
    const uint32_t queued = e.written - e.tcp->tx_acked();
    if (queued >= e.app.send_buffer) return;
    const uint32_t amount =
        std::min({e.app.write_size, e.app.bytes - e.written, e.app.send_buffer - queued});
    TcpContext ctx = context(side);
    e.tcp->on_send(ctx, amount, false);
    e.written += amount;
    if (e.app.write_interval.count() != 0) e.next_write = now_ + e.app.write_interval;
    const std::string n = std::to_string(amount);
    called(side, "write(4, ..., " + n + ") = " + n);
  }
}

void Network::close(int side) {
  End& e = ends_[side];
  TcpContext ctx = context(side);
  const bool done = e.written == e.app.bytes && (e.app.half_close || e.peer_fin);
  if (done && !e.shut) {
    e.shut = true;
    e.tcp->on_shutdown_write(ctx);
    called(side, "shutdown(4, SHUT_WR) = 0");
  }
  if (e.shut && e.peer_fin && e.read == e.tail && e.read == e.bytes.size() && !e.closed) {
    e.closed = true;
    ctx = context(side);
    e.tcp->on_close(ctx);
    called(side, "close(4) = 0");
  }
}

void Network::transmit(int side) {
  End& e = ends_[side];
  if (!e.open || e.finished) return;
  TcpSegment out;
  for (int i = 0; i < 1000 && e.tcp->wants_output(); ++i) {
    TcpContext ctx = context(side);
    if (!e.tcp->next_segment(ctx, out)) break;
    e.tcp->check_invariants(ctx);
    if (observer_ != nullptr) observer_->segment(side, running(), out, true);
    if (e.tcp->tx_tail() != e.written && out.length != 0) fail("send stream out of step");
    check_wire(side, out);
    if (out.length != 0 && out.tx_position + out.length > e.written)
      fail("sent what was not queued");
    // As a device with TSO would cut it.
    if (out.gso_size != 0 && out.length > out.gso_size) {
      for (uint32_t at = 0; at < out.length; at += out.gso_size) {
        TcpSegment part = out;
        part.seq = out.seq + at;
        part.tx_position = out.tx_position + at;
        part.length = std::min<uint32_t>(out.gso_size, out.length - at);
        if (at + part.length != out.length) {
          part.flags = static_cast<uint8_t>(part.flags & ~(tcp_flag::fin | tcp_flag::psh));
        }
        carry(side, part);
      }
    } else {
      carry(side, out);
    }
  }
  if (options_.scripted) events(side);
}

void Network::check_wire(int side, const TcpSegment& s) {
  const bool stripped = (options_.strip_options & strip::window_scale) != 0;
  if (const char* wrong = window_rule_.sent(side, s, stripped)) fail(wrong);
  if (s.length > options_.link[side].mss && s.gso_size == 0) fail("oversized segment");
}

void Network::print(int side, const TcpSegment& s, const char* what) const {
  if (!trace_) return;
  std::printf(
      "%12.6f %d %c%c%c%c%c seq %u+%u ack %u win %u",
      std::chrono::duration<double>(now_.time_since_epoch()).count() - 1, side,
      (s.flags & tcp_flag::syn) != 0 ? 'S' : '.', (s.flags & tcp_flag::fin) != 0 ? 'F' : '.',
      (s.flags & tcp_flag::rst) != 0 ? 'R' : '.', (s.flags & tcp_flag::psh) != 0 ? 'P' : '.',
      (s.flags & tcp_flag::ack) != 0 ? 'A' : '.', s.seq, s.length, s.ack, s.window);
  for (int i = 0; i < s.sack_count; ++i)
    std::printf(" sack %u:%u", s.sack[i].left, s.sack[i].right);
  std::printf(" %s\n", what);
}

namespace {
void strip_options(TcpSegment& s, uint8_t bits) {
  if ((s.flags & tcp_flag::syn) == 0) return;
  if ((bits & strip::timestamps) != 0) s.has_timestamps = false;
  if ((bits & strip::sack) != 0) s.sack_permitted = false;
  if ((bits & strip::window_scale) != 0) s.has_window_scale = false;
  if ((bits & strip::mss) != 0) s.has_mss = false;
}
}  // namespace

// Whether the path does not carry it any more; then the sender will be told.
bool Network::too_long(int side, const TcpSegment& s) {
  const LinkOptions& link = options_.link[side];
  if (link.mss_later == 0 || running() < link.mtu_at) return false;
  const uint32_t options =
      (s.has_timestamps ? 12 : 0) + (s.sack_count != 0 ? 4 + 8 * s.sack_count : 0);
  if (s.length + options <= link.mss_later) return false;
  print(side, s, "too long");
  wire_.emplace(now_ + link.delay, Packet{s, side, link.mss_later});
  return true;
}

// One packet onto the link of `side`.
void Network::carry(int side, const TcpSegment& segment) {
  const LinkOptions& link = options_.link[side];
  End& e = ends_[side];
  TcpSegment s = segment;
  const uint64_t number = e.carried++;
  if (too_long(side, s)) return;
  strip_options(s, options_.strip_options);
  const uint32_t bytes = s.length + 54;
  const Time start = std::max(now_, e.link_free);
  const double backlog = static_cast<double>((start - now_).count()) * 1e-9 * link.rate / 8;
  if (backlog + bytes > link.queue + 1500) return print(side, s, "queue full");  // drop-tail
  if (link.mark_above != 0 && backlog > link.mark_above && s.ecn == 2) s.ecn = 3;
  e.link_free = start + Duration(static_cast<int64_t>(bytes * 8 / link.rate * 1e9));
  const Fate f = fate(side, number);
  if (f.lost) return print(side, s, "lost");
  const Time at = e.link_free + link.delay + f.late;
  print(side, s, "");
  put(side, s, at);
  if (f.twice) put(side, s, at + 100us);
}

Fate Network::fate(int side, uint64_t number) {
  Fate f;
  if (options_.fates.has_value()) {
    const auto& given = options_.fates->of[side];
    const auto it = given.find(number);
    if (it != given.end()) f = it->second;
  } else {
    f = draw_fate(side);
  }
  const bool special = f.lost || f.twice || f.late.count() != 0;
  if (observer_ != nullptr && special) observer_->fate(side, number, f);
  return f;
}

Fate Network::draw_fate(int side) {
  const LinkOptions& link = options_.link[side];
  End& e = ends_[side];
  Fate f;
  if (e.burst_left != 0 && now_ < e.burst_end) {
    --e.burst_left;
    f.lost = true;
  } else if (link.burst_loss > 0 && chance() < link.burst_loss) {
    e.burst_left = static_cast<uint32_t>(chance() * link.burst_length);
    e.burst_end = now_ + link.burst_duration;
    f.lost = true;
  } else if (link.loss > 0 && chance() < link.loss) {
    f.lost = true;
  }
  if (f.lost) return f;
  if (link.reorder > 0 && chance() < link.reorder) {
    const auto most = static_cast<double>(link.reorder_delay.count());
    f.late = Duration(static_cast<int64_t>(chance() * most));
  }
  f.twice = link.duplicate > 0 && chance() < link.duplicate;
  return f;
}

void Network::put(int side, const TcpSegment& s, Time at) {
  wire_.emplace(at, Packet{s, 1 - side, 0});
}

void Network::deliver(const Packet& packet) {
  const int side = packet.to;
  End& e = ends_[side];
  const TcpSegment& s = packet.segment;
  TcpContext ctx = context(side);
  if (packet.icmp_mss != 0) {
    if (!e.open || e.finished || !e.tcp->in_flight(s.seq)) return;
    if (observer_ != nullptr) observer_->too_long(side, running(), s, packet.icmp_mss);
    e.tcp->on_path_mtu(ctx, packet.icmp_mss);
    return;
  }
  const bool syn = (s.flags & (tcp_flag::syn | tcp_flag::ack | tcp_flag::rst)) == tcp_flag::syn;
  if (!e.open && !syn) return;
  if (observer_ != nullptr) observer_->segment(side, running(), s, false);
  if (!e.open) return accept(side, s);
  if (e.finished) {
    TcpSegment reset;
    if (!reset_for(s, reset)) return;
    if (observer_ != nullptr) observer_->segment(side, running(), reset, true);
    put(side, reset, now_ + options_.link[side].delay);
    return;
  }
  const TcpInput input = e.tcp->on_segment(ctx, s);
  if (input.accept_data) store(side, s, input);
  ctx = context(side);
  e.tcp->check_invariants(ctx);
}

void Network::store(int side, const TcpSegment& s, const TcpInput& in) {
  End& e = ends_[side];
  if (in.length == 0 || in.skip + in.length > s.length) return fail("accepted more than there is");
  if (s.tx_position + in.skip != in.position) return fail("stream positions disagree");
  if (in.position + in.length > e.bytes.size()) return fail("accepted beyond the stream");
  if (in.position + in.length - e.read > e.app.receive_memory)
    return fail("accepted beyond memory");
  for (uint32_t i = 0; i < in.length; ++i) {
    e.bytes[in.position + i] = content(1 - side, s.tx_position + in.skip + i);
    e.stored[in.position + i] = true;
  }
  e.stored_to = std::max(e.stored_to, in.position + in.length);
}

}  // namespace postern::sim
