// What the pure TCP engine costs in instructions: one connection and a peer that is made up, each
// call of the engine counted by itself. Run by report.py under callgrind; time is virtual, so that
// two runs of one program count the same.
//
//   bench_tcp [SCENARIO...]     prints "SCENARIO UNITS" each, UNITS what to divide by
#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "support/tcp_peer.h"

namespace postern::perf {
namespace {

using namespace tcp_flag;

constexpr uint32_t kIss = 1'000'000;
constexpr uint32_t kIrs = 2'000'000;
constexpr uint32_t kMss = 1448;  // with timestamps
constexpr uint32_t kRounds = 2000;
constexpr Duration kRoundTrip = 10ms;

// An established connection with SACK, timestamps and scaling, whose peer acknowledges what it is
// told to.
class Bench : public test::TcpPeer {
 public:
  explicit Bench(uint32_t burst = 0) : TcpPeer({kIss, kIrs}, 4096) {
    config.initial_window = 64;
    if (burst != 0) tcp.set_max_segment_burst(burst);
    tcp.open_passive(context(), full_syn(), 1460);
    send();
    now += kRoundTrip;
    receive(timed(ack, 1, 1));
    (void)tcp.set_option(context(), TcpOption::quick_ack, 0);
    send();
  }

  void receive(const TcpSegment& s, bool counted = false) {
    TcpContext& ctx = context();
    if (counted) CALLGRIND_TOGGLE_COLLECT;
    const TcpInput in = tcp.on_segment(ctx, s);
    if (counted) CALLGRIND_TOGGLE_COLLECT;
    if (in.accept_data) stored_ += in.length;
    (void)tcp.take_events();
  }
  // Calls of next_segment that had something, and bytes.
  uint32_t send(bool counted = false) {
    uint32_t calls = 0;
    for (;; ++calls) {
      TcpContext& ctx = context();
      if (counted) CALLGRIND_TOGGLE_COLLECT;
      const bool more = tcp.next_segment(ctx, out);
      if (counted) CALLGRIND_TOGGLE_COLLECT;
      if (!more) return calls;
      if (out.length != 0) sent = out.tx_position + out.length;
    }
  }
  void timer(bool counted) {
    TcpContext& ctx = context();
    if (counted) CALLGRIND_TOGGLE_COLLECT;
    tcp.on_timer(ctx);
    if (counted) CALLGRIND_TOGGLE_COLLECT;
  }
  void write(uint32_t bytes) {
    tcp.on_send(context(), bytes, false);
    written += bytes;
  }
  void read() { tcp.on_consumed(context(), tcp.rx_tail()); }

  TcpConnection tcp;
  TcpSegment out;
  uint32_t written = 0;
  uint32_t sent = 0;

