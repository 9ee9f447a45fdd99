// The daemon's configuration: YAML in, plain values out. Every key is validated; an error says
// file:line:column, what is wrong and what would be right.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/time.h"
#include "ip/route_table.h"
#include "tcp/types.h"

namespace postern {

// "file:line:column: what; what would be right", ready to print.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Hugepages : uint8_t { automatic, on, off };
enum class OffloadMode : uint8_t { automatic, off };

// What an interface takes from routers.
struct Ipv6Config {
  bool accept_ra = false;  // RFC 4861 6.3, 4862 5.5
  bool stable_ids = true;  // RFC 7217; else from the MAC
};

// What no socket wants and the kernel may have, by a tap on the same addresses.
struct ExceptionEntry {
  std::string text;  // as written: "tcp/22", "ospf"
  uint8_t protocol = 0;
  uint16_t first = 0, last = 0;  // tcp and udp: ports
};
struct ExceptionPathConfig {
  std::string tap;  // name of the kernel's interface
  std::vector<ExceptionEntry> allow;
  uint32_t rate = 10'000;      // packets a second from each worker
  uint64_t queue = 256 << 10;  // bytes, each way
};

// What carries a tag of IEEE 802.1Q on a port's wire: an interface of its own.
struct VlanConfig {
  uint16_t id = 0;   // 1..4094
  std::string name;  // "wan0.100" unless given; unique among ports too
  uint16_t mtu = 0;  // at most the port's
  std::vector<Prefix> addresses;
  std::optional<ExceptionPathConfig> exception;
  Ipv6Config ipv6;
  std::string where;  // "file:line:column", for errors that show only at start
};

struct PortConfig {
  std::string name;    // interface name that users see, unique
  std::string device;  // PCI address "0000:03:00.0" or vdev "net_af_packet0,iface=veth0"
  std::optional<MacAddress> mac;
  uint16_t mtu = 1500;            // 576..9000
  std::vector<Prefix> addresses;  // at least one
  bool checksums = true;          // of TCP and UDP; false: neither filled in nor verified
  OffloadMode checksum_offload = OffloadMode::automatic;
  OffloadMode tso = OffloadMode::automatic;
  OffloadMode gather = OffloadMode::automatic;
  uint16_t rx_descriptors = 1024;
  uint16_t tx_descriptors = 1024;
  std::vector<VlanConfig> vlans;
  std::optional<ExceptionPathConfig> exception;
  Ipv6Config ipv6;
  std::string where;  // "file:line:column" of the device, for errors that show only at start
};

// Interfaces as the stack numbers them: all ports, then their VLANs.
struct InterfaceEntry {
  std::string name;
  uint16_t mtu = 0;
  std::vector<Prefix> addresses;
  uint16_t port = 0;  // position in ports
  uint16_t vlan = 0;  // 0: the port itself
  Ipv6Config ipv6;
  std::optional<ExceptionPathConfig> exception{};
  std::string where{};  // as of PortConfig
};
std::vector<InterfaceEntry> interfaces_of(const std::vector<PortConfig>& ports);

struct RouteEntry {
  Prefix to;
  RouteKind kind = RouteKind::unicast;
  std::optional<IpAddress> via;
  std::string port;  // derived from via when empty
  uint32_t metric = 0;
};

// A neighbor whose MAC address is told instead of asked for.
struct PermanentNeighbor {
  IpAddress address;
  MacAddress mac;
  std::string port;  // derived from the address when empty
};

struct PortRange {
  uint8_t protocol = 0;  // IPPROTO_TCP or IPPROTO_UDP
  uint16_t first = 0;
  uint16_t last = 0;
};

// One entry of access:. An application is allowed what the first entry that names its user or one
// of its groups allows.
struct AccessRule {
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::string who;              // "user www-data", for messages
  std::vector<PortRange> bind;  // ports this peer may bind; ephemeral ports always
  bool connect = true;
  uint64_t memory = 64 << 20;  // bytes each for receive and transmit, per worker
  uint32_t sockets = 65536;    // per worker, power of two
  uint32_t applications = 64;  // attached at once
};

// Whose an address is, for programs that `postern run` starts. The longest network decides.
struct ProgramsConfig {
  std::vector<Prefix> kernel;   // sockets with such an address are the kernel's
  std::vector<Prefix> postern;  // exceptions from those
  bool both = false;            // a wildcard listener serves the kernel's interfaces as well
};

struct ImpairConfig {
  uint64_t seed = 0;
  double loss = 0, duplicate = 0, reorder = 0, corrupt = 0;  // probabilities 0..1
  bool rx = true, tx = true;
};

struct Config {
  std::string file;
  // dpdk:
  std::vector<std::string> dpdk_extra_args;
  std::string file_prefix = "postern";
  // memory:
  Hugepages hugepages = Hugepages::automatic;
  uint64_t memory_size = 512 << 20;  // bytes for packet buffers and tables
  // workers:
  std::vector<int> cores;   // one worker each; default: the last core the process may use
  std::string cores_where;  // "file:line:column" of what chose them
  bool busy = false;        // workers.idle: busy | adaptive
  Duration idle_spin = 50us;
  Duration longest_nap = 250us;      // where a device can wake nobody
  uint32_t max_connections = 65536;  // per worker
  // ports:, routes:
  std::vector<PortConfig> ports;
  std::vector<RouteEntry> routes;
  // neighbors:
  Duration neighbor_reachable = 30s;
  uint32_t neighbor_entries = 4096;
  std::vector<PermanentNeighbor> permanent_neighbors;
  uint8_t arp_probes = 0;        // RFC 5227 PROBE_NUM
  uint8_t duplicate_probes = 1;  // RFC 4862 DupAddrDetectTransmits
  bool redirects = true;         // RFC 1122 3.2.2.2
  // fragments: of each worker
  uint64_t fragment_memory = 4 << 20;  // bytes of packets that are not whole yet
  uint64_t fragment_memory_per_source = 512 << 10;
  // tcp:
  TcpConfig tcp;
  // access:
  std::vector<AccessRule> access;
  // programs:
  ProgramsConfig programs;
  // control:
  std::filesystem::path app_socket = "/run/postern/postern.sock";
  std::filesystem::path control_socket = "/run/postern/control.sock";
  std::string control_group;  // group that may use the control socket besides root
  // log:
  std::string log_level = "info";
  std::filesystem::path log_file;  // empty: standard error
  // impair: (tests only)
  ImpairConfig impair;
};

// What a configuration is checked against besides itself. Tests and `postern check` for another
// machine put their own answers here.
struct Machine {
  std::vector<int> cores;  // logical CPUs that the process may use; empty: any is accepted
  std::function<std::optional<uint32_t>(const std::string& name)> user;   // name -> uid
  std::function<std::optional<uint32_t>(const std::string& name)> group;  // name -> gid
  static Machine here();
};

// Throws ConfigError.
Config load_config(const std::filesystem::path& file, const Machine& machine = Machine::here());

// Every key that load_config knows, with its path: "ports[].mtu". For the check that the JSON
// Schema and the manual are complete.
std::vector<std::string> config_keys();

}  // namespace postern
