// Options of neighbor discovery (RFC 4861 4.6): private to nd.cc and router.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/cursor.h"
#include "wire/headers.h"

namespace postern::wire::nd_option {

inline constexpr uint8_t source_link_address = 1, target_link_address = 2, prefix = 3, mtu = 5;

struct Header {
  uint8_t type;
  uint8_t length;  // in units of 8 bytes
};
struct LinkAddress {
  Header header;
  MacAddress mac;
};
static_assert(sizeof(LinkAddress) == 8 && alignof(LinkAddress) == 1);

struct Mtu {
  Header header;
  be16 reserved;
  be32 mtu;
};
static_assert(sizeof(Mtu) == 8 && alignof(Mtu) == 1);

struct PrefixInformation {
  Header header;
  uint8_t prefix_length;
  uint8_t flags;
  be32 valid;
  be32 preferred;
  be32 reserved;
  Ipv6Bytes prefix;

  static constexpr uint8_t kOnLink = 0x80, kAutonomous = 0x40;
};
static_assert(sizeof(PrefixInformation) == 32 && alignof(PrefixInformation) == 1);

// Calls each(const Header&, std::span<const std::byte> whole option) -> bool. False: an option's
// length is impossible, which makes the whole message invalid (RFC 4861 4.6), or `each` said so.
template <class Each>
bool walk(Cursor cursor, Each&& each) {
  while (cursor.remaining() != 0) {
    const auto* const header = cursor.peek<Header>();
    if (header == nullptr || header->length == 0) return false;
    const size_t length = size_t{header->length} * 8;
    const std::byte* const bytes = cursor.take_bytes(length);
    if (bytes == nullptr || !each(*header, std::span(bytes, length))) return false;
  }
  return true;
}

// False: it is no station's, or of another length.
inline bool read_link_address(std::span<const std::byte> option, MacAddress* mac) {
  if (option.size() != sizeof(LinkAddress)) return false;
  *mac = reinterpret_cast<const LinkAddress*>(option.data())->mac;
  return !mac->is_multicast() && !mac->is_zero();
}

}  // namespace postern::wire::nd_option
