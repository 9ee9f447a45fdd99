// Single values of the configuration that need more than a number with its unit. Each throws
// ConfigError at the place of the value.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/address.h"
#include "control/config.h"
#include "control/yaml_reader.h"

namespace postern {

// Letters, digits, '_', '-' and '.', at most `longest` of them.
std::string read_word(const Field& f, size_t longest);
// An absolute path; a socket's must fit sockaddr_un.
std::filesystem::path read_path(const Field& f);
std::filesystem::path read_socket_path(const Field& f);

// "192.0.2.1/24": a host's address inside its network.
Prefix read_interface_address(const Field& f);
// "default" or "198.51.100.0/24", no bits after the prefix.
Prefix read_destination(const Field& f);
IpAddress read_gateway(const Field& f);
MacAddress read_mac(const Field& f);

// PCI address "0000:03:00.0" or virtual device "net_af_packet0,iface=veth0".
std::string read_device(const Field& f);

// What of IP the kernel may have: "tcp/22" and the like, "icmp", "ospf", or "ip/89". A name may
// stand for several protocols.
std::vector<ExceptionEntry> read_exception(const Field& f);

// "tcp/80", "udp/5000-6000", "tcp/any".
PortRange read_port_range(const Field& f);

}  // namespace postern
