#include "dataplane/mesh.h"

#include <algorithm>

#include "dpdk/compat.h"

namespace postern {

WorkerMesh::WorkerMesh(uint32_t workers)
    : workers_(workers), bells_(std::make_unique<Bell[]>(workers)) {
  // All rings into one worker together hold about what a port's pool sets aside for them.
  const uint32_t capacity = std::max(64U, 1024U / std::max(1U, workers - 1));
  received_.resize(size_t{workers} * workers);
  to_send_.resize(size_t{workers} * workers);
  for (size_t i = 0; i < received_.size(); ++i) {
    received_[i] = std::make_unique<Ring>(capacity);
    to_send_[i] = std::make_unique<Ring>(capacity);
  }
}

WorkerMesh::~WorkerMesh() {
  for (auto* rings : {&received_, &to_send_}) {
    for (auto& ring : *rings) {
      rte_mbuf* packet = nullptr;
      while (ring->pop(&packet)) rte_pktmbuf_free(packet);
    }
  }
}

bool WorkerMesh::pending(uint32_t worker) const noexcept {
  for (uint32_t from = 0; from < workers_; ++from) {
    const size_t i = size_t{from} * workers_ + worker;
    if (!received_[i]->empty() || !to_send_[i]->empty()) return true;
  }
  return false;
}

}  // namespace postern
