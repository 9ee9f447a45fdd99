#include "options.h"

#include <getopt.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

namespace postern::perf {
namespace {

constexpr const char* kHelp =
    R"(Usage: loadgen --mode MODE --vdev DEVICE --local ADDRESS --peer ADDRESS [options]

Generates load over one DPDK device from one core and measures what comes back.

Modes
  udp-echo    datagrams in a closed loop, --window of them outstanding
  udp-flood   datagrams as fast as the link takes them or at --rate; answers are counted
  tcp-rr      requests and responses over --connections that stay open
  tcp-crr     connect, one request and response, close; --connections at once
  tcp-send    bulk data to the peer
  tcp-recv    bulk data from the peer
  syn-flood   SYN segments from all client addresses and ports
  reflect     answer UDP, TCP, ARP and neighbor discovery without state: the peer that costs least

Link
  --vdev DEVICE        as DPDK writes it, e.g. net_memif0,role=client,socket=/tmp/m.sock
  --local ADDRESS      own address, IPv4 or IPv6, the first of --clients
  --peer ADDRESS       server's address, of the same family
  --port N             server's port (7)
  --clients N          client addresses, counted up from --local in its last 32 bits (1)
  --first-port N       first client port (10000)
  --ports N            client ports an address (50000)
  --mac MAC            own MAC address (the device's)
  --peer-mac MAC       do not ask for the peer's by ARP or neighbor discovery
  --mtu BYTES          576 to 9000 (1500)
  --core N             run on this core (first one allowed)
  --file-prefix NAME   DPDK's, to run several at once (loadgen)
  --eal "ARGS"         further EAL arguments

Load
  --connections N      TCP connections, or UDP source ports (1)
  --active N           tcp-rr: only N of them send requests (all)
  --size BYTES         payload of a request or datagram (64); UDP: 16 or more, and several with
                       commas take turns: 18,18,548
  --request FILE       tcp-rr, tcp-crr: send what the file holds, to a server of any protocol
  --response BYTES     and count its answer by its length; its bytes are not looked at
  --window N           udp-echo: datagrams outstanding (32); bulk: KiB in flight a
                       connection (1024)
  --rate N             requests or packets a second; latency counts from the moment a request
                       was due, also when it had to wait (no coordinated omission)
  --warmup SECONDS     (1)
  --duration SECONDS   (5)
  --count N            udp-flood: stop sending after N datagrams
  --drain SECONDS      after the last was sent, go on counting answers (0)
  --checksum on|off    fill in and verify TCP and UDP checksums (on)

Application side, hosted in this thread, a step each turn
  --host-echo LIST     e.g. tcp:7,udp:7: echo
  --host-sink LIST     read and discard
  --host-source LIST   send without end
  --app-socket PATH    the daemon's application socket

Output
  --json               JSON on standard output instead of text
  --json-file PATH     JSON to this file as well
)";

template <typename T>
T number(const char* option, std::string_view text, T low, T high) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < low || value > high) {
    throw UsageError(std::string("--") + option + ": '" + std::string(text) +
                     "' is not a number from " + std::to_string(low) + " to " +
                     std::to_string(high));
  }
  return value;
}

HostAddress address(const char* option, const char* text) {
  HostAddress parsed;
  if (!HostAddress::parse(text, parsed)) {
    throw UsageError(std::string("--") + option + ": '" + text + "' is not an address");
  }
  return parsed;
}

rte_ether_addr mac(const char* option, const char* text) {
  rte_ether_addr parsed{};
  if (rte_ether_unformat_addr(text, &parsed) != 0) {
    throw UsageError(std::string("--") + option + ": '" + text +
                     "' is not a MAC address like 02:00:00:00:00:01");
  }
  return parsed;
}

bool on_off(const char* option, std::string_view text) {
  if (text == "on") return true;
  if (text == "off") return false;
  throw UsageError(std::string("--") + option + ": '" + std::string(text) + "' is not on or off");
}

Mode mode(std::string_view text) {
  for (int i = 0; i <= static_cast<int>(Mode::reflect); ++i) {
    if (text == mode_name(static_cast<Mode>(i))) return static_cast<Mode>(i);
  }
  throw UsageError("--mode: '" + std::string(text) + "' is none of the modes; see --help");
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end != 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

std::string file_content(const char* option, const char* path) {
  constexpr size_t kMost = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file || content.empty() || content.size() > kMost) {
    throw UsageError(std::string("--") + option + ": '" + path +
                     "' is not a file of 1 byte to 1 MiB");
  }
  return content;
}

