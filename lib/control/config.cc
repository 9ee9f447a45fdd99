#include "control/config.h"

#include <grp.h>
#include <pwd.h>
#include <sched.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <tuple>
#include <utility>

#include "control/config_values.h"
#include "control/route_check.h"
#include "control/units.h"
#include "control/yaml_reader.h"
#include "tcp/congestion.h"

namespace postern {
namespace {

// A document while it is read: the values, and where those stand that are checked together.
struct VlanDraft {
  VlanConfig vlan;
  Field section, name, mtu, ipv6, exception;
  std::vector<Field> addresses;
};
struct PortDraft {
  PortConfig port;
  Field section, name, device, checksums, ipv6, exception;
  std::vector<Field> addresses;
  std::vector<VlanDraft> vlans;
};
struct RouteDraft {
  RouteEntry route;
  Field section, via, port;
};
struct NeighborDraft {
  PermanentNeighbor neighbor;
  Field address, port;
};
struct AccessDraft {
  AccessRule rule;
  const Machine* machine = nullptr;
  Field section, who;
};
struct Draft {
  Config config;
  const Machine* machine = nullptr;
  std::vector<PortDraft> ports;
  std::vector<RouteDraft> routes;
  std::vector<NeighborDraft> neighbors;
  std::vector<AccessDraft> access;
  Field root, cores, tcp;
};

// ---- dpdk:, memory:, workers: ----

void read_extra_args(const Field& f, Draft& d) {
  for (const Field& item : f.list()) d.config.dpdk_extra_args.push_back(item.text());
}

constexpr Key<Draft> kDpdk[] = {
    {"extra_args", read_extra_args},
    {"file_prefix", [](const Field& f, Draft& d) { d.config.file_prefix = read_word(f, 32); }},
};

constexpr std::string_view kHugepages[] = {"auto", "on", "off"};

constexpr Key<Draft> kMemory[] = {
    {"hugepages",
     [](const Field& f, Draft& d) { d.config.hugepages = Hugepages(f.choice(kHugepages)); }},
    {"size",
     [](const Field& f, Draft& d) {
       d.config.memory_size = f.size(uint64_t{64} << 20, uint64_t{1} << 40, uint64_t{1} << 20);
     }},
};

void read_core(const Field& item, Draft& d) {
  const int core = static_cast<int>(item.integer(0, CPU_SETSIZE - 1));
  auto& cores = d.config.cores;
  if (std::find(cores.begin(), cores.end(), core) != cores.end()) {
    item.fail("core " + std::to_string(core) + " is listed twice", "give each worker its own core");
  }
  const auto& usable = d.machine->cores;
  if (!usable.empty() && std::find(usable.begin(), usable.end(), core) == usable.end()) {
    std::string list;
    for (const int one : usable) list += (list.empty() ? "" : ", ") + std::to_string(one);
    item.fail("this process may not use core " + std::to_string(core), "choose from: " + list);
  }
  cores.push_back(core);
}

void read_cores(const Field& f, Draft& d) {
  constexpr size_t kMostWorkers = 64;
  d.cores = f;
  const std::vector<Field> items = f.list();
  if (items.empty()) f.fail("no core is listed", "name one core for each worker, like [1]");
  if (items.size() > kMostWorkers) f.fail("more than 64 cores", "list at most 64");
  for (const Field& item : items) read_core(item, d);
}

constexpr std::string_view kIdle[] = {"adaptive", "busy"};

constexpr Key<Draft> kWorkers[] = {
    {"cores", read_cores},
    {"idle", [](const Field& f, Draft& d) { d.config.busy = f.choice(kIdle) == 1; }},
    {"spin", [](const Field& f, Draft& d) { d.config.idle_spin = f.duration(0ns, 1s); }},
    {"nap", [](const Field& f, Draft& d) { d.config.longest_nap = f.duration(20us, 10ms); }},
    {"connections",
     [](const Field& f, Draft& d) {
       d.config.max_connections = static_cast<uint32_t>(f.integer(64, 1 << 23));
     }},
};

// ---- ports: ----

constexpr std::string_view kOffload[] = {"auto", "off"};
constexpr std::string_view kOnOff[] = {"on", "off"};

void read_addresses(const Field& f, std::vector<Prefix>& addresses, std::vector<Field>& fields) {
  for (const Field& item : f.list()) {
    addresses.push_back(read_interface_address(item));
    fields.push_back(item);
  }
  if (fields.empty()) f.fail("no address is listed", "give at least one, like [192.0.2.1/24]");
}

constexpr std::string_view kInterfaceIds[] = {"stable", "eui64"};

constexpr Key<Ipv6Config> kIpv6[] = {
    {"accept_ra", [](const Field& f, Ipv6Config& d) { d.accept_ra = f.boolean(); }},
    {"interface_ids",
     [](const Field& f, Ipv6Config& d) { d.stable_ids = f.choice(kInterfaceIds) == 0; }},
};

void read_exceptions(const Field& f, ExceptionPathConfig& d) {
  for (const Field& item : f.list()) {
    for (ExceptionEntry& entry : read_exception(item)) d.allow.push_back(std::move(entry));
  }
}

constexpr Key<ExceptionPathConfig> kException[] = {
    {"tap", [](const Field& f, ExceptionPathConfig& d) { d.tap = read_word(f, 15); }, true},
    {"allow", read_exceptions, true},
    {"rate",
     [](const Field& f, ExceptionPathConfig& d) {
       d.rate = static_cast<uint32_t>(f.integer(1, 10'000'000));
     }},
    {"queue",
     [](const Field& f, ExceptionPathConfig& d) {
       d.queue = f.size(uint64_t{128} << 10, uint64_t{64} << 20);
     }},
};

constexpr Key<VlanDraft> kVlan[] = {
    {"id",
     [](const Field& f, VlanDraft& d) { d.vlan.id = static_cast<uint16_t>(f.integer(1, 4094)); },
     true},
    {"name",
     [](const Field& f, VlanDraft& d) {
       d.name = f;
       d.vlan.name = read_word(f, 15);
     }},
    {"mtu",
     [](const Field& f, VlanDraft& d) {
       d.mtu = f;
       d.vlan.mtu = static_cast<uint16_t>(f.integer(576, 9000));
     }},
    {"addresses",
     [](const Field& f, VlanDraft& d) { read_addresses(f, d.vlan.addresses, d.addresses); }, true},
    {"ipv6",
     [](const Field& f, VlanDraft& d) {
       d.ipv6 = f;
       read_section<Ipv6Config>(f, kIpv6, d.vlan.ipv6);
     }},
    {"exception",
     [](const Field& f, VlanDraft& d) {
       d.exception = f;
       d.vlan.where = f.where();
       read_section<ExceptionPathConfig>(f, kException, d.vlan.exception.emplace());
     }},
};

void read_vlans(const Field& f, PortDraft& d) {
  for (const Field& item : f.list()) {
    VlanDraft& vlan = d.vlans.emplace_back();
    vlan.section = item;
    read_section<VlanDraft>(item, kVlan, vlan);
  }
}

void read_exception_path(const Field& f, PortDraft& d) {
  d.exception = f;
  read_section<ExceptionPathConfig>(f, kException, d.port.exception.emplace());
}

constexpr Key<PortDraft> kPort[] = {
    {"name",
     [](const Field& f, PortDraft& d) {
       d.name = f;
       d.port.name = read_word(f, 15);
     },
     true},
    {"device",
     [](const Field& f, PortDraft& d) {
       d.device = f;
       d.port.device = read_device(f);
       d.port.where = f.where();
     },
     true},
    {"mac", [](const Field& f, PortDraft& d) { d.port.mac = read_mac(f); }},
    {"mtu", [](const Field& f,
               PortDraft& d) { d.port.mtu = static_cast<uint16_t>(f.integer(576, 9000)); }},
    {"addresses",
     [](const Field& f, PortDraft& d) { read_addresses(f, d.port.addresses, d.addresses); }, true},
    {"vlans", read_vlans},
    {"checksums",
     [](const Field& f, PortDraft& d) {
       d.checksums = f;
       d.port.checksums = f.choice(kOnOff) == 0;
     }},
    {"checksum_offload",
     [](const Field& f, PortDraft& d) {
       d.port.checksum_offload = OffloadMode(f.choice(kOffload));
     }},
    {"tso", [](const Field& f, PortDraft& d) { d.port.tso = OffloadMode(f.choice(kOffload)); }},
    {"gather",
     [](const Field& f, PortDraft& d) { d.port.gather = OffloadMode(f.choice(kOffload)); }},
    {"rx_descriptors",
     [](const Field& f, PortDraft& d) {
       d.port.rx_descriptors = static_cast<uint16_t>(f.power_of_two(64, 8192));
     }},
    {"tx_descriptors",
     [](const Field& f, PortDraft& d) {
       d.port.tx_descriptors = static_cast<uint16_t>(f.power_of_two(64, 8192));
     }},
    {"ipv6",
     [](const Field& f, PortDraft& d) {
       d.ipv6 = f;
       read_section<Ipv6Config>(f, kIpv6, d.port.ipv6);
     }},
    {"exception", read_exception_path},
};

void read_ports(const Field& f, Draft& d) {
  for (const Field& item : f.list()) {
    PortDraft& port = d.ports.emplace_back();
    port.section = item;
    read_section<PortDraft>(item, kPort, port);
  }
}

// ---- routes:, neighbors: ----

constexpr std::string_view kRouteKind[] = {"unicast", "blackhole", "unreachable"};

constexpr Key<RouteDraft> kRoute[] = {
    {"to", [](const Field& f, RouteDraft& d) { d.route.to = read_destination(f); }, true},
    {"via",
     [](const Field& f, RouteDraft& d) {
       d.via = f;
       d.route.via = read_gateway(f);
     }},
    {"port",
     [](const Field& f, RouteDraft& d) {
       d.port = f;
       d.route.port = read_word(f, 20);  // "wan0-is-fifteen.4094"
     }},
    {"type", [](const Field& f, RouteDraft& d) { d.route.kind = RouteKind(f.choice(kRouteKind)); }},
    {"metric",
     [](const Field& f, RouteDraft& d) {
       d.route.metric = static_cast<uint32_t>(f.integer(0, UINT32_MAX));
     }},
};

void read_routes(const Field& f, Draft& d) {
  for (const Field& item : f.list()) {
    RouteDraft& route = d.routes.emplace_back();
    route.section = item;
    read_section<RouteDraft>(item, kRoute, route);
  }
}

constexpr Key<NeighborDraft> kPermanentNeighbor[] = {
    {"address",
     [](const Field& f, NeighborDraft& d) {
       d.address = f;
       d.neighbor.address = read_gateway(f);
     },
     true},
    {"mac", [](const Field& f, NeighborDraft& d) { d.neighbor.mac = read_mac(f); }, true},
    {"port",
     [](const Field& f, NeighborDraft& d) {
       d.port = f;
       d.neighbor.port = read_word(f, 20);
     }},
};

void read_permanent_neighbors(const Field& f, Draft& d) {
  for (const Field& item : f.list()) {
    NeighborDraft& neighbor = d.neighbors.emplace_back();
    neighbor.port = item;
    read_section<NeighborDraft>(item, kPermanentNeighbor, neighbor);
  }
}

constexpr Key<Draft> kNeighbors[] = {
    {"arp_probes", [](const Field& f,
                      Draft& d) { d.config.arp_probes = static_cast<uint8_t>(f.integer(0, 10)); }},
    {"duplicate_probes",
     [](const Field& f, Draft& d) {
       d.config.duplicate_probes = static_cast<uint8_t>(f.integer(0, 10));
     }},
    {"reachable",
     [](const Field& f, Draft& d) { d.config.neighbor_reachable = f.duration(1s, 24h); }},
    {"entries",
     [](const Field& f, Draft& d) {
       d.config.neighbor_entries = static_cast<uint32_t>(f.integer(16, 1 << 20));
     }},
    {"redirects", [](const Field& f, Draft& d) { d.config.redirects = f.boolean(); }},
    {"permanent", read_permanent_neighbors},
};

// ---- fragments: ----

constexpr uint64_t kLargestPacket = 64 << 10;

constexpr Key<Draft> kFragments[] = {
    {"memory",
     [](const Field& f, Draft& d) {
       d.config.fragment_memory = f.size(4 * kLargestPacket, uint64_t{1} << 30);
     }},
    {"memory_per_source",
     [](const Field& f, Draft& d) {
       d.config.fragment_memory_per_source = f.size(kLargestPacket, uint64_t{1} << 30);
     }},
};

// ---- tcp: ----

template <Duration TcpConfig::*member, int64_t low_ms, int64_t high_s>
void read_tcp_time(const Field& f, Draft& d) {
  d.config.tcp.*member =
      f.duration(std::chrono::milliseconds(low_ms), std::chrono::seconds(high_s));
}

template <auto member, uint64_t low, uint64_t high>
void read_tcp_number(const Field& f, Draft& d) {
  auto& value = d.config.tcp.*member;
  value = static_cast<std::remove_reference_t<decltype(value)>>(f.integer(low, high));
}

template <auto member, uint64_t high>
void read_tcp_size(const Field& f, Draft& d) {
  d.config.tcp.*member = static_cast<uint32_t>(f.size(4096, high));
}

template <auto member>
void read_tcp_flag(const Field& f, Draft& d) {
  d.config.tcp.*member = f.boolean();
}

constexpr Key<Draft> kTcp[] = {
    {"rto_initial", read_tcp_time<&TcpConfig::rto_initial, 1, 60>},
    {"rto_min", read_tcp_time<&TcpConfig::rto_min, 1, 60>},
    {"rto_max", read_tcp_time<&TcpConfig::rto_max, 1000, 3600>},
    {"delayed_ack",
     [](const Field& f, Draft& d) { d.config.tcp.delayed_ack = f.duration(0ns, 499ms); }},
    {"time_wait", read_tcp_time<&TcpConfig::time_wait, 1, 240>},
    {"fin_wait_2", read_tcp_time<&TcpConfig::fin_wait_2, 1, 3600>},
    {"keepalive_idle", read_tcp_time<&TcpConfig::keepalive_idle, 1000, 86400>},
    {"keepalive_interval", read_tcp_time<&TcpConfig::keepalive_interval, 1000, 86400>},
    {"keepalive_probes", read_tcp_number<&TcpConfig::keepalive_probes, 1, 127>},
    {"syn_retries", read_tcp_number<&TcpConfig::syn_retries, 1, 127>},
    {"syn_ack_retries", read_tcp_number<&TcpConfig::syn_ack_retries, 1, 127>},
    {"retries", read_tcp_number<&TcpConfig::retries, 3, 255>},
    {"orphan_retries", read_tcp_number<&TcpConfig::orphan_retries, 1, 255>},
    {"initial_window", read_tcp_number<&TcpConfig::initial_window, 1, 100>},
    {"mss_ipv4", read_tcp_number<&TcpConfig::mss_ipv4, 88, 8960>},
    {"mss_min", read_tcp_number<&TcpConfig::mss_min, 48, 1460>},
    {"receive_buffer", read_tcp_size<&TcpConfig::receive_buffer, 1 << 30>},
    {"receive_buffer_max", read_tcp_size<&TcpConfig::receive_buffer_max, 1 << 30>},
    {"send_buffer", read_tcp_size<&TcpConfig::send_buffer, 1 << 24>},
    {"timestamps", read_tcp_flag<&TcpConfig::timestamps>},
    {"window_scaling", read_tcp_flag<&TcpConfig::window_scaling>},
    {"sack", read_tcp_flag<&TcpConfig::sack>},
    {"ecn", read_tcp_flag<&TcpConfig::ecn>},
    {"syncookies",
     [](const Field& f, Draft& d) {
       static constexpr std::array<std::string_view, 3> kNames{"auto", "always", "never"};
       d.config.tcp.syncookies = static_cast<SynCookies>(f.choice(kNames));
     }},
    {"congestion",
     [](const Field& f, Draft& d) {
       d.config.tcp.congestion = static_cast<uint8_t>(f.choice(kCongestionNames));
     }},
};

// ---- access: ----

// A name that the machine knows, or a number.
std::optional<uint32_t> find_id(
    const std::string& name,
    const std::function<std::optional<uint32_t>(const std::string&)>& lookup) {
  if (const auto id = lookup(name)) return id;
  const auto number = parse_integer(name);
  if (!number || *number >= UINT32_MAX) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

void read_who(const Field& f, AccessDraft& d, bool user) {
  if (d.who.present()) {
    f.fail("both user and group are given", "write one entry for each");
  }
  d.who = f;
  const std::string name = f.text();
  const auto id = find_id(name, user ? d.machine->user : d.machine->group);
  const std::string what = user ? "user" : "group";
  if (!id) {
    f.fail("this machine has no " + what + " \"" + name + '"',
           "create it first or give the " + what + " an existing name or number");
  }
  (user ? d.rule.uid : d.rule.gid) = *id;
  d.rule.who = what + ' ' + name;
}

constexpr Key<AccessDraft> kAccess[] = {
    {"user", [](const Field& f, AccessDraft& d) { read_who(f, d, true); }},
    {"group", [](const Field& f, AccessDraft& d) { read_who(f, d, false); }},
    {"bind",
     [](const Field& f, AccessDraft& d) {
       for (const Field& item : f.list()) d.rule.bind.push_back(read_port_range(item));
     }},
    {"connect", [](const Field& f, AccessDraft& d) { d.rule.connect = f.boolean(); }},
    {"memory",
     [](const Field& f, AccessDraft& d) {
       d.rule.memory = f.size(uint64_t{1} << 20, uint64_t{64} << 30, uint64_t{64} << 10);
     }},
    {"sockets",
     [](const Field& f, AccessDraft& d) {
       d.rule.sockets = static_cast<uint32_t>(f.power_of_two(16, 1 << 23));
     }},
    {"applications",
     [](const Field& f, AccessDraft& d) {
       d.rule.applications = static_cast<uint32_t>(f.integer(1, 256));
     }},
};

void read_access(const Field& f, Draft& d) {
  for (const Field& item : f.list()) {
    AccessDraft& access = d.access.emplace_back();
    access.section = item;
    access.machine = d.machine;
    read_section<AccessDraft>(item, kAccess, access);
    if (!access.who.present()) {
      item.fail("the entry names nobody", "add \"user: NAME\" or \"group: NAME\"");
    }
  }
}

// ---- programs: ----

// As many as the shared memory has room for (shm_settings).
constexpr size_t kMostNetworks = 64;

void read_networks(const Field& f, Draft& d, std::vector<Prefix> ProgramsConfig::*list) {
  ProgramsConfig& programs = d.config.programs;
  for (const Field& item : f.list()) {
    if (programs.kernel.size() + programs.postern.size() + 1 >= kMostNetworks) {
      item.fail("too many networks", "list at most 63 in kernel and postern together");
    }
    const Prefix network = read_destination(item);
    for (const auto& other : {programs.kernel, programs.postern}) {
      if (std::find(other.begin(), other.end(), network) != other.end()) {
        item.fail(network.to_string() + " is listed twice", "a network has one side");
      }
    }
    (programs.*list).push_back(network);
    if (item.text() == "default") (programs.*list).push_back({IpAddress{}, 0});  // ::/0 too
  }
}

constexpr Key<Draft> kPrograms[] = {
    {"kernel", [](const Field& f, Draft& d) { read_networks(f, d, &ProgramsConfig::kernel); }},
    {"postern", [](const Field& f, Draft& d) { read_networks(f, d, &ProgramsConfig::postern); }},
    {"both", [](const Field& f, Draft& d) { d.config.programs.both = f.boolean(); }},
};

// ---- control:, log:, impair: ----

void read_control_group(const Field& f, Draft& d) {
  d.config.control_group = f.text();
  if (d.machine->group(d.config.control_group)) return;
  f.fail("this machine has no group \"" + d.config.control_group + '"',
         "create it first or leave the key out: root alone may then use the control socket");
}

constexpr Key<Draft> kControl[] = {
    {"app_socket", [](const Field& f, Draft& d) { d.config.app_socket = read_socket_path(f); }},
    {"socket", [](const Field& f, Draft& d) { d.config.control_socket = read_socket_path(f); }},
    {"group", read_control_group},
};

constexpr std::string_view kLevels[] = {"trace", "debug", "info", "warning", "error", "off"};

constexpr Key<Draft> kLog[] = {
    {"level", [](const Field& f, Draft& d) { d.config.log_level = kLevels[f.choice(kLevels)]; }},
    {"file", [](const Field& f, Draft& d) { d.config.log_file = read_path(f); }},
};

constexpr Key<Draft> kImpair[] = {
    {"seed", [](const Field& f, Draft& d) { d.config.impair.seed = f.integer(1, UINT64_MAX); },
     true},
    {"loss", [](const Field& f, Draft& d) { d.config.impair.loss = f.percent(); }},
    {"duplicate", [](const Field& f, Draft& d) { d.config.impair.duplicate = f.percent(); }},
    {"reorder", [](const Field& f, Draft& d) { d.config.impair.reorder = f.percent(); }},
    {"corrupt", [](const Field& f, Draft& d) { d.config.impair.corrupt = f.percent(); }},
    {"rx", [](const Field& f, Draft& d) { d.config.impair.rx = f.boolean(); }},
    {"tx", [](const Field& f, Draft& d) { d.config.impair.tx = f.boolean(); }},
};

// ---- the document ----

constexpr Key<Draft> kRoot[] = {
    {"dpdk", [](const Field& f, Draft& d) { read_section<Draft>(f, kDpdk, d); }},
    {"memory", [](const Field& f, Draft& d) { read_section<Draft>(f, kMemory, d); }},
    {"workers", [](const Field& f, Draft& d) { read_section<Draft>(f, kWorkers, d); }},
    {"ports", read_ports, true},
    {"routes", read_routes},
    {"neighbors", [](const Field& f, Draft& d) { read_section<Draft>(f, kNeighbors, d); }},
    {"fragments", [](const Field& f, Draft& d) { read_section<Draft>(f, kFragments, d); }},
    {"tcp",
     [](const Field& f, Draft& d) {
       d.tcp = f;
       read_section<Draft>(f, kTcp, d);
     }},
    {"access", read_access},
    {"programs", [](const Field& f, Draft& d) { read_section<Draft>(f, kPrograms, d); }},
    {"control", [](const Field& f, Draft& d) { read_section<Draft>(f, kControl, d); }},
    {"log", [](const Field& f, Draft& d) { read_section<Draft>(f, kLog, d); }},
    {"impair", [](const Field& f, Draft& d) { read_section<Draft>(f, kImpair, d); }},
};

// ---- what only the whole shows ----

// A VLAN's name and MTU are its port's unless given.
void complete_vlans(Draft& d) {
  for (PortDraft& p : d.ports) {
    std::set<uint16_t> ids;
    for (VlanDraft& v : p.vlans) {
      if (!ids.insert(v.vlan.id).second) {
        v.section.fail("VLAN " + std::to_string(v.vlan.id) + " stands twice", "remove one");
      }
      if (v.vlan.name.empty()) v.vlan.name = p.port.name + '.' + std::to_string(v.vlan.id);
      if (v.vlan.mtu == 0) v.vlan.mtu = p.port.mtu;
      if (v.vlan.mtu > p.port.mtu) {
        v.mtu.fail("the port carries " + std::to_string(p.port.mtu) + " bytes only",
                   "give at most that, or the port more");
      }
      p.port.vlans.push_back(v.vlan);
    }
  }
}

void check_port_names(const Draft& d) {
  std::set<std::string_view> names, devices;
  const auto check_name = [&](const std::string& name, const Field& field) {
    if (names.insert(name).second) return;
    field.fail("another port is named \"" + name + '"', "give each port its own name");
  };
  for (const PortDraft& p : d.ports) {
    check_name(p.port.name, p.name);
    const std::string_view device = std::string_view(p.port.device);
    if (!devices.insert(device.substr(0, device.find(','))).second) {
      p.device.fail("another port uses the same device", "give each port its own device");
    }
  }
  for (const PortDraft& p : d.ports) {
    for (const VlanDraft& v : p.vlans) {
      check_name(v.vlan.name, v.name.present() ? v.name : v.section);
    }
  }
}

void check_taps(const Draft& d) {
  std::set<std::string_view> taps;
  const auto check = [&](const std::optional<ExceptionPathConfig>& exception, const Field& field) {
    if (!exception || taps.insert(exception->tap).second) return;
    field.fail("another port has the tap \"" + exception->tap + '"', "give each port its own tap");
  };
  for (const PortDraft& p : d.ports) {
    check(p.port.exception, p.exception);
    for (const VlanDraft& v : p.vlans) check(v.vlan.exception, v.exception);
    if (p.port.exception &&
        p.port.device.find(",iface=" + p.port.exception->tap) != std::string::npos) {
      p.exception.fail("tap \"" + p.port.exception->tap + "\" is the interface of the port itself",
                       "give the tap a name of its own");
    }
  }
}

// Off only where no wire can spoil a packet and where no kernel, which would believe none, is the
// peer.
void check_checksums(const Draft& d) {
  constexpr std::string_view kWithinTheHost[] = {"net_memif", "net_virtio_user", "net_vhost",
                                                 "net_ring", "net_null"};
  for (const PortDraft& p : d.ports) {
    if (p.port.checksums) continue;
    const bool within = std::ranges::any_of(
        kWithinTheHost, [&](std::string_view driver) { return p.port.device.starts_with(driver); });
    if (!within) {
      p.checksums.fail("the device leads to a wire or to a kernel",
                       "turn checksums off only on net_memif, net_virtio_user, net_vhost, net_ring "
                       "or net_null");
    }
    if (d.config.impair.corrupt > 0) {
      p.checksums.fail("impair.corrupt spoils packets, and nobody would notice",
                       "leave one of the two out");
    }
  }
}

constexpr uint16_t kMtuIpv6 = 1280;  // RFC 8200 5

struct SeenAddress {
  IpAddress address;
  std::string port;
};

void check_addresses(const std::vector<Prefix>& addresses, const std::vector<Field>& fields,
                     const std::string& name, uint16_t mtu, std::vector<SeenAddress>& seen) {
  for (size_t i = 0; i < fields.size(); ++i) {
    const IpAddress address = addresses[i].address;
    if (!address.is_v4() && mtu < kMtuIpv6) {
      fields[i].fail("IPv6 does not go over an MTU of " + std::to_string(mtu),
                     "give the port an mtu of at least 1280 or no IPv6 address");
    }
    for (const SeenAddress& other : seen) {
      if (other.address != address) continue;
      fields[i].fail("address " + address.to_string() + " is already on port " + other.port,
                     "remove one of the two");
    }
    seen.push_back({address, name});
  }
}

void check_accept_ra(const Ipv6Config& ipv6, const Field& field, uint16_t mtu) {
  if (!ipv6.accept_ra || mtu >= kMtuIpv6) return;
  field.fail("IPv6 does not go over an MTU of " + std::to_string(mtu),
             "give the port an mtu of at least 1280 or no accept_ra");
}

void check_all_addresses(const Draft& d) {
  std::vector<SeenAddress> seen;
  for (const PortDraft& p : d.ports) {
    check_accept_ra(p.port.ipv6, p.ipv6, p.port.mtu);
    check_addresses(p.port.addresses, p.addresses, p.port.name, p.port.mtu, seen);
    for (const VlanDraft& v : p.vlans) {
      check_accept_ra(v.vlan.ipv6, v.ipv6, v.vlan.mtu);
      check_addresses(v.vlan.addresses, v.addresses, v.vlan.name, v.vlan.mtu, seen);
    }
  }
}

void check_route(std::span<const InterfaceEntry> interfaces, RouteDraft& r) {
  const auto problem = complete_route(interfaces, r.route);
  if (!problem) return;
  const Field& field = problem->part == RouteProblem::Part::via    ? r.via
                       : problem->part == RouteProblem::Part::port ? r.port
                                                                   : r.section;
  field.fail(problem->what, problem->remedy);
}

// A neighbor is found as a router is, by the network that it is on.
void check_neighbors(Draft& d) {
  if (d.neighbors.size() > d.config.neighbor_entries / 2) {
    d.root.fail("neighbors.permanent: more than half of what neighbors.entries allows",
                "give entries: a higher number");
  }
  std::vector<PortConfig> ports;
  for (const PortDraft& p : d.ports) ports.push_back(p.port);
  const std::vector<InterfaceEntry> interfaces = interfaces_of(ports);
  for (NeighborDraft& n : d.neighbors) {
    RouteEntry there{
        .to = {n.neighbor.address, 0}, .via = n.neighbor.address, .port = n.neighbor.port};
    if (const auto problem = complete_route(interfaces, there)) {
      const bool port = problem->part == RouteProblem::Part::port;
      const bool keep = port || n.neighbor.address.is_link_local();
      (port ? n.port : n.address)
          .fail(problem->what, keep ? problem->remedy : "give a station on the network of a port");
    }
    n.neighbor.port = there.port;
  }
}

// Routes of the same metric share the flows; they must differ, and none may lead nowhere.
void check_routes(Draft& d) {
  std::vector<PortConfig> ports;
  for (const PortDraft& p : d.ports) ports.push_back(p.port);
  const std::vector<InterfaceEntry> interfaces = interfaces_of(ports);
  std::map<std::tuple<IpAddress, uint8_t, uint32_t>, std::vector<const RouteEntry*>> seen;
  for (RouteDraft& r : d.routes) {
    check_route(interfaces, r);
    auto& same = seen[{r.route.to.address, r.route.to.length, r.route.metric}];
    for (const RouteEntry* other : same) {
      if (can_share(*other, r.route)) continue;
      r.section.fail("another route to " + r.route.to.to_string() + " has the same metric",
                     "remove one or give it another metric or router");
    }
    same.push_back(&r.route);
  }
}

void check_access(const Draft& d) {
  for (size_t i = 0; i < d.access.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const AccessRule &a = d.access[i].rule, &b = d.access[j].rule;
      if (a.uid != b.uid || a.gid != b.gid) continue;
      d.access[i].who.fail(a.who + " has an entry already, and the first one counts",
                           "merge the two");
    }
  }
}

void check_tcp(const Draft& d) {
  const TcpConfig& tcp = d.config.tcp;
  if (tcp.rto_min > tcp.rto_initial || tcp.rto_initial > tcp.rto_max) {
    d.tcp.fail("rto_initial is not between rto_min and rto_max",
               "make rto_min <= rto_initial <= rto_max");
  }
  if (tcp.mss_min > tcp.mss_ipv4) {
    d.tcp.fail("mss_ipv4 is below mss_min", "make mss_min <= mss_ipv4");
  }
}

void check_control(const Draft& d) {
  if (d.config.app_socket != d.config.control_socket) return;
  d.root.fail("control.app_socket and control.socket are the same path", "give two paths");
}

void choose_cores(Draft& d) {
  d.config.cores_where = d.cores.present() ? d.cores.where() : d.config.file + ":1:1";
  if (!d.config.cores.empty()) return;
  d.config.cores = {d.machine->cores.empty() ? 0 : d.machine->cores.back()};
}

template <class T>
void add_keys(std::vector<std::string>& out, const std::string& prefix,
              std::span<const Key<T>> keys) {
  for (const Key<T>& key : keys) out.push_back(prefix + std::string(key.name));
}

}  // namespace

Machine Machine::here() {
  Machine machine;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) machine.cores.push_back(core);
    }
  }
  machine.user = [](const std::string& name) -> std::optional<uint32_t> {
    const passwd* entry = getpwnam(name.c_str());
    return entry == nullptr ? std::nullopt : std::optional<uint32_t>(entry->pw_uid);
  };
  machine.group = [](const std::string& name) -> std::optional<uint32_t> {
    const ::group* entry = getgrnam(name.c_str());
    return entry == nullptr ? std::nullopt : std::optional<uint32_t>(entry->gr_gid);
  };
  return machine;
}

