// TCP between two stacks, with applications on both ends.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <set>
#include <tuple>

#include "support/stack_network.h"
#include "wire/build.h"
#include "wire/parse.h"

namespace postern::test {
namespace {

std::byte content(uint64_t position, uint8_t seed) {
  return static_cast<std::byte>((position * 2654435761U >> 16) + seed);
}

// A transfer in one direction of a connection.
struct Flow {
  TestApp* from = nullptr;
  TestApp* to = nullptr;
  SocketRef source, sink;
  uint64_t total = 0;
  uint64_t written = 0;
  uint64_t read = 0;
  uint8_t seed = 0;
  bool half_close = true;
  bool corrupt = false;
  std::vector<std::byte> buffer = std::vector<std::byte>(32768);

  void write(Stack& stack, Time now) {
    if (!from->has(source) || (*from)[source].error != 0) return;
    while (written < total) {
      const size_t n = std::min<uint64_t>(buffer.size(), total - written);
      for (size_t i = 0; i < n; ++i) buffer[i] = content(written + i, seed);
      const size_t k = from->write(source, buffer.data(), n, now);
      written += k;
      if (k < n) return;
      if (written == total && half_close) stack.shutdown(source, false, true, now);
    }
  }
  void drain(Time now) {
    if (!to->has(sink)) return;
    while (const size_t n = to->read(sink, buffer.data(), buffer.size(), now)) {
      for (size_t i = 0; i < n; ++i) corrupt = corrupt || buffer[i] != content(read + i, seed);
      read += n;
    }
  }
  [[nodiscard]] bool done() const { return read == total && (*to).has(sink) && (*to)[sink].eof; }
};

class Tcp : public ::testing::Test {
 protected:
  explicit Tcp(uint64_t seed = 1, const StackConfig& first = default_config(0),
               const StackConfig& second = default_config(1), TestApp::Options options = {})
      : net(seed, first, second), client(net.add_app(0, options)), server(net.add_app(1, options)) {
    listener = server.listen({kAddress[1], 80}, 128);
  }
  // Connects and accepts one connection.
  std::pair<SocketRef, SocketRef> establish(const Endpoint& local = {}) {
    const SocketRef c = client.open(net.now());
    EXPECT_EQ(client.connect(c, to, net.now(), local), 0);
    std::optional<SocketRef> s;
    EXPECT_TRUE(net.run(
        [&] {
          if (!s) s = server.accept(listener, net.now());
          return s.has_value() && client[c].connected;
        },
        30s));
    return {c, s.value_or(SocketRef{})};
  }
  // The rest of the test's promise: nothing is left behind.
  void expect_nothing_left() {
    net.run_for(200s);  // TIME-WAIT passes
    for (int side = 0; side < 2; ++side) {
      const auto usage = net.stack(side).usage(0);
      EXPECT_EQ(usage.rx_units_used, 0u) << side;
      EXPECT_EQ(usage.orphans, 0u) << side;
      EXPECT_EQ(usage.sockets, side == 1 && server.has(listener) ? 1u : 0u) << side;
      std::vector<SocketInfo> list(64);
      uint64_t cursor = 0;
      EXPECT_EQ(net.stack(side).list_sockets(&cursor, list),
                side == 1 && server.has(listener) ? 1 : 0);
    }
    EXPECT_EQ(net.complaint(), "");
  }
  void close_both(SocketRef c, SocketRef s) {
    client.close(c, net.now());
    net.run_for(1s);
    server.close(s, net.now());
    net.run_for(1s);
    EXPECT_FALSE(client.has(c)) << "released";
    EXPECT_FALSE(server.has(s)) << "released";
  }
  void say(TestApp& app, SocketRef ref, const char* text) {
    ASSERT_EQ(
        app.write(ref, reinterpret_cast<const std::byte*>(text), std::strlen(text), net.now()),
        std::strlen(text));
  }
  std::string hear(TestApp& app, SocketRef ref) {
    std::string text(app[ref].unread(), '\0');
    app.read(ref, reinterpret_cast<std::byte*>(text.data()), text.size(), net.now());
    return text;
  }
  StackNetwork net;
  TestApp& client;
  TestApp& server;
  SocketRef listener;
  Endpoint to{kAddress[1], 80};
};

TEST_F(Tcp, ConnectExchangeClose) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  SocketInfo info;
  ASSERT_TRUE(net.stack(1).socket_info(s, &info));
  EXPECT_EQ(info.state, TcpState::established);
  EXPECT_EQ(info.remote.address, kAddress[0]);
  EXPECT_EQ(info.local, to);
  EXPECT_GE(s.slot, server.memory().client_slots);
  say(client, c, "ping");
  ASSERT_TRUE(net.run([&] { return server[s].unread() == 4; }, 1s));
  EXPECT_EQ(hear(server, s), "ping");
  say(server, s, "pong");
  ASSERT_TRUE(net.run([&] { return client[c].unread() == 4; }, 1s));
  EXPECT_EQ(hear(client, c), "pong");
  ASSERT_TRUE(net.run([&] { return server[s].outstanding() == 0; }, 1s));
  close_both(c, s);
  expect_nothing_left();
  EXPECT_EQ(net.counter(0, Counter::tcp_active_opens), 1u);
  EXPECT_EQ(net.counter(1, Counter::tcp_passive_opens), 1u);
}

TEST_F(Tcp, HalfCloseStillDelivers) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  say(client, c, "question");
  net.stack(0).shutdown(c, false, true, net.now());
  ASSERT_TRUE(net.run([&] { return server[s].eof; }, 1s));
  EXPECT_EQ(hear(server, s), "question");
  say(server, s, "answer");
  ASSERT_TRUE(net.run([&] { return client[c].unread() == 6; }, 1s));
  EXPECT_EQ(hear(client, c), "answer");
  EXPECT_FALSE(client[c].eof);
  server.close(s, net.now());
  ASSERT_TRUE(net.run([&] { return client[c].eof; }, 1s));
  client.close(c, net.now());
  expect_nothing_left();
}

