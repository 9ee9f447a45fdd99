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
  uint16_t mtu_v6 = 0;  // what routers said, else mtu
  TxOffloads offloads;
  std::vector<Prefix> addresses;        // host part kept: 192.0.2.1/24
  std::vector<IpAddress> deprecated{};  // of these (RFC 4862 5.5.4)
  // IEEE 802.1Q: with `vlan`, what carries this tag on the wire of interface `port`.
  uint16_t port = 0;
  uint16_t vlan = 0;

  [[nodiscard]] uint16_t mtu_of(bool is_v6) const noexcept { return is_v6 ? mtu_v6 : mtu; }
  [[nodiscard]] bool is_deprecated(const IpAddress& address) const noexcept;
};

// Weak host model (RFC 1122 3.3.4.2): an address of ours is ours on every interface. Built before a
// worker runs; from then on what changes it keeps within the room that was reserved.
class InterfaceTable {
 public:
  void add(Interface interface);
  // The interface on which the host talks to itself; after the last add(). It is not counted in
  // size() and has no address.
  void add_loop(uint16_t mtu);
  // One more address, as it becomes ours (RFC 4862). The caller has reserved the room.
  void assign(uint16_t interface, const Prefix& address) noexcept;
  void remove(uint16_t interface, const IpAddress& address) noexcept;
  // Whether new conversations should rather begin from another one.
  void deprecate(uint16_t interface, const IpAddress& address, bool deprecated) noexcept;
  // From 1280 to the interface's own.
  void set_mtu_v6(uint16_t interface, uint16_t mtu) noexcept {
    interfaces_[interface].mtu_v6 = mtu;
  }
  void reserve(uint16_t interface, size_t more_addresses);

  static constexpr uint16_t kNone = UINT16_MAX;
  // The interface of a tag on a port's wire, kNone if there is none.
  [[nodiscard]] uint16_t find_vlan(uint16_t port, uint16_t vlan) const noexcept {
    const size_t at = port * kTags + vlan;
    return at < of_vlan_.size() ? of_vlan_[at] : kNone;
  }
  [[nodiscard]] bool has_vlans() const noexcept { return !of_vlan_.empty(); }

  [[nodiscard]] size_t size() const noexcept { return loop_; }
  [[nodiscard]] uint16_t loop() const noexcept { return loop_; }
  [[nodiscard]] const Interface& operator[](size_t index) const noexcept {
    return interfaces_[index];
  }

  // A unicast address that belongs to some interface.
  [[nodiscard]] bool is_local(const IpAddress& address) const noexcept {
    return (local_filter_ >> (address.data()[15] & 63) & 1) != 0 && find_local(address);
  }
  // Limited broadcast or the directed broadcast of a prefix of `interface`.
  [[nodiscard]] bool is_broadcast(const IpAddress& address, uint16_t interface) const noexcept {
    return (broadcast_filter_ >> (address.data()[15] & 63) & 1) != 0 &&
           find_broadcast(address, interface);
  }
  // Our address to use towards `destination` out of `interface`; nullptr: none of that family.
  // IPv4: the one whose prefix contains it with the longest match, else the first. IPv6: RFC 6724
  // 5, rules 1, 2, 3, 6 and 8, among the addresses of the interface (rule 5).
  [[nodiscard]] const IpAddress* select_source(const IpAddress& destination,
                                               uint16_t interface) const noexcept;

 private:
  static constexpr size_t kTags = 4096;
  void add_local(const IpAddress& address) noexcept;
  void add_broadcast(const Prefix& prefix) noexcept;
  [[nodiscard]] bool find_local(const IpAddress& address) const noexcept;
  [[gnu::noinline]] bool search_local(const IpAddress& address) const noexcept;
  [[nodiscard]] bool find_broadcast(const IpAddress& address, uint16_t interface) const noexcept;
  [[nodiscard]] const IpAddress* select_source_v6(const IpAddress& destination,
                                                  uint16_t interface) const noexcept;
  std::vector<Interface> interfaces_;
  uint16_t loop_ = 0;             // index; as many as were added
  std::vector<IpAddress> local_;  // sorted
  // Bits by the last byte of addresses: what is in local_, and what may be a broadcast address.
  uint64_t local_filter_ = 0;
  uint64_t broadcast_filter_ = uint64_t{1} << 63;
  std::vector<uint16_t> of_vlan_;  // by port and tag; empty without VLANs
};

}  // namespace postern
