#include "control/doctor.h"

#include <linux/capability.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "control/placement.h"

namespace postern {
namespace {

namespace fs = std::filesystem;

class Examination {
 public:
  Examination(const Config* config, const Surroundings& around)
      : config_(config), around_(around) {}

  Findings run() {
    processor();
    clock();
    mounted_hugepages();
    iommu();
    if (config_ == nullptr) {
      for (const PciDevice& card : read_network_cards(around_.roots)) card_at_rest(card);
      return std::move(out_);
    }
    for (const PortConfig& port : config_->ports) {
      is_pci_address(port.device) ? pci_port(port) : virtual_port(port);
      queues(port);
    }
    permissions();
    for (Finding& f : check_placement(*config_, read_topology(around_.roots), around_.roots)) {
      out_.push_back(std::move(f));
    }
    return std::move(out_);
  }

 private:
  void good(std::string topic, std::string what) {
    out_.push_back({Severity::good, std::move(topic), std::move(what), "", ""});
  }
  void advise(std::string topic, std::string what, std::string remedy, std::string command = "") {
    out_.push_back({Severity::advice, std::move(topic), std::move(what), std::move(remedy),
                    std::move(command)});
  }
  void problem(std::string topic, std::string what, std::string remedy, std::string command = "") {
    out_.push_back({Severity::problem, std::move(topic), std::move(what), std::move(remedy),
                    std::move(command)});
  }
  [[nodiscard]] bool may(int capability) const {
    return (around_.capabilities >> capability & 1) != 0;
  }

  void processor();
  void clock();
  void mounted_hugepages();
  void iommu();
  void card_at_rest(const PciDevice& card);
  void pci_port(const PortConfig& port);
  void virtual_port(const PortConfig& port);
  void veth_port(const PortConfig& port, const std::string& interface);
  void kernel_port(const PortConfig& port, const InterfaceFacts& facts);
  void queues(const PortConfig& port);
  void permissions();
  void device_permissions(const PortConfig& port);

