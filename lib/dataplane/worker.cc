#include "dataplane/worker.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "base/spsc_ring.h"
#include "dataplane/bell.h"
#include "dataplane/edge.h"
#include "dataplane/sleeper.h"
#include "dataplane/steering.h"
#include "dataplane/transmit.h"
#include "dataplane/worker_apps.h"
#include "dpdk/burst.h"

namespace postern {
namespace {

constexpr size_t kRxBurst = 64;
constexpr size_t kTxBurst = 64;
constexpr size_t kTxBudget = 256;  // frames a turn
constexpr uint32_t kMailbox = 256;
constexpr uint32_t kHousekeeping = 256;  // turns
constexpr Duration kBlockedNap = 1ms;    // something waits that wakes nobody: a full ring, a device

Time clock_now() noexcept {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);  // answered in user space
  return Time(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
}

uint32_t pool_size(const WorkerOptions& o) {
  uint32_t buffers = 2 * kTxBurst + 512 + 4 * Impairment::kHeld;
  for (const Port* port : o.ports) {
    buffers += port->options().tx_descriptors + TransmitQueue::kCapacity;
  }
  return buffers;
}

uint32_t longest_frame(const WorkerOptions& o) {
  uint32_t frame = 2048;
  for (const Port* port : o.ports) frame = std::max(frame, port->max_frame());
  return frame;
}

StackConfig stack_config(const WorkerOptions& o) {
  StackConfig config = o.stack;
  config.owns_tuple = nullptr;
  if (o.count > 1) {
    config.opaque = const_cast<WorkerOptions*>(&o);
    config.owns_tuple = [](void* opaque, const Endpoint& local, const Endpoint& remote) {
      const auto* options = static_cast<const WorkerOptions*>(opaque);
      return owner_of(local, remote, options->count) == options->index;
    };
  }
  return config;
}

}  // namespace

struct Worker::Impl {
  Impl(Worker& worker, const WorkerOptions& o);
  ~Impl();

  void thread_main(std::promise<int>& started);
  void run() noexcept;
  void leave() noexcept;

  // One step of a turn each; how much there was to do.
  uint32_t receive() noexcept;
  uint32_t receive_from(uint16_t interface) noexcept;
  uint32_t receive_handed_over() noexcept;
  uint32_t run_calls() noexcept;
  uint32_t egress() noexcept;
  uint32_t flush_all() noexcept;
  uint32_t publish() noexcept;
  void housekeeping() noexcept;
  void sleep() noexcept;

  size_t keep_contiguous(rte_mbuf** packets, size_t n) noexcept;
  size_t hand_over(uint16_t interface, rte_mbuf** packets, size_t n) noexcept;
  [[nodiscard]] rte_mbuf* teach_everyone(uint16_t interface, rte_mbuf* packet) noexcept;
  void give_to(uint32_t worker, rte_mbuf* packet) noexcept;
  void deliver(rte_mbuf** packets, size_t n) noexcept;
  bool refill(size_t used) noexcept;
  void transmit(rte_mbuf* packet, uint16_t interface) noexcept;
  void send(rte_mbuf* packet, uint16_t interface) noexcept;
  void release_held() noexcept;
  [[nodiscard]] Duration time_to_sleep() const noexcept;

  Worker& worker;
  const WorkerOptions options;
  PacketPool pool;  // buffers to send from, and copies
  Stack stack;
  Counters& counters;
  WorkerApps apps;
  std::optional<Bell> own_bell;
  Bell& bell;
  Bell attention;  // of the control thread
  Sleeper sleeper;
  std::vector<std::unique_ptr<TransmitQueue>> transmit_queues;  // by interface
  std::vector<uint16_t> interface_of;                           // by DPDK's port id
  std::unique_ptr<Impairment> rx_impairment;
  std::vector<std::unique_ptr<Impairment>> tx_impairment;  // by interface; empty: none

  Time now{};
  Time last_work{};
  uint32_t turns = 0;
  std::array<rte_mbuf*, kTxBurst> spare{};  // buffers of `frames`
  std::array<TxFrame, kTxBurst> frames{};
  size_t spares = 0;

