// Where workers, ports and memory of a configuration lie on the machine, and what would be better.
// posternd logs it at start; `postern doctor` prints it.
#pragma once

#include <string>

#include "control/config.h"
#include "control/findings.h"
#include "control/topology.h"

namespace postern {

// The value of key= in "net_x0,a=1,b=2"; empty if absent.
std::string device_argument(const std::string& device, std::string_view key);
bool is_pci_address(const std::string& device);
// Of the card behind a port; -1 unknown, or the port is not on a card.
int port_node(const SystemRoots& roots, const std::string& device);

// Topics: cores, siblings, isolation, governor, numa, hugepages.
Findings check_placement(const Config& config, const Topology& topology, const SystemRoots& roots);

}  // namespace postern