  const Config* config_;
  const Surroundings& around_;
  Findings out_;
};

// The line of /proc/cpuinfo that begins with "flags", blanks at both ends.
std::string cpu_flags(const SystemRoots& roots) {
  std::ifstream in(roots.proc / "cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("flags")) return line.substr(line.find(':') + 1) + ' ';
  }
  return {};
}

void Examination::processor() {
  const std::string flags = cpu_flags(around_.roots);
  if (flags.empty()) return;  // not an x86
  for (const char* needed : {"avx2", "bmi2", "fma"}) {
    if (flags.find(' ' + std::string(needed) + ' ') != flags.npos) continue;
    problem("processor", "the processor lacks " + std::string(needed),
            "use a processor of 2013 or later, or build without -march=x86-64-v3; in a guest, hand "
            "the host's processor through");
  }
}

void Examination::clock() {
  const fs::path source = around_.roots.sys / "devices/system/clocksource/clocksource0";
  const std::string current = read_line(source / "current_clocksource");
  const std::string flags = cpu_flags(around_.roots);
  const bool steady = flags.find(" constant_tsc ") != flags.npos;
  if (!flags.empty() && !steady) {
    advise("clock", "the time stamp counter may change its rate with the core's frequency",
           "workers tell time by it: use a processor, or a hypervisor's setting, with an invariant "
           "time stamp counter");
  } else if (current == "tsc" || current == "kvm-clock") {  // which is made of the counter
    good("clock", "clock source " + current);
  } else if (!current.empty()) {
    advise("clock", "the kernel's clock source is " + current + ", not tsc",
           "the kernel may have found the time stamp counter unreliable: dmesg | grep -i tsc says "
           "why; in a guest it may be the hypervisor's choice",
           "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource");
  }
}

void Examination::mounted_hugepages() {
  if (config_ != nullptr && config_->hugepages == Hugepages::off) return;
  std::ifstream in(around_.roots.proc / "mounts");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string what, where, type;
    words >> what >> where >> type;
    if (type == "hugetlbfs") return;
  }
  advise("hugepages", "no hugetlbfs is mounted", "mount one",
         "mkdir -p /dev/hugepages && mount -t hugetlbfs hugetlbfs /dev/hugepages");
}

void Examination::iommu() {
  std::error_code ignored;
  const fs::path groups = around_.roots.sys / "kernel/iommu_groups";
  if (fs::exists(groups, ignored) && !fs::is_empty(groups, ignored)) {
    good("iommu", "the IOMMU is on");
    return;
  }
  const bool needed =
      config_ != nullptr &&
      std::any_of(config_->ports.begin(), config_->ports.end(),
                  [](const PortConfig& port) { return is_pci_address(port.device); });
  if (config_ != nullptr && !needed) return;
  advise("iommu", "the IOMMU is off",
         "cards on vfio-pci need it: switch VT-d or AMD-Vi on in the firmware, and boot with "
         "intel_iommu=on iommu=pt",
         "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on iommu=pt /' /etc/default/grub && "
         "update-grub");
}

bool for_user_space(const std::string& driver) {
  return driver == "vfio-pci" || driver == "uio_pci_generic" || driver == "igb_uio";
}
// DPDK drives these through the kernel's own driver.
bool shared_with_kernel(const std::string& driver) {
  return driver == "mlx5_core" || driver == "mlx4_core" || driver == "mana";
}

std::string described(const PciDevice& card) {
  std::string text = card.address + ": driver " + (card.driver.empty() ? "none" : card.driver);
  for (const std::string& interface : card.interfaces) text += ", interface " + interface;
  return text;
}

void Examination::card_at_rest(const PciDevice& card) { good("binding", described(card)); }

void Examination::pci_port(const PortConfig& port) {
  const std::string address = port.device.substr(0, port.device.find(','));
  const auto card = read_pci_device(around_.roots, address);
  if (!card) {
    problem("binding", "port " + port.name + ": there is no PCI device " + address,
            "take an address from the list", "deploy/nic.sh status");
    return;
  }
  if (shared_with_kernel(card->driver)) {
    good("binding", described(*card) + ", which DPDK shares with the kernel");
    return;
  }
  if (!for_user_space(card->driver)) {
    problem("binding", "port " + port.name + ": " + described(*card),
            "give the card to vfio-pci; the kernel loses it", "deploy/nic.sh bind " + address);
    return;
  }
  good("binding", described(*card));
  if (card->driver == "vfio-pci" && !card->held_back.empty()) {
    problem("iommu",
            address + " shares IOMMU group " + card->iommu_group + " with " +
                card->held_back.front() + ", which the kernel uses",
            "bind the other too, or put the card into another slot",
            "deploy/nic.sh bind " + card->held_back.front().substr(0, address.size()));
  }
  if (card->driver != "vfio-pci" && !card->iommu_group.empty()) {
    advise("binding", address + " is on " + card->driver + " although there is an IOMMU",
           "use vfio-pci, which confines the card to Postern's memory",
           "deploy/nic.sh unbind " + address + " && deploy/nic.sh bind " + address);
  }
}

void Examination::virtual_port(const PortConfig& port) {
  const std::string interface = device_argument(port.device, "iface");
  const bool on_interface = port.device.starts_with("net_af_packet") ||
                            port.device.starts_with("net_af_xdp") ||
                            (port.device.starts_with("net_pcap") && !interface.empty());
  if (!on_interface || interface.empty()) return;
  const auto facts = around_.interface(interface);
  if (!facts) {
    problem("devices", "port " + port.name + ": there is no network interface " + interface,
            "take a name from the list", "ip link");
    return;
  }
  facts->driver == "veth" ? veth_port(port, interface) : kernel_port(port, *facts);
}

// The kernel at the other end of a veth hands over packets with checksums and segmentation left to
// "the hardware", which here is nobody. ping works, TCP times out.
void Examination::veth_port(const PortConfig& port, const std::string& interface) {
  const auto peer = around_.veth_peer(interface);
  if (!peer) {
    advise("offload",
           "port " + port.name + ": the other end of veth " + interface +
               " is in a namespace that cannot be looked into from here",
           "there, see that checksum and segmentation offload are off, or TCP will time out",
           "ethtool -K PEER tx off tso off gso off");
    return;
  }
  if (!peer->tx_checksum && !peer->tso && !peer->gso) {
    good("offload", "the other end of veth " + interface + " (" + peer->name +
                        ") finishes checksums and segments");
    return;
  }
  std::string undone;
  for (const auto& [on, name] :
       {std::pair(peer->tx_checksum, "checksums"), std::pair(peer->tso, "TCP segmentation"),
        std::pair(peer->gso, "segmentation")}) {
    if (on) undone += (undone.empty() ? "" : ", ") + std::string(name);
  }
  problem("offload",
          "port " + port.name + ": the kernel's end of veth " + interface + " (" + peer->name +
              ") leaves undone: " + undone,
          "switch that off at " + peer->name + ": ping works as it is, TCP times out",
          (peer->network.empty() ? "" : peer->network + " ") + "ethtool -K " + peer->name +
              " tx off tso off gso off");
}

void Examination::kernel_port(const PortConfig& port, const InterfaceFacts& facts) {
  if (!facts.gro && !facts.lro) return;
  // Joined segments are longer than the MTU and do not fit a slot of the packet socket.
  problem("offload", "port " + port.name + ": " + facts.name + " joins received segments",
          "switch that off: what is longer than the MTU is lost",
          "ethtool -K " + facts.name + " gro off lro off");
}

// Devices whose ability to spread flows over queues is known without asking DPDK. The system tests
// and the guest of tests/nic show it.
struct QueueAbility {
  const char* driver;       // of a virtual device; empty: PCI
  uint16_t vendor, device;  // of a PCI device
  const char* limit;        // what it does with several workers
};
constexpr QueueAbility kLimited[] = {
    {"net_af_xdp", 0, 0, "has one queue on a veth"},
    {"net_pcap", 0, 0, "has one queue"},
    {"net_memif", 0, 0, "leaves the choice of the queue to the sender"},
    {"net_tap", 0, 0, "has queues, but spreads flows only where the kernel has tc multiq"},
    {"", 0x8086, 0x100e, "has one queue (e1000)"},
    {"", 0x8086, 0x10d3, "has one queue under DPDK (e1000e)"},
    {"", 0x15ad, 0x07b0, "may put all flows into queue 0 (vmxnet3)"},
};

void Examination::queues(const PortConfig& port) {
  if (config_->cores.size() < 2) return;
  std::optional<PciDevice> card;
  if (is_pci_address(port.device)) {
    card = read_pci_device(around_.roots, port.device.substr(0, port.device.find(',')));
    if (!card) return;
  }
  for (const QueueAbility& limited : kLimited) {
    const bool match = card ? limited.vendor != 0 && card->vendor == limited.vendor &&
                                  card->device == limited.device
                            : *limited.driver != '\0' && port.device.starts_with(limited.driver);
    if (!match) continue;
    advise(
        "rss",
        "port " + port.name + " " + limited.limit + "; there are " +
            std::to_string(config_->cores.size()) + " workers",
        "workers hand packets over to each other, which costs: use one worker, or another device");
    return;
  }
}

void Examination::permissions() {
  for (const PortConfig& port : config_->ports) device_permissions(port);
  if (around_.locked_memory < config_->memory_size && !may(CAP_IPC_LOCK)) {
    problem("permissions",
            "locked memory is limited to " + std::to_string(around_.locked_memory >> 10) + " KiB",
            "raise it, LimitMEMLOCK=infinity in the unit", "ulimit -l unlimited");
  } else if (around_.root) {
    good("permissions", "root");
  } else {
    good("permissions", "memory may be locked");
  }
}

void Examination::device_permissions(const PortConfig& port) {
  const auto need = [this, &port](int capability, const char* name) {
    if (may(capability)) return;
    problem("permissions", "port " + port.name + " (" + port.device + ") needs " + name,
            "start posternd as root or by the systemd unit; this user has not got it");
  };
  const std::string& device = port.device;
  if (device.starts_with("net_af_packet") || device.starts_with("net_pcap")) {
    need(CAP_NET_RAW, "CAP_NET_RAW");
  } else if (device.starts_with("net_af_xdp")) {
    need(CAP_NET_ADMIN, "CAP_NET_ADMIN");
    if (!may(CAP_SYS_ADMIN)) need(CAP_BPF, "CAP_BPF");
  } else if (device.starts_with("net_tap")) {
    need(CAP_NET_ADMIN, "CAP_NET_ADMIN");
    if (!fs::exists(around_.roots.dev / "net/tun")) {
      problem("devices", "port " + port.name + ": there is no /dev/net/tun", "load the module tun",
              "modprobe tun");
    }
  }
  if (!is_pci_address(device)) return;
  const auto card = read_pci_device(around_.roots, device.substr(0, device.find(',')));
  if (!card || card->driver != "vfio-pci" || card->iommu_group.empty() || around_.root) return;
  problem("permissions", "port " + port.name + " needs /dev/vfio/" + card->iommu_group,
          "start posternd as root, or give the file to its user",
          "chown USER /dev/vfio/" + card->iommu_group);
}

}  // namespace

Findings examine(const Config* config, const Surroundings& around) {
  return Examination(config, around).run();
}

}  // namespace postern
