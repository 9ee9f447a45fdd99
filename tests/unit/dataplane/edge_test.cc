#include "dataplane/edge.h"

#include <gtest/gtest.h>

#include <cstring>

#include "../dpdk/eal_environment.h"
#include "dpdk/pool.h"
#include "frames.h"

namespace postern {
namespace {

constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}}, kTheirs{{2, 0, 0, 0, 0, 2}};

class EdgeTest : public testing::Test {
 protected:
  EdgeTest() { test::eal(); }
  rte_mbuf* buffer(const test::Frame& frame) {
    rte_mbuf* m = rte_pktmbuf_alloc(pool_.get());
    std::memcpy(rte_pktmbuf_append(m, static_cast<uint16_t>(frame.size())), frame.data(),
                frame.size());
    return m;
  }
  PacketPool pool_ = (test::eal(), PacketPool("edge", 127, 2048, -1));
};

TEST_F(EdgeTest, VerdictsOfTheDevice) {
  rte_mbuf* m = buffer(test::Frame(60));
  using enum ChecksumVerdict;
  const struct {
    uint64_t flags;
    ChecksumVerdict ip, l4;
  } cases[] = {
      {0, unknown, unknown},
      {RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_BAD, good, bad},
      {RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_GOOD, bad, good},
      {RTE_MBUF_F_RX_IP_CKSUM_GOOD, good, unknown},
      // From a peer on this machine that left the checksum to a device that never was.
      {RTE_MBUF_F_RX_L4_CKSUM_NONE, unknown, good},
  };
  for (const auto& c : cases) {
    m->ol_flags = c.flags;
    EXPECT_EQ(view_of(m, 0).ip_checksum, c.ip) << c.flags;
    EXPECT_EQ(view_of(m, 0).l4_checksum, c.l4) << c.flags;
    EXPECT_EQ(view_of(m, 0, unchecked).ip_checksum, c.ip) << c.flags;
    EXPECT_EQ(view_of(m, 0, unchecked).l4_checksum, c.l4 == unknown ? unchecked : c.l4) << c.flags;
  }
  m->ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
  m->vlan_tci = 0xa00a;  // priority 5
  EXPECT_EQ(view_of(m, 3).vlan, 10);
  EXPECT_EQ(view_of(m, 3).interface, 3);
  rte_pktmbuf_free(m);
}

TEST_F(EdgeTest, ChainsBecomeOneBuffer) {
  rte_mbuf* head = buffer(test::Frame(100, std::byte{1}));
  ASSERT_EQ(rte_pktmbuf_chain(head, buffer(test::Frame(50, std::byte{2}))), 0);
  ASSERT_TRUE(make_contiguous(head));
  const RxPacket p = view_of(head, 0);
  EXPECT_EQ(p.length, 150U);
  EXPECT_EQ(p.data[149], std::byte{2});
  ASSERT_EQ(rte_pktmbuf_chain(head, buffer(test::Frame(2000))), 0);
  EXPECT_FALSE(make_contiguous(head));  // longer than any frame may be
  rte_pktmbuf_free(head);
  EXPECT_EQ(pool_.in_use(), 0U);
}

// The device's work, left undone by the stack, done by finish_checksums, is what it would have
// been.
TEST_F(EdgeTest, FinishesWhatTheDeviceWasToDo) {
  const uint32_t from = 0x0a000001, to = 0x0a000002;
  const test::Frame payload(777, std::byte{0x5a});
  const test::Frame right =
      test::ipv4(kTheirs, kOurs, from, to, 17, test::udp(from, to, 7, 9, payload));
  test::Frame undone = right;
  undone.at(24) = undone.at(25) = std::byte{0};
  const uint16_t pseudo = checksum_fold(
      pseudo_header_sum(IpAddress::v4(from), IpAddress::v4(to), 17, static_cast<uint32_t>(785)));
  std::memcpy(undone.data() + 40, &pseudo, 2);

  rte_mbuf* m = rte_pktmbuf_alloc(pool_.get());
  TxFrame f;
  aim(f, m);
  ASSERT_GE(f.capacity, undone.size());
  std::memcpy(f.data, undone.data(), undone.size());
  f.length = static_cast<uint32_t>(undone.size());
  f.l2_length = 14;
  f.l3_length = 20;
  f.l4_length = 8;
  f.protocol = 17;
  f.needs_ip_checksum = f.needs_l4_checksum = true;
  seal(m, f);
  EXPECT_EQ(m->ol_flags, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM);
  finish_checksums(m);
  EXPECT_EQ(m->ol_flags & (RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_L4_MASK), 0U);
  ASSERT_EQ(rte_pktmbuf_data_len(m), right.size());
  EXPECT_EQ(std::memcmp(rte_pktmbuf_mtod(m, void*), right.data(), right.size()), 0);
  rte_pktmbuf_free(m);
}

TEST_F(EdgeTest, NothingToDoSetsNoFlag) {
  rte_mbuf* m = rte_pktmbuf_alloc(pool_.get());
  TxFrame f;
  aim(f, m);
  f.length = 42;
  seal(m, f);
  EXPECT_EQ(m->ol_flags, 0U);
  EXPECT_EQ(rte_pktmbuf_pkt_len(m), 42U);
  rte_pktmbuf_free(m);
}

}  // namespace
}  // namespace postern
