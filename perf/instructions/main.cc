// What the worker costs in instructions: a real worker over net_ring, turned by hand, with an
// application on its shared memory and a second stack as the peer. Only the worker's turns are
// counted. Run by run.py under callgrind; time is virtual and every seed fixed, so that two runs of
// one program count the same.
//
//   bench_instructions [SCENARIO...]     prints "SCENARIO UNITS" each, UNITS what to divide by
#include <valgrind/callgrind.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "shm_app.h"
#include "support/test_app.h"
#include "wire.h"

namespace postern::perf {
namespace {

constexpr IpAddress kServer = IpAddress::v4(0x0a000001);
constexpr IpAddress kClient = IpAddress::v4(0x0a000002);
constexpr MacAddress kClientMac{{2, 0, 0, 0, 0, 0x99}};
constexpr Endpoint kService{kServer, 7};
const IpAddress kServer6 = *IpAddress::parse("fd00::1");
const IpAddress kClient6 = *IpAddress::parse("fd00::2");
const Endpoint kService6{kServer6, 7};
constexpr uint32_t kRequest = 64;  // bytes

StackConfig stack_config(const IpAddress& address, const IpAddress& address6, const MacAddress& mac,
                         bool offloads) {
  StackConfig config;
  InterfaceConfig interface;
  interface.mac = mac;
  interface.addresses = {{address, 24}, {address6, 64}};
  interface.offloads.ip_checksum = offloads;
  if (offloads) interface.offloads.l4_checksum = L4Checksum::device;
  config.interfaces = {interface};
  config.max_connections = 4096;
  config.max_udp_sockets = 64;
  config.max_apps = 4;
  config.neighbors.entries = 64;
  config.neighbors.reachable = 3600s;
  config.neighbors.duplicate_probes = 0;
  for (size_t i = 0; i < config.secret.size(); ++i) config.secret[i] = 0x9e3779b9 * (i + 1);
  return config;
}

WorkerOptions worker_options(Wire& wire, bool offloads) {
  WorkerOptions options;
  options.ports = {&wire.port()};
  options.stack = stack_config(kServer, kServer6, wire.port().mac(), offloads);
  return options;
}

test::TestApp::Options client_options() {
  test::TestApp::Options options;
  options.rx_units = 4096;
  options.slots = 512;
  options.client_slots = 480;
  return options;
}

// Everything at both ends of the wire.
class Bench {
 public:
  explicit Bench(AppMode mode, bool offloads = false)
      : wire_("w" + std::to_string(++count_), offloads),
        worker(worker_options(wire_, offloads)),
        app(worker, mode),
        peer_(stack_config(kClient, kClient6, kClientMac, offloads)),
        client(peer_, client_options()),
        memory_(kFrames * kFrameSize) {}

  // One turn of everybody, 10 microseconds after the last.
  void turn() {
    now += 10us;
    peer_.advance(now);
    peer_sends();
    if (counting) CALLGRIND_TOGGLE_COLLECT;
    worker.turn(now);
    if (counting) CALLGRIND_TOGGLE_COLLECT;
    app.serve();
    for (auto frames = wire_.receive(); !frames.empty(); frames = wire_.receive()) {
      peer_.receive(frames, now);
    }
    peer_.publish(1024, [this](const AppEvent& event) { return client.on_event(event); });
  }
  void run_until(const std::function<bool()>& done) {
    for (int turns = 0; !done(); ++turns) {
      if (turns == 100000) throw std::runtime_error("nothing moves any more");
      turn();
    }
    if (!client.complaint().empty()) throw std::runtime_error(client.complaint());
  }
  std::vector<SocketRef> connect(size_t count, const Endpoint& service = kService) {
    app.listen(service);
    std::vector<SocketRef> sockets;
    for (size_t i = 0; i < count; ++i) {
      sockets.push_back(client.open(now));
      client.connect(sockets.back(), service, now);
    }
    run_until([&] { return app.accepted() == count; });
    for (int i = 0; i < 100; ++i) turn();
    return sockets;
  }

 private:
  static constexpr size_t kFrames = 64;
  static constexpr size_t kFrameSize = 2048;

  void peer_sends() {
    std::array<TxFrame, kFrames> frames;
    for (size_t i = 0; i < kFrames; ++i) {
      frames[i].data = memory_.data() + i * kFrameSize;
      frames[i].capacity = kFrameSize;
    }
    const size_t n = peer_.egress(now, frames);
    for (size_t i = 0; i < n; ++i) wire_.send(frames[i].data, frames[i].length);
  }

  static inline int count_ = 0;
  Wire wire_;

 public:
  Worker worker;
  ShmApp app;

 private:
  Stack peer_;

 public:
  test::TestApp client;
  Time now{1s};
  bool counting = false;

