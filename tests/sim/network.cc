#include "network.h"

#include <algorithm>
#include <cstdio>

namespace postern::sim {

namespace {
constexpr uint64_t kMaxSteps = 4'000'000;
}

Network::Network(uint64_t seed, const Options& options) : random_(seed), options_(options) {
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
  ctx.now = now_;
  ctx.config = &e.config;
  ctx.counters = &e.counters;
  ctx.random = static_cast<uint32_t>(random_());
  const uint32_t used = e.stored_to - e.read;
  ctx.receive_room = e.app.receive_memory > used ? e.app.receive_memory - used : 0;
  ctx.ranges = e.pool.get();
  return ctx;
}

void Network::fail(const std::string& what) {
  if (result_.failure.empty()) result_.failure = what;
}

Result Network::run() {
  for (int side = 0; side < (options_.simultaneous_open ? 2 : 1); ++side) {
    TcpContext ctx = context(side);
    ctx.isn = static_cast<uint32_t>(random_());
    ctx.ts_offset = static_cast<uint32_t>(random_());
    if (ends_[side].app.nodelay) {
      if (!ends_[side].tcp->set_option(ctx, TcpOption::nodelay, 1)) fail("set_option");
    }
    ends_[side].tcp->open_active(ctx, options_.link[side].mss);
    ends_[side].open = true;
  }
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
    while (!wire_.empty() && wire_.begin()->first <= now_) {
      const Packet packet = wire_.begin()->second;
      wire_.erase(wire_.begin());
      deliver(packet);
    }
    for (End& e : ends_) {
      if (e.open && e.tcp->next_deadline() <= now_) {
        TcpContext ctx = context(static_cast<int>(&e - ends_));
        e.tcp->on_timer(ctx);
        e.tcp->check_invariants(ctx);
        ++result_.timer_calls;
      }
    }
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
  End& e = ends_[side];
  if (!e.open || e.finished) return;
  for (int round = 0; round < 2; ++round) {
    application(side);
    transmit(side);
    TcpContext ctx = context(side);
    e.tcp->check_invariants(ctx);
    const uint16_t events = e.tcp->take_events();
    if ((events & tcp_event::peer_fin) != 0) e.peer_fin = true;
    if ((events & tcp_event::failed) != 0) {
      fail("connection failed on side " + std::to_string(side) + ", error " +
           std::to_string(e.tcp->error()) + ", delivered " + std::to_string(ends_[0].tail) +
           " and " + std::to_string(ends_[1].tail));
    }
    if ((events & tcp_event::finished) != 0) e.finished = true;
  }
}

void Network::application(int side) {
  End& e = ends_[side];
  if (e.finished || e.tcp->state() == TcpState::closed) return;
  TcpContext ctx = context(side);
  // Verify what is in order now.
  const uint32_t tail = e.tcp->rx_tail();
  for (; e.tail != tail; ++e.tail) {
    if (e.tail >= e.bytes.size() || !e.stored[e.tail]) return fail("a byte that was never stored");
    if (e.bytes[e.tail] != content(1 - side, e.tail)) return fail("a wrong byte");
  }
  if (e.tail != 0 && e.tail >= e.bytes.size() / 2 && result_.halfway.count() == 0) {
    result_.halfway = now_.time_since_epoch() - Duration(1s);
  }
  if (e.tail != 0 && e.tail == e.bytes.size() && result_.elapsed < now_.time_since_epoch() &&
      !e.peer_fin) {
    result_.elapsed = now_.time_since_epoch() - Duration(1s);
  }
  // Read.
  const Duration running = now_.time_since_epoch() - Duration(1s);
  const bool stalled = e.app.stall_for.count() != 0 && running >= e.app.stall_at &&
                       running < e.app.stall_at + e.app.stall_for;
  if (stalled) {
    e.next_read = Time(Duration(1s)) + e.app.stall_at + e.app.stall_for;
  } else if (e.read != e.tail && now_ >= e.next_read) {
    uint32_t amount = e.tail - e.read;
    if (e.app.read_rate > 0) {
      amount = std::min<uint32_t>(amount, 2000);
      e.next_read = now_ + Duration(static_cast<int64_t>(amount / e.app.read_rate * 1e9) + 1);
    }
    e.read += amount;
    ctx = context(side);
    e.tcp->on_consumed(ctx, e.read);
  }
  // Write.
  while (e.written != e.app.bytes && now_ >= e.next_write) {
    const uint32_t queued = e.written - e.tcp->tx_acked();
    if (queued >= e.app.send_buffer) break;
    const uint32_t amount =
        std::min({e.app.write_size, e.app.bytes - e.written, e.app.send_buffer - queued});
    e.tcp->on_send(ctx, amount, false);
    e.written += amount;
    if (e.app.write_interval.count() != 0) e.next_write = now_ + e.app.write_interval;
  }
  // Close.
  const bool done = e.written == e.app.bytes && (e.app.half_close || e.peer_fin);
  if (done && !e.shut) {
    e.shut = true;
    e.tcp->on_shutdown_write(ctx);
  }
  if (e.shut && e.peer_fin && e.read == e.tail && e.read == e.bytes.size() && !e.closed) {
    e.closed = true;
    e.tcp->on_close(ctx);
  }
}

void Network::transmit(int side) {
  End& e = ends_[side];
  TcpSegment out;
  for (int i = 0; i < 1000 && e.tcp->wants_output(); ++i) {
    TcpContext ctx = context(side);
    if (!e.tcp->next_segment(ctx, out)) break;
    e.tcp->check_invariants(ctx);
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
  if (e.app.burst != 0) e.tcp->set_max_segment_burst(e.app.burst);
}

// RFC 9293 3.8.6: the right edge never moves left, but for what scaling cannot express.
void Network::check_wire(int side, const TcpSegment& s) {
  End& e = ends_[side];
  if ((s.flags & tcp_flag::syn) != 0) {
    e.scaled = s.has_window_scale && (options_.strip_options & strip::window_scale) == 0;
    e.scale = s.window_scale;
  }
  if (s.length > 0 && s.length > options_.link[side].mss && s.gso_size == 0)
    fail("oversized segment");
  if ((s.flags & tcp_flag::rst) != 0 || (s.flags & tcp_flag::ack) == 0) return;
  const bool scale = e.scaled && ends_[1 - side].scaled && (s.flags & tcp_flag::syn) == 0;
  const uint32_t unit = scale ? 1U << e.scale : 1;
  const uint32_t edge = s.ack + s.window * unit;
  if (e.edge_known && seq_le(edge + unit, e.offered_edge)) fail("window shrunk");
  if (!e.edge_known || seq_gt(edge, e.offered_edge)) e.offered_edge = edge;
  e.edge_known = true;
  const End& peer = ends_[1 - side];
  if (s.length > 1 && peer.edge_known && seq_gt(s.seq + s.length, peer.offered_edge)) {
    fail("sent beyond the window");
  }
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
  if (link.mss_later == 0 || now_.time_since_epoch() - Duration(1s) < link.mtu_at) return false;
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
  if (too_long(side, s)) return;
  strip_options(s, options_.strip_options);
  const uint32_t bytes = s.length + 54;
  const Time start = std::max(now_, e.link_free);
  const double backlog = static_cast<double>((start - now_).count()) * 1e-9 * link.rate / 8;
  if (backlog + bytes > link.queue + 1500) return print(side, s, "queue full");  // drop-tail
  if (link.mark_above != 0 && backlog > link.mark_above && s.ecn == 2) s.ecn = 3;
  e.link_free = start + Duration(static_cast<int64_t>(bytes * 8 / link.rate * 1e9));
  if (e.burst_left != 0 && now_ < e.burst_end) {
    --e.burst_left;
    return print(side, s, "lost");
  }
  if (link.burst_loss > 0 && chance() < link.burst_loss) {
    e.burst_left = static_cast<uint32_t>(chance() * link.burst_length);
    e.burst_end = now_ + link.burst_duration;
    return print(side, s, "lost");
  }
  if (link.loss > 0 && chance() < link.loss) return print(side, s, "lost");
  Time at = e.link_free + link.delay;
  if (link.reorder > 0 && chance() < link.reorder) {
    at +=
        Duration(static_cast<int64_t>(chance() * static_cast<double>(link.reorder_delay.count())));
  }
  print(side, s, "");
  put(side, s, at);
  if (link.duplicate > 0 && chance() < link.duplicate) put(side, s, at + 100us);
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
    if (e.open && !e.finished && e.tcp->in_flight(s.seq)) e.tcp->on_path_mtu(ctx, packet.icmp_mss);
    return;
  }
  if (!e.open) {
    if ((s.flags & tcp_flag::syn) == 0 || (s.flags & (tcp_flag::ack | tcp_flag::rst)) != 0) return;
    ctx.isn = static_cast<uint32_t>(random_());
    ctx.ts_offset = static_cast<uint32_t>(random_());
    e.tcp->open_passive(ctx, s, options_.link[side].mss);
    e.open = true;
    if (e.app.nodelay && !e.tcp->set_option(ctx, TcpOption::nodelay, 1)) fail("set_option");
    return;
  }
  if (e.finished) {
    TcpSegment reset;
    if (reset_for(s, reset)) put(side, reset, now_ + options_.link[side].delay);
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

Options random_options(uint64_t seed) {
  std::mt19937_64 random(seed * 0x9e3779b97f4a7c15ULL + 1);
  const auto pick = [&](auto... values) {
    using T = std::common_type_t<decltype(values)...>;
    const T list[] = {values...};
    return list[random() % sizeof...(values)];
  };
  const auto maybe = [&](uint32_t percent) { return random() % 100 < percent; };
  Options o;
  const double rate = pick(1e6, 10e6, 100e6, 1e9);
  const Duration delay = pick(Duration(50us), Duration(1ms), Duration(10ms), Duration(80ms));
  for (int side = 0; side < 2; ++side) {
    LinkOptions& link = o.link[side];
    link.rate = rate;
    link.delay = delay;
    link.queue = pick(6000U, 30000U, 100000U, 1000000U);
    if (maybe(40)) link.loss = pick(0.001, 0.01, 0.05, 0.12);
    if (maybe(20)) link.burst_loss = pick(0.001, 0.005);
    if (maybe(30)) {
      link.reorder = pick(0.001, 0.02, 0.2);
      link.reorder_delay = pick(Duration(200us), Duration(3ms), Duration(40ms));
    }
    if (maybe(20)) link.duplicate = pick(0.001, 0.02, 0.2);
    link.mss = static_cast<uint16_t>(pick(536, 1220, 1460, 1460, 8960));
    link.queue = std::max(link.queue, 2U * link.mss + 200U);
    if (maybe(25)) link.mark_above = link.queue / 3;

    AppOptions& app = o.app[side];
    app.bytes = pick(0U, 1U, 1000U, 20000U, 100000U, 300000U);
    app.write_size = pick(1U, 100U, 1448U, 8192U, 65536U);
    if (app.write_size == 1) app.bytes = std::min(app.bytes, 3000U);
    if (maybe(15)) app.write_interval = pick(Duration(1ms), Duration(50ms));
    if (app.write_interval.count() != 0) app.bytes = std::min(app.bytes, 1000 * app.write_size);
    app.send_buffer = pick(4096U, 65536U, 1048576U);
    if (maybe(25)) app.read_rate = pick(20000.0, 500000.0);
    if (maybe(20)) {
      app.stall_at = pick(Duration(0s), Duration(50ms), Duration(1s));
      app.stall_for = pick(Duration(300ms), Duration(5s), Duration(100s));
    }
    app.receive_memory = pick(3000U, 20000U, 65536U, 1048576U);
    app.nodelay = maybe(40);
    app.half_close = maybe(70);
    if (maybe(40)) app.burst = pick(4096U, 16384U, 65535U);

    TcpConfig& c = o.config[side];
    c.syn_retries = c.syn_ack_retries = 30;
    c.retries = 60;
    c.orphan_retries = 60;
    c.time_wait = Duration(300s);
    c.rto_max = Duration(60s);
    c.timestamps = maybe(75);
    c.sack = maybe(75);
    c.window_scaling = maybe(75);
    c.ecn = maybe(40);
    c.receive_buffer = pick(2000U, 20000U, 65535U, 1048576U, 8388608U);
    c.delayed_ack = pick(Duration(1ms), Duration(40ms), Duration(200ms));
    c.congestion = static_cast<uint8_t>(random() % kCongestionCount);
    c.initial_window = static_cast<uint16_t>(pick(1, 2, 10, 32));
  }
  if (!o.app[0].half_close && !o.app[1].half_close) o.app[0].half_close = true;
  o.pool = pick(4096U, 4096U, 4096U, 64U, 8U, 0U);
  o.simultaneous_open = maybe(5);
  if (maybe(15)) {
    o.strip_options = static_cast<uint8_t>(random() % 16);
  }
  for (LinkOptions& link : o.link) {
    if (!maybe(15) || link.mss <= 536) continue;
    link.mss_later = static_cast<uint16_t>(link.mss == 1220 ? 600 : 1000);
    link.mtu_at = pick(Duration(0s), Duration(20ms), Duration(500ms));
  }
  return o;
}

}  // namespace postern::sim
