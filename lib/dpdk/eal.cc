#include "dpdk/eal.h"

#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "dpdk/compat.h"

namespace postern {
namespace {

// DPDK writes its log to one stdio stream for the whole process; this is what stands behind it.
class LogStream {
 public:
  static LogStream& instance() {
    static LogStream stream;
    return stream;
  }

  void open(DpdkLogSink sink) {
    const std::lock_guard lock(mutex_);
    sink_ = sink;
    if (file_ != nullptr) return;
    cookie_io_functions_t functions{};
    functions.write = [](void* self, const char* data, size_t size) -> ssize_t {
      static_cast<LogStream*>(self)->write({data, size});
      return static_cast<ssize_t>(size);
    };
    file_ = fopencookie(this, "w", functions);
    if (file_ == nullptr) throw DpdkError("DPDK's log stream: out of memory");
    setvbuf(file_, nullptr, _IOLBF, 1024);
    rte_openlog_stream(file_);
  }

  size_t begin_capture() {
    const std::lock_guard lock(mutex_);
    ++captures_;
    return captured_.size();
  }
  void end_capture() {
    const std::lock_guard lock(mutex_);
    if (--captures_ == 0) captured_.clear();
  }
  std::string last_since(size_t mark) {
    const std::lock_guard lock(mutex_);
    return captured_.size() > mark ? captured_.back() : std::string();
  }

 private:
  void write(std::string_view text) {
    const std::lock_guard lock(mutex_);
    for (char c : text) {
      if (c != '\n') {
        line_ += c;
        continue;
      }
      if (!line_.empty()) emit();
      line_.clear();
    }
  }

  void emit() {
    if (captures_ > 0 && captured_.size() < kMaxCaptured) captured_.push_back(line_);
    if (sink_ != nullptr) {
      sink_(line_);
    } else {
      fprintf(stderr, "dpdk: %s\n", line_.c_str());
    }
  }

