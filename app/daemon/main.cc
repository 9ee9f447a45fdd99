// posternd: the daemon. Options and exit statuses; everything else is in Daemon.
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>

#include "control/config.h"
#include "control/log.h"
#include "daemon/daemon.h"

namespace {

constexpr int kFailed = 1;  // the system said no
constexpr int kBadUse = 2;  // the command line or the configuration is to be corrected

constexpr std::string_view kUsage =
    "usage: posternd --config FILE [--check]\n"
    "       posternd --version | --help\n"
    "\n"
    "Serves TCP and UDP sockets of unprivileged applications from NIC queues.\n"
    "\n"
    "  -c, --config FILE  the configuration, see postern.yaml(5)\n"
    "      --check        check the configuration and exit\n"
    "      --version      print the version and exit\n"
    "      --help         print this and exit\n";

struct Options {
  std::string config;
  bool check = false;
  bool version = false;
  bool help = false;
};

// False with a message on standard error: bad use.
bool parse_options(int argc, char** argv, Options* out) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--check") {
      out->check = true;
    } else if (arg == "--version") {
      out->version = true;
    } else if (arg == "--help" || arg == "-h") {
      out->help = true;
    } else if ((arg == "--config" || arg == "-c") && i + 1 < argc) {
      out->config = argv[++i];
    } else if (arg.starts_with("--config=")) {
      out->config = arg.substr(std::string_view("--config=").size());
    } else {
      std::cerr << "posternd: unexpected argument \"" << arg << "\"; see posternd --help\n";
      return false;
    }
  }
  if (!out->config.empty() || out->version || out->help) return true;
  std::cerr << "posternd: no configuration given; say --config FILE, see posternd --help\n";
  return false;
}

// The program is compiled for x86-64-v3. Older processors would die of an illegal instruction.
bool processor_is_sufficient() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

int serve(postern::Config config) {
  try {
    postern::start_logging(config.log_level, config.log_file);
    postern::Daemon daemon(std::move(config));
    daemon.run();
    return 0;
  } catch (const postern::ConfigError& error) {
    std::cerr << error.what() << '\n';
    return kBadUse;
  } catch (const std::exception& error) {
    std::cerr << "posternd: " << error.what() << '\n';
    return kFailed;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (!processor_is_sufficient()) {
    std::fputs("posternd: this processor lacks AVX2, BMI2 or FMA, which posternd is built for\n",
               stderr);
    return kFailed;
  }
  Options options;
  if (!parse_options(argc, argv, &options)) return kBadUse;
  if (options.help) {
    std::cout << kUsage;
    return 0;
  }
  if (options.version) {
    std::cout << "posternd " << POSTERN_VERSION << '\n';
    return 0;
  }
  try {
    postern::Config config = postern::load_config(options.config);
    if (!options.check) return serve(std::move(config));
    std::cout << options.config << ": ok\n";
    return 0;
  } catch (const postern::ConfigError& error) {
    std::cerr << error.what() << '\n';
    return kBadUse;
  }
}
