#include "control/topology.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <system_error>

namespace postern {
namespace {

namespace fs = std::filesystem;

uint64_t read_number(const fs::path& file, int base = 10) {
  std::string text = read_line(file);
  if (text.starts_with("0x")) text.erase(0, 2);
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, base);
  return value;
}

// Names in a directory, in order; none if it is not there.
std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The last component of what a link points to; empty if there is none.
std::string link_name(const fs::path& link) {
  std::error_code ignored;
  return fs::read_symlink(link, ignored).filename();
}

bool contains(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// The number in "node12"; -1 if the name is not of that form.
int number_after(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return -1;
  name.remove_prefix(prefix.size());
  int number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end == name.data() + name.size() ? number : -1;
}

MemoryNode read_node(const fs::path& directory, int id) {
  MemoryNode node{id, 0, 0};
  for (const std::string& pool : names_in(directory)) {
    const std::string_view digits = std::string_view(pool).substr(0, pool.find("kB"));
    const int kilobytes = number_after(digits, "hugepages-");
    if (kilobytes <= 0) continue;
    const uint64_t bytes = static_cast<uint64_t>(kilobytes) << 10;
    node.hugepages += bytes * read_number(directory / pool / "nr_hugepages");
    node.free_hugepages += bytes * read_number(directory / pool / "free_hugepages");
  }
  return node;
}

Cpu read_cpu(const fs::path& directory, int id) {
  const fs::path own = directory / ("cpu" + std::to_string(id));
  Cpu cpu;
  cpu.id = id;
  cpu.siblings = parse_cpu_list(read_line(own / "topology/thread_siblings_list"));
  if (cpu.siblings.empty()) cpu.siblings = {id};
  cpu.governor = read_line(own / "cpufreq/scaling_governor");
  return cpu;
}

}  // namespace

std::string read_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\0')) {
    line.pop_back();
  }
  return line;
}

std::vector<int> parse_cpu_list(std::string_view text) {
  std::vector<int> cpus;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int first = 0;
    auto [next, error] = std::from_chars(at, end, first);
    if (error != std::errc()) break;
    int last = first;
    if (next < end && *next == '-') {
      const auto range = std::from_chars(next + 1, end, last);
      if (range.ec != std::errc()) break;
      next = range.ptr;
    }
    constexpr int kMostCpus = 1 << 16;
    for (int cpu = first; cpu <= last && cpu < kMostCpus; ++cpu) cpus.push_back(cpu);
    if (next == end || *next != ',') break;
    at = next + 1;
  }
  return cpus;
}

std::string format_cpu_list(const std::vector<int>& cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(cpus[i]);
    if (last > i) text += "-" + std::to_string(cpus[last]);
    i = last + 1;
  }
  return text;
}

const Cpu* Topology::cpu(int id) const {
  const auto found =
      std::find_if(cpus.begin(), cpus.end(), [id](const Cpu& cpu) { return cpu.id == id; });
  return found == cpus.end() ? nullptr : &*found;
}

std::vector<int> Topology::cpus_of_node(int node) const {
  std::vector<int> ids;
  for (const Cpu& cpu : cpus) {
    if (cpu.node == node) ids.push_back(cpu.id);
  }
  return ids;
}

Topology read_topology(const SystemRoots& roots) {
  const fs::path cpus = roots.sys / "devices/system/cpu";
  const fs::path nodes = roots.sys / "devices/system/node";
  const std::vector<int> isolated = parse_cpu_list(read_line(cpus / "isolated"));
  const std::vector<int> tickless = parse_cpu_list(read_line(cpus / "nohz_full"));
  Topology topology;
  for (const int id : parse_cpu_list(read_line(cpus / "online"))) {
    topology.cpus.push_back(read_cpu(cpus, id));
    topology.cpus.back().isolated = contains(isolated, id);
    topology.cpus.back().tickless = contains(tickless, id);
  }
  for (const std::string& name : names_in(nodes)) {
    const int id = number_after(name, "node");
    if (id < 0) continue;
    topology.nodes.push_back(read_node(nodes / name / "hugepages", id));
    for (const int member : parse_cpu_list(read_line(nodes / name / "cpulist"))) {
      for (Cpu& cpu : topology.cpus) {
        if (cpu.id == member) cpu.node = id;
      }
    }
  }
  if (topology.nodes.empty()) {  // a kernel without NUMA
    topology.nodes.push_back(read_node(roots.sys / "kernel/mm/hugepages", 0));
  }
  return topology;
}

std::optional<PciDevice> read_pci_device(const SystemRoots& roots, const std::string& address) {
  const fs::path all = roots.sys / "bus/pci/devices";
  const fs::path own = all / address;
  if (!fs::exists(own)) return std::nullopt;
  PciDevice device;
  device.address = address;
  device.driver = link_name(own / "driver");
  device.iommu_group = link_name(own / "iommu_group");
  const std::string node = read_line(own / "numa_node");
  device.node = node.empty() || node.front() == '-' ? -1 : number_after(node, "");
  device.vendor = static_cast<uint16_t>(read_number(own / "vendor", 16));
  device.device = static_cast<uint16_t>(read_number(own / "device", 16));
  device.interfaces = names_in(own / "net");
  for (const std::string& name : names_in(own)) {  // a virtio device has them one level down
    if (!name.starts_with("virtio")) continue;
    for (std::string& interface : names_in(own / name / "net")) {
      device.interfaces.push_back(std::move(interface));
    }
  }
  for (const std::string& other : names_in(own / "iommu_group/devices")) {
    const std::string driver = link_name(all / other / "driver");
    const bool harmless =
        driver.empty() || driver == "vfio-pci" || driver == "pci-stub" || driver == "pcieport";
    if (other != address && !harmless) device.held_back.push_back(other + " " + driver);
  }
  return device;
}

std::vector<PciDevice> read_network_cards(const SystemRoots& roots) {
  std::vector<PciDevice> cards;
  for (const std::string& address : names_in(roots.sys / "bus/pci/devices")) {
    if (!read_line(roots.sys / "bus/pci/devices" / address / "class").starts_with("0x02")) continue;
    if (auto card = read_pci_device(roots, address)) cards.push_back(std::move(*card));
  }
  return cards;
}

}  // namespace postern
