// Addresses that IPv6 derives from others: groups (RFC 4291 2.7.1), their MACs (RFC 2464 7), and
// interface identifiers (RFC 2464 4).
#pragma once

#include "base/address.h"

namespace postern {

// ff02::1
[[nodiscard]] inline IpAddress all_nodes() {
  constexpr uint8_t kBytes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return IpAddress::v6(kBytes);
}

// ff02::2
[[nodiscard]] inline IpAddress all_routers() {
  constexpr uint8_t kBytes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  return IpAddress::v6(kBytes);
}

// ff02::1:ff00:0/104 and the last 24 bits of the address.
[[nodiscard]] inline IpAddress solicited_node(const IpAddress& address) {
  uint8_t bytes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  std::memcpy(bytes + 13, address.data() + 13, 3);
  return IpAddress::v6(bytes);
}

// Of IPv4's groups too: RFC 1112 6.4.
[[nodiscard]] inline MacAddress multicast_mac(const IpAddress& group) {
  if (group.is_v4()) {
    const uint8_t* const a = group.data() + 12;
    return {{1, 0, 0x5e, static_cast<uint8_t>(a[1] & 0x7f), a[2], a[3]}};
  }
  MacAddress mac{{0x33, 0x33}};
  std::memcpy(mac.bytes.data() + 2, group.data() + 12, 4);
  return mac;
}

// The first 64 bits of `prefix` and the modified EUI-64 of the MAC.
[[nodiscard]] inline IpAddress eui64_address(const IpAddress& prefix, const MacAddress& mac) {
  const auto& m = mac.bytes;
  uint8_t bytes[16] = {};
  const uint8_t identifier[8] = {
      static_cast<uint8_t>(m[0] ^ 2), m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
  std::memcpy(bytes, prefix.data(), 8);
  std::memcpy(bytes + 8, identifier, 8);
  return IpAddress::v6(bytes);
}

[[nodiscard]] inline IpAddress link_local_address(const MacAddress& mac) {
  constexpr uint8_t kPrefix[16] = {0xfe, 0x80};
  return eui64_address(IpAddress::v6(kPrefix), mac);
}

}  // namespace postern