std::vector<InterfaceEntry> interfaces_of(const std::vector<PortConfig>& ports) {
  std::vector<InterfaceEntry> all;
  for (size_t i = 0; i < ports.size(); ++i) {
    all.push_back({ports[i].name, ports[i].mtu, ports[i].addresses, static_cast<uint16_t>(i), 0,
                   ports[i].ipv6, ports[i].exception, ports[i].where});
  }
  for (size_t i = 0; i < ports.size(); ++i) {
    for (const VlanConfig& v : ports[i].vlans) {
      all.push_back({v.name, v.mtu, v.addresses, static_cast<uint16_t>(i), v.id, v.ipv6,
                     v.exception, v.where});
    }
  }
  return all;
}

Config load_config(const std::filesystem::path& file, const Machine& machine) {
  Draft draft;
  draft.config.file = file.string();
  draft.machine = &machine;
  draft.root = load_document(draft.config.file);
  read_section<Draft>(draft.root, kRoot, draft);
  if (draft.ports.empty()) draft.root.fail("ports: lists no port", "describe at least one port");
  complete_vlans(draft);
  check_port_names(draft);
  check_taps(draft);
  check_checksums(draft);
  check_all_addresses(draft);
  check_routes(draft);
  check_neighbors(draft);
  check_access(draft);
  check_tcp(draft);
  check_control(draft);
  choose_cores(draft);
  for (PortDraft& p : draft.ports) draft.config.ports.push_back(std::move(p.port));
  for (RouteDraft& r : draft.routes) draft.config.routes.push_back(std::move(r.route));
  for (NeighborDraft& n : draft.neighbors) {
    draft.config.permanent_neighbors.push_back(std::move(n.neighbor));
  }
  for (AccessDraft& a : draft.access) draft.config.access.push_back(std::move(a.rule));
  return std::move(draft.config);
}

