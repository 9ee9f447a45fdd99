#include "dataplane/worker.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <future>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "dataplane/exception_path.h"
#include "dataplane/steering.h"
#include "dataplane/worker_impl.h"

namespace postern {
namespace {

constexpr uint32_t kHousekeeping = 256;  // turns
constexpr Duration kBlockedNap = 1ms;    // something waits that wakes nobody: a full ring, a device

uint32_t pool_size(const WorkerOptions& o) {
  uint32_t buffers = 2 * kTxBurst + kTxBudget + 512 + 4 * Impairment::kHeld;
  if (o.count > 1) buffers += 2 * 1024;  // in the rings to the others
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

}  // namespace

StackConfig Worker::Impl::stack_config() {
  const WorkerOptions& o = options;
  StackConfig config = o.stack;
  config.owns_tuple = nullptr;
  config.give_to_owner = nullptr;
  if (o.exception != nullptr) config.exception = o.exception->stack_config(o.index);
  if (o.count > 1) {
    config.opaque = this;
    config.owns_tuple = [](void* opaque, const Endpoint& local, const Endpoint& remote) {
      const WorkerOptions& mine = static_cast<Impl*>(opaque)->options;
      return owner_of(local, remote, mine.count) == mine.index;
    };
    config.give_to_owner = [](void* opaque, const RxPacket& whole) {
      return static_cast<Impl*>(opaque)->give_whole(whole);
    };
  }
  return config;
}

Worker::Impl::Impl(Worker& w, const WorkerOptions& o)
    : worker(w),
      options(o),
      pool("tx-w" + std::to_string(o.index), pool_size(o), longest_frame(o),
           o.ports.empty() ? -1 : o.ports.front()->socket()),
      stack(stack_config()),
      counters(stack.counters()),
      apps(stack, o.stack.max_apps),
      bell(o.mesh != nullptr ? o.mesh->bell(o.index) : own_bell.emplace()),
      sleeper(o.ports, static_cast<uint16_t>(o.index), bell, o.longest_nap),
      sends_for_kernel(o.exception != nullptr && o.index == 0) {
  arrivals.resize(kLoopPort + 1);
  arrivals[kLoopPort].interface = stack.loop();
  for (uint16_t i = 0; i < options.ports.size(); ++i) {
    transmit_queues.push_back(
        std::make_unique<TransmitQueue>(*options.ports[i], options.index, options.mesh));
    const bool checked = options.ports[i]->options().checksums;
    arrivals[options.ports[i]->id()] = {
        i, checked ? ChecksumVerdict::unknown : ChecksumVerdict::unchecked};
  }
  for (const Port* port : options.ports) {
    if (!port->tx_offloads().gather || gather_pool != nullptr) continue;
    gather_pool = std::make_unique<PacketPool>("gather-w" + std::to_string(o.index), kGathered, 0,
                                               port->socket());
  }
  if (sends_for_kernel) options.exception->set_sender(&bell);
  const ImpairmentOptions& bad = options.impairment;
  if (bad.seed == 0) return;
  uint64_t stream = uint64_t{options.index} << 16;
  if (bad.rx) rx_impairment = std::make_unique<Impairment>(bad, stream, pool.get());
  for (size_t i = 0; bad.tx && i < options.ports.size(); ++i) {
    tx_impairment.push_back(std::make_unique<Impairment>(bad, ++stream, pool.get()));
  }
}

Worker::Impl::~Impl() {
  rte_pktmbuf_free_bulk(looped.data(), static_cast<unsigned>(looped_count));
  rte_pktmbuf_free_bulk(spare.data() + first_spare, static_cast<unsigned>(kTxBurst - first_spare));
}

// ---- the loop ----

void Worker::Impl::run() noexcept {
  last_work = now = clock.now();
  while (!stopping.load(std::memory_order_relaxed)) {
    const Time time = clock.now();
    stages.turned(time - now);
    if (turn(time) > 0) {
      last_work = now;
      sleeper.woken_by_work();
    } else if (options.idle == IdleMode::adaptive && now - last_work >= options.idle_spin) {
      sleep();
    }
  }
}

uint32_t Worker::Impl::turn(Time time) noexcept {
  now = time;
  stages.begin(counters);
  uint32_t work = receive();
  work += run_calls();
  stages.mark(Stage::calls);
  work += apps.drain(now);
  stages.mark(Stage::commands);
  stack.advance(now);
  stages.mark(Stage::timers);
  if (sends_for_kernel) work += send_for_kernel();
  work += egress();
  work += publish();
  stages.mark(Stage::events);
  stages.end(work > 0, counters);

  if (work > 0) counters.add(Counter::worker_busy_turns);
  if (++turns % kHousekeeping == 0) housekeeping();
  return work;
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

// ---- events, housekeeping, sleep ----

uint32_t Worker::Impl::publish() noexcept {
  const uint32_t events = apps.publish();
  if (apps.take_attention()) attention.force();
  return events;
}

void Worker::Impl::housekeeping() noexcept {
  clock.adjust();
  counters.values[static_cast<size_t>(Counter::worker_turns)] += turns;
  turns = 0;
  for (size_t i = 0; i < kCounterCount; ++i) {
    published.values[i].store(counters.values[i], std::memory_order_relaxed);
  }
  for (size_t i = 0; i < kDropCount; ++i) {
    published.drops[i].store(counters.drops[i], std::memory_order_relaxed);
  }
  using Words = std::array<uint64_t, StageFigures::kWords>;
  const auto words = std::bit_cast<Words>(stages.figures());
  for (size_t i = 0; i < words.size(); ++i) {
    published.stages[i].store(words[i], std::memory_order_relaxed);
  }
  if (begun == Time{}) begun = now;
  published.running_ns.store(static_cast<uint64_t>((now - begun).count()),
                             std::memory_order_relaxed);
}

void Worker::Impl::sleep() noexcept {
  sleeper.arm();
  apps.arm();
  const bool found = !mailbox.empty() || stopping.load(std::memory_order_relaxed) ||
                     apps.pending() || (sends_for_kernel && options.exception->pending()) ||
                     (options.mesh != nullptr && options.mesh->pending(options.index));
  if (found || receive() > 0) {
    last_work = now;
  } else {
    counters.add(Counter::worker_sleeps);
    housekeeping();
    sleeper.sleep(time_to_sleep());
    const Time asleep = std::exchange(now, clock.now());
    stages.slept(static_cast<uint64_t>((now - asleep).count()));
  }
  apps.disarm();
  sleeper.disarm();
}

Duration Worker::Impl::time_to_sleep() const noexcept {
  Time until = stack.next_deadline();
  if (rx_impairment != nullptr) until = std::min(until, rx_impairment->next_deadline());
  for (const auto& stage : tx_impairment) until = std::min(until, stage->next_deadline());
  bool blocked = apps.blocked() || stack.wants_egress();
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

StageFigures PublishedCounters::stage_figures() const noexcept {
  std::array<uint64_t, StageFigures::kWords> words;
  for (size_t i = 0; i < words.size(); ++i) words[i] = stages[i].load(std::memory_order_relaxed);
  return std::bit_cast<StageFigures>(words);
}

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

uint32_t Worker::turn(Time now) noexcept { return impl_->turn(now); }

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
