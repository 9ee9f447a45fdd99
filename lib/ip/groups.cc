#include "ip/groups.h"

#include <algorithm>
#include <cerrno>

namespace postern {
namespace {

using wire::GroupRecordType;
using wire::OldGroupMessage;

// RFC 3376 5, RFC 3810 6: all hosts are members of these, and no router need know.
bool reportable(const IpAddress& group) {
  if (group.is_v4()) return group != IpAddress::v4(0xe0000001);
  const uint8_t scope = group.data()[1] & 15U;
  constexpr uint8_t kAllNodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return scope > 1 && group != IpAddress::v6(kAllNodes);
}

bool is_nothing(const SourceFilter& filter) { return !filter.exclude && filter.sources.empty(); }

}  // namespace

// ---- sets ----

bool SourceSet::contains(const IpAddress& a) const noexcept {
  return std::find(begin(), end(), a) != end();
}

bool SourceSet::add(const IpAddress& a) noexcept {
  if (contains(a)) return true;
  if (count_ == kMostGroupSources) return false;
  sources_[count_++] = a;
  return true;
}

bool SourceSet::remove(const IpAddress& a) noexcept {
  auto* const at = std::find(sources_.data(), sources_.data() + count_, a);
  if (at == end()) return false;
  *at = sources_[--count_];
  return true;
}

GroupTable::GroupTable(const GroupOptions& options) : options_(options), random_(options.seed) {
  member_keys_.reserve(options.memberships);
  filters_.reserve(options.memberships);
  // Groups that nobody is in any more stay until routers know.
  group_keys_.reserve(2 * size_t{options.memberships});
  groups_.reserve(2 * size_t{options.memberships});
  links_.resize(2 * size_t{options.interfaces});
}

size_t GroupTable::find(const IpAddress& group, uint16_t interface) const noexcept {
  for (size_t i = 0; i < group_keys_.size(); ++i) {
    if (group_keys_[i].group == group && group_keys_[i].interface == interface) return i;
  }
  return kNowhere;
}

size_t GroupTable::find_member(uint32_t socket, const IpAddress& group,
                               uint16_t interface) const noexcept {
  for (size_t i = 0; i < member_keys_.size(); ++i) {
    const MemberKey& key = member_keys_[i];
    if (key.socket == socket && key.group.group == group && key.group.interface == interface) {
      return i;
    }
  }
  return kNowhere;
}

// ---- what sockets ask for ----

int GroupTable::change(Change change, uint32_t socket, const IpAddress& group, uint16_t interface,
                       const IpAddress& source, Time now) noexcept {
  if (!group.is_multicast()) return EINVAL;
  if (interface * 2U >= links_.size()) return ENODEV;
  const size_t i = find_member(socket, group, interface);
  const MemberKey key{{group, interface}, socket};
  switch (change) {
    case Change::join:
      return i != kNowhere ? EADDRINUSE : add_member(key, true, source, now);
    case Change::leave:
      if (i == kNowhere) return EADDRNOTAVAIL;
      remove_member(i, now);
      return 0;
    case Change::allow:
      if (i == kNowhere) return add_member(key, false, source, now);
      break;
    default:
      if (i == kNowhere) return change == Change::disallow ? EADDRNOTAVAIL : EINVAL;
  }
  return edit(change, i, source, now);
}

int GroupTable::add_member(const MemberKey& key, bool exclude, const IpAddress& source,
                           Time now) noexcept {
  if (member_keys_.size() == options_.memberships) return ENOBUFS;
  const auto same = [&](const MemberKey& other) { return other.socket == key.socket; };
  if (key.socket != kHost && std::count_if(member_keys_.begin(), member_keys_.end(), same) >=
                                 static_cast<ptrdiff_t>(kMostGroupsOfSocket)) {
    return ENOBUFS;
  }
  if (find(key.group.group, key.group.interface) == kNowhere &&
      groups_.size() == 2 * size_t{options_.memberships}) {
    return ENOBUFS;
  }
  member_keys_.push_back(key);
  filters_.push_back({.exclude = exclude, .sources = {}});
  if (!exclude) filters_.back().sources.add(source);
  refresh(key.group, now);
  return 0;
}

void GroupTable::remove_member(size_t index, Time now) noexcept {
  const GroupKey group = member_keys_[index].group;
  member_keys_[index] = member_keys_.back();
  filters_[index] = filters_.back();
  member_keys_.pop_back();
  filters_.pop_back();
  refresh(group, now);
}

// RFC 3678 4.1: a filter's mode changes only while it lists nothing.
int GroupTable::edit(Change change, size_t member, const IpAddress& source, Time now) noexcept {
  SourceFilter& filter = filters_[member];
  const bool wanted_exclude = change == Change::block || change == Change::unblock;
  if (filter.exclude != wanted_exclude) {
    if (!filter.sources.empty()) return EINVAL;
    if (change == Change::disallow || change == Change::unblock) return EINVAL;
    filter.exclude = wanted_exclude;
  }
  if (change == Change::allow || change == Change::block) {
    if (filter.sources.contains(source)) return EADDRNOTAVAIL;
    if (!filter.sources.add(source)) return ENOBUFS;
  } else if (!filter.sources.remove(source)) {
    return EADDRNOTAVAIL;
  }
  if (is_nothing(filter)) {
    remove_member(member, now);
  } else {
    refresh(member_keys_[member].group, now);
  }
  return 0;
}

void GroupTable::leave_all(uint32_t socket, Time now) noexcept {
  for (size_t i = member_keys_.size(); i-- > 0;) {
    if (member_keys_[i].socket == socket) remove_member(i, now);
  }
}

bool GroupTable::wants(uint32_t socket, const IpAddress& group, uint16_t interface,
                       const IpAddress& source, bool others) const noexcept {
  const size_t i = find_member(socket, group, interface);
  return i == kNowhere ? others : filters_[i].passes(source);
}

// ---- the interface's filter, RFC 3376 3.2 ----

SourceFilter GroupTable::merged(const GroupKey& key, uint32_t* members) const noexcept {
  SourceFilter all;
  SourceSet included;
  bool overflow = false;
  *members = 0;
  for (size_t i = 0; i < member_keys_.size(); ++i) {
    const GroupKey& other = member_keys_[i].group;
    if (other.group != key.group || other.interface != key.interface) continue;
    ++*members;
    const SourceFilter& filter = filters_[i];
    if (!filter.exclude) {
      for (const IpAddress& source : filter.sources) overflow |= !included.add(source);
    } else if (!all.exclude) {
      all = filter;
    } else {
      const SourceSet before = all.sources;
      for (const IpAddress& source : before) {
        if (!filter.sources.contains(source)) all.sources.remove(source);
      }
    }
  }
  if (overflow) return {.exclude = true, .sources = {}};
  if (!all.exclude) return {.exclude = false, .sources = included};
  for (const IpAddress& source : included) all.sources.remove(source);
  return all;
}

void GroupTable::refresh(const GroupKey& key, Time now) noexcept {
  uint32_t members = 0;
  const SourceFilter filter = merged(key, &members);
  size_t i = find(key.group, key.interface);
  if (i == kNowhere) {
    i = groups_.size();
    group_keys_.push_back(key);
    groups_.emplace_back();
  }
  const SourceFilter before = groups_[i].filter;
  groups_[i].members = members;
  groups_[i].filter = filter;
  changed(i, before, now);
  settle();
}

Time GroupTable::soon(Time now, Duration within) noexcept {
  return now + Duration(random_.below(static_cast<uint64_t>(within.count()) + 1));
}

// RFC 3376 5.1: what of the change routers are to hear.
void GroupTable::changed(size_t i, const SourceFilter& before, Time now) noexcept {
  Group& group = groups_[i];
  if (!options_.speaks || !reportable(group_keys_[i].group)) return;
  const SourceFilter& after = group.filter;
  if (is_nothing(before) && !is_nothing(after)) {
    group.old_left = kRobustness;
    group.old_leave = false;
  } else if (is_nothing(after) && !is_nothing(before)) {
    group.old_left = 0;
    group.old_leave = true;
  }
  if (before.exclude != after.exclude) {
    group.mode_left = kRobustness;
    group.telling_count = 0;
    group.change_due = now;
    return;
  }
  for (const IpAddress& source : before.sources) {
    if (!after.sources.contains(source)) tell_source(group, source);
  }
  for (const IpAddress& source : after.sources) {
    if (!before.sources.contains(source)) tell_source(group, source);
  }
  if (group.telling_count != 0) group.change_due = now;
}

// Whether it is told as allowed or blocked follows from the filter when it is told. Without room
// the whole filter is told instead.
void GroupTable::tell_source(Group& group, const IpAddress& source) noexcept {
  const auto begin = group.telling.begin();
  const auto end = begin + group.telling_count;
  const auto it = std::find_if(begin, end, [&](const Telling& t) { return t.source == source; });
  if (it != end) {
    it->left = kRobustness;
  } else if (group.telling_count < group.telling.size()) {
    group.telling[group.telling_count++] = {source, kRobustness};
  } else {
    group.mode_left = kRobustness;
    group.telling_count = 0;
  }
}

// ---- queries, RFC 3376 5.2 and 7.2, RFC 3810 6.2 and 8.2 ----

uint8_t GroupTable::old_version(const GroupKey& key, Time now) const noexcept {
  const Link& l = links_[key.interface * 2U + (key.group.is_v4() ? 0 : 1)];
  if (l.old_until[0] > now) return 1;
  return l.old_until[1] > now ? 2 : 0;
}

// RFC 3376 7.2.1: answers and retransmissions of the other version are forgotten.
void GroupTable::forget_pending(uint16_t interface, bool is_v6) noexcept {
  link(interface, is_v6).answer_due = kNever;
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (group_keys_[i].interface != interface || group_keys_[i].group.is_v4() == is_v6) continue;
    Group& g = groups_[i];
    g.answer_due = g.change_due = kNever;
    g.mode_left = g.old_left = 0;
    g.telling_count = 0;
    g.old_leave = false;
  }
}

