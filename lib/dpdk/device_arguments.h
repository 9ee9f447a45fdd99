// Private: what virtual devices need in their arguments and do not choose themselves. What the
// operator has given stays.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dpdk/port.h"

namespace postern {

// The value of key= in "net_x0,a=1,b=2", empty if absent.
std::string argument(std::string_view arguments, std::string_view key);

// Bytes of a slot of net_af_packet's ring: the frame and the kernel's header. Slots must fill
// blocks, and blocks pages, without rest.
uint32_t af_packet_slot(uint16_t mtu);

// For this MTU, these queues and descriptors. Throws DpdkError where the interface has less.
void complete_af_packet(const PortOptions& options, std::string& arguments);

// A frame in several of its buffers upsets net_memif up to at least 22.11: it counts free ones
// wrongly and leaves marks of earlier frames standing. The client, who owns them, makes them large
// enough.
void complete_memif(uint32_t frame, std::string& arguments);

}  // namespace postern
