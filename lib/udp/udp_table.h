// Which UDP socket a datagram belongs to. The most specific one: connected to the sender, then
// bound to the address, then bound to the port alone. RFC 768; RFC 1122 4.1.3.5.
#pragma once

#include <cstdint>
#include <vector>

#include "base/address.h"
#include "base/hash.h"

namespace postern {

struct UdpBinding {
  Endpoint local;   // address any: every address
  Endpoint remote;  // port 0: not connected
  bool v6_only = false;
  friend bool operator==(const UdpBinding&, const UdpBinding&) = default;
};

// Maps bindings to socket indices below `capacity`. Several sockets may have the same binding
// (SO_REUSEPORT): a flow always goes to the same one of them. All operations are O(1).
class UdpTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  UdpTable(uint32_t capacity, const HashSecret& secret);

  void insert(uint32_t socket, const UdpBinding& binding) noexcept;
  // `socket` was inserted.
  void remove(uint32_t socket) noexcept;
  [[nodiscard]] const UdpBinding& binding(uint32_t socket) const noexcept {
    return nodes_[socket].binding;
  }

  struct Found {
    uint32_t socket = kNone;
    bool whoever_sends = false;  // the answer is the same for every `remote`
  };
  // The socket for a datagram from `remote` to `local`.
  [[nodiscard]] Found find(const Endpoint& local, const Endpoint& remote) const noexcept;
  // Calls visit(socket) for each that a datagram from `remote` to the group or broadcast address in
  // `local` is for: all that are bound to it or to the port alone, and not connected to another.
  template <class Visit>
  void for_each(const Endpoint& local, const Endpoint& remote, Visit&& visit) const {
    const bool is_v4 = local.address.is_v4();
    const Endpoint bound[] = {local, {IpAddress{}, local.port}, {IpAddress::v4(0), local.port}};
    for (size_t i = 0; i < (is_v4 ? 3U : 2U); ++i) {
      visit_equal(bound[i], {}, is_v4, visit);
      if (connected_on(local.port)) visit_equal(bound[i], remote, is_v4, visit);
    }
  }
  // Some socket on this port is connected: to another peer, if find() found nothing.
  [[nodiscard]] bool connected_on(uint16_t port) const noexcept {
    return connected_on_port_[port] != 0;
  }

 private:
  struct Node {
    UdpBinding binding;
    uint32_t next = kNone;
    uint32_t hash = 0;
  };
  [[nodiscard]] uint32_t hash_of(const Endpoint& local, const Endpoint& remote) const noexcept;
  [[nodiscard]] Found find_equal(const Endpoint& local, const Endpoint& peer,
                                 const Endpoint& remote, bool is_v4) const noexcept;
  [[nodiscard]] Found find_bound(const Endpoint& local, const Endpoint& peer,
                                 const Endpoint& remote) const noexcept;

  template <class Visit>
  void visit_equal(const Endpoint& local, const Endpoint& remote, bool is_v4, Visit& visit) const {
    const uint32_t hash = hash_of(local, remote);
    for (uint32_t i = buckets_[hash & mask_]; i != kNone; i = nodes_[i].next) {
      const Node& n = nodes_[i];
      const bool equal = n.hash == hash && n.binding.local == local && n.binding.remote == remote;
      if (equal && !(is_v4 && n.binding.v6_only)) visit(i);
    }
  }

  std::vector<Node> nodes_;
  std::vector<uint32_t> buckets_;
  std::vector<uint16_t> connected_on_port_;
  KeyedHash hash_;
  uint32_t mask_;
};

}  // namespace postern
