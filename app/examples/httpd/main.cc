// httpd: a static file server over posternd's sockets; an example of the C++ interface.
#include <getopt.h>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/signal_set.hpp>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>

#include "httpd/server.h"

namespace {

constexpr char kHelp[] =
    "Usage: httpd --root DIRECTORY [options]\n"
    "\n"
    "Serves files over HTTP/1.1 through posternd's sockets: GET and HEAD, single ranges, "
    "keep-alive,\n"
    "ETag and Last-Modified with their conditions. Nothing outside of DIRECTORY is ever served.\n"
    "\n"
    "  --root DIRECTORY     what to serve\n"
    "  --port PORT          (80)\n"
    "  --address ADDRESS    listen on this address only (0.0.0.0)\n"
    "  --idle-limit SECONDS close connections without progress for so long (30)\n"
    "  --log                print a line a request\n"
    "  --socket PATH        posternd's application socket (POSTERN_SOCKET, else\n"
    "                       /run/postern/postern.sock)\n";

struct Options {
  const char* root = nullptr;
  const char* socket_path = nullptr;
  boost::asio::ip::tcp::endpoint at{boost::asio::ip::address_v4::any(), 80};
  httpd::ServerOptions server;
};

[[noreturn]] void usage_error(const std::string& what) {
  std::fprintf(stderr, "httpd: %s; see httpd --help\n", what.c_str());
  std::exit(2);
}

unsigned number(const char* option, const char* text, unsigned low, unsigned high) {
  unsigned value = 0;
  const char* const stop = text + std::strlen(text);
  const auto [end, error] = std::from_chars(text, stop, value);
  if (error != std::errc{} || end != stop || value < low || value > high) {
    usage_error(std::string(option) + ": '" + text + "' is not a number from " +
                std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

void apply(Options& o, int id) {
  switch (id) {
    case 'r':
      o.root = optarg;
      break;
    case 'p':
      o.at.port(static_cast<uint16_t>(number("--port", optarg, 1, 65535)));
      break;
    case 'a': {
      boost::system::error_code ec;
      o.at.address(boost::asio::ip::make_address(optarg, ec));
      if (ec) usage_error(std::string("--address: '") + optarg + "' is no address");
      break;
    }
    case 'i':
      o.server.idle_limit = std::chrono::seconds(number("--idle-limit", optarg, 1, 86400));
      break;
    case 'l':
      o.server.log_requests = true;
      break;
    case 's':
      o.socket_path = optarg;
      break;
    case 'h':
      std::fputs(kHelp, stdout);
      std::exit(0);
    default:
      usage_error("unknown option, or one that lacks its value");
  }
}

Options parse(int argc, char** argv) {
  static const option known[] = {
      {"root", required_argument, nullptr, 'r'},    {"port", required_argument, nullptr, 'p'},
      {"address", required_argument, nullptr, 'a'}, {"idle-limit", required_argument, nullptr, 'i'},
      {"log", no_argument, nullptr, 'l'},           {"socket", required_argument, nullptr, 's'},
      {"help", no_argument, nullptr, 'h'},          {nullptr, 0, nullptr, 0}};
  Options o;
  opterr = 0;
  for (int id; (id = getopt_long(argc, argv, "h", known, nullptr)) != -1;) apply(o, id);
  if (optind < argc) usage_error(std::string("what is '") + argv[optind] + "'?");
  if (o.root == nullptr) usage_error("--root is needed");
  return o;
}

// What posternd said about the last failure, if anything.
std::string detail() {
  const char* said = postern_last_error();
  return *said != 0 ? std::string(": ") + said : "";
}

int run(const Options& o) {
  const httpd::Site site(o.root);
  if (postern_attach(o.socket_path) != 0) {
    const char* reason = std::strerror(errno);
    std::fprintf(stderr, "httpd: cannot attach to posternd: %s%s\n", reason, detail().c_str());
    return 1;
  }
  boost::asio::io_context io(1);
  httpd::Server server(io, o.at, site, o.server);
  boost::asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](const auto& error, int) {
    if (!error) server.stop();
  });
  bool gone = false;
  server.start([&] {
    gone = true;
    signals.cancel();
  });
  std::cout << "serving " << o.root << " on " << o.at << std::endl;
  io.run();
  return gone ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "httpd: %s%s\n", error.what(), detail().c_str());
    return 1;
  }
}
