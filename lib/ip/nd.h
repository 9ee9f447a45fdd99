// What to do with neighbor solicitations and advertisements, and what to say unasked: RFC 4861 7.2,
// and how an IPv6 address becomes ours, RFC 4862 5.4.
//
// Life of an address
//
//   tentative   nobody may use it. After a random delay it is asked for `probes` times, `retry`
//               apart: does anybody have it?
//   preferred   nobody answered: it is given to the interface and announced
//   deprecated  still ours, but new conversations begin from others; at the end of its lifetime it
//               is taken from the interface. Only what a router's prefix made ends so
//   duplicate   somebody has it, or asks for it too: it never becomes ours
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/drop.h"
#include "base/random.h"
#include "base/time.h"
#include "ip/address_state.h"
#include "ip/interface.h"
#include "ip/neighbor_table.h"
#include "wire/nd.h"

namespace postern {

struct NdOptions {
  uint8_t probes = 1;   // RFC 4862 DupAddrDetectTransmits; 0: addresses are ours at once
  Duration retry = 1s;  // RFC 4861 RETRANS_TIMER
  Duration delay = 1s;  // RFC 4861 MAX_RTR_SOLICITATION_DELAY: the first probe's, at random below
  bool speaks = true;   // false: another worker answers, asks and announces for this host
  uint64_t seed = 1;
};

class NdResponder {
 public:
  // Both must outlive this. IPv6 addresses reach the table by and by, as they become ours.
  NdResponder(InterfaceTable& interfaces, NeighborTable& neighbors, const NdOptions& options);

  // Before the worker runs.
  void add(const Prefix& address, uint16_t interface);

  // Room for addresses that routers' prefixes make, before the worker runs.
  void reserve(size_t more) { own_.reserve(std::max(own_.size(), own_.capacity()) + more); }

  // ---- addresses that come and go ----
  // False: no room, or it is there already.
  bool add_learned(const Prefix& address, uint16_t interface, Time preferred, Time valid,
                   Time now) noexcept;
  void set_lifetimes(const IpAddress& address, uint16_t interface, Time preferred, Time valid,
                     Time now) noexcept;
  [[nodiscard]] bool is_duplicate(const IpAddress& address, uint16_t interface) noexcept;
  void remove(const IpAddress& address, uint16_t interface) noexcept;

  struct Message {
    wire::NdMessage nd;
    IpAddress source;
    IpAddress destination;
    MacAddress mac;  // of the frame; zero: the destination is to be resolved
    uint16_t interface = 0;
  };
  struct Answer {
    Drop drop = Drop::none;
    bool send = false;
    Message message;
  };
  // `from`: the frame's source.
  Answer input(const wire::NdMessage& nd, const IpAddress& source, const MacAddress& from,
               uint16_t interface, Time now) noexcept;

  // The next probe or announcement that is due, or false.
  bool next_message(Time now, Message* out) noexcept;
  [[nodiscard]] Time next_deadline() const noexcept { return deadline_; }

  // All-nodes, and the solicited-node groups of our addresses: RFC 4291 2.8.
  [[nodiscard]] bool is_member(const IpAddress& group, uint16_t interface) const noexcept;
  // A neighbor of this interface, as far as we know its prefixes.
  [[nodiscard]] bool on_link(const IpAddress& address, uint16_t interface) const noexcept;

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
    AddressState state = AddressState::tentative;
    uint8_t probed = 0;
    bool started = false;
    bool announced = false;
    bool defended_once = false;
    Time due{};  // kNever: nothing to do
    Time defended{};
    Time preferred{kNever};  // lifetimes
    Time valid{kNever};
    [[nodiscard]] bool assigned() const noexcept {
      return state == AddressState::preferred || state == AddressState::deprecated;
    }
  };
  [[nodiscard]] Own* find(const IpAddress& address, uint16_t interface) noexcept;
  Answer solicited(Own& own, const wire::NdMessage& nd, const IpAddress& source) noexcept;
  Answer advertised(const wire::NdMessage& nd, uint16_t interface, Time now) noexcept;
  Answer conflict(Own& own, Time now) noexcept;
  void prefer(Own& own) noexcept;
  void age(Own& own, Time now) noexcept;
  void expire(Time now) noexcept;
  bool step(Own& own, Time now, Message* out) noexcept;
  [[nodiscard]] Message probe(const Own& own) const noexcept;
  [[nodiscard]] Message announcement(const Own& own) const noexcept;
  void find_deadline() noexcept;

  InterfaceTable& interfaces_;
  NeighborTable& neighbors_;
  NdOptions options_;
  Random random_;
  std::vector<Own> own_;
  Time deadline_ = kNever;
};

}  // namespace postern