void GroupTable::on_query(const wire::GroupQuery& query, bool is_v6, uint16_t interface,
                          Time now) noexcept {
  if (!options_.speaks || interface * 2U >= links_.size()) return;
  Link& l = link(interface, is_v6);
  const GroupKey family{is_v6 ? IpAddress{} : IpAddress::v4(0), interface};
  const uint8_t before = old_version(family, now);
  const bool old = query.version < (is_v6 ? 2 : 3);
  if (old) l.old_until[!is_v6 && query.version == 1 ? 0 : 1] = now + kOldQuerierTimeout;
  if (old_version(family, now) != before) forget_pending(interface, is_v6);
  if (old_version(family, now) != 0) {
    ask_old(query, {query.group, interface}, now);
    return settle();
  }
  const Time due = soon(now, query.max_response);
  if (l.answer_due <= due) return;
  if (query.group.is_any()) {
    l.answer_due = due;
    answer_next_ = 0;
  } else if (const size_t i = find(query.group, interface); i != kNowhere) {
    ask_group(groups_[i], query, due);
  }
  settle();
}

// RFC 3376 5.2, rules 3 to 5.
void GroupTable::ask_group(Group& group, const wire::GroupQuery& query, Time due) noexcept {
  const bool pending = group.answer_due != kNever;
  const bool all = query.source_count == 0 || query.source_count > kMostGroupSources;
  if (!pending || all) {
    const bool keep_all = pending && group.asked.empty();
    group.asked.clear();
    if (!all && !keep_all) {
      for (size_t n = 0; n < query.source_count; ++n) group.asked.add(query.source(n));
    }
  } else if (!group.asked.empty()) {
    for (size_t n = 0; n < query.source_count; ++n) {
      if (group.asked.add(query.source(n))) continue;
      group.asked.clear();
      break;
    }
  }
  group.answer_due = std::min(group.answer_due, due);
}

