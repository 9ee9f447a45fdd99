// The kernel beside Postern: taps on the addresses of the ports that have an exception path.
#pragma once

#include <memory>
#include <vector>

#include "control/config.h"
#include "daemon/tap.h"
#include "dataplane/exception_path.h"
#include "dpdk/port.h"

namespace postern {

class KernelSide {
 public:
  // Opens the taps; throws ConfigError. `ports` as in the configuration.
  KernelSide(const Config& config, const std::vector<std::unique_ptr<Port>>& ports);

  // nullptr: no port has an exception path.
  [[nodiscard]] ExceptionPath* path() const { return path_.get(); }
  // Once the workers run, and before they are destroyed.
  void start();
  void stop();

 private:
  std::vector<std::unique_ptr<QuietInterface>> quiet_;
  std::unique_ptr<ExceptionPath> path_;
};

}  // namespace postern
