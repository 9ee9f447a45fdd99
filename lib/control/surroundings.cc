// What `postern doctor` asks of the running kernel: interfaces and their other ends, capabilities.
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "control/doctor.h"

namespace postern {
namespace {

namespace fs = std::filesystem;

// A socket to ask the network namespace of the calling thread about its interfaces.
class Asker {
 public:
  Asker() : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {}
  ~Asker() {
    if (fd_ >= 0) close(fd_);
  }
  Asker(const Asker&) = delete;
  Asker& operator=(const Asker&) = delete;

  template <class Command>
  bool ethtool(const std::string& name, Command* command) const {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_data = reinterpret_cast<char*>(command);
    return ioctl(fd_, SIOCETHTOOL, &request) == 0;
  }
  [[nodiscard]] bool flag(const std::string& name, uint32_t command) const {
    ethtool_value value{command, 0};
    return ethtool(name, &value) && value.data != 0;
  }
  [[nodiscard]] std::string driver(const std::string& name) const {
    ethtool_drvinfo info{};
    info.cmd = ETHTOOL_GDRVINFO;
    if (!ethtool(name, &info)) return {};
    return {info.driver, strnlen(info.driver, sizeof info.driver)};
  }
  [[nodiscard]] std::string name_of(int index) const {
    ifreq request{};
    request.ifr_ifindex = index;
    return ioctl(fd_, SIOCGIFNAME, &request) == 0 ? request.ifr_name : "";
  }

 private:
  int fd_;
};

// The veth driver's first statistic is "peer_ifindex"; 0 if it is not a veth.
int peer_index(const Asker& asker, const std::string& name) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  if (!asker.ethtool(name, &info) || std::strcmp(info.driver, "veth") != 0) return 0;
  // The kernel writes as many as it has, whatever it is told: ask first, and leave room for more.
  constexpr size_t kHead = sizeof(ethtool_stats) / sizeof(uint64_t);
  static_assert(sizeof(ethtool_stats) == kHead * sizeof(uint64_t));
  std::vector<uint64_t> words(kHead + info.n_stats + 64);
  auto* stats = reinterpret_cast<ethtool_stats*>(words.data());
  stats->cmd = ETHTOOL_GSTATS;
  stats->n_stats = info.n_stats;
  return info.n_stats > 0 && asker.ethtool(name, stats) ? static_cast<int>(words[kHead]) : 0;
}

std::optional<InterfaceFacts> facts_of(const std::string& name) {
  if (if_nametoindex(name.c_str()) == 0) return std::nullopt;
  const Asker asker;
  InterfaceFacts facts;
  facts.name = name;
  facts.driver = asker.driver(name);
  facts.tx_checksum = asker.flag(name, ETHTOOL_GTXCSUM);
  facts.tso = asker.flag(name, ETHTOOL_GTSO);
  facts.gso = asker.flag(name, ETHTOOL_GGSO);
  facts.gro = asker.flag(name, ETHTOOL_GGRO);
  ethtool_value flags{ETHTOOL_GFLAGS, 0};
  facts.lro = asker.ethtool(name, &flags) && (flags.data & ETH_FLAG_LRO) != 0;
  return facts;
}

// A network namespace: a file that names it, and how a shell gets there.
struct Network {
  std::string file;
  std::string command;
};

// Every namespace that has a name or a process, this one first.
std::vector<Network> networks() {
  std::vector<Network> found;
  std::set<std::pair<dev_t, ino_t>> seen;
  const auto add = [&found, &seen](const std::string& file, std::string command) {
    struct stat status {};
    if (stat(file.c_str(), &status) != 0) return;
    if (seen.emplace(status.st_dev, status.st_ino).second) {
      found.push_back({file, std::move(command)});
    }
  };
  add("/proc/self/ns/net", "");
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/run/netns", ignored)) {
    add(entry.path(), "ip netns exec " + entry.path().filename().string());
  }
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != pid.npos) continue;
    const std::string file = "/proc/" + pid + "/ns/net";
    add(file, "nsenter --net=" + file);
  }
  return found;
}

// In the namespace of `network`, the veth with index `index` whose other end is `other`.
std::optional<InterfaceFacts> peer_in(const Network& network, int index, int other) {
  std::optional<InterfaceFacts> result;
  std::thread visitor([&] {  // only this thread changes its namespace
    const int fd = open(network.file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    const bool entered = network.command.empty() || setns(fd, CLONE_NEWNET) == 0;
    close(fd);
    if (!entered) return;
    const Asker asker;
    const std::string name = asker.name_of(index);
    if (name.empty() || peer_index(asker, name) != other) return;
    result = facts_of(name);
    if (result) result->network = network.command;
  });
  visitor.join();
  return result;
}

std::optional<InterfaceFacts> peer_of(const std::string& name) {
  const int own = static_cast<int>(if_nametoindex(name.c_str()));
  const int peer = peer_index(Asker(), name);
  if (own == 0 || peer == 0) return std::nullopt;
  for (const Network& network : networks()) {
    if (auto facts = peer_in(network, peer, own)) return facts;
  }
  return std::nullopt;
}

uint64_t effective_capabilities() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("CapEff:")) return std::stoull(line.substr(7), nullptr, 16);
  }
  return 0;
}

}  // namespace

Surroundings surroundings() {
  Surroundings around;
  around.interface = facts_of;
  around.veth_peer = peer_of;
  around.root = geteuid() == 0;
  around.capabilities = effective_capabilities();
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) around.locked_memory = limit.rlim_cur;
  return around;
}

}  // namespace postern
