// The one header through which the project sees DPDK, and the one place that knows what differs
// between its releases. Supported: 22.11 LTS and newer. Only lib/dpdk and lib/dataplane include it.
#pragma once

// IWYU pragma: begin_exports
#include <rte_bus_vdev.h>
#include <rte_config.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_prefetch.h>
#include <rte_ring.h>
#include <rte_version.h>
// IWYU pragma: end_exports

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or newer is needed"
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define POSTERN_THREAD_SANITIZER 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define POSTERN_THREAD_SANITIZER 1
#endif
#ifdef POSTERN_THREAD_SANITIZER
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

namespace postern::compat {

// The thread sanitizer does not see what DPDK's libraries order, their rings and pools: it is told
// where buffers come from there and go there. Nothing in other builds.
#ifdef POSTERN_THREAD_SANITIZER
inline char buffers_change_hands;
inline void buffers_taken() { __tsan_acquire(&buffers_change_hands); }
inline void buffers_given() { __tsan_release(&buffers_change_hands); }
#else
inline void buffers_taken() {}
inline void buffers_given() {}
#endif

// 23.11 added the choice of the hash function to the RSS configuration; before it, Toeplitz was
// what a device did by default.
inline void use_toeplitz(rte_eth_rss_conf& conf) {
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
  conf.algorithm = RTE_ETH_HASH_FUNCTION_TOEPLITZ;
#else
  (void)conf;
#endif
}

// The value of rte_eth_link.link_speed in Mbit/s, 0 if unknown.
inline uint32_t link_mbps(const rte_eth_link& link) {
  return link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
}

}  // namespace postern::compat
