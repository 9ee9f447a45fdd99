// Checksums off over a link that both ends trust: what is sent has none, and none is asked for.
#include <gtest/gtest.h>

#include "support/stack_network.h"
#include "udp/datagram.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

using Bytes = std::vector<std::byte>;

const IpAddress kV6[2] = {*IpAddress::parse("2001:db8::1"), *IpAddress::parse("2001:db8::2")};

StackConfig trusting(int side, bool gather) {
  StackConfig config = default_config(side);
  config.interfaces[0].addresses.push_back({kV6[side], 64});
  config.interfaces[0].offloads.l4_checksum = L4Checksum::none;
  config.interfaces[0].offloads.gather = gather;
  config.neighbors.duplicate_probes = 0;
  return config;
}

Bytes pattern(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 11 + i / 253);
  return bytes;
}

class NoChecksums : public ::testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  NoChecksums()
      : net(7, trusting(0, gathers()), trusting(1, gathers())),
        client(net.add_app(0)),
        server(net.add_app(1)) {
    net.run_for(3s);  // addresses are announced
    net.tap = [this](int, const Bytes& frame) {
      note(frame);
      return true;
    };
  }
  [[nodiscard]] static bool v6() { return std::get<0>(GetParam()); }
  [[nodiscard]] static bool gathers() { return std::get<1>(GetParam()); }
  [[nodiscard]] IpAddress address(int side) const { return v6() ? kV6[side] : kAddress[side]; }
  // Counts segments with data and whole datagrams, and which of them have a checksum.
  void note(const Bytes& frame) {
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    packet.l4_checksum = ChecksumVerdict::unchecked;
    const ParsedPacket p = wire::parse(packet);
    const bool tcp = p.kind == PacketKind::tcp && p.payload_length > 0;
    if (p.fragment || (!tcp && p.kind != PacketKind::udp)) return;
    const size_t field = p.l4_offset + (tcp ? 16U : 6U);
    const bool summed = frame[field] != std::byte{0} || frame[field + 1] != std::byte{0};
    ++(summed ? with : without);
  }

  StackNetwork net;
  TestApp& client;
  TestApp& server;
  size_t with = 0, without = 0;
};

TEST_P(NoChecksums, Stream) {
  const Endpoint to{address(1), 80};
  const SocketRef listener = server.listen(to, 8);
  const SocketRef c = client.open(net.now());
  ASSERT_EQ(client.connect(c, to, net.now()), 0);
  std::optional<SocketRef> s;
  ASSERT_TRUE(net.run([&] { return (s = server.accept(listener, net.now())).has_value(); }));
  const Bytes data = pattern(200'000);
  Bytes got(data.size());
  size_t sent = 0, received = 0;
  const bool all = net.run([&] {
    sent += client.write(c, data.data() + sent, data.size() - sent, net.now());
    received += server.read(*s, got.data() + received, got.size() - received, net.now());
    return received == data.size();
  });
  EXPECT_TRUE(all) << received;
  EXPECT_EQ(got, data);
  EXPECT_GT(without, data.size() / 1460);
  EXPECT_EQ(with, 0U);
}

// The second is sent by the short way, the third in fragments.
TEST_P(NoChecksums, Datagrams) {
  const SocketRef from = client.bind({address(0), 5000});
  const SocketRef at = server.bind({address(1), 7});
  for (const size_t size : {100, 101, 4000}) {
    ASSERT_EQ(client.send_to(from, {address(1), 7}, pattern(size), net.now()), 0);
    std::optional<Datagram> d;
    ASSERT_TRUE(net.run([&] { return (d = server.receive_from(at, net.now())).has_value(); }, 1s))
        << size;
    EXPECT_EQ(d->payload, pattern(size));
  }
  EXPECT_EQ(without, 2U);
  EXPECT_EQ(with, 0U);
}

INSTANTIATE_TEST_SUITE_P(Families, NoChecksums,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool()),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param) ? "IPv6" : "IPv4") +
                                  (std::get<1>(p.param) ? "Gathered" : "Copied");
                         });

}  // namespace
}  // namespace postern::test
