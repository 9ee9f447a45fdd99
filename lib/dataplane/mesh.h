// What joins the workers: a ring for each ordered pair and direction, and a bell for each worker.
// Received packets go to the worker that owns the flow; packets to send go to the worker that owns
// a queue of a port that has fewer queues than there are workers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/spsc_ring.h"
#include "dataplane/bell.h"

struct rte_mbuf;

namespace postern {

// Made by the control thread before the workers, destroyed after them; what is still in flight
// then goes back to its pool, so the ports must outlive it.
class WorkerMesh {
 public:
  explicit WorkerMesh(uint32_t workers);
  ~WorkerMesh();
  WorkerMesh(const WorkerMesh&) = delete;
  WorkerMesh& operator=(const WorkerMesh&) = delete;

  using Ring = SpscRing<rte_mbuf*>;
  [[nodiscard]] uint32_t workers() const noexcept { return workers_; }
  // from != to. Pushed by worker `from`, popped by worker `to`.
  [[nodiscard]] Ring& received(uint32_t from, uint32_t to) noexcept {
    return *received_[from * workers_ + to];
  }
  [[nodiscard]] Ring& to_send(uint32_t from, uint32_t to) noexcept {
    return *to_send_[from * workers_ + to];
  }
  [[nodiscard]] Bell& bell(uint32_t worker) noexcept { return bells_[worker]; }
  // Something waits for this worker.
  [[nodiscard]] bool pending(uint32_t worker) const noexcept;

 private:
  const uint32_t workers_;
  std::vector<std::unique_ptr<Ring>> received_;
  std::vector<std::unique_ptr<Ring>> to_send_;
  std::unique_ptr<Bell[]> bells_;
};

}  // namespace postern
