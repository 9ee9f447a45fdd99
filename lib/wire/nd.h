// Neighbor solicitations and advertisements as values (RFC 4861 4.3, 4.4).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/drop.h"
#include "wire/headers.h"
#include "wire/packet.h"

namespace postern::wire {

struct NdMessage {
  uint8_t type = icmp6::neighbor_solicitation;  // or neighbor_advertisement
  // Flags of an advertisement.
  bool router = false;
  bool solicited = false;
  bool override_known = false;
  // The source's in a solicitation, the target's in an advertisement.
  bool has_mac = false;
  IpAddress target;
  MacAddress mac;
};

inline constexpr uint8_t kNdHopLimit = 255;
inline constexpr size_t kMaxNdMessage = 32;

[[nodiscard]] constexpr bool is_neighbor_message(uint8_t icmp6_type) {
  return icmp6_type == icmp6::neighbor_solicitation || icmp6_type == icmp6::neighbor_advertisement;
}

// A packet that parse() returned with kind icmp and a type that is_neighbor_message(). All checks
// of RFC 4861 7.1.1 and 7.1.2; unknown options are skipped.
[[nodiscard]] Drop read_nd(const RxPacket& packet, const ParsedPacket& parsed,
                           NdMessage* out) noexcept;

// ICMP header, target and option: 24 or 32 bytes, checksum zero.
size_t write_nd(std::byte* out, const NdMessage& message) noexcept;

}  // namespace postern::wire
