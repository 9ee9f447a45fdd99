// Addresses that routers' prefixes make come and go while everything runs: applications may bind
// what is there, and the tap beside a port has the same ones. Control thread only.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <vector>

#include "control/config.h"
#include "daemon/applications.h"
#include "daemon/worker_calls.h"

namespace postern {

// Looks once a second, if some port listens to routers.
class AddressWatch {
 public:
  // All must outlive this, or stop() be called before.
  AddressWatch(boost::asio::io_context& io, const Config& config, WorkerCalls& calls,
               Applications& applications);
  void stop();

 private:
  void wait();
  void look();
  void apply(std::vector<std::vector<Prefix>> learned);

  const Config& config_;
  WorkerCalls& calls_;
  Applications& applications_;
  const std::vector<InterfaceEntry> interfaces_;
  boost::asio::steady_timer timer_;
  std::vector<std::vector<Prefix>> learned_;  // by interface
  bool stopped_ = false;
};

}  // namespace postern
