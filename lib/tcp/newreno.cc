// NewReno: RFC 5681 3.1 with the byte counting of RFC 3465. Recovery (RFC 6582) is the engine's.
#include "tcp/algorithms.h"
#include "tcp/slow_start.h"

namespace postern {

namespace {

struct State {
  uint32_t acked;  // bytes acknowledged towards the next increase
  HyStart hystart;
};

State& state(const CongestionView& v) {
  static_assert(sizeof(State) <= sizeof(CongestionScratch));
  return *reinterpret_cast<State*>(v.scratch.bytes.data());
}

void on_ack(const CongestionView& v, uint32_t acked, uint32_t rtt_us) {
  State& s = state(v);
  if (v.cwnd < v.ssthresh) {
    acked = slow_start(v, s.hystart, acked, rtt_us);
    if (acked == 0) return;
  }
  s.acked += acked;
  if (s.acked >= v.cwnd) {  // one MSS per window
    s.acked -= v.cwnd;
    v.cwnd += v.mss;
  }
}

uint32_t on_congestion(const CongestionView& v) {
  state(v) = State{};
  const uint32_t half = v.flight / 2;
  return half > 2U * v.mss ? half : 2U * v.mss;
}

void nothing(const CongestionView&) {}
void on_restart(const CongestionView&, uint32_t) {}

}  // namespace

CongestionControl newreno() {
  return CongestionControl{"newreno", on_ack, on_congestion, nothing, nothing, on_restart};
}

}  // namespace postern
