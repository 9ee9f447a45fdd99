// DCTCP: RFC 8257. Grows as NewReno does; ECN shrinks the window in proportion to how much was
// marked, loss halves it. For networks under one administration whose switches mark early.
#include "base/seq.h"
#include "tcp/algorithms.h"

namespace postern {

namespace {

constexpr uint32_t kOne = 1 << 20;  // alpha is a fraction of this
constexpr uint32_t kGainShift = 4;  // RFC 8257 4.2: g = 1/16

struct State {
  uint32_t acked;          // bytes acknowledged towards the next increase
  uint32_t alpha;          // RFC 8257 3.3 DCTCP.Alpha
  uint32_t window_end;     // DCTCP.WindowEnd
  uint32_t window_acked;   // DCTCP.BytesAcked
  uint32_t window_marked;  // DCTCP.BytesMarked
  bool begun;
};

State& state(const CongestionView& v) {
  static_assert(sizeof(State) <= sizeof(CongestionScratch));
  return *reinterpret_cast<State*>(v.scratch.bytes.data());
}

// RFC 5681 3.1, RFC 3465.
void on_ack(const CongestionView& v, uint32_t acked, uint32_t) {
  if (v.cwnd < v.ssthresh) {
    const uint32_t step = acked < v.ssthresh - v.cwnd ? acked : v.ssthresh - v.cwnd;
    v.cwnd += step;
    acked -= step;
    if (acked == 0) return;
  }
  State& s = state(v);
  s.acked += acked;
  if (s.acked >= v.cwnd) {
    s.acked -= v.cwnd;
    v.cwnd += v.mss;
  }
}

// RFC 8257 3.3: the moving average of the fraction of bytes that were marked, window by window.
void on_feedback(const CongestionView& v, uint32_t acked, bool marked) {
  State& s = state(v);
  if (!s.begun) {
    s.begun = true;
    s.alpha = kOne;
    s.window_end = v.snd_nxt;
  }
  s.window_acked += acked;
  if (marked) s.window_marked += acked;
  if (seq_le(v.snd_una, s.window_end)) return;
  const auto m = static_cast<uint32_t>(uint64_t{s.window_marked} * kOne / s.window_acked);
  s.alpha = s.alpha - (s.alpha >> kGainShift) + (m >> kGainShift);
  s.window_end = v.snd_nxt;
  s.window_acked = s.window_marked = 0;
}

uint32_t at_least_two(const CongestionView& v, uint32_t window) {
  return window > 2U * v.mss ? window : 2U * v.mss;
}

// RFC 8257 3.3 (9): cwnd (1 - alpha / 2).
uint32_t on_echo(const CongestionView& v) {
  State& s = state(v);
  s.acked = 0;
  const uint32_t alpha = s.begun ? s.alpha : kOne;
  return at_least_two(v, v.cwnd - static_cast<uint32_t>(uint64_t{v.cwnd} * alpha / (2 * kOne)));
}

// RFC 8257 3.5: loss, as any TCP.
uint32_t on_congestion(const CongestionView& v) {
  state(v).acked = 0;
  return at_least_two(v, (v.flight < v.cwnd ? v.flight : v.cwnd) / 2);
}

void nothing(const CongestionView&) {}
void on_restart(const CongestionView&, uint32_t) {}

}  // namespace

CongestionControl dctcp() {
  return CongestionControl{.name = "dctcp",
                           .on_ack = on_ack,
                           .on_congestion = on_congestion,
                           .on_timeout = nothing,
                           .on_undo = nothing,
                           .on_restart = on_restart,
                           .on_echo = on_echo,
                           .on_feedback = on_feedback,
                           .exact_ecn = true};
}

}  // namespace postern
