// RFC 4987 in the stack: a listener that is flooded still serves who answers.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <string>

#include "support/stack_network.h"
#include "tcp/syn_cookie.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

constexpr uint32_t kBacklog = 16;

StackConfig with(SynCookies mode, uint32_t connections = 4096) {
  StackConfig config = default_config(1);
  config.tcp.syncookies = mode;
  config.max_connections = connections;
  return config;
}

std::vector<std::byte> frame_of(const IpAddress& from, uint16_t port, const TcpSegment& segment) {
  const auto length = static_cast<uint32_t>(wire::tcp_header_length(segment));
  std::vector<std::byte> frame(14 + 20 + length);
  std::byte* p = frame.data();
  p += wire::write_ethernet(p, kMac[1], kMac[0], wire::ether_type::ipv4);
  p += wire::write_ip(
      p, {.source = from, .destination = kAddress[1], .protocol = 6, .payload_length = length});
  wire::write_tcp(p, port, 80, segment);
  wire::finish_checksum(p, length, 0, 0, from, kAddress[1], Protocol::tcp);
  return frame;
}

class SynCookieStack : public testing::Test {
 protected:
  explicit SynCookieStack(const StackConfig& server_config = with(SynCookies::automatic))
      : net(1, default_config(0), server_config), client(net.add_app(0)), server(net.add_app(1)) {
    listener = server.listen({kAddress[1], 80}, kBacklog);
    net.run_for(1s);
    net.tap = [this](int from, const std::vector<std::byte>& frame) { return see(from, frame); };
  }
  bool see(int from, const std::vector<std::byte>& frame) {
    RxPacket packet;
    packet.data = frame.data();
    packet.length = static_cast<uint32_t>(frame.size());
    const ParsedPacket p = wire::parse(packet);
    TcpSegment segment;
    if (p.kind != PacketKind::tcp || wire::parse_tcp(packet, p, &segment) != Drop::none) {
      return true;
    }
    if (from == 1 && p.destination == kAddress[0]) {
      if ((segment.flags & tcp_flag::syn) != 0) syn_ack = segment;
      if ((segment.flags & tcp_flag::rst) != 0) reset = true;
    }
    return true;
  }
  // So that the neighbor is known: few frames wait for one.
  void become_acquainted() {
    connect();
    ASSERT_TRUE(accept().has_value());
  }
  // From addresses where nobody answers.
  void flood(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      TcpSegment syn;
      syn.seq = i * 77;
      syn.flags = tcp_flag::syn;
      syn.window = 1000;
      net.inject(1, frame_of(IpAddress::v4(0x0a000010 + i % 64),
                             static_cast<uint16_t>(1024 + flooded + i), syn));
    }
    flooded += count;
    net.run_for(10ms);
  }
  SocketRef connect() {
    const SocketRef c = client.open(net.now());
    EXPECT_EQ(client.connect(c, {kAddress[1], 80}, net.now()), 0);
    return c;
  }
  std::optional<SocketRef> accept() {
    std::optional<SocketRef> s;
    net.run([&] { return (s = server.accept(listener, net.now())).has_value(); }, 5s);
    return s;
  }
  // Some bytes each way, more than one segment.
  void exchange(SocketRef c, SocketRef s) {
    for (const auto& [from, source, to, sink] :
         {std::tuple(&client, c, &server, s), std::tuple(&server, s, &client, c)}) {
      std::string sent(20000, 0);
      for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 31 >> 3);
      ASSERT_EQ(from->write(source, reinterpret_cast<const std::byte*>(sent.data()), sent.size(),
                            net.now()),
                sent.size());
      ASSERT_TRUE(net.run([&] { return (*to)[sink].unread() == sent.size(); }, 5s));
      std::string got(sent.size(), 0);
      to->read(sink, reinterpret_cast<std::byte*>(got.data()), got.size(), net.now());
      EXPECT_EQ(got, sent);
    }
  }
  uint64_t sent() { return net.counter(1, Counter::tcp_syncookies_sent); }
  uint64_t received() { return net.counter(1, Counter::tcp_syncookies_received); }
  uint64_t failed() { return net.counter(1, Counter::tcp_syncookies_failed); }

  StackNetwork net;
  TestApp& client;
  TestApp& server;
  SocketRef listener;
  uint32_t flooded = 0;
  TcpSegment syn_ack;
  bool reset = false;
};

TEST_F(SynCookieStack, AFloodedListenerServesWhoAnswers) {
  flood(200);
  EXPECT_EQ(sent(), 200 - kBacklog);
  const SocketRef c = connect();
  const auto s = accept();
  ASSERT_TRUE(s.has_value());
  EXPECT_EQ(received(), 1u);
  EXPECT_EQ(failed(), 0u);
  exchange(c, *s);
  TcpInfo ours, theirs;
  ASSERT_TRUE(net.stack(1).tcp_info(*s, net.now(), &ours));
  ASSERT_TRUE(net.stack(0).tcp_info(c, net.now(), &theirs));
  EXPECT_TRUE(ours.sack);
  EXPECT_TRUE(ours.timestamps);
  EXPECT_TRUE(ours.window_scaling);
  EXPECT_LE(ours.snd_scale, theirs.rcv_scale) << "rounded down, never up";
  EXPECT_GE(ours.snd_scale + 1, theirs.rcv_scale);
  EXPECT_EQ(ours.rcv_scale, theirs.snd_scale) << "what the SYN-ACK promised";
  EXPECT_EQ(ours.mss, 1460 - 12);
  client.close(c, net.now());
  server.close(*s, net.now());
  net.run_for(200s);
  EXPECT_EQ(net.complaint(), "");
}

