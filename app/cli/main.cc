// postern: the operator's command.
#include <exception>
#include <iostream>
#include <optional>
#include <string_view>
#include <vector>

#include "cli/verbs.h"
#include "control/control_client.h"
#include "control/units.h"

namespace {

using postern::Arguments;
using postern::Verb;

constexpr int kFailed = 1;
constexpr int kBadUse = 2;

int bad_use(const std::string& what) {
  std::cerr << "postern: " << what << "; see postern help\n";
  return kBadUse;
}

// Exit status of bad use, or nullopt and *out filled in.
std::optional<int> parse(int argc, char** argv, Arguments* out) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "-j" || arg == "--json") {
      out->json = true;
    } else if (arg == "-a" || arg == "--all") {
      out->all = true;
    } else if (arg == "--stages") {
      out->stages = true;
    } else if ((arg == "-c" || arg == "--config") && i + 1 < argc) {
      out->config = argv[++i];
    } else if (arg.starts_with("--config=")) {
      out->config = arg.substr(std::string_view("--config=").size());
    } else if (arg == "-h" || arg == "--help") {
      if (!out->verb.empty()) out->operands.assign(1, out->verb);
      out->verb = "help";
    } else if (arg == "--version") {
      out->verb = "version";
    } else if (arg == "--socket" && i + 1 < argc) {
      out->socket = argv[++i];
    } else if (arg.starts_with("--socket=")) {
      out->socket = arg.substr(std::string_view("--socket=").size());
    } else if (arg.starts_with("-") && arg.size() > 1) {
      return bad_use("unknown option \"" + std::string(arg) + '"');
    } else if (out->verb.empty()) {
      out->verb = arg;
      if (const Verb* verb = postern::find_verb(arg); verb != nullptr && verb->takes_program) {
        out->operands.assign(argv + i + 1, argv + argc);  // also what looks like an option
        return std::nullopt;
      }
    } else {
      out->operands.emplace_back(arg);
    }
  }
  if (out->verb.empty()) return bad_use("say what to do, for example: postern ss");
  return std::nullopt;
}

std::optional<int> check(const Arguments& arguments, const Verb* verb) {
  if (verb == nullptr) {
    std::vector<std::string_view> names;
    for (const Verb& one : postern::verbs()) names.push_back(one.name);
    const std::string_view near = postern::nearest(arguments.verb, names);
    const std::string hint = near.empty() ? "" : "; did you mean \"" + std::string(near) + "\"?";
    return bad_use("there is no verb \"" + arguments.verb + '"' + hint);
  }
  if (arguments.operands.size() > verb->most_operands) {
    return bad_use("unexpected argument \"" + arguments.operands.back() + '"');
  }
  if (arguments.all && !verb->takes_all) {
    return bad_use("-a means nothing to " + arguments.verb);
  }
  if (arguments.stages && arguments.verb != "stats") {
    return bad_use("--stages means nothing to " + arguments.verb);
  }
  if (!arguments.config.empty() && !verb->takes_config) {
    return bad_use("-c means nothing to " + arguments.verb);
  }
  return std::nullopt;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (const auto status = parse(argc, argv, &arguments)) return *status;
  const Verb* verb = postern::find_verb(arguments.verb);
  if (const auto status = check(arguments, verb)) return *status;
  try {
    const int status = verb->run(arguments, std::cout);
    std::cout.flush();
    return std::cout.good() ? status : kFailed;
  } catch (const std::exception& error) {
    std::cerr << "postern: " << error.what() << '\n';
    return kFailed;
  }
}
