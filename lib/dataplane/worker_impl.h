// The inside of a worker. Private to lib/dataplane; read worker.cc first.
#pragma once

#include <array>
#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/spsc_ring.h"
#include "dataplane/bell.h"
#include "dataplane/sleeper.h"
#include "dataplane/stages.h"
#include "dataplane/transmit.h"
#include "dataplane/turn_clock.h"
#include "dataplane/worker.h"
#include "dataplane/worker_apps.h"
#include "dpdk/compat.h"
#include "dpdk/pool.h"

namespace postern {

inline constexpr size_t kRxBurst = 64;
inline constexpr size_t kTxBurst = 64;
inline constexpr uint32_t kGathered = 2047;  // payloads in flight, the pool's cache included
inline constexpr size_t kTxBudget = 256;     // frames a turn
inline constexpr uint16_t kLoopPort = RTE_MAX_ETHPORTS;  // no device has this number
inline constexpr uint32_t kMailbox = 256;

struct Worker::Impl {
  Impl(Worker& worker, const WorkerOptions& o);
  ~Impl();

  void thread_main(std::promise<int>& started);
  void run() noexcept;
  uint32_t turn(Time time) noexcept;
  void leave() noexcept;

  // One step of a turn each; how much there was to do.
  uint32_t receive() noexcept;
  uint32_t receive_from(uint16_t interface) noexcept;
  uint32_t receive_handed_over() noexcept;
  uint32_t receive_looped() noexcept;
  uint32_t run_calls() noexcept;
  uint32_t send_for_kernel() noexcept;
  uint32_t egress() noexcept;
  uint32_t flush_all() noexcept;
  uint32_t publish() noexcept;
  void housekeeping() noexcept;
  void sleep() noexcept;

  size_t keep_contiguous(rte_mbuf** packets, size_t n) noexcept;
  size_t hand_over(uint16_t interface, rte_mbuf** packets, size_t n) noexcept;
  [[nodiscard]] rte_mbuf* teach_everyone(uint16_t interface, rte_mbuf* packet) noexcept;
  void give_to(uint32_t worker, rte_mbuf* packet) noexcept;
  // What fragments have made, to the worker that owns the flow. False: it is nobody else's, or
  // longer than a buffer.
  [[nodiscard]] bool give_whole(const RxPacket& whole) noexcept;
  [[nodiscard]] StackConfig stack_config();
  void deliver(rte_mbuf** packets, size_t n) noexcept;
  bool refill() noexcept;
  size_t send_whole(size_t at) noexcept;
  void gather(rte_mbuf* head, const TxFrame& frame) noexcept;
  void transmit(rte_mbuf* packet, uint16_t interface, bool impaired) noexcept;
  [[gnu::noinline]] void impair(rte_mbuf* packet, uint16_t interface) noexcept;
  void send(rte_mbuf* packet, uint16_t interface) noexcept;
  void loop(rte_mbuf* packet) noexcept;
  void release_held() noexcept;
  [[nodiscard]] Duration time_to_sleep() const noexcept;

  Worker& worker;
  const WorkerOptions options;
  PacketPool pool;  // buffers to send from, and copies
  Stack stack;
  Counters& counters;
  WorkerApps apps;
  std::optional<Bell> own_bell;
  Bell& bell;
  Bell attention;  // of the control thread
  Sleeper sleeper;
  const bool sends_for_kernel;
  std::vector<std::unique_ptr<TransmitQueue>> transmit_queues;  // by interface
  struct Arrival {
    uint16_t interface = 0;
    ChecksumVerdict unjudged = ChecksumVerdict::unknown;
  };
  std::vector<Arrival> arrivals;         // by DPDK's port id, and kLoopPort
  std::array<RxPacket, kRxBurst> views;  // of the burst in hand; here, so that nobody clears it
  std::unique_ptr<Impairment> rx_impairment;
  std::vector<std::unique_ptr<Impairment>> tx_impairment;  // by interface; empty: none

  TurnClock clock;
  StageClock stages;
  Time begun{};  // first turn
  Time now{};
  Time last_work{};
  uint32_t turns = 0;
  // Buffers to write to next, and where the stack writes in them: from first_spare to the end.
  std::array<rte_mbuf*, kTxBurst> spare{};
  std::array<TxFrame, kTxBurst> frames{};
  size_t first_spare = kTxBurst;
  bool starved = false;  // the pool had none at the last try
  // Buffers without memory of their own, for payload in an application's; null: no port gathers.
  // The count is of those in flight and one, so that nobody is called back.
  std::unique_ptr<PacketPool> gather_pool;
  rte_mbuf_ext_shared_info gathered{nullptr, nullptr, 1};
  std::array<rte_mbuf*, kTxBudget> looped{};  // sent to ourselves in this turn
  size_t looped_count = 0;

  SpscRing<WorkerCall*> mailbox{kMailbox};
  SpscRing<WorkerCall*> done{kMailbox};
  uint32_t outstanding = 0;  // control thread: submitted and not taken back
  PublishedCounters published;
  std::atomic<bool> stopping{false};
  std::thread thread;
};

}  // namespace postern
