// What a device does with the work that a frame leaves to it: checksums, and the cutting up of long
// TCP segments. Written from DPDK's contract (rte_mbuf_core.h), by another way than the stack's.
#pragma once

#include <cstddef>
#include <vector>

#include "wire/packet.h"

namespace postern::test {

// `frame`: all of its bytes. What goes out on the wire.
std::vector<std::vector<std::byte>> as_a_device(std::vector<std::byte> frame, const TxFrame& work);

}  // namespace postern::test