TEST_F(Tcp, AbortResetsThePeer) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  client.close(c, net.now(), true);
  ASSERT_TRUE(net.run([&] { return server[s].error != 0; }, 1s));
  EXPECT_EQ(server[s].error, ECONNRESET);
  server.close(s, net.now());
  expect_nothing_left();
}

TEST_F(Tcp, CloseWithUnreadDataResetsThePeer) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  say(server, s, "never read");
  ASSERT_TRUE(net.run([&] { return client[c].unread() != 0; }, 1s));
  client.close(c, net.now());
  ASSERT_TRUE(net.run([&] { return server[s].error == ECONNRESET; }, 1s));
  server.close(s, net.now());
  expect_nothing_left();
}

TEST_F(Tcp, NobodyListens) {
  const SocketRef c = client.open(net.now());
  client.connect(c, {kAddress[1], 81}, net.now());
  ASSERT_TRUE(net.run([&] { return client[c].error != 0; }, 5s));
  EXPECT_EQ(client[c].error, ECONNREFUSED);
  EXPECT_EQ(net.drops(1, Drop::tcp_no_socket), 1u);
  client.close(c, net.now());
  expect_nothing_left();
}

// proves: MUST-46
TEST_F(Tcp, ConnectErrorsAreToldByEvents) {
  const auto expect = [&](const Endpoint& remote, int error, const Endpoint& local = {}) {
    const SocketRef c = client.open(net.now());
    EXPECT_EQ(client.connect(c, remote, net.now(), local), 0);
    net.run([&] { return client[c].error != 0; }, 30s);
    EXPECT_EQ(client[c].error, error) << remote.to_string();
    client.close(c, net.now());
    net.run_for(1ms);
    EXPECT_FALSE(client.has(c));
  };
  expect({IpAddress::v4(0x08080808), 80}, ENETUNREACH);
  expect({IpAddress::v4(0x0a0000c8), 80}, EHOSTUNREACH);  // nobody answers ARP
  expect({kAddress[0], 80}, ECONNREFUSED);                // ourselves
  expect({kAddress[1], 0}, ECONNREFUSED);
  expect({IpAddress::v4(0xe0000001), 80}, ENETUNREACH);
  expect({IpAddress::v4(0x0a0000ff), 80}, EACCES);
  expect(to, EADDRNOTAVAIL, {IpAddress::v4(0x0a000009), 0});
  expect_nothing_left();
}

