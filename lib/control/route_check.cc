#include "control/route_check.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace postern {
namespace {

const InterfaceEntry* port_named(std::span<const InterfaceEntry> ports, const std::string& name) {
  const auto it = std::find_if(ports.begin(), ports.end(),
                               [&](const InterfaceEntry& port) { return port.name == name; });
  return it == ports.end() ? nullptr : &*it;
}

// The port on whose network an address lies; of several, the named one.
const InterfaceEntry* port_towards(std::span<const InterfaceEntry> ports, const IpAddress& address,
                                   const std::string& name) {
  const InterfaceEntry* found = nullptr;
  for (const InterfaceEntry& port : ports) {
    const bool near =
        std::any_of(port.addresses.begin(), port.addresses.end(), [&](const Prefix& prefix) {
          return prefix.address.is_v4() == address.is_v4() && prefix.contains(address);
        });
    if (near && (found == nullptr || port.name == name)) found = &port;
  }
  return found;
}

std::optional<RouteProblem> complete_gateway(std::span<const InterfaceEntry> ports,
                                             RouteEntry& route) {
  using Part = RouteProblem::Part;
  const std::string text = route.via->to_string();
  for (const InterfaceEntry& port : ports) {
    for (const Prefix& own : port.addresses) {
      if (own.address != *route.via) continue;
      return RouteProblem{Part::via, text + " is an address of this machine itself",
                          "give the router's address"};
    }
  }
  if (route.via->is_v4() != route.to.address.is_v4()) {
    return RouteProblem{Part::via, text + " is not of the same family as " + route.to.to_string(),
                        "give a router of that family"};
  }
  if (route.via->is_link_local()) {  // on every port's link
    if (!route.port.empty()) return std::nullopt;
    return RouteProblem{Part::via, text + " is link-local, which does not tell the port",
                        "add \"port: NAME\""};
  }
  const InterfaceEntry* port = port_towards(ports, *route.via, route.port);
  if (port == nullptr) {
    return RouteProblem{Part::via, text + " is not on the network of any port",
                        "give a router that a port can reach"};
  }
  if (route.port.empty()) route.port = port->name;
  if (route.port == port->name) return std::nullopt;
  return RouteProblem{Part::via, text + " is not on the network of port " + route.port,
                      "give port " + port->name + " or another router"};
}

[[noreturn]] void bad(const std::string& what) { throw std::runtime_error(what); }

Prefix parse_destination(std::string_view text, bool v6) {
  if (text == "default") return *Prefix::parse(v6 ? "::/0" : "0.0.0.0/0");
  std::optional<Prefix> prefix = Prefix::parse(text);
  if (const auto address = IpAddress::parse(text)) {
    prefix = Prefix{*address, static_cast<uint8_t>(address->is_v4() ? 32 : 128)};
  }
  if (!prefix) bad('"' + std::string(text) + "\" is not a network; give one such as 10.0.0.0/8");
  return *prefix;
}

// The words behind the destination, in pairs.
void parse_pair(std::string_view key, std::string_view value, RouteEntry& route) {
  if (key == "via") {
    route.via = IpAddress::parse(value);
    if (!route.via) bad('"' + std::string(value) + "\" is not an address");
  } else if (key == "port" || key == "dev") {
    route.port = value;
  } else if (key == "metric") {
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), route.metric);
    if (error != std::errc{} || end != value.data() + value.size()) {
      bad('"' + std::string(value) + "\" is not a metric; give a number");
    }
  } else {
    bad('"' + std::string(key) + "\" is not known here; give via, port or metric");
  }
}

}  // namespace

std::optional<RouteProblem> complete_route(std::span<const InterfaceEntry> ports,
                                           RouteEntry& route) {
  using Part = RouteProblem::Part;
  if (route.kind != RouteKind::unicast) {
    if (!route.via && route.port.empty()) return std::nullopt;
    return RouteProblem{route.via ? Part::via : Part::port,
                        std::string(route_kind_name(route.kind)) + " leads nowhere",
                        "give neither a router nor a port"};
  }
  if (!route.port.empty() && port_named(ports, route.port) == nullptr) {
    return RouteProblem{Part::port, "no port is named \"" + route.port + '"',
                        "give the name of one of ports:"};
  }
  if (route.via) return complete_gateway(ports, route);
  if (!route.port.empty()) return std::nullopt;
  return RouteProblem{Part::whole, "the route leads nowhere",
                      "add \"via: ADDRESS\" or \"port: NAME\""};
}

bool can_share(const RouteEntry& a, const RouteEntry& b) {
  return a.kind == RouteKind::unicast && b.kind == RouteKind::unicast &&
         (a.via != b.via || a.port != b.port);
}

RouteEntry parse_route(std::span<const std::string_view> words) {
  RouteEntry route;
  if (!words.empty() && (words[0] == "blackhole" || words[0] == "unreachable")) {
    route.kind = words[0] == "blackhole" ? RouteKind::blackhole : RouteKind::unreachable;
    words = words.subspan(1);
  }
  if (words.empty()) bad("say to which network, such as 10.0.0.0/8 or default");
  if (words.size() % 2 == 0) bad('"' + std::string(words.back()) + "\" lacks its value");
  for (size_t i = 1; i < words.size(); i += 2) parse_pair(words[i], words[i + 1], route);
  route.to = parse_destination(words[0], route.via && !route.via->is_v4());
  return route;
}

std::string to_string(const RouteEntry& route) {
  std::string text;
  if (route.kind != RouteKind::unicast) text = std::string(route_kind_name(route.kind)) + ' ';
  text += route.to.to_string();
  if (route.via) text += " via " + route.via->to_string();
  if (!route.port.empty()) text += " port " + route.port;
  if (route.metric != 0) text += " metric " + std::to_string(route.metric);
  return text;
}

std::string_view route_kind_name(RouteKind kind) {
  switch (kind) {
    case RouteKind::blackhole:
      return "blackhole";
    case RouteKind::unreachable:
      return "unreachable";
    default:
      return "unicast";
  }
}

}  // namespace postern