// RFC 2236 3, RFC 2710 4: a timer for each group.
void GroupTable::ask_old(const wire::GroupQuery& query, const GroupKey& about, Time now) noexcept {
  for (size_t i = 0; i < groups_.size(); ++i) {
    const GroupKey& key = group_keys_[i];
    if (key.interface != about.interface || key.group.is_v4() == query.is_v6) continue;
    if (!about.group.is_any() && key.group != about.group) continue;
    if (groups_[i].members == 0 || !reportable(key.group)) continue;
    groups_[i].answer_due = std::min(groups_[i].answer_due, soon(now, query.max_response));
  }
}

void GroupTable::on_old_report(const IpAddress& group, uint16_t interface) noexcept {
  const size_t i = find(group, interface);
  if (i == kNowhere ||
      links_[interface * 2U + (group.is_v4() ? 0 : 1)].old_until[1] == Time::min()) {
    return;
  }
  groups_[i].answer_due = kNever;
  settle();
}

// ---- what is to be sent ----

bool GroupTable::next_output(Time now, Output* out) noexcept {
  if (deadline_ > now) return false;
  if (link_output(now, out)) return true;
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (group_output(i, now, out)) return true;
  }
  settle();
  return false;
}

// Answers to general queries.
bool GroupTable::link_output(Time now, Output* out) noexcept {
  for (size_t i = 0; i < links_.size(); ++i) {
    if (links_[i].answer_due > now) continue;
    const bool is_v6 = i % 2 != 0;
    const auto interface = static_cast<uint16_t>(i / 2);
    for (size_t g = answer_next_; g < groups_.size(); ++g) {
      const GroupKey& key = group_keys_[g];
      if (key.interface != interface || key.group.is_v4() == is_v6) continue;
      if (groups_[g].members == 0 || !reportable(key.group)) continue;
      answer_next_ = g;
      *out = {.interface = interface, .is_v6 = is_v6, .old = false, .message = {}, .group = {}};
      return true;
    }
    links_[i].answer_due = kNever;
    answer_next_ = 0;
  }
  return false;
}

