// What the pure TCP engine costs in nanoseconds: one established connection, or a million that are
// visited in random order, so that each call finds its connection in memory and not in the cache.
//
//   bench_tcp_time CONNECTIONS [PREFETCH]     prints "SCENARIO NANOSECONDS" each
//
// An operation of every scenario goes once to each connection, timed as a whole; what makes the
// connections ready for the next time is not timed. Few connections get several in a row. PREFETCH:
// two lines of each connection are fetched in bursts of that many ahead of their operations.
#include <sys/mman.h>
#include <x86intrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "support/tcp_peer.h"

namespace postern::perf {
namespace {

using namespace tcp_flag;

constexpr uint32_t kIss = 1'000'000;
constexpr uint32_t kIrs = 2'000'000;
constexpr uint32_t kMss = 1448;  // with timestamps
constexpr uint32_t kInRow = 32;  // operations for one connection, where there are fewer than that
constexpr uint32_t kLeastOperations = 2'000'000;
constexpr int kLeastPasses = 3;

// Huge pages where the kernel has them, as the worker's tables.
class Connections {
 public:
  explicit Connections(uint32_t count) : bytes_(size_t{count} * sizeof(TcpConnection)) {
    void* memory =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    (void)::madvise(memory, bytes_, MADV_HUGEPAGE);
    auto* first = static_cast<TcpConnection*>(memory);
    for (uint32_t i = 0; i < count; ++i) new (first + i) TcpConnection;
    all_ = {first, count};
  }
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;
  ~Connections() { ::munmap(all_.data(), bytes_); }
  [[nodiscard]] std::span<TcpConnection> all() const { return all_; }

 private:
  size_t bytes_;
  std::span<TcpConnection> all_;
};

class Bench : public test::TcpPeer {
 public:
  Bench(uint32_t count, uint32_t prefetch)
      : TcpPeer({kIss, kIrs}, 4096),
        connections_(count),
        all_(connections_.all()),
        in_row_(count < kInRow ? kInRow : 1),
        prefetch_(prefetch) {
    config.initial_window = 4 * kInRow;
    order_.resize(count);
    std::iota(order_.begin(), order_.end(), 0U);
    std::shuffle(order_.begin(), order_.end(), std::mt19937(1));
    for (TcpConnection& tcp : all_) open(tcp);
  }

  void run(const char* name, double (Bench::*pass)()) {
    const auto operations = static_cast<double>(all_.size()) * in_row_;
    const int passes = std::max(kLeastPasses, static_cast<int>(kLeastOperations / operations));
    std::vector<double> each;
    for (int i = 0; i < passes; ++i) each.push_back((this->*pass)());
    std::nth_element(each.begin(), each.begin() + passes / 2, each.end());
    std::printf("%s %.1f\n", name, each[static_cast<size_t>(passes) / 2]);
  }

  // Data in order.
  double receive_data() {
    const uint32_t begin = received_;
    const double ns = measured(in_row_, [&](TcpConnection& tcp, uint32_t k) {
      const TcpSegment s = timed(ack, begin + k * kMss, sent_, kMss);
      if (!tcp.on_segment(context(), s).accept_data) std::abort();
      (void)tcp.take_events();
    });
    received_ += in_row_ * kMss;
    settle();
    return ns;
  }

  // Segments of a full MSS, each of a call of its own.
  double send_data() {
    write(in_row_ * kMss);
    const double ns = measured(in_row_, [this](TcpConnection& tcp, uint32_t) {
      if (!tcp.next_segment(context(), out_) || out_.length != kMss) std::abort();
    });
    acknowledge(in_row_ * kMss);
    return ns;
  }

  // ACKs of two segments.
  double receive_ack() {
    write(2 * in_row_ * kMss);
    for (TcpConnection& tcp : all_) drain(tcp);
    now += 10ms;
    const uint32_t begin = sent_;
    const double ns = measured(in_row_, [&](TcpConnection& tcp, uint32_t k) {
      const TcpSegment s = timed(ack, received_, begin + 2 * (k + 1) * kMss);
      if (tcp.on_segment(context(), s).drop != Drop::none) std::abort();
      (void)tcp.take_events();
    });
    sent_ += 2 * in_row_ * kMss;
    for (TcpConnection& tcp : all_) drain(tcp);
    return ns;
  }

