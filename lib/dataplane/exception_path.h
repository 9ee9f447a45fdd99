// The way between the workers and the kernel's stack, which lives on the same addresses: for each
// port, and each VLAN of it, that has one a tap of the kernel's, and one thread that does all
// system calls on them. Frames have no VLAN tag there; what "port" means here is an interface of
// the stack's.
//
//   worker  --pass()-->  ring of (worker, port)  -->  thread  --write()-->  tap  -->  kernel
//   port  <--  worker 0  <--  ring of the port  <--  thread  <--read()--  tap  <--  kernel
//
// What the kernel sends goes out as it is but for what Postern says itself: answers to ARP and to
// neighbor solicitations, and the questions whether an address is taken. Each TCP, UDP or echo
// packet on its way out is noted, so that its answers find the way back (flow/foreign_flows.h).
//
// Bounded on both ways: the rings by their bytes, what enters them by the stack's token buckets,
// what leaves them by a budget a turn. A worker that has nothing to pass makes no system call.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/record_ring.h"
#include "dataplane/bell.h"
#include "flow/foreign_flows.h"
#include "ip/exception_policy.h"
#include "stack/stack.h"

namespace postern {

struct ExceptionPortOptions {
  int tap = -1;  // non-blocking descriptor of a tap, closed by the path; -1: the port has none
  ExceptionPolicy policy;
  uint32_t rate = 0;         // packets a second from each worker
  uint32_t queue_bytes = 0;  // of each ring
};

class ExceptionPath {
 public:
  // `ports` by interface.
  ExceptionPath(std::vector<ExceptionPortOptions> ports, uint32_t workers,
                const HashSecret& secret);
  ~ExceptionPath();  // stops
  ExceptionPath(const ExceptionPath&) = delete;
  ExceptionPath& operator=(const ExceptionPath&) = delete;

  // ---- control thread ----
  void start();
  void stop();
  // For the stack of a worker. Valid as long as this.
  [[nodiscard]] ExceptionConfig stack_config(uint32_t worker) const;
  // Since the start; any thread.
  struct Figures {
    uint64_t to_kernel = 0;    // packets that the tap took
    uint64_t from_kernel = 0;  // packets that it gave
    uint64_t refused = 0;      // of these: what Postern says itself
    uint64_t lost = 0;         // packets that the tap did not take
  };
  [[nodiscard]] Figures figures(uint32_t port) const noexcept;

  // ---- worker 0 ----
  // The bell that rings when the kernel sends. Before start().
  void set_sender(Bell* bell) noexcept { sender_ = bell; }
  // What the kernel sends out of a port; null: the port has no tap.
  [[nodiscard]] RecordRing* from_kernel(uint32_t port) const noexcept {
    return ports_[port].from_kernel.get();
  }
  [[nodiscard]] bool pending() const noexcept;

 private:
  struct Port {
    ExceptionPortOptions options;
    std::vector<std::unique_ptr<RecordRing>> to_kernel;  // by worker
    std::unique_ptr<RecordRing> from_kernel;
    struct Counts {
      std::atomic<uint64_t> to_kernel{0}, from_kernel{0}, refused{0}, lost{0};
    };
    std::unique_ptr<Counts> counts;
  };
  struct Lane {
    ExceptionPath* path;
    uint32_t worker;
  };
  enum class Verdict : uint8_t { send, refuse };

  static bool pass(void* lane, const RxPacket& packet) noexcept;
  void run() noexcept;
  // One turn each of the thread; how many packets it moved.
  uint32_t write_taps() noexcept;
  uint32_t write_some(Port& port, RecordRing& ring) noexcept;
  uint32_t read_taps() noexcept;
  uint32_t read_some(Port& port) noexcept;
  [[nodiscard]] Verdict judge(std::span<const std::byte> frame) noexcept;
  [[nodiscard]] bool waiting_for_kernel() const noexcept;
  void sleep() noexcept;

  std::vector<Port> ports_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // by worker
  ForeignFlows conversations_;
  Bell bell_;  // the thread's
  Bell* sender_ = nullptr;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace postern
