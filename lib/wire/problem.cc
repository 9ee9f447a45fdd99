#include "wire/problem.h"

#include <cstddef>
#include <optional>

#include "wire/cursor.h"
#include "wire/headers.h"

namespace postern::wire {
namespace {

// A walk along the headers behind the IPv6 header. Positions are from the IPv6 header.
struct Walk {
  Cursor cursor;
  uint8_t next;       // what kind of header the cursor is at
  uint32_t named_at;  // where the header before says so
  bool to_group;
  int headers = 0;
};

Problem problem(uint8_t code, size_t pointer) {
  return {true, code, static_cast<uint32_t>(pointer)};
}

bool is_options(uint8_t next) {
  return next == next_header::hop_by_hop || next == next_header::destination_options;
}

// RFC 8200 4.2: the first option that is not known and does not let itself be skipped.
std::optional<Problem> option_problem(Cursor options, size_t position, bool to_group) {
  constexpr uint8_t kActionMask = 0xc0, kTell = 0x80, kTellUnlessGroup = 0xc0;
  while (const auto* const type = options.take<uint8_t>()) {
    const size_t at = position + options.position() - 1;
    if (*type == 0) continue;
    const auto* const length = options.take<uint8_t>();
    if (length == nullptr || options.take_bytes(*length) == nullptr) return Problem{};
    const uint8_t action = *type & kActionMask;
    if (action == 0) continue;
    const bool tell = action == kTell || (action == kTellUnlessGroup && !to_group);
    return tell ? problem(icmp6::option, at) : Problem{};
  }
  return std::nullopt;
}

// Moves behind the header at the cursor. What is wrong with it, if anything is; a problem that is
// not told ends the packet in silence. *good: there is more behind it.
std::optional<Problem> step(Walk& w, bool* good) {
  *good = false;
  const size_t at = w.cursor.position();
  const auto* const header = w.cursor.peek<Ipv6Extension>();
  if (header == nullptr) return Problem{};
  const bool is_fragment = w.next == next_header::fragment;
  const size_t length = is_fragment ? sizeof(Ipv6Fragment) : (size_t{header->length} + 1) * 8;
  const std::byte* const bytes = w.cursor.take_bytes(length);
  if (bytes == nullptr) return Problem{};
  std::optional<Problem> found;
  if (is_fragment) {
    const uint16_t place = reinterpret_cast<const Ipv6Fragment*>(bytes)->offset_more.host();
    const bool more = (place & Ipv6Fragment::kMore) != 0;
    const size_t offset = place & Ipv6Fragment::kOffsetMask, data = w.cursor.remaining();
    // RFC 8200 4.5: not in units of 8; beyond the largest packet.
    if (more && data % 8 != 0) found = problem(icmp6::field, offsetof(Ipv6Header, payload_length));
    if (offset + data > 65535)
      found = problem(icmp6::field, at + offsetof(Ipv6Fragment, offset_more));
    if (offset != 0) return found;  // what follows is data
  } else if (is_options(w.next)) {
    found = option_problem(Cursor(bytes + 2, length - 2), at + 2, w.to_group);
  } else if (header->segments_left != 0) {
    found = problem(icmp6::field, at + offsetof(Ipv6Extension, type));  // RFC 8200 4.4
  }
  w.next = header->next_header;
  w.named_at = static_cast<uint32_t>(at);
  *good = true;
  return found;
}

bool is_extension(uint8_t next) {
  return is_options(next) || next == next_header::routing || next == next_header::fragment;
}

// RFC 4443 2.4 e.1, e.2: errors and redirects are not answered.
bool carries_icmp_error(Walk w) {
  bool good = true;
  while (good && is_extension(w.next) && ++w.headers <= kMaxExtensions) (void)step(w, &good);
  const auto* const type = w.cursor.peek<uint8_t>();
  return good && w.next == static_cast<uint8_t>(Protocol::icmp6) && type != nullptr &&
         (*type < 128 || *type == icmp6::redirect);
}

}  // namespace

Problem ipv6_problem(const RxPacket& packet, const ParsedPacket& parsed) noexcept {
  Cursor cursor(packet.data + parsed.l3_offset, packet.length - parsed.l3_offset);
  const auto* const ip = cursor.take<Ipv6Header>();
  if (ip == nullptr || !cursor.truncate(ip->payload_length.host())) return {};
  Walk w{cursor, ip->next_header, offsetof(Ipv6Header, next_header),
         parsed.destination.is_multicast()};
  for (bool good = true; is_extension(w.next); ++w.headers) {
    if (w.headers == kMaxExtensions) return {};
    if (w.next == next_header::hop_by_hop && w.headers != 0) break;  // RFC 8200 4: unknown there
    const std::optional<Problem> found = step(w, &good);
    if (!found && good) continue;
    if (!found || !found->told || (found->code != icmp6::option && w.to_group)) return {};
    return good && carries_icmp_error(w) ? Problem{} : *found;
  }
  if (w.next == next_header::none || w.to_group) return {};
  return problem(icmp6::next_header, w.named_at);
}

}  // namespace postern::wire