StackConfig without_cookies() {
  StackConfig config = default_config(1);
  config.tcp.syncookies = SynCookies::never;
  return config;
}

class TcpWithoutCookies : public Tcp {
 protected:
  TcpWithoutCookies() : Tcp(1, default_config(0), without_cookies()) {}
};

TEST_F(TcpWithoutCookies, BacklogFullDropsByNameAndRecovers) {
  server.close(listener, net.now());
  net.run_for(1ms);
  listener = server.listen(to, 2);
  std::vector<SocketRef> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(client.open(net.now()));
    client.connect(clients.back(), to, net.now());
  }
  net.run_for(500ms);
  EXPECT_EQ(
      client[clients[0]].connected + client[clients[1]].connected + client[clients[2]].connected,
      2);
  EXPECT_GE(net.drops(1, Drop::tcp_backlog_full), 1u);
  const auto first = server.accept(listener, net.now());
  ASSERT_TRUE(first.has_value());
  net.run_for(5s);  // the SYN comes again
  for (const SocketRef c : clients) EXPECT_TRUE(client[c].connected);
  server.close(*first, net.now());
  while (const auto s = server.accept(listener, net.now())) server.close(*s, net.now());
  net.run_for(1s);
  for (const SocketRef c : clients) client.close(c, net.now());
  expect_nothing_left();
}

TEST_F(TcpWithoutCookies, SynFloodIsBoundedByTheBacklog) {
  net.run_for(1s);
  for (uint32_t i = 0; i < 3000; ++i) {
    std::vector<std::byte> frame(14 + 20 + 20);
    const IpAddress from = IpAddress::v4(0x0a000010 + i % 64);
    std::byte* p = frame.data();
    p += wire::write_ethernet(p, kMac[1], kMac[0], wire::ether_type::ipv4);
    p += wire::write_ip(
        p, {.source = from, .destination = kAddress[1], .protocol = 6, .payload_length = 20});
    TcpSegment syn;
    syn.seq = i;
    syn.flags = tcp_flag::syn;
    syn.window = 1000;
    wire::write_tcp(p, static_cast<uint16_t>(1024 + i), 80, syn);
    wire::finish_checksum(p, 20, 0, from, kAddress[1], Protocol::tcp);
    net.inject(1, std::move(frame));
  }
  net.run_for(1s);
  EXPECT_EQ(net.drops(1, Drop::tcp_backlog_full), 3000u - 128u);
  net.run_for(300s);  // retries are over
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  close_both(c, s);
  expect_nothing_left();
}

// SO_REUSEPORT: each client finds the same listener again, all have their share, and the share of
// one that is closed goes to the others.
TEST_F(Tcp, ListenersShareAnAddress) {
  std::vector<SocketRef> listeners{listener};
  for (int i = 0; i < 3; ++i) listeners.push_back(server.listen({kAddress[1], 80}, 128));
  const auto served = [&](uint16_t first_port) {
    std::vector<size_t> count;
    for (uint16_t port = first_port; port < first_port + 20; ++port) {
      client.connect(client.open(net.now()), to, net.now(), {IpAddress{}, port});
    }
    net.run_for(1s);
    for (const SocketRef& l : listeners) {
      count.push_back(0);
      while (server.accept(l, net.now())) ++count.back();
    }
    return count;
  };
  const std::vector<size_t> all = served(20000);
  for (const size_t n : all) EXPECT_GT(n, 0U);
  EXPECT_EQ(std::accumulate(all.begin(), all.end(), size_t{0}), 20U);
  for (const size_t gone : {size_t{0}, size_t{1}}) {  // the first in the table, and one behind it
    server.close(listeners[gone], net.now());
    listeners.erase(listeners.begin() + static_cast<std::ptrdiff_t>(gone));
    const std::vector<size_t> rest = served(static_cast<uint16_t>(30000 + 100 * gone));
    EXPECT_EQ(std::accumulate(rest.begin(), rest.end(), size_t{0}), 20U);
    for (const size_t n : rest) EXPECT_GT(n, 0U);
  }
}