std::vector<std::string> config_keys() {
  std::vector<std::string> keys;
  add_keys<Draft>(keys, "", kRoot);
  add_keys<Draft>(keys, "dpdk.", kDpdk);
  add_keys<Draft>(keys, "memory.", kMemory);
  add_keys<Draft>(keys, "workers.", kWorkers);
  add_keys<PortDraft>(keys, "ports[].", kPort);
  add_keys<VlanDraft>(keys, "ports[].vlans[].", kVlan);
  add_keys<Ipv6Config>(keys, "ports[].vlans[].ipv6.", kIpv6);
  add_keys<Ipv6Config>(keys, "ports[].ipv6.", kIpv6);
  add_keys<ExceptionPathConfig>(keys, "ports[].exception.", kException);
  add_keys<ExceptionPathConfig>(keys, "ports[].vlans[].exception.", kException);
  add_keys<RouteDraft>(keys, "routes[].", kRoute);
  add_keys<Draft>(keys, "neighbors.", kNeighbors);
  add_keys<NeighborDraft>(keys, "neighbors.permanent[].", kPermanentNeighbor);
  add_keys<Draft>(keys, "fragments.", kFragments);
  add_keys<Draft>(keys, "tcp.", kTcp);
  add_keys<AccessDraft>(keys, "access[].", kAccess);
  add_keys<Draft>(keys, "programs.", kPrograms);
  add_keys<Draft>(keys, "control.", kControl);
  add_keys<Draft>(keys, "log.", kLog);
  add_keys<Draft>(keys, "impair.", kImpair);
  return keys;
}

}  // namespace postern
