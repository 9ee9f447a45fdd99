// play_live: packet scripts against a running posternd. See README.md of tests/script.
//
//   play_live --interface IF --local POSTERN --remote HOST --port N [--has KEY=VALUE]...
//     [--longest SECONDS] SCRIPT...
//
// IF is this end of a link to the daemon, whose address is POSTERN; from HOST on there are
// addresses of that network that nobody has, one for each script, because the daemon remembers what
// it learned of the way to a host; N and N + 1 are the ports of the first script, and so on.
// POSTERN_SOCKET says where the daemon is, and --has how it is configured: scripts with other
// settings are skipped, and those that take longer than --longest (20). A line a script:
// "PASS path", "FAIL path" with what was wrong, "SKIP path why".
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <vector>

#include "client/postern.h"
#include "live_player.h"

namespace postern::script {
namespace {

struct Arguments {
  Wire::Ends ends;
  uint16_t port = 0;
  std::set<std::string> has;
  Duration longest = 20s;
  std::vector<std::string> scripts;
};

bool read_arguments(int argc, char** argv, Arguments* out) {
  int i = 1;
  for (; i + 1 < argc && std::strncmp(argv[i], "--", 2) == 0; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    const auto address = IpAddress::parse(value);
    if (name == "--interface") {
      out->ends.interface = value;
    } else if (name == "--local" && address) {
      out->ends.local = *address;
    } else if (name == "--remote" && address) {
      out->ends.remote = *address;
    } else if (name == "--has") {
      out->has.insert(value);
    } else if (name == "--longest") {
      out->longest = std::chrono::seconds(std::strtoul(value, nullptr, 10));
    } else if (name == "--port") {
      out->port = static_cast<uint16_t>(std::strtoul(value, nullptr, 10));
    } else {
      return false;
    }
  }
  for (; i < argc; ++i) out->scripts.emplace_back(argv[i]);
  return !out->scripts.empty() && out->port != 0 && !out->ends.interface.empty() &&
         !out->ends.local.is_any() && !out->ends.remote.is_any();
}

IpAddress next(IpAddress address) {
  if (++address.data()[15] == 0) ++address.data()[14];
  return address;
}

// Empty: passed. `skip`: why not.
std::string play(const Arguments& arguments, const std::string& path, uint16_t port,
                 std::string* skip) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  std::string error;
  const auto script = parse(path, text.str(), error);
  if (!script.has_value() || script->events.empty()) return error.empty() ? "no events" : error;
  *skip = LivePlayer::unfit(*script, arguments.has, arguments.longest);
  if (!skip->empty()) return "";
  Wire wire(arguments.ends);
  return LivePlayer(*script, wire, {.port = port}).run();
}

int run(int argc, char** argv) {
  Arguments arguments;
  if (!read_arguments(argc, argv, &arguments)) {
    std::fprintf(
        stderr,
        "usage: play_live --interface IF --local POSTERN --remote HOST --port N SCRIPT...\n");
    return 2;
  }
  if (postern_attach(nullptr) != 0) {
    std::fprintf(stderr, "attach: %s (%s)\n", std::strerror(errno), postern_last_error());
    return 2;
  }
  int failed = 0;
  uint16_t port = arguments.port;
  for (const std::string& path : arguments.scripts) {
    std::string skip;
    const std::string wrong = play(arguments, path, port, &skip);
    port = static_cast<uint16_t>(port + 2);
    arguments.ends.remote = next(arguments.ends.remote);
    failed += wrong.empty() ? 0 : 1;
    std::printf("%s %s %s\n",
                !wrong.empty() ? "FAIL"
                : skip.empty() ? "PASS"
                               : "SKIP",
                path.c_str(), wrong.empty() ? skip.c_str() : wrong.c_str());
    std::fflush(stdout);
  }
  (void)postern_detach();
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace postern::script

int main(int argc, char** argv) {
  try {
    return postern::script::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "play_live: %s\n", error.what());
    return 2;
  }
}