TEST_F(Tcp, ListenerClosesWhileConnectionsWait) {
  const SocketRef c = client.open(net.now());
  client.connect(c, to, net.now());
  server.refuse_events = true;  // the connection is never announced
  ASSERT_TRUE(net.run([&] { return client[c].connected; }, 1s));
  server.close(listener, net.now());
  server.refuse_events = false;
  ASSERT_TRUE(net.run([&] { return client[c].error != 0; }, 1s));
  EXPECT_EQ(client[c].error, ECONNRESET);
  EXPECT_FALSE(server.has(listener));
  client.close(c, net.now());
  expect_nothing_left();
}

TEST_F(Tcp, SlotsAreReusedWithAnotherGeneration) {
  std::set<std::tuple<uint32_t, uint32_t>> names;
  std::set<uint32_t> slots;
  for (int i = 0; i < 20; ++i) {
    const std::pair ends = establish();
    const SocketRef c = ends.first, s = ends.second;
    EXPECT_TRUE(names.insert({s.slot, s.generation}).second);
    slots.insert(s.slot);
    close_both(c, s);
    EXPECT_EQ(net.stack(0).send(c, 0, 1, false, false, net.now()), ESTALE);
    EXPECT_EQ(net.stack(1).consumed(s, 0, net.now()), ESTALE);
  }
  EXPECT_EQ(slots.size(), 1u) << "last freed first";
  expect_nothing_left();
}

// proves: SHLD-4
TEST_F(Tcp, PortsAreReusedAndExhausted) {
  StackConfig narrow = default_config(0);
  narrow.ephemeral_first = 40000;
  narrow.ephemeral_last = 40003;
  StackNetwork n(3, narrow, default_config(1));
  TestApp& c = n.add_app(0);
  TestApp& s = n.add_app(1);
  const SocketRef l = s.listen(to, 64);
  std::vector<SocketRef> open;
  std::set<uint16_t> ports;
  for (int i = 0; i < 4; ++i) {
    open.push_back(c.open(n.now()));
    c.connect(open.back(), to, n.now());
    ASSERT_TRUE(n.run([&] { return c[open.back()].connected; }, 5s));
    SocketInfo info;
    ASSERT_TRUE(n.stack(0).socket_info(open.back(), &info));
    ports.insert(info.local.port);
  }
  EXPECT_EQ(ports.size(), 4u);
  const SocketRef fifth = c.open(n.now());
  c.connect(fifth, to, n.now());
  n.run_for(1ms);
  EXPECT_EQ(c[fifth].error, EADDRNOTAVAIL);
  // All four go through TIME-WAIT here; after a second their ports serve again.
  for (const SocketRef ref : open) c.close(ref, n.now());
  n.run_for(10ms);
  while (const auto a = s.accept(l, n.now())) s.close(*a, n.now());
  n.run_for(2s);
  const SocketRef again = c.open(n.now());
  c.connect(again, to, n.now());
  ASSERT_TRUE(n.run([&] { return c[again].connected || c[again].error != 0; }, 5s));
  EXPECT_EQ(c[again].error, 0);
  EXPECT_EQ(n.complaint(), "");
}

// A table of 32 is not exhausted by connections that are over but for TIME-WAIT, and none that
// lives has to give way.
TEST_F(Tcp, TimeWaitGivesWayWhenTheTableIsNearlyFull) {
  StackConfig small = default_config(0);
  small.max_connections = 32;
  StackNetwork n(4, small, default_config(1));
  TestApp& c = n.add_app(0);
  TestApp& s = n.add_app(1);
  const SocketRef l = s.listen(to, 64);
  const auto open = [&] {
    const SocketRef ref = c.open(n.now());
    EXPECT_NE(ref.slot, kNoSlot) << "no room";
    if (ref.slot == kNoSlot) return std::pair{ref, ref};
    c.connect(ref, to, n.now());
    EXPECT_TRUE(n.run([&] { return c[ref].connected && !s[l].accepted.empty(); }, 5s));
    return std::pair{ref, s.accept(l, n.now()).value_or(SocketRef{})};
  };
  const auto kept = open();
  for (int i = 0; i < 100; ++i) {
    const auto [ref, peer] = open();
    ASSERT_NE(ref.slot, kNoSlot) << i;
    c.close(ref, n.now());
    n.run_for(1ms);
    s.close(peer, n.now());
    n.run_for(1ms);
  }
  EXPECT_GE(n.counter(0, Counter::tcp_time_wait_recycled), 100u - 32u);
  SocketInfo info;
  ASSERT_TRUE(n.stack(0).socket_info(kept.first, &info));
  EXPECT_EQ(info.state, TcpState::established);
  EXPECT_EQ(n.counter(0, Counter::tcp_resets_sent), 0u) << "they go silently";
  EXPECT_EQ(n.counter(1, Counter::tcp_time_wait_recycled), 0u) << "no need";
  EXPECT_EQ(n.complaint(), "");
}

