// Processors, memory nodes and network cards of the machine, as the kernel shows them in /sys and
// /proc. The roots are arguments, so that tests can be machines that are not here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern {

struct SystemRoots {
  std::filesystem::path sys = "/sys";
  std::filesystem::path proc = "/proc";
  std::filesystem::path dev = "/dev";
};

// First line of a file without the blanks at its end; empty if it cannot be read.
std::string read_line(const std::filesystem::path& file);
// "0-3,8" and back. A list that is not one gives what was read until then.
std::vector<int> parse_cpu_list(std::string_view text);
std::string format_cpu_list(const std::vector<int>& cpus);

struct Cpu {
  int id = 0;
  int node = 0;
  std::vector<int> siblings;  // logical CPUs of the same physical core, itself included
  bool isolated = false;      // isolcpus=: the scheduler puts nothing there by itself
  bool tickless = false;      // nohz_full=
  std::string governor;       // of its frequency; empty: none
};

struct MemoryNode {
  int id = 0;
  uint64_t hugepages = 0;       // bytes of all sizes
  uint64_t free_hugepages = 0;  // bytes
};

struct Topology {
  std::vector<Cpu> cpus;  // online
  std::vector<MemoryNode> nodes;

  [[nodiscard]] const Cpu* cpu(int id) const;  // nullptr: not there or offline
  [[nodiscard]] std::vector<int> cpus_of_node(int node) const;
};
Topology read_topology(const SystemRoots& roots);

struct PciDevice {
  std::string address;
  std::string driver;  // empty: none
  std::string iommu_group;
  int node = -1;  // -1: the firmware does not say
  uint16_t vendor = 0, device = 0;
  std::vector<std::string> interfaces;
  std::vector<std::string> held_back;  // others of the group that the kernel uses: "address driver"
};
std::optional<PciDevice> read_pci_device(const SystemRoots& roots, const std::string& address);
std::vector<PciDevice> read_network_cards(const SystemRoots& roots);

}  // namespace postern
