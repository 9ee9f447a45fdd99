// Segments of one burst that continue each other reach the engine as one, and nothing else does.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/stack_network.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

class Coalesce : public ::testing::Test {
 protected:
  Coalesce() : client(net.add_app(0)), server(net.add_app(1)) {
    listener = server.listen({kAddress[1], 80}, 8);
    net.tap = [this](int from, const Bytes& frame) {
      RxPacket packet;
      packet.data = frame.data();
      packet.length = static_cast<uint32_t>(frame.size());
      if (from == 0 && wire::parse(packet).kind == PacketKind::tcp) ++segments;
      return true;
    };
  }

  struct Flow {
    SocketRef from, to;
    Bytes data, got;
    size_t sent = 0, received = 0;
  };
  Flow open(size_t size, uint8_t seed) {
    Flow f;
    f.from = client.open(net.now());
    EXPECT_EQ(client.connect(f.from, {kAddress[1], 80}, net.now()), 0);
    std::optional<SocketRef> s;
    EXPECT_TRUE(net.run([&] { return (s = server.accept(listener, net.now())).has_value(); }, 30s));
    f.to = *s;
    f.data.resize(size);
    f.got.resize(size);
    for (size_t i = 0; i < size; ++i) f.data[i] = static_cast<std::byte>(i * 13 + i / 257 + seed);
    return f;
  }
  void step(Flow& f) {
    f.sent += client.write(f.from, f.data.data() + f.sent, f.data.size() - f.sent, net.now());
    f.received +=
        server.read(f.to, f.got.data() + f.received, f.got.size() - f.received, net.now());
  }
  void transfer(std::vector<Flow>& flows) {
    const bool all = net.run(
        [&] {
          bool done = true;
          for (Flow& f : flows) {
            step(f);
            done = done && f.received == f.data.size();
          }
          return done;
        },
        600s);
    EXPECT_TRUE(all);
    for (const Flow& f : flows) EXPECT_EQ(f.got, f.data);
    EXPECT_EQ(net.complaint(), "");
  }
  uint64_t coalesced() { return net.counter(1, Counter::tcp_rx_coalesced); }

  StackNetwork net{3};
  TestApp& client;
  TestApp& server;
  SocketRef listener;
  uint64_t segments = 0;
};

TEST_F(Coalesce, WhatComesTogetherIsHandledTogether) {
  std::vector<Flow> flows{open(2'000'000, 1)};
  transfer(flows);
  EXPECT_GT(coalesced() * 2, segments) << "more than half of them";
  EXPECT_EQ(net.counter(1, Counter::tcp_rx_segments) + 1, segments)
      << "each is counted once, but the SYN, which had no connection yet";
  EXPECT_EQ(net.counter(0, Counter::tcp_retransmits), 0u);
}

TEST_F(Coalesce, FlowsStayApart) {
  std::vector<Flow> flows{open(400'000, 1), open(400'000, 2), open(400'000, 3)};
  transfer(flows);
  EXPECT_GT(coalesced(), 0u);
}

TEST_F(Coalesce, UnderEverythingThatANetworkDoes) {
  std::vector<Flow> flows{open(1'500'000, 1), open(1'500'000, 2)};
  net.wire.loss = 0.02;
  net.wire.reorder = 0.05;
  net.wire.duplicate = 0.03;
  net.wire.corrupt = 0.01;
  transfer(flows);
  EXPECT_GT(coalesced(), 0u);
  EXPECT_GT(net.counter(1, Counter::tcp_out_of_order), 0u);
}

TEST_F(Coalesce, SmallSegmentsAtOnce) {
  std::vector<Flow> flows{open(20'000, 5)};
  ASSERT_EQ(net.stack(0).set_option(flows[0].from, 1, 1, net.now()), 0) << "SHM_OPT_NODELAY";
  Flow& f = flows[0];
  net.run(
      [&] {
        for (int i = 0; i < 40 && f.sent < f.data.size(); ++i) {
          const size_t n = std::min<size_t>(17, f.data.size() - f.sent);
          f.sent += client.write(f.from, f.data.data() + f.sent, n, net.now());
        }
        f.received +=
            server.read(f.to, f.got.data() + f.received, f.got.size() - f.received, net.now());
        return f.received == f.data.size();
      },
      60s);
  EXPECT_EQ(f.got, f.data);
}

}  // namespace
}  // namespace postern::test
