#include "dataplane/transmit.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "../dpdk/eal_environment.h"
#include "dpdk/pool.h"

namespace postern {
namespace {

// What waits for the device no longer refers to the application's memory, which may change then.
TEST(TransmitQueue, WhatWaitsIsCopied) {
  test::eal();
  PortOptions options;
  options.name = "waits";
  options.device = "net_null7";
  const auto port = Port::open(options);
  const PacketPool whole("waits-whole", 127, 2048, -1), bare("waits-bare", 127, 0, -1);
  rte_mbuf_ext_shared_info shared{nullptr, nullptr, 1};
  std::array<std::byte, 1000> application{};
  const auto gathered = [&] {
    rte_mbuf* head = rte_pktmbuf_alloc(whole.get());
    std::memset(rte_pktmbuf_append(head, 54), 1, 54);
    rte_mbuf* payload = rte_pktmbuf_alloc(bare.get());
    rte_mbuf_ext_refcnt_update(&shared, 1);
    rte_pktmbuf_attach_extbuf(payload, application.data(), RTE_BAD_IOVA, 1000, &shared);
    payload->data_len = 1000;
    head->next = payload;
    head->nb_segs = 2;
    head->pkt_len += 1000;
    return head;
  };
  {
    TransmitQueue queue(*port, 0, nullptr);
    std::array<rte_mbuf*, 2> packets{};
    for (size_t i = 0; i < packets.size(); ++i) {
      application.fill(std::byte{static_cast<uint8_t>(7 + i)});
      packets[i] = gathered();
      ASSERT_EQ(queue.push(packets[i]), nullptr);
      queue.copy_gathered();
    }
    application.fill(std::byte{0xee});
    EXPECT_EQ(rte_mbuf_ext_refcnt_read(&shared), 1);
    EXPECT_EQ(bare.in_use(), 0U);
    for (size_t i = 0; i < packets.size(); ++i) {
      EXPECT_EQ(packets[i]->nb_segs, 1);
      ASSERT_EQ(rte_pktmbuf_data_len(packets[i]), 1054);
      const auto* const data = rte_pktmbuf_mtod(packets[i], const uint8_t*);
      EXPECT_EQ(data[53], 1);
      EXPECT_EQ(data[54], 7 + i);
      EXPECT_EQ(data[1053], 7 + i);
    }
  }
  EXPECT_EQ(whole.in_use(), 0U);
}

}  // namespace
}  // namespace postern
