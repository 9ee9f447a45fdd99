#include "dataplane/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <rte_eth_ring.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>

#include "../dpdk/eal_environment.h"
#include "dataplane/steering.h"
#include "dpdk/burst.h"
#include "frames.h"

namespace postern {
namespace {

using test::Frame;
using Clock = std::chrono::steady_clock;

constexpr MacAddress kPeerMac{{2, 0, 0, 0, 0, 0x99}};
constexpr MacAddress kBroadcast{{255, 255, 255, 255, 255, 255}};
constexpr uint32_t kOurs = 0x0a000001, kPeer = 0x0a000002;

// A port whose wire ends in this test.
class RingPort {
 public:
  RingPort(uint16_t device_queues, uint16_t workers, unsigned depth = 1024)
      : pool_((test::eal(), "peer" + std::to_string(++instances_)), 4095, 2048, -1) {
    const std::string name = "t" + std::to_string(instances_);
    for (uint16_t q = 0; q < device_queues; ++q) {
      in_.push_back(make(name + "i" + std::to_string(q), depth));
      out_.push_back(make(name + "o" + std::to_string(q), depth));
    }
    EXPECT_GE(
        rte_eth_from_rings(name.c_str(), in_.data(), device_queues, out_.data(), device_queues, 0),
        0);
    PortOptions o;
    o.name = "test";
    o.device = "net_ring_" + name;
    o.queues = std::min(device_queues, workers);
    port_ = Port::open(o);
  }
  ~RingPort() {
    port_.reset();
    for (auto* rings : {&in_, &out_}) {
      for (rte_ring* ring : *rings) {
        void* m = nullptr;
        while (rte_ring_dequeue(ring, &m) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(m));
        rte_ring_free(ring);
      }
    }
  }

  Port& port() { return *port_; }
  bool send(const Frame& frame, uint16_t queue = 0) {
    rte_mbuf* m = rte_pktmbuf_alloc(pool_.get());
    if (m == nullptr) return false;
    compat::buffers_taken();
    std::memcpy(rte_pktmbuf_append(m, static_cast<uint16_t>(frame.size())), frame.data(),
                frame.size());
    compat::buffers_given();
    if (rte_ring_enqueue(in_[queue], m) == 0) return true;
    rte_pktmbuf_free(m);
    return false;
  }
  // What the worker sent, empty after `wait` without anything.
  Frame receive(Duration wait = 2s) {
    const auto end = Clock::now() + wait;
    do {
      for (rte_ring* ring : out_) {
        void* p = nullptr;
        if (rte_ring_dequeue(ring, &p) != 0) continue;
        compat::buffers_taken();
        auto* m = static_cast<rte_mbuf*>(p);
        const auto* data = rte_pktmbuf_mtod(m, const std::byte*);
        Frame frame(data, data + rte_pktmbuf_data_len(m));
        compat::buffers_given();
        rte_pktmbuf_free(m);
        return frame;
      }
      std::this_thread::sleep_for(20us);
    } while (Clock::now() < end);
    return {};
  }
  // As receive(), but answers requests for the peer's address in between.
  Frame receive_answering(Duration wait = 2s) {
    for (;;) {
      Frame f = receive(wait);
      if (f.size() < 42 || f[13] != std::byte{0x06} || f[21] != std::byte{1}) return f;
      send(test::arp(2, port().mac(), kPeerMac, kPeer, port().mac(), kOurs));
    }
  }
  // The next reply to the peer's ARP request; announcements (RFC 5227) are passed over.
  Frame receive_arp_reply(Duration wait = 2s) {
    for (;;) {
      Frame f = receive(wait);
      if (f.size() < 42 || f[21] == std::byte{2}) return f;
    }
  }

