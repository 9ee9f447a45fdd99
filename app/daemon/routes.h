// The routes of the daemon: those of the configuration, those that `postern route` adds and
// deletes, and the networks of the ports. Control thread only.
//
// A change builds a new table beside the one in use. Each worker takes it over between two turns;
// when the last has done so nobody can hold the old one any more, and it is freed.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "control/config.h"
#include "daemon/worker_calls.h"
#include "ip/route_table.h"

namespace postern {

class Routes {
 public:
  // The configuration's routes are complete and no worker runs yet.
  Routes(boost::asio::io_context& io, const Config& config,
         const std::vector<std::unique_ptr<Worker>>& workers);
  void set_calls(WorkerCalls& calls) { calls_ = &calls; }

  // Each throws std::runtime_error if a route is not possible; those before it are in.
  void add(RouteEntry route);
  // The route that `like` describes; what it leaves out may be anything, but only one may match.
  void remove(const RouteEntry& like);
  // Has the workers use what was changed, and then calls done().
  void apply(std::function<void()> done);
  // The same, soon, without anybody waiting for it.
  void apply_soon();
  void stop() { later_.cancel(); }

  struct Row {
    RouteEntry route;
    const char* origin = "";  // "port", "config", "added"
  };
  // In the order of what lookups see, from the n-th on.
  [[nodiscard]] std::vector<Row> list(size_t from, size_t most) const;
  [[nodiscard]] size_t size() const { return rows_.size(); }
  [[nodiscard]] std::vector<Row> get(const IpAddress& destination) const;

 private:
  struct Less {
    bool operator()(const Row& a, const Row& b) const;
  };
  [[nodiscard]] RouteTable build() const;
  [[nodiscard]] uint16_t interface_of(const std::string& port) const;

  const std::vector<InterfaceEntry> interfaces_;
  WorkerCalls* calls_ = nullptr;
  boost::asio::steady_timer later_;
  bool changed_ = false;
  std::set<Row, Less> rows_;
  std::shared_ptr<const RouteTable> table_;
};

}  // namespace postern
