// Files that look like another machine's /sys, /proc and /dev.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "control/doctor.h"
#include "temporary_directory.h"

namespace postern {

class FakeSystem {
 public:
  FakeSystem() {
    roots_.sys = directory_ / "sys";
    roots_.proc = directory_ / "proc";
    roots_.dev = directory_ / "dev";
    proc("cpuinfo", "processor\t: 0\nflags\t\t: fpu avx2 bmi2 fma constant_tsc nonstop_tsc\n");
    proc("mounts", "hugetlbfs /dev/hugepages hugetlbfs rw 0 0\n");
    sys("devices/system/clocksource/clocksource0/current_clocksource", "tsc");
  }

  void sys(const std::string& file, const std::string& text) { write(roots_.sys / file, text); }
  void proc(const std::string& file, const std::string& text) { write(roots_.proc / file, text); }

  // `nodes` nodes with `cores` physical cores each, of two threads: CPU n and n + nodes * cores.
  void processors(int nodes, int cores) {
    const int half = nodes * cores;
    sys("devices/system/cpu/online", "0-" + std::to_string(2 * half - 1));
    for (int id = 0; id < 2 * half; ++id) {
      const int first = id % half;
      sys("devices/system/cpu/cpu" + std::to_string(id) + "/topology/thread_siblings_list",
          std::to_string(first) + "," + std::to_string(first + half));
    }
    for (int node = 0; node < nodes; ++node) {
      const auto range = [cores](int first) {
        return std::to_string(first) + "-" + std::to_string(first + cores - 1);
      };
      sys(node_directory(node) + "cpulist", range(node * cores) + "," + range(half + node * cores));
    }
  }

  // Pages of 2 MiB, all free.
  void hugepages(int node, int pages) {
    const std::string pool = node_directory(node) + "hugepages/hugepages-2048kB/";
    sys(pool + "nr_hugepages", std::to_string(pages));
    sys(pool + "free_hugepages", std::to_string(pages));
  }

  void card(const std::string& address, const std::string& driver, int node,
            const std::string& group = "") {
    namespace fs = std::filesystem;
    const std::string own = "bus/pci/devices/" + address + "/";
    sys(own + "class", "0x020000");
    sys(own + "numa_node", std::to_string(node));
    fs::create_directories(roots_.sys / "bus/pci/drivers" / driver);
    fs::create_symlink(roots_.sys / "bus/pci/drivers" / driver, roots_.sys / own / "driver");
    if (group.empty()) return;
    const fs::path members = roots_.sys / "kernel/iommu_groups" / group / "devices";
    fs::create_directories(members / address);
    fs::create_symlink(members.parent_path(), roots_.sys / own / "iommu_group");
  }

  [[nodiscard]] const SystemRoots& roots() const { return roots_; }

  // Everything allowed, no interface there.
  [[nodiscard]] Surroundings surroundings() const {
    Surroundings around;
    around.roots = roots_;
    around.interface = [](const std::string&) { return std::nullopt; };
    around.veth_peer = around.interface;
    around.root = true;
    around.capabilities = ~uint64_t{0};
    around.locked_memory = ~uint64_t{0};
    return around;
  }

 private:
  static std::string node_directory(int node) {
    return "devices/system/node/node" + std::to_string(node) + "/";
  }
  static void write(const std::filesystem::path& file, const std::string& text) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << '\n';
  }

  TemporaryDirectory directory_;
  SystemRoots roots_;
};

// The findings of a topic that are not good, as "severity: what | command".
inline std::vector<std::string> trouble(const Findings& findings, const std::string& topic) {
  std::vector<std::string> lines;
  for (const Finding& f : findings) {
    if (f.topic != topic || f.severity == Severity::good) continue;
    lines.push_back((f.severity == Severity::advice ? "advice: " : "problem: ") + f.what +
                    (f.command.empty() ? "" : " | " + f.command));
  }
  return lines;
}

}  // namespace postern
