#include "daemon/daemon.h"

#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <system_error>

#include "control/log.h"
#include "control/placement.h"
#include "daemon/stack_config.h"
#include "daemon/verbs.h"

namespace postern {
namespace {

constexpr int kBacklog = 512;

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) spdlog::warn("cannot raise the limit of open files");
}

// The control thread, and what DPDK starts from it, stays off the workers' cores if there are
// others.
void leave_worker_cores(const std::vector<int>& cores) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return;
  for (const int core : cores) CPU_CLR(core, &set);
  if (CPU_COUNT(&set) > 0) (void)sched_setaffinity(0, sizeof set, &set);
}

void log_dpdk(std::string_view line) { spdlog::warn("dpdk: {}", line); }

void remove_socket(const std::filesystem::path& path) {
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
}

// A device that does not exist is a mistake of the configuration: told before anything starts.
void require_devices(const Config& config) {
  for (const PortConfig& port : config.ports) {
    const std::string interface = taken_interface(port.device);
    if (!interface.empty() && if_nametoindex(interface.c_str()) == 0) {
      throw ConfigError(port.where + ": device: there is no network interface \"" + interface +
                        "\"; `ip link` lists them");
    }
    const bool pci = port.device.find(':') < port.device.find(',');
    if (pci && !std::filesystem::exists("/sys/bus/pci/devices/" + port.device)) {
      throw ConfigError(port.where + ": device: there is no PCI device " + port.device +
                        "; `deploy/nic.sh status` lists them");
    }
  }
}

void log_placement(const Config& config) {
  const SystemRoots roots;
  for (const Finding& finding : check_placement(config, read_topology(roots), roots)) {
    if (finding.severity == Severity::good) continue;
    const auto level =
        finding.severity == Severity::problem ? spdlog::level::warn : spdlog::level::info;
    spdlog::log(level, "{}: {}; {}", finding.topic, finding.what, finding.remedy);
  }
}

gid_t group_id(const std::string& name) {
  const auto id = Machine::here().group(name);
  if (!id) throw std::runtime_error("this machine has no group \"" + name + '"');
  return *id;
}

}  // namespace

Daemon::Daemon(Config config) : config_(std::move(config)) {
  require_devices(config_);
  lock_paths();
  raise_descriptor_limit();
  spdlog::info("posternd {} starts with {}", POSTERN_VERSION, config_.file);
  signals_.add(SIGTERM);
  signals_.add(SIGINT);
  log_placement(config_);
  leave_worker_cores(config_.cores);
  start_eal();
  open_ports();
  start_workers();
  try {
    open_sockets();
  } catch (...) {
    kernel_side_->stop();
    for (const auto& worker : workers_) worker->stop();
    throw;
  }
}

Daemon::~Daemon() = default;

std::chrono::seconds Daemon::uptime() const {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() -
                                                          started_);
}

void Daemon::lock_paths() {
  for (const auto& path : {config_.app_socket, config_.control_socket}) {
    std::filesystem::create_directories(path.parent_path());
    locks_.push_back(std::make_unique<InstanceLock>(path.string() + ".lock"));
  }
}

void Daemon::start_eal() {
  eal_ = std::make_unique<Eal>(eal_options(config_, log_dpdk));
  spdlog::info("{}, {}", Eal::version(), eal_->memory_description());
}

void Daemon::open_ports() {
  for (const PortConfig& port : config_.ports) {
    try {
      ports_.push_back(Port::open(port_options(config_, port)));
    } catch (const DpdkError& error) {
      throw ConfigError(port.where + ": device: " + error.what());
    }
    const Port& opened = *ports_.back();
    spdlog::info("port {}: {} by {}, {}, MTU {}, {} queue(s), {}", port.name, port.device,
                 opened.driver(), to_string(opened.mac()), opened.mtu(), opened.queues(),
                 opened.capabilities());
    if (!port.checksums) {
      spdlog::warn(
          "port {}: checksums of TCP and UDP are neither verified nor filled in; whatever "
          "spoils a packet on this link reaches applications",
          port.name);
    }
  }
}

void Daemon::start_workers() {
  add_link_local(config_, ports_);
  const StackConfig stack = stack_config(config_, ports_);
  if (config_.cores.size() > 1) {
    mesh_ = std::make_unique<WorkerMesh>(static_cast<uint32_t>(config_.cores.size()));
  }
  kernel_side_ = std::make_unique<KernelSide>(config_, ports_);
  std::vector<Worker*> raw;
  for (uint32_t i = 0; i < config_.cores.size(); ++i) {
    workers_.push_back(std::make_unique<Worker>(
        worker_options(config_, stack, ports_, mesh_.get(), i, kernel_side_->path())));
    raw.push_back(workers_.back().get());
  }
  routes_ = std::make_unique<Routes>(io_, config_, workers_);
  calls_ = std::make_unique<WorkerCalls>(
      io_, raw, [this](AppId app, const char* why) { applications_->evict(app, why); });
  routes_->set_calls(*calls_);
  groups_ = std::make_unique<Groups>(config_, ports_, *routes_, *calls_);
  applications_ = std::make_unique<Applications>(
      io_, config_, *calls_, *groups_, stack.ephemeral_first, stack.ephemeral_last, stack.max_apps);
  address_watch_ = std::make_unique<AddressWatch>(io_, config_, *calls_, *applications_);
  for (size_t i = 0; i < workers_.size(); ++i) {
    workers_[i]->start();
    spdlog::info("worker {} runs on core {}, {} when idle", i, config_.cores[i],
                 config_.busy ? "spinning" : "sleeping");
  }
  kernel_side_->start();
}

void Daemon::open_sockets() {
  // Who may use the application socket is decided by access:, not by the file's mode.
  const int apps = listen_local(config_.app_socket, SOCK_SEQPACKET, 0666, kBacklog);
  sessions_ = std::make_unique<SessionServer>(io_, apps, *applications_);
  const int control = listen_local(config_.control_socket, SOCK_STREAM, 0660, kBacklog);
  std::optional<gid_t> group;
  if (!config_.control_group.empty()) {
    group = group_id(config_.control_group);
    if (chown(config_.control_socket.c_str(), static_cast<uid_t>(-1), *group) != 0) {
      const int error = errno;
      close(control);
      throw std::system_error(error, std::generic_category(), "chown of the control socket");
    }
  }
  control_ = std::make_unique<ControlServer>(io_, control, [group](const Credentials& peer) {
    return peer.uid == 0 || peer.uid == geteuid() || (group && peer.in_group(*group));
  });
  register_verbs(*control_, *this);
}

void Daemon::run() {
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    spdlog::info("stopping on {}", signal == SIGINT ? "SIGINT" : "SIGTERM");
    begin_stop();
  });
  notify_supervisor("READY=1\nSTATUS=serving " + config_.app_socket.string());
  spdlog::info("ready: applications attach at {}", config_.app_socket.string());
  io_.run();
  finish_stop();
}

void Daemon::begin_stop() {
  if (stopping_) return;
  stopping_ = true;
  notify_supervisor("STOPPING=1");
  routes_->stop();
  address_watch_->stop();
  applications_->stop([this] { io_.stop(); });
  sessions_->stop();
  control_->stop();
  remove_socket(config_.app_socket);
  remove_socket(config_.control_socket);
}

void Daemon::finish_stop() {
  calls_->stop();
  kernel_side_->stop();
  for (const auto& worker : workers_) worker->stop();
  spdlog::info("stopped");
}

}  // namespace postern
