// The local addresses that applications have reserved with bind(), for all workers. Pure; control
// thread only. Rules as POSIX states them and Linux refines them, with one addition: what two
// sockets may share with SO_REUSEADDR or SO_REUSEPORT, they may share only within one user, so that
// nobody takes another user's port. Of groups, which take nothing from anybody, users may share.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "abi/shmsock.h"
#include "base/address.h"

namespace postern {

struct Reservation {
  uint16_t app = 0;
  uint32_t uid = 0;
  uint8_t protocol = 0;  // IPPROTO_TCP or IPPROTO_UDP
  bool is_v6 = false;    // the socket's family
  uint32_t flags = 0;    // enum shm_bind_flag
  Endpoint local;        // address "any" of its family, or one of ours
  bool listening = false;
  // Where the socket is on each channel: UDP from bind on, TCP from listen on.
  std::array<shm_handle, SHM_MAX_CHANNELS> handles{};
};

class PortTable {
 public:
  // `ours`: the addresses of this machine. Ephemeral ports come from [first, last].
  PortTable(std::vector<IpAddress> ours, uint16_t ephemeral_first, uint16_t ephemeral_last);

  struct Result {
    int error = 0;         // EADDRINUSE, EADDRNOTAVAIL, EINVAL, EAFNOSUPPORT
    uint32_t binding = 0;  // names the reservation, never 0 without an error
    Endpoint local;        // with the port that was chosen
  };
  // Port 0 chooses an ephemeral one, starting at a place that `random` picks (RFC 6056 3.3.1).
  Result bind(const Reservation& wanted, uint32_t random);
  // The addresses of this machine have changed. What is bound stays so.
  void set_addresses(std::vector<IpAddress> ours) { ours_ = std::move(ours); }
  // Marks a TCP reservation as listening: EADDRINUSE if another one on the same address listens and
  // they may not share. EINVAL: no such reservation of this application, or it listens already.
  int listen(uint16_t app, uint32_t binding);
  // The listener could not be opened after all.
  void unlisten(uint32_t binding);
  // False: no such reservation of this application.
  bool unbind(uint16_t app, uint32_t binding);
  void remove_app(uint16_t app);

  [[nodiscard]] bool holds(uint16_t app, uint8_t protocol, uint16_t port) const;
  // nullptr if it is not this application's. Valid until the next call that is not const.
  [[nodiscard]] Reservation* find(uint16_t app, uint32_t binding);
  [[nodiscard]] size_t size() const { return by_binding_.size(); }
  [[nodiscard]] size_t count(uint16_t app) const;  // reservations of one application

 private:
  using PortKey = uint32_t;  // protocol << 16 | port
  static PortKey key(uint8_t protocol, uint16_t port) { return uint32_t{protocol} << 16 | port; }
  [[nodiscard]] bool conflicts(const Reservation& wanted, uint16_t port) const;
  [[nodiscard]] uint16_t choose_port(const Reservation& wanted, uint32_t random) const;
  uint32_t next_binding();

  std::vector<IpAddress> ours_;
  uint16_t ephemeral_first_;
  uint16_t ephemeral_last_;
  uint32_t last_binding_ = 0;
  std::unordered_map<uint32_t, Reservation> by_binding_;
  std::multimap<PortKey, uint32_t> by_port_;
  std::unordered_map<uint16_t, size_t> per_app_;
};

}  // namespace postern
