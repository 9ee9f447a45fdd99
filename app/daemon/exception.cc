#include "daemon/exception.h"

#include <netinet/in.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <stdexcept>
#include <system_error>

#include "control/log.h"
#include "daemon/stack_config.h"

namespace postern {
namespace {

ExceptionPolicy policy_of(const std::vector<ExceptionEntry>& allow) {
  ExceptionPolicy policy;
  for (const ExceptionEntry& entry : allow) {
    if (entry.protocol == IPPROTO_TCP || entry.protocol == IPPROTO_UDP) {
      policy.allow_ports(static_cast<Protocol>(entry.protocol), entry.first, entry.last);
    } else {
      policy.allow_protocol(entry.protocol);
    }
  }
  return policy;
}

ExceptionPortOptions open_port(const InterfaceEntry& config, const Port& port) {
  if (!config.exception) return {};
  const ExceptionPathConfig& e = *config.exception;
  try {
    const int tap = open_tap({e.tap, port.mac(), config.mtu, config.addresses});
    spdlog::info("port {}: the kernel beside it at {}", config.name, e.tap);
    return {tap, policy_of(e.allow), e.rate, static_cast<uint32_t>(e.queue)};
  } catch (const std::runtime_error& error) {
    throw ConfigError(config.where + ": exception: " + error.what());
  }
}

HashSecret random_secret() {
  HashSecret secret;
  if (getrandom(secret.data(), sizeof secret, 0) != static_cast<ssize_t>(sizeof secret)) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  return secret;
}

// A port that both sides choose for themselves is answered by the socket of Postern's.
void check_ephemeral_ports() {
  const StackConfig ours;
  std::ifstream in("/proc/sys/net/ipv4/ip_local_port_range");
  uint32_t first = 0, last = 0;
  if (!(in >> first >> last)) return;
  if (first > ours.ephemeral_last || last < ours.ephemeral_first) return;
  spdlog::warn(
      "the kernel's ephemeral ports ({}-{}) overlap Postern's ({}-{}); give it others: sysctl -w "
      "net.ipv4.ip_local_port_range=\"{} 65535\"",
      first, last, ours.ephemeral_first, ours.ephemeral_last, ours.ephemeral_last + 1);
}

}  // namespace

KernelSide::KernelSide(const Config& config, const std::vector<std::unique_ptr<Port>>& ports) {
  const std::vector<InterfaceEntry> interfaces = interfaces_of(config.ports);
  const auto excepts = [](const InterfaceEntry& i) { return i.exception.has_value(); };
  if (std::none_of(interfaces.begin(), interfaces.end(), excepts)) return;
  check_ephemeral_ports();
  std::vector<ExceptionPortOptions> options;
  std::set<std::string> quieted;
  for (const InterfaceEntry& interface : interfaces) {
    const std::string taken = taken_interface(config.ports[interface.port].device);
    if (interface.exception && !taken.empty() && quieted.insert(taken).second) {
      quiet_.push_back(std::make_unique<QuietInterface>(taken));
    }
    options.push_back(open_port(interface, *ports[interface.port]));
  }
  path_ = std::make_unique<ExceptionPath>(
      std::move(options), static_cast<uint32_t>(config.cores.size()), random_secret());
}

void KernelSide::stop() {
  if (path_ != nullptr) path_->stop();
}

void KernelSide::start() {
  if (path_ != nullptr) path_->start();
}

}  // namespace postern