// A connection that ended before its listener could announce it is announced all the same.
TEST_F(Tcp, EndsBeforeItIsAnnounced) {
  const SocketRef c = client.open(net.now());
  client.connect(c, to, net.now());
  server.refuse_events = true;
  ASSERT_TRUE(net.run([&] { return client[c].connected; }, 1s));
  say(client, c, "gone");
  net.run_for(1ms);
  client.close(c, net.now(), true);
  net.run_for(1ms);
  server.refuse_events = false;
  std::optional<SocketRef> s;
  ASSERT_TRUE(net.run(
      [&] {
        if (!s) s = server.accept(listener, net.now());
        return s.has_value() && server[*s].error != 0;
      },
      1s));
  EXPECT_EQ(server[*s].error, ECONNRESET);
  server.close(*s, net.now());
  expect_nothing_left();
}

TEST_F(Tcp, AFixedLocalPortIsUsed) {
  const std::pair ends = establish({IpAddress{}, 12345});
  const SocketRef c = ends.first, s = ends.second;
  SocketInfo info;
  ASSERT_TRUE(net.stack(1).socket_info(s, &info));
  EXPECT_EQ(info.remote.port, 12345);
  const SocketRef second = client.open(net.now());
  client.connect(second, to, net.now(), {IpAddress{}, 12345});
  net.run_for(1ms);
  EXPECT_EQ(client[second].error, EADDRNOTAVAIL);
  client.close(second, net.now());
  close_both(c, s);
  expect_nothing_left();
}

TEST_F(Tcp, PeerThatVanishesTimesOut) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  net.wire.loss = 1;
  say(client, c, "into the void");
  net.stack(0).set_option(c, 7, 30000, net.now());  // user timeout: 30 s
  ASSERT_TRUE(net.run([&] { return client[c].error != 0; }, 3000s));
  EXPECT_EQ(client[c].error, ETIMEDOUT);
  client.close(c, net.now());
  server.close(s, net.now());
  net.run_for(2000s);
  expect_nothing_left();
}

