#include "control/placement.h"

#include <algorithm>
#include <map>
#include <set>

#include "control/units.h"

namespace postern {
namespace {

std::string number(int value) { return std::to_string(value); }

std::vector<const Cpu*> worker_cpus(const Config& config, const Topology& topology) {
  std::vector<const Cpu*> cpus;
  for (const int core : config.cores) {
    if (const Cpu* cpu = topology.cpu(core)) cpus.push_back(cpu);
  }
  return cpus;
}

void check_cores(const Config& config, const Topology& topology, Findings& out) {
  std::vector<int> online;
  for (const Cpu& cpu : topology.cpus) online.push_back(cpu.id);
  for (const int core : config.cores) {
    if (topology.cpu(core) != nullptr) continue;
    out.push_back({Severity::problem, "cores", "core " + number(core) + " is not online",
                   "choose workers.cores among " + format_cpu_list(online), ""});
  }
  const bool first = std::find(config.cores.begin(), config.cores.end(), 0) != config.cores.end();
  if (first && config.busy && online.size() > 1) {
    out.push_back({Severity::advice, "cores", "a worker that spins has core 0",
                   "leave core 0 to the kernel, which runs interrupts and housekeeping there", ""});
  }
}

// Two workers on one physical core share its execution units and first-level cache.
void check_siblings(const Config& config, const Topology& topology, Findings& out) {
  std::map<std::vector<int>, std::vector<int>> by_physical_core;
  for (const Cpu* cpu : worker_cpus(config, topology)) {
    by_physical_core[cpu->siblings].push_back(cpu->id);
  }
  for (auto& [siblings, workers] : by_physical_core) {
    if (workers.size() < 2) continue;
    std::sort(workers.begin(), workers.end());
    out.push_back({Severity::advice, "siblings",
                   "cores " + format_cpu_list(workers) + " are threads of one physical core",
                   "give each worker a physical core of its own: the two together reach little "
                   "more than one alone",
                   ""});
  }
}

// Asked for only where workers spin: one that sleeps does not claim its core.
void check_isolation(const Config& config, const Topology& topology, Findings& out) {
  std::vector<int> shared, ticking;
  for (const Cpu* cpu : worker_cpus(config, topology)) {
    if (!cpu->isolated) shared.push_back(cpu->id);
    if (!cpu->tickless) ticking.push_back(cpu->id);
  }
  if (!config.busy) return;
  if (shared.empty() && ticking.empty()) {
    out.push_back({Severity::good, "isolation",
                   "cores " + format_cpu_list(config.cores) + " are isolated and tickless", "",
                   ""});
    return;
  }
  const auto affected = format_cpu_list(shared.empty() ? ticking : shared);
  const std::string cores = format_cpu_list(config.cores);
  out.push_back({Severity::advice, "isolation",
                 "other programs" + std::string(shared.empty() ? "' timer ticks" : "") +
                     " may run on the workers' cores " + affected,
                 "boot with isolcpus=" + cores + " nohz_full=" + cores + " rcu_nocbs=" + cores,
                 "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&isolcpus=" + cores + " nohz_full=" + cores +
                     " rcu_nocbs=" + cores + " /' /etc/default/grub && update-grub"});
}

void check_governor(const Config& config, const Topology& topology, Findings& out) {
  for (const Cpu* cpu : worker_cpus(config, topology)) {
    if (cpu->governor.empty() || cpu->governor == "performance") continue;
    out.push_back(
        {Severity::advice, "governor",
         "core " + number(cpu->id) + " changes its frequency (governor " + cpu->governor + ")",
         "use the governor \"performance\"",
         "cpupower -c " + format_cpu_list(config.cores) + " frequency-set -g performance"});
    return;  // one governor is like another
  }
}

void check_nodes(const Config& config, const Topology& topology, const SystemRoots& roots,
                 Findings& out) {
  if (topology.nodes.size() < 2) return;
  bool apart = false;
  for (const PortConfig& port : config.ports) {
    const int node = port_node(roots, port.device);
    if (node < 0) continue;
    std::vector<int> far;
    for (const Cpu* cpu : worker_cpus(config, topology)) {
      if (cpu->node != node) far.push_back(cpu->id);
    }
    if (far.empty()) continue;
    apart = true;
    out.push_back(
        {Severity::advice, "numa",
         "port " + port.name + " is on NUMA node " + number(node) + ", the worker on core " +
             format_cpu_list(far) + " is not: every packet crosses the interconnect",
         "choose workers.cores among " + format_cpu_list(topology.cpus_of_node(node)), ""});
  }
  std::set<int> nodes;
  for (const Cpu* cpu : worker_cpus(config, topology)) nodes.insert(cpu->node);
  if (nodes.size() > 1 && !apart) {
    out.push_back({Severity::advice, "numa",
                   "workers run on " + number(static_cast<int>(nodes.size())) + " NUMA nodes",
                   "keep the workers of one daemon on one node", ""});
  } else if (!apart) {
    out.push_back({Severity::good, "numa", "workers and ports share a NUMA node", "", ""});
  }
}

// Where posternd's memory goes: the node of the workers.
void check_hugepages(const Config& config, const Topology& topology, Findings& out) {
  if (config.hugepages == Hugepages::off) {
    out.push_back({Severity::advice, "hugepages", "memory.hugepages is off",
                   "turn it on where speed counts: ordinary pages cost TLB misses", ""});
    return;
  }
  const auto workers = worker_cpus(config, topology);
  const int home = workers.empty() ? 0 : workers.front()->node;
  uint64_t here = 0, everywhere = 0;
  for (const MemoryNode& node : topology.nodes) {
    everywhere += node.free_hugepages;
    if (node.id == home) here += node.free_hugepages;
  }
  const std::string size = format_size(config.memory_size);
  const bool several = topology.nodes.size() > 1;
  if (here >= config.memory_size) {
    out.push_back({Severity::good, "hugepages",
                   format_size(here) + " free" + (several ? " on node " + number(home) : "") +
                       ", memory.size is " + size,
                   "", ""});
    return;
  }
  const bool enough_elsewhere = everywhere >= config.memory_size;
  const bool must = config.hugepages == Hugepages::on && !enough_elsewhere;
  out.push_back({must ? Severity::problem : Severity::advice, "hugepages",
                 (here == 0 ? "none" : "only " + format_size(here)) + " free" +
                     (several ? " on node " + number(home) + " of the workers" : "") +
                     ", memory.size is " + size +
                     (enough_elsewhere ? "; other nodes have enough, at a price for each access"
                      : must           ? ""
                                       : ": posternd will use ordinary pages"),
                 "reserve huge pages",
                 "deploy/nic.sh hugepages " + size + (several ? " --node " + number(home) : "")});
}

}  // namespace

std::string device_argument(const std::string& device, std::string_view key) {
  const std::string wanted = "," + std::string(key) + "=";
  const size_t at = device.find(wanted);
  if (at == device.npos) return {};
  const size_t begin = at + wanted.size();
  return device.substr(begin, device.find(',', begin) - begin);
}

bool is_pci_address(const std::string& device) { return device.find(':') < device.find(','); }

int port_node(const SystemRoots& roots, const std::string& device) {
  std::string node;
  if (is_pci_address(device)) {
    const auto pci = read_pci_device(roots, device.substr(0, device.find(',')));
    return pci ? pci->node : -1;
  }
  const std::string interface = device_argument(device, "iface");
  if (interface.empty()) return -1;
  node = read_line(roots.sys / "class/net" / interface / "device/numa_node");
  return node.empty() || node.front() == '-' ? -1 : std::stoi(node);
}

Findings check_placement(const Config& config, const Topology& topology, const SystemRoots& roots) {
  Findings out;
  check_cores(config, topology, out);
  check_siblings(config, topology, out);
  check_isolation(config, topology, out);
  check_governor(config, topology, out);
  check_nodes(config, topology, roots, out);
  check_hugepages(config, topology, out);
  return out;
}

}  // namespace postern
