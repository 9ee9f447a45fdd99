// The interfaces of the appliance and the addresses that are ours on them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/address.h"
#include "wire/packet.h"

namespace postern {

struct Interface {
  MacAddress mac;
  uint16_t mtu = 1500;
  TxOffloads offloads;
  std::vector<Prefix> addresses;  // host part kept: 192.0.2.1/24
};

// Weak host model (RFC 1122 3.3.4.2): an address of ours is ours on every interface. Built before a
// worker runs; from then on only assign() changes it, within the room that was reserved.
class InterfaceTable {
 public:
  void add(Interface interface);
  // One more address, as it becomes ours (RFC 4862). The caller has reserved the room.
  void assign(uint16_t interface, const Prefix& address) noexcept;
  void reserve(uint16_t interface, size_t more_addresses);

  [[nodiscard]] size_t size() const noexcept { return interfaces_.size(); }
  [[nodiscard]] const Interface& operator[](size_t index) const noexcept {
    return interfaces_[index];
  }

  // A unicast address that belongs to some interface.
  [[nodiscard]] bool is_local(const IpAddress& address) const noexcept;
  // Limited broadcast or the directed broadcast of a prefix of `interface`.
  [[nodiscard]] bool is_broadcast(const IpAddress& address, uint16_t interface) const noexcept;
  // Our address to use towards `destination` out of `interface`; nullptr: none of that family.
  // IPv4: the one whose prefix contains it with the longest match, else the first. IPv6: RFC 6724
  // 5, rules 1, 2 and 8, among the addresses of the interface (rule 5).
  [[nodiscard]] const IpAddress* select_source(const IpAddress& destination,
                                               uint16_t interface) const noexcept;

 private:
  [[nodiscard]] const IpAddress* select_source_v6(const IpAddress& destination,
                                                  uint16_t interface) const noexcept;
  std::vector<Interface> interfaces_;
  std::vector<IpAddress> local_;  // sorted
};

}  // namespace postern
