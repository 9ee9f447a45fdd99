// Socket options as applications name them. The values are those of enum shm_option; the data plane
// asserts that they agree.
#pragma once

#include <cstdint>

namespace postern {

enum class SocketOption : uint16_t {
  nodelay = 1,
  cork = 2,
  keepalive = 3,
  keepalive_idle = 4,      // seconds
  keepalive_interval = 5,  // seconds
  keepalive_probes = 6,
  user_timeout = 7,    // milliseconds, 0 off
  receive_buffer = 8,  // bytes
  send_buffer = 9,     // bytes
  max_segment = 10,    // bytes
  tos = 11,            // 0..255
  ttl = 12,            // 1..255
  quick_ack = 13,
  congestion = 14,
  defer_accept = 15,  // seconds
  mtu_discover = 16,  // IP_PMTUDISC_DONT, WANT, DO, PROBE; plus 1
  broadcast = 17,
  group_ttl = 18,        // 0..255
  group_loop = 19,       // 0 or 1
  group_others = 20,     // 0 or 1, IP_MULTICAST_ALL
  group_interface = 21,  // index plus 1, 0: the routes decide
  pacing_rate = 22,      // of TCP: bytes a second, 0 off
  receive_errors = 23,   // bits: 1 errors of IPv4, 2 of IPv6
};

}  // namespace postern