bool GroupTable::group_output(size_t i, Time now, Output* out) noexcept {
  Group& g = groups_[i];
  if (std::min(g.change_due, g.answer_due) > now) return false;
  const GroupKey& key = group_keys_[i];
  const uint8_t version = old_version(key, now);
  if (version != 0) return old_output(i, version, now, out);
  if (g.mode_left == 0 && g.telling_count == 0) g.change_due = kNever;
  if (is_nothing(g.filter) || !reportable(key.group)) g.answer_due = kNever;
  if (std::min(g.change_due, g.answer_due) > now) return false;
  *out = {.interface = key.interface,
          .is_v6 = !key.group.is_v4(),
          .old = false,
          .message = {},
          .group = key.group,
          .about = i};
  return true;
}

bool GroupTable::old_output(size_t i, uint8_t version, Time now, Output* out) noexcept {
  Group& g = groups_[i];
  const GroupKey& key = group_keys_[i];
  g.mode_left = 0;
  g.telling_count = 0;
  const bool leaves = g.old_leave;
  const bool reports = !leaves && (g.old_left != 0 || g.answer_due <= now);
  if (g.answer_due <= now) g.answer_due = kNever;
  if (g.change_due <= now) {
    if (g.old_left != 0) --g.old_left;
    g.change_due = g.old_left != 0 ? soon(now, kOldUnsolicitedInterval) : kNever;
    g.old_leave = false;
  }
  if ((!leaves && !reports) || (leaves && version == 1)) return false;
  const OldGroupMessage report = version == 1 ? OldGroupMessage::report1 : OldGroupMessage::report2;
  *out = {.interface = key.interface,
          .is_v6 = !key.group.is_v4(),
          .old = true,
          .message = leaves ? OldGroupMessage::leave2 : report,
          .group = key.group};
  return true;
}

