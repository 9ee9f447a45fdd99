#include "control/metrics.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

namespace postern {
namespace {

namespace json = boost::json;

json::object counters_json(const Counters& counters) {
  json::object out;
  for (size_t i = 0; i < kCounterCount; ++i) out[kCounterInfo[i].name] = counters.values[i];
  return out;
}

void head(std::string& out, std::string_view metric, std::string_view help) {
  out.append("# HELP ").append(metric).append(" ").append(help).append("\n");
  out.append("# TYPE ").append(metric).append(" counter\n");
}

}  // namespace

Counters total(std::span<const Counters> workers) {
  Counters sum;
  for (const Counters& one : workers) {
    for (size_t i = 0; i < kCounterCount; ++i) sum.values[i] += one.values[i];
    for (size_t i = 0; i < kDropCount; ++i) sum.drops[i] += one.drops[i];
  }
  return sum;
}

json::value stats_json(std::span<const Counters> workers) {
  json::array each;
  for (const Counters& one : workers) each.push_back(counters_json(one));
  return json::object{{"total", counters_json(total(workers))}, {"workers", std::move(each)}};
}

json::value drops_json(std::span<const Counters> workers, bool all) {
  const Counters sum = total(workers);
  json::array out;
  for (size_t i = 1; i < kDropCount; ++i) {  // 0 is "not dropped"
    if (sum.drops[i] == 0 && !all) continue;
    out.push_back(json::object{
        {"reason", kDropInfo[i].name}, {"packets", sum.drops[i]}, {"help", kDropInfo[i].help}});
  }
  return out;
}

std::string prometheus_text(std::span<const Counters> workers) {
  std::string out;
  const auto line = [&](const std::string& metric, size_t worker, std::string_view reason,
                        uint64_t value) {
    out.append(metric).append("{worker=\"").append(std::to_string(worker)).append("\"");
    if (!reason.empty()) out.append(",reason=\"").append(reason).append("\"");
    out.append("} ").append(std::to_string(value)).append("\n");
  };
  for (size_t i = 0; i < kCounterCount; ++i) {
    const std::string metric = "postern_" + std::string(kCounterInfo[i].name) + "_total";
    head(out, metric, kCounterInfo[i].help);
    for (size_t w = 0; w < workers.size(); ++w) line(metric, w, {}, workers[w].values[i]);
  }
  const std::string drops = "postern_drops_total";
  head(out, drops, "packets dropped, by reason");
  for (size_t i = 1; i < kDropCount; ++i) {
    for (size_t w = 0; w < workers.size(); ++w) {
      line(drops, w, kDropInfo[i].name, workers[w].drops[i]);
    }
  }
  return out;
}

}  // namespace postern
