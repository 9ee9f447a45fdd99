#include "daemon/routes.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <stdexcept>
#include <tuple>

#include "control/route_check.h"

namespace postern {
namespace {

constexpr std::chrono::milliseconds kSoon{200};

Prefix masked(Prefix prefix) {
  const int skip = prefix.address.is_v4() ? 96 : 0;
  for (int bit = skip + prefix.length; bit < 128; ++bit) {
    prefix.address.data()[bit / 8] &= static_cast<uint8_t>(~(0x80U >> (bit % 8)));
  }
  return prefix;
}

bool could_be(const RouteEntry& like, const RouteEntry& route) {
  return like.to == route.to && like.kind == route.kind && (!like.via || like.via == route.via) &&
         (like.port.empty() || like.port == route.port) &&
         (like.metric == 0 || like.metric == route.metric);
}

}  // namespace

// IPv4 first; a network, then what it encloses.
bool Routes::Less::operator()(const Row& a, const Row& b) const {
  const RouteEntry &x = a.route, &y = b.route;
  const bool x6 = !x.to.address.is_v4(), y6 = !y.to.address.is_v4();
  const IpAddress x_via = x.via.value_or(IpAddress{}), y_via = y.via.value_or(IpAddress{});
  return std::tie(x6, x.to.address, x.to.length, x.metric, x.kind, x_via, x.port) <
         std::tie(y6, y.to.address, y.to.length, y.metric, y.kind, y_via, y.port);
}

Routes::Routes(boost::asio::io_context& io, const Config& config,
               const std::vector<std::unique_ptr<Worker>>& workers)
    : interfaces_(interfaces_of(config.ports)), later_(io) {
  for (const InterfaceEntry& port : interfaces_) {
    for (const Prefix& prefix : port.addresses) {
      RouteEntry own;
      own.to = masked(prefix);
      own.port = port.name;
      rows_.insert({std::move(own), "port"});
    }
  }
  for (RouteEntry route : config.routes) {
    route.to = masked(route.to);
    rows_.insert({std::move(route), "config"});
  }
  table_ = std::make_shared<const RouteTable>(build());
  for (const auto& worker : workers) worker->stack().set_routes(table_.get());
}

uint16_t Routes::interface_of(const std::string& port) const {
  for (size_t i = 0; i < interfaces_.size(); ++i) {
    if (interfaces_[i].name == port) return static_cast<uint16_t>(i);
  }
  return 0;  // a route without a port leads nowhere
}

RouteTable Routes::build() const {
  std::vector<Route> routes;
  routes.reserve(rows_.size());
  for (const Row& row : rows_) {
    const RouteEntry& r = row.route;
    routes.push_back({r.to, r.via.value_or(IpAddress{}), interface_of(r.port), r.metric, r.kind});
  }
  return RouteTable(routes);
}

void Routes::add(RouteEntry route) {
  if (const auto problem = complete_route(interfaces_, route)) {
    throw std::runtime_error(to_string(route) + ": " + problem->what + "; " + problem->remedy);
  }
  route.to = masked(route.to);
  Row from;
  from.route.to = route.to;
  for (auto it = rows_.lower_bound(from); it != rows_.end() && it->route.to == route.to; ++it) {
    if (it->route.metric == route.metric && !can_share(it->route, route)) {
      throw std::runtime_error(to_string(route) + ": there is " + to_string(it->route) +
                               " already; delete it or give another metric");
    }
  }
  rows_.insert({std::move(route), "added"});
  changed_ = true;
}

void Routes::remove(const RouteEntry& like) {
  RouteEntry wanted = like;
  wanted.to = masked(wanted.to);
  Row from;  // the first that rows to this network could be
  from.route.to = wanted.to;
  auto found = rows_.end();
  for (auto it = rows_.lower_bound(from); it != rows_.end() && it->route.to == wanted.to; ++it) {
    if (!could_be(wanted, it->route)) continue;
    if (found != rows_.end()) {
      throw std::runtime_error(to_string(wanted) + ": several routes could be meant; say which");
    }
    found = it;
  }
  if (found == rows_.end())
    throw std::runtime_error(to_string(wanted) + ": there is no such route");
  if (std::string_view(found->origin) == "port") {
    throw std::runtime_error(to_string(wanted) + ": is the network of a port itself");
  }
  rows_.erase(found);
  changed_ = true;
}

void Routes::apply(std::function<void()> done) {
  later_.cancel();
  if (!changed_) return done();
  changed_ = false;
  auto old = std::exchange(table_, std::make_shared<const RouteTable>(build()));
  // Both live until the last worker has changed over.
  calls_->post_all(
      [now = table_.get()](Worker& worker) noexcept {
        worker.stack().set_routes(now);
        return 0;
      },
      [old = std::move(old), now = table_, done = std::move(done)](const std::vector<int>&) {
        done();
      });
}

void Routes::apply_soon() {
  later_.expires_after(kSoon);
  later_.async_wait([this](const boost::system::error_code& error) {
    if (!error) apply([] {});
  });
}

std::vector<Routes::Row> Routes::list(size_t from, size_t most) const {
  std::vector<Row> out;
  if (from >= rows_.size()) return out;
  auto it = std::next(rows_.begin(), static_cast<std::ptrdiff_t>(from));
  for (; it != rows_.end() && out.size() < most; ++it) out.push_back(*it);
  return out;
}

// As the workers look it up.
std::vector<Routes::Row> Routes::get(const IpAddress& destination) const {
  std::vector<Row> out;
  for (const Route& r : table_->lookup(destination)) {
    RouteEntry entry;
    entry.to = r.destination;
    if (!r.gateway.is_any()) entry.via = r.gateway;
    if (r.kind == RouteKind::unicast) entry.port = interfaces_.at(r.interface).name;
    entry.metric = r.metric;
    entry.kind = r.kind;
    out.push_back({std::move(entry), ""});
  }
  return out;
}

}  // namespace postern
