#include "stack/core.h"

#include <algorithm>
#include <cerrno>

#include "base/random.h"

namespace postern {
namespace {

constexpr uint32_t kControlFrames = 256;
constexpr uint32_t kPathMtus = 1024;  // destinations remembered
constexpr size_t kTimerBudget = 256;  // timers per turn
constexpr uint32_t kLinkHeader = 18;
constexpr uint32_t kMemberships = 1024;  // of all sockets in all groups

uint16_t largest_mtu(const StackConfig& config) {
  uint16_t mtu = 576;
  for (const InterfaceConfig& i : config.interfaces) mtu = std::max(mtu, i.mtu);
  return mtu;
}

uint32_t largest_frame(const StackConfig& config) { return largest_mtu(config) + kLinkHeader; }

// An independent secret for each use.
HashSecret derive(const StackConfig& config, uint64_t use) {
  HashSecret secret;
  for (size_t i = 0; i < secret.size(); ++i) {
    uint64_t seed = config.secret[i] + use * 0x9e3779b97f4a7c15U;
    secret[i] = Random::split_mix(&seed) ^ config.secret[(i + use) % secret.size()];
  }
  return secret;
}

std::array<uint64_t, 2> derive_key(const StackConfig& config, uint64_t use) {
  const HashSecret secret = derive(config, use);
  return {secret[0] ^ secret[2], secret[1] ^ secret[3]};
}

NeighborOptions neighbor_options(const StackConfig& config) {
  NeighborOptions options;
  options.reachable = config.neighbors.reachable;
  options.retry = config.neighbors.retry;
  options.probes = config.neighbors.probes;
  options.entries = config.neighbors.entries;
  options.queue = config.neighbors.queue;
  options.frame_size = largest_frame(config);
  options.secret = derive(config, 1);
  return options;
}

ArpOptions arp_options(const StackConfig& config) {
  return {config.neighbors.arp_probes, config.speaks_for_host, derive(config, 16)[0]};
}

NdOptions nd_options(const StackConfig& config) {
  return {.probes = config.neighbors.duplicate_probes,
          .retry = config.neighbors.retry,
          .delay = config.neighbors.duplicate_delay,
          .speaks = config.speaks_for_host,
          .seed = derive(config, 9)[0]};
}

// IPv6 addresses come to it by duplicate detection, IPv4 ones too if they are to be asked for.
InterfaceTable make_interfaces(const StackConfig& config) {
  InterfaceTable table;
  for (const InterfaceConfig& i : config.interfaces) {
    Interface interface;
    interface.mac = i.mac;
    interface.mtu = i.mtu;
    interface.offloads = i.offloads;
    interface.vlan = i.vlan;
    interface.port = i.vlan != 0 ? i.port : static_cast<uint16_t>(table.size());
    for (const Prefix& prefix : i.addresses) {
      const bool at_once = config.neighbors.arp_probes == 0;
      if (prefix.address.is_v4() && at_once) interface.addresses.push_back(prefix);
    }
    table.add(std::move(interface));
  }
  table.add_loop(largest_mtu(config));
  return table;
}

// What was configured, and each interface's own prefixes as on-link routes.
RouteTable make_routes(const StackConfig& config) {
  std::vector<Route> routes;
  for (uint16_t i = 0; i < config.interfaces.size(); ++i) {
    for (const Prefix& prefix : config.interfaces[i].addresses) {
      routes.push_back({.destination = prefix, .gateway = {}, .interface = i});
    }
  }
  for (const RouteConfig& r : config.routes) {
    routes.push_back({r.destination, r.gateway, r.interface, r.metric, r.kind});
  }
  return RouteTable(routes);
}

}  // namespace

StackCore::StackCore(const StackConfig& config)
    : config_(config),
      random_(derive(config, 2)[0]),
      interfaces_(make_interfaces(config)),
      own_routes_(make_routes(config)),
      flow_hash_(derive(config, 12)),
      wheel_(Time{}),
      neighbors_(neighbor_options(config)),
      arp_(interfaces_, neighbors_, arp_options(config)),
      nd_(interfaces_, neighbors_, nd_options(config)),
      groups_({.memberships = kMemberships,
               .interfaces = static_cast<uint16_t>(config.interfaces.size()),
               .speaks = config.speaks_for_host,
               .seed = derive(config, 14)[0]}),
      routers_(interfaces_, neighbors_, nd_,
               {config.speaks_for_host, derive(config, 17)[0], derive(config, 18)}),
      control_(kControlFrames, largest_frame(config)),
      reassembler_({.memory = config.fragments.memory,
                    .memory_of_source = config.fragments.memory_of_source,
                    .secret = derive(config, 10)}),
      path_mtu_(kPathMtus, derive(config, 11)),
      icmp_limit_(config.icmp_rate),
      reset_limit_(std::max<uint32_t>(config.icmp_rate, 1000)),
      exceptions_(make_exceptions(config.exception)),
      isn_key_(derive_key(config, 3)),
      port_key_(derive_key(config, 4)),
      cookie_secret_(derive_key(config, 13)),
      ip_id_(static_cast<uint16_t>(derive(config, 5)[0])),
      waiting_(std::make_unique<IntrusiveList<Socket, ReadyTag>[]>(neighbors_.capacity())),
      ranges_(std::max<uint32_t>(1024, config.max_connections)),
      extents_(std::max<uint32_t>(1024, config.max_connections)),
      flows_(std::max<uint32_t>(1, config.max_connections), derive(config, 6)),
      listener_table_(std::max<uint32_t>(1, config.max_listeners), derive(config, 7)),
      udp_table_(config.max_udp_sockets, derive(config, 8)),
      tcp_(config.max_connections),
      udp_(config.max_udp_sockets),
      listeners_(config.max_listeners),
      udp_sends_(std::max<uint32_t>(16384, config.max_udp_sockets)),
      apps_(std::make_unique<AppState[]>(config.max_apps)) {
  detaching_.reserve(config.max_apps);
  ctx_.config = &config_.tcp;
  ctx_.counters = &counters;
  ctx_.ranges = &ranges_;
  neighbors_.add_permanent(kOurselves, interfaces_.loop(), MacAddress{});
  for (const auto& n : config.neighbors.permanent) {
    neighbors_.add_permanent(n.address, n.interface, n.mac);
  }
  add_addresses(config);
}

void StackCore::set_now(Time now) noexcept {
  if (now == now_) return;
  now_ = now;
  ctx_.set_now(now);
  ctx_.random = random32();
}

void StackCore::set_routes(const RouteTable* routes) noexcept {
  routes_ = routes != nullptr ? routes : &own_routes_;
  routers_.forget_redirects();
  neighbors_.forget_handles();
}

// What is ours is here, whatever the routes say. Link-local addresses are on the link that they
// came from; that they have no route does not matter.
int StackCore::next_hop(const IpAddress& destination, uint16_t link, NextHop* out,
                        const FlowKey* flow) const noexcept {
  if (interfaces_.is_local(destination)) {
    *out = {interfaces_.loop(), kOurselves};
    return 0;
  }
  if (destination.is_link_local() && link != kNoInterface) {
    *out = {link, destination};
    return 0;
  }
  const RouteChoice choice = routes_->lookup(destination);
  if (RouterDiscovery::Way way; learned_way(destination, choice, &way)) {
    *out = {way.interface, way.next_hop};
    return 0;
  }
  if (choice.empty()) return ENETUNREACH;
  const Route* route = choice.data();
  if (choice.size() > 1) {  // RFC 2992, by the remainder: all packets of a flow go one way
    const uint64_t hash = flow != nullptr ? flow_hash_(*flow) : flow_hash_(destination);
    route += hash % choice.size();
  }
  if (route->kind == RouteKind::blackhole) return EINVAL;  // as Linux tells it
  if (route->kind == RouteKind::unreachable) return EHOSTUNREACH;
  *out = {route->interface, route->next_hop(destination)};
  return 0;
}

int StackCore::find_path(const IpAddress& destination, Path* path, uint16_t link,
                         const FlowKey* flow) noexcept {
  NextHop hop;
  if (const int error = next_hop(destination, link, &hop, flow); error != 0) return error;
  known_neighbor_ = kNoNeighbor;
  path->interface = hop.interface;
  path->resolution = neighbors_.resolve(hop.address, hop.interface, now_, &path->neighbor);
  return 0;
}

Drop StackCore::drop_of_route(int error) noexcept {
  if (error == EINVAL) return Drop::ip_route_blackhole;
  return error == EHOSTUNREACH ? Drop::ip_route_unreachable : Drop::ip_no_route;
}

// IPv4: an address of the router's network; IPv6: RFC 6724, which looks at the destination. To
// ourselves we speak from the address spoken to.
const IpAddress* StackCore::source_for(const IpAddress& destination,
                                       const NextHop& hop) const noexcept {
  if (hop.interface == interfaces_.loop()) return &destination;
  return interfaces_.select_source(destination.is_v4() ? hop.address : destination, hop.interface);
}

// ---- time ----

void StackCore::advance(Time now) noexcept {
  set_now(now);
  if (wheel_.next_deadline() <= now) {
    wheel_.advance(
        now, [this](Timer& timer) { on_timer(timer); }, kTimerBudget);
  }
  if (neighbors_.next_deadline() <= now) {
    neighbors_.advance(now);
    TxFrame lost;
    while (neighbors_.next_failed(&lost)) {
      counters.drop(Drop::neighbor_unreachable);
      tell_unreachable(lost);
    }
  }
  neighbors_settled();
  if (routers_.next_deadline() <= now && routers_.advance(now)) neighbors_.forget_handles();
  if (announcement_due() <= now) announce();
  if (reassembler_.next_deadline() <= now) expire_fragments();
  if (!detaching_.empty()) detach_some();
  reap();
}

Time StackCore::next_deadline() const noexcept {
  if (!detaching_.empty()) return Time::min();
  return std::min({wheel_.next_deadline(), neighbors_.next_deadline(), announcement_due(),
                   reassembler_.next_deadline()});
}

void StackCore::on_timer(Timer& timer) noexcept {
  TcpSocket& socket = tcp_[timer.owner];
  socket.tcp.on_timer(tcp_context(socket));
  settle(socket);
}

// Those who waited for a neighbor go on: with its address, or to hear that there is none.
void StackCore::neighbors_settled() noexcept {
  NeighborHandle handle;
  bool reachable;
  while (neighbors_.next_settled(&handle, &reachable)) {
    auto& waiting = waiting_[handle.index];
    if (reachable) {
      ready_.splice_back(waiting);
      continue;
    }
    const bool another_way = neighbor_failed(handle);
    while (Socket* socket = waiting.pop_front()) {
      const bool connecting = socket->kind == SocketKind::tcp &&
                              static_cast<TcpSocket&>(*socket).tcp.state() == TcpState::syn_sent;
      if (connecting && !another_way) {
        fail_connect(static_cast<TcpSocket&>(*socket), EHOSTUNREACH);
      } else {
        make_ready(*socket);
      }
    }
  }
}

}  // namespace postern