  static constexpr size_t kMaxCaptured = 256;
  std::mutex mutex_;
  FILE* file_ = nullptr;
  DpdkLogSink sink_ = nullptr;
  std::string line_;
  int captures_ = 0;
  std::vector<std::string> captured_;
};

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

uint64_t read_number(const std::filesystem::path& file) {
  std::ifstream in(file);
  uint64_t value = 0;
  in >> value;
  return in ? value : 0;
}

struct HugepageSize {
  uint64_t bytes = 0;
  uint64_t free = 0;  // pages, with what the kernel may add by overcommit
};

std::vector<HugepageSize> hugepage_sizes() {
  std::vector<HugepageSize> sizes;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", error)) {
    const std::string name = entry.path().filename();  // hugepages-2048kB
    uint64_t kib = 0;
    const size_t dash = name.find('-');
    if (dash == std::string::npos) continue;
    std::from_chars(name.data() + dash + 1, name.data() + name.size(), kib);
    const uint64_t overcommit = read_number(entry.path() / "nr_overcommit_hugepages");
    const uint64_t surplus = read_number(entry.path() / "surplus_hugepages");
    const uint64_t free = read_number(entry.path() / "free_hugepages");
    const uint64_t reserved = read_number(entry.path() / "resv_hugepages");
    sizes.push_back({kib << 10, (free > reserved ? free - reserved : 0) +
                                    (overcommit > surplus ? overcommit - surplus : 0)});
  }
  std::sort(sizes.begin(), sizes.end(), [](auto& a, auto& b) { return a.bytes > b.bytes; });
  return sizes;
}

// Reserves and faults in `pages` pages, then lets go. A limit of a control group shows only here.
bool try_pages(uint64_t page, uint64_t pages) {
#ifndef MADV_POPULATE_WRITE
  constexpr int MADV_POPULATE_WRITE = 23;
#endif
  const int shift = __builtin_ctzll(page) << MAP_HUGE_SHIFT;
  void* p = mmap(nullptr, page * pages, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | shift, -1, 0);
  if (p == MAP_FAILED) return false;
  // Kernels before 5.14 do not know the advice (EINVAL); the reservation is then all we have.
  const bool ok = madvise(p, page * pages, MADV_POPULATE_WRITE) == 0 || errno == EINVAL;
  munmap(p, page * pages);
  return ok;
}

std::string mebibytes(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

constexpr const char* kHugepageRemedy =
    "reserve some (echo 512 > /proc/sys/vm/nr_hugepages) or set hugepages to off";

}  // namespace

bool hugepages_usable(uint64_t bytes, std::string* reason) {
  uint64_t available = 0;
  const std::vector<HugepageSize> sizes = hugepage_sizes();
  for (const HugepageSize& size : sizes) available += size.bytes * size.free;
  if (available < bytes) {
    *reason = available == 0 ? "none free"
                             : "only " + mebibytes(available) + " of " + mebibytes(bytes) + " free";
    return false;
  }
  uint64_t wanted = bytes;
  for (const HugepageSize& size : sizes) {
    const uint64_t pages = std::min(size.free, (wanted + size.bytes - 1) / size.bytes);
    if (pages == 0) continue;
    if (!try_pages(size.bytes, pages)) {
      *reason = mebibytes(size.bytes * pages) + " are free but may not be taken (memory limit?)";
      return false;
    }
    wanted -= std::min(wanted, pages * size.bytes);
  }
  return true;
}

std::string pci_address(std::string_view device) {
  const auto is_hex = [](std::string_view s) {
    return std::all_of(s.begin(), s.end(), [](unsigned char c) { return isxdigit(c) != 0; });
  };
  const std::string full = device.size() == 7 ? "0000:" + std::string(device) : std::string(device);
  // dddd:bb:dd.f
  if (full.size() != 12 || full[4] != ':' || full[7] != ':' || full[10] != '.') return {};
  const std::string_view v = full;
  if (!is_hex(v.substr(0, 4)) || !is_hex(v.substr(5, 2)) || !is_hex(v.substr(8, 2)) ||
      v[11] < '0' || v[11] > '7') {
    return {};
  }
  std::string lower = full;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  return lower;
}

std::vector<std::string> eal_arguments(const EalOptions& options, bool hugepages,
                                       const std::vector<int>& cpus) {
  std::string lcore = "0@(";
  for (size_t i = 0; i < cpus.size(); ++i) lcore += (i == 0 ? "" : ",") + std::to_string(cpus[i]);
  lcore += ")";

  std::vector<std::string> args = {"posternd",           "--lcores",          lcore,
                                   "--file-prefix",      options.file_prefix, "--no-telemetry",
                                   "--log-level=warning"};
  const auto add = [&args](auto... more) { (args.emplace_back(more), ...); };
  if (hugepages) {
    // Nothing is left in /dev/hugepages when the process is killed; one file per segment list is
    // what vhost and memif can hand to their peers.
    add("--in-memory", "--single-file-segments");
  } else {
    add("--no-huge", "--no-shconf");
  }
  add("-m", std::to_string((options.memory + (1 << 20) - 1) >> 20));
  if (options.pci_devices.empty()) {
    add("--no-pci", "--iova-mode=va");
  } else {
    for (const std::string& device : options.pci_devices) add("-a", pci_address(device));
  }
  args.insert(args.end(), options.extra_args.begin(), options.extra_args.end());
  return args;
}

Eal::Eal(const EalOptions& options) {
  for (const std::string& device : options.pci_devices) {
    if (pci_address(device).empty()) {
      throw DpdkError("'" + device + "' is not a PCI address; write it like 0000:03:00.0");
    }
  }
  LogStream::instance().open(options.log);

  std::string why;
  if (options.hugepages == HugepageMode::off) {
    why = "hugepages are off";
  } else {
    hugepages_ = hugepages_usable(options.memory, &why);
    if (!hugepages_ && options.hugepages == HugepageMode::on) {
      throw DpdkError("hugepages: " + why + "; " + kHugepageRemedy);
    }
    why = "hugepages: " + why;
  }
  memory_description_ = mebibytes(options.memory) +
                        (hugepages_ ? " in hugepages" : " in ordinary pages (" + why + ")");

  std::vector<std::string> args = eal_arguments(options, hugepages_, allowed_cpus());
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);

  const LogCapture capture;
  if (rte_eal_init(static_cast<int>(args.size()), argv.data()) < 0) {
    const int error = rte_errno;
    const std::string line = capture.last_line();
    std::string text = "DPDK does not start: " + (line.empty() ? rte_strerror(error) : line);
    if (error == EALREADY) {
      text += "; a process can start it once";
    } else if (hugepages_) {
      text += std::string("; ") + kHugepageRemedy;
    } else if (!options.extra_args.empty()) {
      text += "; check the extra arguments";
    } else {
      text += "; lower the memory size or free some memory";
    }
    throw DpdkError(text);
  }
}

Eal::~Eal() {
  // EAL leaves its directory under /run/dpdk even where it keeps nothing in it.
  const std::string directory = rte_eal_get_runtime_dir();
  rte_eal_cleanup();
  ::rmdir(directory.c_str());  // refuses if something is in it
}

std::string Eal::version() { return rte_version(); }

LogCapture::LogCapture() : mark_(LogStream::instance().begin_capture()) {}
LogCapture::~LogCapture() { LogStream::instance().end_capture(); }

std::string LogCapture::last_line() const {
  std::string line = LogStream::instance().last_since(mark_);
  // "eth_dev_close(): text" -> "text"; "EAL: text" -> "text"
  const size_t function = line.find("(): ");
  if (function != std::string::npos) line.erase(0, function + 4);
  if (line.starts_with("EAL: ")) line.erase(0, 5);
  return line;
}

}  // namespace postern