void add_services(const char* option, HostedService::Kind kind, const char* list, Options& o) {
  for (const std::string& item : split(list, ',')) {
    const bool tcp = item.starts_with("tcp:");
    if (!tcp && !item.starts_with("udp:")) {
      throw UsageError(std::string("--") + option + ": '" + item + "' is not tcp:PORT or udp:PORT");
    }
    o.hosted.push_back(
        {kind, tcp, number<uint16_t>(option, std::string_view(item).substr(4), 1, 65535)});
  }
}

enum Id {
  kMode = 256,
  kVdev,
  kLocal,
  kPeer,
  kPort,
  kClients,
  kFirstPort,
  kPorts,
  kMac,
  kPeerMac,
  kMtu,
  kCore,
  kFilePrefix,
  kEal,
  kConnections,
  kActive,
  kSize,
  kRequest,
  kResponse,
  kWindow,
  kRate,
  kWarmup,
  kDuration,
  kCount,
  kDrain,
  kChecksum,
  kHostEcho,
  kHostSink,
  kHostSource,
  kAppSocket,
  kJson,
  kJsonFile,
  kHelpId,
};

constexpr option kLong[] = {
    {"mode", required_argument, nullptr, kMode},
    {"vdev", required_argument, nullptr, kVdev},
    {"local", required_argument, nullptr, kLocal},
    {"peer", required_argument, nullptr, kPeer},
    {"port", required_argument, nullptr, kPort},
    {"clients", required_argument, nullptr, kClients},
    {"first-port", required_argument, nullptr, kFirstPort},
    {"ports", required_argument, nullptr, kPorts},
    {"mac", required_argument, nullptr, kMac},
    {"peer-mac", required_argument, nullptr, kPeerMac},
    {"mtu", required_argument, nullptr, kMtu},
    {"core", required_argument, nullptr, kCore},
    {"file-prefix", required_argument, nullptr, kFilePrefix},
    {"eal", required_argument, nullptr, kEal},
    {"connections", required_argument, nullptr, kConnections},
    {"active", required_argument, nullptr, kActive},
    {"size", required_argument, nullptr, kSize},
    {"request", required_argument, nullptr, kRequest},
    {"response", required_argument, nullptr, kResponse},
    {"window", required_argument, nullptr, kWindow},
    {"rate", required_argument, nullptr, kRate},
    {"warmup", required_argument, nullptr, kWarmup},
    {"duration", required_argument, nullptr, kDuration},
    {"count", required_argument, nullptr, kCount},
    {"drain", required_argument, nullptr, kDrain},
    {"checksum", required_argument, nullptr, kChecksum},
    {"host-echo", required_argument, nullptr, kHostEcho},
    {"host-sink", required_argument, nullptr, kHostSink},
    {"host-source", required_argument, nullptr, kHostSource},
    {"app-socket", required_argument, nullptr, kAppSocket},
    {"json", no_argument, nullptr, kJson},
    {"json-file", required_argument, nullptr, kJsonFile},
    {"help", no_argument, nullptr, kHelpId},
    {nullptr, 0, nullptr, 0},
};

void apply(int id, const char* name, const char* arg, Options& o) {
  switch (id) {
    case kMode:
      o.mode = mode(arg);
      break;
    case kVdev:
      o.vdev = arg;
      break;
    case kLocal:
      o.local = address(name, arg);
      break;
    case kPeer:
      o.peer = address(name, arg);
      break;
    case kPort:
      o.port = number<uint16_t>(name, arg, 1, 65535);
      break;
    case kClients:
      o.clients = number<uint32_t>(name, arg, 1, 65536);
      break;
    case kFirstPort:
      o.first_port = number<uint16_t>(name, arg, 1, 65535);
      break;
    case kPorts:
      o.ports = number<uint16_t>(name, arg, 1, 65535);
      break;
    case kMac:
      o.mac = mac(name, arg);
      break;
    case kPeerMac:
      o.peer_mac = mac(name, arg);
      break;
    case kMtu:
      o.mtu = number<uint16_t>(name, arg, 576, 9000);
      break;
    case kCore:
      o.core = number<int>(name, arg, 0, 1023);
      break;
    case kFilePrefix:
      o.file_prefix = arg;
      break;
    case kEal:
      o.eal = split(arg, ' ');
      break;
    case kConnections:
      o.connections = number<uint32_t>(name, arg, 1, 16 << 20);
      break;
    case kActive:
      o.active = number<uint32_t>(name, arg, 1, 16 << 20);
      break;
    case kSize:
      o.sizes.clear();
      for (const std::string& item : split(arg, ',')) {
        o.sizes.push_back(number<uint32_t>(name, item, 1, 1 << 20));
      }
      if (o.sizes.empty()) throw UsageError("--size: give a number of bytes");
      o.size = *std::max_element(o.sizes.begin(), o.sizes.end());
      break;
    case kRequest:
      o.request = file_content(name, arg);
      o.size = static_cast<uint32_t>(o.request.size());
      break;
    case kResponse:
      o.response = number<uint32_t>(name, arg, 1, 1 << 30);
      break;
    case kWindow:
      o.window = number<uint32_t>(name, arg, 1, 16384);
      break;
    case kRate:
      o.rate = number<double>(name, arg, 0, 1e9);
      break;
    case kWarmup:
      o.warmup = number<double>(name, arg, 0, 3600);
      break;
    case kDuration:
      o.duration = number<double>(name, arg, 0.01, 86400);
      break;
    case kCount:
      o.count = number<uint64_t>(name, arg, 1, UINT64_MAX);
      break;
    case kDrain:
      o.drain = number<double>(name, arg, 0, 60);
      break;
    case kChecksum:
      o.checksum = on_off(name, arg);
      break;
    case kHostEcho:
      add_services(name, HostedService::Kind::echo, arg, o);
      break;
    case kHostSink:
      add_services(name, HostedService::Kind::sink, arg, o);
      break;
    case kHostSource:
      add_services(name, HostedService::Kind::source, arg, o);
      break;
    case kAppSocket:
      o.app_socket = arg;
      break;
    case kJson:
      o.json = true;
      break;
    case kJsonFile:
      o.json_file = arg;
      break;
    default:
      throw UsageError("see --help");
  }
}