TEST_F(SynCookieStack, NotWithoutNeed) {
  const SocketRef c = connect();
  const auto s = accept();
  ASSERT_TRUE(s.has_value());
  EXPECT_TRUE(client[c].connected);
  EXPECT_EQ(sent(), 0u);
}

TEST_F(SynCookieStack, AnAckWithoutPressureIsNoCookie) {
  TcpSegment stray;
  stray.flags = tcp_flag::ack;
  stray.seq = 1;
  stray.ack = 12345;
  net.inject(1, frame_of(kAddress[0], 999, stray));
  net.run_for(10ms);
  EXPECT_TRUE(reset);
  EXPECT_EQ(failed(), 0u);
}

TEST_F(SynCookieStack, AForgedOneIsRefusedAndCounted) {
  become_acquainted();
  flood(200);
  TcpSegment forged;
  forged.flags = tcp_flag::ack;
  forged.seq = 1;
  forged.ack = 12345;
  net.inject(1, frame_of(kAddress[0], 999, forged));
  net.run_for(3s);
  EXPECT_TRUE(reset);
  EXPECT_EQ(failed(), 1u);
  EXPECT_EQ(net.stack(1).usage(0).sockets, 2u) << "the listener, and who came before";
  // Two minutes after the last cookie nothing is taken for one.
  net.run_for(kSynCookieLife);
  net.inject(1, frame_of(kAddress[0], 999, forged));
  net.run_for(10ms);
  EXPECT_EQ(failed(), 1u);
}

TEST_F(SynCookieStack, EcnIsNotPromised) {
  become_acquainted();
  syn_ack = {};
  flood(200);
  TcpSegment syn;
  syn.flags = tcp_flag::syn | tcp_flag::ece | tcp_flag::cwr;
  syn.seq = 5;
  syn.has_mss = true;
  syn.mss = 1400;
  net.inject(1, frame_of(kAddress[0], 998, syn));
  net.run([&] { return syn_ack.flags != 0; }, 3s);
  EXPECT_EQ(syn_ack.flags, tcp_flag::syn | tcp_flag::ack);
  EXPECT_EQ(syn_ack.ack, 6u);
  EXPECT_TRUE(syn_ack.has_mss);
  EXPECT_FALSE(syn_ack.has_window_scale);
  EXPECT_FALSE(syn_ack.sack_permitted);
  EXPECT_FALSE(syn_ack.has_timestamps);
}

// The accept queue is full: newcomers get no cookie.
TEST_F(SynCookieStack, AFullAcceptQueueDrops) {
  for (uint32_t i = 0; i < kBacklog; ++i) connect();
  net.run_for(100ms);
  const SocketRef last = connect();
  net.run_for(100ms);
  EXPECT_EQ(net.drops(1, Drop::tcp_backlog_full), 1u);
  EXPECT_EQ(sent(), 0u);
  for (uint32_t i = 0; i < kBacklog; ++i) ASSERT_TRUE(accept().has_value()) << i;
  ASSERT_TRUE(net.run([&] { return client[last].connected; }, 5s)) << "the SYN comes again";
}

class SynCookiesOfASmallWorker : public SynCookieStack {
 protected:
  SynCookiesOfASmallWorker() : SynCookieStack(with(SynCookies::automatic, 32)) {}
};

// The worker's bound is lower than the listener's: a quarter of its connections.
TEST_F(SynCookiesOfASmallWorker, TheRestOfTheTableIsLeft) {
  flood(100);
  EXPECT_EQ(sent(), 100u - 8u);
  const SocketRef c = connect();
  const auto s = accept();
  ASSERT_TRUE(s.has_value());
  exchange(c, *s);
  net.run_for(300s);  // the handshakes are given up
  const uint64_t before = sent();
  connect();
  ASSERT_TRUE(accept().has_value());
  EXPECT_EQ(sent(), before) << "they no longer count";
}

class SynCookiesAlways : public SynCookieStack {
 protected:
  SynCookiesAlways() : SynCookieStack(with(SynCookies::always)) {}
};

TEST_F(SynCookiesAlways, EveryConnection) {
  for (int i = 0; i < 5; ++i) {
    const SocketRef c = connect();
    const auto s = accept();
    ASSERT_TRUE(s.has_value());
    exchange(c, *s);
    client.close(c, net.now());
    server.close(*s, net.now());
    net.run_for(1s);
  }
  EXPECT_EQ(sent(), 5u);
  EXPECT_EQ(received(), 5u);
}

// Who has a cookie when the accept queue is full believes to be connected: what it sends comes
// again.
TEST_F(SynCookiesAlways, MoreThanTheAcceptQueueHolds) {
  become_acquainted();
  std::vector<SocketRef> clients;
  for (uint32_t i = 0; i < kBacklog + 1; ++i) clients.push_back(connect());
  net.run_for(500ms);
  EXPECT_EQ(net.drops(1, Drop::tcp_backlog_full), 1u);
  const std::byte byte{7};
  for (const SocketRef c : clients) {
    EXPECT_TRUE(client[c].connected);
    ASSERT_EQ(client.write(c, &byte, 1, net.now()), 1u);
  }
  for (uint32_t i = 0; i < kBacklog + 1; ++i) {
    const auto s = accept();
    ASSERT_TRUE(s.has_value()) << i;
    EXPECT_TRUE(net.run([&] { return server[*s].unread() == 1; }, 5s));
  }
}

}  // namespace
}  // namespace postern::test
