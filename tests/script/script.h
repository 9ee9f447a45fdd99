// A packet script as a value. The syntax is packetdrill's, as far as it goes; README.md says how
// far.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "wire/segment.h"

namespace postern::script {

// A packet as the script names it: sequence numbers count from each side's SYN.
struct PacketSpec {
  TcpSegment segment;
  bool has_ack = false;
  bool has_window = false;
  bool any_options = false;  // <...>
  bool has_ecn = false;
  bool icmp = false;
  uint32_t icmp_mtu = 0;  // 0: an error
  int icmp_errno = 0;
};

struct Call {
  std::string name;
  std::vector<std::string> arguments;
  long result = 0;
  std::string error;  // errno name, empty: none
};

struct Assertion {
  std::string left;
  std::string op;
  std::string right;
};

struct Event {
  enum class Type { inbound, outbound, call, assertion };
  Type type = Type::call;
  int line = 0;
  std::string text;
  Time earliest{};
  Time latest{};  // outbound only, when a range is given
  bool any_time = false;
  PacketSpec packet;
  Call call;
  std::vector<Assertion> assertions;
};

struct Setting {
  std::string key;
  std::string value;
};

struct Script {
  std::string path;
  std::vector<Setting> settings;
  std::vector<Event> events;
};

// On failure: `error` is "path:line: what", and the result is empty.
std::optional<Script> parse(const std::string& path, const std::string& text, std::string& error);

// "100ms", "2s", "250us"; nullopt if it is none.
std::optional<Duration> parse_duration(const std::string& text);

// A packet in the script's syntax.
std::string to_string(const PacketSpec& packet, bool outbound);

}  // namespace postern::script
