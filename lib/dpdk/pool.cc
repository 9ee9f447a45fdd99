#include "dpdk/pool.h"

#include <algorithm>

#include "dpdk/compat.h"
#include "dpdk/eal.h"

namespace postern {

PacketPool::PacketPool(const std::string& name, uint32_t buffers, uint32_t frame, int socket)
    : size_(buffers) {
  constexpr uint32_t kCache = 256;  // per worker; DPDK demands buffers >= 1.5 times this
  const uint32_t cache = std::min(kCache, buffers / 2);
  const uint32_t room = RTE_ALIGN_CEIL(frame, RTE_CACHE_LINE_SIZE) + RTE_PKTMBUF_HEADROOM;
  if (room > UINT16_MAX) throw DpdkError("packet buffers of " + name + ": frames are too long");
  pool_ =
      rte_pktmbuf_pool_create(name.c_str(), buffers, cache, 0, static_cast<uint16_t>(room), socket);
  if (pool_ == nullptr) {
    const uint64_t bytes = uint64_t{buffers} * (room + sizeof(rte_mbuf));
    throw DpdkError("packet buffers of " + name + ": " + std::to_string(buffers) + " of " +
                    std::to_string(room) + " bytes (" + std::to_string(bytes >> 20) +
                    " MiB): " + rte_strerror(rte_errno) + "; raise the memory size");
  }
}

PacketPool::~PacketPool() { rte_mempool_free(pool_); }

uint32_t PacketPool::in_use() const { return rte_mempool_in_use_count(pool_); }

}  // namespace postern
