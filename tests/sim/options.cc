// What a seed chooses: everything at once.
#include <algorithm>
#include <random>

#include "network.h"

namespace postern::sim {

Options random_options(uint64_t seed) {
  std::mt19937_64 random(seed * 0x9e3779b97f4a7c15ULL + 1);
  const auto pick = [&](auto... values) {
    using T = std::common_type_t<decltype(values)...>;
    const T list[] = {values...};
    return list[random() % sizeof...(values)];
  };
  const auto maybe = [&](uint32_t percent) { return random() % 100 < percent; };
  Options o;
  const double rate = pick(1e6, 10e6, 100e6, 1e9);
  const Duration delay = pick(Duration(50us), Duration(1ms), Duration(10ms), Duration(80ms));
  for (int side = 0; side < 2; ++side) {
    LinkOptions& link = o.link[side];
    link.rate = rate;
    link.delay = delay;
    link.queue = pick(6000U, 30000U, 100000U, 1000000U);
    if (maybe(40)) link.loss = pick(0.001, 0.01, 0.05, 0.12);
    if (maybe(20)) link.burst_loss = pick(0.001, 0.005);
    if (maybe(30)) {
      link.reorder = pick(0.001, 0.02, 0.2);
      link.reorder_delay = pick(Duration(200us), Duration(3ms), Duration(40ms));
    }
    if (maybe(20)) link.duplicate = pick(0.001, 0.02, 0.2);
    link.mss = static_cast<uint16_t>(pick(536, 1220, 1460, 1460, 8960));
    link.queue = std::max(link.queue, 2U * link.mss + 200U);
    if (maybe(25)) link.mark_above = link.queue / 3;

    AppOptions& app = o.app[side];
    app.bytes = pick(0U, 1U, 1000U, 20000U, 100000U, 300000U);
    app.write_size = pick(1U, 100U, 1448U, 8192U, 65536U);
    if (app.write_size == 1) app.bytes = std::min(app.bytes, 3000U);
    if (maybe(15)) app.write_interval = pick(Duration(1ms), Duration(50ms));
    if (app.write_interval.count() != 0) app.bytes = std::min(app.bytes, 1000 * app.write_size);
    app.send_buffer = pick(4096U, 65536U, 1048576U);
    if (maybe(25)) app.read_rate = pick(20000.0, 500000.0);
    if (maybe(20)) {
      app.stall_at = pick(Duration(0s), Duration(50ms), Duration(1s));
      app.stall_for = pick(Duration(300ms), Duration(5s), Duration(100s));
    }
    app.receive_memory = pick(3000U, 20000U, 65536U, 1048576U);
    app.nodelay = maybe(40);
    app.half_close = maybe(70);
    if (maybe(40)) app.burst = pick(4096U, 16384U, 65535U);

    TcpConfig& c = o.config[side];
    c.syn_retries = c.syn_ack_retries = 30;
    c.retries = 60;
    c.orphan_retries = 60;
    c.time_wait = Duration(300s);
    c.rto_max = Duration(60s);
    c.timestamps = maybe(75);
    c.sack = maybe(75);
    c.window_scaling = maybe(75);
    c.ecn = maybe(40);
    c.receive_buffer = pick(2000U, 20000U, 65535U, 1048576U, 8388608U);
    c.delayed_ack = pick(Duration(1ms), Duration(40ms), Duration(200ms));
    c.congestion = static_cast<uint8_t>(random() % kCongestionCount);
    c.initial_window = static_cast<uint16_t>(pick(1, 2, 10, 32));
  }
  if (!o.app[0].half_close && !o.app[1].half_close) o.app[0].half_close = true;
  o.pool = pick(4096U, 4096U, 4096U, 64U, 8U, 0U);
  o.simultaneous_open = maybe(5);
  if (maybe(15)) {
    o.strip_options = static_cast<uint8_t>(random() % 16);
  }
  for (LinkOptions& link : o.link) {
    if (!maybe(15) || link.mss <= 536) continue;
    link.mss_later = static_cast<uint16_t>(link.mss == 1220 ? 600 : 1000);
    link.mtu_at = pick(Duration(0s), Duration(20ms), Duration(500ms));
  }
  return o;
}

}  // namespace postern::sim
