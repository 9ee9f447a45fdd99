// The groups that sockets of this host have joined, and what routers are told of it: IGMPv3 (RFC
// 3376) and MLDv2 (RFC 3810) as a host, with the older versions where a router speaks those. Pure.
//
// A membership is a socket's: group, interface, and a filter of sources. All memberships of a group
// on an interface together make the filter of the interface (RFC 3376 3.2), and it is changes of
// that which routers hear of. README.md has the list of what the RFCs demand and where it is
// tested.
//
// Bounds: memberships and groups in all, memberships of a socket, sources of a filter. An interface
// filter that would need more sources than there is room for lets all pass; the sockets' own
// filters still hold.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/random.h"
#include "base/time.h"
#include "wire/group.h"

namespace postern {

struct GroupOptions {
  uint32_t memberships = 1024;
  uint16_t interfaces = 1;
  bool speaks = true;  // false: another worker reports for this host
  uint64_t seed = 1;
};

inline constexpr size_t kMostGroupSources = 16;      // of a filter
inline constexpr uint32_t kMostGroupsOfSocket = 20;  // as Linux' IP_MAX_MEMBERSHIPS

// A set of addresses without an order, bounded.
class SourceSet {
 public:
  [[nodiscard]] bool contains(const IpAddress& a) const noexcept;
  // False: full. Adding what is there is no change.
  bool add(const IpAddress& a) noexcept;
  bool remove(const IpAddress& a) noexcept;
  void clear() noexcept { count_ = 0; }
  [[nodiscard]] size_t size() const noexcept { return count_; }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] const IpAddress* begin() const noexcept { return sources_.data(); }
  [[nodiscard]] const IpAddress* end() const noexcept { return sources_.data() + count_; }
  [[nodiscard]] std::span<const IpAddress> span() const noexcept { return {begin(), count_}; }
  [[nodiscard]] bool same_as(const SourceSet& other) const noexcept;

 private:
  std::array<IpAddress, kMostGroupSources> sources_;
  uint32_t count_ = 0;
};

// RFC 3376 2: include nothing is no membership, exclude nothing is all sources.
struct SourceFilter {
  bool exclude = false;
  SourceSet sources;
  [[nodiscard]] bool passes(const IpAddress& source) const noexcept {
    return sources.contains(source) != exclude;
  }
};

class GroupTable {
 public:
  static constexpr uint32_t kHost = UINT32_MAX;  // no socket: the stack itself is a member

  explicit GroupTable(const GroupOptions& options);

  // ---- what sockets ask for. 0 or an errno as Linux gives it. ----

  enum class Change : uint8_t { join, leave, allow, disallow, block, unblock };
  // `source`: of the last four. allow: joins with that source alone, or adds it (RFC 3678 4.1.1:
  // IP_ADD_SOURCE_MEMBERSHIP); disallow takes it back, with the last one the membership goes.
  int change(Change change, uint32_t socket, const IpAddress& group, uint16_t interface,
             const IpAddress& source, Time now) noexcept;
  // The socket is gone.
  void leave_all(uint32_t socket, Time now) noexcept;

  // ---- received packets ----

  [[nodiscard]] bool is_member(const IpAddress& group, uint16_t interface) const noexcept {
    const size_t i = find(group, interface);
    return i != kNowhere && groups_[i].members != 0;
  }
  // Whether the socket takes a packet of the group. `others`: also if it has joined nothing there
  // itself (IP_MULTICAST_ALL).
  [[nodiscard]] bool wants(uint32_t socket, const IpAddress& group, uint16_t interface,
                           const IpAddress& source, bool others) const noexcept;
  void on_query(const wire::GroupQuery& query, bool is_v6, uint16_t interface, Time now) noexcept;
  // RFC 2236 3, RFC 2710 4: somebody else has answered.
  void on_old_report(const IpAddress& group, uint16_t interface) noexcept;

  // ---- what is to be sent ----

  [[nodiscard]] Time next_deadline() const noexcept { return deadline_; }

  // One message: a report of the newest version, or one about one group of an older.
  struct Output {
    uint16_t interface = 0;
    bool is_v6 = false;
    bool old = false;
    wire::OldGroupMessage message{};  // old
    IpAddress group;                  // old
    size_t about = SIZE_MAX;          // position of the one group that a new report is about
  };
  // The next message due, or false. Of a new report, fill() has the records: called until it
  // returns true, once for each packet.
  bool next_output(Time now, Output* out) noexcept;
  bool fill(const Output& output, wire::GroupReportWriter& writer, Time now) noexcept;

