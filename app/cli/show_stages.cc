#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdio>
#include <string>

#include "cli/show.h"
#include "cli/table.h"

namespace postern {
namespace {

namespace json = boost::json;
using Align = Table::Align;

// "-" where the figure does not exist yet.
std::string figure(const json::value& row, std::string_view key, double unit, const char* format) {
  const json::value& value = row.at(key);
  if (value.is_null()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, format, value.to_number<double>() * unit);
  return text;
}

std::string percent(const json::value& row, std::string_view key) {
  return figure(row, key, 100, "%.1f %%");
}

void show_worker(size_t index, const json::value& worker, std::ostream& out) {
  out << "worker " << index << ": busy " << percent(worker, "busy") << ", asleep "
      << percent(worker, "asleep") << "; " << figure(worker, "cycles_per_packet", 1, "%.0f")
      << " cycles a packet, " << figure(worker, "packets_per_turn", 1, "%.1f")
      << " packets a turn with work; " << figure(worker, "idle_turn_cycles", 1, "%.0f")
      << " cycles a turn without\n"
      << figure(worker, "long_turns", 1, "%.0f") << " turns of 100 us and more, together "
      << figure(worker, "long_turns_seconds", 1e3, "%.1f") << " ms, the longest "
      << figure(worker, "longest_turn_seconds", 1e3, "%.1f") << " ms: the core was taken away\n\n";
  Table stages({{"Step"}, {"Cycles/packet", Align::right}, {"Share", Align::right}});
  for (const json::value& row : worker.at("stages").as_array()) {
    stages.add({std::string(row.at("stage").as_string()),
                figure(row, "cycles_per_packet", 1, "%.1f"), percent(row, "share")});
  }
  stages.print(out);
  out << '\n';
  Table bursts({{"Burst, packets"}, {"Received", Align::right}});
  for (const auto& entry : worker.at("bursts").as_object()) {
    bursts.add({std::string(entry.key()), std::to_string(entry.value().to_number<uint64_t>())});
  }
  bursts.print(out);
}

}  // namespace

void show_stages(const json::value& workers, std::ostream& out) {
  size_t index = 0;
  for (const json::value& worker : workers.as_array()) {
    if (index != 0) out << '\n';
    show_worker(index++, worker, out);
  }
}

}  // namespace postern
