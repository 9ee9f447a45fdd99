#include "cli/doctor.h"

#include <unistd.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <iostream>

#include "control/config.h"
#include "control/doctor.h"

namespace postern {
namespace {

namespace json = boost::json;

constexpr const char* kUsualConfig = "/etc/postern/postern.yaml";

const char* word(Severity severity) {
  switch (severity) {
    case Severity::good:
      return "ok";
    case Severity::advice:
      return "advice";
    case Severity::problem:
      return "problem";
  }
  return "";
}

json::object as_json(const Finding& finding) {
  json::object o{
      {"severity", word(finding.severity)}, {"topic", finding.topic}, {"what", finding.what}};
  if (!finding.remedy.empty()) o["remedy"] = finding.remedy;
  if (!finding.command.empty()) o["command"] = finding.command;
  return o;
}

void show(const Findings& findings, std::ostream& out) {
  const auto indent = std::string(10, ' ');
  for (const Finding& finding : findings) {
    std::string head = word(finding.severity);
    head.resize(indent.size(), ' ');
    out << head << finding.topic << ": " << finding.what << '\n';
    if (!finding.remedy.empty()) out << indent << finding.remedy << '\n';
    if (!finding.command.empty()) out << indent << "  " << finding.command << '\n';
  }
}

}  // namespace

int run_doctor(const Arguments& arguments, std::ostream& out) {
  std::string file = arguments.config;
  if (file.empty() && std::filesystem::exists(kUsualConfig)) file = kUsualConfig;
  std::optional<Config> config;
  if (!file.empty()) {
    try {
      config = load_config(file);
    } catch (const ConfigError& error) {
      std::cerr << error.what() << '\n';
      return 2;
    }
  }
  const Findings findings = examine(config ? &*config : nullptr, surroundings());
  const auto count = [&findings](Severity severity) {
    return std::count_if(findings.begin(), findings.end(),
                         [severity](const Finding& f) { return f.severity == severity; });
  };
  const auto problems = count(Severity::problem);
  if (arguments.json) {
    json::array rows;
    for (const Finding& finding : findings) rows.push_back(as_json(finding));
    out << json::serialize(
               json::object{{"config", file.empty() ? json::value() : json::value(file)},
                            {"findings", std::move(rows)}})
        << '\n';
  } else {
    show(findings, out);
    out << problems << " problem(s), " << count(Severity::advice) << " piece(s) of advice"
        << (file.empty() ? "; -c FILE looks at what a configuration needs" : "") << '\n';
  }
  return problems == 0 ? 0 : 1;
}

}  // namespace postern
