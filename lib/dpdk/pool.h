// A pool of packet buffers.
#pragma once

#include <cstdint>
#include <string>

struct rte_mempool;

namespace postern {

// Owns its memory; all buffers must be back before it is destroyed. Buffers may be taken and given
// back by any registered worker thread. Construction and destruction: control thread.
class PacketPool {
 public:
  // `frame`: bytes of the longest frame a buffer holds behind the headroom. `socket`: NUMA node, -1
  // any. Throws DpdkError.
  PacketPool(const std::string& name, uint32_t buffers, uint32_t frame, int socket);
  ~PacketPool();
  PacketPool(const PacketPool&) = delete;
  PacketPool& operator=(const PacketPool&) = delete;

  [[nodiscard]] rte_mempool* get() const { return pool_; }
  [[nodiscard]] uint32_t size() const { return size_; }
  [[nodiscard]] uint32_t in_use() const;  // not exact while workers run

 private:
  rte_mempool* pool_ = nullptr;
  uint32_t size_ = 0;
};

}  // namespace postern
