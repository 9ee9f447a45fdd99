// What a route must be to make sense on the ports that there are; the same for the configuration
// and for `postern route add`.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/config.h"

namespace postern {

struct RouteProblem {
  enum class Part : uint8_t { whole, via, port };
  Part part = Part::whole;
  std::string what;
  std::string remedy;
};

// Fills in the port that leads to the router. nullopt: the route is good.
std::optional<RouteProblem> complete_route(std::span<const InterfaceEntry> ports,
                                           RouteEntry& route);

// Both may stand beside each other: routes of one metric to one destination share its flows.
bool can_share(const RouteEntry& a, const RouteEntry& b);

// "[blackhole|unreachable] PREFIX|default [via ADDRESS] [port NAME] [metric N]", in words. Throws
// std::runtime_error with what is wrong. "default" without an IPv6 router is 0.0.0.0/0.
RouteEntry parse_route(std::span<const std::string_view> words);
std::string to_string(const RouteEntry& route);  // the same text

std::string_view route_kind_name(RouteKind kind);

}  // namespace postern
