// An ARP packet as a value (RFC 826, Ethernet and IPv4).
#pragma once

#include <cstdint>

#include "wire/headers.h"
#include "wire/packet.h"

namespace postern::wire {

struct ArpPacket {
  static constexpr uint16_t kRequest = 1;
  static constexpr uint16_t kReply = 2;
  uint16_t operation = kRequest;
  MacAddress sender_mac;
  IpAddress sender_ip;
  MacAddress target_mac;  // zero in a request
  IpAddress target_ip;
};

// The fields of a packet that parse() returned with kind arp: hardware and protocol types and
// lengths are right, the operation is request or reply, the sender's MAC is unicast.
[[nodiscard]] inline ArpPacket read_arp(const RxPacket& packet,
                                        const ParsedPacket& parsed) noexcept {
  const auto& header = *reinterpret_cast<const ArpHeader*>(packet.data + parsed.l3_offset);
  return {header.operation.host(), header.sender_mac, address_of(header.sender_ip),
          header.target_mac, address_of(header.target_ip)};
}

}  // namespace postern::wire