  SpscRing<WorkerCall*> mailbox{kMailbox};
  SpscRing<WorkerCall*> done{kMailbox};
  uint32_t outstanding = 0;  // control thread: submitted and not taken back
  PublishedCounters published;
  std::atomic<bool> stopping{false};
  std::thread thread;
};

Worker::Impl::Impl(Worker& w, const WorkerOptions& o)
    : worker(w),
      options(o),
      pool("tx-w" + std::to_string(o.index), pool_size(o), longest_frame(o),
           o.ports.empty() ? -1 : o.ports.front()->socket()),
      stack(stack_config(options)),
      counters(stack.counters()),
      apps(stack, o.stack.max_apps),
      bell(o.mesh != nullptr ? o.mesh->bell(o.index) : own_bell.emplace()),
      sleeper(o.ports, static_cast<uint16_t>(o.index), bell) {
  interface_of.assign(RTE_MAX_ETHPORTS, 0);
  for (uint16_t i = 0; i < options.ports.size(); ++i) {
    transmit_queues.push_back(
        std::make_unique<TransmitQueue>(*options.ports[i], options.index, options.mesh));
    interface_of[options.ports[i]->id()] = i;
  }
  const ImpairmentOptions& bad = options.impairment;
  if (bad.seed == 0) return;
  uint64_t stream = uint64_t{options.index} << 16;
  if (bad.rx) rx_impairment = std::make_unique<Impairment>(bad, stream, pool.get());
  for (size_t i = 0; bad.tx && i < options.ports.size(); ++i) {
    tx_impairment.push_back(std::make_unique<Impairment>(bad, ++stream, pool.get()));
  }
}

Worker::Impl::~Impl() { rte_pktmbuf_free_bulk(spare.data(), static_cast<unsigned>(spares)); }

// ---- the loop ----

void Worker::Impl::run() noexcept {
  last_work = clock_now();
  while (!stopping.load(std::memory_order_relaxed)) {
    now = clock_now();
    uint32_t work = receive();
    work += run_calls();
    work += apps.drain(now);
    stack.advance(now);
    work += egress();
    work += publish();

    if (++turns % kHousekeeping == 0) housekeeping();
    if (work > 0) {
      last_work = now;
      counters.add(Counter::worker_busy_turns);
      sleeper.woken_by_work();
    } else if (options.idle == IdleMode::adaptive && now - last_work >= options.idle_spin) {
      sleep();
    }
  }
}

// ---- receive ----

uint32_t Worker::Impl::receive() noexcept {
  uint32_t received = 0;
  for (uint16_t i = 0; i < options.ports.size(); ++i) received += receive_from(i);
  if (options.count > 1) received += receive_handed_over();
  return received;
}

uint32_t Worker::Impl::receive_from(uint16_t interface) noexcept {
  const Port& port = *options.ports[interface];
  if (options.index >= port.queues()) return 0;
  std::array<rte_mbuf*, kRxBurst> burst;
  const size_t n = rx_burst(port, static_cast<uint16_t>(options.index), burst);
  if (n == 0 && rx_impairment == nullptr) return 0;
  for (size_t i = 0; i < n; ++i) {
    burst[i]->port = port.id();  // net_ring leaves the sender's
    counters.add(Counter::rx_bytes, rte_pktmbuf_pkt_len(burst[i]));
  }
  counters.add(Counter::rx_packets, n);

  std::array<rte_mbuf*, 2 * kRxBurst + Impairment::kHeld> impaired;
  rte_mbuf** packets = burst.data();
  size_t count = keep_contiguous(packets, n);
  if (rx_impairment != nullptr) {
    count = rx_impairment->apply({packets, count}, impaired.data(), now, counters);
    packets = impaired.data();
  }
  if (options.count > 1) count = hand_over(interface, packets, count);
  deliver(packets, count);
  return static_cast<uint32_t>(n + count);
}

size_t Worker::Impl::keep_contiguous(rte_mbuf** packets, size_t n) noexcept {
  size_t kept = 0;
  for (size_t i = 0; i < n; ++i) {
    if (make_contiguous(packets[i])) {
      packets[kept++] = packets[i];
    } else {
      counters.drop(Drop::frame_fragmented_buffers);
      rte_pktmbuf_free(packets[i]);
    }
  }
  return kept;
}

// Gives the packets of other workers' flows to them; keeps and counts those that stay.
size_t Worker::Impl::hand_over(uint16_t interface, rte_mbuf** packets, size_t n) noexcept {
  size_t kept = 0;
  for (size_t i = 0; i < n; ++i) {
    rte_mbuf* packet = packets[i];
    const uint32_t target = steer(
        {rte_pktmbuf_mtod(packet, const std::byte*), rte_pktmbuf_data_len(packet)}, options.count);
    if (target == options.index || target == kSteerHere) {
      packets[kept++] = packet;
    } else if (target == kSteerEveryone) {
      packets[kept++] = teach_everyone(interface, packet);
    } else {
      give_to(target, packet);
    }
  }
  return kept;
}

// Copies for the others; only worker 0's copy asks for an answer. Returns our own.
rte_mbuf* Worker::Impl::teach_everyone(uint16_t interface, rte_mbuf* packet) noexcept {
  const MacAddress& mac = options.ports[interface]->mac();
  const auto quiet = [&mac](rte_mbuf* m) {
    answer_not({rte_pktmbuf_mtod(m, std::byte*), rte_pktmbuf_data_len(m)}, mac);
  };
  for (uint32_t other = 0; other < options.count; ++other) {
    if (other == options.index) continue;
    rte_mbuf* copy = rte_pktmbuf_copy(packet, pool.get(), 0, UINT32_MAX);
    if (copy == nullptr) {
      counters.drop(Drop::handoff_full);
      continue;
    }
    copy->port = packet->port;
    if (other != 0) quiet(copy);
    give_to(other, copy);
  }
  if (options.index != 0) quiet(packet);
  return packet;
}

void Worker::Impl::give_to(uint32_t other, rte_mbuf* packet) noexcept {
  if (!options.mesh->received(options.index, other).push(packet)) {
    counters.drop(Drop::handoff_full);
    rte_pktmbuf_free(packet);
    return;
  }
  counters.add(Counter::handoff_packets);
  options.mesh->bell(other).ring();
}

uint32_t Worker::Impl::receive_handed_over() noexcept {
  std::array<rte_mbuf*, kRxBurst> burst;
  size_t total = 0;
  for (uint32_t from = 0; from < options.count; ++from) {
    if (from == options.index) continue;
    const size_t n =
        options.mesh->received(from, options.index).pop_burst(burst.data(), burst.size());
    deliver(burst.data(), n);
    const size_t m =
        options.mesh->to_send(from, options.index).pop_burst(burst.data(), burst.size());
    for (size_t i = 0; i < m; ++i) send(burst[i], interface_of[burst[i]->port]);
    total += n + m;
  }
  return static_cast<uint32_t>(total);
}

void Worker::Impl::deliver(rte_mbuf** packets, size_t n) noexcept {
  std::array<RxPacket, kRxBurst> views;
  while (n > 0) {
    const size_t part = std::min(n, kRxBurst);
    for (size_t i = 0; i < part; ++i) {
      views[i] = view_of(packets[i], interface_of[packets[i]->port]);
    }
    stack.receive({views.data(), part}, now);
    rte_pktmbuf_free_bulk(packets, static_cast<unsigned>(part));
    packets += part;
    n -= part;
  }
}

// ---- the control thread's calls ----

uint32_t Worker::Impl::run_calls() noexcept {
  if (mailbox.empty()) return 0;
  uint32_t ran = 0;
  WorkerCall* call = nullptr;
  while (mailbox.pop(&call)) {
    call->run(worker, *call);
    (void)done.push(call);  // submit() keeps room for it
    ++ran;
  }
  attention.force();
  return ran;
}

// ---- transmit ----

uint32_t Worker::Impl::egress() noexcept {
  uint32_t sent = flush_all();
  if (!tx_impairment.empty()) release_held();
  for (size_t budget = kTxBudget; budget > 0 && stack.wants_egress();) {
    size_t room = 0;
    for (const auto& queue : transmit_queues) room = std::max(room, queue->room());
    const size_t wanted = std::min({budget, room, kTxBurst});
    if (wanted == 0 || !refill(wanted)) break;
    const size_t n = stack.egress(now, {frames.data(), wanted});
    for (size_t i = 0; i < n; ++i) {
      seal(spare[i], frames[i]);
      transmit(spare[i], frames[i].interface);
    }
    // Those not used come to the front.
    std::copy(spare.begin() + static_cast<ptrdiff_t>(n),
              spare.begin() + static_cast<ptrdiff_t>(spares), spare.begin());
    spares -= n;
    sent += flush_all() + static_cast<uint32_t>(n);
    budget -= n;
    if (n < wanted) break;
  }
  return sent;
}

// At least `wanted` empty frames. False: the pool is empty, the stack has to wait.
bool Worker::Impl::refill(size_t wanted) noexcept {
  if (spares < wanted) {
    const auto more = static_cast<unsigned>(kTxBurst - spares);
    if (rte_pktmbuf_alloc_bulk(pool.get(), spare.data() + spares, more) != 0) {
      counters.drop(Drop::tx_no_buffer);
      return false;
    }
    spares = kTxBurst;
  }
  for (size_t i = 0; i < wanted; ++i) frames[i] = frame_for(spare[i]);
  return true;
}

void Worker::Impl::transmit(rte_mbuf* packet, uint16_t interface) noexcept {
  if (tx_impairment.empty()) return send(packet, interface);
  std::array<rte_mbuf*, 2 + Impairment::kHeld> out;
  const size_t n = tx_impairment[interface]->apply({&packet, 1}, out.data(), now, counters);
  for (size_t i = 0; i < n; ++i) send(out[i], interface);
}

void Worker::Impl::release_held() noexcept {
  std::array<rte_mbuf*, Impairment::kHeld> out;
  for (uint16_t i = 0; i < tx_impairment.size(); ++i) {
    const size_t n = tx_impairment[i]->apply({}, out.data(), now, counters);
    for (size_t k = 0; k < n; ++k) send(out[k], i);
  }
}

void Worker::Impl::send(rte_mbuf* packet, uint16_t interface) noexcept {
  counters.add(Counter::tx_packets);
  counters.add(Counter::tx_bytes, rte_pktmbuf_pkt_len(packet));
  if (rte_mbuf* displaced = transmit_queues[interface]->push(packet); displaced != nullptr) {
    counters.drop(Drop::tx_ring_full);
    rte_pktmbuf_free(displaced);
  }
}

uint32_t Worker::Impl::flush_all() noexcept {
  size_t sent = 0;
  for (auto& queue : transmit_queues) sent += queue->waiting() > 0 ? queue->flush() : 0;
  return static_cast<uint32_t>(sent);
}

// ---- events, housekeeping, sleep ----

uint32_t Worker::Impl::publish() noexcept {
  const uint32_t events = apps.publish();
  if (apps.take_attention()) attention.force();
  return events;
}

void Worker::Impl::housekeeping() noexcept {
  counters.values[static_cast<size_t>(Counter::worker_turns)] += turns;
  turns = 0;
  for (size_t i = 0; i < kCounterCount; ++i) {
    published.values[i].store(counters.values[i], std::memory_order_relaxed);
  }
  for (size_t i = 0; i < kDropCount; ++i) {
    published.drops[i].store(counters.drops[i], std::memory_order_relaxed);
  }
}

void Worker::Impl::sleep() noexcept {
  sleeper.arm();
  apps.arm();
  const bool found = !mailbox.empty() || stopping.load(std::memory_order_relaxed) ||
                     apps.pending() ||
                     (options.mesh != nullptr && options.mesh->pending(options.index));
  if (found || receive() > 0) {
    last_work = now;
  } else {
    counters.add(Counter::worker_sleeps);
    housekeeping();
    sleeper.sleep(time_to_sleep());
  }
  apps.disarm();
  sleeper.disarm();
}

Duration Worker::Impl::time_to_sleep() const noexcept {
  Time until = stack.next_deadline();
  if (rx_impairment != nullptr) until = std::min(until, rx_impairment->next_deadline());
  for (const auto& stage : tx_impairment) until = std::min(until, stage->next_deadline());
  bool blocked = apps.blocked();
  for (const auto& queue : transmit_queues) blocked |= queue->waiting() > 0;
  if (blocked) until = std::min(until, now + kBlockedNap);
  return std::clamp(until, now, now + 1h) - now;
}

// ---- the thread ----

void Worker::Impl::thread_main(std::promise<int>& started) {
  const std::string name = "postern-w" + std::to_string(options.index);
  pthread_setname_np(pthread_self(), name.c_str());
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns; naps are short
  // Signals for the process are the control thread's; a doorbell of a dead client must not kill.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (options.core >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(options.core), &set);
    if (const int error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set); error != 0) {
      return started.set_value(error);
    }
  }
  if (rte_thread_register() < 0) return started.set_value(rte_errno);
  started.set_value(0);
  run();
  leave();
  rte_thread_unregister();
}

