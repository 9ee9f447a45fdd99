// Membership of applications' sockets in groups: which interface is meant, the workers told, the
// devices' filters. Control thread only.
//
// A socket may join before it is bound, when no worker knows it yet: what it wants is kept until
// then.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "abi/shmsock.h"
#include "control/config.h"
#include "control/port_table.h"
#include "daemon/routes.h"
#include "daemon/worker_calls.h"
#include "dpdk/port.h"

namespace postern {

class Groups {
 public:
  Groups(const Config& config, const std::vector<std::unique_ptr<Port>>& ports,
         const Routes& routes, WorkerCalls& calls);

  struct Change {
    GroupTable::Change what = GroupTable::Change::join;
    uint16_t interface = 0;
    IpAddress group;
    IpAddress source;
  };
  using Changes = std::shared_ptr<const std::vector<Change>>;

  // done(errno value, interface plus 1).
  void request(AppId app, const shm_group_request& request,
               std::function<void(int error, uint16_t interface)> done);
  // What a socket asked for before it was bound; null if nothing.
  [[nodiscard]] Changes take_early(AppId app, const Reservation& bound);
  // The application is gone, or a socket of it may be.
  void forget(AppId app) { early_.erase(app); }
  // Has the devices pass what some worker is a member of.
  void refresh_filters();

 private:
  static constexpr size_t kMostEarly = 256;  // of one application
  struct Early {
    uint32_t channel = 0;
    shm_handle handle{};
    Change change;
  };
  using Seen = std::array<GroupTable::View, 2048>;
  [[nodiscard]] std::optional<uint16_t> interface_of(const shm_group_request& request,
                                                     const IpAddress& group) const;
  [[nodiscard]] std::optional<uint16_t> interface_with(const IpAddress& address) const;
  [[nodiscard]] int keep_early(AppId app, const shm_group_request& request, const Change& change);
  void set_filters(const Seen& groups, size_t count);

  const std::vector<InterfaceEntry> interfaces_;
  const std::vector<std::unique_ptr<Port>>& ports_;
  const Routes& routes_;
  WorkerCalls& calls_;
  std::map<AppId, std::vector<Early>> early_;
};

}  // namespace postern
