// Messages about membership in groups as values: IGMP (RFC 3376 4, RFC 2236 2) and MLD (RFC 3810 5,
// RFC 2710 3), which say the same for the two families.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/drop.h"
#include "base/time.h"
#include "wire/headers.h"
#include "wire/packet.h"

namespace postern::wire {

inline constexpr uint8_t kIgmpProtocol = 2;

// A router asks who listens.
struct GroupQuery {
  uint8_t version = 3;  // of IGMP: 1, 2, 3; of MLD: 1, 2
  Duration max_response{};
  IpAddress group;  // any: about all groups
  size_t source_count = 0;
  // The n-th source asked about, n < source_count.
  [[nodiscard]] IpAddress source(size_t n) const noexcept;

  const std::byte* sources = nullptr;  // as they stand in the packet
  bool is_v6 = false;
};

// What another member or a router says; only older versions' reports matter to a host.
enum class GroupMessage : uint8_t { query, old_report, other };

// A packet that parse() returned: of IPv4 with protocol kIgmpProtocol and kind other, of IPv6 with
// kind icmp and a type that is_group_message(). All checks of RFC 3376 4.1, RFC 3810 5.1 and
// 6.2. *group: what an old report is about.
[[nodiscard]] Drop read_group_message(const RxPacket& packet, const ParsedPacket& parsed,
                                      GroupMessage* kind, GroupQuery* query,
                                      IpAddress* group) noexcept;

namespace icmp6 {
inline constexpr uint8_t listener_query = 130, listener_report = 131, listener_done = 132,
                         listener_report2 = 143;
}
[[nodiscard]] constexpr bool is_group_message(uint8_t icmp6_type) {
  return (icmp6_type >= icmp6::listener_query && icmp6_type <= icmp6::listener_done) ||
         icmp6_type == icmp6::listener_report2;
}

// RFC 3376 4.2.12, RFC 3810 5.2.12
enum class GroupRecordType : uint8_t {
  is_include = 1,
  is_exclude = 2,
  to_include = 3,
  to_exclude = 4,
  allow = 5,
  block = 6,
};

// Writes a report of the newest version record by record, into the packet's place behind Ethernet.
//
//   GroupReportWriter w(room, source, bytes);
//   if (!w.add(type, group, sources)) ...  // full: finish this one and begin another
//   size_t length = w.finish();            // of the IP packet, complete with checksums
class GroupReportWriter {
 public:
  // `source`: of an IPv4 interface, or a link-local address or "::".
  GroupReportWriter(std::span<std::byte> room, const IpAddress& source) noexcept;
  // False: no room, and nothing was written. What does not fit into an empty report is cut where
  // the type permits it (RFC 3376 4.2.16).
  bool add(GroupRecordType type, const IpAddress& group,
           std::span<const IpAddress> sources) noexcept;
  [[nodiscard]] bool empty() const noexcept { return records_ == 0; }
  [[nodiscard]] const IpAddress& destination() const noexcept { return destination_; }
  [[nodiscard]] size_t l3_length() const noexcept { return is_v6_ ? 48 : 24; }
  size_t finish() noexcept;

 private:
  std::span<std::byte> room_;
  IpAddress source_;
  IpAddress destination_;
  bool is_v6_;
  size_t at_;
  uint16_t records_ = 0;
};

// What hosts of older versions say. IGMPv1 has no leaving.
enum class OldGroupMessage : uint8_t { report1, report2, leave2 };

// The whole IP packet; *destination: where it goes. MLDv1 has report2 and leave2 only.
size_t write_old_group_message(std::span<std::byte> room, OldGroupMessage kind,
                               const IpAddress& source, const IpAddress& group,
                               IpAddress* destination) noexcept;

}  // namespace postern::wire
