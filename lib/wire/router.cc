#include "wire/router.h"

#include <cstring>

#include "wire/build.h"
#include "wire/nd.h"
#include "wire/nd_option.h"
#include "wire/parse.h"

namespace postern::wire {
namespace {

// What stands behind the ICMP header, whose last word has hop limit, flags and lifetime.
struct AdvertisementTimes {
  be32 reachable;
  be32 retrans;
};
struct RedirectAddresses {
  Ipv6Bytes target;
  Ipv6Bytes destination;
};

// RFC 4861 6.1.2 and 8.1: from a router of this link itself.
Drop check_sender(const ParsedPacket& p) {
  if (p.ttl != kNdHopLimit) return Drop::nd_bad_hop_limit;
  const auto code = static_cast<uint8_t>(p.source_port);
  return p.source.is_link_local() && code == 0 ? Drop::none : Drop::nd_malformed;
}

// RFC 4191 2.2: the reserved value is medium.
int8_t preference_of(uint32_t flags) {
  switch (flags >> 3 & 3) {
    case 1:
      return 1;
    case 3:
      return -1;
    default:
      return 0;
  }
}

void read_prefix(std::span<const std::byte> option, RouterAdvertisement* out) {
  using nd_option::PrefixInformation;
  if (option.size() != sizeof(PrefixInformation)) return;
  const auto& p = *reinterpret_cast<const PrefixInformation*>(option.data());
  const IpAddress address = address_of(p.prefix);
  if (p.prefix_length > 128 || address.is_v4() || address.is_multicast()) return;
  if (out->prefix_count == RouterAdvertisement::kMaxPrefixes) return;
  out->prefixes[out->prefix_count++] = {{address, p.prefix_length},
                                        (p.flags & PrefixInformation::kOnLink) != 0,
                                        (p.flags & PrefixInformation::kAutonomous) != 0,
                                        p.valid.host(),
                                        p.preferred.host()};
}

bool read_option(const nd_option::Header& header, std::span<const std::byte> option,
                 RouterAdvertisement* out) {
  switch (header.type) {
    case nd_option::source_link_address:
      out->has_mac = nd_option::read_link_address(option, &out->mac);
      break;
    case nd_option::mtu:
      if (option.size() == sizeof(nd_option::Mtu)) {
        out->mtu = reinterpret_cast<const nd_option::Mtu*>(option.data())->mtu.host();
      }
      break;
    case nd_option::prefix:
      read_prefix(option, out);
      break;
    default:
      break;
  }
  return true;
}

}  // namespace

Drop read_advertisement(const RxPacket& packet, const ParsedPacket& parsed,
                        RouterAdvertisement* out) noexcept {
  if (const Drop drop = check_sender(parsed); drop != Drop::none) return drop;
  *out = {};
  Cursor cursor(payload(packet, parsed));
  const auto* const times = cursor.take<AdvertisementTimes>();
  if (times == nullptr) return Drop::nd_malformed;
  const auto& icmp = *reinterpret_cast<const IcmpHeader*>(packet.data + parsed.l4_offset);
  const uint32_t word = icmp.rest.host();
  out->hop_limit = static_cast<uint8_t>(word >> 24);
  out->preference = preference_of(word >> 16);
  out->lifetime = static_cast<uint16_t>(word);
  out->reachable_ms = times->reachable.host();
  out->retrans_ms = times->retrans.host();
  const bool good = nd_option::walk(
      cursor, [out](const auto& header, auto option) { return read_option(header, option, out); });
  return good ? Drop::none : Drop::nd_malformed;
}

Drop read_redirect(const RxPacket& packet, const ParsedPacket& parsed, Redirect* out) noexcept {
  if (const Drop drop = check_sender(parsed); drop != Drop::none) return drop;
  *out = {};
  Cursor cursor(payload(packet, parsed));
  const auto* const addresses = cursor.take<RedirectAddresses>();
  if (addresses == nullptr) return Drop::nd_malformed;
  out->target = address_of(addresses->target);
  out->destination = address_of(addresses->destination);
  const IpAddress &target = out->target, &destination = out->destination;
  if (destination.is_multicast() || destination.is_v4() || destination.is_any()) {
    return Drop::nd_malformed;
  }
  if (!target.is_link_local() && target != destination) return Drop::nd_malformed;
  const bool good = nd_option::walk(cursor, [out](const auto& header, auto option) {
    if (header.type == nd_option::target_link_address) {
      out->has_mac = nd_option::read_link_address(option, &out->mac);
    }
    return true;
  });
  return good ? Drop::none : Drop::nd_malformed;
}

size_t write_router_solicitation(std::byte* out, const MacAddress* mac) noexcept {
  const size_t n = write_icmp(out, icmp6::router_solicitation, 0, 0);
  if (mac == nullptr) return n;
  const nd_option::LinkAddress option{{nd_option::source_link_address, 1}, *mac};
  std::memcpy(out + n, &option, sizeof option);
  return n + sizeof option;
}

}  // namespace postern::wire
