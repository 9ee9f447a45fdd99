// TCP segmentation left to the device: long segments in several buffers, checksums of the
// pseudo-header only, and what a device makes of them.
#include <gtest/gtest.h>

#include "support/stack_network.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

const IpAddress kV6[2] = {*IpAddress::parse("2001:db8::1"), *IpAddress::parse("2001:db8::2")};

StackConfig offloading(int side) {
  StackConfig config = default_config(side);
  config.interfaces[0].addresses.push_back({kV6[side], 64});
  config.interfaces[0].offloads = {
      .ip_checksum = true, .l4_checksum = L4Checksum::device, .tso = side == 0};
  config.neighbors.duplicate_probes = 0;
  return config;
}

class Tso : public ::testing::TestWithParam<bool> {
 protected:
  Tso() : net(7, offloading(0), offloading(1)), client(net.add_app(0)), server(net.add_app(1)) {}

  // Side 0 sends so many bytes to side 1, which compares.
  void transfer(size_t size) {
    const IpAddress to = GetParam() ? kV6[1] : kAddress[1];
    const SocketRef listener = server.listen({to, 80}, 8);
    const SocketRef c = client.open(net.now());
    ASSERT_EQ(client.connect(c, {to, 80}, net.now()), 0);
    std::optional<SocketRef> s;
    ASSERT_TRUE(net.run([&] { return (s = server.accept(listener, net.now())).has_value(); }));
    Bytes data(size), got(size);
    for (size_t i = 0; i < size; ++i) data[i] = static_cast<std::byte>(i * 11 + i / 253);
    size_t sent = 0, received = 0;
    const bool all = net.run(
        [&] {
          sent += client.write(c, data.data() + sent, size - sent, net.now());
          received += server.read(*s, got.data() + received, size - received, net.now());
          return received == size;
        },
        300s);
    EXPECT_TRUE(all) << received;
    EXPECT_EQ(got, data);
    EXPECT_EQ(net.complaint(), "") << "what the device sends parses, checksums included";
  }

  StackNetwork net;
  TestApp& client;
  TestApp& server;
};

TEST_P(Tso, ADeviceCutsThemUp) {
  transfer(3'000'000);
  EXPECT_GT(net.most_pieces(0), 4u) << "a segment of several buffers";
  EXPECT_LT(net.handed_over(0) * 3, net.frames(0)) << "frames given to the device, and on the wire";
  EXPECT_EQ(net.counter(0, Counter::tcp_retransmits), 0u);
}

TEST_P(Tso, UnderLoss) {
  net.wire.loss = 0.02;
  net.wire.reorder = 0.01;
  transfer(1'500'000);
  EXPECT_GT(net.counter(0, Counter::tcp_retransmits), 0u);
  EXPECT_GT(net.most_pieces(0), 2u);
}

TEST_P(Tso, WithFewFramesAtATime) {
  net.frames_at_once = 3;
  transfer(300'000);
  EXPECT_LE(net.most_pieces(0), 2u) << "what does not fit there is cut up by the stack";
}

INSTANTIATE_TEST_SUITE_P(Families, Tso, ::testing::Bool(),
                         [](const auto& p) { return p.param ? "IPv6" : "IPv4"; });

}  // namespace
}  // namespace postern::test
