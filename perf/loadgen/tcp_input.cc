// TCP: what arrives.
#include <cstring>

#include "tcp_load.h"

namespace postern::perf {
namespace {

// RFC 9293 3.2: kind, length, value; kinds 0 and 1 have neither length nor value.
struct SynOptions {
  uint32_t mss = 536;  // RFC 9293 MUST-15
  uint8_t window_shift = 0;
};

SynOptions parse_syn_options(const TcpView& segment) noexcept {
  SynOptions found;
  const uint8_t* at = segment.options;
  const uint8_t* const end = at + segment.options_length;
  while (at < end && *at != 0) {
    if (*at == 1) {
      ++at;
      continue;
    }
    if (end - at < 2 || at[1] < 2 || at[1] > end - at) break;
    if (at[0] == 2 && at[1] == 4) found.mss = static_cast<uint32_t>(at[2] << 8 | at[3]);
    if (at[0] == 3 && at[1] == 3) found.window_shift = at[2] < 14 ? at[2] : 14;
    at += at[1];
  }
  return found;
}

}  // namespace

void TcpLoad::receive(std::span<rte_mbuf*> frames, Tsc now) {
  for (rte_mbuf* m : frames) {
    TcpView segment;
    if (!parse_tcp(m, options_.checksum, segment)) {
      ++counters_.bad_frames;
    } else if (Connection* c = find(segment); c != nullptr) {
      on_segment(*c, segment, now);
    } else {
      answer_unknown(segment);
    }
    rte_pktmbuf_free(m);
  }
  for (Connection* c : owed_) {
    if (c->ack_owed) send_ack(*c);
  }
  owed_.clear();
}

Connection* TcpLoad::find(const TcpView& segment) noexcept {
  const uint32_t client = segment.local.address - options_.local.low;
  const uint32_t port = uint32_t{segment.local.port} - options_.first_port;
  if (client >= options_.clients || port >= options_.ports) return nullptr;
  const uint32_t tuple = client * options_.ports + port;
  Connection& c = connections_[tuple % options_.connections];
  return c.tuple == tuple && c.phase != TcpPhase::closed ? &c : nullptr;
}

// The last ACK of a connection that is gone here may have been lost: repeat it. RFC 9293 3.10.7.4,
// TIME-WAIT.
void TcpLoad::answer_unknown(const TcpView& segment) noexcept {
  const uint32_t client = segment.local.address - options_.local.low;
  const uint32_t port = uint32_t{segment.local.port} - options_.first_port;
  if (client >= options_.clients || port >= options_.ports) return;
  if ((segment.flags & RTE_TCP_FIN_FLAG) == 0) return;
  const uint32_t tuple = client * options_.ports + port;
  uint8_t* tcp =
      start_frame(tuple, segment.ack, segment.seq + segment.length + 1, RTE_TCP_ACK_FLAG, 0, 0);
  if (tcp != nullptr) finish_frame(tcp, tuple, sizeof(rte_tcp_hdr), 0, 0);
}

void TcpLoad::on_segment(Connection& c, const TcpView& segment, Tsc now) noexcept {
  if ((segment.flags & RTE_TCP_RST_FLAG) != 0) return on_reset(c, segment);
  if (c.phase == TcpPhase::syn_sent) return on_syn_ack(c, segment, now);
  if ((segment.flags & RTE_TCP_ACK_FLAG) == 0) return;
  const bool waited = c.response_left != 0;
  on_ack(c, segment, now);
  on_data(c, segment);
  if (c.fin_seen && c.phase == TcpPhase::open) {  // the server hung up
    ++counters_.resets;
    emit(c, c.snd_max, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG, 0);
    reopen_later(c);
  } else if (c.phase == TcpPhase::closing && c.fin_seen && c.snd_una == c.snd_max) {
    send_ack(c);
    on_closed(c, now);
  } else if (waited && c.response_left == 0) {
    on_response(c, now);
  }
}

void TcpLoad::on_reset(Connection& c, const TcpView& segment) noexcept {
  const bool acceptable =
      c.phase == TcpPhase::syn_sent ? segment.ack == c.snd_max : segment.seq == c.rcv_nxt;
  if (!acceptable) return;
  ++counters_.resets;
  reopen_later(c);
}

void TcpLoad::on_syn_ack(Connection& c, const TcpView& segment, Tsc now) noexcept {
  constexpr uint8_t kBoth = RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG;
  if ((segment.flags & RTE_TCP_ACK_FLAG) != 0 && segment.ack != c.snd_max) {
    // RFC 9293 3.10.7.3: an old incarnation answers; reset it and try again after the time-out.
    uint8_t* tcp = start_frame(c.tuple, segment.ack, 0, RTE_TCP_RST_FLAG, 0, 0);
    if (tcp != nullptr) finish_frame(tcp, c.tuple, sizeof(rte_tcp_hdr), 0, 0);
    return;
  }
  if ((segment.flags & kBoth) != kBoth) return;
  const SynOptions offered = parse_syn_options(segment);
  if (offered.mss < mss_) {
    mss_ = std::max(offered.mss, 88u);
    segment_sums_.clear();  // cut for another size
  }
  c.snd_una = c.snd_nxt = c.snd_max;
  c.rcv_nxt = segment.seq + 1;
  c.wnd_shift = offered.window_shift;
  c.snd_wnd = segment.window;
  c.phase = TcpPhase::open;
  c.sent_at = 0;
  c.retries = 0;
  on_open(c, now);
}

void TcpLoad::on_ack(Connection& c, const TcpView& segment, Tsc now) noexcept {
  const uint32_t window = uint32_t{segment.window} << c.wnd_shift;
  const uint32_t acked = segment.ack - c.snd_una;
  if (acked != 0 && acked <= c.snd_max - c.snd_una) {
    c.snd_una = segment.ack;
    if (static_cast<int32_t>(c.snd_nxt - c.snd_una) < 0) c.snd_nxt = c.snd_una;
    c.dup_acks = c.retries = 0;
    c.sent_at = c.snd_una == c.snd_max && c.response_left == 0 ? 0 : now;
    if (mode_ == Mode::tcp_send) {
      counters_.bytes_sent += acked;
      c.snd_base += (c.snd_una - c.snd_base) / mss_ * mss_;
    }
  } else if (acked == 0 && segment.length == 0 && c.snd_una != c.snd_max && window == c.snd_wnd &&
             ++c.dup_acks == 3) {
    c.snd_nxt = c.snd_una;
    send_pending(c, now);
  }
  c.snd_wnd = window;
}

void TcpLoad::on_data(Connection& c, const TcpView& segment) noexcept {
  const bool fin = (segment.flags & RTE_TCP_FIN_FLAG) != 0;
  if (segment.length == 0 && !fin) return;
  if (!c.ack_owed) {
    c.ack_owed = true;
    owed_.push_back(&c);
  }
  if (segment.seq != c.rcv_nxt) return;
  c.rcv_nxt += segment.length + fin;
  c.fin_seen = fin;
  counters_.bytes_received += segment.length;
  if (mode_ == Mode::tcp_recv || segment.length == 0) return;
  if (segment.length > c.response_left) {
    ++counters_.mismatches;
    return;
  }
  if (options_.response == 0) {
    const uint8_t* expected = &pattern_[options_.size - c.response_left];
    if (std::memcmp(segment.payload, expected, segment.length) != 0) ++counters_.mismatches;
  }
  c.response_left -= segment.length;
}

}  // namespace postern::perf
