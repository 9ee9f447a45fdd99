// The command line of loadgen.
#pragma once

#include <rte_ether.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "host_address.h"

namespace postern::perf {

enum class Mode : uint8_t {
  udp_echo,   // closed loop of datagrams, a window of them outstanding
  udp_flood,  // open loop of datagrams, answers only counted
  tcp_rr,     // request and response over connections that stay
  tcp_crr,    // connect, one request and response, close
  tcp_send,   // bulk towards the peer
  tcp_recv,   // bulk from the peer
  syn_flood,  // connection requests that are never completed
  reflect,    // be the peer: answer everything without state
};

const char* mode_name(Mode mode);

// A service that loadgen itself hosts as an application of the measured daemon.
struct HostedService {
  enum class Kind : uint8_t { echo, sink, source };
  Kind kind = Kind::echo;
  bool tcp = true;
  uint16_t port = 0;
};

struct Options {
  Mode mode = Mode::tcp_rr;

  // link
  std::string vdev;  // DPDK virtual device
  std::string file_prefix = "loadgen";
  std::vector<std::string> eal;  // further EAL arguments
  int core = -1;                 // -1: the first core the process may use
  uint16_t mtu = 1500;
  HostAddress local;                       // first client address
  HostAddress peer;                        // server address, of the same family
  uint32_t clients = 1;                    // client addresses, counted up from `local`
  std::optional<rte_ether_addr> mac;       // own; default: the device's
  std::optional<rte_ether_addr> peer_mac;  // default: asked by ARP or neighbor discovery
  uint16_t port = 7;                       // of the server
  uint16_t first_port = 10000;             // client ports first_port .. first_port + ports - 1
  uint16_t ports = 50000;

  // load
  uint32_t connections = 1;         // TCP connections, or UDP source ports
  uint32_t active = 0;              // tcp-rr: how many of them send requests; 0: all
  uint32_t size = 64;               // payload bytes of a request, of the largest datagram
  std::vector<uint32_t> sizes{64};  // of datagrams, which take turns
  std::string request;              // tcp-rr, tcp-crr: what to send instead of a pattern
  uint32_t response = 0;  // bytes of the answer, whatever they are; 0: the request comes back
  uint32_t window = 0;    // udp-echo: datagrams outstanding; bulk: KiB in flight a connection
  double rate = 0;        // requests or packets per second; 0: as fast as answers allow
  double warmup = 1;      // seconds before measuring
  double duration = 5;    // seconds measured
  uint64_t count = 0;     // udp-flood: datagrams to send, 0: without end
  double drain = 0;       // seconds to count answers after sending
  bool checksum = true;   // fill in and verify TCP and UDP checksums

  // the application side
  std::vector<HostedService> hosted;
  std::string app_socket;

  // output
  bool json = false;
  std::string json_file;

  uint64_t tuple_count() const { return uint64_t{clients} * ports; }
};

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws UsageError with a message for people. Exits 0 after --help.
Options parse_options(int argc, char** argv);

}  // namespace postern::perf
