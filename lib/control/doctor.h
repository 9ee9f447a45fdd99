// `postern doctor`: what of the machine keeps Postern from running, or from running well. Works
// without a daemon. What it asks of the machine besides files comes in as functions, so that tests
// can be machines that are not here.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "control/config.h"
#include "control/findings.h"
#include "control/topology.h"

namespace postern {

// Settings of a network interface of the kernel's.
struct InterfaceFacts {
  std::string name;
  std::string network;  // the namespace it is in, as `ip netns exec` or `nsenter --net=` names it;
                        // empty: this one
  std::string driver;   // "veth"
  bool tx_checksum = false, tso = false, gso = false;  // what it leaves undone for the next
  bool gro = false, lro = false;                       // segments it joins on receive
};

struct Surroundings {
  SystemRoots roots;
  std::function<std::optional<InterfaceFacts>(const std::string& name)> interface;
  // The other end of a veth, whichever namespace it is in.
  std::function<std::optional<InterfaceFacts>(const std::string& name)> veth_peer;
  bool root = false;
  uint64_t capabilities = 0;   // effective, bits as in <linux/capability.h>
  uint64_t locked_memory = 0;  // RLIMIT_MEMLOCK, bytes
};
// This machine.
Surroundings surroundings();

// `config` null: only what needs none. Topics: processor, clock, iommu, binding, permissions,
// devices, rss, offload, and those of check_placement.
Findings examine(const Config* config, const Surroundings& around);

}  // namespace postern
