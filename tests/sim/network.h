// Two TCP engines and a link, in virtual time. Everything follows from a seed.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "support/window_rule.h"
#include "tcp/connection.h"

namespace postern::sim {

struct LinkOptions {
  double rate = 100e6;        // bits per second
  Duration delay = 5ms;       // one way
  uint32_t queue = 64000;     // bytes, drop-tail
  uint32_t mark_above = 0;    // bytes: ECN-capable packets are marked beyond this, 0: never
  double loss = 0;            // each packet
  double burst_loss = 0;      // probability that a burst of losses begins
  uint32_t burst_length = 8;  // packets at most
  Duration burst_duration = 500ms;
  double reorder = 0;
  Duration reorder_delay = 3ms;
  double duplicate = 0;
  uint16_t mss = 1460;
  // From mtu_at on the path carries packets of mss_later and their headers only; longer ones are
  // dropped, and a router says so (RFC 1191). 0: never.
  uint16_t mss_later = 0;
  Duration mtu_at{};
};

// What a middlebox takes off the SYNs of both directions. Bits.
namespace strip {
inline constexpr uint8_t timestamps = 1, sack = 2, window_scale = 4, mss = 8;
}

struct AppOptions {
  uint32_t bytes = 100'000;  // to send
  uint32_t write_size = 8192;
  Duration write_interval{};  // between writes, zero: as fast as there is room
  uint32_t send_buffer = 256 * 1024;
  double read_rate = 0;  // bytes per second, 0: at once
  Duration stall_at{};   // does not read from here
  Duration stall_for{};
  uint32_t receive_memory = 1 << 20;
  bool nodelay = false;
  bool half_close = true;  // sends FIN as soon as all is written; else only after the peer's
  uint32_t burst = 0;      // set_max_segment_burst, 0: not called
};

// What becomes of a packet that does not simply arrive.
struct Fate {
  bool lost = false;
  bool twice = false;
  Duration late{};  // behind its time
};
// By the number of the packet among all that this side sends, from 0.
struct Fates {
  std::map<uint64_t, Fate> of[2];
};

struct Options {
  LinkOptions link[2];  // 0: from the first to the second
  AppOptions app[2];
  TcpConfig config[2];
  uint32_t pool = 4096;
  bool simultaneous_open = false;
  uint8_t strip_options = 0;
  Duration limit = 7200s;  // virtual
  // Exactly this happens on the links, instead of loss, burst_loss, reorder and duplicate.
  std::optional<Fates> fates;
  // Whether everything happens as tests/script plays it: what a call or a packet causes is sent
  // before the next one, timers come before packets of the same instant, sequence numbers begin
  // where they begin there, and nothing is random.
  bool scripted = false;
};

struct Result {
  std::string failure;  // empty: all properties hold
  Duration halfway{};   // until half of the bytes were delivered
  Duration elapsed{};   // until the last byte was delivered
  uint64_t segments = 0;
  uint64_t retransmits = 0;
  uint64_t timeouts = 0;
  uint64_t timer_calls = 0;
  uint64_t delivered[2] = {0, 0};
};

// Sees what happens while it happens, so that it is known even if the engine aborts.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void fate(int side, uint64_t number, const Fate& fate) = 0;
  // At `side`: a socket call in the syntax of tests/script, a segment, an ICMP message about one.
  virtual void call(int side, Duration at, const std::string& text) = 0;
  virtual void segment(int side, Duration at, const TcpSegment& segment, bool outbound) = 0;
  virtual void too_long(int side, Duration at, const TcpSegment& quoted, uint16_t mss) = 0;
};

class Network {
 public:
  Network(uint64_t seed, const Options& options);
  Result run();
  // Prints each packet as tcpdump would, to stdout.
  void trace(bool on) { trace_ = on; }
  void observe(Observer* observer) { observer_ = observer; }
  [[nodiscard]] Duration running() const { return now_.time_since_epoch() - Duration(1s); }

 private:
  struct Packet {
    TcpSegment segment;
    int to = 0;
    uint16_t icmp_mss = 0;  // not a segment: a router's word about one that was too long
  };
  struct End {
    TcpConfig config;
    AppOptions app;
    Counters counters;
    std::unique_ptr<TcpRangePool> pool;
    std::unique_ptr<TcpConnection> tcp;
    bool open = false;
    bool finished = false;
    bool closed = false;  // on_close was called
    bool shut = false;    // on_shutdown_write was called
    bool peer_fin = false;
    uint32_t written = 0;
    uint32_t acked = 0;
    uint32_t read = 0;
    uint32_t tail = 0;
    uint32_t stored_to = 0;  // furthest byte stored
    std::vector<uint8_t> bytes;
    std::vector<bool> stored;
    Time next_write{};
    Time next_read{};
    Time link_free{};
    uint64_t carried = 0;  // packets
    uint32_t burst_left = 0;
    Time burst_end{};
  };

  TcpContext context(int side);
  TcpContext opening(int side);
  void called(int side, const std::string& text);
  void start(int side);
  void accept(int side, const TcpSegment& syn);
  void timers();
  void events(int side);
  void read(int side);
  void write(int side);
  void close(int side);
  void step(int side);
  void deliver(const Packet& packet);
  void application(int side);
  void transmit(int side);
  void carry(int side, const TcpSegment& segment);
  void put(int side, const TcpSegment& segment, Time at);
  Fate fate(int side, uint64_t number);
  Fate draw_fate(int side);
  bool too_long(int side, const TcpSegment& segment);
  void store(int side, const TcpSegment& segment, const TcpInput& input);
  void check_wire(int side, const TcpSegment& segment);
  void fail(const std::string& what);
  void print(int side, const TcpSegment& segment, const char* what) const;
  Time next_event() const;
  double chance() { return std::uniform_real_distribution<double>(0, 1)(wire_random_); }
  static uint8_t content(int side, uint32_t position) {
    return static_cast<uint8_t>((position * 2654435761U >> 13) + side);
  }

  std::mt19937_64 random_;       // the engines' words
  std::mt19937_64 wire_random_;  // what the links do
  Options options_;
  End ends_[2];
  test::WindowRule window_rule_;
  Time now_{Duration(1s)};
  std::multimap<Time, Packet> wire_;
  Result result_;
  bool trace_ = false;
  Observer* observer_ = nullptr;
};

// Options that the seed chooses: everything at once.
Options random_options(uint64_t seed);

}  // namespace postern::sim
