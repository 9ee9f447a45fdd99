#include "control/config_values.h"

#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <set>

#include "control/units.h"

namespace postern {
namespace {

bool is_word(std::string_view text, size_t longest) {
  const auto good = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.';
  };
  return !text.empty() && text.size() <= longest && std::all_of(text.begin(), text.end(), good);
}

bool is_host(const IpAddress& a) {
  constexpr uint8_t kLoopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  if (!a.is_v4()) return !a.is_any() && !a.is_multicast() && a != IpAddress::v6(kLoopback);
  return !a.is_any() && !a.is_multicast() && a.v4_value() >> 24 != 127 && a.v4_value() >> 24 != 0 &&
         a.v4_value() != 0xffffffff;
}

uint32_t host_bits(const Prefix& p) {
  return p.length == 32 ? 0 : p.address.v4_value() & (0xffffffffU >> p.length);
}

// The address with all bits after the prefix zero.
IpAddress network_of(const Prefix& p) {
  const unsigned bits = p.length + (p.address.is_v4() ? 96U : 0U);
  IpAddress network = p.address;
  for (unsigned i = bits; i < 128; ++i) {
    network.data()[i / 8] &= static_cast<uint8_t>(~(0x80U >> i % 8));
  }
  return network;
}

// The first address of a network, and IPv4's last one, are no host's (RFC 1122 3.2.1.3; RFC 4291
// 2.6.1). Networks of one or two addresses have neither (RFC 3021, 6164).
bool is_edge(const Prefix& p) {
  if (!p.address.is_v4()) return p.length < 127 && p.address == network_of(p);
  const uint32_t host = host_bits(p);
  return p.length < 31 && (host == 0 || host == 0xffffffffU >> p.length);
}

constexpr std::array<std::string_view, 16> kDrivers{
    "net_af_packet",   "net_af_xdp",  "net_tap",       "net_memif",
    "net_virtio_user", "net_vhost",   "net_null",      "net_ring",
    "net_pcap",        "net_bonding", "net_failsafe",  "net_vdev_netvsc",
    "net_softnic",     "net_ark",     "eth_af_packet", "eth_vhost"};

constexpr std::string_view kDeviceForm =
    "give a PCI address like 0000:03:00.0 or a device like net_af_packet0,iface=veth0";

// True for "[domain:]bus:device.function" in hexadecimal.
bool looks_like_pci(std::string_view text) {
  const auto good = [](unsigned char c) { return std::isxdigit(c) || c == ':' || c == '.'; };
  return text.find(':') != text.npos && text.find(',') == text.npos &&
         std::all_of(text.begin(), text.end(), good);
}

void check_pci(const Field& f, std::string_view text) {
  constexpr std::string_view kForm = "xxxx:xx:xx.x";
  bool good = text.size() == kForm.size();
  for (size_t i = 0; good && i < kForm.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    good = kForm[i] == 'x' ? std::isxdigit(c) != 0 : text[i] == kForm[i];
  }
  if (good && text.back() >= '0' && text.back() <= '7') return;
  f.fail('"' + std::string(text) + "\" is not a PCI address",
         "write domain, bus, device and function, like 0000:03:00.0");
}

void check_vdev_arguments(const Field& f, std::string_view driver, std::string_view arguments) {
  std::set<std::string_view> keys;
  while (!arguments.empty()) {
    const std::string_view one = arguments.substr(0, arguments.find(','));
    arguments.remove_prefix(std::min(one.size() + 1, arguments.size()));
    const size_t equal = one.find('=');
    if (equal == 0 || equal == one.npos || equal + 1 == one.size()) {
      f.fail("argument \"" + std::string(one) + "\" of the device is not key=value",
             "write them like net_af_packet0,iface=veth0");
    }
    keys.insert(one.substr(0, equal));
  }
  const bool on_interface = driver.ends_with("af_packet") || driver == "net_af_xdp";
  if (on_interface && !keys.contains("iface")) {
    f.fail("device " + std::string(driver) + " names no interface", "add ,iface=NAME to it");
  }
}

}  // namespace

std::string read_word(const Field& f, size_t longest) {
  const std::string text = f.text();
  if (!is_word(text, longest)) {
    f.fail('"' + text + "\" is not a name",
           "use at most " + std::to_string(longest) + " letters, digits, '_', '-' or '.'");
  }
  return text;
}

std::filesystem::path read_path(const Field& f) {
  const std::filesystem::path path = f.text();
  if (!path.is_absolute()) {
    f.fail('"' + path.string() + "\" is a relative path", "give an absolute path");
  }
  return path;
}

std::filesystem::path read_socket_path(const Field& f) {
  const std::filesystem::path path = read_path(f);
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.native().size() > kLongest) {
    f.fail("the path is " + std::to_string(path.native().size()) + " bytes long",
           "a socket path has at most " + std::to_string(kLongest));
  }
  return path;
}

Prefix read_interface_address(const Field& f) {
  const std::string text = f.text();
  const auto prefix = Prefix::parse(text);
  if (!prefix) {
    f.fail('"' + text + "\" is not an address with its prefix length",
           "write it like 192.0.2.1/24");
  }
  if (!is_host(prefix->address) || prefix->length == 0 || is_edge(*prefix)) {
    const std::string like = prefix->address.is_v4() ? "192.0.2.1/24" : "2001:db8::1/64";
    f.fail('"' + text + "\" cannot be the address of a host",
           "give a unicast address inside its network, like " + like);
  }
  return *prefix;
}

