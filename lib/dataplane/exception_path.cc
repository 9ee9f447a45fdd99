#include "dataplane/exception_path.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/checksum.h"
#include "wire/arp.h"
#include "wire/headers.h"
#include "wire/nd.h"
#include "wire/parse.h"

namespace postern {
namespace {

constexpr uint32_t kConversations = 1 << 14;
constexpr uint32_t kTurn = 64;             // packets of one ring or tap before the next one's turn
constexpr uint32_t kLongest = 18 + 65535;  // of a frame
constexpr int kBlockedNap = 1;             // ms; a ring is full

Time clock_now() { return Time{std::chrono::steady_clock::now().time_since_epoch()}; }

// Devices vouch for checksums that were never computed, where a packet never was on a wire: the
// kernel would not believe them.
void complete_checksum(std::span<std::byte> frame) noexcept {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  ParsedPacket p;
  wire::parse_any(packet, &p);
  const bool udp = p.drop == Drop::udp_bad_checksum;
  if (!udp && p.drop != Drop::tcp_bad_checksum) return;
  const size_t ip_length =
      p.is_v6 ? sizeof(wire::Ipv6Header) +
                    reinterpret_cast<const wire::Ipv6Header*>(frame.data() + p.l3_offset)
                        ->payload_length.host()
              : reinterpret_cast<const wire::Ipv4Header*>(frame.data() + p.l3_offset)
                    ->total_length.host();
  const std::span<std::byte> l4 = frame.subspan(p.l4_offset, p.l3_offset + ip_length - p.l4_offset);
  auto* const field = reinterpret_cast<be16*>(l4.data() + (udp ? 6 : 16));
  *field = uint16_t{0};
  const be16 sum =
      checksum_finish(checksum_add(l4, pseudo_header_sum(p.source, p.destination, p.protocol,
                                                         static_cast<uint32_t>(l4.size()))));
  *field = udp && sum.host() == 0 ? be16(0xffff) : sum;  // RFC 768: 0 means none
}

}  // namespace

ExceptionPath::ExceptionPath(std::vector<ExceptionPortOptions> ports, uint32_t workers,
                             const HashSecret& secret)
    : ports_(ports.size()), conversations_(kConversations, secret) {
  for (size_t i = 0; i < ports.size(); ++i) {
    Port& port = ports_[i];
    port.options = std::move(ports[i]);
    port.counts = std::make_unique<Port::Counts>();
    if (port.options.tap < 0) continue;
    const uint32_t bytes = std::max(port.options.queue_bytes, 2 * kLongest);
    port.from_kernel = std::make_unique<RecordRing>(bytes);
    for (uint32_t w = 0; w < workers; ++w) {
      port.to_kernel.push_back(std::make_unique<RecordRing>(bytes));
    }
  }
  for (uint32_t w = 0; w < workers; ++w) {
    lanes_.push_back(std::make_unique<Lane>(Lane{this, w}));
  }
}

ExceptionPath::~ExceptionPath() {
  stop();
  for (const Port& port : ports_) {
    if (port.options.tap >= 0) ::close(port.options.tap);
  }
}

ExceptionConfig ExceptionPath::stack_config(uint32_t worker) const {
  ExceptionConfig config;
  for (const Port& port : ports_) {
    const bool has = port.options.tap >= 0;
    config.interfaces.push_back({has ? &port.options.policy : nullptr, port.options.rate});
  }
  config.conversations = &conversations_;
  config.pass = pass;
  config.opaque = lanes_[worker].get();
  return config;
}

ExceptionPath::Figures ExceptionPath::figures(uint32_t port) const noexcept {
  const Port::Counts& c = *ports_[port].counts;
  return {c.to_kernel.load(std::memory_order_relaxed),
          c.from_kernel.load(std::memory_order_relaxed), c.refused.load(std::memory_order_relaxed),
          c.lost.load(std::memory_order_relaxed)};
}

bool ExceptionPath::pending() const noexcept {
  return std::any_of(ports_.begin(), ports_.end(), [](const Port& port) {
    return port.from_kernel != nullptr && !port.from_kernel->empty();
  });
}

namespace {

bool is_tagged(const RxPacket& packet) noexcept {
  const auto& ethernet = *reinterpret_cast<const wire::EthernetHeader*>(packet.data);
  return ethernet.type == be16(wire::ether_type::vlan);
}

// The parser has seen both headers.
bool push_untagged(RecordRing& ring, const RxPacket& packet) noexcept {
  constexpr size_t kMacs = 12, kTag = sizeof(wire::VlanTag);
  std::byte* const to = ring.reserve(packet.length);
  if (to == nullptr) return false;
  std::memcpy(to, packet.data, kMacs);
  std::memcpy(to + kMacs, packet.data + kMacs + kTag, packet.length - kMacs - kTag);
  ring.commit(static_cast<uint32_t>(packet.length - kTag));
  return true;
}

}  // namespace

// On a worker.
bool ExceptionPath::pass(void* opaque, const RxPacket& packet) noexcept {
  const Lane& lane = *static_cast<Lane*>(opaque);
  RecordRing& ring = *lane.path->ports_[packet.interface].to_kernel[lane.worker];
  if (!(is_tagged(packet) ? push_untagged(ring, packet)
                          : ring.push({packet.data, packet.length}))) {
    return false;
  }
  lane.path->bell_.ring();
  return true;
}

// ---- the thread ----

void ExceptionPath::start() {
  stopping_.store(false);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "postern-kernel");
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    run();
  });
}

