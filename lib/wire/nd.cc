#include "wire/nd.h"

#include <cstring>

#include "wire/build.h"
#include "wire/cursor.h"
#include "wire/nd_option.h"
#include "wire/parse.h"

namespace postern::wire {
namespace {

constexpr uint32_t kRouter = 1U << 31, kSolicited = 1U << 30, kOverride = 1U << 29;

// A MAC that is no station's makes the message invalid.
bool read_options(Cursor cursor, uint8_t wanted, NdMessage* out) {
  return nd_option::walk(cursor, [wanted, out](const auto& header, auto option) {
    if (header.type != wanted) return true;
    out->has_mac = nd_option::read_link_address(option, &out->mac);
    return out->has_mac;
  });
}

// RFC 4861 4.3, 4.4
uint8_t link_option(bool asks) {
  return asks ? nd_option::source_link_address : nd_option::target_link_address;
}

// RFC 4861 7.1.1: asked from "::", it goes to the solicited-node group and tells no MAC.
bool solicitation_possible(const ParsedPacket& p, const NdMessage& m) {
  if (!p.source.is_any()) return true;
  constexpr uint8_t kSolicitedNode[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  return !m.has_mac && std::memcmp(p.destination.data(), kSolicitedNode, 13) == 0;
}

// RFC 4861 7.1.2
bool advertisement_possible(const ParsedPacket& p, const NdMessage& m) {
  return !p.source.is_any() && !(p.destination.is_multicast() && m.solicited);
}

}  // namespace

Drop read_nd(const RxPacket& packet, const ParsedPacket& parsed, NdMessage* out) noexcept {
  if (parsed.ttl != kNdHopLimit) return Drop::nd_bad_hop_limit;
  *out = {};
  out->type = static_cast<uint8_t>(parsed.source_port >> 8);
  const auto code = static_cast<uint8_t>(parsed.source_port);
  Cursor cursor(payload(packet, parsed));
  const auto* const target = cursor.take<Ipv6Bytes>();
  if (code != 0 || target == nullptr) return Drop::nd_malformed;
  out->target = address_of(*target);
  if (out->target.is_multicast() || out->target.is_any() || out->target.is_v4()) {
    return Drop::nd_malformed;
  }
  const bool asks = out->type == icmp6::neighbor_solicitation;
  if (!read_options(cursor, link_option(asks), out)) {
    return Drop::nd_malformed;
  }
  if (asks) return solicitation_possible(parsed, *out) ? Drop::none : Drop::nd_malformed;
  const auto& header = *reinterpret_cast<const IcmpHeader*>(packet.data + parsed.l4_offset);
  out->router = (header.rest.host() & kRouter) != 0;
  out->solicited = (header.rest.host() & kSolicited) != 0;
  out->override_known = (header.rest.host() & kOverride) != 0;
  return advertisement_possible(parsed, *out) ? Drop::none : Drop::nd_malformed;
}

size_t write_nd(std::byte* out, const NdMessage& m) noexcept {
  const uint32_t flags = (m.router ? kRouter : 0) | (m.solicited ? kSolicited : 0) |
                         (m.override_known ? kOverride : 0);
  size_t n = write_icmp(out, m.type, 0, flags);
  std::memcpy(out + n, m.target.data(), sizeof(Ipv6Bytes));
  n += sizeof(Ipv6Bytes);
  if (!m.has_mac) return n;
  const bool asks = m.type == icmp6::neighbor_solicitation;
  const nd_option::LinkAddress option{{link_option(asks), 1}, m.mac};
  std::memcpy(out + n, &option, sizeof option);
  return n + sizeof option;
}

}  // namespace postern::wire
