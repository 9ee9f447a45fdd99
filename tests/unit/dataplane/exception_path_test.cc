// The thread between workers and taps. A pair of sockets plays the tap: it keeps packets apart.
#include "dataplane/exception_path.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "frames.h"
#include "wire/nd.h"

namespace postern {
namespace {

using test::Frame;

constexpr MacAddress kOurs{{2, 0, 0, 0, 0, 1}}, kPeer{{2, 0, 0, 0, 0, 2}};
constexpr uint32_t kOurAddress = 0x0a000001, kPeerAddress = 0x0a000002;

class ExceptionPathTest : public ::testing::Test {
 protected:
  ExceptionPathTest() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    kernel = pair[1];
    std::vector<ExceptionPortOptions> ports(2);  // the first one has none
    ports[1].tap = pair[0];
    ports[1].rate = 1000;
    ports[1].queue_bytes = 256 << 10;
    path = std::make_unique<ExceptionPath>(std::move(ports), 2, HashSecret{1, 2, 3, 4});
    path->set_sender(&bell);
    path->start();
  }
  ~ExceptionPathTest() override {
    path->stop();
    close(kernel);
  }
  bool pass(const Frame& frame, uint32_t worker = 0) {
    const ExceptionConfig config = path->stack_config(worker);
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    packet.interface = 1;
    return config.pass(config.opaque, packet);
  }
  Frame to_kernel() {
    pollfd wait{kernel, POLLIN, 0};
    poll(&wait, 1, 2000);
    Frame frame(2000);
    const ssize_t n = recv(kernel, frame.data(), frame.size(), 0);
    frame.resize(n < 0 ? 0 : static_cast<size_t>(n));
    return frame;
  }
  void from_kernel(const Frame& frame) {
    ASSERT_EQ(send(kernel, frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }
  // The next packet that worker 0 is to send.
  Frame to_wire() {
    RecordRing& ring = *path->from_kernel(1);
    for (int i = 0; i < 2000 && ring.empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const auto record = ring.front();
    Frame frame(record.begin(), record.end());
    if (record.data() != nullptr) ring.pop();
    return frame;
  }
  bool knows(uint16_t local_port, uint16_t remote_port, uint8_t protocol) {
    return path->stack_config(0).conversations->contains({IpAddress::v4(kPeerAddress), remote_port,
                                                          IpAddress::v4(kOurAddress), local_port,
                                                          protocol});
  }
  static Frame udp(uint32_t from, uint32_t to, uint16_t from_port, uint16_t to_port) {
    const Frame payload(9);
    return test::ipv4(kPeer, kOurs, from, to, 17, test::udp(from, to, from_port, to_port, payload),
                      0);
  }

  Bell bell;
  int kernel = -1;
  std::unique_ptr<ExceptionPath> path;
};

TEST_F(ExceptionPathTest, OnlyPortsWithATapTakePart) {
  const ExceptionConfig config = path->stack_config(0);
  ASSERT_EQ(config.interfaces.size(), 2u);
  EXPECT_EQ(config.interfaces[0].policy, nullptr);
  EXPECT_NE(config.interfaces[1].policy, nullptr);
  EXPECT_EQ(path->from_kernel(0), nullptr);
}

TEST_F(ExceptionPathTest, PacketsOfAllWorkersReachTheKernel) {
  const Frame first = udp(kPeerAddress, kOurAddress, 1, 2);
  const Frame second = udp(kPeerAddress, kOurAddress, 3, 4);
  ASSERT_TRUE(pass(first, 0));
  EXPECT_EQ(to_kernel(), first);
  ASSERT_TRUE(pass(second, 1));
  EXPECT_EQ(to_kernel(), second);
  path->stop();
  EXPECT_EQ(path->figures(1).to_kernel, 2u);
}

// The tap of a VLAN carries its frames without the tag.
TEST_F(ExceptionPathTest, TagsAreTakenOff) {
  const Frame plain = udp(kPeerAddress, kOurAddress, 1, 2);
  Frame tagged = plain;
  const std::byte tag[] = {std::byte{0x81}, std::byte{0}, std::byte{0}, std::byte{100}};
  tagged.insert(tagged.begin() + 12, std::begin(tag), std::end(tag));
  ASSERT_TRUE(pass(tagged));
  EXPECT_EQ(to_kernel(), plain);
}

TEST_F(ExceptionPathTest, ChecksumsThatNobodyComputedAreCompleted) {
  const Frame right = udp(kPeerAddress, kOurAddress, 1, 2);
  Frame frame = right;
  frame[14 + 20 + 6] = std::byte{0x12};
  frame[14 + 20 + 7] = std::byte{0x34};
  ASSERT_TRUE(pass(frame));
  EXPECT_EQ(to_kernel(), right);
}

TEST_F(ExceptionPathTest, WhatTheKernelSendsIsNotedAndGoesOut) {
  bell.arm();
  const Frame frame = udp(kOurAddress, kPeerAddress, 5353, 53);
  EXPECT_FALSE(knows(5353, 53, 17));
  from_kernel(frame);
  EXPECT_EQ(to_wire(), frame);
  EXPECT_TRUE(knows(5353, 53, 17));
  pollfd wait{bell.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 2000), 1) << "the worker is woken";
}

TEST_F(ExceptionPathTest, EchoesAreConversationsByTheirIdentifier) {
  from_kernel(test::ipv4(kPeer, kOurs, kOurAddress, kPeerAddress, 1, test::icmp_echo(77, 1, 8)));
  EXPECT_FALSE(to_wire().empty());
  EXPECT_TRUE(knows(77, 0, 1));
  EXPECT_FALSE(knows(78, 0, 1));
}

TEST_F(ExceptionPathTest, WhatPosternSaysItselfIsRefused) {
  const MacAddress everyone{{255, 255, 255, 255, 255, 255}};
  const Frame reply = test::arp(2, kPeer, kOurs, kOurAddress, kPeer, kPeerAddress);
  const Frame probe = test::arp(1, everyone, kOurs, 0, {}, kOurAddress);
  const Frame question = test::arp(1, everyone, kOurs, kOurAddress, {}, kPeerAddress);
  from_kernel(reply);
  from_kernel(probe);
  from_kernel(question);
  EXPECT_EQ(to_wire(), question);
  const auto nd = [](uint8_t type, const char* source) {
    wire::NdMessage m;
    m.type = type;
    m.target = *IpAddress::parse("fe80::1");
    std::array<std::byte, wire::kMaxNdMessage> icmp{};
    const size_t n = wire::write_nd(icmp.data(), m);
    return test::ipv6(*IpAddress::parse(source), *IpAddress::parse("ff02::1:ff00:1"), 58,
                      {icmp.data(), n});
  };
  from_kernel(nd(wire::icmp6::neighbor_advertisement, "fe80::1"));
  from_kernel(nd(wire::icmp6::neighbor_solicitation, "::"));
  const Frame asks = nd(wire::icmp6::neighbor_solicitation, "fe80::1");
  from_kernel(asks);
  EXPECT_EQ(to_wire(), asks);
  path->stop();
  EXPECT_EQ(path->figures(1).refused, 4u);
  EXPECT_EQ(path->figures(1).from_kernel, 6u);
}

TEST_F(ExceptionPathTest, AFullRingRefuses) {
  path->stop();
  const Frame frame = udp(kPeerAddress, kOurAddress, 1, 2);
  uint32_t taken = 0;
  while (pass(frame)) ASSERT_LT(++taken, 100'000u);
  EXPECT_GT(taken, 1000u);
  EXPECT_TRUE(pass(frame, 1)) << "the other worker has a ring of its own";
}

}  // namespace
}  // namespace postern
