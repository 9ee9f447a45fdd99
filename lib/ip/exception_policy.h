// What of the packets that no socket wants another stack on the same addresses may have: the
// kernel's, over the exception path. By port and by IP protocol.
#pragma once

#include <bitset>
#include <cstdint>

#include "wire/packet.h"

namespace postern {

class ExceptionPolicy {
 public:
  // `protocol` tcp or udp; ports first..last of ours.
  void allow_ports(Protocol protocol, uint16_t first, uint16_t last) {
    auto& ports = protocol == Protocol::tcp ? tcp_ : udp_;
    for (uint32_t port = first; port <= last; ++port) ports.set(port);
  }
  // Every packet of an IP protocol. TCP and UDP are allowed by their ports alone.
  void allow_protocol(uint8_t protocol) { protocols_.set(protocol); }

  // For a packet to `port` of ours; the port counts for TCP and UDP only.
  [[nodiscard]] bool allows(uint8_t protocol, uint16_t port) const noexcept {
    if (protocol == static_cast<uint8_t>(Protocol::tcp)) return tcp_[port];
    if (protocol == static_cast<uint8_t>(Protocol::udp)) return udp_[port];
    return protocols_[protocol];
  }

 private:
  std::bitset<65536> tcp_;
  std::bitset<65536> udp_;
  std::bitset<256> protocols_;
};

}  // namespace postern