 private:
  static rte_ring* make(const std::string& name, unsigned depth) {
    return rte_ring_create(name.c_str(), depth, -1, RING_F_SP_ENQ | RING_F_SC_DEQ);
  }
  static inline int instances_ = 0;
  PacketPool pool_;
  std::vector<rte_ring*> in_, out_;
  std::unique_ptr<Port> port_;
};

struct Call : WorkerCall {
  explicit Call(std::function<void(Worker&)> f) : work(std::move(f)) {
    run = [](Worker& worker, WorkerCall& call) noexcept { static_cast<Call&>(call).work(worker); };
  }
  std::function<void(Worker&)> work;
};

// Has the worker do something and waits until it is done.
void on_worker(Worker& worker, std::function<void(Worker&)> work) {
  Call call(std::move(work));
  ASSERT_TRUE(worker.submit(&call));
  pollfd p{worker.attention_fd(), POLLIN, 0};
  WorkerCall* done = nullptr;
  while ((done = worker.completed()) == nullptr) ASSERT_EQ(poll(&p, 1, 5000), 1);
  ASSERT_EQ(done, &call);
}

WorkerOptions options_for(Port& port) {
  WorkerOptions o;
  o.ports = {&port};
  InterfaceConfig interface;
  interface.mac = port.mac();
  interface.addresses = {{IpAddress::v4(kOurs), 24}};
  interface.offloads = port.tx_offloads();
  o.stack.interfaces = {interface};
  o.stack.secret = {1, 2, 3, 4};
  o.stack.icmp_rate = 60000;
  o.stack.max_connections = 1024;
  o.stack.max_udp_sockets = 64;
  o.stack.max_apps = 8;
  return o;
}

uint64_t count(Worker& worker, Counter c) {
  uint64_t value = 0;
  on_worker(worker, [&](Worker& w) { value = w.stack().counters().get(c); });
  return value;
}
uint64_t count(Worker& worker, Drop d) {
  uint64_t value = 0;
  on_worker(worker, [&](Worker& w) { value = w.stack().counters().get(d); });
  return value;
}

template <class Condition>
bool eventually(Condition condition) {
  const auto end = Clock::now() + 5s;
  while (Clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

Frame echo_request(const MacAddress& to, uint16_t sequence, size_t bytes = 56) {
  return test::ipv4(to, kPeerMac, kPeer, kOurs, 1, test::icmp_echo(7, sequence, bytes));
}

class WorkerTest : public testing::TestWithParam<IdleMode> {
 protected:
  WorkerTest() { test::eal(); }
};
INSTANTIATE_TEST_SUITE_P(Idle, WorkerTest, testing::Values(IdleMode::adaptive, IdleMode::busy),
                         [](const auto& i) {
                           return i.param == IdleMode::busy ? "busy" : "adaptive";
                         });

TEST_P(WorkerTest, AnswersArpAndPing) {
  RingPort wire(1, 1);
  WorkerOptions o = options_for(wire.port());
  o.idle = GetParam();
  Worker worker(o);
  worker.start();
  ASSERT_TRUE(wire.send(test::arp(1, kBroadcast, kPeerMac, kPeer, {}, kOurs)));
  Frame reply = wire.receive_arp_reply();
  ASSERT_GE(reply.size(), 42U);
  reply.resize(42);  // without padding
  EXPECT_EQ(reply, test::arp(2, kPeerMac, wire.port().mac(), kOurs, kPeerMac, kPeer));

  for (uint16_t sequence = 1; sequence <= 20; ++sequence) {
    ASSERT_TRUE(wire.send(echo_request(wire.port().mac(), sequence)));
    const Frame echo = wire.receive_answering();
    ASSERT_EQ(echo.size(), 14U + 20 + 8 + 56) << sequence;
    EXPECT_EQ(echo[34], std::byte{0});  // echo reply
    EXPECT_EQ(static_cast<uint8_t>(echo[41]), sequence);
    EXPECT_TRUE(checksum_is_good(checksum_add({echo.data() + 34, 64})));
    EXPECT_TRUE(checksum_is_good(checksum_add({echo.data() + 14, 20})));
  }
  EXPECT_EQ(count(worker, Counter::icmp_rx), 20U);
  worker.stop();
  // What was counted last is shown after the end.
  EXPECT_EQ(worker.counters().values[static_cast<size_t>(Counter::icmp_tx)].load(), 20U);
  EXPECT_GT(worker.counters().values[static_cast<size_t>(Counter::worker_turns)].load(), 0U);
}

TEST_P(WorkerTest, MailboxIsBoundedAndInOrder) {
  RingPort wire(1, 1);
  WorkerOptions o = options_for(wire.port());
  o.idle = GetParam();
  Worker worker(o);
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<size_t> ran;
  for (size_t i = 0; i < 300; ++i) {
    calls.push_back(std::make_unique<Call>([&ran, i](Worker&) { ran.push_back(i); }));
  }
  size_t accepted = 0;
  while (accepted < calls.size() && worker.submit(calls[accepted].get())) ++accepted;
  EXPECT_EQ(accepted, 256U);
  worker.start();
  pollfd p{worker.attention_fd(), POLLIN, 0};
  for (size_t i = 0; i <= accepted; ++i) {
    WorkerCall* done = nullptr;
    while ((done = worker.completed()) == nullptr) ASSERT_EQ(poll(&p, 1, 5000), 1);
    EXPECT_EQ(done, calls[i].get());
    if (i > 0) continue;
    EXPECT_TRUE(worker.submit(calls[accepted].get()));  // there is room again
  }
  worker.stop();
  ASSERT_EQ(ran.size(), 257U);
  EXPECT_TRUE(std::is_sorted(ran.begin(), ran.end()));
}

TEST_F(WorkerTest, ACoreThatIsNotThereIsAnError) {
  RingPort wire(1, 1);
  WorkerOptions o = options_for(wire.port());
  o.core = 1000;
  Worker worker(o);
  try {
    worker.start();
    FAIL() << "runs on a core that does not exist";
  } catch (const std::system_error& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("core 1000"));
  }
}

TEST_F(WorkerTest, SeveralWorkersNeedAMesh) {
  RingPort wire(2, 2);
  WorkerOptions o = options_for(wire.port());
  o.count = 2;
  EXPECT_THROW(Worker{o}, std::logic_error);
}

TEST_F(WorkerTest, ADeviceThatTakesNothingStopsNobody) {
  constexpr uint16_t kPings = 2000;
  RingPort wire(1, 1, 64);  // holds 63
  Worker worker(options_for(wire.port()));
  worker.start();
  ASSERT_TRUE(wire.send(test::arp(1, kBroadcast, kPeerMac, kPeer, {}, kOurs)));
  ASSERT_FALSE(wire.receive_arp_reply().empty());
  for (uint16_t i = 0; i < kPings; ++i) {
    while (!wire.send(echo_request(wire.port().mac(), i))) std::this_thread::sleep_for(50us);
  }
  // Each was answered or is a drop with a name; the turns go on meanwhile.
  ASSERT_TRUE(eventually([&] {
    return count(worker, Counter::icmp_rx) + count(worker, Drop::icmp_rate_limited) == kPings;
  }));
  unsigned received = 0;
  while (!wire.receive_answering(100ms).empty()) ++received;
  EXPECT_GT(received, 63U);                          // what was kept went out once there was room
  EXPECT_EQ(count(worker, Drop::tx_ring_full), 0U);  // one port: the stack waits instead
  ASSERT_TRUE(wire.send(echo_request(wire.port().mac(), 1)));
  EXPECT_FALSE(wire.receive_answering().empty());
}

class MeshTest : public testing::Test {
 protected:
  MeshTest() { test::eal(); }

  // `queues` of the device for two workers.
  void start(uint16_t queues) {
    wire_ = std::make_unique<RingPort>(queues, 2);
    mesh_ = std::make_unique<WorkerMesh>(2);
    for (uint32_t i = 0; i < 2; ++i) {
      WorkerOptions o = options_for(wire_->port());
      o.index = i;
      o.count = 2;
      o.mesh = mesh_.get();
      workers_[i] = std::make_unique<Worker>(o);
    }
    for (auto& worker : workers_) worker->start();
  }
  static Frame datagram(uint16_t port, const MacAddress& mac) {
    return test::ipv4(mac, kPeerMac, kPeer, kOurs, 17, test::udp(kPeer, kOurs, port, 9, Frame(32)));
  }
  static uint32_t owner(uint16_t port, uint16_t server_port) {
    return owner_of({IpAddress::v4(kOurs), server_port}, {IpAddress::v4(kPeer), port}, 2);
  }

  std::unique_ptr<RingPort> wire_;
  std::unique_ptr<WorkerMesh> mesh_;
  std::array<std::unique_ptr<Worker>, 2> workers_;
};

TEST_F(MeshTest, FlowsReachTheirOwnerWhateverTheQueue) {
  start(2);
  std::array<uint64_t, 2> expected{}, crossed{};
  for (uint16_t port = 5000; port < 5400; ++port) {
    const uint16_t queue = port / 3 % 2;
    const uint32_t to = owner(port, 9);
    ++expected[to];
    if (to != queue) ++crossed[queue];
    while (!wire_->send(datagram(port, wire_->port().mac()), queue)) {
      std::this_thread::sleep_for(50us);
    }
  }
  for (uint32_t w = 0; w < 2; ++w) {
    EXPECT_GT(expected[w], 100U);
    EXPECT_TRUE(eventually([&] { return count(*workers_[w], Drop::udp_no_socket) == expected[w]; }))
        << "worker " << w;
    EXPECT_EQ(count(*workers_[w], Counter::handoff_packets), crossed[w]);
  }
}

// One queue: worker 1 neither receives nor sends by itself. It must resolve the peer by ARP and
// answer a SYN with a reset all the same; and nobody may answer an ARP request twice.
TEST_F(MeshTest, AWorkerWithoutAQueueSendsThroughAnother) {
  start(1);
  ASSERT_TRUE(wire_->send(test::arp(1, kBroadcast, kPeerMac, kPeer, {}, kOurs)));
  ASSERT_GE(wire_->receive_arp_reply().size(), 42U);
  EXPECT_TRUE(wire_->receive_arp_reply(100ms).empty()) << "answered twice";

  std::array<unsigned, 2> resets{};
  for (uint16_t port = 6000; port < 6040; ++port) {
    Frame syn = test::tcp_header(port, 80);
    syn[13] = std::byte{2};
    test::put_checksum(
        syn, 16,
        checksum_combine(pseudo_header_sum(IpAddress::v4(kPeer), IpAddress::v4(kOurs), 6, 20),
                         checksum_add(syn)));
    ASSERT_TRUE(wire_->send(test::ipv4(wire_->port().mac(), kPeerMac, kPeer, kOurs, 6, syn)));
    const Frame reset = wire_->receive_answering();
    ASSERT_GE(reset.size(), 54U) << port;
    EXPECT_EQ(static_cast<uint8_t>(reset[47]) & 0x04, 0x04);
    ++resets[owner(port, 80)];
  }
  EXPECT_GT(resets[0], 5U);
  EXPECT_GT(resets[1], 5U);
  EXPECT_EQ(count(*workers_[1], Drop::tcp_no_socket), resets[1]);
  EXPECT_EQ(count(*workers_[1], Counter::rx_packets), 0U);
}

// ---- applications ----

// What a client does with its two segments, by hand.
class RawClient {
 public:
  explicit RawClient(AppSegment& segment)
      : ours_(map(segment.client_fd(), segment.client_size(), PROT_READ | PROT_WRITE)),
        theirs_(map(segment.daemon_fd(), segment.daemon_size(), PROT_READ)),
        wakes_worker_(segment.worker_doorbell(0)),
        wakes_us_(segment.client_doorbell(0)) {}

  template <class T>
  T* region(uint32_t kind) {
    for (std::byte* base : {ours_, theirs_}) {
      const auto* header = reinterpret_cast<const shm_header*>(base);
      const auto* regions = reinterpret_cast<const shm_region*>(base + header->regions_offset);
      for (uint32_t i = 0; i < header->region_count; ++i) {
        if (regions[i].kind == kind) return reinterpret_cast<T*>(base + regions[i].offset);
      }
    }
    return nullptr;
  }
  void command(shm_command c) {
    auto* entry = region<shm_command>(SHM_REGION_COMMAND_RING) + next_command_;
    c.seq = 0;
    *entry = c;
    std::atomic_ref<uint32_t>(entry->seq).store(++next_command_, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    auto* channel = region<shm_channel_daemon>(SHM_REGION_CHANNEL_DAEMON);
    if ((__atomic_load_n(&channel->armed, __ATOMIC_RELAXED) & 1) != 0) {
      const uint64_t one = 1;
      ASSERT_EQ(write(wakes_worker_, &one, sizeof(one)), 8);
    }
  }
  // Sleeps as a client does until an event comes.
  bool wait_event(shm_event* out) {
    auto* entry = region<shm_event>(SHM_REGION_EVENT_RING) + next_event_;
    auto* channel = region<shm_channel_client>(SHM_REGION_CHANNEL_CLIENT);
    __atomic_add_fetch(&channel->armed, 1, __ATOMIC_SEQ_CST);
    const auto there = [&] {
      return __atomic_load_n(&entry->seq, __ATOMIC_ACQUIRE) == next_event_ + 1;
    };
    pollfd p{wakes_us_, POLLIN, 0};
    bool rung = true;
    if (!there()) {
      rung = poll(&p, 1, 3000) == 1;
      char drain[64];
      if (rung) (void)!read(wakes_us_, drain, sizeof(drain));
    }
    __atomic_add_fetch(&channel->armed, 1, __ATOMIC_SEQ_CST);
    if (!rung || !there()) return false;
    *out = *entry;
    ++next_event_;
    __atomic_store_n(&channel->event_head, next_event_, __ATOMIC_RELEASE);
    return true;
  }

 private:
  static std::byte* map(int fd, uint64_t size, int protection) {
    void* p = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
    EXPECT_NE(p, MAP_FAILED);
    return static_cast<std::byte*>(p);
  }
  std::byte* ours_;
  std::byte* theirs_;
  int wakes_worker_, wakes_us_;
  uint32_t next_command_ = 0, next_event_ = 0;
};

class AppsTest : public testing::Test {
 protected:
  static constexpr AppId kApp = 3;
  AppsTest() {
    test::eal();
    wire_ = std::make_unique<RingPort>(1, 1);
    worker_ = std::make_unique<Worker>(options_for(wire_->port()));
    SegmentOptions o;
    o.slots = 64;
    o.client_slots = 32;
    o.rx_pool_bytes = o.tx_pool_bytes = 1 << 20;
    segment_ = AppSegment::create(o);
    channel_ = std::make_unique<Channel>(*segment_, 0);
    client_ = std::make_unique<RawClient>(*segment_);
    worker_->start();
    on_worker(*worker_, [this](Worker& w) { w.attach(kApp, channel_.get()); });
    wire_->send(test::arp(1, kBroadcast, kPeerMac, kPeer, {}, kOurs));
    wire_->receive_arp_reply();
  }
  void bind_udp(uint32_t slot, uint16_t port) {
    on_worker(*worker_, [=](Worker& w) {
      const SocketRef socket{kApp, slot, 1};
      ASSERT_EQ(w.stack().bind_udp(socket, {IpAddress::v4(kOurs), port}, false), 0);
      w.publish_socket(socket);
    });
  }
  std::unique_ptr<RingPort> wire_;
  std::unique_ptr<AppSegment> segment_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<RawClient> client_;
  std::unique_ptr<Worker> worker_;
};

TEST_F(AppsTest, ADatagramWakesItsSleepingApplication) {
  bind_udp(5, 7000);
  const shm_socket* socket = client_->region<shm_socket>(SHM_REGION_SOCKETS) + 5;
  EXPECT_EQ(socket->generation, 1U);
  EXPECT_EQ(socket->local_port, 7000);
  EXPECT_EQ(socket->is_v6, 0);
  for (uint32_t round = 1; round <= 3; ++round) {
    wire_->send(test::ipv4(wire_->port().mac(), kPeerMac, kPeer, kOurs, 17,
                           test::udp(kPeer, kOurs, 4000, 7000, Frame(24, std::byte{0x42}))));
    shm_event event{};
    ASSERT_TRUE(client_->wait_event(&event)) << round;
    EXPECT_EQ(event.type, SHM_EVENT_UPDATE);
    EXPECT_EQ(event.slot, 5U);
    EXPECT_EQ(event.rx_tail, round * (sizeof(shm_datagram) + 24));
    EXPECT_EQ((event.flags & SHM_EV_NEW_CHAIN) != 0, round == 1);
  }
}

TEST_F(AppsTest, SendtoWakesTheSleepingWorkerAndLeavesByTheWire) {
  bind_udp(5, 7000);
  std::this_thread::sleep_for(5ms);  // asleep by now
  auto* record = client_->region<shm_datagram>(SHM_REGION_TX_POOL);
  *record = {};
  record->length = 11;
  record->port = 4000;
  std::memcpy(record->address, IpAddress::v4(kPeer).data(), 16);
  std::memcpy(record + 1, "hello world", 11);
  shm_command c{};
  c.op = SHM_OP_SENDTO;
  c.flags = SHM_CMD_WANT_TX;  // or no doorbell rings for the event
  c.slot = 5;
  c.generation = 1;
  c.length = 64;
  client_->command(c);
  const Frame f = wire_->receive_answering();
  ASSERT_GE(f.size(), 14U + 20 + 8 + 11);
  EXPECT_EQ(std::memcmp(f.data() + 42, "hello world", 11), 0);
  shm_event event{};
  ASSERT_TRUE(client_->wait_event(&event));
  EXPECT_EQ(event.tx_acked, 64U);
}

TEST_F(AppsTest, AStaleCloseIsCountedAndAnswered) {
  shm_command c{};
  c.op = SHM_OP_CLOSE;
  c.slot = 9;
  c.generation = 77;
  client_->command(c);
  EXPECT_TRUE(eventually([&] { return count(*worker_, Counter::app_stale_handles) == 1; }));
  shm_event event{};
  ASSERT_TRUE(client_->wait_event(&event));  // the slot of an OPEN that failed is free again
  EXPECT_EQ(event.type, SHM_EVENT_RELEASED);
  EXPECT_EQ(event.slot, 9U);
  EXPECT_EQ(event.generation, 77U);
  const char* reason = nullptr;
  EXPECT_EQ(worker_->evicted(&reason), Worker::kNoApp);
}

TEST_F(AppsTest, ABrokenContractEvictsOnceAndTheWorkerGoesOn) {
  bind_udp(5, 7000);
  shm_command c{};
  c.op = 99;
  c.generation = 1;
  client_->command(c);
  const char* reason = nullptr;
  pollfd p{worker_->attention_fd(), POLLIN, 0};
  AppId evicted = Worker::kNoApp;
  while (evicted == Worker::kNoApp) {
    ASSERT_EQ(worker_->completed(), nullptr);  // lowers the flag of earlier calls
    ASSERT_EQ(poll(&p, 1, 5000), 1);
    evicted = worker_->evicted(&reason);
  }
  ASSERT_EQ(evicted, kApp);
  ASSERT_NE(reason, nullptr);
  EXPECT_GT(std::strlen(reason), 5U);
  EXPECT_EQ(worker_->evicted(&reason), Worker::kNoApp);
  client_->command(c);
  on_worker(*worker_, [](Worker& w) { w.detach(kApp, true); });
  EXPECT_TRUE(eventually([&] {
    bool released = false;
    on_worker(*worker_, [&](Worker& w) { released = w.stack().released(kApp); });
    return released;
  }));
  on_worker(*worker_, [](Worker& w) { w.forget(kApp); });
  EXPECT_EQ(worker_->evicted(&reason), Worker::kNoApp);
  ASSERT_TRUE(wire_->send(echo_request(wire_->port().mac(), 1)));
  EXPECT_FALSE(wire_->receive_answering().empty());
}

// ---- sleep and wake, over a device that can wake ----

class IdleTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs root";
    test::eal();
    ASSERT_EQ(std::system("ip link add pa type veth peer name pb && "
                          "sysctl -qw net.ipv6.conf.pa.disable_ipv6=1 "
                          "net.ipv6.conf.pb.disable_ipv6=1 && "
                          "ip link set pa up && ip link set pb up"),
              0);
    PortOptions o;
    o.name = "test";
    o.device = "net_af_packet8,iface=pa";
    port_ = Port::open(o);
    worker_ = std::make_unique<Worker>(options_for(*port_));
    worker_->start();
    peer_ = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ARP));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ARP);
    address.sll_ifindex = static_cast<int>(if_nametoindex("pb"));
    ASSERT_EQ(bind(peer_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  void TearDown() override {
    worker_.reset();
    port_.reset();
    if (peer_ >= 0) close(peer_);
  }
  // Time from a request to its answer, by a peer that spins.
  Duration round_trip() {
    const Frame request = test::arp(1, kBroadcast, kPeerMac, kPeer, {}, kOurs);
    const auto start = Clock::now();
    if (write(peer_, request.data(), request.size()) < 0) return Duration::max();
    char buffer[128];
    while (Clock::now() - start < 1s) {
      const ssize_t n = recv(peer_, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (n >= 42 && buffer[21] == 2) return Clock::now() - start;
    }
    return Duration::max();
  }
  Duration cpu_time() {
    timespec t{};
    on_worker(*worker_, [&](Worker&) { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); });
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  }

  std::unique_ptr<Port> port_;
  std::unique_ptr<Worker> worker_;
  int peer_ = -1;
};

TEST_F(IdleTest, AnIdleWorkerCostsNothing) {
  std::this_thread::sleep_for(10ms);
  const Duration before = cpu_time();
  std::this_thread::sleep_for(1s);
  const Duration used = cpu_time() - before;
  RecordProperty("cpu_microseconds_per_second", static_cast<int>(used / 1us));
  EXPECT_LT(used, 30ms);
}

TEST_F(IdleTest, APacketWakesASleepingWorker) {
  std::vector<Duration> times;
  for (int i = 0; i < 200; ++i) {
    std::this_thread::sleep_for(2ms);  // longer than it looks around before it sleeps
    times.push_back(round_trip());
  }
  std::sort(times.begin(), times.end());
  RecordProperty("median_microseconds", static_cast<int>(times[100] / 1us));
  RecordProperty("p99_microseconds", static_cast<int>(times[198] / 1us));
  EXPECT_GT(count(*worker_, Counter::worker_sleeps), 150U);
  EXPECT_LT(times[100], 200us);  // there and back; the wake-up is a part of it
  EXPECT_LT(times.back(), 1s) << "a wake-up was lost";
}

TEST_F(IdleTest, AnInterfaceThatGoesDownDoesNotKeepItAwake) {
  ASSERT_EQ(std::system("ip link set pa down"), 0);
  std::this_thread::sleep_for(10ms);
  const Duration before = cpu_time();
  std::this_thread::sleep_for(500ms);
  EXPECT_LT(cpu_time() - before, 15ms);
  ASSERT_EQ(std::system("ip link set pa up"), 0);
  EXPECT_TRUE(eventually([&] { return round_trip() < 1s; }));
}

}  // namespace
}  // namespace postern
