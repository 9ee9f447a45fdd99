// posternd as an object: everything that runs, in the order in which it starts and, backwards,
// stops. One per process, because DPDK's environment is.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "control/config.h"
#include "control/control_server.h"
#include "control/instance.h"
#include "control/session_server.h"
#include "daemon/address_watch.h"
#include "daemon/applications.h"
#include "daemon/exception.h"
#include "daemon/groups.h"
#include "daemon/routes.h"
#include "daemon/worker_calls.h"
#include "dataplane/mesh.h"
#include "dataplane/worker.h"
#include "dpdk/eal.h"
#include "dpdk/port.h"

namespace postern {

class Daemon {
 public:
  // Starts everything; throws ConfigError (a place in the configuration is to blame, "file:line:
  // column: ..."), or another std::exception. What had started by then is stopped again.
  explicit Daemon(Config config);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Serves until SIGTERM or SIGINT, then stops in good order.
  void run();

  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Port>>& ports() const { return ports_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Worker>>& workers() const { return workers_; }
  [[nodiscard]] WorkerCalls& calls() { return *calls_; }
  [[nodiscard]] Routes& routes() { return *routes_; }
  [[nodiscard]] const Applications& applications() const { return *applications_; }
  [[nodiscard]] const KernelSide& kernel_side() const { return *kernel_side_; }
  [[nodiscard]] std::chrono::seconds uptime() const;

 private:
  void lock_paths();
  void start_eal();
  void open_ports();
  void start_workers();
  void open_sockets();
  void begin_stop();
  void finish_stop();

  Config config_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::vector<std::unique_ptr<InstanceLock>> locks_;
  boost::asio::io_context io_{1};
  boost::asio::signal_set signals_{io_};
  std::unique_ptr<Eal> eal_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::unique_ptr<WorkerMesh> mesh_;  // null with one worker
  std::unique_ptr<KernelSide> kernel_side_;
  std::unique_ptr<Routes> routes_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<WorkerCalls> calls_;
  std::unique_ptr<Groups> groups_;
  std::unique_ptr<Applications> applications_;
  std::unique_ptr<AddressWatch> address_watch_;
  std::unique_ptr<SessionServer> sessions_;
  std::unique_ptr<ControlServer> control_;
  bool stopping_ = false;
};

}  // namespace postern
