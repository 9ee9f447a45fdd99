// Congestion control behind a table. A new algorithm is one file and one line in congestion.cc.
// All windows are bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postern {

// What an algorithm keeps per connection besides cwnd and ssthresh. Zero when the connection opens.
struct CongestionScratch {
  alignas(4) std::array<std::byte, 28> bytes{};
};

// The connection as an algorithm sees it during one call.
struct CongestionView {
  uint32_t& cwnd;
  uint32_t& ssthresh;
  CongestionScratch& scratch;
  uint16_t mss;
  uint32_t now_us;   // wraps
  uint32_t srtt_us;  // 0: no sample yet
  uint32_t min_rtt_us;
  uint32_t snd_una;
  uint32_t snd_nxt;
  uint32_t flight;  // bytes outstanding before the acknowledgment
  bool paced;       // sending is spread over time
};

struct CongestionControl {
  std::string_view name;
  // New data was acknowledged outside recovery while the window was the limit. rtt_us 0: no sample.
  void (*on_ack)(const CongestionView& view, uint32_t acked, uint32_t rtt_us);
  // Loss, and ECN without on_echo: returns the new ssthresh. cwnd is then the business of recovery.
  uint32_t (*on_congestion)(const CongestionView& view);
  // RFC 6298 5: after on_congestion, the timer expired.
  void (*on_timeout)(const CongestionView& view);
  // The last reduction was undone (cwnd and ssthresh are restored already).
  void (*on_undo)(const CongestionView& view);
  // Sending starts again after `idle_us` without data in flight.
  void (*on_restart)(const CongestionView& view, uint32_t idle_us);
  // ECN, once a window at most: returns the new ssthresh, to which cwnd falls. Null: on_congestion.
  uint32_t (*on_echo)(const CongestionView& view) = nullptr;
  // With ECN in use, new data was acknowledged, with or without ECE. Null: nothing to do.
  void (*on_feedback)(const CongestionView& view, uint32_t acked, bool marked) = nullptr;
  // Asks for ECN whatever the configuration says, and echoes each CE once (RFC 8257 3.2).
  bool exact_ecn = false;
};

// As `tcp.congestion` and TCP_CONGESTION name them. Index 0 is the default.
inline constexpr std::array<std::string_view, 3> kCongestionNames{"cubic", "newreno", "dctcp"};
inline constexpr size_t kCongestionCount = kCongestionNames.size();
// In the same order.
extern const std::array<CongestionControl, kCongestionCount> kCongestion;

// Index of a name, or kCongestionCount.
[[nodiscard]] size_t find_congestion(std::string_view name);

// RFC 6928: min(10 MSS, max(2 MSS, 14600)) for segments = 10.
[[nodiscard]] constexpr uint32_t initial_window(uint16_t mss, uint16_t segments) {
  const uint32_t wanted = uint32_t{segments} * mss;
  const uint32_t limit = segments * 1460U > 2U * mss ? segments * 1460U : 2U * mss;
  return wanted < limit ? wanted : limit;
}

}  // namespace postern
