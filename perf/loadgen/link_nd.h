// Message types of ICMPv6 that the link knows (RFC 4861 4.3, 4.4).
#pragma once

#include <cstdint>

namespace postern::perf {

inline constexpr uint8_t kNeighborSolicitation = 135;
inline constexpr uint8_t kNeighborAdvertisement = 136;

}  // namespace postern::perf