// What was counted last is shown; the device gets what it takes at once.
void Worker::Impl::leave() noexcept {
  flush_all();
  housekeeping();
}

// ---- the face ----

Worker::Worker(const WorkerOptions& options) {
  if (options.count > 1 && options.mesh == nullptr) {
    throw std::logic_error("several workers need a WorkerMesh");
  }
  impl_ = std::make_unique<Impl>(*this, options);
}
Worker::~Worker() { stop(); }

void Worker::start() {
  std::promise<int> started;
  std::future<int> result = started.get_future();
  impl_->stopping.store(false);
  impl_->thread = std::thread([this, &started] { impl_->thread_main(started); });
  const int error = result.get();
  if (error == 0) return;
  impl_->thread.join();
  throw std::system_error(error, std::generic_category(),
                          "worker " + std::to_string(impl_->options.index) + " on core " +
                              std::to_string(impl_->options.core));
}

void Worker::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->stopping.store(true);
  impl_->bell.force();
  impl_->thread.join();
}

bool Worker::submit(WorkerCall* call) noexcept {
  if (impl_->outstanding == kMailbox || !impl_->mailbox.push(call)) return false;
  ++impl_->outstanding;
  impl_->bell.ring();
  return true;
}

WorkerCall* Worker::completed() noexcept {
  WorkerCall* call = nullptr;
  if (!impl_->done.pop(&call)) {
    impl_->attention.clear();  // and look again: one may have come in between
    const bool late = impl_->done.pop(&call);
    if (late || impl_->apps.has_evictions()) impl_->attention.force();
    if (!late) return nullptr;
  }
  --impl_->outstanding;
  return call;
}