 private:
  uint64_t stored_ = 0;
};

// Data in order: on_segment alone, or the ACK of every second segment alone.
uint32_t receive_in_order(bool acks) {
  Bench b;
  uint32_t calls = 0;
  for (uint32_t i = 0; i < kRounds; ++i) {
    b.now += 10us;
    b.receive(b.timed(ack, 1 + i * kMss, 1, kMss), !acks);
    if (i % 2 == 1) {
      calls += b.send(acks);
      b.read();
    }
  }
  return acks ? calls : kRounds;
}
uint32_t receive_data() { return receive_in_order(false); }
uint32_t send_ack() { return receive_in_order(true); }

// A bulk sender: what it sends, or the ACKs of two segments each.
uint32_t bulk(bool acks, uint32_t burst) {
  Bench b(burst);
  uint32_t units = 0;
  b.write(200 * kMss);
  for (uint32_t i = 0; i < kRounds; ++i) {
    b.now += 20us;
    b.write(2 * kMss);
    const uint32_t calls = b.send(!acks);
    if (!acks) units += calls;
    b.now += 20us;
    b.receive(b.timed(ack, 1, 1 + (i + 1) * 2 * kMss), acks);
    if (acks) ++units;
  }
  return units;
}
uint32_t receive_ack() { return bulk(true, 0); }
uint32_t send_data() { return bulk(false, 0); }

// Segments of many MSS, as for TSO: each call is one.
uint32_t send_burst() {
  Bench b(64512);
  uint32_t units = 0;
  for (uint32_t i = 0; i < kRounds; ++i) {
    b.write(44 * kMss);
    units += b.send(true);
    b.now += kRoundTrip;
    b.receive(b.timed(ack, 1, 1 + b.sent));
  }
  return units;
}

// One segment in sixteen is missing until the others have come: those, behind the gap.
uint32_t out_of_order() {
  Bench b;
  uint32_t units = 0;
  uint32_t at = 1;
  for (uint32_t i = 0; i < kRounds / 16; ++i, at += 16 * kMss) {
    for (uint32_t k = 1; k < 16; ++k, ++units) {
      b.now += 10us;
      b.receive(b.timed(ack, at + k * kMss, 1, kMss), true);
      b.send();
    }
    b.receive(b.timed(ack, at, 1, kMss));
    b.send();
    b.read();
  }
  return units;
}

// The first of sixteen is lost: each ACK has a SACK block that grew by a segment. The
// retransmission is counted by itself.
uint32_t recovery(bool acks) {
  Bench b;
  uint32_t units = 0;
  for (uint32_t i = 0; i < kRounds / 16; ++i) {
    b.write(16 * kMss);
    b.send();
    const uint32_t begin = 1 + b.sent - 16 * kMss;
    b.now += kRoundTrip;
    bool resent = false;
    for (uint32_t k = 1; k < 16; ++k) {
      b.now += 10us;
      TcpSegment s = b.timed(ack, 1, begin);
      s.sack_count = 1;
      s.sack[0] = SackBlock{kIss + begin + kMss, kIss + begin + (k + 1) * kMss};
      b.receive(s, acks);
      if (acks) ++units;
      const bool now_lost = !resent && k >= 3;
      const uint32_t calls = b.send(!acks && now_lost);
      if (now_lost && calls != 0) {
        resent = true;
        if (!acks) units += calls;
      }
    }
    b.now += kRoundTrip;
    b.receive(b.timed(ack, 1, 1 + b.sent));
    b.send();
    for (int k = 0; k < 20; ++k) {  // cwnd grows back
      b.write(16 * kMss);
      b.send();
      b.now += kRoundTrip;
      b.receive(b.timed(ack, 1, 1 + b.sent));
    }
  }
  return units;
}
uint32_t receive_sack() { return recovery(true); }
uint32_t retransmit() { return recovery(false); }

// The delayed ACK falls due.
uint32_t ack_timer() {
  Bench b;
  for (uint32_t i = 0; i < kRounds; ++i) {
    b.receive(b.timed(ack, 1 + i * 100, 1, 100));
    b.send();
    b.now += 40ms;
    b.timer(true);
    b.send();
    b.read();
  }
  return kRounds;
}

// Ten segments in flight time out; all are acknowledged afterwards.
uint32_t retransmission_timer() {
  Bench b;
  uint32_t units = 0;
  for (uint32_t i = 0; i < kRounds / 10; ++i) {
    b.write(10 * kMss);
    b.send();
    b.now = b.tcp.next_deadline();  // the loss probe
    b.timer(false);
    b.send();
    b.now = b.tcp.next_deadline();
    b.timer(true);
    ++units;
    b.send();
    b.now += kRoundTrip;
    b.receive(b.timed(ack, 1, 1 + b.written));
    b.send();
    for (int k = 0; k < 10; ++k) {
      b.write(10 * kMss);
      while (b.sent != b.written) {
        b.send();
        b.now += kRoundTrip;
        b.receive(b.timed(ack, 1, 1 + b.sent));
      }
    }
  }
  return units;
}

// on_timer before anything is due, as a coarse timer wheel does.
uint32_t early_timer() {
  Bench b;
  b.write(kMss);
  b.send();
  for (uint32_t i = 0; i < kRounds; ++i) b.timer(true);
  return kRounds;
}

struct Scenario {
  const char* name;
  uint32_t (*run)();
};
constexpr Scenario kScenarios[] = {
    {"receive_data", receive_data}, {"send_ack", send_ack},
    {"receive_ack", receive_ack},   {"send_data", send_data},
    {"send_burst", send_burst},     {"out_of_order", out_of_order},
    {"receive_sack", receive_sack}, {"retransmit", retransmit},
    {"ack_timer", ack_timer},       {"retransmission_timer", retransmission_timer},
    {"early_timer", early_timer},
};

bool wanted(const char* name, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == name) return true;
  }
  return argc == 1;
}

}  // namespace
}  // namespace postern::perf

int main(int argc, char** argv) {
  for (const postern::perf::Scenario& scenario : postern::perf::kScenarios) {
    if (!postern::perf::wanted(scenario.name, argc, argv)) continue;
    CALLGRIND_ZERO_STATS;
    const uint32_t units = scenario.run();
    CALLGRIND_DUMP_STATS_AT(scenario.name);
    std::printf("%s %u\n", scenario.name, units);
  }
}