 private:
  std::vector<std::byte> memory_;
};

// ---- scenarios: each returns its units ----

uint64_t idle() {
  constexpr uint64_t kTurns = 2560;
  Bench bench(AppMode::sink);
  for (int i = 0; i < 1000; ++i) bench.turn();
  bench.counting = true;
  for (uint64_t i = 0; i < kTurns; ++i) bench.turn();
  return kTurns;
}

// 32 datagrams a turn, all to one socket.
uint64_t udp(AppMode mode) {
  constexpr uint64_t kBatch = 32;
  constexpr uint64_t kCount = 64 * kBatch;
  Bench bench(mode);
  bench.app.bind_udp(kService);
  const SocketRef from = bench.client.bind({kClient, 4000});
  const std::vector<std::byte> payload(18, std::byte{42});
  uint64_t answers = 0;
  const auto send = [&](uint64_t count) {
    const uint64_t before = bench.app.received();
    for (uint64_t i = 0; i < count; ++i) {
      bench.client.send_to(from, kService, payload, bench.now);
    }
    bench.run_until([&] {
      while (bench.client.receive_from(from, bench.now)) ++answers;
      return bench.app.received() == before + count &&
             (mode == AppMode::sink || answers == before + count);
    });
  };
  send(1);  // more than a few would not be held until the neighbor answers
  for (uint64_t i = 0; i < kCount / 4; i += kBatch) send(kBatch);
  bench.counting = true;
  for (uint64_t i = 0; i < kCount; i += kBatch) send(kBatch);
  return kCount;
}
uint64_t udp_receive() { return udp(AppMode::sink); }
uint64_t udp_echo() { return udp(AppMode::echo); }

// Closed loops of one request each, on `connections`.
uint64_t echo(size_t connections, uint64_t rounds, bool offloads,
              const Endpoint& service = kService) {
  Bench bench(AppMode::echo, offloads);
  const std::vector<SocketRef> sockets = bench.connect(connections, service);
  std::array<std::byte, kRequest> request{};
  const auto round = [&] {
    for (const SocketRef s : sockets) {
      bench.client.write(s, request.data(), kRequest, bench.now);
    }
    bench.run_until([&] {
      return std::all_of(sockets.begin(), sockets.end(),
                         [&](SocketRef s) { return bench.client[s].unread() == kRequest; });
    });
    for (const SocketRef s : sockets) {
      bench.client.read(s, request.data(), kRequest, bench.now);
    }
  };
  for (uint64_t i = 0; i < rounds / 4; ++i) round();
  bench.counting = true;
  for (uint64_t i = 0; i < rounds; ++i) round();
  return rounds * connections;
}
uint64_t echo_1() { return echo(1, 400, false); }
uint64_t echo_128() { return echo(128, 16, false); }
uint64_t echo_128_v6() { return echo(128, 16, false, kService6); }
uint64_t echo_128_offload() { return echo(128, 16, true); }

constexpr uint64_t kBulk = 2 << 20;  // bytes
constexpr uint64_t kSegment = 1448;

uint64_t bulk_in() {
  Bench bench(AppMode::sink);
  const SocketRef s = bench.connect(1).front();
  const std::vector<std::byte> data(32768);
  for (const uint64_t target : {kBulk / 4, kBulk / 4 + kBulk}) {
    while (bench.app.received() < target) {
      bench.client.write(s, data.data(), data.size(), bench.now);
      bench.turn();
    }
    bench.counting = true;
  }
  return kBulk / kSegment;
}

uint64_t bulk_out() {
  Bench bench(AppMode::source);
  const SocketRef s = bench.connect(1).front();
  std::vector<std::byte> data(65536);
  uint64_t read = 0;
  for (const uint64_t target : {kBulk / 4, kBulk / 4 + kBulk}) {
    const uint64_t end = read + target;
    while (read < end) {
      bench.turn();
      while (const size_t n = bench.client.read(s, data.data(), data.size(), bench.now)) read += n;
    }
    bench.counting = true;
  }
  return kBulk / kSegment;
}

// Open, one request and its answer, close by the client; 32 at a time.
uint64_t connect() {
  constexpr uint64_t kCount = 320;
  Bench bench(AppMode::echo);
  bench.app.listen(kService);
  std::vector<SocketRef> sockets(32);
  std::array<std::byte, kRequest> request{};
  const auto everyone = [&](auto&& what) {
    bench.run_until([&] { return std::all_of(sockets.begin(), sockets.end(), what); });
  };
  const auto batch = [&] {
    const uint64_t released = bench.app.released();
    for (SocketRef& s : sockets) {
      s = bench.client.open(bench.now);
      bench.client.connect(s, kService, bench.now);
    }
    everyone([&](SocketRef s) { return bench.client[s].connected; });
    for (const SocketRef s : sockets) {
      bench.client.write(s, request.data(), kRequest, bench.now);
    }
    everyone([&](SocketRef s) { return bench.client[s].unread() == kRequest; });
    for (const SocketRef s : sockets) {
      bench.client.read(s, request.data(), kRequest, bench.now);
      bench.client.close(s, bench.now);
    }
    bench.run_until([&] { return bench.app.released() == released + sockets.size(); });
  };
  for (uint64_t i = 0; i < kCount / 4; i += sockets.size()) batch();
  bench.counting = true;
  for (uint64_t i = 0; i < kCount; i += sockets.size()) batch();
  return kCount;
}

struct Scenario {
  const char* name;
  uint64_t (*run)();
};
constexpr Scenario kScenarios[] = {
    {"idle", idle},
    {"udp_receive", udp_receive},
    {"udp_echo", udp_echo},
    {"echo_1", echo_1},
    {"echo_128", echo_128},
    {"echo_128_v6", echo_128_v6},
    {"echo_128_offload", echo_128_offload},
    {"bulk_in", bulk_in},
    {"bulk_out", bulk_out},
    {"connect", connect},
};

int run(const std::vector<std::string_view>& wanted) {
  EalOptions options;
  options.hugepages = HugepageMode::off;
  options.memory = 96 << 20;
  options.file_prefix = "postern-instructions";
  options.extra_args = {"--no-shconf"};
  Eal eal(options);
  for (const Scenario& scenario : kScenarios) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), scenario.name) == wanted.end()) {
      continue;
    }
    const uint64_t units = scenario.run();
    CALLGRIND_DUMP_STATS_AT(scenario.name);
    std::printf("%s %llu\n", scenario.name, static_cast<unsigned long long>(units));
  }
  return 0;
}

}  // namespace
}  // namespace postern::perf

int main(int argc, char** argv) {
  try {
    return postern::perf::run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_instructions: %s\n", e.what());
    return 1;
  }
}
