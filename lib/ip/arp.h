// What to do with an ARP packet, and what to say unasked: RFC 826, RFC 1122 2.3.2, RFC 5227.
#pragma once

#include <cstdint>
#include <vector>

#include "base/drop.h"
#include "base/time.h"
#include "ip/interface.h"
#include "ip/neighbor_table.h"
#include "wire/arp.h"

namespace postern {

// Answers for the addresses of an interface on that interface only, feeds the neighbor table,
// announces our addresses at start and defends them against another claimant.
class ArpResponder {
 public:
  // Both must outlive this.
  ArpResponder(const InterfaceTable& interfaces, NeighborTable& neighbors);

  struct Answer {
    Drop drop = Drop::none;
    bool send = false;
    wire::ArpPacket packet;
    MacAddress destination;  // of the frame
  };
  Answer input(const wire::ArpPacket& arp, uint16_t interface, Time now) noexcept;

  struct Announcement {
    wire::ArpPacket packet;
    uint16_t interface = 0;
  };
  // The next announcement that is due (RFC 5227 2.3: two of each address, 2 s apart), or false.
  bool next_announcement(Time now, Announcement* out) noexcept;
  [[nodiscard]] Time next_deadline() const noexcept { return announce_at_; }

 private:
  struct Own {
    IpAddress address;
    uint16_t interface = 0;
    Time defended{};
    bool defended_once = false;
  };
  [[nodiscard]] Own* find(const IpAddress& address, uint16_t interface) noexcept;
  [[nodiscard]] bool on_link(const IpAddress& address, uint16_t interface) const noexcept;
  Answer conflict(Own& own, uint16_t interface, Time now) noexcept;

  const InterfaceTable& interfaces_;
  NeighborTable& neighbors_;
  std::vector<Own> own_;
  size_t announce_next_ = 0;
  uint8_t announce_round_ = 0;
  Time announce_at_{};  // kNever: done
};

}  // namespace postern
