#include "daemon/verbs.h"

#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "control/metrics.h"
#include "control/route_check.h"
#include "daemon/daemon.h"
#include "daemon/stages.h"

namespace postern {
namespace {

namespace json = boost::json;

constexpr size_t kPage = 512;  // rows that one call to a worker may list

bool flag(const json::object& request, std::string_view name) {
  const json::value* value = request.if_contains(name);
  return value != nullptr && value->is_bool() && value->as_bool();
}

// ---- tables that are asked for page by page ----

// Where a listing stands: {"worker": w, "cursor": c} in the request; the reply carries the next.
struct Place {
  size_t worker = 0;
  uint64_t cursor = 0;
};

Place place_of(const json::object& request, size_t workers) {
  Place place;
  if (const auto* worker = request.if_contains("worker"))
    place.worker = worker->to_number<size_t>();
  if (const auto* at = request.if_contains("cursor")) place.cursor = at->to_number<uint64_t>();
  if (place.worker >= workers) throw std::runtime_error("there is no such worker");
  return place;
}

json::value next_place(Place place, size_t workers) {
  if (place.cursor == UINT64_MAX) place = {place.worker + 1, 0};
  if (place.worker >= workers) return nullptr;
  return json::object{{"worker", place.worker}, {"cursor", place.cursor}};
}

// One page of rows from one worker. list(Worker&, uint64_t*, std::span<Row>) -> size_t runs there,
// to_json(const Row&) -> json::object here.
template <class Row, class List, class ToJson>
void reply_page(Daemon& daemon, const json::object& request, const ControlReply& reply, List list,
                ToJson to_json) {
  struct Page {
    Place place;
    size_t count = 0;
    std::array<Row, kPage> rows;
  };
  auto page = std::make_shared<Page>();
  const size_t workers = daemon.workers().size();
  page->place = place_of(request, workers);
  daemon.calls().post(
      page->place.worker,
      [page = page.get(), list](Worker& worker) noexcept {
        page->count = list(worker, &page->place.cursor, std::span<Row>(page->rows));
        return 0;
      },
      [page, reply, to_json, workers](int) {
        json::array rows;
        for (size_t i = 0; i < page->count; ++i) {
          json::object row = to_json(page->rows[i]);
          row["worker"] = page->place.worker;
          rows.push_back(std::move(row));
        }
        reply.ok(
            json::object{{"rows", std::move(rows)}, {"next", next_place(page->place, workers)}});
      });
}

std::string_view state_name(const SocketInfo& socket) {
  if (socket.listening) return "LISTEN";
  if (socket.protocol == IPPROTO_UDP) return socket.remote.port == 0 ? "UNCONN" : "ESTAB";
  switch (socket.state) {
    case TcpState::established:
      return "ESTAB";
    case TcpState::syn_sent:
      return "SYN-SENT";
    case TcpState::syn_received:
      return "SYN-RECV";
    case TcpState::fin_wait_1:
      return "FIN-WAIT-1";
    case TcpState::fin_wait_2:
      return "FIN-WAIT-2";
    case TcpState::time_wait:
      return "TIME-WAIT";
    case TcpState::closed:
      return "CLOSED";
    case TcpState::close_wait:
      return "CLOSE-WAIT";
    case TcpState::last_ack:
      return "LAST-ACK";
    case TcpState::listen:
      return "LISTEN";
    case TcpState::closing:
      return "CLOSING";
  }
  return "?";
}

// "Any" is shown in the family of the other side.
Endpoint remote_of(const SocketInfo& socket) {
  const bool v4 = socket.remote.address.is_any() && socket.local.address.is_v4();
  return v4 ? Endpoint{IpAddress::v4(0), socket.remote.port} : socket.remote;
}

json::object socket_json(const SocketInfo& socket, const Applications& applications) {
  json::object row{{"protocol", socket.protocol == IPPROTO_TCP ? "tcp" : "udp"},
                   {"state", state_name(socket)},
                   {"local", socket.local.to_string()},
                   {"remote", remote_of(socket).to_string()},
                   {"receive_queue", socket.receive_queue},
                   {"send_queue", socket.send_queue},
                   {"orphan", socket.orphan != 0}};
  if (socket.listening) row["backlog"] = socket.backlog;
  if (socket.mss != 0) row["mss"] = socket.mss;
  // An orphan's application may be gone already, and its number another's.
  const Application* app = socket.orphan != 0 ? nullptr : applications.find(socket.socket.app);
  if (app != nullptr) {
    row["application"] = json::object{
        {"id", app->id}, {"name", app->name}, {"pid", app->peer.pid}, {"uid", app->peer.uid}};
  }
  return row;
}

void ss(Daemon& daemon, const json::object& request, const ControlReply& reply) {
  reply_page<SocketInfo>(
      daemon, request, reply,
      [](Worker& worker, uint64_t* cursor, std::span<SocketInfo> out) noexcept {
        return worker.stack().list_sockets(cursor, out);
      },
      [&daemon](const SocketInfo& row) { return socket_json(row, daemon.applications()); });
}

void neigh(Daemon& daemon, const json::object& request, const ControlReply& reply) {
  reply_page<NeighborInfo>(
      daemon, request, reply,
      [](Worker& worker, uint64_t* cursor, std::span<NeighborInfo> out) noexcept {
        return worker.stack().list_neighbors(cursor, out, worker.now());
      },
      [names = interfaces_of(daemon.config().ports)](const NeighborInfo& row) {
        return json::object{{"address", row.address.to_string()},
                            {"port", names.at(row.interface).name},
                            {"mac", row.mac.is_zero() ? "" : to_string(row.mac)},
                            {"state", row.state},
                            {"age_ms", row.age / std::chrono::milliseconds(1)}};
      });
}

// ---- link ----

// The addresses of all ports that had to be asked for (RFC 4862), and the groups that somebody is
// in.
struct Addresses {
  size_t count = 0;
  std::array<AddressInfo, 1024> info;
  size_t group_count = 0;
  std::array<GroupTable::View, 2048> groups;
};

std::string_view address_state(const Addresses& known, size_t port, const Prefix& address) {
  const auto end = known.info.begin() + static_cast<std::ptrdiff_t>(known.count);
  const auto found = std::find_if(known.info.begin(), end, [&](const AddressInfo& a) {
    return a.interface == port && a.address == address;
  });
  return found == end ? "preferred" : found->state;
}

void add_addresses(json::object& to, const InterfaceEntry& interface, const Addresses& known,
                   size_t index) {
  json::array addresses;
  json::object states;
  for (const Prefix& prefix : interface.addresses) {
    addresses.push_back(prefix.to_string().c_str());
    states[prefix.to_string()] = address_state(known, index, prefix);
  }
  for (size_t i = 0; i < known.count; ++i) {  // from routers' prefixes
    const AddressInfo& a = known.info[i];
    const std::string text = a.address.to_string();
    if (a.interface != index || states.contains(text)) continue;
    addresses.push_back(text.c_str());
    states[text] = a.state;
  }
  to["addresses"] = std::move(addresses);
  to["address_states"] = std::move(states);
  json::array groups;
  for (size_t i = 0; i < known.group_count; ++i) {
    const GroupTable::View& g = known.groups[i];
    if (g.interface != index || g.members == 0) continue;
    groups.push_back(json::object{{"group", g.group.to_string()},
                                  {"mode", g.exclude ? "exclude" : "include"},
                                  {"sources", g.sources},
                                  {"members", g.members}});
  }
  to["groups"] = std::move(groups);
}

json::array vlans_json(const std::vector<InterfaceEntry>& interfaces, const Addresses& known,
                       size_t port) {
  json::array vlans;
  for (size_t i = 0; i < interfaces.size(); ++i) {
    const InterfaceEntry& v = interfaces[i];
    if (v.port != port || v.vlan == 0) continue;
    json::object one{{"name", v.name}, {"id", v.vlan}, {"mtu", v.mtu}};
    add_addresses(one, v, known, i);
    vlans.push_back(std::move(one));
  }
  return vlans;
}

json::object port_json(const PortConfig& config, const Port& port) {
  const LinkState link = port.link();
  const PortStats stats = port.stats();
  return {{"name", config.name},
          {"device", config.device},
          {"driver", port.driver()},
          {"mac", to_string(port.mac())},
          {"mtu", port.mtu()},
          {"up", link.up},
          {"mbps", link.mbps},
          {"queues", port.queues()},
          {"capabilities", port.capabilities()},
          {"rx_packets", stats.rx_packets},
          {"rx_bytes", stats.rx_bytes},
          {"rx_missed", stats.rx_missed},
          {"rx_errors", stats.rx_errors},
          {"rx_no_buffer", stats.rx_no_buffer},
          {"tx_packets", stats.tx_packets},
          {"tx_bytes", stats.tx_bytes},
          {"tx_errors", stats.tx_errors}};
}

// Worker 0 speaks for the host, so it knows first.
void link(Daemon& daemon, const ControlReply& reply) {
  auto known = std::make_shared<Addresses>();
  daemon.calls().post(
      0,
      [known = known.get()](Worker& worker) noexcept {
        known->count = worker.stack().list_addresses(known->info);
        const GroupTable& groups = worker.stack().groups();
        known->group_count = std::min(groups.size(), known->groups.size());
        for (size_t i = 0; i < known->group_count; ++i) known->groups[i] = groups.view(i);
        return 0;
      },
      [&daemon, reply, known](int) {
        json::array out;
        const auto interfaces = interfaces_of(daemon.config().ports);
        for (size_t i = 0; i < daemon.ports().size(); ++i) {
          json::object port = port_json(daemon.config().ports[i], *daemon.ports()[i]);
          add_addresses(port, interfaces[i], *known, i);
          port["vlans"] = vlans_json(interfaces, *known, i);
          out.push_back(std::move(port));
        }
        reply.ok(std::move(out));
      });
}

// ---- the kernel beside it ----

json::object exception_json(const InterfaceEntry& port, const ExceptionPath::Figures& figures) {
  json::array allow;
  for (const ExceptionEntry& entry : port.exception->allow) {
    const bool again = !allow.empty() && allow.back() == json::value(entry.text);
    if (!again) allow.emplace_back(entry.text);  // a name may stand for several protocols
  }
  return {{"port", port.name},
          {"tap", port.exception->tap},
          {"allow", std::move(allow)},
          {"rate", port.exception->rate},
          {"to_kernel", figures.to_kernel},
          {"from_kernel", figures.from_kernel},
          {"refused", figures.refused},
          {"lost", figures.lost}};
}

json::value exceptions(const Daemon& daemon) {
  json::array out;
  const ExceptionPath* const path = daemon.kernel_side().path();
  const std::vector<InterfaceEntry> interfaces = interfaces_of(daemon.config().ports);
  for (uint32_t i = 0; path != nullptr && i < interfaces.size(); ++i) {
    const InterfaceEntry& port = interfaces[i];
    if (port.exception) out.push_back(exception_json(port, path->figures(i)));
  }
  return out;
}

// ---- routes ----

json::object route_json(const Routes::Row& row) {
  const RouteEntry& r = row.route;
  return {{"to", r.to.to_string()},
          {"type", route_kind_name(r.kind)},
          {"via", r.via ? r.via->to_string() : ""},
          {"port", r.port},
          {"metric", r.metric},
          {"origin", row.origin}};
}

json::array route_rows(const std::vector<Routes::Row>& routes) {
  json::array rows;
  for (const Routes::Row& row : routes) rows.push_back(route_json(row));
  return rows;
}

RouteEntry route_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parse_route(words);
}

// What routers have said to worker 0; the others hear the same.
json::object learned_json(const Daemon& daemon, const LearnedRoute& r) {
  const bool for_ever = r.left == Duration::max();
  return {{"to", r.destination.to_string()},
          {"type", route_kind_name(RouteKind::unicast)},
          {"via", r.gateway.is_any() ? "" : r.gateway.to_string()},
          {"port", interfaces_of(daemon.config().ports).at(r.interface).name},
          {"metric", 0},
          {"origin", r.silent ? "router, silent" : "router"},
          {"seconds_left",
           for_ever ? json::value(nullptr) : json::value(r.left / std::chrono::seconds(1))}};
}

void reply_learned(Daemon& daemon, json::array rows, const ControlReply& reply) {
  struct Learned {
    json::array rows;
    size_t count = 0;
    std::array<LearnedRoute, 64> routes;
  };
  auto learned = std::make_shared<Learned>();
  learned->rows = std::move(rows);
  daemon.calls().post(
      0,
      [learned = learned.get()](Worker& worker) noexcept {
        learned->count = worker.stack().list_learned_routes(learned->routes, worker.now());
        return 0;
      },
      [&daemon, learned, reply](int) {
        for (size_t i = 0; i < learned->count; ++i) {
          learned->rows.push_back(learned_json(daemon, learned->routes[i]));
        }
        reply.ok(json::object{{"rows", std::move(learned->rows)}, {"next", nullptr}});
      });
}

void show_routes(Daemon& daemon, const json::object& request, const ControlReply& reply) {
  const auto* cursor = request.if_contains("cursor");
  const size_t from = cursor == nullptr ? 0 : cursor->to_number<size_t>();
  json::array rows = route_rows(daemon.routes().list(from, kPage));
  const size_t next = from + rows.size();
  if (next >= daemon.routes().size()) return reply_learned(daemon, std::move(rows), reply);
  reply.ok(json::object{{"rows", std::move(rows)},
                        {"next", json::object{{"worker", 0}, {"cursor", next}}}});
}

void get_route(Daemon& daemon, const IpAddress& address, const ControlReply& reply) {
  auto learned = std::make_shared<LearnedRoute>();
  daemon.calls().post(
      0,
      [learned = learned.get(), address](Worker& worker) noexcept {
        return worker.stack().learned_route(address, learned);
      },
      [&daemon, address, learned, reply](bool found) {
        if (found) return reply.ok(json::array{learned_json(daemon, *learned)});
        reply.ok(route_rows(daemon.routes().get(address)));
      });
}

// All routes of a request up to the first that is not possible. With "more", others follow and the
// workers may wait for these.
void change_routes(Daemon& daemon, const json::object& request, bool add,
                   const ControlReply& reply) {
  Routes& routes = daemon.routes();
  try {
    for (const json::value& text : request.at("routes").as_array()) {
      const RouteEntry route = route_of(std::string_view(text.as_string()));
      add ? routes.add(route) : routes.remove(route);
    }
  } catch (...) {
    routes.apply_soon();
    throw;
  }
  if (flag(request, "more")) {
    routes.apply_soon();
    return reply.ok(json::object{{"routes", routes.size()}});
  }
  routes.apply([reply, &routes] { reply.ok(json::object{{"routes", routes.size()}}); });
}

void route(Daemon& daemon, const json::object& request, const ControlReply& reply) {
  const std::string_view what = request.at("do").as_string();
  if (what == "show") return show_routes(daemon, request, reply);
  if (what == "add" || what == "del") return change_routes(daemon, request, what == "add", reply);
  const std::string_view text = request.at("address").as_string();
  const auto address = IpAddress::parse(text);
  if (!address) throw std::runtime_error('"' + std::string(text) + "\" is not an address");
  get_route(daemon, *address, reply);
}

// ---- counters ----

std::vector<Counters> counters(const Daemon& daemon) {
  std::vector<Counters> out;
  for (const auto& worker : daemon.workers()) {
    const PublishedCounters& published = worker->counters();
    Counters& copy = out.emplace_back();
    for (size_t i = 0; i < kCounterCount; ++i) {
      copy.values[i] = published.values[i].load(std::memory_order_relaxed);
    }
    for (size_t i = 0; i < kDropCount; ++i) {
      copy.drops[i] = published.drops[i].load(std::memory_order_relaxed);
    }
  }
  return out;
}

std::string_view state_name(Application::State state) {
  switch (state) {
    case Application::State::attaching:
      return "attaching";
    case Application::State::attached:
      return "attached";
    case Application::State::leaving:
      return "leaving";
  }
  return "?";
}

using Usages = std::vector<Stack::AppUsage>;  // by position in the list of ids

json::object application_json(const Application& app, const std::vector<Usages>& workers,
                              size_t position, size_t ports) {
  Stack::AppUsage sum;
  for (const Usages& usage : workers) {
    sum.rx_units_used += usage[position].rx_units_used;
    sum.sockets += usage[position].sockets;
    sum.orphans += usage[position].orphans;
  }
  return {{"id", app.id},
          {"name", app.name},
          {"pid", app.peer.pid},
          {"uid", app.peer.uid},
          {"rule", app.rule->who},
          {"state", state_name(app.state)},
          {"sockets", sum.sockets},
          {"orphans", sum.orphans},
          {"bindings", ports},
          {"receive_bytes_used", uint64_t{sum.rx_units_used} * SHM_CHUNK_UNIT},
          {"receive_bytes", app.segment->options().rx_pool_bytes * workers.size()}};
}

void stats(Daemon& daemon, const ControlReply& reply) {
  auto ids = std::make_shared<std::vector<AppId>>();
  for (const auto& [id, app] : daemon.applications().all()) ids->push_back(id);
  auto used = std::make_shared<std::vector<Usages>>(daemon.workers().size(), Usages(ids->size()));
  daemon.calls().post_all(
      [ids = ids.get(), used = used.get()](Worker& worker) noexcept {
        Usages& mine = (*used)[worker.options().index];
        for (size_t i = 0; i < ids->size(); ++i) mine[i] = worker.stack().usage((*ids)[i]);
        return 0;
      },
      [&daemon, reply, ids, used](const std::vector<int>&) {
        const Applications& all = daemon.applications();
        json::array applications;
        for (size_t i = 0; i < ids->size(); ++i) {
          const Application* app = all.find((*ids)[i]);
          if (app == nullptr) continue;  // forgotten in the meantime
          applications.push_back(application_json(*app, *used, i, all.ports().count(app->id)));
        }
        json::object out = stats_json(counters(daemon)).as_object();
        out["uptime_seconds"] = daemon.uptime().count();
        out["applications"] = std::move(applications);
        reply.ok(std::move(out));
      });
}

json::value stages(const Daemon& daemon) {
  json::array workers;
  for (const auto& worker : daemon.workers()) workers.push_back(stages_json(worker->counters()));
  return workers;
}

json::value version(const Daemon& daemon) {
  return json::object{
      {"posternd", POSTERN_VERSION},
      {"dpdk", Eal::version()},
      {"abi", std::to_string(SHM_VERSION_MAJOR) + '.' + std::to_string(SHM_VERSION_MINOR)},
      {"pid", getpid()},
      {"uptime_seconds", daemon.uptime().count()},
      {"config", daemon.config().file}};
}

}  // namespace

