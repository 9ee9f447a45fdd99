#include "cli/route.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fstream>
#include <iostream>

#include "cli/table.h"
#include "control/control_client.h"

namespace postern {
namespace {

namespace json = boost::json;

constexpr size_t kBatch = 500;  // routes of one request

std::string text(const json::value& row, std::string_view key) {
  const json::value& value = row.at(key);
  return value.is_string() ? std::string(value.as_string()) : json::serialize(value);
}

void print_routes(const json::array& rows, std::ostream& out) {
  Table table(
      {{"Destination"}, {"Via"}, {"Port"}, {"Metric", Table::Align::right}, {"Type"}, {"Origin"}});
  for (const json::value& row : rows) {
    table.add({text(row, "to"), text(row, "via"), text(row, "port"), text(row, "metric"),
               text(row, "type"), text(row, "origin")});
  }
  table.print(out);
}

int show(const Arguments& arguments, const json::array& rows, std::ostream& out) {
  if (arguments.json) {
    out << json::serialize(rows) << '\n';
  } else {
    print_routes(rows, out);
  }
  return 0;
}

int show_all(const Arguments& arguments, std::ostream& out) {
  ControlClient client(arguments.socket);
  json::object request{{"verb", "route"}, {"do", "show"}};
  json::array rows;
  for (;;) {
    json::value page = client.call(request);
    for (json::value& row : page.at("rows").as_array()) rows.push_back(std::move(row));
    const json::value& next = page.at("next");
    if (next.is_null()) return show(arguments, rows, out);
    request["cursor"] = next.at("cursor");
  }
}

int get(const Arguments& arguments, std::ostream& out) {
  ControlClient client(arguments.socket);
  const json::value rows =
      client.call({{"verb", "route"}, {"do", "get"}, {"address", arguments.operands.at(1)}});
  if (rows.as_array().empty() && !arguments.json) {
    std::cerr << "postern: there is no route to " << arguments.operands[1] << '\n';
    return 1;
  }
  return show(arguments, rows.as_array(), out);
}

// One route, in the words of the command line.
int change(const Arguments& arguments) {
  std::string words;
  for (size_t i = 1; i < arguments.operands.size(); ++i) words += arguments.operands[i] + ' ';
  ControlClient client(arguments.socket);
  client.call({{"verb", "route"}, {"do", arguments.operands[0]}, {"routes", {words}}});
  return 0;
}

// One route a line, as behind `route add`; empty lines and those that begin with # are skipped.
int load(const Arguments& arguments, std::ostream& out) {
  const std::string& name = arguments.operands.at(1);
  std::ifstream file(name);
  if (!file) {
    std::cerr << "postern: cannot read " << name << '\n';
    return 1;
  }
  ControlClient client(arguments.socket);
  json::array batch;
  size_t count = 0;
  const auto send = [&](bool more) {
    client.call({{"verb", "route"}, {"do", "add"}, {"routes", std::move(batch)}, {"more", more}});
    batch = json::array();
  };
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    batch.emplace_back(line);
    ++count;
    if (batch.size() == kBatch) send(true);
  }
  send(false);
  if (arguments.json) {
    out << json::serialize(json::object{{"loaded", count}}) << '\n';
  } else {
    out << count << " routes\n";
  }
  return 0;
}

}  // namespace

int run_route(const Arguments& arguments, std::ostream& out) {
  const size_t operands = arguments.operands.size();
  const std::string what = operands == 0 ? "show" : arguments.operands[0];
  if (what == "show" && operands <= 1) return show_all(arguments, out);
  if (what == "get" && operands == 2) return get(arguments, out);
  if (what == "load" && operands == 2) return load(arguments, out);
  if ((what == "add" || what == "del") && operands >= 2) return change(arguments);
  std::cerr << "postern: route show | get ADDRESS | add ROUTE | del ROUTE | load FILE; see postern "
               "help route\n";
  return 2;
}

}  // namespace postern
