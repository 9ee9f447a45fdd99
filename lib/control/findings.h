// What a check of the machine found: for `postern doctor` and for posternd's log at start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace postern {

enum class Severity : uint8_t {
  good,
  advice,   // works, but slower or less safely than it could
  problem,  // posternd will not start, or not carry traffic
};

struct Finding {
  Severity severity = Severity::good;
  std::string topic;    // "hugepages", "numa": stable, for scripts
  std::string what;     // the fact
  std::string remedy;   // what to change; empty if good
  std::string command;  // that does it, as root; empty if there is none
};

using Findings = std::vector<Finding>;

}  // namespace postern
