#include "tcp/slow_start.h"

#include "base/seq.h"

namespace postern {

namespace {

// RFC 9406 4.3.
constexpr uint32_t kMinRttThresh = 4000;   // microseconds
constexpr uint32_t kMaxRttThresh = 16000;  // microseconds
constexpr uint32_t kMinRttDivisor = 8;
constexpr uint32_t kRttSamples = 8;
constexpr uint32_t kCssGrowthDivisor = 4;
constexpr uint8_t kCssRounds = 5;
constexpr uint32_t kAckLimit = 8;  // L: segments that one ACK counts for, without pacing

void begin_round(const CongestionView& v, HyStart& h) {
  h.round_end = v.snd_nxt;
  h.last_rtt = h.current_rtt;
  h.current_rtt = 0;
  h.samples = 0;
  if (h.css_rtt != 0 && ++h.css_rounds >= kCssRounds) v.ssthresh = v.cwnd;
}

// RFC 9406 4.2.
void watch_round_trip(HyStart& h, uint32_t rtt_us) {
  if (h.current_rtt == 0 || rtt_us < h.current_rtt) h.current_rtt = rtt_us;
  if (h.samples < 255) ++h.samples;
  if (h.samples < kRttSamples || h.last_rtt == 0) return;
  uint32_t thresh = h.last_rtt / kMinRttDivisor;
  thresh = thresh < kMinRttThresh ? kMinRttThresh : thresh;
  thresh = thresh > kMaxRttThresh ? kMaxRttThresh : thresh;
  if (h.css_rtt == 0 && h.current_rtt >= h.last_rtt + thresh) {
    h.css_rtt = h.current_rtt;
    h.css_rounds = 0;
  } else if (h.css_rtt != 0 && h.current_rtt < h.css_rtt) {
    h.css_rtt = 0;  // the growth was a false alarm
  }
}

}  // namespace

uint32_t slow_start(const CongestionView& v, HyStart& h, uint32_t acked, uint32_t rtt_us) {
  uint32_t step = acked;
  if (!v.paced && step > kAckLimit * v.mss) step = kAckLimit * v.mss;
  if (v.ssthresh == UINT32_MAX) {  // RFC 9406 4.3: the initial slow start only
    if (!h.running) {
      h = HyStart{};
      h.running = true;
      h.round_end = v.snd_nxt;
    } else if (seq_ge(v.snd_una, h.round_end)) {
      begin_round(v, h);
      if (v.cwnd >= v.ssthresh) return acked;
    }
    if (rtt_us != 0) watch_round_trip(h, rtt_us);
    if (h.css_rtt != 0) step /= kCssGrowthDivisor;
  } else if (step >= v.ssthresh - v.cwnd) {
    step = v.ssthresh - v.cwnd;
    v.cwnd += step;
    return acked - step;
  }
  v.cwnd += step;
  return 0;
}

}  // namespace postern
