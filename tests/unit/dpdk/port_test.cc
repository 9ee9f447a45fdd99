#include "dpdk/port.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "dpdk/burst.h"
#include "dpdk/device_arguments.h"
#include "dpdk/fds.h"
#include "eal_environment.h"

namespace postern {
namespace {

using testing::HasSubstr;

class PortTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { test::eal(); }

  static PortOptions options(const char* device) {
    PortOptions o;
    o.name = "test";
    o.device = device;
    o.rx_descriptors = o.tx_descriptors = 256;
    return o;
  }
  static std::string refusal(const PortOptions& o) {
    try {
      Port::open(o);
    } catch (const DpdkError& e) {
      return e.what();
    }
    return "";
  }
  static rte_mbuf* frame(const PacketPool& pool, uint8_t fill, uint16_t length) {
    rte_mbuf* m = rte_pktmbuf_alloc(pool.get());
    std::memset(rte_pktmbuf_append(m, length), fill, length);
    return m;
  }
};

TEST_F(PortTest, RingLoopsBackAndBuffersReturn) {
  auto port = Port::open(options("net_ring7"));
  EXPECT_EQ(port->driver(), "net_ring");
  EXPECT_EQ(port->wait_fd(0), -1);
  EXPECT_EQ(port->wake(0), Wake::none);
  EXPECT_FALSE(port->mac().is_zero());
  rte_mbuf* out[3] = {frame(port->rx_pool(), 1, 60), frame(port->rx_pool(), 2, 100),
                      frame(port->rx_pool(), 3, 1514)};
  EXPECT_EQ(tx_burst(*port, 0, out), 3);
  rte_mbuf* in[32];
  ASSERT_EQ(rx_burst(*port, 0, in), 3);
  EXPECT_EQ(rte_pktmbuf_pkt_len(in[2]), 1514U);
  EXPECT_EQ(*rte_pktmbuf_mtod(in[1], uint8_t*), 2);
  EXPECT_EQ(port->stats().rx_packets, 3U);
  EXPECT_EQ(port->stats().tx_packets, 3U);
  EXPECT_FALSE(port->extended_stats().empty());
  EXPECT_EQ(port->rx_pool().in_use(), 3U);
  rte_pktmbuf_free_bulk(in, 3);
  EXPECT_EQ(port->rx_pool().in_use(), 0U);
}

TEST_F(PortTest, ClosingMakesRoomForTheSameDevice) {
  for (int i = 0; i < 3; ++i) {
    auto port = Port::open(options("net_null3"));
    EXPECT_EQ(port->queues(), 1);
    EXPECT_THAT(port->capabilities(), HasSubstr("wake=poll"));
  }
}

TEST_F(PortTest, QueuesAsManyAsTheDeviceHas) {
  PortOptions o = options("net_null4");
  o.queues = 4;
  EXPECT_EQ(Port::open(o)->queues(), 4);
  o = options("net_pcap4,rx_iface=lo,tx_iface=lo");  // has one
  o.queues = 2;
  if (geteuid() == 0) {
    EXPECT_EQ(Port::open(o)->queues(), 1);
  }
}

TEST_F(PortTest, OwnMacAndJumboFrames) {
  PortOptions o = options("net_ring5");
  o.mac = MacAddress{{0x02, 0, 0x5e, 0x10, 0, 1}};
  o.mtu = 9000;
  auto port = Port::open(o);
  EXPECT_EQ(port->mac(), *o.mac);
  EXPECT_EQ(port->max_frame(), 9018U);
  rte_mbuf* m = rte_pktmbuf_alloc(port->rx_pool().get());
  EXPECT_GE(rte_pktmbuf_tailroom(m), port->max_frame());
  rte_pktmbuf_free(m);
}

// Devices with a filter take the list, the others pass everything anyway: both work on.
TEST_F(PortTest, GroupsOnADeviceWithoutAFilter) {
  const auto port = Port::open(options("net_null8"));
  port->set_groups({MacAddress{{1, 0, 0x5e, 1, 2, 3}}, MacAddress{{0x33, 0x33, 0, 0, 0, 1}}});
  port->set_groups({});
  port->set_groups({MacAddress{{1, 0, 0x5e, 1, 2, 3}}});
  EXPECT_TRUE(port->options().all_multicast) << "asked for once the list was refused";
}

TEST_F(PortTest, AFailedProbeIsAnErrorThatHelps) {
  EXPECT_THAT(refusal(options("net_nonsense0")), HasSubstr("net_af_packet"));
  EXPECT_THAT(refusal(options("net_af_packet0")), HasSubstr("iface="));
  EXPECT_THAT(refusal(options("net_af_packet0,iface=no-such-if")),
              HasSubstr("no network interface 'no-such-if'"));
  EXPECT_THAT(refusal(options("0000:ff:1f.7")), HasSubstr("deploy/nic.sh bind"));
  PortOptions o = options("net_af_packet0,iface=lo,qpairs=3");
  o.queues = 2;
  EXPECT_THAT(refusal(o), HasSubstr("qpairs"));
  auto port = Port::open(options("net_null9"));
  EXPECT_THAT(refusal(options("net_null9")), HasSubstr("in use"));
  EXPECT_THAT(refusal(options("net_null9,size=64")), HasSubstr("there already"));
  rte_mbuf* in[4];
  EXPECT_EQ(rx_burst(*port, 0, in), 4);  // and the first goes on
  rte_pktmbuf_free_bulk(in, 4);
}

// Of memif the client owns the buffers, and frames in several of them get lost.
TEST(DeviceArguments, BuffersOfMemifHoldAFrame) {
  const auto completed = [](std::string arguments, uint32_t frame) {
    complete_memif(frame, arguments);
    return arguments;
  };
  EXPECT_EQ(completed("role=client,socket=/x", 9018), "role=client,socket=/x,bsize=9024");
  EXPECT_EQ(completed("role=client,bsize=10000", 9018), "role=client,bsize=10000");
  EXPECT_EQ(completed("role=client", 1518), "role=client");
  EXPECT_EQ(completed("role=server", 9018), "role=server") << "it takes what the client has";
}

TEST(Fds, Difference) {
  EXPECT_EQ(added({1, 4}, {1, 2, 4, 9}), (std::vector<int>{2, 9}));
  EXPECT_FALSE(is_eventfd(STDIN_FILENO));
  EXPECT_FALSE(is_bound_packet_socket(STDIN_FILENO));
}

// A network of this thread's own with a veth pair; skipped where that is not allowed.
class VethTest : public PortTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(std::system("ip link add pa type veth peer name pb && "
                          "sysctl -qw net.ipv6.conf.pa.disable_ipv6=1 "
                          "net.ipv6.conf.pb.disable_ipv6=1 && "
                          "ip link set pa up && ip link set pb up"),
              0);
  }
};

