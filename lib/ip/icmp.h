// ICMP errors as errno values: RFC 1122 3.2.2, RFC 5461, and the mapping that Linux has made usual.
#pragma once

#include <cstdint>

#include "base/address.h"

namespace postern {

// errno of an ICMP error (type, code), 0 if the message is not an error that concerns a socket.
// Fragmentation needed and packet too big give EMSGSIZE.
[[nodiscard]] int icmp4_errno(uint8_t type, uint8_t code) noexcept;
[[nodiscard]] int icmp6_errno(uint8_t type, uint8_t code) noexcept;

// RFC 1122 3.2.2: no ICMP error is sent about a packet to or from such an address.
[[nodiscard]] inline bool icmp_error_allowed(const IpAddress& source,
                                             const IpAddress& destination) noexcept {
  return !source.is_any() && !source.is_multicast() && !destination.is_multicast();
}

// RFC 1191 5: the largest plateau below `length`, for routers that do not name the MTU.
[[nodiscard]] uint32_t mtu_plateau(uint32_t length) noexcept;

}  // namespace postern
