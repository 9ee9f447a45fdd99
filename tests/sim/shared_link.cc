#include "shared_link.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>

#include "tcp/connection.h"

namespace postern::sim {
namespace {

constexpr uint32_t kHeaders = 54;
constexpr uint16_t kMss = 1460;
constexpr uint32_t kQueued = 4 << 20;  // bytes that a sender's application keeps ready
constexpr Time kStart{Duration(1s)};

struct Flow {
  TcpConnection end[2];  // 0 sends
  Counters counters;
  TcpRangePool pool{4096};
  Time begins{};
  bool open[2] = {false, false};
  uint32_t consumed = 0;
  uint32_t written = 0;
  uint64_t delivered = 0;  // since measuring began
};

class SharedLink {
 public:
  SharedLink(uint64_t seed, const SharedLinkOptions& options)
      : options_(options), random_(seed), flows_(options.flows) {
    config_.congestion = static_cast<uint8_t>(options.congestion);
    config_.receive_buffer = 8 << 20;
    config_.ecn = options.mark_above != 0;
    for (auto& flow : flows_) {
      flow = std::make_unique<Flow>();
      flow->begins =
          kStart +
          Duration(static_cast<int64_t>(chance() * static_cast<double>(options.stagger.count())));
    }
  }
  SharedLinkResult run();

 private:
  struct Packet {
    size_t flow;
    int to;
    TcpSegment segment;
  };
  double chance() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  TcpContext context(Flow& flow);
  [[nodiscard]] Time next_event() const;
  void step(size_t index);
  void transmit(size_t index, int side);
  void forward(size_t index, TcpSegment segment);
  void deliver(const Packet& packet);

  SharedLinkOptions options_;
  std::mt19937_64 random_;
  TcpConfig config_;
  std::vector<std::unique_ptr<Flow>> flows_;
  std::multimap<Time, Packet> wire_;
  Time now_ = kStart;
  Time link_free_{};
  SharedLinkResult result_;
};

TcpContext SharedLink::context(Flow& flow) {
  TcpContext ctx;
  ctx.set_now(now_);
  ctx.config = &config_;
  ctx.counters = &flow.counters;
  ctx.random = static_cast<uint32_t>(random_());
  ctx.isn = ctx.random;
  ctx.receive_room = 16 << 20;
  ctx.ranges = &flow.pool;
  return ctx;
}

Time SharedLink::next_event() const {
  Time next = wire_.empty() ? kNever : wire_.begin()->first;
  for (const auto& flow : flows_) {
    if (!flow->open[0]) next = std::min(next, std::max(flow->begins, now_));
    for (int side = 0; side < 2; ++side) {
      if (flow->open[side]) next = std::min(next, flow->end[side].next_deadline());
    }
  }
  return next;
}

void SharedLink::step(size_t index) {
  Flow& flow = *flows_[index];
  TcpContext ctx = context(flow);
  if (!flow.open[0] && now_ >= flow.begins) {
    flow.end[0].open_active(ctx, kMss);
    flow.open[0] = true;
  }
  for (int side = 0; side < 2; ++side) {
    if (!flow.open[side]) continue;
    if (flow.end[side].next_deadline() <= now_) {
      ctx = context(flow);
      flow.end[side].on_timer(ctx);
    }
    transmit(index, side);
  }
}

void SharedLink::transmit(size_t index, int side) {
  Flow& flow = *flows_[index];
  TcpConnection& tcp = flow.end[side];
  TcpContext ctx = context(flow);
  if (side == 0 && flow.written - tcp.tx_acked() < kQueued / 2) {
    const uint32_t amount = kQueued - (flow.written - tcp.tx_acked());
    tcp.on_send(ctx, amount, false);
    flow.written += amount;
  }
  TcpSegment out;
  for (int i = 0; i < 1000 && tcp.wants_output(); ++i) {
    ctx = context(flow);
    if (!tcp.next_segment(ctx, out)) break;
    if (side == 0) {
      forward(index, out);
    } else {
      wire_.emplace(now_ + options_.delay, Packet{index, 0, out});
    }
  }
}

// Through the bottleneck. A few microseconds of jitter keep flows from marching in step.
void SharedLink::forward(size_t index, TcpSegment s) {
  const uint32_t bytes = s.length + kHeaders;
  const Time start = std::max(now_, link_free_);
  const double backlog = static_cast<double>((start - now_).count()) * 1e-9 * options_.rate / 8;
  if (backlog + bytes > options_.queue) {
    ++result_.drops;
    return;
  }
  if (options_.mark_above != 0 && backlog > options_.mark_above && s.ecn == 2) {
    s.ecn = 3;
    ++result_.marks;
  }
  const double jitter = chance() * 5e-6;
  link_free_ = start + Duration(static_cast<int64_t>((bytes * 8 / options_.rate) * 1e9));
  wire_.emplace(link_free_ + options_.delay + Duration(static_cast<int64_t>(jitter * 1e9)),
                Packet{index, 1, s});
}

void SharedLink::deliver(const Packet& packet) {
  Flow& flow = *flows_[packet.flow];
  TcpConnection& tcp = flow.end[packet.to];
  TcpContext ctx = context(flow);
  if (!flow.open[packet.to]) {
    if ((packet.segment.flags & tcp_flag::syn) == 0) return;
    tcp.open_passive(ctx, packet.segment, kMss);
    flow.open[packet.to] = true;
    return;
  }
  (void)tcp.on_segment(ctx, packet.segment);
  if (packet.to != 1) return;
  const uint32_t arrived = tcp.rx_tail() - flow.consumed;
  if (arrived == 0) return;
  flow.consumed += arrived;
  flow.delivered += arrived;
  ctx = context(flow);
  tcp.on_consumed(ctx, flow.consumed);
}

SharedLinkResult SharedLink::run() {
  const Time measuring = kStart + options_.warm_up;
  const Time end = measuring + options_.measured;
  bool warm = false;
  while (now_ < end) {
    if (!warm && now_ >= measuring) {
      warm = true;
      result_.drops = result_.marks = 0;
      for (auto& flow : flows_) flow->delivered = 0;
    }
    for (size_t i = 0; i < flows_.size(); ++i) step(i);
    const Time next = next_event();
    if (next == kNever) break;
    now_ = std::max(now_, next);
    while (!wire_.empty() && wire_.begin()->first <= now_) {
      const Packet packet = wire_.begin()->second;
      wire_.erase(wire_.begin());
      deliver(packet);
    }
  }
  const double seconds = std::chrono::duration<double>(options_.measured).count();
  const double payload = kMss - 12;  // timestamps
  double all = 0;
  for (const auto& flow : flows_) {
    result_.rate.push_back(static_cast<double>(flow->delivered) * 8 / seconds);
    all += result_.rate.back();
  }
  result_.utilization = all / (options_.rate * payload / (payload + kHeaders));
  return result_;
}

}  // namespace

double SharedLinkResult::evenness() const {
  const auto [slowest, fastest] = std::minmax_element(rate.begin(), rate.end());
  return *fastest == 0 ? 0 : *slowest / *fastest;
}

SharedLinkResult run_shared_link(uint64_t seed, const SharedLinkOptions& options) {
  return SharedLink(seed, options).run();
}

}  // namespace postern::sim
