// What routers say of the link and of themselves, as values: router advertisements (RFC 4861 4.2),
// redirects (4.5), and the question for the former (4.1).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/drop.h"
#include "wire/headers.h"
#include "wire/packet.h"

namespace postern::wire {

// RFC 4861 4.6.2. Lifetimes in seconds, UINT32_MAX for ever.
struct PrefixOption {
  Prefix prefix;
  bool on_link = false;
  bool autonomous = false;
  uint32_t valid = 0;
  uint32_t preferred = 0;
};

struct RouterAdvertisement {
  static constexpr size_t kMaxPrefixes = 16;  // further ones are not read
  uint8_t hop_limit = 0;                      // 0: not said
  // RFC 4191 2.1: 1 high, 0 medium, -1 low.
  int8_t preference = 0;
  uint16_t lifetime = 0;      // seconds; 0: it is no default router
  uint32_t reachable_ms = 0;  // 0: not said
  uint32_t retrans_ms = 0;    // 0: not said
  uint32_t mtu = 0;           // 0: not said
  bool has_mac = false;
  MacAddress mac;
  std::array<PrefixOption, kMaxPrefixes> prefixes;
  uint8_t prefix_count = 0;
};

// A packet that parse() returned with kind icmp and type router_advertisement. All checks of RFC
// 4861 6.1.2; options that are not known, or not of their length, are skipped.
[[nodiscard]] Drop read_advertisement(const RxPacket& packet, const ParsedPacket& parsed,
                                      RouterAdvertisement* out) noexcept;

struct Redirect {
  IpAddress destination;
  IpAddress target;      // the better router, or the destination itself, which is on the link then
  bool has_mac = false;  // of the target
  MacAddress mac;
};

// The same for type redirect: RFC 4861 8.1, but for what only the host knows: whether the source is
// the router that the destination's packets take.
[[nodiscard]] Drop read_redirect(const RxPacket& packet, const ParsedPacket& parsed,
                                 Redirect* out) noexcept;

// ICMP header and, with a MAC, an option: 8 or 16 bytes, checksum zero. From "::" it has none.
inline constexpr size_t kMaxRouterSolicitation = 16;
size_t write_router_solicitation(std::byte* out, const MacAddress* mac) noexcept;

}  // namespace postern::wire
