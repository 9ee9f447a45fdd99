// A network port: a PCI device or a virtual device of DPDK. Opened, closed and asked for statistics
// by the control thread; burst.h has what workers call, each on its own queue.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "dpdk/eal.h"
#include "dpdk/pool.h"
#include "wire/packet.h"

namespace postern {

struct PortOptions {
  std::string name;     // for messages and pool names
  std::string device;   // "0000:03:00.0" or "net_af_packet0,iface=veth0"
  uint16_t queues = 1;  // of each direction wanted: one per worker
  uint16_t mtu = 1500;
  uint16_t rx_descriptors = 1024;
  uint16_t tx_descriptors = 1024;
  std::optional<MacAddress> mac;  // instead of the device's own
  bool checksums = true;          // of TCP and UDP; false: neither filled in nor verified
  bool checksum_offload = true;   // use what the device has
  bool tso = true;                // with checksum_offload: leave segmentation to the device
  bool gather = true;             // without checksums of ours: payload by reference
  bool rx_interrupts = true;      // so that a sleeping worker can be woken, where there are any
  bool promiscuous = false;       // needed by nothing so far
  bool all_multicast = false;     // groups are filtered above: IPv6 needs some
  std::vector<uint16_t> vlans;    // tags wanted besides untagged frames
};

struct LinkState {
  bool up = false;  // some devices read down for seconds although packets flow: never gate on it
  bool full_duplex = true;
  uint32_t mbps = 0;  // 0: unknown
};

struct PortStats {
  uint64_t rx_packets = 0, rx_bytes = 0, tx_packets = 0, tx_bytes = 0;
  uint64_t rx_missed = 0;     // device had no room
  uint64_t rx_errors = 0;     // broken frames
  uint64_t rx_no_buffer = 0;  // pool was empty
  uint64_t tx_errors = 0;
};

struct RxOffloads {
  bool ip_checksum = false;
  bool l4_checksum = false;
  bool vlan_strip = false;
  bool rss = false;  // flows are spread over queues by the symmetric Toeplitz hash of rss.h
};

// How a sleeping worker learns of a packet.
enum class Wake : uint8_t {
  none,   // it does not: naps
  level,  // wait_fd() is readable while a packet waits
  event,  // wait_fd() is an eventfd that an interrupt, armed by arm_rx(), writes
};

class Port {
 public:
  // Opens and starts. Throws DpdkError, which names the device and the remedy.
  static std::unique_ptr<Port> open(const PortOptions& options);
  ~Port();  // stops and closes; no worker may use it any more
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  [[nodiscard]] uint16_t id() const { return id_; }  // DPDK's
  [[nodiscard]] const PortOptions& options() const { return options_; }
  // Queues of each direction that the device has, at most options().queues.
  [[nodiscard]] uint16_t queues() const { return queues_; }
  [[nodiscard]] const MacAddress& mac() const { return mac_; }
  [[nodiscard]] uint16_t mtu() const { return options_.mtu; }
  [[nodiscard]] uint32_t max_frame() const;  // bytes without FCS, one VLAN tag included
  [[nodiscard]] const std::string& driver() const { return driver_; }  // "net_af_packet"
  [[nodiscard]] const std::string& device() const { return device_; }  // DPDK's name of it
  [[nodiscard]] int socket() const { return socket_; }                 // NUMA node, -1 unknown
  [[nodiscard]] const TxOffloads& tx_offloads() const { return tx_offloads_; }
  [[nodiscard]] const RxOffloads& rx_offloads() const { return rx_offloads_; }
  [[nodiscard]] bool multi_segment_tx() const { return multi_segment_tx_; }
  // What it can do, for people: "rx-checksum tx-checksum tso multi-segment rss wake=fd".
  [[nodiscard]] std::string capabilities() const;
  [[nodiscard]] const PacketPool& rx_pool() const { return *rx_pool_; }

  // Control thread: has the device pass frames to these groups; to all, if it filters no lists.
  void set_groups(const std::vector<MacAddress>& groups);

  [[nodiscard]] LinkState link() const;
  [[nodiscard]] PortStats stats() const;
  [[nodiscard]] std::vector<std::pair<std::string, uint64_t>> extended_stats() const;

  // ---- worker that owns `queue` ----
  [[nodiscard]] Wake wake(uint16_t queue) const { return waits_[queue].wake; }
  [[nodiscard]] int wait_fd(uint16_t queue) const { return waits_[queue].fd; }  // -1: none
  // Wake::event: from now an arriving packet writes the eventfd. The caller polls once more after
  // it. False: the device refuses, nap instead.
  [[nodiscard]] bool arm_rx(uint16_t queue) const noexcept;
  void disarm_rx(uint16_t queue) const noexcept;

 private:
  struct Wait {
    Wake wake = Wake::none;
    int fd = -1;  // the driver's
  };
  Port() = default;
  void attach_device();
  uint16_t make_virtual(std::string arguments);
  void configure(bool interrupts);
  void setup_queues();
  void apply_mtu_and_mac();
  void find_wait_fds(bool interrupts);
  void program_rss();
  void admit_vlans();

  PortOptions options_;
  uint16_t id_ = UINT16_MAX;
  uint16_t queues_ = 0;
  int socket_ = -1;
  bool hotplugged_ = false;
  bool started_ = false;
  bool multi_segment_tx_ = false;
  MacAddress mac_;
  std::string driver_;
  std::string device_;
  TxOffloads tx_offloads_;
  RxOffloads rx_offloads_;
  std::unique_ptr<PacketPool> rx_pool_;
  std::vector<Wait> waits_;      // by queue
  std::vector<int> packet_fds_;  // sockets that the driver opened while probing, by number
};

}  // namespace postern