  // ---- looking in ----

  struct View {
    IpAddress group;
    uint16_t interface = 0;
    bool exclude = false;
    uint8_t sources = 0;
    uint32_t members = 0;
  };
  [[nodiscard]] size_t size() const noexcept { return groups_.size(); }
  [[nodiscard]] View view(size_t index) const noexcept;

  // RFC 3376 8.1, 8.2, 8.10, 8.11; RFC 3810 9.
  static constexpr uint8_t kRobustness = 2;
  static constexpr Duration kUnsolicitedInterval = 1s;
  static constexpr Duration kOldUnsolicitedInterval = 10s;
  static constexpr Duration kOldQuerierTimeout = 260s;  // 2 * 125 s + 10 s

 private:
  // Apart from the rest, because packets search them.
  struct GroupKey {
    IpAddress group;
    uint16_t interface = 0;
  };
  struct MemberKey {
    GroupKey group;
    uint32_t socket = 0;
  };
  // A change of sources that is still to be told a number of times.
  struct Telling {
    IpAddress source;
    uint8_t left = 0;
  };
  struct Group {
    uint32_t members = 0;  // none: it is only here to be told
    SourceFilter filter;
    // RFC 3376 5.1: state changes.
    uint8_t mode_left = 0;
    std::array<Telling, 2 * kMostGroupSources> telling;
    uint32_t telling_count = 0;
    Time change_due = kNever;
    // RFC 3376 5.2: the answer to a query about this group; no sources: about all of them.
    Time answer_due = kNever;
    SourceSet asked;
    uint8_t old_left = 0;    // unsolicited reports of an older version
    bool old_leave = false;  // a leave of an older version
  };
  // One interface and family.
  struct Link {
    Time answer_due = kNever;                        // to a general query
    Time old_until[2] = {Time::min(), Time::min()};  // a querier of version 1, of version 2
  };
  static constexpr size_t kNowhere = SIZE_MAX;
  [[nodiscard]] size_t find(const IpAddress& group, uint16_t interface) const noexcept;
  [[nodiscard]] size_t find_member(uint32_t socket, const IpAddress& group,
                                   uint16_t interface) const noexcept;
  [[nodiscard]] Link& link(uint16_t interface, bool is_v6) noexcept {
    return links_[interface * 2U + (is_v6 ? 1 : 0)];
  }
  // 0: reports are of the newest version; else of IGMP's 1 or 2 (RFC 3376 7.2.1). MLDv1 is IGMPv2.
  [[nodiscard]] uint8_t old_version(const GroupKey& key, Time now) const noexcept;
  int add_member(const MemberKey& key, bool exclude, const IpAddress& source, Time now) noexcept;
  void remove_member(size_t index, Time now) noexcept;
  int edit(Change change, size_t member, const IpAddress& source, Time now) noexcept;
  [[nodiscard]] SourceFilter merged(const GroupKey& key, uint32_t* members) const noexcept;
  void refresh(const GroupKey& key, Time now) noexcept;
  void changed(size_t group, const SourceFilter& before, Time now) noexcept;
  static void tell_source(Group& group, const IpAddress& source) noexcept;
  [[nodiscard]] Time soon(Time now, Duration within) noexcept;
  void ask_group(Group& group, const wire::GroupQuery& query, Time due) noexcept;
  void ask_old(const wire::GroupQuery& query, const GroupKey& about, Time now) noexcept;
  void forget_pending(uint16_t interface, bool is_v6) noexcept;
  bool fill_all(const Output& output, wire::GroupReportWriter& writer) noexcept;
  void fill_changes(size_t group, wire::GroupReportWriter& writer, Time now) noexcept;
  void fill_asked(size_t group, wire::GroupReportWriter& writer) noexcept;
  bool link_output(Time now, Output* out) noexcept;
  bool group_output(size_t group, Time now, Output* out) noexcept;
  bool old_output(size_t group, uint8_t version, Time now, Output* out) noexcept;
  void settle() noexcept;

  GroupOptions options_;
  Random random_;
  std::vector<MemberKey> member_keys_;  // all four reserved in the beginning
  std::vector<SourceFilter> filters_;   // by position in member_keys_
  std::vector<GroupKey> group_keys_;
  std::vector<Group> groups_;  // by position in group_keys_
  std::vector<Link> links_;
  size_t answer_next_ = 0;  // group that the answer to a general query goes on with
  Time deadline_ = kNever;
};

}  // namespace postern
