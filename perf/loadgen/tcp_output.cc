// TCP: what is sent.
#include <algorithm>
#include <cstring>

#include "tcp_load.h"

namespace postern::perf {
namespace {

constexpr uint8_t kWindowShift = 7;  // RFC 7323: we offer up to 8 MiB
constexpr uint16_t kSynOptions = 8;

}  // namespace

// Writes the headers but the checksum and queues the frame. nullptr: no buffer, or no room.
uint8_t* TcpLoad::start_frame(uint32_t tuple, uint32_t seq, uint32_t ack, uint8_t flags,
                              uint16_t options_length, uint32_t length) noexcept {
  const auto total = static_cast<uint16_t>(sizeof(rte_tcp_hdr) + options_length + length);
  if (link_.room() == 0) return nullptr;
  rte_mbuf* m = link_.allocate(static_cast<uint16_t>(ip_.length() + total));
  if (m == nullptr) return nullptr;
  const uint32_t client = tuple / options_.ports;
  const uint32_t port = options_.first_port + (tuple - client * options_.ports);
  uint8_t* at = ip_.write(m, options_.local.low + client, total);
  auto* tcp = reinterpret_cast<rte_tcp_hdr*>(at);
  tcp->src_port = rte_cpu_to_be_16(static_cast<uint16_t>(port));
  tcp->dst_port = rte_cpu_to_be_16(options_.port);
  tcp->sent_seq = rte_cpu_to_be_32(seq);
  tcp->recv_ack = rte_cpu_to_be_32(ack);
  tcp->data_off = static_cast<uint8_t>((sizeof *tcp + options_length) / 4 << 4);
  tcp->tcp_flags = flags;
  const bool syn = (flags & RTE_TCP_SYN_FLAG) != 0;
  const uint32_t offered = mode_ == Mode::tcp_recv ? options_.window << (10 - kWindowShift) : 65535;
  tcp->rx_win = rte_cpu_to_be_16(static_cast<uint16_t>(syn ? 65535 : std::min(offered, 65535u)));
  tcp->cksum = 0;
  tcp->tcp_urp = 0;
  frame_ = m;
  return at;
}

// Fills in the checksum over `header` bytes and the data, whose sum is known, and sends.
void TcpLoad::finish_frame(uint8_t* at, uint32_t tuple, uint32_t header, uint32_t length,
                           uint32_t data_sum) noexcept {
  if (options_.checksum) {
    const uint64_t sum = uint64_t{ip_.pseudo_sum()} +
                         sum32(options_.local.low + tuple / options_.ports) + header + length +
                         sum_bytes(at, header) + data_sum;
    reinterpret_cast<rte_tcp_hdr*>(at)->cksum = rte_cpu_to_be_16(static_cast<uint16_t>(~fold(sum)));
  }
  link_.send(frame_);
  frame_ = nullptr;
}

void TcpLoad::send_syn(Connection& c, Tsc now) noexcept {
  c.sent_at = now;
  uint8_t* at = start_frame(c.tuple, c.snd_una, 0, RTE_TCP_SYN_FLAG, kSynOptions, 0);
  if (at == nullptr) return;
  const auto mss = static_cast<uint16_t>(largest_segment(options_));
  const uint8_t bytes[kSynOptions] = {
      2, 4, static_cast<uint8_t>(mss >> 8), static_cast<uint8_t>(mss), 1, 3, 3, kWindowShift};
  std::memcpy(at + sizeof(rte_tcp_hdr), bytes, sizeof bytes);
  finish_frame(at, c.tuple, sizeof(rte_tcp_hdr) + kSynOptions, 0, 0);
}

void TcpLoad::send_pending(Connection& c, Tsc now) noexcept {
  const uint32_t limit = c.snd_una + std::min(c.snd_wnd, c.snd_end - c.snd_una);
  while (static_cast<int32_t>(limit - c.snd_nxt) > 0 && link_.room() > Link::kBurst) {
    const uint32_t length = std::min(mss_, limit - c.snd_nxt);
    // Bulk: wait for room for a whole segment (RFC 9293 3.8.6.2.1).
    if (mode_ == Mode::tcp_send && length < mss_ && c.snd_nxt != c.snd_una) break;
    const bool last = c.snd_nxt + length == c.snd_end;
    emit(c, c.snd_nxt, last ? RTE_TCP_ACK_FLAG | RTE_TCP_PSH_FLAG : RTE_TCP_ACK_FLAG, length);
    c.snd_nxt += length;
  }
  if (c.phase == TcpPhase::closing && c.snd_nxt == c.snd_end) {
    emit(c, c.snd_nxt, RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG, 0);
    ++c.snd_nxt;
  }
  if (static_cast<int32_t>(c.snd_nxt - c.snd_max) > 0) c.snd_max = c.snd_nxt;
  if (c.sent_at == 0) c.sent_at = now;
}

void TcpLoad::emit(Connection& c, uint32_t seq, uint8_t flags, uint32_t length) noexcept {
  uint8_t* at = start_frame(c.tuple, seq, c.rcv_nxt, flags, 0, length);
  if (at == nullptr) return;
  uint32_t sum = 0;
  if (length != 0) {
    if (static_cast<int32_t>(seq - c.snd_max) < 0) ++counters_.retransmits;
    const uint32_t phase = (seq - c.snd_base) % static_cast<uint32_t>(pattern_.size());
    uint8_t* data = at + sizeof(rte_tcp_hdr);
    const uint32_t first =
        std::min<uint32_t>(length, static_cast<uint32_t>(pattern_.size()) - phase);
    std::memcpy(data, &pattern_[phase], first);
    if (first < length) std::memcpy(data + first, pattern_.data(), length - first);
    if (options_.checksum) sum = pattern_sum(phase, data, length);
  }
  c.ack_owed = false;
  finish_frame(at, c.tuple, sizeof(rte_tcp_hdr), length, sum);
}

// The sum of a segment's data: known for those cut where pattern_ is, computed for others.
uint32_t TcpLoad::pattern_sum(uint32_t phase, const uint8_t* data, uint32_t length) const noexcept {
  const uint32_t number = phase / mss_;
  const uint32_t whole =
      std::min<uint32_t>(mss_, static_cast<uint32_t>(pattern_.size()) - number * mss_);
  if (phase % mss_ == 0 && number < segment_sums_.size() && length == whole) {
    return segment_sums_[number];
  }
  return sum_bytes(data, length);
}

}  // namespace postern::perf
