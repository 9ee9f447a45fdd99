// The verbs of `postern`, in one table: the help texts, the dispatch and the checks of options come
// from it.
#pragma once

#include <boost/json/value.hpp>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace postern {

struct Arguments {
  std::string verb;
  std::vector<std::string> operands;
  bool json = false;    // -j
  bool all = false;     // -a
  bool stages = false;  // --stages
  std::string config;   // -c
  std::string socket = "/run/postern/control.sock";
};

struct Verb {
  std::string_view name;
  std::string_view usage;    // what follows "postern "
  std::string_view summary;  // one line
  std::string_view help;     // paragraphs for `postern help VERB`
  size_t most_operands = 0;
  bool takes_all = false;
  bool takes_program = false;  // what follows the verb is not parsed
  int (*run)(const Arguments& arguments, std::ostream& out) = nullptr;  // exit status
  bool takes_config = false;
};

std::span<const Verb> verbs();
const Verb* find_verb(std::string_view name);  // nullptr if there is none

}  // namespace postern
