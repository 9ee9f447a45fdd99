// A TCP segment as a value, between the bytes of the wire and the TCP engine.
#pragma once

#include <array>
#include <cstdint>

#include "wire/packet.h"  // tcp_flag

namespace postern {

struct SackBlock {
  uint32_t left = 0;   // first sequence number of the block
  uint32_t right = 0;  // one past the last
};

// A segment in host order, in either direction. Parsed options are values with a presence flag.
struct TcpSegment {
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint32_t length = 0;  // payload bytes
  // Outgoing: stream position (bytes the application queued since the connection opened, modulo
  // 2^32) of the first payload byte; the stack turns it into memory.
  uint32_t tx_position = 0;
  uint16_t window = 0;  // as on the wire, not scaled
  uint16_t urgent = 0;
  uint8_t flags = 0;  // tcp_flag
  uint8_t ecn = 0;    // the two ECN bits of the IP header
  bool has_mss = false;
  bool has_window_scale = false;
  bool sack_permitted = false;
  bool has_timestamps = false;
  uint8_t window_scale = 0;  // 0..14
  uint8_t sack_count = 0;
  uint16_t mss = 0;
  // Outgoing: 0, or the size at which the stack (or the device) cuts this segment up.
  uint16_t gso_size = 0;
  bool retransmission = false;  // outgoing
  uint32_t ts_value = 0;
  uint32_t ts_echo = 0;
  std::array<SackBlock, 4> sack{};
};

}  // namespace postern
