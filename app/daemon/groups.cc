#include "daemon/groups.h"

#include <algorithm>
#include <cerrno>

#include "ip/ipv6.h"

namespace postern {
namespace {

SocketRef socket_on(AppId app, const shm_group_request& request, size_t worker) {
  return {app, request.handles[worker].slot, request.handles[worker].generation};
}

std::optional<GroupTable::Change> change_of(uint16_t change) {
  switch (change) {
    case SHM_GROUP_JOIN:
      return GroupTable::Change::join;
    case SHM_GROUP_LEAVE:
      return GroupTable::Change::leave;
    case SHM_GROUP_ALLOW:
      return GroupTable::Change::allow;
    case SHM_GROUP_DISALLOW:
      return GroupTable::Change::disallow;
    case SHM_GROUP_BLOCK:
      return GroupTable::Change::block;
    case SHM_GROUP_UNBLOCK:
      return GroupTable::Change::unblock;
    default:
      return std::nullopt;
  }
}

}  // namespace

Groups::Groups(const Config& config, const std::vector<std::unique_ptr<Port>>& ports,
               const Routes& routes, WorkerCalls& calls)
    : interfaces_(interfaces_of(config.ports)), ports_(ports), routes_(routes), calls_(calls) {}

std::optional<uint16_t> Groups::interface_with(const IpAddress& address) const {
  for (size_t i = 0; i < interfaces_.size(); ++i) {
    for (const Prefix& prefix : interfaces_[i].addresses) {
      if (prefix.address == address) return static_cast<uint16_t>(i);
    }
  }
  return std::nullopt;
}

// The one that is named, else that of the route, else the first of the family.
std::optional<uint16_t> Groups::interface_of(const shm_group_request& request,
                                             const IpAddress& group) const {
  if (request.interface != 0) {
    if (request.interface > interfaces_.size()) return std::nullopt;
    return static_cast<uint16_t>(request.interface - 1);
  }
  const auto rows = routes_.get(group);
  for (size_t i = 0; i < interfaces_.size(); ++i) {
    const bool routed = std::any_of(rows.begin(), rows.end(), [&](const Routes::Row& row) {
      return row.route.port == interfaces_[i].name;
    });
    if (routed) return static_cast<uint16_t>(i);
  }
  for (size_t i = 0; i < interfaces_.size(); ++i) {
    const auto& addresses = interfaces_[i].addresses;
    const bool has = std::any_of(addresses.begin(), addresses.end(), [&](const Prefix& p) {
      return p.address.is_v4() == group.is_v4();
    });
    if (has) return static_cast<uint16_t>(i);
  }
  return std::nullopt;
}

void Groups::request(AppId app, const shm_group_request& request,
                     std::function<void(int error, uint16_t interface)> done) {
  const IpAddress group = IpAddress::v6(request.group);
  const IpAddress source = IpAddress::v6(request.source);
  const uint16_t what = request.change & ~SHM_GROUP_UNBOUND;
  if (what == SHM_GROUP_FIND) {
    const auto found = interface_with(source);
    return found ? done(0, static_cast<uint16_t>(*found + 1)) : done(ENODEV, 0);
  }
  const auto change = change_of(what);
  if (!change || !group.is_multicast()) return done(EINVAL, 0);
  const auto interface = interface_of(request, group);
  if (!interface) return done(ENODEV, 0);
  const Change wanted{*change, *interface, group, source};
  const auto number = static_cast<uint16_t>(*interface + 1);
  if ((request.change & SHM_GROUP_UNBOUND) != 0)
    return done(keep_early(app, request, wanted), number);
  calls_.post_all(
      [app, request, wanted](Worker& worker) noexcept {
        return worker.stack().change_group(socket_on(app, request, worker.options().index),
                                           wanted.what, wanted.group, wanted.interface,
                                           wanted.source, worker.now());
      },
      [this, number, done = std::move(done)](const std::vector<int>& errors) {
        const auto bad = std::find_if(errors.begin(), errors.end(), [](int e) { return e != 0; });
        if (bad == errors.end()) refresh_filters();
        done(bad == errors.end() ? 0 : (*bad == ESTALE ? EBADF : *bad), number);
      });
}

// Errors of the order of changes are not seen before the socket is bound.
int Groups::keep_early(AppId app, const shm_group_request& request, const Change& change) {
  for (uint32_t c = 0; c < calls_.workers(); ++c) {
    if (request.handles[c].generation == 0) continue;
    std::vector<Early>& early = early_[app];
    // Sockets that were closed without having been bound are never heard of again.
    if (early.size() == kMostEarly) early.erase(early.begin());
    early.push_back({c, request.handles[c], change});
    return 0;
  }
  return EINVAL;
}

Groups::Changes Groups::take_early(AppId app, const Reservation& bound) {
  const auto found = early_.find(app);
  if (found == early_.end()) return nullptr;
  const auto is_of = [&](const Early& e) {
    const shm_handle& handle = bound.handles[e.channel];
    return handle.slot == e.handle.slot && handle.generation == e.handle.generation;
  };
  auto changes = std::make_shared<std::vector<Change>>();
  for (const Early& e : found->second) {
    if (is_of(e)) changes->push_back(e.change);
  }
  std::erase_if(found->second, is_of);
  return changes->empty() ? nullptr : changes;
}

// ---- the devices' filters ----

void Groups::refresh_filters() {
  auto seen = std::make_shared<Seen>();
  calls_.post(
      0,
      [seen = seen.get()](Worker& worker) noexcept {
        const GroupTable& table = worker.stack().groups();
        const size_t n = std::min(table.size(), seen->size());
        for (size_t i = 0; i < n; ++i) (*seen)[i] = table.view(i);
        return n;
      },
      [this, seen](size_t count) { set_filters(*seen, count); });
}

void Groups::set_filters(const Seen& groups, size_t count) {
  for (size_t p = 0; p < ports_.size(); ++p) {
    std::vector<MacAddress> macs;
    for (size_t i = 0; i < count; ++i) {
      if (interfaces_[groups[i].interface].port == p)
        macs.push_back(multicast_mac(groups[i].group));
    }
    if (!macs.empty()) macs.push_back(multicast_mac(IpAddress::v4(0xe0000001)));  // queries
    std::sort(macs.begin(), macs.end(),
              [](const MacAddress& a, const MacAddress& b) { return a.bytes < b.bytes; });
    macs.erase(std::unique(macs.begin(), macs.end()), macs.end());
    ports_[p]->set_groups(macs);
  }
}

}  // namespace postern
