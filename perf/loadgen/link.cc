#include "link.h"

#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <sched.h>

#include <array>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "link_nd.h"

namespace postern::perf {
namespace {

constexpr unsigned kPoolSize = 16383;
constexpr unsigned kPoolCache = 256;
constexpr uint16_t kDescriptors = 1024;

int first_allowed_core() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) return i;
  }
  return 0;
}

unsigned long free_hugepages() {
  std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  unsigned long count = 0;
  file >> count;
  return count;
}

}  // namespace

Link::Link(const Options& options)
    : pending_(kPending),
      local_(options.local),
      peer_(options.peer),
      clients_(options.clients),
      ether_type_(rte_cpu_to_be_16(options.local.v6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4)) {
  start_eal(options);
  start_port(options);
  if (options.peer_mac) {
    peer_mac_ = *options.peer_mac;
    peer_known_ = true;
  }
}

Link::~Link() {
  flush();
  for (size_t i = 0; i < pending_count_; ++i) rte_pktmbuf_free(pending_[i]);
  rte_eth_dev_stop(port_);
  rte_eth_dev_close(port_);
  rte_eal_cleanup();
}

void Link::start_eal(const Options& options) {
  const int core = options.core >= 0 ? options.core : first_allowed_core();
  std::vector<std::string> args = {"loadgen",
                                   "--no-pci",
                                   "--no-telemetry",
                                   "--log-level=error",
                                   "--lcores=0@" + std::to_string(core),
                                   "--file-prefix=" + options.file_prefix};
  // 128 MiB hold the pool; hugepages spare TLB misses but are not needed.
  if (free_hugepages() >= 64) {
    args.emplace_back("--in-memory");
  } else {
    args.insert(args.end(), {"--no-huge", "-m", "256"});
  }
  args.insert(args.end(), options.eal.begin(), options.eal.end());
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0) {
    throw std::runtime_error(std::string("DPDK did not start: ") + rte_strerror(rte_errno));
  }
}

void Link::start_port(const Options& options) {
  const size_t comma = options.vdev.find(',');
  const std::string name = options.vdev.substr(0, comma);
  const std::string args = comma == std::string::npos ? "" : options.vdev.substr(comma + 1);
  if (rte_eal_hotplug_add("vdev", name.c_str(), args.c_str()) != 0 ||
      rte_eth_dev_get_port_by_name(name.c_str(), &port_) != 0) {
    throw std::runtime_error("device '" + options.vdev +
                             "' could not be opened: " + rte_strerror(rte_errno));
  }
  const uint16_t room = static_cast<uint16_t>(
      std::max<unsigned>(RTE_MBUF_DEFAULT_BUF_SIZE, RTE_PKTMBUF_HEADROOM + options.mtu + 64u));
  pool_ = rte_pktmbuf_pool_create("loadgen", kPoolSize, kPoolCache, 0, room, SOCKET_ID_ANY);
  if (pool_ == nullptr) throw std::runtime_error("no memory for packet buffers");

  rte_eth_conf conf{};
  rte_eth_dev_info info{};
  if (const int error = rte_eth_dev_info_get(port_, &info); error != 0) {
    throw std::runtime_error("device '" + options.vdev +
                             "' says nothing of itself: " + rte_strerror(-error));
  }
  // Devices without a wire carry frames of any size, and some refuse to be told so.
  const uint32_t most = info.max_rx_pktlen - RTE_ETHER_HDR_LEN - RTE_ETHER_CRC_LEN;
  conf.rxmode.mtu = std::min<uint32_t>(options.mtu, most);
  if (info.max_mtu != 0) conf.rxmode.mtu = std::min<uint32_t>(conf.rxmode.mtu, info.max_mtu);
  uint16_t rx = kDescriptors, tx = kDescriptors;
  if (rte_eth_dev_configure(port_, 1, 1, &conf) != 0 ||
      rte_eth_dev_adjust_nb_rx_tx_desc(port_, &rx, &tx) != 0 ||
      rte_eth_rx_queue_setup(port_, 0, rx, SOCKET_ID_ANY, nullptr, pool_) != 0 ||
      rte_eth_tx_queue_setup(port_, 0, tx, SOCKET_ID_ANY, nullptr) != 0 ||
      rte_eth_dev_start(port_) != 0) {
    throw std::runtime_error("device '" + options.vdev +
                             "' could not be started: " + rte_strerror(rte_errno));
  }
  rte_eth_promiscuous_enable(port_);
  rte_eth_macaddr_get(port_, &mac_);
  if (options.mac) mac_ = *options.mac;
}

std::span<rte_mbuf*> Link::receive() noexcept {
  const uint16_t received = rte_eth_rx_burst(port_, 0, burst_, kBurst);
  uint16_t kept = 0;
  for (uint16_t i = 0; i < received; ++i) {
    if (i + 4 < received) rte_prefetch0(rte_pktmbuf_mtod(burst_[i + 4], void*));
    rte_mbuf* m = burst_[i];
    counters_.rx_bytes += m->pkt_len;
    const auto* ether = rte_pktmbuf_mtod(m, const rte_ether_hdr*);
    const bool ours = m->nb_segs == 1 && ether->ether_type == ether_type_;
    if (ours && !(local_.v6 && take_icmp6(m))) {
      burst_[kept++] = m;
      continue;
    }
    if (!local_.v6 && ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_ARP)) on_arp(m);
    rte_pktmbuf_free(m);
  }
  counters_.rx_packets += received;
  return {burst_, kept};
}

