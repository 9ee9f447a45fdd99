#include "wire/group.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "wire/build.h"
#include "wire/cursor.h"
#include "wire/parse.h"

namespace postern::wire {
namespace {

namespace igmp {
constexpr uint8_t query = 0x11, report1 = 0x12, report2 = 0x16, leave2 = 0x17, report3 = 0x22;
}

constexpr size_t kHeader = 8;        // of a report, and of an IGMP message of version 1 or 2
constexpr uint8_t kTos = 0xc0;       // RFC 3376 4: internetwork control
constexpr size_t kQuery1Mld = 24;    // bytes that tell MLDv1 from MLDv2 (RFC 3810 8.1)
constexpr uint8_t kAlertOption = 5;  // RFC 2711

// RFC 3376 4.1.1, 4.1.7 and RFC 3810 5.1.3: above the limit a floating-point number.
uint32_t code_value(uint32_t code, unsigned mantissa_bits) {
  const uint32_t limit = 1U << (mantissa_bits + 3);
  if (code < limit) return code;
  const uint32_t mantissa = code & ((1U << mantissa_bits) - 1);
  const uint32_t exponent = code >> mantissa_bits & 7U;
  return (mantissa | 1U << mantissa_bits) << (exponent + 3);
}

struct QueryTail {  // what version 3 of IGMP and version 2 of MLD append
  uint8_t flags_robustness;
  uint8_t interval_code;
  be16 sources;
};
static_assert(sizeof(QueryTail) == 4);

Drop read_sources(Cursor cursor, size_t address_bytes, GroupQuery* query) {
  const auto* const tail = cursor.take<QueryTail>();
  if (tail == nullptr) return Drop::group_malformed;
  query->source_count = tail->sources.host();
  query->sources = cursor.take_bytes(query->source_count * address_bytes);
  if (query->source_count == 0) query->sources = nullptr;
  if (query->source_count != 0 && query->sources == nullptr) return Drop::group_malformed;
  return query->group.is_any() && query->source_count != 0 ? Drop::group_malformed : Drop::none;
}

bool possible_group(const IpAddress& group) {
  return group.is_any() || group == IpAddress::v4(0) || group.is_multicast();
}

Drop read_igmp_query(Cursor cursor, size_t length, uint8_t code, GroupQuery* query) {
  constexpr Duration kTenth = 100ms;
  if (length == kHeader) {  // RFC 3376 7.1
    query->version = code == 0 ? 1 : 2;
    query->max_response = code == 0 ? Duration(10s) : code * kTenth;
    return Drop::none;
  }
  query->version = 3;
  query->max_response = code_value(code, 4) * kTenth;
  return read_sources(cursor, sizeof(Ipv4Bytes), query);
}

Drop read_igmp(const RxPacket& packet, const ParsedPacket& p, GroupMessage* kind, GroupQuery* query,
               IpAddress* group) {
  struct Header {
    uint8_t type, code;
    be16 checksum;
    Ipv4Bytes group;
  };
  const auto bytes = payload(packet, p);
  Cursor cursor(bytes);
  const auto* const header = cursor.take<Header>();
  if (header == nullptr) return Drop::group_malformed;
  if (!checksum_is_good(checksum_add(bytes))) return Drop::group_malformed;
  *group = address_of(header->group);
  *kind = GroupMessage::other;
  if (header->type == igmp::report1 || header->type == igmp::report2) {
    *kind = GroupMessage::old_report;
    return group->is_multicast() ? Drop::none : Drop::group_malformed;
  }
  if (header->type != igmp::query) return Drop::none;
  *kind = GroupMessage::query;
  query->group = *group == IpAddress::v4(0) ? IpAddress{} : *group;
  if (!possible_group(*group)) return Drop::group_malformed;
  return read_igmp_query(cursor, bytes.size(), header->code, query);
}

// RFC 3810 6.2: the router alert option of RFC 2711 within the hop-by-hop header.
bool has_router_alert(const RxPacket& packet, const ParsedPacket& p) {
  const auto& ip = *reinterpret_cast<const Ipv6Header*>(packet.data + p.l3_offset);
  if (ip.next_header != 0) return false;
  const std::byte* const extension = packet.data + p.l3_offset + sizeof(Ipv6Header);
  const size_t length = (static_cast<size_t>(extension[1]) + 1) * 8;  // parse() has proven it
  for (size_t i = 2; i + 1 < length;) {
    const auto type = static_cast<uint8_t>(extension[i]);
    if (type == kAlertOption) return true;
    i += type == 0 ? 1 : 2 + static_cast<size_t>(extension[i + 1]);
  }
  return false;
}

Drop read_mld(const RxPacket& packet, const ParsedPacket& p, GroupMessage* kind, GroupQuery* query,
              IpAddress* group) {
  const auto type = static_cast<uint8_t>(p.source_port >> 8);
  const bool link_local = p.source.is_link_local();
  if (p.ttl != 1 || !has_router_alert(packet, p)) return Drop::group_bad_origin;
  if (!link_local && (type == icmp6::listener_query || !p.source.is_any())) {
    return Drop::group_bad_origin;
  }
  *kind = GroupMessage::other;
  if (type == icmp6::listener_done || type == icmp6::listener_report2) return Drop::none;
  Cursor cursor(payload(packet, p));
  const auto* const address = cursor.take<Ipv6Bytes>();
  if (address == nullptr) return Drop::group_malformed;
  *group = address_of(*address);
  if (!possible_group(*group)) return Drop::group_malformed;
  if (type == icmp6::listener_report) {
    *kind = GroupMessage::old_report;
    return group->is_any() ? Drop::group_malformed : Drop::none;
  }
  *kind = GroupMessage::query;
  query->is_v6 = true;
  query->group = *group;
  const auto& icmp = *reinterpret_cast<const IcmpHeader*>(packet.data + p.l4_offset);
  const uint32_t code = icmp.rest.host() >> 16;
  const size_t length = kHeader + p.payload_length;
  if (length == kQuery1Mld) {
    query->version = 1;
    query->max_response = std::chrono::milliseconds(code);
    return Drop::none;
  }
  query->version = 2;
  query->max_response = std::chrono::milliseconds(code_value(code, 12));
  return read_sources(cursor, sizeof(Ipv6Bytes), query);
}

// ---- writing ----

// RFC 2113, RFC 2711: routers look at the packet although it is not theirs.
constexpr uint8_t kAlert4[4] = {0x94, 4, 0, 0};
constexpr uint8_t kAlert6[8] = {58, 0, kAlertOption, 2, 0, 0, 1, 0};
constexpr size_t kL3v4 = sizeof(Ipv4Header) + sizeof kAlert4;
constexpr size_t kL3v6 = sizeof(Ipv6Header) + sizeof kAlert6;

void write_ip_with_alert(std::byte* out, const IpAddress& source, const IpAddress& destination,
                         size_t length) {
  const bool is_v6 = !destination.is_v4();
  const size_t alert = is_v6 ? sizeof kAlert6 : sizeof kAlert4;
  const size_t fixed = write_ip(out, {.source = source,
                                      .destination = destination,
                                      .protocol = is_v6 ? uint8_t{0} : kIgmpProtocol,
                                      .ttl = 1,
                                      .tos = is_v6 ? uint8_t{0} : kTos,
                                      .payload_length = static_cast<uint32_t>(alert + length)});
  if (is_v6) {
    std::memcpy(out + fixed, kAlert6, sizeof kAlert6);
    return;
  }
  std::memcpy(out + fixed, kAlert4, sizeof kAlert4);
  auto& ip = *reinterpret_cast<Ipv4Header*>(out);
  ip.version_ihl = 0x46;
  ip.checksum = uint16_t{0};
  ip.checksum = checksum_finish(checksum_add({out, kL3v4}));
}

// `message` has its checksum field, bytes 2 and 3, zero.
void finish_message(std::byte* message, size_t length, const IpAddress& source,
                    const IpAddress& destination) {
  uint32_t sum = 0;
  if (!destination.is_v4()) {
    sum = pseudo_header_sum(source, destination, static_cast<uint8_t>(Protocol::icmp6),
                            static_cast<uint32_t>(length));
  }
  const be16 checksum = checksum_finish(checksum_add({message, length}, sum));
  std::memcpy(message + 2, &checksum, sizeof checksum);
}

size_t put_address(std::byte* out, const IpAddress& a) {
  const size_t n = a.is_v4() ? sizeof(Ipv4Bytes) : sizeof(Ipv6Bytes);
  std::memcpy(out, a.data() + sizeof(Ipv6Bytes) - n, n);
  return n;
}

void put16(std::byte* out, uint16_t v) {
  const be16 wire(v);
  std::memcpy(out, &wire, sizeof wire);
}

IpAddress v6_group(uint8_t last) {
  uint8_t bytes[16] = {0xff, 2};
  bytes[15] = last;
  return IpAddress::v6(bytes);
}

}  // namespace

IpAddress GroupQuery::source(size_t n) const noexcept {
  if (is_v6) return address_of(reinterpret_cast<const Ipv6Bytes*>(sources)[n]);
  return address_of(reinterpret_cast<const Ipv4Bytes*>(sources)[n]);
}

Drop read_group_message(const RxPacket& packet, const ParsedPacket& parsed, GroupMessage* kind,
                        GroupQuery* query, IpAddress* group) noexcept {
  return parsed.is_v6 ? read_mld(packet, parsed, kind, query, group)
                      : read_igmp(packet, parsed, kind, query, group);
}

GroupReportWriter::GroupReportWriter(std::span<std::byte> room, const IpAddress& source) noexcept
    : room_(room),
      source_(source),
      destination_(source.is_v4() ? IpAddress::v4(0xe0000016) : v6_group(0x16)),
      is_v6_(!source.is_v4()),
      at_((is_v6_ ? kL3v6 : kL3v4) + kHeader) {}

bool GroupReportWriter::add(GroupRecordType type, const IpAddress& group,
                            std::span<const IpAddress> sources) noexcept {
  const size_t address = is_v6_ ? sizeof(Ipv6Bytes) : sizeof(Ipv4Bytes);
  const size_t fixed = 4 + address;
  if (at_ + fixed > room_.size()) return false;
  const size_t most = (room_.size() - at_ - fixed) / address;
  if (sources.size() > most && !empty()) return false;
  sources = sources.first(std::min(sources.size(), most));
  std::byte* out = room_.data() + at_;
  out[0] = static_cast<std::byte>(type);
  out[1] = std::byte{0};  // no auxiliary data
  put16(out + 2, static_cast<uint16_t>(sources.size()));
  out += 4;
  out += put_address(out, group);
  for (const IpAddress& source : sources) out += put_address(out, source);
  at_ = static_cast<size_t>(out - room_.data());
  ++records_;
  return true;
}

size_t GroupReportWriter::finish() noexcept {
  const size_t l3 = l3_length();
  std::byte* const message = room_.data() + l3;
  std::memset(message, 0, kHeader);
  message[0] = static_cast<std::byte>(is_v6_ ? icmp6::listener_report2 : igmp::report3);
  put16(message + 6, records_);
  finish_message(message, at_ - l3, source_, destination_);
  write_ip_with_alert(room_.data(), source_, destination_, at_ - l3);
  return at_;
}

size_t write_old_group_message(std::span<std::byte> room, OldGroupMessage kind,
                               const IpAddress& source, const IpAddress& group,
                               IpAddress* destination) noexcept {
  const bool is_v6 = !group.is_v4();
  const bool leaves = kind == OldGroupMessage::leave2;
  *destination = group;
  if (leaves) *destination = is_v6 ? v6_group(2) : IpAddress::v4(0xe0000002);
  const size_t l3 = is_v6 ? kL3v6 : kL3v4;
  const size_t length = is_v6 ? kQuery1Mld : kHeader;
  std::byte* const message = room.data() + l3;
  std::memset(message, 0, length);
  uint8_t type = is_v6 ? (leaves ? icmp6::listener_done : icmp6::listener_report)
                       : (leaves ? igmp::leave2 : igmp::report2);
  if (kind == OldGroupMessage::report1) type = igmp::report1;
  message[0] = static_cast<std::byte>(type);
  put_address(message + (is_v6 ? 8 : 4), group);
  finish_message(message, length, source, *destination);
  write_ip_with_alert(room.data(), source, *destination, length);
  return l3 + length;
}

}  // namespace postern::wire
