// CUBIC: RFC 9438, in bytes and milliseconds.
#include "tcp/algorithms.h"
#include "tcp/slow_start.h"

namespace postern {

namespace {

// RFC 9438 4.6: beta 0.7; 5.1: C 0.4.

struct Avoidance {
  uint32_t epoch_us;  // when this congestion avoidance began
  uint32_t k_ms;      // until w_max is reached again
  uint32_t w_est;     // what Reno would have
  uint32_t carry;     // of the division in the last increase
};

enum class Phase : uint8_t { none, slow_start, avoidance };

struct State {
  uint32_t w_max;  // bytes
  Phase phase;     // which of the two holds
  union {
    Avoidance avoidance;
    HyStart hystart;
  };
};

State& state(const CongestionView& v) {
  static_assert(sizeof(State) <= sizeof(CongestionScratch));
  return *reinterpret_cast<State*>(v.scratch.bytes.data());
}

uint32_t cube_root(uint64_t value) {
  uint32_t root = 0;
  for (int shift = 20; shift >= 0; --shift) {
    const uint32_t candidate = root | 1U << shift;
    if (uint64_t{candidate} * candidate * candidate <= value) root = candidate;
  }
  return root;
}

// RFC 9438 4.2 (2): K = cbrt((w_max - cwnd_epoch) / C), here in milliseconds.
void begin_avoidance(const CongestionView& v, State& s) {
  if (s.w_max < v.cwnd) s.w_max = v.cwnd;
  const uint64_t milli_segments = uint64_t{s.w_max - v.cwnd} * 1000 / v.mss;
  s.phase = Phase::avoidance;
  // (w / 1000) / 0.4 s^3 = w * 2.5e6 ms^3
  s.avoidance = Avoidance{v.now_us, cube_root(milli_segments * 2'500'000), v.cwnd, 0};
}

// RFC 9438 4.2 (1) at t milliseconds: W(t) = C (t - K)^3 + w_max.
uint32_t window_at(const CongestionView& v, const State& s, uint32_t t_ms) {
  int64_t d = static_cast<int64_t>(t_ms) - static_cast<int64_t>(s.avoidance.k_ms);
  constexpr int64_t kLimit = 1'000'000;  // ms; keeps the cube within 64 bits
  d = d > kLimit ? kLimit : d < -kLimit ? -kLimit : d;
  const int64_t cube = d * d * d / 1'000'000;  // 1e-3 s^3
  const int64_t delta = cube * 4 / 10 * v.mss / 1000;
  const int64_t w = static_cast<int64_t>(s.w_max) + delta;
  return w < v.mss ? v.mss : w > INT32_MAX ? INT32_MAX : static_cast<uint32_t>(w);
}

void congestion_avoidance(const CongestionView& v, State& s, uint32_t acked) {
  if (s.phase != Phase::avoidance) begin_avoidance(v, s);
  Avoidance& a = s.avoidance;
  // RFC 9438 4.3: alpha = 3 (1 - beta) / (1 + beta) = 9/17, and 1 once w_max is regained.
  const uint64_t gain = uint64_t{acked} * v.mss / v.cwnd;
  a.w_est += static_cast<uint32_t>(a.w_est < s.w_max ? gain * 9 / 17 : gain);
  const uint32_t t_ms = (v.now_us - a.epoch_us) / 1000;
  if (window_at(v, s, t_ms) < a.w_est) {  // Reno-friendly region
    if (v.cwnd < a.w_est) v.cwnd = a.w_est;
    return;
  }
  uint32_t target = window_at(v, s, t_ms + v.srtt_us / 1000);
  const uint32_t most = v.cwnd + v.cwnd / 2;
  target = target < v.cwnd ? v.cwnd : target > most ? most : target;
  // (target - cwnd) / cwnd per acknowledged segment, counted in bytes.
  const uint64_t step = uint64_t{target - v.cwnd} * acked + a.carry;
  a.carry = static_cast<uint32_t>(step % v.cwnd);
  v.cwnd += static_cast<uint32_t>(step / v.cwnd);
}

void on_ack(const CongestionView& v, uint32_t acked, uint32_t rtt_us) {
  State& s = state(v);
  if (v.cwnd < v.ssthresh) {
    if (s.phase != Phase::slow_start) {
      s.phase = Phase::slow_start;
      s.hystart = HyStart{};
    }
    acked = slow_start(v, s.hystart, acked, rtt_us);
  }
  if (acked != 0) congestion_avoidance(v, s, acked);
}

// RFC 9438 4.6, and fast convergence (4.7).
uint32_t on_congestion(const CongestionView& v) {
  State& s = state(v);
  s.w_max = v.cwnd < s.w_max ? static_cast<uint32_t>(uint64_t{v.cwnd} * 17 / 20) : v.cwnd;
  s.phase = Phase::none;
  const uint32_t used = v.flight < v.cwnd ? v.flight : v.cwnd;
  const auto reduced = static_cast<uint32_t>(uint64_t{used} * 7 / 10);
  return reduced > 2U * v.mss ? reduced : 2U * v.mss;
}

void on_timeout(const CongestionView& v) { state(v).phase = Phase::none; }

void on_undo(const CongestionView& v) {
  State& s = state(v);
  if (s.w_max < v.cwnd) s.w_max = v.cwnd;
  s.phase = Phase::none;
}

// RFC 9438 4.8: time without data in flight does not count.
void on_restart(const CongestionView& v, uint32_t idle_us) {
  State& s = state(v);
  if (s.phase == Phase::avoidance) s.avoidance.epoch_us += idle_us;
}

}  // namespace

CongestionControl cubic() {
  return CongestionControl{"cubic", on_ack, on_congestion, on_timeout, on_undo, on_restart};
}

}  // namespace postern
