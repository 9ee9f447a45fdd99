#include "cli/show.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <string>
#include <vector>

#include "cli/table.h"
#include "control/units.h"

namespace postern {
namespace {

namespace json = boost::json;
using Align = Table::Align;

// A field of a row as text; "" if it is not there.
std::string text(const json::value& row, std::string_view key) {
  const json::value* value = row.as_object().if_contains(key);
  if (value == nullptr || value->is_null()) return "";
  if (value->is_string()) return std::string(value->as_string());
  return json::serialize(*value);
}

bool flag(const json::value& row, std::string_view key) {
  const json::value* value = row.as_object().if_contains(key);
  return value != nullptr && value->is_bool() && value->as_bool();
}

uint64_t number(const json::value& row, std::string_view key) {
  const json::value* value = row.as_object().if_contains(key);
  return value != nullptr && value->is_number() ? value->to_number<uint64_t>() : 0;
}

// "0.0.0.0:0" as ss shows it: "0.0.0.0:*".
std::string endpoint(const json::value& row, std::string_view key) {
  std::string out = text(row, key);
  if (out.ends_with(":0")) out.back() = '*';
  return out;
}

std::string process(const json::value& row) {
  if (flag(row, "orphan")) return "(orphan)";
  const json::value* app = row.as_object().if_contains("application");
  if (app == nullptr) return "-";
  return text(*app, "name") + " pid=" + text(*app, "pid") + " uid=" + text(*app, "uid");
}

std::string uptime(uint64_t seconds) {
  const auto two = [](uint64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  std::string out = seconds >= 86400 ? std::to_string(seconds / 86400) + "d " : "";
  return out + two(seconds / 3600 % 24) + ':' + two(seconds / 60 % 60) + ':' + two(seconds % 60);
}

// With their states where they are not simply ours.
std::string addresses_of(const json::value& interface) {
  std::string addresses;
  for (const json::value& address : interface.at("addresses").as_array()) {
    const std::string_view one = address.as_string();
    addresses += ' ' + std::string(one);
    const std::string state = text(interface.at("address_states"), one);
    if (state != "preferred") addresses += " (" + state + ')';
  }
  return addresses;
}

// A line of the groups that sockets are in, with what they filter; nothing without groups.
void show_groups(const json::value& interface, std::ostream& out) {
  const json::array& groups = interface.at("groups").as_array();
  if (groups.empty()) return;
  out << "    groups";
  for (const json::value& group : groups) {
    out << ' ' << text(group, "group");
    if (number(group, "sources") == 0) continue;
    out << " (" << text(group, "mode") << ' ' << text(group, "sources") << " source(s))";
  }
  out << '\n';
}

void show_port(const json::value& port, std::ostream& out) {
  const std::string mbps = number(port, "mbps") == 0 ? "" : ", " + text(port, "mbps") + " Mbit/s";
  out << text(port, "name") << ": " << (flag(port, "up") ? "up" : "down") << mbps << ", mtu "
      << text(port, "mtu") << ", " << text(port, "queues") << " queue(s)\n"
      << "    device " << text(port, "device") << " (" << text(port, "driver") << ")\n"
      << "    mac " << text(port, "mac") << "  addresses" << addresses_of(port) << '\n'
      << "    uses " << text(port, "capabilities") << '\n'
      << "    rx " << text(port, "rx_packets") << " packets, " << text(port, "rx_bytes")
      << " bytes, " << text(port, "rx_missed") << " missed, " << text(port, "rx_errors")
      << " errors, " << text(port, "rx_no_buffer") << " without buffer\n"
      << "    tx " << text(port, "tx_packets") << " packets, " << text(port, "tx_bytes")
      << " bytes, " << text(port, "tx_errors") << " errors\n";
  show_groups(port, out);
  for (const json::value& vlan : port.at("vlans").as_array()) {
    out << "    vlan " << text(vlan, "id") << ' ' << text(vlan, "name") << ", mtu "
        << text(vlan, "mtu") << ", addresses" << addresses_of(vlan) << '\n';
    show_groups(vlan, out);
  }
}

void show_counters(const json::value& stats, std::ostream& out) {
  const json::array& workers = stats.at("workers").as_array();
  std::vector<Table::Column> columns{{"Counter"}, {"Total", Align::right}};
  if (workers.size() > 1) {
    for (size_t w = 0; w < workers.size(); ++w) {
      columns.push_back({"Worker " + std::to_string(w), Align::right});
    }
  }
  Table table(std::move(columns));
  for (const auto& entry : stats.at("total").as_object()) {
    std::vector<std::string> row{std::string(entry.key()), json::serialize(entry.value())};
    if (workers.size() > 1) {
      for (const json::value& worker : workers) row.push_back(text(worker, entry.key()));
    }
    table.add(std::move(row));
  }
  table.print(out);
}

void show_applications(const json::array& applications, std::ostream& out) {
  Table table({{"App", Align::right},
               {"Name"},
               {"Pid", Align::right},
               {"Uid", Align::right},
               {"State"},
               {"Sockets", Align::right},
               {"Orphans", Align::right},
               {"Bindings", Align::right},
               {"Receive memory", Align::right},
               {"Access by"}});
  for (const json::value& app : applications) {
    table.add({text(app, "id"), text(app, "name"), text(app, "pid"), text(app, "uid"),
               text(app, "state"), text(app, "sockets"), text(app, "orphans"),
               text(app, "bindings"),
               format_size(number(app, "receive_bytes_used")) + " of " +
                   format_size(number(app, "receive_bytes")),
               text(app, "rule")});
  }
  table.print(out);
}

}  // namespace

void show_ss(const json::value& sockets, std::ostream& out) {
  Table table({{"Netid"},
               {"State"},
               {"Recv-Q", Align::right},
               {"Send-Q", Align::right},
               {"Local Address:Port"},
               {"Peer Address:Port"},
               {"Worker", Align::right},
               {"Process"}});
  for (const json::value& socket : sockets.as_array()) {
    const bool listening = text(socket, "state") == "LISTEN";
    table.add({text(socket, "protocol"), text(socket, "state"), text(socket, "receive_queue"),
               text(socket, listening ? "backlog" : "send_queue"), endpoint(socket, "local"),
               endpoint(socket, "remote"), text(socket, "worker"), process(socket)});
  }
  table.print(out);
}

void show_link(const json::value& ports, std::ostream& out) {
  for (const json::value& port : ports.as_array()) show_port(port, out);
}

void show_neigh(const json::value& neighbors, std::ostream& out) {
  Table table(
      {{"Address"}, {"Port"}, {"MAC"}, {"State"}, {"Age", Align::right}, {"Worker", Align::right}});
  for (const json::value& row : neighbors.as_array()) {
    const std::string mac = text(row, "mac");
    const uint64_t tenths = number(row, "age_ms") / 100;
    table.add({text(row, "address"), text(row, "port"), mac.empty() ? "-" : mac, text(row, "state"),
               std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + 's',
               text(row, "worker")});
  }
  table.print(out);
}

void show_exception(const json::value& ports, std::ostream& out) {
  if (ports.as_array().empty()) {
    out << "no port has an exception path (exception: in postern.yaml)\n";
    return;
  }
  Table table({{"Port"},
               {"Tap"},
               {"Rate", Align::right},
               {"To kernel", Align::right},
               {"From kernel", Align::right},
               {"Refused", Align::right},
               {"Lost", Align::right},
               {"Allows"}});
  for (const json::value& row : ports.as_array()) {
    std::string allows;
    for (const json::value& word : row.at("allow").as_array()) {
      allows += (allows.empty() ? "" : " ") + std::string(word.as_string());
    }
    table.add({text(row, "port"), text(row, "tap"), text(row, "rate"), text(row, "to_kernel"),
               text(row, "from_kernel"), text(row, "refused"), text(row, "lost"), allows});
  }
  table.print(out);
}

void show_drops(const json::value& drops, std::ostream& out) {
  if (drops.as_array().empty()) {
    out << "nothing was dropped (postern drops -a lists every reason)\n";
    return;
  }
  Table table({{"Packets", Align::right}, {"Reason"}, {"Meaning"}});
  for (const json::value& row : drops.as_array()) {
    table.add({text(row, "packets"), text(row, "reason"), text(row, "help")});
  }
  table.print(out);
}

void show_stats(const json::value& stats, std::ostream& out) {
  out << "up " << uptime(number(stats, "uptime_seconds")) << ", "
      << stats.at("workers").as_array().size() << " worker(s), "
      << stats.at("applications").as_array().size() << " application(s)\n\n";
  show_counters(stats, out);
  const json::array& applications = stats.at("applications").as_array();
  if (applications.empty()) return;
  out << '\n';
  show_applications(applications, out);
}

void show_version(const json::value& version, std::ostream& out) {
  out << "posternd " << text(version, "posternd") << ", " << text(version, "dpdk")
      << ", shared-memory version " << text(version, "abi") << ", pid " << text(version, "pid")
      << ", up " << uptime(number(version, "uptime_seconds")) << ", configured by "
      << text(version, "config") << '\n';
}

}  // namespace postern