TEST_F(VethTest, PacketSocketsOfAfPacketWakeTheirQueue) {
  PortOptions a = options("net_af_packet1,iface=pa");
  a.queues = 2;
  auto left = Port::open(a);
  auto right = Port::open(options("net_af_packet2,iface=pb"));
  ASSERT_EQ(left->queues(), 2);
  ASSERT_EQ(left->wake(1), Wake::level);
  ASSERT_EQ(right->wake(0), Wake::level);
  EXPECT_NE(left->wait_fd(0), left->wait_fd(1));

  pollfd wait{right->wait_fd(0), POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 0), 0);
  rte_mbuf* m = frame(left->rx_pool(), 0xff, 64);  // broadcast
  ASSERT_EQ(tx_burst(*left, 0, {&m, 1}), 1);
  EXPECT_EQ(poll(&wait, 1, 1000), 1);
  rte_mbuf* in[8];
  ASSERT_EQ(rx_burst(*right, 0, in), 1);
  rte_pktmbuf_free(in[0]);
  EXPECT_EQ(poll(&wait, 1, 0), 0);  // level: empty again

  // Towards the port with two queues: the socket that is readable is the queue that has it.
  for (uint8_t fill = 1; fill < 40; ++fill) {
    rte_mbuf* out = frame(right->rx_pool(), fill, 64);
    ASSERT_EQ(tx_burst(*right, 0, {&out, 1}), 1);
    pollfd both[2] = {{left->wait_fd(0), POLLIN, 0}, {left->wait_fd(1), POLLIN, 0}};
    ASSERT_EQ(poll(both, 2, 1000), 1);
    const uint16_t queue = (both[0].revents & POLLIN) != 0 ? 0 : 1;
    ASSERT_EQ(rx_burst(*left, queue, in), 1);
    rte_pktmbuf_free(in[0]);
  }
}

TEST_F(VethTest, AfPacketCarriesJumboFrames) {
  PortOptions small = options("net_af_packet1,iface=pa");
  small.mtu = 9000;
  EXPECT_THAT(refusal(small), HasSubstr("ip link set pa mtu 9000"));
  ASSERT_EQ(std::system("ip link set pa mtu 9000 && ip link set pb mtu 9000"), 0);
  PortOptions a = options("net_af_packet1,iface=pa");
  PortOptions b = options("net_af_packet2,iface=pb");
  a.mtu = b.mtu = 9000;
  auto left = Port::open(a);
  auto right = Port::open(b);
  rte_mbuf* m = frame(left->rx_pool(), 0xff, 9014);
  ASSERT_EQ(tx_burst(*left, 0, {&m, 1}), 1);
  pollfd wait{right->wait_fd(0), POLLIN, 0};
  ASSERT_EQ(poll(&wait, 1, 1000), 1);
  rte_mbuf* in[8];
  ASSERT_EQ(rx_burst(*right, 0, in), 1);
  EXPECT_EQ(rte_pktmbuf_pkt_len(in[0]), 9014U);
  EXPECT_EQ(in[0]->nb_segs, 1);
  rte_pktmbuf_free(in[0]);
}

TEST_F(VethTest, TapIsReadableWhenAPacketWaits) {
  if (access("/dev/net/tun", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/net/tun";
  auto port = Port::open(options("net_tap6,iface=pt"));
  ASSERT_EQ(port->wake(0), Wake::level);
  rte_mbuf* in[8];
  while (const uint16_t n = rx_burst(*port, 0, in)) rte_pktmbuf_free_bulk(in, n);
  ASSERT_EQ(std::system("ip link set pt up && ip addr add 198.51.100.1/24 dev pt"), 0);
  const int sender = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);
  inet_pton(AF_INET, "198.51.100.2", &to.sin_addr);
  ASSERT_EQ(sendto(sender, "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 1);  // ARP
  close(sender);
  pollfd wait{port->wait_fd(0), POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 1000), 1);
  const uint16_t n = rx_burst(*port, 0, in);
  EXPECT_GT(n, 0);
  rte_pktmbuf_free_bulk(in, n);
}

}  // namespace
}  // namespace postern