TEST_F(Tcp, HostileValuesAreViolationsOrStale) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  Stack& stack = net.stack(0);
  const Time now = net.now();
  const uint64_t size = client.memory().tx_size;
  EXPECT_EQ(stack.send(c, size, 1, false, false, now), EPROTO);
  EXPECT_EQ(stack.send(c, UINT64_MAX, 2, false, false, now), EPROTO);
  EXPECT_EQ(stack.send(c, size - 1, 2, false, false, now), EPROTO);
  EXPECT_EQ(stack.send(c, 0, UINT32_MAX, false, false, now), EPROTO);
  EXPECT_EQ(stack.consumed(c, 1, now), EPROTO) << "nothing was delivered";
  EXPECT_EQ(stack.consumed(c, UINT32_MAX, now), 0) << "a position before the last is ignored";
  EXPECT_EQ(stack.open_tcp(c, now), EPROTO) << "open already";
  EXPECT_EQ(stack.open_tcp({0, 5, 0}, now), EPROTO) << "generation 0";
  EXPECT_EQ(stack.open_tcp({0, client.memory().client_slots, 1}, now), EPROTO) << "daemon's range";
  EXPECT_EQ(stack.open_tcp({0, UINT32_MAX, 1}, now), EPROTO);
  EXPECT_EQ(stack.send({0, c.slot, c.generation + 1}, 0, 1, false, false, now), ESTALE);
  EXPECT_EQ(stack.send({0, UINT32_MAX, 1}, 0, 1, false, false, now), ESTALE);
  EXPECT_EQ(stack.send({3, 0, 1}, 0, 1, false, false, now), ESTALE) << "not attached";
  EXPECT_EQ(stack.send({999, 0, 1}, 0, 1, false, false, now), ESTALE);
  EXPECT_EQ(stack.accepted(c, 1, now), ESTALE) << "not a listener";
  EXPECT_EQ(net.stack(1).accepted(listener, 1, now), EPROTO) << "more than there are";
  EXPECT_EQ(stack.set_option(c, 0, 0, now), ENOPROTOOPT);
  EXPECT_EQ(stack.set_option(c, 9999, 0, now), ENOPROTOOPT);
  EXPECT_EQ(stack.set_option(c, 12, 0, now), EINVAL);
  EXPECT_EQ(stack.send_datagram(c, 100, 0, 10, {}, to, 0, 0, now), ESTALE)
      << "not a datagram socket";
  for (uint32_t i = 0; i < 64; ++i) {
    ASSERT_EQ(stack.send(c, 1000 * i, 1, true, false, now), 0);
  }
  EXPECT_EQ(stack.send(c, 100000, 1, true, false, now), EPROTO) << "65 extents";
  client.close(c, now, true);
  net.run_for(1s);
  server.close(s, net.now());
  expect_nothing_left();
}

TEST_F(Tcp, ReceiveMemoryRunsOutByNameAndRecovers) {
  StackNetwork n(5);
  TestApp& c = n.add_app(0);
  TestApp::Options small;
  small.rx_units = 9;  // 8 units: 16 KiB
  TestApp& s = n.add_app(1, small);
  const SocketRef l = s.listen(to, 8);
  std::vector<Flow> flows(4);
  for (Flow& f : flows) {
    f.from = &c;
    f.to = &s;
    f.source = c.open(n.now());
    c.connect(f.source, to, n.now());
    ASSERT_TRUE(n.run([&] { return !s[l].accepted.empty(); }, 5s));
    f.sink = *s.accept(l, n.now());
    f.total = 60000;
  }
  for (int i = 0; i < 200; ++i) {
    for (Flow& f : flows) f.write(n.stack(0), n.now());
    n.run_for(10ms);
  }
  EXPECT_LE(n.stack(1).usage(0).rx_units_used, 8u);
  const bool done = n.run(
      [&] {
        bool all = true;
        for (Flow& f : flows) {
          f.write(n.stack(0), n.now());
          f.drain(n.now());
          all = all && f.done();
        }
        return all;
      },
      600s);
  EXPECT_TRUE(done);
  for (Flow& f : flows) EXPECT_FALSE(f.corrupt);
  EXPECT_GE(n.drops(1, Drop::app_rx_memory), 1u);
  EXPECT_EQ(n.stack(1).usage(0).rx_units_used, 0u);
  EXPECT_EQ(n.complaint(), "");
}

TEST_F(Tcp, DetachInTheMiddleOfATransferLeavesNothing) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  Flow f;
  f.from = &client;
  f.to = &server;
  f.source = c;
  f.sink = s;
  f.total = 1 << 20;
  net.run(
      [&] {
        f.write(net.stack(0), net.now());
        if (f.read < 300000) f.drain(net.now());
        return server[s].unread() > 100000;
      },
      5s);
  EXPECT_NE(net.stack(1).usage(0).rx_units_used, 0u);
  net.stack(1).detach(0, net.now(), false);
  EXPECT_EQ(net.stack(1).usage(0).rx_units_used, 0u);
  ASSERT_TRUE(net.run([&] { return client[c].error == ECONNRESET; }, 5s));
  EXPECT_TRUE(net.stack(1).released(0));
  EXPECT_EQ(net.stack(1).usage(0).sockets, 0u);
  EXPECT_EQ(net.stack(1).usage(0).orphans, 0u);
  client.close(c, net.now());
  // The address is free at once for the next application.
  TestApp& next = net.add_app(1);
  const SocketRef l = next.listen(to, 4);
  const SocketRef again = client.open(net.now());
  client.connect(again, to, net.now());
  ASSERT_TRUE(net.run([&] { return client[again].connected && !next[l].accepted.empty(); }, 5s));
  EXPECT_EQ(net.complaint(), "");
}

