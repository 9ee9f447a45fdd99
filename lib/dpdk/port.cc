#include "dpdk/port.h"

#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "dpdk/compat.h"
#include "dpdk/device_arguments.h"
#include "dpdk/fds.h"
#include "dpdk/rss.h"

namespace postern {
namespace {

#ifndef AF_XDP
constexpr int AF_XDP = 44;
#endif

enum class Interrupts : uint8_t { no, ask };

// What the drivers do not say of themselves. tests/unit/dpdk and the system tests keep it true.
struct DriverTraits {
  const char* driver;
  Interrupts interrupts;  // can be asked for receive interrupts
  int socket_family;      // its queues are sockets of this family, pollable; 0: they are not
  bool any_mtu;           // carries frames of any size whatever it says of its MTU
  // The segmentation that it offers takes no segment that fills the MTU: it counts the Ethernet
  // header in, and stops sending.
  bool bad_tso;
  // Has copied a packet, from whatever memory, when tx_burst returns.
  bool copies;
  const char* remedy;  // when the probe fails
};

constexpr DriverTraits kDrivers[] = {
    {"net_af_packet", Interrupts::no, AF_PACKET, true, false, false,
     "does the process have CAP_NET_RAW?"},
    {"net_af_xdp", Interrupts::no, AF_XDP, false, false, false,
     "does the process have CAP_BPF and CAP_NET_ADMIN?"},
    {"net_tap", Interrupts::ask, 0, false, true, true,
     "does the process have CAP_NET_ADMIN and /dev/net/tun?"},
    {"net_memif", Interrupts::no, 0, true, false, true, "is the directory of its socket writable?"},
    {"net_virtio_user", Interrupts::ask, 0, false, false, false,
     "does the other side of path= listen?"},
    {"net_vhost", Interrupts::no, 0, true, false, false, "is the directory of iface= writable?"},
    {"net_ring", Interrupts::no, 0, true, false, false, ""},
    {"net_null", Interrupts::no, 0, true, false, false, ""},
    {"net_pcap", Interrupts::no, 0, true, false, false, "do the files or the interface exist?"},
};
// PCI devices: interrupts where the driver has them.
constexpr DriverTraits kOtherDriver = {"", Interrupts::ask, 0, false, false, false, ""};
// Arms its interrupt and is not heard of again (82574L under QEMU, tests/nic): naps instead.
constexpr DriverTraits kE1000 = {"net_e1000_em", Interrupts::no, 0, false, false, false, ""};

// `name` is a driver ("net_tap") or a device of it ("net_tap0").
const DriverTraits& traits_of(std::string_view name) {
  for (const DriverTraits& t : kDrivers) {
    if (name.starts_with(t.driver)) return t;
  }
  if (name == kE1000.driver) return kE1000;
  return kOtherDriver;
}

std::string known_drivers() {
  std::string list;
  for (const DriverTraits& t : kDrivers) list += (list.empty() ? "" : ", ") + std::string(t.driver);
  return list;
}

std::string error_text(int error) { return rte_strerror(error < 0 ? -error : error); }

void check(int result, const char* what) {
  if (result < 0) throw DpdkError(std::string(what) + ": " + error_text(result));
}

}  // namespace

std::unique_ptr<Port> Port::open(const PortOptions& options) {
  std::unique_ptr<Port> port(new Port);
  port->options_ = options;
  try {
    port->attach_device();
    const bool ask =
        options.rx_interrupts && traits_of(port->driver_).interrupts == Interrupts::ask;
    try {
      port->configure(ask);
    } catch (const DpdkError&) {
      if (!ask) throw;
      port->configure(false);  // a device may know interrupts and its bus not
    }
  } catch (const DpdkError& e) {
    throw DpdkError("port " + options.name + " (" + options.device + "): " + e.what());
  }
  return port;
}

// Finds the device that EAL probed, or makes the virtual one.
void Port::attach_device() {
  const std::string pci = pci_address(options_.device);
  const size_t comma = options_.device.find(',');
  device_ = pci.empty() ? options_.device.substr(0, comma) : pci;
  std::string arguments = comma == std::string::npos ? "" : options_.device.substr(comma + 1);
  uint16_t id = UINT16_MAX;
  if (rte_eth_dev_get_port_by_name(device_.c_str(), &id) != 0) {
    if (!pci.empty()) {
      throw DpdkError(
          "DPDK does not drive this device; bind it with deploy/nic.sh bind, and see that "
          "no other process uses it");
    }
    id = make_virtual(arguments);
  } else if (!arguments.empty()) {
    throw DpdkError("the device '" + device_ + "' is there already; give each its own number");
  }
  rte_eth_dev_owner owner{};
  check(rte_eth_dev_owner_new(&owner.id), "owner");
  options_.name.copy(owner.name, sizeof(owner.name) - 1);
  if (rte_eth_dev_owner_set(id, &owner) != 0) {
    throw DpdkError("the device '" + device_ + "' is in use by another port");
  }
  id_ = id;  // ours to close from now on
  rte_eth_dev_info info{};
  check(rte_eth_dev_info_get(id_, &info), "device information");
  driver_ = info.driver_name == nullptr ? "" : info.driver_name;
  socket_ = rte_eth_dev_socket_id(id_);
}

uint16_t Port::make_virtual(std::string arguments) {
  const DriverTraits& traits = traits_of(device_);
  if (traits.driver == std::string_view("net_af_packet")) complete_af_packet(options_, arguments);
  if (traits.driver == std::string_view("net_memif")) complete_memif(max_frame(), arguments);
  const LogCapture capture;
  const std::vector<int> before = sockets_of_family(AF_PACKET);
  const int result = rte_eal_hotplug_add("vdev", device_.c_str(), arguments.c_str());
  hotplugged_ = result == 0;
  uint16_t id = UINT16_MAX;
  // A probe may fail and yet return 0: only the port counts.
  if (rte_eth_dev_get_port_by_name(device_.c_str(), &id) != 0) {
    const std::string line = capture.last_line();
    std::string text = "the driver refuses" + (line.empty() ? "" : " (" + line + ")");
    if (traits.driver[0] == '\0') text += "; drivers known here: " + known_drivers();
    if (traits.remedy[0] != '\0') text += std::string("; ") + traits.remedy;
    throw DpdkError(text);
  }
  packet_fds_ = added(before, sockets_of_family(AF_PACKET));
  return id;
}

void Port::configure(bool interrupts) {
  rte_eth_dev_info info{};
  check(rte_eth_dev_info_get(id_, &info), "device information");
  const DriverTraits& traits = traits_of(driver_);
  queues_ = std::min({options_.queues, info.max_rx_queues, info.max_tx_queues});
  if (queues_ == 0) throw DpdkError("the device has no queue");
  if (options_.mtu > info.max_mtu && !traits.any_mtu) {
    throw DpdkError("MTU " + std::to_string(options_.mtu) + " is more than the device's " +
                    std::to_string(info.max_mtu));
  }

  rte_eth_conf conf{};
  conf.intr_conf.rxq = interrupts ? 1 : 0;
  conf.rxmode.mtu = options_.mtu;
  if (traits.any_mtu) {  // it would refuse what it can carry
    const uint32_t most = info.max_rx_pktlen - RTE_ETHER_HDR_LEN - RTE_ETHER_CRC_LEN;
    conf.rxmode.mtu = std::min<uint32_t>(options_.mtu, std::min<uint32_t>(most, info.max_mtu));
  }
  uint64_t rx = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
  if (!options_.vlans.empty()) rx |= RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
  uint64_t tx = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
  if (options_.checksum_offload && options_.checksums) {
    rx |=
        RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
    tx |=
        RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    if (options_.tso && !traits.bad_tso) tx |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
  }
  conf.rxmode.offloads = rx & info.rx_offload_capa;
  conf.txmode.offloads = tx & info.tx_offload_capa;
  const auto has = [](uint64_t set, uint64_t all) { return (set & all) == all; };
  rx_offloads_.ip_checksum = has(conf.rxmode.offloads, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
  rx_offloads_.l4_checksum =
      has(conf.rxmode.offloads, RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
  rx_offloads_.vlan_strip = has(conf.rxmode.offloads, RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
  tx_offloads_.ip_checksum = has(conf.txmode.offloads, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
  const bool by_device =
      has(conf.txmode.offloads, RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
  tx_offloads_.l4_checksum = !options_.checksums ? L4Checksum::none
                             : by_device         ? L4Checksum::device
                                                 : L4Checksum::software;
  multi_segment_tx_ = has(conf.txmode.offloads, RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
  tx_offloads_.gather = options_.gather && traits.copies && multi_segment_tx_ &&
                        tx_offloads_.l4_checksum != L4Checksum::software &&
                        argument(options_.device, "zero-copy") != "yes";
  tx_offloads_.tso =
      has(conf.txmode.offloads, RTE_ETH_TX_OFFLOAD_TCP_TSO) && multi_segment_tx_ && by_device;

  std::array<uint8_t, rss::kMaxKeyBytes> key = rss::key();
  const uint64_t hashes =
      (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP) & info.flow_type_rss_offloads;
  const bool want_rss = queues_ > 1 && hashes != 0 && info.hash_key_size <= key.size();
  if (want_rss) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = hashes;
    conf.rx_adv_conf.rss_conf.rss_key = key.data();
    conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size == 0 ? 40 : info.hash_key_size;
    compat::use_toeplitz(conf.rx_adv_conf.rss_conf);
  }
  check(rte_eth_dev_configure(id_, queues_, queues_, &conf), "configuring");
  apply_mtu_and_mac();
  setup_queues();
  check(rte_eth_dev_start(id_), "starting");
  started_ = true;
  if (options_.promiscuous) check(rte_eth_promiscuous_enable(id_), "promiscuous mode");
  // Devices without such a filter (af_packet, memif) receive groups anyway.
  if (options_.all_multicast) (void)rte_eth_allmulticast_enable(id_);
  if (has(conf.rxmode.offloads, RTE_ETH_RX_OFFLOAD_VLAN_FILTER)) admit_vlans();
  if (want_rss) program_rss();
  find_wait_fds(interrupts);
}

void Port::apply_mtu_and_mac() {
  if (!traits_of(driver_).any_mtu) {
    const int result = rte_eth_dev_set_mtu(id_, options_.mtu);
    uint16_t current = 0;
    rte_eth_dev_get_mtu(id_, &current);
    if (result < 0 && current != options_.mtu) {
      throw DpdkError("the device does not take an MTU of " + std::to_string(options_.mtu) + ": " +
                      error_text(result) + "; it has " + std::to_string(current));
    }
  }
  rte_ether_addr address{};
  // What is the device's is the kernel's end's too, and the kernel talks to nobody who has its own.
  const bool shared = driver_ == "net_tap";
  if (options_.mac && !shared) {
    std::memcpy(address.addr_bytes, options_.mac->bytes.data(), RTE_ETHER_ADDR_LEN);
    const int set = rte_eth_dev_default_mac_addr_set(id_, &address);
    // A device without an address filter receives for any address; ours is then the stack's alone.
    if (set < 0 && set != -ENOTSUP) check(set, "setting the MAC address");
    mac_ = *options_.mac;
    return;
  }
  check(rte_eth_macaddr_get(id_, &address), "MAC address");
  std::memcpy(mac_.bytes.data(), address.addr_bytes, RTE_ETHER_ADDR_LEN);
  if (shared) mac_.bytes[5] ^= 1;
  if (options_.mac) mac_ = *options_.mac;
  if (mac_.is_zero()) {  // net_ring and net_null have none: a local one, different per port
    mac_ = {{0x02, 'p', 's', 't', static_cast<uint8_t>(id_ >> 8), static_cast<uint8_t>(id_)}};
  }
}

void Port::setup_queues() {
  uint16_t rx = options_.rx_descriptors;
  uint16_t tx = options_.tx_descriptors;
  check(rte_eth_dev_adjust_nb_rx_tx_desc(id_, &rx, &tx), "descriptors");
  // In flight at once: the device's, a burst in hand, the caches, and what waits in hand-off rings.
  constexpr uint32_t kPerQueue = 64 + 2 * 512 + 1024;
  if (rx_pool_ == nullptr) {
    // net_af_packet wants room for a whole slot, however small the frames are.
    const uint32_t frame = traits_of(driver_).socket_family == AF_PACKET
                               ? af_packet_slot(options_.mtu)
                               : std::max(max_frame(), 2048U);
    // net_af_xdp sends from this pool as well. Its fill ring holds 2,048, and it empties its
    // completion ring of 2,048 only when half of that is waiting.
    const uint32_t rings = traits_of(driver_).socket_family == AF_XDP ? 2 * 2048 : 0;
    const uint32_t buffers = queues_ * (uint32_t{rx} + kPerQueue + rings);
    rx_pool_ = std::make_unique<PacketPool>("rx" + std::to_string(id_), buffers, frame, socket_);
  }
  std::vector<int> xdp_before = sockets_of_family(AF_XDP);
  for (uint16_t queue = 0; queue < queues_; ++queue) {
    const unsigned socket = static_cast<unsigned>(socket_);
    check(rte_eth_rx_queue_setup(id_, queue, rx, socket, nullptr, rx_pool_->get()),
          "receive queue");
    check(rte_eth_tx_queue_setup(id_, queue, tx, socket, nullptr), "transmit queue");
  }
  if (traits_of(driver_).socket_family == AF_XDP) {
    packet_fds_ = added(xdp_before, sockets_of_family(AF_XDP));
  }
}

// Makes the device spread flows exactly as rss::worker_of does, if its table lets it.
void Port::program_rss() {
  rte_eth_dev_info info{};
  if (rte_eth_dev_info_get(id_, &info) != 0 || info.reta_size == 0) return;
  constexpr unsigned kGroup = RTE_ETH_RETA_GROUP_SIZE;
  std::vector<rte_eth_rss_reta_entry64> table((info.reta_size + kGroup - 1) / kGroup);
  for (uint32_t i = 0; i < info.reta_size; ++i) {
    table[i / kGroup].mask |= uint64_t{1} << i % kGroup;
    table[i / kGroup].reta[i % kGroup] = static_cast<uint16_t>(rss::worker_of(i, queues_));
  }
  const int result = rte_eth_dev_rss_reta_update(id_, table.data(), info.reta_size);
  rx_offloads_.rss = result == 0 && info.reta_size % rss::kBuckets == 0;
}

// A device that filters tags has an empty filter at first, virtio even if nobody asked for one.
void Port::admit_vlans() {
  (void)rte_eth_dev_vlan_filter(id_, 0, 1);  // priority tags; some take them anyway and say no
  for (const uint16_t vlan : options_.vlans) {
    check(rte_eth_dev_vlan_filter(id_, vlan, 1), "admitting a VLAN");
  }
}

void Port::find_wait_fds(bool interrupts) {
  waits_.assign(queues_, {});
  const int family = traits_of(driver_).socket_family;
  if (family != 0) {
    // Drivers open the sockets of their queues in order, so their numbers ascend.
    std::vector<int> fds;
    for (int fd : packet_fds_) {
      if (family != AF_PACKET || is_bound_packet_socket(fd)) fds.push_back(fd);
    }
    if (fds.size() != queues_) return;
    for (uint16_t queue = 0; queue < queues_; ++queue) waits_[queue] = {Wake::level, fds[queue]};
    return;
  }
  if (!interrupts) return;
  for (uint16_t queue = 0; queue < queues_; ++queue) {
    const int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(id_, queue);
    if (fd < 0) continue;
    waits_[queue] = {is_eventfd(fd) ? Wake::event : Wake::level, fd};
  }
}

Port::~Port() {
  if (started_) rte_eth_dev_stop(id_);
  if (id_ != UINT16_MAX) rte_eth_dev_close(id_);
  if (hotplugged_) rte_eal_hotplug_remove("vdev", device_.c_str());
}

void Port::set_groups(const std::vector<MacAddress>& groups) {
  if (options_.all_multicast) return;
  static_assert(sizeof(MacAddress) == sizeof(rte_ether_addr));
  std::vector<rte_ether_addr> list(groups.size());
  if (!list.empty()) std::memcpy(list.data(), groups.data(), groups.size() * sizeof list[0]);
  if (rte_eth_dev_set_mc_addr_list(id_, list.data(), static_cast<uint32_t>(list.size())) == 0)
    return;
  if (groups.empty()) return;
  options_.all_multicast = true;
  (void)rte_eth_allmulticast_enable(id_);  // fails where there is no filter at all
}

uint32_t Port::max_frame() const {
  return uint32_t{options_.mtu} + RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
}

bool Port::arm_rx(uint16_t queue) const noexcept {
  return rte_eth_dev_rx_intr_enable(id_, queue) == 0;
}

void Port::disarm_rx(uint16_t queue) const noexcept { rte_eth_dev_rx_intr_disable(id_, queue); }

std::string Port::capabilities() const {
  std::string text;
  const auto add = [&text](bool has, std::string_view name) {
    if (has) text += (text.empty() ? "" : " ") + std::string(name);
  };
  // Of TCP and UDP. virtio leaves that of the IPv4 header to us, which costs next to nothing.
  add(rx_offloads_.l4_checksum, "rx-checksum");
  add(tx_offloads_.l4_checksum == L4Checksum::device, "tx-checksum");
  add(!options_.checksums, "no-checksums");
  add(tx_offloads_.tso, "tso");
  add(multi_segment_tx_, "multi-segment");
  add(tx_offloads_.gather, "gather");
  add(rx_offloads_.vlan_strip, "vlan-strip");
  add(rx_offloads_.rss, "rss");
  const Wake wake = waits_.empty() ? Wake::none : waits_.front().wake;
  add(true, wake == Wake::none ? "wake=poll" : wake == Wake::level ? "wake=fd" : "wake=interrupt");
  return text;
}

LinkState Port::link() const {
  rte_eth_link link{};
  if (rte_eth_link_get_nowait(id_, &link) != 0) return {};
  return {link.link_status == RTE_ETH_LINK_UP, link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX,
          compat::link_mbps(link)};
}

PortStats Port::stats() const {
  rte_eth_stats s{};
  if (rte_eth_stats_get(id_, &s) != 0) return {};
  return {s.ipackets, s.ibytes, s.opackets, s.obytes, s.imissed, s.ierrors, s.rx_nombuf, s.oerrors};
}

std::vector<std::pair<std::string, uint64_t>> Port::extended_stats() const {
  const int count = rte_eth_xstats_get_names(id_, nullptr, 0);
  if (count <= 0) return {};
  const auto size = static_cast<unsigned>(count);
  std::vector<rte_eth_xstat_name> names(size);
  std::vector<rte_eth_xstat> values(size);
  if (rte_eth_xstats_get_names(id_, names.data(), size) != count ||
      rte_eth_xstats_get(id_, values.data(), size) != count) {
    return {};
  }
  std::vector<std::pair<std::string, uint64_t>> result;
  for (const rte_eth_xstat& x : values) {
    if (x.id < size) result.emplace_back(names[x.id].name, x.value);
  }
  return result;
}

}  // namespace postern