void check(const Options& o) {
  if (o.vdev.empty()) throw UsageError("--vdev is needed; see --help");
  if (o.local.unset()) throw UsageError("--local is needed; see --help");
  if (o.peer.unset() && o.mode != Mode::reflect) throw UsageError("--peer is needed; see --help");
  if (!o.peer.unset() && o.peer.v6 != o.local.v6) {
    throw UsageError("--local and --peer are of two families");
  }
  if (o.local.low + o.clients - 1 < o.local.low) {
    throw UsageError("--clients counts past the last address");
  }
  const uint32_t headers = o.local.v6 ? 48 : 28;
  if (o.local.v6 && o.mtu < 1280) throw UsageError("--mtu: IPv6 needs 1280 or more (RFC 8200 5)");
  if (o.first_port + o.ports > 65536) {
    throw UsageError("--first-port and --ports together pass port 65535");
  }
  if (o.connections > o.tuple_count()) {
    throw UsageError("--connections " + std::to_string(o.connections) + " needs more than the " +
                     std::to_string(o.tuple_count()) +
                     " address and port pairs of --clients and --ports");
  }
  if (o.active > o.connections) throw UsageError("--active is more than --connections");
  const bool asks = o.mode == Mode::tcp_rr || o.mode == Mode::tcp_crr;
  if (!asks && (!o.request.empty() || o.response != 0)) {
    throw UsageError("--request and --response are for tcp-rr and tcp-crr");
  }
  if (o.request.empty() != (o.response == 0)) {
    throw UsageError("--request and --response belong together");
  }
  const bool udp = o.mode == Mode::udp_echo || o.mode == Mode::udp_flood;
  if (!udp && o.sizes.size() > 1) throw UsageError("--size: only UDP modes take several");
  if (udp && *std::min_element(o.sizes.begin(), o.sizes.end()) < 16)
    throw UsageError("--size: UDP modes need 16 bytes for their own header");
  if (udp && o.size + headers > o.mtu) {
    throw UsageError("--size: a datagram of " + std::to_string(o.size) +
                     " bytes does not fit the MTU without fragments");
  }
}

}  // namespace

const char* mode_name(Mode mode) {
  switch (mode) {
    case Mode::udp_echo:
      return "udp-echo";
    case Mode::udp_flood:
      return "udp-flood";
    case Mode::tcp_rr:
      return "tcp-rr";
    case Mode::tcp_crr:
      return "tcp-crr";
    case Mode::tcp_send:
      return "tcp-send";
    case Mode::tcp_recv:
      return "tcp-recv";
    case Mode::syn_flood:
      return "syn-flood";
    case Mode::reflect:
      return "reflect";
  }
  return "?";
}

Options parse_options(int argc, char** argv) {
  Options o;
  opterr = 0;
  int index = 0;
  for (int id; (id = getopt_long(argc, argv, "h", kLong, &index)) != -1;) {
    if (id == kHelpId || id == 'h') {
      std::fputs(kHelp, stdout);
      std::exit(0);
    }
    if (id == '?') {
      throw UsageError(std::string("'") + argv[optind - 1] +
                       "' is not an option, or lacks its value; see --help");
    }
    apply(id, kLong[index].name, optarg, o);
  }
  if (optind < argc) throw UsageError(std::string("'") + argv[optind] + "' is not an option");
  if (o.window == 0) o.window = o.mode == Mode::udp_echo ? 32 : 1024;
  if (o.active == 0) o.active = o.connections;
  check(o);
  return o;
}

}  // namespace postern::perf
