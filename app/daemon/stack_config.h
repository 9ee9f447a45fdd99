// From the operator's configuration to what workers and their stacks are made with. Pure but for
// the secret, which comes from the kernel's random source.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control/config.h"
#include "dataplane/worker.h"
#include "dpdk/port.h"

namespace postern {

// The name after "iface=" of a driver that takes over an interface of the kernel's, else "".
std::string taken_interface(const std::string& device);

// Gives each port that has an IPv6 address a link-local one too, unless it has one (RFC 4291 2.8).
void add_link_local(Config& config, const std::vector<std::unique_ptr<Port>>& ports);

// One for all workers, with its secret. `ports` stand in the order of config.ports.
StackConfig stack_config(const Config& config, const std::vector<std::unique_ptr<Port>>& ports);

// For the worker `index` of config.cores. mesh: null if it is the only one; exception: null if
// there is none.
WorkerOptions worker_options(const Config& config, const StackConfig& stack,
                             const std::vector<std::unique_ptr<Port>>& ports, WorkerMesh* mesh,
                             uint32_t index, ExceptionPath* exception);

EalOptions eal_options(const Config& config, DpdkLogSink log);
PortOptions port_options(const Config& config, const PortConfig& port);

}  // namespace postern
