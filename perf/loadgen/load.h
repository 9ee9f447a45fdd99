// What all kinds of load have in common. A load is driven by turns: it is given the frames that
// came, then asked to generate more, and never waits.
#pragma once

#include <rte_cycles.h>
#include <rte_mbuf.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "latency.h"
#include "link.h"
#include "options.h"

namespace postern::perf {

using Tsc = uint64_t;

// Counted since start_measuring().
struct LoadCounters {
  uint64_t completed = 0;       // requests, cycles or datagrams that came back
  uint64_t sent = 0;            // requests or datagrams sent
  uint64_t bytes_sent = 0;      // payload, acknowledged for TCP
  uint64_t bytes_received = 0;  // payload
  uint64_t lost = 0;            // datagrams given up
  uint64_t retransmits = 0;     // segments
  uint64_t resets = 0;          // connections reset by the peer
  uint64_t mismatches = 0;      // answers whose data was wrong
  uint64_t bad_frames = 0;      // neither for us nor well-formed, or a wrong checksum
};

class Load {
 public:
  virtual ~Load() = default;

  // Takes the frames over. `now`: rte_rdtsc() of this turn.
  virtual void receive(std::span<rte_mbuf*> frames, Tsc now) = 0;
  virtual void generate(Tsc now) = 0;

  // True when set-up (opening of connections) is over.
  virtual bool ready() const { return true; }
  // What is missing, for the message when set-up does not end.
  virtual std::string progress() const { return ""; }
  // One turn of winding down; true when there is nothing more to do.
  virtual bool wind_down(Tsc) { return true; }

  void start_measuring() {
    counters_ = {};
    latency_.start();
    measuring_ = true;
  }
  void stop_measuring() {
    measuring_ = false;
    latency_.stop();
  }

  const LoadCounters& counters() const { return counters_; }
  const Latency& latency() const { return latency_; }

 protected:
  void complete(Tsc due, Tsc now) noexcept {
    ++counters_.completed;
    if (measuring_) latency_.record(due, now);
  }

  LoadCounters counters_;
  Latency latency_;
  bool measuring_ = false;
};

// Hands out moments at a fixed rate. Those that could not be used stay due, so that latency counts
// from the moment at which a request should have been sent.
class Pace {
 public:
  explicit Pace(double rate)
      : period_(rate > 0 ? static_cast<double>(rte_get_tsc_hz()) / rate : 0) {}

  bool limited() const noexcept { return period_ != 0; }
  void start(Tsc now) noexcept { next_ = static_cast<double>(now); }
  bool due(Tsc now) noexcept {
    if (next_ == 0) start(now);
    return next_ <= static_cast<double>(now);
  }
  Tsc take() noexcept {
    const Tsc due = static_cast<Tsc>(next_);
    next_ += period_;
    return due;
  }

 private:
  double period_;
  double next_ = 0;
};

std::unique_ptr<Load> make_udp_load(const Options& options, Link& link);
std::unique_ptr<Load> make_tcp_load(const Options& options, Link& link);
std::unique_ptr<Load> make_syn_flood(const Options& options, Link& link);
std::unique_ptr<Load> make_reflector(const Options& options, Link& link);

}  // namespace postern::perf