Prefix read_destination(const Field& f) {
  const std::string text = f.text();
  if (text == "default") return {IpAddress::v4(0), 0};
  const auto prefix = Prefix::parse(text);
  if (!prefix) {
    f.fail('"' + text + "\" is not a network", "write default or a network like 198.51.100.0/24");
  }
  if (const Prefix network{network_of(*prefix), prefix->length}; network != *prefix) {
    f.fail('"' + text + "\" has bits set after its prefix",
           "did you mean " + network.to_string() + '?');
  }
  return *prefix;
}

IpAddress read_gateway(const Field& f) {
  const std::string text = f.text();
  const auto address = IpAddress::parse(text);
  if (!address) f.fail('"' + text + "\" is not an address", "write it like 192.0.2.254");
  if (!is_host(*address)) f.fail('"' + text + "\" cannot be a gateway", "give a unicast address");
  return *address;
}

MacAddress read_mac(const Field& f) {
  const std::string text = f.text();
  const auto mac = parse_mac(text);
  if (!mac) f.fail('"' + text + "\" is not a MAC address", "write it like 02:00:00:00:00:01");
  if (mac->is_multicast() || mac->is_zero()) {
    f.fail('"' + text + "\" cannot be a station's MAC address",
           "give a unicast one; 02:... is for local use");
  }
  return *mac;
}

std::string read_device(const Field& f) {
  std::string text = f.text();
  if (looks_like_pci(text)) {
    check_pci(f, text);
    return text;
  }
  const std::string_view name = std::string_view(text).substr(0, text.find(','));
  const std::string_view driver = name.substr(0, name.find_last_not_of("0123456789") + 1);
  if (!is_word(name, 31) || !name.starts_with("net_") == !name.starts_with("eth_")) {
    f.fail('"' + text + "\" is not a device", kDeviceForm);
  }
  if (std::find(kDrivers.begin(), kDrivers.end(), driver) == kDrivers.end()) {
    const std::string_view near = nearest(driver, kDrivers);
    f.fail("no driver is named \"" + std::string(driver) + '"',
           near.empty() ? std::string(kDeviceForm) : "did you mean " + std::string(near) + "?");
  }
  const size_t comma = text.find(',');
  const bool more = comma != text.npos;
  if (more && text.back() == ',') f.fail("the device ends in a comma", "remove it");
  check_vdev_arguments(f, driver, more ? std::string_view(text).substr(comma + 1) : "");
  return text;
}

// Numbers of IANA's registry of assigned protocols. ICMP is one thing in both families.
struct ProtocolName {
  std::string_view name;
  uint8_t number;
};
constexpr ProtocolName kProtocols[] = {
    {"icmp", 1}, {"icmp", 58}, {"igmp", 2},  {"gre", 47},   {"esp", 50},
    {"ah", 51},  {"ospf", 89}, {"pim", 103}, {"vrrp", 112}, {"sctp", 132},
};

std::vector<ExceptionEntry> read_exception(const Field& f) {
  const std::string text = f.text();
  const auto refuse = [&](const std::string& what) {
    f.fail('"' + text + "\" " + what,
           "write tcp/22, udp/500-600, tcp/any, a number like ip/89, or one of icmp, igmp, gre, "
           "esp, ah, ospf, pim, vrrp, sctp");
  };
  if (text.starts_with("tcp/") || text.starts_with("udp/")) {
    const PortRange range = read_port_range(f);
    return {{text, range.protocol, range.first, range.last}};
  }
  std::vector<ExceptionEntry> entries;
  for (const ProtocolName& p : kProtocols) {
    if (text == p.name) entries.push_back({text, p.number, 0, 0});
  }
  if (!entries.empty()) return entries;
  if (!text.starts_with("ip/")) refuse("is no protocol that is known by name");
  const auto number = parse_integer(std::string_view(text).substr(3));
  if (!number || *number > 255) refuse("is not a protocol number");
  if (*number == IPPROTO_TCP || *number == IPPROTO_UDP) refuse("has ports");
  return {{text, static_cast<uint8_t>(*number), 0, 0}};
}

PortRange read_port_range(const Field& f) {
  const std::string text = f.text();
  const auto refuse = [&] {
    f.fail('"' + text + "\" is not a protocol with ports",
           "write it like tcp/80, udp/5000-6000 or tcp/any");
  };
  const size_t slash = text.find('/');
  const std::string_view protocol = std::string_view(text).substr(0, slash);
  if (slash == text.npos || (protocol != "tcp" && protocol != "udp")) refuse();
  PortRange range;
  range.protocol = protocol == "tcp" ? IPPROTO_TCP : IPPROTO_UDP;
  const std::string_view ports = std::string_view(text).substr(slash + 1);
  if (ports == "any") return {range.protocol, 1, UINT16_MAX};
  const size_t dash = ports.find('-');
  const auto first = parse_integer(ports.substr(0, dash));
  const auto last = dash == ports.npos ? first : parse_integer(ports.substr(dash + 1));
  if (!first || !last) refuse();
  if (*first == 0 || *first > *last || *last > UINT16_MAX) {
    f.fail('"' + text + "\" is not a range of ports",
           "give ports from 1 to 65535, the lower first");
  }
  range.first = static_cast<uint16_t>(*first);
  range.last = static_cast<uint16_t>(*last);
  return range;
}

}  // namespace postern
