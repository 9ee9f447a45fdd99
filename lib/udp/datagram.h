// A datagram as it lies in the receive stream of a UDP socket: this header, the payload, padding to
// a multiple of 8. The shared-memory layout has the same struct (shm_datagram); the data plane
// asserts that they agree.
#pragma once

#include <cstdint>

#include "base/address.h"

namespace postern {

struct DatagramRecord {
  uint32_t length = 0;  // payload bytes
  uint16_t port = 0;    // the peer's, host order
  uint8_t flags = 0;
  uint8_t tos = 0;
  IpAddress address;  // the peer's
  IpAddress local;    // destination address
  uint8_t ttl = 0;    // as arrived
  uint8_t is_v6 = 0;
  uint16_t interface = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(DatagramRecord) == 48);

// Bytes that a datagram of `payload` bytes takes in a stream.
constexpr uint32_t datagram_record_size(uint32_t payload) {
  return (static_cast<uint32_t>(sizeof(DatagramRecord)) + payload + 7) & ~uint32_t{7};
}

inline constexpr uint32_t kMaxUdpPayload4 = 65507;  // 65535 - 20 - 8

}  // namespace postern
