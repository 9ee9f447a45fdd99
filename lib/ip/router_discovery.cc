#include "ip/router_discovery.h"

#include <algorithm>
#include <cstring>

#include "ip/ipv6.h"

namespace postern {
namespace {

// RFC 4861 10, RFC 7559 2.1
constexpr Duration kSolicitationDelay = 1s;
constexpr Duration kFirstInterval = 4s;
constexpr Duration kLongestInterval = 3600s;

constexpr uint32_t kForEver = UINT32_MAX;
constexpr uint8_t kIdentifierBits = 64;
constexpr uint8_t kAttempts = 3;  // RFC 7217 7: IDGEN_RETRIES
constexpr uint32_t kLeastMtu = 1280;
constexpr uint32_t kLongestReachable = 3'600'000;  // ms; RFC 4861 6.2.1

Time until(Time now, uint32_t seconds) {
  return seconds == kForEver ? kNever : now + std::chrono::seconds(seconds);
}

Prefix network_of(const Prefix& p) {
  Prefix out = p;
  for (unsigned bit = p.length; bit < 128; ++bit) {
    out.address.data()[bit / 8] &= static_cast<uint8_t>(~(0x80U >> bit % 8));
  }
  return out;
}

// RFC 5453: the subnet's routers, and reserved anycast addresses.
bool is_reserved(uint64_t identifier) {
  return identifier == 0 || (identifier >= 0xfdffffffffffff80 && identifier <= 0xfdffffffffffffff);
}

}  // namespace

RouterDiscovery::RouterDiscovery(InterfaceTable& interfaces, NeighborTable& neighbors,
                                 NdResponder& nd, const RouterDiscoveryOptions& options)
    : interfaces_(interfaces),
      neighbors_(neighbors),
      nd_(nd),
      options_(options),
      random_(options.seed),
      hash_(options.secret),
      links_(interfaces.size()),
      redirects_(kMaxRedirects) {}

void RouterDiscovery::add(uint16_t interface, const RouterDiscoveryInterface& options) {
  Link& link = links_[interface];
  link.options = options;
  if (!options.accept) return;
  active_ = true;
  interfaces_.reserve(interface, kMaxAddresses);
  nd_.reserve(kMaxAddresses);
  routers_.reserve(kMaxRouters);
  prefixes_.reserve(kMaxPrefixes);
  autonomous_.reserve(autonomous_.capacity() + kMaxAddresses);
  link.ask = Time{};
  deadline_ = Time{};
}

// ---- advertisements ----

bool RouterDiscovery::advertisement(const wire::RouterAdvertisement& ra, const IpAddress& router,
                                    uint16_t interface, Time now) noexcept {
  Link& link = links_[interface];
  if (ra.lifetime != 0) link.ask = kNever;  // RFC 4861 6.3.7: answered
  bool changed = update_router(ra, router, interface, now);
  update_parameters(ra, interface);
  if (ra.has_mac) neighbors_.learn(router, interface, ra.mac, now);
  for (size_t i = 0; i < ra.prefix_count; ++i) {
    const wire::PrefixOption& p = ra.prefixes[i];
    if (p.prefix.address.is_link_local()) continue;
    if (p.on_link) changed |= update_on_link(p, interface, now);
    if (p.autonomous) update_autonomous(p, interface, now);
  }
  find_deadline();
  return changed;
}

bool RouterDiscovery::update_router(const wire::RouterAdvertisement& ra, const IpAddress& router,
                                    uint16_t interface, Time now) noexcept {
  const auto at = std::find_if(routers_.begin(), routers_.end(), [&](const Router& r) {
    return r.address == router && r.interface == interface;
  });
  if (ra.lifetime == 0) {
    if (at == routers_.end()) return false;
    routers_.erase(at);
    (void)forget_redirects(router, interface);
    return true;
  }
  const Time end = now + std::chrono::seconds(ra.lifetime);
  if (at == routers_.end()) {
    if (routers_.size() == kMaxRouters) return false;
    routers_.push_back({router, interface, ra.preference, false, end});
    return true;
  }
  const bool changed = at->preference != ra.preference || (at->silent && ra.has_mac);
  at->preference = ra.preference;
  at->until = end;
  if (ra.has_mac) at->silent = false;  // it can be asked once more
  return changed;
}

// RFC 4861 6.3.4
void RouterDiscovery::update_parameters(const wire::RouterAdvertisement& ra,
                                        uint16_t interface) noexcept {
  if (ra.hop_limit != 0) links_[interface].hop_limit = ra.hop_limit;
  if (ra.mtu >= kLeastMtu && ra.mtu <= interfaces_[interface].mtu) {
    interfaces_.set_mtu_v6(interface, static_cast<uint16_t>(ra.mtu));
  }
  Duration reachable{}, retrans{};
  if (ra.reachable_ms <= kLongestReachable) reachable = std::chrono::milliseconds(ra.reachable_ms);
  if (ra.retrans_ms <= kLongestReachable) retrans = std::chrono::milliseconds(ra.retrans_ms);
  // RFC 4861 6.3.2: drawn at random around what was said, so that hosts do not ask all at once.
  if (reachable != Duration{})
    reachable = reachable / 2 + Duration(random_.below(static_cast<uint64_t>(reachable.count())));
  neighbors_.set_times(interface, reachable, retrans);
}

bool RouterDiscovery::update_on_link(const wire::PrefixOption& p, uint16_t interface,
                                     Time now) noexcept {
  const Prefix network = network_of(p.prefix);
  const auto at = std::find_if(prefixes_.begin(), prefixes_.end(), [&](const OnLink& l) {
    return l.prefix == network && l.interface == interface;
  });
  if (p.valid == 0) {
    if (at == prefixes_.end()) return false;
    prefixes_.erase(at);
    return true;
  }
  if (at != prefixes_.end()) {
    at->until = until(now, p.valid);
    return false;
  }
  if (prefixes_.size() == kMaxPrefixes) return false;
  prefixes_.push_back({network, interface, until(now, p.valid)});
  return true;
}

// RFC 4862 5.5.3
void RouterDiscovery::update_autonomous(const wire::PrefixOption& p, uint16_t interface,
                                        Time now) noexcept {
  constexpr Duration kTwoHours = 2h;
  if (p.preferred > p.valid || p.prefix.length != 128 - kIdentifierBits) return;
  const Prefix network = network_of(p.prefix);
  size_t count = 0;
  for (Autonomous& a : autonomous_) {
    if (a.interface != interface) continue;
    ++count;
    if (a.prefix != network) continue;
    // Who shortens a lifetime without proof may not end it at once.
    const Time valid = until(now, p.valid);
    if (valid > now + kTwoHours || valid > a.valid) {
      a.valid = valid;
    } else if (a.valid > now + kTwoHours) {
      a.valid = now + kTwoHours;
    }
    a.preferred = std::min(until(now, p.preferred), a.valid);
    nd_.set_lifetimes(a.address.address, interface, a.preferred, a.valid, now);
    return;
  }
  if (p.valid == 0 || count == kMaxAddresses) return;
  Autonomous a{network, {}, interface, 0, until(now, p.valid), until(now, p.preferred)};
  make_address(a);
  if (nd_.add_learned(a.address, interface, a.preferred, a.valid, now)) autonomous_.push_back(a);
}

// RFC 7217 5: a pseudorandom function of prefix, interface, counter and secret.
void RouterDiscovery::make_address(Autonomous& a) const noexcept {
  const RouterDiscoveryInterface& options = links_[a.interface].options;
  a.address.length = a.prefix.length;
  if (options.identifier_key == std::array<uint64_t, 2>{}) {
    a.address.address = eui64_address(a.prefix.address, interfaces_[a.interface].mac);
    return;
  }
  std::array<std::byte, 16> input{};
  std::memcpy(input.data(), a.prefix.address.data(), 8);
  uint64_t identifier = 0;
  for (uint8_t skip = 0; is_reserved(identifier); ++skip) {
    input[8] = std::byte{a.attempt};
    input[9] = std::byte{skip};
    identifier = siphash24(options.identifier_key, input);
  }
  a.address.address = a.prefix.address;
  for (int i = 0; i < 8; ++i) {
    a.address.address.data()[8 + i] = static_cast<uint8_t>(identifier >> (56 - 8 * i));
  }
}

void RouterDiscovery::retry_duplicates(Time now) noexcept {
  for (Autonomous& a : autonomous_) {
    const bool fixed = links_[a.interface].options.identifier_key == std::array<uint64_t, 2>{};
    if (fixed || a.attempt == kAttempts || !nd_.is_duplicate(a.address.address, a.interface)) {
      continue;
    }
    nd_.remove(a.address.address, a.interface);
    ++a.attempt;
    make_address(a);
    (void)nd_.add_learned(a.address, a.interface, a.preferred, a.valid, now);
  }
}

// ---- redirects ----

RouterDiscovery::Redirected& RouterDiscovery::redirect_slot(
    const IpAddress& destination) const noexcept {
  return redirects_[hash_(destination) % kMaxRedirects];
}

bool RouterDiscovery::redirect(const wire::Redirect& r, uint16_t interface, Time now) noexcept {
  Redirected& slot = redirect_slot(r.destination);
  redirect_count_ += slot.used ? 0 : 1;
  slot = {r.destination, r.target, interface, true};
  if (r.has_mac) neighbors_.learn(r.target, interface, r.mac, now);
  return true;
}

bool RouterDiscovery::redirected(const IpAddress& destination, Way* out) const noexcept {
  if (redirect_count_ == 0) return false;
  const Redirected& slot = redirect_slot(destination);
  if (!slot.used || slot.destination != destination) return false;
  *out = {slot.interface, slot.target, static_cast<uint8_t>(destination.is_v4() ? 32 : 128)};
  return true;
}

bool RouterDiscovery::forget_redirects(const IpAddress& target, uint16_t interface) noexcept {
  bool any = false;
  for (Redirected& slot : redirects_) {
    if (!slot.used || slot.target != target || slot.interface != interface) continue;
    slot.used = false;
    --redirect_count_;
    any = true;
  }
  return any;
}

void RouterDiscovery::forget_redirects() noexcept {
  for (Redirected& slot : redirects_) slot.used = false;
  redirect_count_ = 0;
}

// ---- ways out ----

bool RouterDiscovery::find(const IpAddress& destination, Way* out) const noexcept {
  const OnLink* best = nullptr;
  for (const OnLink& l : prefixes_) {
    if (!l.prefix.contains(destination)) continue;
    if (best == nullptr || l.prefix.length > best->prefix.length) best = &l;
  }
  if (best != nullptr) {
    *out = {best->interface, destination, best->prefix.length};
    return true;
  }
  // RFC 4861 6.3.6, RFC 4191 3.2: one that answers, of these the most preferred, of these the
  // first.
  const Router* router = nullptr;
  for (const Router& r : routers_) {
    const bool better = router == nullptr || (router->silent && !r.silent) ||
                        (router->silent == r.silent && r.preference > router->preference);
    if (better) router = &r;
  }
  if (router == nullptr) return false;
  *out = {router->interface, router->address, 0};
  return true;
}

// Routers that are all silent take turns: the last one to fail is asked last.
bool RouterDiscovery::unreachable(const IpAddress& address, uint16_t interface) noexcept {
  bool changed = redirect_count_ != 0 && forget_redirects(address, interface);
  const auto at = std::find_if(routers_.begin(), routers_.end(), [&](const Router& r) {
    return r.address == address && r.interface == interface;
  });
  if (at == routers_.end()) return changed;
  at->silent = true;
  std::rotate(at, at + 1, routers_.end());
  return true;
}

bool RouterDiscovery::no_router(const IpAddress& address, uint16_t interface) noexcept {
  const size_t before = routers_.size();
  std::erase_if(routers_,
                [&](const Router& r) { return r.address == address && r.interface == interface; });
  return routers_.size() != before;
}

// ---- time ----

bool RouterDiscovery::next_solicitation(Time now, uint16_t* interface) noexcept {
  for (uint16_t i = 0; i < links_.size(); ++i) {
    Link& link = links_[i];
    if (link.ask > now) continue;
    const bool first = link.interval == Duration{};
    const auto spread = static_cast<uint64_t>(kSolicitationDelay.count());
    const Duration wait = first ? Duration(random_.below(spread + 1)) : link.interval;
    if (first) {
      link.interval = kFirstInterval;
      link.ask = now + wait;
      continue;
    }
    link.ask = now + wait;
    link.interval = std::min(2 * link.interval, kLongestInterval);
    if (!options_.speaks) continue;
    *interface = i;
    return true;
  }
  find_deadline();
  return false;
}

bool RouterDiscovery::advance(Time now) noexcept {
  const size_t ways = routers_.size() + prefixes_.size();
  std::erase_if(routers_, [now](const Router& r) { return r.until <= now; });
  std::erase_if(prefixes_, [now](const OnLink& l) { return l.until <= now; });
  std::erase_if(autonomous_, [now](const Autonomous& a) { return a.valid <= now; });
  find_deadline();
  return routers_.size() + prefixes_.size() != ways;
}

void RouterDiscovery::find_deadline() noexcept {
  deadline_ = kNever;
  for (const Link& link : links_) deadline_ = std::min(deadline_, link.ask);
  for (const Router& r : routers_) deadline_ = std::min(deadline_, r.until);
  for (const OnLink& l : prefixes_) deadline_ = std::min(deadline_, l.until);
  for (const Autonomous& a : autonomous_) deadline_ = std::min(deadline_, a.valid);
}

}  // namespace postern