void ExceptionPath::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  bell_.force();
  thread_.join();
}

void ExceptionPath::run() noexcept {
  while (!stopping_.load(std::memory_order_relaxed)) {
    const uint32_t moved = write_taps() + read_taps();
    if (moved == 0) sleep();
  }
}

void ExceptionPath::sleep() noexcept {
  constexpr size_t kMost = 64;
  std::array<pollfd, kMost> wait{};
  size_t n = 0;
  wait[n++] = {bell_.fd(), POLLIN, 0};
  int timeout = -1;
  for (const Port& port : ports_) {
    if (port.options.tap < 0 || n == kMost) continue;
    if (port.from_kernel->reserve(kLongest) == nullptr) {
      timeout = kBlockedNap;
    } else {
      wait[n++] = {port.options.tap, POLLIN, 0};
    }
  }
  bell_.arm();
  if (!waiting_for_kernel() && !stopping_.load()) {
    ::poll(wait.data(), static_cast<nfds_t>(n), timeout);
  }
  bell_.disarm();
  if ((wait[0].revents & POLLIN) != 0) bell_.clear();
  // A tap that was taken down is readable for ever and gives nothing.
  const bool broken = std::any_of(wait.begin() + 1, wait.begin() + static_cast<ptrdiff_t>(n),
                                  [](const pollfd& p) { return (p.revents & POLLERR) != 0; });
  if (broken) ::poll(nullptr, 0, 100);
}

bool ExceptionPath::waiting_for_kernel() const noexcept {
  for (const Port& port : ports_) {
    for (const auto& ring : port.to_kernel) {
      if (!ring->empty()) return true;
    }
  }
  return false;
}

uint32_t ExceptionPath::write_taps() noexcept {
  uint32_t written = 0;
  for (Port& port : ports_) {
    for (const auto& ring : port.to_kernel) written += write_some(port, *ring);
  }
  return written;
}

uint32_t ExceptionPath::write_some(Port& port, RecordRing& ring) noexcept {
  uint32_t n = 0;
  for (; n < kTurn; ++n) {
    const std::span<const std::byte> frame = ring.front();
    if (frame.data() == nullptr) break;
    // The record is ours until pop().
    complete_checksum({const_cast<std::byte*>(frame.data()), frame.size()});
    const ssize_t wrote = ::write(port.options.tap, frame.data(), frame.size());
    ring.pop();
    auto& count = wrote < 0 ? port.counts->lost : port.counts->to_kernel;
    count.fetch_add(1, std::memory_order_relaxed);
  }
  return n;
}

uint32_t ExceptionPath::read_taps() noexcept {
  uint32_t read = 0;
  for (Port& port : ports_) {
    if (port.options.tap >= 0) read += read_some(port);
  }
  if (read > 0 && sender_ != nullptr) sender_->ring();
  return read;
}

uint32_t ExceptionPath::read_some(Port& port) noexcept {
  uint32_t n = 0;
  for (; n < kTurn; ++n) {
    std::byte* const to = port.from_kernel->reserve(kLongest);
    if (to == nullptr) break;
    const ssize_t got = ::read(port.options.tap, to, kLongest);
    if (got <= 0) break;
    port.counts->from_kernel.fetch_add(1, std::memory_order_relaxed);
    if (judge({to, static_cast<size_t>(got)}) == Verdict::refuse) {
      port.counts->refused.fetch_add(1, std::memory_order_relaxed);
    } else {
      port.from_kernel->commit(static_cast<uint32_t>(got));
    }
  }
  return n;
}

// A packet of the kernel's own making, so its checksums need no look.
ExceptionPath::Verdict ExceptionPath::judge(std::span<const std::byte> frame) noexcept {
  RxPacket packet;
  packet.data = frame.data();
  packet.length = static_cast<uint32_t>(frame.size());
  packet.ip_checksum = packet.l4_checksum = ChecksumVerdict::good;
  const ParsedPacket p = wire::parse(packet);
  if (p.drop != Drop::none) return Verdict::send;
  if (p.kind == PacketKind::arp) {
    const wire::ArpPacket arp = wire::read_arp(packet, p);
    const bool probe = arp.sender_ip.is_any();  // RFC 5227
    return arp.operation == wire::ArpPacket::kReply || probe ? Verdict::refuse : Verdict::send;
  }
  if (p.fragment) return Verdict::send;
  const auto type = static_cast<uint8_t>(p.source_port >> 8);
  if (p.kind == PacketKind::icmp) {
    if (p.is_v6 && type == wire::icmp6::neighbor_advertisement) return Verdict::refuse;
    if (p.is_v6 && type == wire::icmp6::neighbor_solicitation && p.source.is_any()) {
      return Verdict::refuse;
    }
    if (type == (p.is_v6 ? wire::icmp6::echo_request : wire::icmp4::echo_request)) {
      const uint16_t id = wire::icmp_identifier(packet, p);
      conversations_.note({p.destination, 0, p.source, id, p.protocol}, clock_now());
    }
  } else if (p.kind == PacketKind::tcp || p.kind == PacketKind::udp) {
    conversations_.note({p.destination, p.destination_port, p.source, p.source_port, p.protocol},
                        clock_now());
  }
  return Verdict::send;
}

}  // namespace postern