bool GroupTable::fill(const Output& output, wire::GroupReportWriter& writer, Time now) noexcept {
  if (output.about == SIZE_MAX) return fill_all(output, writer);
  Group& g = groups_[output.about];
  if (g.change_due <= now) fill_changes(output.about, writer, now);
  if (g.answer_due <= now) fill_asked(output.about, writer);
  return true;
}

// As many groups as fit; link_output() comes back for the rest.
bool GroupTable::fill_all(const Output& output, wire::GroupReportWriter& writer) noexcept {
  for (; answer_next_ < groups_.size(); ++answer_next_) {
    const GroupKey& key = group_keys_[answer_next_];
    if (key.interface != output.interface || key.group.is_v4() == output.is_v6) continue;
    const Group& g = groups_[answer_next_];
    if (g.members == 0 || !reportable(key.group)) continue;
    const auto type = g.filter.exclude ? GroupRecordType::is_exclude : GroupRecordType::is_include;
    if (!writer.add(type, key.group, g.filter.sources.span())) return false;
  }
  return true;
}

// RFC 3376 5.1: a change of mode tells the whole filter; else what was allowed and what blocked.
void GroupTable::fill_changes(size_t i, wire::GroupReportWriter& writer, Time now) noexcept {
  Group& g = groups_[i];
  const IpAddress& group = group_keys_[i].group;
  SourceSet allowed, blocked;
  uint32_t kept = 0;
  for (uint32_t n = 0; n < g.telling_count; ++n) {
    Telling t = g.telling[n];
    (void)(g.filter.passes(t.source) ? allowed : blocked).add(t.source);
    if (--t.left != 0) g.telling[kept++] = t;
  }
  g.telling_count = kept;
  if (g.mode_left != 0) {
    --g.mode_left;
    writer.add(g.filter.exclude ? GroupRecordType::to_exclude : GroupRecordType::to_include, group,
               g.filter.sources.span());
  } else {
    if (!allowed.empty()) writer.add(GroupRecordType::allow, group, allowed.span());
    if (!blocked.empty()) writer.add(GroupRecordType::block, group, blocked.span());
  }
  g.old_left = 0;
  g.old_leave = false;
  g.change_due =
      g.mode_left != 0 || g.telling_count != 0 ? soon(now, kUnsolicitedInterval) : kNever;
}

void GroupTable::fill_asked(size_t i, wire::GroupReportWriter& writer) noexcept {
  Group& g = groups_[i];
  g.answer_due = kNever;
  const IpAddress& group = group_keys_[i].group;
  if (g.asked.empty()) {
    writer.add(g.filter.exclude ? GroupRecordType::is_exclude : GroupRecordType::is_include, group,
               g.filter.sources.span());
    return;
  }
  SourceSet wanted;
  for (const IpAddress& source : g.asked) {
    if (g.filter.passes(source)) (void)wanted.add(source);
  }
  g.asked.clear();
  if (!wanted.empty()) writer.add(GroupRecordType::is_include, group, wanted.span());
}

// Forgets groups of nobody that routers know about, and finds out what is due next.
void GroupTable::settle() noexcept {
  deadline_ = kNever;
  for (const Link& l : links_) deadline_ = std::min(deadline_, l.answer_due);
  for (size_t i = groups_.size(); i-- > 0;) {
    Group& g = groups_[i];
    if (g.members == 0) g.answer_due = kNever;
    if (g.members == 0 && g.change_due == kNever) {
      groups_[i] = groups_.back();
      group_keys_[i] = group_keys_.back();
      groups_.pop_back();
      group_keys_.pop_back();
      continue;
    }
    deadline_ = std::min({deadline_, g.change_due, g.answer_due});
  }
}

GroupTable::View GroupTable::view(size_t index) const noexcept {
  const Group& g = groups_[index];
  return {group_keys_[index].group, group_keys_[index].interface, g.filter.exclude,
          static_cast<uint8_t>(g.filter.sources.size()), g.members};
}

}  // namespace postern
