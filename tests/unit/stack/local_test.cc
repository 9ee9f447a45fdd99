// The host talks to itself: sockets of one appliance reach each other through its own addresses,
// and nobody outside can pretend to be one of them.
#include <gtest/gtest.h>

#include <cerrno>
#include <numeric>

#include "support/stack_network.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

const IpAddress kV6 = *IpAddress::parse("2001:db8::1");

StackConfig both_families() {
  StackConfig config = default_config(0);
  config.interfaces[0].addresses.push_back({kV6, 64});
  config.neighbors.duplicate_probes = 0;
  return config;
}

Bytes pattern(size_t n) {
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  return bytes;
}

class Local : public ::testing::TestWithParam<IpAddress> {
 protected:
  Local() : net(1, both_families()), first(net.add_app(0)), second(net.add_app(0)) {
    net.run_for(3s);  // what is announced at the start is on the wire
    before = net.frames(0);
  }

  SocketRef connect(TestApp& app, const Endpoint& to, const Endpoint& from = {}) {
    const SocketRef socket = app.open(net.now());
    EXPECT_EQ(app.connect(socket, to, net.now(), from), 0);
    return socket;
  }
  // Sends all of it and reads it at the other end, within the limits of the buffers.
  Bytes carry(TestApp& from, SocketRef a, TestApp& to, SocketRef b, const Bytes& data) {
    Bytes got(data.size());
    size_t sent = 0, received = 0;
    net.run([&] {
      sent += from.write(a, data.data() + sent, data.size() - sent, net.now());
      received += to.read(b, got.data() + received, got.size() - received, net.now());
      return received == data.size();
    });
    got.resize(received);
    return got;
  }

  StackNetwork net;
  TestApp& first;
  TestApp& second;
  uint64_t before = 0;
};

TEST_P(Local, StreamBetweenApplications) {
  const SocketRef listener = second.listen({GetParam(), 80}, 8);
  const SocketRef client = connect(first, {GetParam(), 80});
  std::optional<SocketRef> server;
  ASSERT_TRUE(net.run([&] { return (server = second.accept(listener, net.now())).has_value(); }));
  const Bytes data = pattern(300000);
  EXPECT_EQ(carry(first, client, second, *server, data), data);
  EXPECT_EQ(carry(second, *server, first, client, data), data);
  SocketInfo info;
  ASSERT_TRUE(net.stack(0).socket_info(client, &info));
  EXPECT_EQ(info.local.address, GetParam()) << "spoken from the address that is spoken to";
  first.close(client, net.now());
  ASSERT_TRUE(net.run([&] { return second[*server].eof; }));
  second.close(*server, net.now());
  net.run_for(5s);
  EXPECT_EQ(net.frames(0), before) << "nothing of it was on the wire";
  EXPECT_EQ(net.complaint(), "");
}

TEST_P(Local, RefusedWhereNobodyListens) {
  const SocketRef client = connect(first, {GetParam(), 81});
  ASSERT_TRUE(net.run([&] { return first[client].error != 0; }));
  EXPECT_EQ(first[client].error, ECONNREFUSED);
  const SocketRef socket = first.bind({GetParam(), 5000});
  first.send_to(socket, {GetParam(), 82}, Bytes(10), net.now());
  EXPECT_EQ(net.frames(0), before);
}

TEST_P(Local, SocketConnectedToItself) {
  const Endpoint self{GetParam(), 7000};
  const SocketRef socket = connect(first, self, self);
  ASSERT_TRUE(net.run([&] { return first[socket].connected; }));
  const Bytes data = pattern(5000);
  EXPECT_EQ(carry(first, socket, first, socket, data), data);
}

