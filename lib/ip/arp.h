// What to do with an ARP packet, and what to say unasked: RFC 826, RFC 1122 2.3.2, RFC 5227.
#pragma once

#include <cstdint>
#include <vector>

#include "base/drop.h"
#include "base/random.h"
#include "base/time.h"
#include "ip/address_state.h"
#include "ip/interface.h"
#include "ip/neighbor_table.h"
#include "wire/arp.h"

namespace postern {

struct ArpOptions {
  // Questions whether an address is free before it is ours; RFC 5227 says 3. 0: ours at once.
  uint8_t probes = 0;
  bool speaks = true;  // false: another worker asks and announces for this host
  uint64_t seed = 1;
};

// Answers for the addresses of an interface on that interface only, feeds the neighbor table, asks
// whether addresses are free, announces them and defends them against another claimant.
//
// What RFC 5227 demands, with the test of each: requirements/rfc5227.md.
class ArpResponder {
 public:
  // Both must outlive this. The interfaces' addresses are ours already; others come by add().
  ArpResponder(InterfaceTable& interfaces, NeighborTable& neighbors, const ArpOptions& options);

  // Before the worker runs: an address that is not the interface's yet, which has room for it.
  void add(const Prefix& address, uint16_t interface);

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
  // The next probe or announcement (RFC 5227 2.3: two of each address, 2 s apart) that is due, or
  // false.
  bool next_announcement(Time now, Announcement* out) noexcept;
  [[nodiscard]] Time next_deadline() const noexcept { return deadline_; }

  struct View {
    Prefix address;
    uint16_t interface = 0;
    AddressState state = AddressState::tentative;
  };
  [[nodiscard]] size_t size() const noexcept { return own_.size(); }
  [[nodiscard]] View view(size_t index) const noexcept {
    return {own_[index].prefix, own_[index].interface, own_[index].state};
  }

 private:
  struct Own {
    Prefix prefix;
    uint16_t interface = 0;
    AddressState state = AddressState::preferred;
    bool started = false;  // the random wait before the first probe
    uint8_t probed = 0;
    uint8_t announced = 0;
    Time due{};  // kNever: nothing to do
    Time defended{};
    bool defended_once = false;
  };
  [[nodiscard]] Own* find(const IpAddress& address, uint16_t interface) noexcept;
  [[nodiscard]] bool on_link(const IpAddress& address, uint16_t interface) const noexcept;
  Answer conflict(Own& own, uint16_t interface, Time now) noexcept;

  bool step(Own& own, Time now, Announcement* out) noexcept;
  [[nodiscard]] Duration up_to(Duration longest) noexcept;

  InterfaceTable& interfaces_;
  NeighborTable& neighbors_;
  ArpOptions options_;
  Random random_;
  std::vector<Own> own_;
  Time deadline_ = kNever;
};

}  // namespace postern