int Worker::attention_fd() const noexcept { return impl_->attention.fd(); }

AppId Worker::evicted(const char** reason) noexcept {
  WorkerApps::Eviction eviction{};
  if (!impl_->apps.next_eviction(&eviction)) return kNoApp;
  *reason = eviction.reason;
  return eviction.app;
}

const PublishedCounters& Worker::counters() const noexcept { return impl_->published; }
const WorkerOptions& Worker::options() const noexcept { return impl_->options; }
Stack& Worker::stack() noexcept { return impl_->stack; }
Time Worker::now() const noexcept { return impl_->now; }

void Worker::attach(AppId app, Channel* channel, void* book) noexcept {
  impl_->apps.attach(app, channel, book);
  impl_->sleeper.add_doorbell(channel->worker_doorbell_fd());
}

void Worker::publish_socket(SocketRef socket) noexcept { impl_->apps.publish_socket(socket); }

void Worker::detach(AppId app, bool reset) noexcept {
  if (Channel* channel = impl_->apps.detach(app, impl_->now, reset); channel != nullptr) {
    // A pipe whose other end is closed would wake for ever.
    impl_->sleeper.remove_doorbell(channel->worker_doorbell_fd());
  }
}

void Worker::forget(AppId app) noexcept { impl_->apps.forget(app); }

}  // namespace postern