TEST_F(Tcp, DetachOfASenderDeliversWhatItHadQueued) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  std::vector<std::byte> bytes(60000, std::byte{42});
  ASSERT_EQ(client.write(c, bytes.data(), bytes.size(), net.now()), bytes.size());
  net.stack(0).detach(0, net.now(), false);
  EXPECT_FALSE(net.stack(0).released(0)) << "its memory is still being sent";
  ASSERT_TRUE(net.run([&] { return server[s].eof; }, 5s));
  EXPECT_EQ(server[s].unread(), 60000u);
  EXPECT_EQ(server[s].error, 0);
  net.run_for(1s);
  EXPECT_TRUE(net.stack(0).released(0));
}

TEST_F(Tcp, EventRingFullLosesNothing) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  server.refuse_events = true;
  say(client, c, "hello");
  net.run_for(100ms);
  EXPECT_EQ(server[s].unread(), 0u);
  say(client, c, " again");
  net.run_for(100ms);
  server.refuse_events = false;
  ASSERT_TRUE(net.run([&] { return server[s].unread() == 11; }, 1s));
  EXPECT_EQ(hear(server, s), "hello again");
  close_both(c, s);
  expect_nothing_left();
}

TEST_F(Tcp, AcknowledgmentsAloneAreToldTogether) {
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  const uint64_t before = client.events();
  for (int i = 0; i < 20; ++i) say(client, c, "x");
  net.run_for(1s);
  EXPECT_EQ(client[c].tx_acked, 20u) << "told when all is acknowledged";
  EXPECT_LE(client.events() - before, 2u);
  close_both(c, s);
}

// ---- transfers over a bad wire ----

struct Weather {
  const char* name;
  uint64_t seed;
  double loss, reorder, duplicate, corrupt;
  uint64_t bytes;
};

class Transfer : public Tcp, public ::testing::WithParamInterface<Weather> {
 protected:
  Transfer() : Tcp(GetParam().seed) {}
};

TEST_P(Transfer, BothWaysIntact) {
  const Weather& w = GetParam();
  const std::pair ends = establish();
  const SocketRef c = ends.first, s = ends.second;
  net.wire.loss = w.loss;
  net.wire.reorder = w.reorder;
  net.wire.duplicate = w.duplicate;
  net.wire.corrupt = w.corrupt;
  Flow up, down;
  up.from = down.to = &client;
  up.to = down.from = &server;
  up.source = down.sink = c;
  up.sink = down.source = s;
  up.total = down.total = w.bytes;
  down.seed = 99;
  net.on_turn = [&](int side) {
    (side == 0 ? up : down).write(net.stack(side), net.now());
    (side == 0 ? down : up).drain(net.now());
  };
  EXPECT_TRUE(net.run([&] { return up.done() && down.done(); }, 3600s))
      << up.read << " and " << down.read;
  EXPECT_FALSE(up.corrupt || down.corrupt);
  EXPECT_EQ(client[c].error, 0);
  EXPECT_EQ(server[s].error, 0);
  net.on_turn = nullptr;
  net.wire = {};
  close_both(c, s);
  expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(Wire, Transfer,
                         ::testing::Values(Weather{"Clear", 1, 0, 0, 0, 0, 10 << 20},
                                           Weather{"Loss1", 2, 0.01, 0, 0, 0, 10 << 20},
                                           Weather{"Loss5", 3, 0.05, 0, 0, 0, 2 << 20},
                                           Weather{"Reorder", 4, 0, 0.05, 0, 0, 10 << 20},
                                           Weather{"Duplicate", 5, 0, 0, 0.05, 0, 10 << 20},
                                           Weather{"Corrupt", 6, 0, 0, 0, 0.01, 4 << 20},
                                           Weather{"All", 7, 0.02, 0.03, 0.02, 0.005, 4 << 20},
                                           Weather{"Storm", 8, 0.15, 0.2, 0.1, 0.02, 256 << 10}),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace postern::test
