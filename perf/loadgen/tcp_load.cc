// TCP loads: when connections open, ask, answer and close.
#include "tcp_load.h"

#include <netinet/in.h>

#include <algorithm>

namespace postern::perf {
namespace {

constexpr uint32_t kOpenAtOnce = 256;
constexpr unsigned kSweepBudget = 4;

uint32_t pattern_size(const Options& o, uint32_t mss) {
  return o.mode == Mode::tcp_send ? mss : o.size;
}

}  // namespace

TcpLoad::TcpLoad(const Options& options, Link& link)
    : options_(options),
      mode_(options.mode),
      link_(link),
      ip_(link.mac(), link.peer_mac(), options.local, options.peer, IPPROTO_TCP),
      pace_(options.rate),
      connections_(options.connections),
      to_open_(options.connections),
      idle_(options.connections),
      mss_(largest_segment(options)),
      usable_tuples_(options.tuple_count() / options.connections * options.connections),
      stride_(options.connections / options.active),
      rto_(rte_get_tsc_hz() / 5) {
  owed_.reserve(Link::kBurst);
  pattern_.resize(pattern_size(options, mss_));
  for (size_t i = 0; i < pattern_.size(); ++i) {
    pattern_[i] = static_cast<uint8_t>((i * 2654435761u) >> 13);
  }
  if (!options.request.empty()) pattern_.assign(options.request.begin(), options.request.end());
  for (size_t at = 0; at < pattern_.size(); at += mss_) {
    segment_sums_.push_back(sum_bytes(&pattern_[at], std::min<size_t>(mss_, pattern_.size() - at)));
  }
  for (uint32_t i = 0; i < options.connections; ++i) {
    connections_[i].tuple = i;
    connections_[i].snd_max = i * 69069u;
    to_open_.push(i);
  }
}

bool TcpLoad::ready() const {
  return mode_ == Mode::tcp_crr || established_ == options_.connections;
}

std::string TcpLoad::progress() const {
  return std::to_string(established_) + " of " + std::to_string(options_.connections) +
         " connections are open, " + std::to_string(counters_.resets) + " were reset";
}

void TcpLoad::generate(Tsc now) {
  sweep(now);
  open_more(now);
  if (!ready() && !started_) return;
  started_ = true;
  if (mode_ == Mode::tcp_rr) request_more(now);
  if (mode_ == Mode::tcp_send) pump_bulk(now);
}

void TcpLoad::open_more(Tsc now) noexcept {
  const uint32_t limit = mode_ == Mode::tcp_crr ? options_.connections : kOpenAtOnce;
  for (unsigned budget = Link::kBurst; budget != 0 && !to_open_.empty(); --budget) {
    if (opening_ >= limit || link_.room() < Link::kBurst) return;
    const bool paced = mode_ == Mode::tcp_crr && pace_.limited();
    if (paced && !pace_.due(now)) return;
    open(connections_[to_open_.pop()], paced ? pace_.take() : now, now);
  }
}

void TcpLoad::open(Connection& c, Tsc due, Tsc now) noexcept {
  const uint32_t iss = c.snd_max + 64021;
  c.due = due;
  c.snd_una = c.snd_nxt = iss;
  c.snd_max = iss + 1;
  c.phase = TcpPhase::syn_sent;
  c.retries = c.dup_acks = 0;
  c.ack_owed = c.fin_seen = false;
  c.response_left = 0;
  ++opening_;
  send_syn(c, now);
}

void TcpLoad::on_open(Connection& c, Tsc now) noexcept {
  --opening_;
  ++established_;
  c.snd_base = c.snd_end = c.snd_nxt;
  if (mode_ == Mode::tcp_crr) {
    start_request(c, c.due, now);
    return;
  }
  const uint32_t i = index(c);
  if (mode_ == Mode::tcp_rr && i % stride_ == 0 && i / stride_ < options_.active) idle_.push(i);
  c.ack_owed = true;
  owed_.push_back(&c);
}

void TcpLoad::request_more(Tsc now) noexcept {
  for (unsigned budget = Link::kBurst; budget != 0 && !idle_.empty(); --budget) {
    if (link_.room() < Link::kBurst) return;
    if (pace_.limited() && !pace_.due(now)) return;
    Connection& c = connections_[idle_.pop()];
    if (c.phase == TcpPhase::open) start_request(c, pace_.limited() ? pace_.take() : now, now);
  }
}

void TcpLoad::start_request(Connection& c, Tsc due, Tsc now) noexcept {
  c.due = due;
  c.snd_base = c.snd_end;
  c.snd_end += options_.size;
  c.response_left = options_.response != 0 ? options_.response : options_.size;
  ++counters_.sent;
  send_pending(c, now);
}

void TcpLoad::on_response(Connection& c, Tsc now) noexcept {
  if (mode_ == Mode::tcp_crr) {
    c.phase = TcpPhase::closing;
    send_pending(c, now);  // the FIN
    return;
  }
  complete(c.due, now);
  counters_.bytes_sent += options_.size;
  c.sent_at = 0;
  if (pace_.limited()) {
    idle_.push(index(c));
  } else {
    start_request(c, now, now);
  }
}

void TcpLoad::on_closed(Connection& c, Tsc now) noexcept {
  complete(c.due, now);
  counters_.bytes_sent += options_.size;
  reopen_later(c);
}

void TcpLoad::reopen_later(Connection& c) noexcept {
  if (c.phase == TcpPhase::syn_sent) {
    --opening_;
  } else {
    --established_;
  }
  c.phase = TcpPhase::closed;
  c.sent_at = 0;
  c.ack_owed = false;
  const uint64_t next = uint64_t{c.tuple} + options_.connections;
  c.tuple = next < usable_tuples_ ? static_cast<uint32_t>(next) : index(c);
  to_open_.push(index(c));
}

void TcpLoad::pump_bulk(Tsc now) noexcept {
  for (uint32_t visited = 0; visited < options_.connections; ++visited) {
    if (link_.room() < 2 * Link::kBurst) return;
    Connection& c = connections_[bulk_cursor_];
    if (++bulk_cursor_ == options_.connections) bulk_cursor_ = 0;
    if (c.phase != TcpPhase::open) continue;
    c.snd_end = c.snd_una + options_.window * 1024;
    send_pending(c, now);
  }
}

// Looks at a few connections a turn for answers that are overdue.
void TcpLoad::sweep(Tsc now) noexcept {
  const bool all = !started_ || stride_ == 1;
  const uint32_t count = all ? options_.connections : options_.active;
  if (cursor_ == 0) {
    if (now - sweep_started_ < rto_ / 20) return;
    sweep_started_ = now;
  }
  for (unsigned budget = kSweepBudget; budget != 0 && cursor_ < count; --budget) {
    Connection& c = connections_[all ? cursor_ : cursor_ * stride_];
    ++cursor_;
    const unsigned backoff = std::min<unsigned>(c.retries, 4);
    if (c.sent_at != 0 && now > c.sent_at && now - c.sent_at > rto_ << backoff) resend(c, now);
  }
  if (cursor_ >= count) cursor_ = 0;
}

void TcpLoad::resend(Connection& c, Tsc now) noexcept {
  if (link_.room() < Link::kBurst) return;
  ++c.retries;
  if (c.phase == TcpPhase::syn_sent) {
    ++counters_.retransmits;
    send_syn(c, now);
    return;
  }
  c.dup_acks = 0;
  c.snd_nxt = c.snd_una;
  c.sent_at = now;
  send_pending(c, now);
  // All was acknowledged and the answer is missing: show what we have, the peer may have lost it.
  if (c.snd_una == c.snd_max) send_ack(c);
}

bool TcpLoad::wind_down(Tsc) {
  for (unsigned budget = Link::kBurst; budget != 0; --budget) {
    if (wind_cursor_ == options_.connections) return true;
    if (link_.room() < Link::kBurst) return false;
    Connection& c = connections_[wind_cursor_++];
    if (c.phase == TcpPhase::closed) continue;
    const uint8_t ack = c.phase == TcpPhase::syn_sent ? 0 : RTE_TCP_ACK_FLAG;
    emit(c, c.snd_max, static_cast<uint8_t>(RTE_TCP_RST_FLAG | ack), 0);
    c.phase = TcpPhase::closed;
    c.sent_at = 0;
  }
  return false;
}

std::unique_ptr<Load> make_tcp_load(const Options& options, Link& link) {
  return std::make_unique<TcpLoad>(options, link);
}

}  // namespace postern::perf
