// run_scripts FILE...: plays each packet script; exit status 1 if one fails, 2 if one is not a
// script.
#include <cstdio>
#include <fstream>
#include <sstream>

#include "player.h"

int main(int argc, char** argv) {
  int failed = 0;
  if (argc < 2) {
    std::fprintf(stderr, "usage: run_scripts FILE...\n");
    return 2;
  }
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i]);
    if (!file) {
      std::fprintf(stderr, "%s: cannot be read\n", argv[i]);
      return 2;
    }
    std::stringstream text;
    text << file.rdbuf();
    std::string error;
    const auto script = postern::script::parse(argv[i], text.str(), error);
    if (!script.has_value() || script->events.empty()) {
      std::fprintf(stderr, "%s\n", script.has_value() ? "no events in the script" : error.c_str());
      return 2;
    }
    postern::script::Player player(*script);
    const std::string failure = player.run();
    if (!failure.empty()) {
      std::fprintf(stderr, "%s\n", failure.c_str());
      ++failed;
    }
  }
  if (failed != 0) std::fprintf(stderr, "%d of %d scripts failed\n", failed, argc - 1);
  return failed == 0 ? 0 : 1;
}
