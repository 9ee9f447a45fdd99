// What routers have told of the links around us, and what follows: ways out (RFC 4861 6.3),
// addresses that are made from their prefixes (RFC 4862 5.5), better first hops (RFC 4861 8),
// parameters. Pure: time is an argument, the stack builds the packets.
//
// Nothing here outlives what routers promised. The lists have fixed sizes; what does not fit is not
// learned, so that a liar on the link costs no memory.
//
// What the RFCs demand of a host here, with the test of each: requirements/rfc4861.md, rfc4862.md.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/drop.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/time.h"
#include "ip/interface.h"
#include "ip/nd.h"
#include "ip/neighbor_table.h"
#include "wire/router.h"

namespace postern {

struct RouterDiscoveryOptions {
  bool speaks = true;  // false: another worker asks for this host
  uint64_t seed = 1;
  HashSecret secret{};
};

// Of an interface that listens to routers.
struct RouterDiscoveryInterface {
  bool accept = false;
  // RFC 7217's secret key and interface, in one; all zero: identifiers are the MAC's (EUI-64).
  std::array<uint64_t, 2> identifier_key{};
};

class RouterDiscovery {
 public:
  static constexpr size_t kMaxRouters = 16;
  static constexpr size_t kMaxPrefixes = 32;
  static constexpr size_t kMaxAddresses = 16;  // made from prefixes, of one interface
  static constexpr size_t kMaxRedirects = 256;

  RouterDiscovery(InterfaceTable& interfaces, NeighborTable& neighbors, NdResponder& nd,
                  const RouterDiscoveryOptions& options);

  // Before the worker runs, once for each interface that accepts advertisements.
  void add(uint16_t interface, const RouterDiscoveryInterface& options);
  // Some interface does.
  [[nodiscard]] bool active() const noexcept { return active_; }
  [[nodiscard]] bool accepts(uint16_t interface) const noexcept {
    return interface < links_.size() && links_[interface].options.accept;
  }

  // ---- received. True: ways have changed, what was looked up before is out of date. ----
  bool advertisement(const wire::RouterAdvertisement& ra, const IpAddress& router,
                     uint16_t interface, Time now) noexcept;
  // The caller has checked that it is from the router in use for the destination. Of both families.
  bool redirect(const wire::Redirect& redirect, uint16_t interface, Time now) noexcept;
  // A neighbor does not answer, or says that it is no router.
  bool unreachable(const IpAddress& address, uint16_t interface) noexcept;
  bool no_router(const IpAddress& address, uint16_t interface) noexcept;
  // Routes have changed: what was redirected goes by them again.
  void forget_redirects() noexcept;
  // An address that was made here is somebody else's: another one takes its place.
  void retry_duplicates(Time now) noexcept;

  // ---- ways out ----
  struct Way {
    uint16_t interface = 0;
    IpAddress next_hop;
    uint8_t prefix_length = 0;  // of what it is known for; 0: a default router
  };
  // False: routers have said nothing that leads there.
  [[nodiscard]] bool find(const IpAddress& destination, Way* out) const noexcept;
  [[nodiscard]] bool redirected(const IpAddress& destination, Way* out) const noexcept;
  // For packets of ours that say nothing else.
  [[nodiscard]] uint8_t hop_limit(uint16_t interface) const noexcept {
    return interface < links_.size() ? links_[interface].hop_limit : kDefaultHopLimit;
  }

  // ---- time ----
  // The interface out of which a router solicitation is due, or false.
  bool next_solicitation(Time now, uint16_t* interface) noexcept;
  // Forgets what has expired; true: ways have changed.
  bool advance(Time now) noexcept;
  [[nodiscard]] Time next_deadline() const noexcept { return deadline_; }

  // ---- looking in ----
  struct Router {
    IpAddress address;
    uint16_t interface = 0;
    int8_t preference = 0;
    bool silent = false;  // did not answer when last asked
    Time until{};
  };
  struct OnLink {
    Prefix prefix;
    uint16_t interface = 0;
    Time until{};
  };
  [[nodiscard]] std::span<const Router> routers() const noexcept { return routers_; }
  [[nodiscard]] std::span<const OnLink> prefixes() const noexcept { return prefixes_; }

 private:
  static constexpr uint8_t kDefaultHopLimit = 64;
  struct Link {
    RouterDiscoveryInterface options;
    uint8_t hop_limit = kDefaultHopLimit;
    Time ask = kNever;  // next solicitation
    Duration interval{};
    uint32_t asked = 0;
  };
  struct Autonomous {
    Prefix prefix;  // as advertised
    Prefix address;
    uint16_t interface = 0;
    uint8_t attempt = 0;  // RFC 7217's DAD_Counter
    Time valid{}, preferred{};
  };
  struct Redirected {
    IpAddress destination;
    IpAddress target;
    uint16_t interface = 0;
    bool used = false;
  };

  bool update_router(const wire::RouterAdvertisement& ra, const IpAddress& router,
                     uint16_t interface, Time now) noexcept;
  void update_parameters(const wire::RouterAdvertisement& ra, uint16_t interface) noexcept;
  bool update_on_link(const wire::PrefixOption& p, uint16_t interface, Time now) noexcept;
  void update_autonomous(const wire::PrefixOption& p, uint16_t interface, Time now) noexcept;
  void make_address(Autonomous& a) const noexcept;
  [[nodiscard]] Redirected& redirect_slot(const IpAddress& destination) const noexcept;
  bool forget_redirects(const IpAddress& target, uint16_t interface) noexcept;
  void find_deadline() noexcept;

  InterfaceTable& interfaces_;
  NeighborTable& neighbors_;
  NdResponder& nd_;
  RouterDiscoveryOptions options_;
  Random random_;
  KeyedHash hash_;
  bool active_ = false;
  std::vector<Link> links_;  // by interface
  std::vector<Router> routers_;
  std::vector<OnLink> prefixes_;
  std::vector<Autonomous> autonomous_;
  mutable std::vector<Redirected> redirects_;  // by hash of the destination
  size_t redirect_count_ = 0;
  Time deadline_ = kNever;
};

}  // namespace postern
