// What the sender of an IPv6 packet is to be told when its headers stop it from being understood:
// RFC 8200 4, RFC 4443 3.4. A second walk, for packets that are thrown away anyway.
#pragma once

#include <cstdint>

#include "wire/packet.h"

namespace postern::wire {

// An ICMPv6 parameter problem.
struct Problem {
  bool told = false;  // false: nothing is said
  uint8_t code = 0;
  uint32_t pointer = 0;  // from the IPv6 header
};

// Of a packet that parse() dropped as ip6_bad_extension, or whose protocol nobody here handles.
// Looks at the headers only: whether the packet is ours, and its source one to answer, the caller
// knows. Nothing is said about ICMPv6 errors (RFC 4443 2.4 e.1), and of packets for a group only
// what an option demands (e.3). Headers that are cut or too many are not answered: there is no
// field to name.
[[nodiscard]] Problem ipv6_problem(const RxPacket& packet, const ParsedPacket& parsed) noexcept;

}  // namespace postern::wire