  // The delayed ACK falls due: once for each connection.
  double timer() {
    for (TcpConnection& tcp : all_) {
      (void)tcp.on_segment(context(), timed(ack, received_, sent_, 100));
      drain(tcp);
    }
    received_ += 100;
    now += 50ms;
    const double ns =
        measured(1, [this](TcpConnection& tcp, uint32_t) { tcp.on_timer(context()); });
    for (const TcpConnection& tcp : all_) {
      if (!tcp.wants_output()) std::abort();  // the ACK
    }
    settle();
    return ns;
  }

 private:
  void open(TcpConnection& tcp) {
    tcp.open_passive(context(), full_syn(), 1460);
    drain(tcp);
    (void)tcp.on_segment(context(), timed(ack, 1, 1));
    (void)tcp.set_option(context(), TcpOption::quick_ack, 0);
    drain(tcp);
  }
  void drain(TcpConnection& tcp) {
    while (tcp.next_segment(context(), out_)) continue;
    (void)tcp.take_events();
  }
  // Acknowledges and reads what has come.
  void settle() {
    for (TcpConnection& tcp : all_) {
      drain(tcp);
      tcp.on_consumed(context(), tcp.rx_tail());
      drain(tcp);
    }
    now += 1ms;
  }
  void write(uint32_t bytes) {
    for (TcpConnection& tcp : all_) tcp.on_send(context(), bytes, false);
  }
  void acknowledge(uint32_t bytes) {
    now += 10ms;
    sent_ += bytes;
    for (TcpConnection& tcp : all_) {
      (void)tcp.on_segment(context(), timed(ack, received_, sent_));
      drain(tcp);
    }
  }

  // Nanoseconds of an operation: `in_row` of them for each connection, in random order.
  template <class Operation>
  double measured(uint32_t in_row, Operation&& operation) {
    const uint64_t begin = ticks();
    for (size_t i = 0; i < order_.size(); ++i) {
      if (prefetch_ != 0 && i % prefetch_ == 0) fetch(i);
      TcpConnection& tcp = all_[order_[i]];
      for (uint32_t k = 0; k < in_row; ++k) operation(tcp, k);
    }
    const auto taken = static_cast<double>(ticks() - begin) - empty_;
    return taken * ns_per_tick_ / static_cast<double>(order_.size()) / in_row;
  }
  void fetch(size_t from) const {
    const size_t end = std::min(order_.size(), from + prefetch_);
    for (size_t i = from; i < end; ++i) {
      const auto* line = reinterpret_cast<const char*>(&all_[order_[i]]);
      __builtin_prefetch(line);
      __builtin_prefetch(line + 64);
    }
  }
  static uint64_t ticks() {
    _mm_lfence();
    const uint64_t t = __rdtsc();
    _mm_lfence();
    return t;
  }
  static double measure_tick() {
    const auto begin = std::chrono::steady_clock::now();
    const uint64_t from = ticks();
    while (std::chrono::steady_clock::now() - begin < 50ms) continue;
    const std::chrono::duration<double, std::nano> ns = std::chrono::steady_clock::now() - begin;
    return ns.count() / static_cast<double>(ticks() - from);
  }
  static double measure_empty() {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 10000; ++i) {
      const uint64_t from = ticks();
      least = std::min(least, ticks() - from);
    }
    return static_cast<double>(least);
  }

  TcpSegment out_;
  Connections connections_;
  std::span<TcpConnection> all_;
  std::vector<uint32_t> order_;
  uint32_t in_row_;
  uint32_t prefetch_;
  uint32_t received_ = 1;  // of every connection
  uint32_t sent_ = 1;
  double ns_per_tick_ = measure_tick();
  double empty_ = measure_empty();
};

}  // namespace
}  // namespace postern::perf

int main(int argc, char** argv) {
  using postern::perf::Bench;
  const unsigned long count = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 0;
  const unsigned long prefetch = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 0;
  if (count == 0 || count > 10'000'000 || prefetch > 1024) {
    std::fprintf(stderr, "usage: bench_tcp_time CONNECTIONS [PREFETCH]\n");
    return 2;
  }
  Bench bench(static_cast<uint32_t>(count), static_cast<uint32_t>(prefetch));
  std::printf("bytes %zu\n", sizeof(postern::TcpConnection));
  bench.run("receive_data", &Bench::receive_data);
  bench.run("receive_ack", &Bench::receive_ack);
  bench.run("send_data", &Bench::send_data);
  bench.run("timer", &Bench::timer);
}