TEST_P(Local, DatagramsInOnePieceAndInMany) {
  const SocketRef a = first.bind({GetParam(), 5000});
  const SocketRef b = second.bind({GetParam(), 6000});
  for (const size_t size : {size_t{0}, size_t{64}, size_t{20000}}) {
    const Bytes data = pattern(size);
    first.send_to(a, {GetParam(), 6000}, data, net.now());
    std::optional<Datagram> got;
    ASSERT_TRUE(net.run([&] { return (got = second.receive_from(b, net.now())).has_value(); }));
    EXPECT_EQ(got->payload, data);
    EXPECT_EQ(got->from, (Endpoint{GetParam(), 5000}));
  }
  EXPECT_EQ(net.frames(0), before);
}

TEST_P(Local, RoutesDoNotMatter) {
  const SocketRef listener = second.listen({GetParam(), 80}, 8);
  const SocketRef client = connect(first, {GetParam(), 80});
  std::optional<SocketRef> server;
  ASSERT_TRUE(net.run([&] { return (server = second.accept(listener, net.now())).has_value(); }));
  const RouteTable none{std::vector<Route>{}};
  net.stack(0).set_routes(&none);
  const Bytes data = pattern(3000);
  EXPECT_EQ(carry(first, client, second, *server, data), data);
  const SocketRef another = connect(first, {GetParam(), 80});
  EXPECT_TRUE(net.run([&] { return first[another].connected; }));
  net.stack(0).set_routes(nullptr);
}

INSTANTIATE_TEST_SUITE_P(Families, Local, ::testing::Values(kAddress[0], kV6),
                         [](const auto& p) { return p.param.is_v4() ? "IPv4" : "IPv6"; });

// ---- what comes from outside ----

TcpSegment segment(uint8_t flags) {
  TcpSegment s;
  s.seq = 1;
  s.flags = flags;
  s.window = 1000;
  return s;
}

class Forged : public Local {
 protected:
  // A segment to ours, from an address of ours, that came by the wire.
  void inject_tcp(uint16_t from, uint16_t to, const TcpSegment& segment) {
    Bytes frame(128);
    const size_t l2 = wire::write_ethernet(frame.data(), kMac[0], kMac[1], wire::ether_type::ipv4);
    const auto header = static_cast<uint32_t>(wire::tcp_header_length(segment));
    const size_t l3 = wire::write_ip(frame.data() + l2, {.source = kAddress[0],
                                                         .destination = kAddress[0],
                                                         .protocol = 6,
                                                         .payload_length = header});
    std::byte* l4 = frame.data() + l2 + l3;
    wire::write_tcp(l4, from, to, segment);
    wire::finish_checksum(l4, header, 0, 0, kAddress[0], kAddress[0], Protocol::tcp);
    frame.resize(l2 + l3 + header);
    net.inject(0, std::move(frame));
    net.run_for(1ms);
  }
};

// proves: 1812-10
TEST_F(Forged, SynToAListenerFromItself) {
  (void)second.listen({kAddress[0], 80}, 8);
  inject_tcp(80, 80, segment(tcp_flag::syn));
  EXPECT_EQ(net.drops(0, Drop::ip_source_ours), 1u);
  EXPECT_EQ(net.counter(0, Counter::local_packets), 0u);
  EXPECT_EQ(net.frames(0), before);
}

TEST_F(Forged, SegmentOfALocalConnection) {
  const SocketRef listener = second.listen({kAddress[0], 80}, 8);
  const SocketRef client = connect(first, {kAddress[0], 80}, {kAddress[0], 9000});
  std::optional<SocketRef> server;
  ASSERT_TRUE(net.run([&] { return (server = second.accept(listener, net.now())).has_value(); }));
  inject_tcp(9000, 80, segment(tcp_flag::rst));
  inject_tcp(80, 9000, segment(tcp_flag::syn));
  EXPECT_EQ(net.drops(0, Drop::ip_source_ours), 2u);
  EXPECT_EQ(net.drops(0, Drop::tcp_bad_sequence), 0u);
  EXPECT_EQ(net.counter(0, Counter::tcp_challenge_acks), 0u);
  const Bytes data = pattern(100);
  EXPECT_EQ(carry(first, client, second, *server, data), data);
}

}  // namespace
}  // namespace postern::test
