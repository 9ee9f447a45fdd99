// loadgen: one thread, one core, one device. Sets up, warms up, measures, winds down, reports.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fstream>
#include <optional>
#include <utility>

#include "host_app.h"
#include "link.h"
#include "load.h"
#include "options.h"
#include "report.h"

namespace postern::perf {
namespace {

constexpr double kSetupPatience = 10;  // seconds without a new connection
constexpr double kArpPatience = 5;     // seconds
constexpr double kLongTurn = 100e-6;   // seconds

volatile std::sig_atomic_t stopped = 0;

class Run {
 public:
  explicit Run(const Options& options) : options_(options), link_(options) {
    hz_ = static_cast<double>(rte_get_tsc_hz());
    if (!options.hosted.empty()) {
      host_.emplace(options.hosted, options.app_socket, options.local.v6);
    }
    if (options.mode == Mode::reflect) {
      load_ = make_reflector(options, link_);
      std::fputs("reflecting\n", stderr);
      return;
    }
    if (!link_.resolve_peer(kArpPatience)) {
      throw std::runtime_error(
          "the peer does not say its MAC address; is it up, and its address right?");
    }
    switch (options.mode) {
      case Mode::udp_echo:
      case Mode::udp_flood:
        load_ = make_udp_load(options, link_);
        break;
      case Mode::syn_flood:
        load_ = make_syn_flood(options, link_);
        break;
      default:
        load_ = make_tcp_load(options, link_);
        break;
    }
  }

  Result measure() {
    Result result;
    result.ticks_per_ns = hz_ * 1e-9;
    result.setup_seconds = set_up();
    turn_for(options_.warmup);
    const LinkCounters link_before = link_.counters();
    const HostCounters host_before = host_ ? host_->counters() : HostCounters{};
    load_->start_measuring();
    idle_ticks_ = 0;
    away_ = {};
    const Tsc start = rte_rdtsc();
    turn_for(options_.duration);
    const Tsc ticks = rte_rdtsc() - start;
    load_->stop_measuring();
    result.away = away_;
    drain_for(options_.drain);
    result.seconds = static_cast<double>(ticks) / hz_;
    result.idle_share = static_cast<double>(idle_ticks_) / static_cast<double>(ticks);
    result.load = load_->counters();
    result.latency = load_->latency().whole();
    result.typical = load_->latency().typical();
    result.link = difference(link_.counters(), link_before);
    if (host_) result.host = difference(host_->counters(), host_before);
    wind_down();
    return result;
  }

 private:
  static LinkCounters difference(LinkCounters a, const LinkCounters& b) {
    a.rx_packets -= b.rx_packets;
    a.rx_bytes -= b.rx_bytes;
    a.tx_packets -= b.tx_packets;
    a.tx_bytes -= b.tx_bytes;
    a.tx_dropped -= b.tx_dropped;
    return a;
  }

  static HostCounters difference(HostCounters a, const HostCounters& b) {
    a.bytes_in -= b.bytes_in;
    a.bytes_out -= b.bytes_out;
    a.datagrams_in -= b.datagrams_in;
    a.datagrams_out -= b.datagrams_out;
    a.errors -= b.errors;
    return a;
  }

  // One turn: what came, what is to be sent, the hosted application.
  void turn() {
    const Tsc now = rte_rdtsc();
    note_away(now - std::exchange(last_turn_, now));
    const uint64_t sent = link_.counters().tx_packets;
    bool idle = true;
    if (link_.room() > 4 * Link::kBurst) {
      const std::span<rte_mbuf*> frames = link_.receive();
      idle = frames.empty();
      load_->receive(frames, now);
      load_->generate(now);
    }
    link_.flush();
    if (host_ && host_->step() != 0) idle = false;
    if (idle && link_.counters().tx_packets == sent) idle_ticks_ += rte_rdtsc() - now;
  }

  void note_away(Tsc ticks) {
    if (static_cast<double>(ticks) < kLongTurn * hz_) return;
    ++away_.times;
    away_.ticks += ticks;
    away_.longest = std::max(away_.longest, ticks);
  }

  void turn_for(double seconds) {
    const Tsc end = rte_rdtsc() + static_cast<Tsc>(seconds * hz_);
    while (!stopped && rte_rdtsc() < end) turn();
  }

  double set_up() {
    const Tsc start = rte_rdtsc();
    std::string progress = load_->progress();
    Tsc progressed = start;
    for (unsigned turns = 0; !load_->ready() && !stopped; ++turns) {
      turn();
      if (turns % 65536 != 0) continue;
      if (load_->progress() != progress) {
        progress = load_->progress();
        progressed = rte_rdtsc();
      } else if (static_cast<double>(rte_rdtsc() - progressed) > kSetupPatience * hz_) {
        throw std::runtime_error("set-up came to a halt: " + progress);
      }
    }
    return static_cast<double>(rte_rdtsc() - start) / hz_;
  }

  // Counts what is still to come, without asking for more.
  void drain_for(double seconds) {
    const Tsc end = rte_rdtsc() + static_cast<Tsc>(seconds * hz_);
    for (Tsc now = rte_rdtsc(); !stopped && now < end; now = rte_rdtsc()) {
      load_->receive(link_.receive(), now);
      link_.flush();
      if (host_) host_->step();
    }
  }

  // Ends all connections and lets the link and the application run empty.
  void wind_down() {
    while (!load_->wind_down(rte_rdtsc())) {
      link_.flush();
      for (rte_mbuf* m : link_.receive()) rte_pktmbuf_free(m);
      if (host_) host_->step();
    }
    const Tsc end = rte_rdtsc() + static_cast<Tsc>(0.1 * hz_);
    while (rte_rdtsc() < end) {
      link_.flush();
      for (rte_mbuf* m : link_.receive()) rte_pktmbuf_free(m);
      if (host_) host_->step();
    }
  }

  const Options& options_;
  Link link_;
  std::optional<HostApp> host_;
  std::unique_ptr<Load> load_;
  double hz_ = 1;
  Tsc idle_ticks_ = 0;
  Tsc last_turn_ = rte_rdtsc();
  Away away_;
};

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  std::signal(SIGINT, [](int) { stopped = 1; });
  std::signal(SIGTERM, [](int) { stopped = 1; });
  const Result result = Run(options).measure();
  const std::string json = to_json(options, result);
  std::fputs(options.json ? json.c_str() : to_text(options, result).c_str(), stdout);
  if (!options.json_file.empty()) {
    std::ofstream file(options.json_file);
    file << json;
    if (!file.flush()) throw std::runtime_error("cannot write " + options.json_file);
  }
  return 0;
}

}  // namespace
}  // namespace postern::perf

int main(int argc, char** argv) {
  try {
    return postern::perf::run(argc, argv);
  } catch (const postern::perf::UsageError& error) {
    std::fprintf(stderr, "loadgen: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "loadgen: %s\n", error.what());
    return 1;
  }
}
