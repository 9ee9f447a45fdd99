// One worker: a thread on one core that owns one queue of every port, one Stack, and its channel of
// every application. Its loop is one screen, in worker.cc.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/counters.h"
#include "dataplane/impairment.h"
#include "dataplane/mesh.h"
#include "dataplane/stages.h"
#include "shm/channel.h"
#include "stack/stack.h"

namespace postern {

class ExceptionPath;  // dataplane/exception_path.h
class Port;           // dpdk/port.h
class Worker;

enum class IdleMode : uint8_t { busy, adaptive };

// Work that the control thread has a worker do between two turns. Owned by the control thread, not
// touched by it between submit() and completed(). `run` must not block, allocate or log.
struct WorkerCall {
  void (*run)(Worker& worker, WorkerCall& call) noexcept = nullptr;
};

struct WorkerOptions {
  uint32_t index = 0;
  uint32_t count = 1;
  int core = -1;  // logical CPU
  IdleMode idle = IdleMode::adaptive;
  Duration idle_spin = 50us;     // adaptive: how long without work before sleeping
  Duration longest_nap = 250us;  // with a device that can wake nobody
  std::vector<Port*> ports;      // by interface index; the worker uses queue `index`
  // owns_tuple is the worker's to set. Interfaces as `ports`, with the ports' own offloads (less
  // where they are to be off).
  StackConfig stack;
  WorkerMesh* mesh = nullptr;          // shared by all workers; null when there is one
  ImpairmentOptions impairment;        // for tests
  ExceptionPath* exception = nullptr;  // the kernel beside it, shared by all workers; null: none
};

// A copy of counters that any thread may read.
struct PublishedCounters {
  std::array<std::atomic<uint64_t>, kCounterCount> values{};
  std::array<std::atomic<uint64_t>, kDropCount> drops{};
  std::array<std::atomic<uint64_t>, StageFigures::kWords> stages{};  // words of StageFigures
  std::atomic<uint64_t> running_ns{0};                               // since the first turn

  [[nodiscard]] StageFigures stage_figures() const noexcept;
};

class Worker {
 public:
  // Takes its memory. Throws DpdkError, std::system_error.
  explicit Worker(const WorkerOptions& options);
  ~Worker();  // stops
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // ---- control thread ----
  void start();  // throws std::system_error when the thread cannot run on its core
  void stop();   // asks, wakes and joins; calls not yet run stay so
  // One turn, for a caller that drives the worker by itself instead of start(), in a time of its
  // own; how much there was to do. What is for inside a call may then be done between turns.
  uint32_t turn(Time now) noexcept;
  [[nodiscard]] bool submit(WorkerCall* call) noexcept;  // false: mailbox full
  [[nodiscard]] WorkerCall* completed() noexcept;        // next finished call or nullptr
  // eventfd, readable when completed() has something or an application is to be evicted.
  [[nodiscard]] int attention_fd() const noexcept;
  // Next application that broke the contract, kNoApp if none. The control thread then submits a
  // call with detach().
  static constexpr AppId kNoApp = UINT16_MAX;
  [[nodiscard]] AppId evicted(const char** reason) noexcept;
  [[nodiscard]] const PublishedCounters& counters() const noexcept;
  [[nodiscard]] const WorkerOptions& options() const noexcept;

  // ---- inside WorkerCall::run ----
  [[nodiscard]] Stack& stack() noexcept;
  [[nodiscard]] Time now() const noexcept;
  // `book`: see AppMemory::book; null: taken from the heap, which costs a pause.
  void attach(AppId app, Channel* channel, void* book = nullptr) noexcept;
  // Lets the application read what getsockname() and friends answer. The worker does it itself for
  // what connects or is accepted; bind_udp() and listen() are followed by this.
  void publish_socket(SocketRef socket) noexcept;
  // The application is gone; the channel stays in use until stack().released(app).
  void detach(AppId app, bool reset) noexcept;
  // Forgets the channel. Requires stack().released(app).
  void forget(AppId app) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern
