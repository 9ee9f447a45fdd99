// UDP: a closed loop with a window of datagrams, or an open flood. Every datagram carries the
// moment at which it was due, so that the answer needs no state here.
#include <netinet/in.h>

#include <cstring>

#include "frame.h"
#include "load.h"

namespace postern::perf {
namespace {

// What a datagram carries at its start; the rest is a fixed pattern.
struct Stamp {
  Tsc due;
  uint32_t epoch;  // datagrams of an epoch that was given up no longer count
  uint32_t magic;
};
static_assert(sizeof(Stamp) == 16);
constexpr uint32_t kMagic = 0x6c6f6164;

// A size of datagrams, with the checksum of its fixed pattern.
struct Shape {
  uint32_t size;
  uint32_t rest_sum;
};

class UdpLoad final : public Load {
 public:
  UdpLoad(const Options& options, Link& link)
      : options_(options),
        link_(link),
        ip_(link.mac(), link.peer_mac(), options.local, options.peer, IPPROTO_UDP),
        pace_(options.rate),
        count_(options.count == 0 ? UINT64_MAX : options.count),
        window_(options.mode == Mode::udp_echo ? options.window : UINT32_MAX),
        patience_(rte_get_tsc_hz() / 20),
        rest_(options.size - sizeof(Stamp)),
        expected_(options.size + 1) {
    for (size_t i = 0; i < rest_.size(); ++i) rest_[i] = static_cast<uint8_t>(i * 7 + 1);
    for (const uint32_t size : options.sizes) {
      const size_t rest = size - sizeof(Stamp);
      shapes_.push_back({size, rest == 0 ? 0 : sum_bytes(rest_.data(), rest)});
      expected_[size] = true;
    }
  }

  void receive(std::span<rte_mbuf*> frames, Tsc now) override {
    for (rte_mbuf* m : frames) {
      on_frame(m, now);
      rte_pktmbuf_free(m);
    }
  }

  void generate(Tsc now) override {
    if (outstanding_ != 0 && window_ != UINT32_MAX && now - last_heard_ > patience_) give_up(now);
    for (unsigned budget = Link::kBurst; budget != 0; --budget) {
      if (outstanding_ >= window_ || counters_.sent == count_ || link_.room() < Link::kBurst)
        return;
      if (pace_.limited() && !pace_.due(now)) return;
      if (!send(pace_.limited() ? pace_.take() : now)) return;
    }
  }

 private:
  void on_frame(const rte_mbuf* m, Tsc now) noexcept {
    UdpView view;
    Stamp stamp;
    if (!parse_udp(m, options_.checksum, view) || view.length < sizeof stamp) {
      ++counters_.bad_frames;
      return;
    }
    std::memcpy(&stamp, view.payload, sizeof stamp);
    if (stamp.magic != kMagic || stamp.epoch != epoch_) return;
    if (view.length > options_.size || !expected_[view.length] ||
        std::memcmp(view.payload + sizeof stamp, rest_.data(), view.length - sizeof stamp) != 0) {
      ++counters_.mismatches;
    }
    counters_.bytes_received += view.length;
    --outstanding_;
    last_heard_ = now;
    complete(stamp.due, now);
  }

  void give_up(Tsc now) noexcept {
    counters_.lost += outstanding_;
    outstanding_ = 0;
    ++epoch_;
    last_heard_ = now;
  }

  Endpoint next_source() noexcept {
    if (++flow_ == options_.connections) flow_ = 0;
    const uint32_t client = flow_ / options_.ports;
    return {options_.local.low + client,
            static_cast<uint16_t>(options_.first_port + (flow_ - client * options_.ports))};
  }

  const Shape& next_shape() noexcept {
    if (++shape_ >= shapes_.size()) shape_ = 0;
    return shapes_[shape_];
  }

  bool send(Tsc due) noexcept {
    const Shape& shape = next_shape();
    const auto length = static_cast<uint16_t>(shape.size + sizeof(rte_udp_hdr));
    rte_mbuf* m = link_.allocate(static_cast<uint16_t>(ip_.length() + length));
    if (m == nullptr) return false;
    const Endpoint source = next_source();
    uint8_t* at = ip_.write(m, source.address, length);
    const Stamp stamp{due, epoch_, kMagic};
    std::memcpy(at + sizeof(rte_udp_hdr), &stamp, sizeof stamp);
    std::memcpy(at + sizeof(rte_udp_hdr) + sizeof stamp, rest_.data(), shape.size - sizeof stamp);
    auto* udp = reinterpret_cast<rte_udp_hdr*>(at);
    udp->src_port = rte_cpu_to_be_16(source.port);
    udp->dst_port = rte_cpu_to_be_16(options_.port);
    udp->dgram_len = rte_cpu_to_be_16(length);
    udp->dgram_cksum = options_.checksum ? checksum(source, shape, stamp) : 0;
    link_.send(m);
    if (outstanding_++ == 0) last_heard_ = rte_rdtsc();
    ++counters_.sent;
    counters_.bytes_sent += shape.size;
    return true;
  }

  rte_be16_t checksum(const Endpoint& source, const Shape& shape,
                      const Stamp& stamp) const noexcept {
    const uint64_t length = shape.size + sizeof(rte_udp_hdr);
    const uint64_t sum = uint64_t{ip_.pseudo_sum()} + sum32(source.address) + source.port +
                         options_.port + 2u * length + shape.rest_sum +
                         sum_bytes(reinterpret_cast<const uint8_t*>(&stamp), sizeof stamp);
    const auto value = static_cast<uint16_t>(~fold(sum));
    return rte_cpu_to_be_16(value == 0 ? 0xffff : value);  // RFC 768: 0 means none
  }

  const Options& options_;
  Link& link_;
  IpTemplate ip_;
  Pace pace_;
  uint64_t count_;
  uint32_t window_;
  uint32_t outstanding_ = 0;
  uint32_t epoch_ = 0;
  uint32_t flow_ = 0;
  size_t shape_ = 0;
  Tsc last_heard_ = 0;
  Tsc patience_;
  std::vector<uint8_t> rest_;
  std::vector<bool> expected_;  // by payload length: one of ours
  std::vector<Shape> shapes_;
};

}  // namespace

std::unique_ptr<Load> make_udp_load(const Options& options, Link& link) {
  return std::make_unique<UdpLoad>(options, link);
}

}  // namespace postern::perf
