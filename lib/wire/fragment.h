// The place of a fragment in its packet, and the header that says so in IPv6: RFC 791 3.2,
// RFC 8200 4.5.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/headers.h"
#include "wire/packet.h"

namespace postern::wire {

inline constexpr uint8_t kFragmentProtocol = 44;

struct Fragment {
  uint32_t id = 0;
  uint32_t offset = 0;  // bytes, a multiple of 8
  bool more = false;
  std::span<const std::byte> header;  // from the IP header to the data, a fragment header included
  std::span<const std::byte> data;    // offset + data.size() <= 65,535; a multiple of 8 if `more`
};

// Of a packet that parse() returned with `fragment` set.
[[nodiscard]] inline Fragment read_fragment(const RxPacket& packet,
                                            const ParsedPacket& parsed) noexcept {
  Fragment f;
  f.header = {packet.data + parsed.l3_offset, size_t{parsed.l4_offset} - parsed.l3_offset};
  f.data = {packet.data + parsed.payload_offset, parsed.payload_length};
  if (parsed.is_v6) {
    const auto& header = *reinterpret_cast<const Ipv6Fragment*>(packet.data + parsed.l4_offset -
                                                                sizeof(Ipv6Fragment));
    const uint16_t place = header.offset_more.host();
    f.id = header.id.host();
    f.offset = place & Ipv6Fragment::kOffsetMask;
    f.more = (place & Ipv6Fragment::kMore) != 0;
    return f;
  }
  const auto& ip = *reinterpret_cast<const Ipv4Header*>(packet.data + parsed.l3_offset);
  const uint16_t place = ip.flags_fragment.host();
  f.id = ip.id.host();
  f.offset = (place & Ipv4Header::kOffsetMask) * 8U;
  f.more = (place & Ipv4Header::kMoreFragments) != 0;
  return f;
}

// 8 bytes. `next`: the protocol of the fragmented part.
inline size_t write_fragment_header(std::byte* out, uint8_t next, uint32_t offset, bool more,
                                    uint32_t id) noexcept {
  auto& header = *reinterpret_cast<Ipv6Fragment*>(out);
  header.next_header = next;
  header.reserved = 0;
  header.offset_more = static_cast<uint16_t>(offset | (more ? Ipv6Fragment::kMore : 0U));
  header.id = id;
  return sizeof(Ipv6Fragment);
}

}  // namespace postern::wire
