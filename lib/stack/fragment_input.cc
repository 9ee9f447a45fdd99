// Fragments received: kept until they are a packet, which then goes the way of all packets.
#include "ip/icmp.h"
#include "stack/core.h"
#include "wire/headers.h"
#include "wire/parse.h"

namespace postern {
namespace {

// RFC 6980 5: neighbor discovery does not come in fragments.
bool is_neighbor_discovery(const ParsedPacket& p) {
  const auto type = static_cast<uint8_t>(p.source_port >> 8);
  return type >= wire::icmp6::router_solicitation && type <= wire::icmp6::redirect;
}

}  // namespace

Drop StackCore::fragment_input(const RxPacket& packet, const ParsedPacket& p) noexcept {
  std::span<std::byte> whole;
  const wire::Fragment fragment = wire::read_fragment(packet, p);
  const Drop drop = reassembler_.add(p, fragment, now_, &whole);
  counters.drop(Drop::ip_fragment_memory, reassembler_.take_displaced());
  if (drop == Drop::ip_fragment_tiny && p.is_v6 && fragment.offset == 0) {
    tell_short_first_fragment(packet, p);
  }
  if (drop != Drop::none) return drop;
  counters.add(Counter::ip_fragments_rx);
  if (whole.empty()) return Drop::none;
  counters.add(Counter::ip_reassembled);
  return whole_input(packet, p, whole);
}

// Parsed as if it had come in one frame, from the Ethernet header of its last fragment on.
Drop StackCore::whole_input(const RxPacket& packet, const ParsedPacket& p,
                            std::span<std::byte> whole) noexcept {
  static_assert(Reassembler::kLinkRoom >= sizeof(wire::EthernetHeader));
  std::byte* const frame = whole.data() - sizeof(wire::EthernetHeader);
  wire::write_ethernet(frame, p.mac_destination, p.mac_source,
                       p.is_v6 ? wire::ether_type::ipv6 : wire::ether_type::ipv4);
  RxPacket joined;
  joined.data = frame;
  joined.length = static_cast<uint32_t>(sizeof(wire::EthernetHeader) + whole.size());
  joined.interface = p.interface;
  joined.ip_checksum = ChecksumVerdict::good;
  // A device judges no fragment, let alone all of them.
  const bool unchecked = packet.l4_checksum == ChecksumVerdict::unchecked;
  joined.l4_checksum = unchecked ? ChecksumVerdict::unchecked : ChecksumVerdict::unknown;
  ParsedPacket q;
  wire::parse_any(joined, &q);
  if (q.drop != Drop::none) return q.drop;
  if (q.fragment) return Drop::ip6_bad_extension;  // fragments of a fragment
  if (q.is_v6 && q.kind == PacketKind::icmp && is_neighbor_discovery(q)) return Drop::nd_malformed;
  if (q.kind != PacketKind::tcp) return dispatch(joined, q);
  const Endpoint local{q.destination, q.destination_port};
  const Endpoint remote{q.source, q.source_port};
  if (config_.owns_tuple != nullptr && !config_.owns_tuple(config_.opaque, local, remote)) {
    joined.interface = interfaces_[p.interface].port;
    joined.vlan = interfaces_[p.interface].vlan;
    const bool given =
        config_.give_to_owner != nullptr && config_.give_to_owner(config_.opaque, joined);
    return given ? Drop::none : Drop::ip_fragment_foreign;
  }
  const uint32_t flow = flows_.find(FlowKey(remote, local, q.protocol), key_of());
  return flow != kNoFlow ? tcp_input(joined, q, flow) : dispatch(joined, q);
}

// RFC 1122 3.3.2, RFC 8200 4.5: its sender is told if the first fragment had come.
void StackCore::expire_fragments() noexcept {
  constexpr uint8_t kReassembly = 1;
  Reassembler::Expired e;
  while (reassembler_.next_expired(now_, &e)) {
    counters.drop(Drop::ip_fragment_timeout, e.fragments);
    if (e.quote.empty() || !icmp_error_allowed(e.source, e.destination) ||
        !interfaces_.is_local(e.destination)) {
      continue;
    }
    const bool is_v6 = !e.source.is_v4();
    const uint8_t type = is_v6 ? wire::icmp6::time_exceeded : wire::icmp4::time_exceeded;
    send_icmp_error({e.destination, e.source, e.interface, type, kReassembly}, e.quote);
  }
}

}  // namespace postern