void Link::flush() noexcept {
  size_t done = 0;
  while (done < pending_count_) {
    const auto count = static_cast<uint16_t>(std::min<size_t>(pending_count_ - done, 256));
    const uint16_t taken = rte_eth_tx_burst(port_, 0, &pending_[done], count);
    done += taken;
    if (taken < count) break;
  }
  counters_.tx_packets += done;
  pending_count_ -= done;
  if (pending_count_ != 0 && done != 0) {
    std::memmove(pending_.data(), &pending_[done], pending_count_ * sizeof pending_[0]);
  }
  flushed_ = pending_count_;
  give_up_if_stuck(static_cast<uint16_t>(done));
}

// Both ends of a link may wait for each other to receive; whoever gives up first frees both.
void Link::give_up_if_stuck(uint16_t taken) noexcept {
  if (pending_count_ < kPending / 2 || taken != 0) {
    stuck_since_ = 0;
    return;
  }
  const uint64_t now = rte_rdtsc();
  if (stuck_since_ == 0) stuck_since_ = now;
  if (now - stuck_since_ < rte_get_tsc_hz() / 100) return;
  for (size_t i = 0; i < pending_count_; ++i) rte_pktmbuf_free(pending_[i]);
  counters_.tx_dropped += pending_count_;
  pending_count_ = flushed_ = 0;
  stuck_since_ = 0;
}

bool Link::resolve_peer(double seconds) {
  const uint64_t start = rte_rdtsc();
  const uint64_t hz = rte_get_tsc_hz();
  uint64_t asked = 0;
  while (!peer_known_) {
    const uint64_t now = rte_rdtsc();
    if (static_cast<double>(now - start) > seconds * static_cast<double>(hz)) return false;
    if (asked == 0 || now - asked > hz / 10) {
      ask_peer();
      asked = now;
    }
    for (rte_mbuf* m : receive()) rte_pktmbuf_free(m);
    flush();
  }
  return true;
}

void Link::ask_peer() {
  if (local_.v6) {
    // RFC 4291 2.7.1: the solicited-node group of the peer; RFC 2464 7: its MAC address.
    const std::array<uint8_t, 16> target = peer_.bytes(peer_.low);
    const std::array<uint8_t, 16> group = {0xff, 2, 0, 0, 0,    0,          0,          0,
                                           0,    0, 0, 1, 0xff, target[13], target[14], target[15]};
    const rte_ether_addr to = {{0x33, 0x33, group[12], group[13], group[14], group[15]}};
    return send_nd(kNeighborSolicitation, to, group.data(), local_.low, target.data());
  }
  static constexpr rte_ether_addr kBroadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  send_arp(RTE_ARP_OP_REQUEST, kBroadcast, local_.low, peer_.low);
}

void Link::on_arp(const rte_mbuf* m) noexcept {
  if (m->data_len < sizeof(rte_ether_hdr) + sizeof(rte_arp_hdr)) return;
  const auto* arp = rte_pktmbuf_mtod_offset(m, const rte_arp_hdr*, sizeof(rte_ether_hdr));
  const uint32_t sender = rte_be_to_cpu_32(arp->arp_data.arp_sip);
  const uint32_t target = rte_be_to_cpu_32(arp->arp_data.arp_tip);
  if (sender == peer_.low && !peer_known_) {
    peer_mac_ = arp->arp_data.arp_sha;
    peer_known_ = true;
  }
  if (arp->arp_opcode == RTE_BE16(RTE_ARP_OP_REQUEST) && is_local(target) && room() != 0) {
    send_arp(RTE_ARP_OP_REPLY, arp->arp_data.arp_sha, target, sender);
  }
}

void Link::send_arp(uint16_t opcode, const rte_ether_addr& to, uint32_t sender, uint32_t target) {
  rte_mbuf* m = allocate(sizeof(rte_ether_hdr) + sizeof(rte_arp_hdr));
  if (m == nullptr) return;
  auto* ether = rte_pktmbuf_mtod(m, rte_ether_hdr*);
  ether->dst_addr = to;
  ether->src_addr = mac_;
  ether->ether_type = RTE_BE16(RTE_ETHER_TYPE_ARP);
  auto* arp = reinterpret_cast<rte_arp_hdr*>(ether + 1);
  *arp = rte_arp_hdr{};
  arp->arp_hardware = RTE_BE16(RTE_ARP_HRD_ETHER);
  arp->arp_protocol = RTE_BE16(RTE_ETHER_TYPE_IPV4);
  arp->arp_hlen = sizeof(rte_ether_addr);
  arp->arp_plen = sizeof(uint32_t);
  arp->arp_opcode = rte_cpu_to_be_16(opcode);
  arp->arp_data.arp_sha = mac_;
  arp->arp_data.arp_sip = rte_cpu_to_be_32(sender);
  if (opcode == RTE_ARP_OP_REPLY) arp->arp_data.arp_tha = to;
  arp->arp_data.arp_tip = rte_cpu_to_be_32(target);
  send(m);
}

}  // namespace postern::perf
