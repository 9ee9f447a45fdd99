#include "daemon/stack_config.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <span>
#include <system_error>

#include "base/hash.h"
#include "control/log.h"
#include "ip/ipv6.h"

namespace postern {
namespace {

void add_link_local(std::vector<Prefix>& addresses, bool wanted, const MacAddress& mac) {
  const auto any = [&addresses](auto predicate) {
    return std::any_of(addresses.begin(), addresses.end(),
                       [&](const Prefix& p) { return predicate(p.address); });
  };
  if (!wanted && !any([](const IpAddress& a) { return !a.is_v4(); })) return;
  if (any([](const IpAddress& a) { return a.is_link_local(); })) return;
  addresses.push_back({link_local_address(mac), 64});
}

}  // namespace

std::string taken_interface(const std::string& device) {
  if (!device.starts_with("net_af_packet") && !device.starts_with("net_af_xdp")) return {};
  constexpr std::string_view kKey = ",iface=";
  const size_t at = device.find(kKey);
  if (at == device.npos) return {};
  const size_t begin = at + kKey.size();
  return device.substr(begin, device.find(',', begin) - begin);
}

void add_link_local(Config& config, const std::vector<std::unique_ptr<Port>>& ports) {
  for (size_t i = 0; i < ports.size(); ++i) {
    add_link_local(config.ports[i].addresses, config.ports[i].ipv6.accept_ra, ports[i]->mac());
    for (VlanConfig& v : config.ports[i].vlans) {
      add_link_local(v.addresses, v.ipv6.accept_ra, ports[i]->mac());
    }
  }
}

namespace {

// RFC 7217 5: secret and the same after every start, so it hangs on what machine-id(5) says never
// to show as it is. Without one there is a new key, and new addresses, each time.
std::array<uint64_t, 2> machine_key() {
  std::array<uint64_t, 2> key{};
  std::string id;
  std::ifstream file("/etc/machine-id");
  if (std::getline(file, id) && id.size() == 32) {
    key[0] = std::stoull(id.substr(0, 16), nullptr, 16);
    key[1] = std::stoull(id.substr(16), nullptr, 16);
    return key;
  }
  spdlog::warn("no /etc/machine-id: addresses from routers' prefixes will change with every start");
  if (getrandom(key.data(), sizeof key, 0) != static_cast<ssize_t>(sizeof key)) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  return key;
}

std::array<uint64_t, 2> identifier_key(const InterfaceEntry& port) {
  if (!port.ipv6.accept_ra || !port.ipv6.stable_ids) return {};
  const auto derive = [key = machine_key(), &port](char use) {
    const std::string text = std::string("postern rfc7217 ") + use + port.name;
    return siphash24(key, std::as_bytes(std::span(text)));
  };
  return {derive('0'), derive('1') | 1};
}

std::vector<NeighborConfig::Permanent> permanent_neighbors(const Config& config) {
  const std::vector<InterfaceEntry> interfaces = interfaces_of(config.ports);
  std::vector<NeighborConfig::Permanent> out;
  for (const PermanentNeighbor& n : config.permanent_neighbors) {
    const auto it = std::find_if(interfaces.begin(), interfaces.end(),
                                 [&](const InterfaceEntry& i) { return i.name == n.port; });
    out.push_back({n.address, static_cast<uint16_t>(it - interfaces.begin()), n.mac});
  }
  return out;
}

}  // namespace

StackConfig stack_config(const Config& config, const std::vector<std::unique_ptr<Port>>& ports) {
  StackConfig stack;
  stack.neighbors.permanent = permanent_neighbors(config);
  for (InterfaceEntry& i : interfaces_of(config.ports)) {
    const Port& port = *ports[i.port];
    const auto key = identifier_key(i);
    TxOffloads offloads = port.tx_offloads();
    // Through the queue of another worker a packet leaves when that one comes to it.
    offloads.gather &= port.queues() == config.cores.size();
    stack.interfaces.push_back({.mac = port.mac(),
                                .mtu = i.mtu,
                                .addresses = std::move(i.addresses),
                                .offloads = offloads,
                                .vlan = i.vlan,
                                .port = i.port,
                                .accept_ra = i.ipv6.accept_ra,
                                .identifier_key = key});
  }
  stack.neighbors.reachable = config.neighbor_reachable;
  stack.neighbors.entries = config.neighbor_entries;
  stack.neighbors.arp_probes = config.arp_probes;
  stack.neighbors.duplicate_probes = config.duplicate_probes;
  stack.neighbors.redirects = config.redirects;
  stack.fragments = {static_cast<uint32_t>(config.fragment_memory),
                     static_cast<uint32_t>(config.fragment_memory_per_source)};
  stack.tcp = config.tcp;
  stack.max_connections = config.max_connections;
  const ssize_t got = getrandom(stack.secret.data(), sizeof stack.secret, 0);
  if (got != static_cast<ssize_t>(sizeof stack.secret)) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  return stack;
}

WorkerOptions worker_options(const Config& config, const StackConfig& stack,
                             const std::vector<std::unique_ptr<Port>>& ports, WorkerMesh* mesh,
                             uint32_t index, ExceptionPath* exception) {
  WorkerOptions options;
  options.index = index;
  options.count = static_cast<uint32_t>(config.cores.size());
  options.core = config.cores[index];
  options.idle = config.busy ? IdleMode::busy : IdleMode::adaptive;
  options.idle_spin = config.idle_spin;
  options.longest_nap = config.longest_nap;
  for (const auto& port : ports) options.ports.push_back(port.get());
  options.stack = stack;
  options.stack.speaks_for_host = index == 0;
  options.mesh = mesh;
  options.exception = exception;
  const ImpairConfig& impair = config.impair;
  options.impairment = {impair.seed,    impair.loss, impair.duplicate, impair.reorder,
                        impair.corrupt, impair.rx,   impair.tx};
  return options;
}

EalOptions eal_options(const Config& config, DpdkLogSink log) {
  EalOptions options;
  options.hugepages = config.hugepages == Hugepages::automatic ? HugepageMode::automatic
                      : config.hugepages == Hugepages::on      ? HugepageMode::on
                                                               : HugepageMode::off;
  options.memory = config.memory_size;
  options.file_prefix = config.file_prefix;
  for (const PortConfig& port : config.ports) {
    const std::string pci = pci_address(port.device);
    if (!pci.empty()) options.pci_devices.push_back(pci);
  }
  options.extra_args = config.dpdk_extra_args;
  options.log = log;
  return options;
}

PortOptions port_options(const Config& config, const PortConfig& port) {
  PortOptions options;
  options.name = port.name;
  options.device = port.device;
  options.queues = static_cast<uint16_t>(config.cores.size());
  options.mtu = port.mtu;
  options.rx_descriptors = port.rx_descriptors;
  options.tx_descriptors = port.tx_descriptors;
  options.mac = port.mac;
  options.checksums = port.checksums;
  options.checksum_offload = port.checksum_offload == OffloadMode::automatic;
  // What harms packets on purpose does not know packets in several buffers.
  options.tso = port.tso == OffloadMode::automatic && config.impair.seed == 0;
  options.gather = port.gather == OffloadMode::automatic && config.impair.seed == 0;
  options.rx_interrupts = !config.busy;
  for (const VlanConfig& v : port.vlans) options.vlans.push_back(v.id);
  // Groups of the kernel's, OSPF's for example, are not known here.
  options.all_multicast = port.exception.has_value();
  for (const InterfaceEntry& i : interfaces_of({port})) {
    options.all_multicast |= i.ipv6.accept_ra;
    for (const Prefix& p : i.addresses) options.all_multicast |= !p.address.is_v4();
  }
  return options;
}

}  // namespace postern
