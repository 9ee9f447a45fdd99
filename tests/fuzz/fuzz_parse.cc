// libFuzzer target: any bytes as a frame. The first byte chooses what the device said of it, so
// that the fuzzer need not guess checksums to reach the transport.
//
//   fuzz_parse -max_len=2048 CORPUS
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "wire/arp.h"
#include "wire/build.h"
#include "wire/group.h"
#include "wire/parse.h"

namespace {

using namespace postern;

void require(bool condition) {
  if (!condition) std::abort();
}

// What parse_tcp understood can be written, and reads back as the same.
void check_tcp(const RxPacket& packet, const ParsedPacket& parsed) {
  TcpSegment segment;
  if (wire::parse_tcp(packet, parsed, &segment) != Drop::none) return;
  require(segment.sack_count <= segment.sack.size());
  require(segment.window_scale <= 14);
  require(segment.length == parsed.payload_length);
  const size_t length = wire::tcp_header_length(segment);
  require(length >= 20 && length <= 60 && length % 4 == 0);
  std::byte header[60];
  require(wire::write_tcp(header, parsed.source_port, parsed.destination_port, segment) == length);
  RxPacket again;
  again.data = header;
  again.length = static_cast<uint32_t>(length);
  ParsedPacket place = parsed;
  place.l4_offset = 0;
  place.tcp_options_length = static_cast<uint8_t>(length - 20);
  TcpSegment second;
  require(wire::parse_tcp(again, place, &second) == Drop::none);
  require(second.has_mss == segment.has_mss && second.mss == segment.mss);
  require(second.has_timestamps == segment.has_timestamps);
  require(second.ts_value == segment.ts_value && second.ts_echo == segment.ts_echo);
  require(second.window_scale == segment.window_scale);
  require(second.sack_permitted == segment.sack_permitted);
  require(second.sack_count <= segment.sack_count);
}

void check_group(const RxPacket& packet, const ParsedPacket& parsed) {
  wire::GroupMessage kind;
  wire::GroupQuery query;
  IpAddress group;
  if (wire::read_group_message(packet, parsed, &kind, &query, &group) != Drop::none) return;
  if (kind == wire::GroupMessage::old_report) require(group.is_multicast());
  if (kind != wire::GroupMessage::query) return;
  require(query.group.is_any() || query.group.is_multicast());
  const auto bytes = wire::payload(packet, parsed);
  for (size_t n = 0; n < query.source_count; ++n) {
    (void)query.source(n);
    require(query.sources >= bytes.data() && query.sources < bytes.data() + bytes.size());
  }
}

void check(const RxPacket& packet) {
  const ParsedPacket parsed = wire::parse(packet);
  ParsedPacket slowly;
  wire::parse_any(packet, &slowly);
  require(parsed.drop == slowly.drop);
  if (parsed.drop != Drop::none) return;
  require(parsed.kind == slowly.kind && parsed.protocol == slowly.protocol);
  require(parsed.source == slowly.source && parsed.destination == slowly.destination);
  require(parsed.payload_offset == slowly.payload_offset);
  require(parsed.payload_length == slowly.payload_length);
  require(parsed.l3_offset <= packet.length && parsed.l4_offset <= packet.length);
  require(uint64_t{parsed.payload_offset} + parsed.payload_length <= packet.length);
  require(parsed.vlan < 4095);
  if (parsed.kind == PacketKind::arp) (void)wire::read_arp(packet, parsed);
  if (parsed.fragment) return;
  if (parsed.kind == PacketKind::tcp) check_tcp(packet, parsed);
  if (parsed.kind == PacketKind::icmp) (void)wire::parse_icmp_quote(packet, parsed);
  const bool igmp = !parsed.is_v6 && parsed.protocol == wire::kIgmpProtocol;
  const bool mld = parsed.is_v6 && parsed.kind == PacketKind::icmp &&
                   wire::is_group_message(static_cast<uint8_t>(parsed.source_port >> 8));
  if (igmp || mld) check_group(packet, parsed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  RxPacket packet;
  packet.ip_checksum = (data[0] & 1) != 0 ? ChecksumVerdict::unknown : ChecksumVerdict::good;
  packet.l4_checksum = (data[0] & 2) != 0   ? ChecksumVerdict::unknown
                       : (data[0] & 8) != 0 ? ChecksumVerdict::unchecked
                                            : ChecksumVerdict::good;
  packet.vlan = (data[0] & 4) != 0 ? 100 : 0;
  packet.data = reinterpret_cast<const std::byte*>(data + 1);
  packet.length = static_cast<uint32_t>(size - 1);
  check(packet);
  return 0;
}