void register_verbs(ControlServer& server, Daemon& daemon) {
  using Request = json::object;
  server.handle("ss", [&daemon](const Request& request, const ControlReply& reply) {
    ss(daemon, request, reply);
  });
  server.handle("neigh", [&daemon](const Request& request, const ControlReply& reply) {
    neigh(daemon, request, reply);
  });
  server.handle("route", [&daemon](const Request& request, const ControlReply& reply) {
    route(daemon, request, reply);
  });
  server.handle("link",
                [&daemon](const Request&, const ControlReply& reply) { link(daemon, reply); });
  server.handle("exception", [&daemon](const Request&, const ControlReply& reply) {
    reply.ok(exceptions(daemon));
  });
  server.handle("drops", [&daemon](const Request& request, const ControlReply& reply) {
    reply.ok(drops_json(counters(daemon), flag(request, "all")));
  });
  server.handle("stats",
                [&daemon](const Request&, const ControlReply& reply) { stats(daemon, reply); });
  server.handle("stages",
                [&daemon](const Request&, const ControlReply& reply) { reply.ok(stages(daemon)); });
  server.handle("metrics", [&daemon](const Request&, const ControlReply& reply) {
    reply.ok(prometheus_text(counters(daemon)).c_str());
  });
  server.handle("version", [&daemon](const Request&, const ControlReply& reply) {
    reply.ok(version(daemon));
  });
}

}  // namespace postern
