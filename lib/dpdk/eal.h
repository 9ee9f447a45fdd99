// DPDK's environment, started from plain options. One per process, for its life: DPDK cannot be
// started a second time. Control thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace postern {

// What failed and what to do about it, ready to print; one line.
class DpdkError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class HugepageMode : uint8_t { automatic, on, off };

// A line that DPDK logged, without line feed. Any thread, one call at a time; must not call DPDK.
using DpdkLogSink = void (*)(std::string_view line);

struct EalOptions {
  HugepageMode hugepages = HugepageMode::automatic;
  uint64_t memory = 512 << 20;           // bytes, all sockets together
  std::string file_prefix = "postern";   // tells DPDK processes of one machine apart
  std::vector<std::string> pci_devices;  // PCI addresses; empty: the PCI bus is not looked at
  std::vector<std::string> extra_args;   // appended as they are
  DpdkLogSink log = nullptr;             // warnings and worse; null: standard error
};

// The argument vector for rte_eal_init. `cpus`: logical CPUs that the calling thread may use; it
// becomes DPDK's only lcore and keeps floating over them. Workers are threads of our own.
std::vector<std::string> eal_arguments(const EalOptions& options, bool hugepages,
                                       const std::vector<int>& cpus);

// Free hugepage memory in bytes that this process can really have: reserved and faulted in once,
// then given back. False with the reason when `bytes` cannot be had.
bool hugepages_usable(uint64_t bytes, std::string* reason);

// Canonical "0000:03:00.0" from "03:00.0" or "0000:03:00.0"; empty if it is not a PCI address.
std::string pci_address(std::string_view device);

class Eal {
 public:
  // Throws DpdkError. Automatic hugepages: taken if `memory` fits in those that are free, else
  // ordinary pages, said in memory_description().
  explicit Eal(const EalOptions& options);
  ~Eal();  // all ports and pools must be gone
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;

  [[nodiscard]] bool hugepages() const { return hugepages_; }
  // For the log: "512 MiB in hugepages", "512 MiB in ordinary pages (hugepages: none free)".
  [[nodiscard]] const std::string& memory_description() const { return memory_description_; }
  // "DPDK 22.11.11".
  [[nodiscard]] static std::string version();

 private:
  bool hugepages_ = false;
  std::string memory_description_;
};

// Collects what DPDK logs while in scope, so that an error can quote the driver's own words.
class LogCapture {
 public:
  LogCapture();
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  // The last line logged since, without the name of the function; empty if none.
  [[nodiscard]] std::string last_line() const;

 private:
  size_t mark_;
};

}  // namespace postern
