// One DPDK device, one queue each way, one thread. Answers ARP and neighbor discovery for the
// client addresses by itself.
#pragma once

#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "options.h"

namespace postern::perf {

struct LinkCounters {
  uint64_t rx_packets = 0;
  uint64_t rx_bytes = 0;  // frames without FCS
  uint64_t tx_packets = 0;
  uint64_t tx_bytes = 0;
  uint64_t tx_dropped = 0;  // the device took nothing for so long that frames were given up
};

class Link {
 public:
  static constexpr unsigned kBurst = 64;

  // Starts DPDK and the device. Throws std::runtime_error that names what failed.
  explicit Link(const Options& options);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Receives up to kBurst IP frames, of the family of our addresses, each in one piece. The caller
  // frees them.
  std::span<rte_mbuf*> receive() noexcept;

  // Frames that can be sent before the caller has to receive again.
  unsigned room() const noexcept { return kPending - static_cast<unsigned>(pending_count_); }

  // An empty frame of `length` bytes; nullptr when the pool is dry.
  rte_mbuf* allocate(uint16_t length) noexcept {
    rte_mbuf* m = rte_pktmbuf_alloc(pool_);
    if (m != nullptr) m->data_len = static_cast<uint16_t>(m->pkt_len = length);
    return m;
  }

  // Takes the frame over. room() must not be 0.
  void send(rte_mbuf* m) noexcept {
    counters_.tx_bytes += m->pkt_len;
    pending_[pending_count_++] = m;
    if (pending_count_ - flushed_ >= kBurst) flush();
  }

  // Gives pending frames to the device; what it does not take stays pending.
  void flush() noexcept;

  // Asks by ARP or neighbor discovery until the peer answers. False after `seconds`.
  bool resolve_peer(double seconds);

  const rte_ether_addr& mac() const noexcept { return mac_; }
  const rte_ether_addr& peer_mac() const noexcept { return peer_mac_; }
  const LinkCounters& counters() const noexcept { return counters_; }

 private:
  static constexpr size_t kPending = 4096;

  void start_eal(const Options& options);
  void start_port(const Options& options);
  void ask_peer();
  void on_arp(const rte_mbuf* request) noexcept;
  void send_arp(uint16_t opcode, const rte_ether_addr& to, uint32_t sender, uint32_t target);
  // True: the frame was neighbor discovery or another matter of ICMPv6, and is done with.
  bool take_icmp6(const rte_mbuf* m) noexcept;  // link_nd.cc
  void send_nd(uint8_t type, const rte_ether_addr& to, const uint8_t* destination, uint32_t local,
               const uint8_t* target);
  bool is_local(uint32_t low) const noexcept { return low - local_.low < clients_; }
  void give_up_if_stuck(uint16_t taken) noexcept;

  uint16_t port_ = 0;
  rte_mempool* pool_ = nullptr;
  std::vector<rte_mbuf*> pending_;
  size_t pending_count_ = 0;
  size_t flushed_ = 0;  // pending frames that the device has already refused once
  uint64_t stuck_since_ = 0;
  rte_mbuf* burst_[kBurst] = {};
  rte_ether_addr mac_{};
  rte_ether_addr peer_mac_{};
  bool peer_known_ = false;
  const HostAddress local_, peer_;
  const uint32_t clients_;
  const rte_be16_t ether_type_;  // of what receive() gives
  LinkCounters counters_;
};

}  // namespace postern::perf
