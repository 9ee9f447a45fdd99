// The receive side: window, reassembly, when to acknowledge, what SACK says.
#include "tcp/connection.h"

namespace postern {

namespace {
constexpr uint16_t kMaxOutOfOrder = 128;  // ranges per connection
constexpr uint32_t kMaxSack = 4;
}  // namespace

// Right edge that buffer, memory and the window field allow now.
uint32_t TcpConnection::receive_limit(const TcpContext& ctx) const {
  const uint32_t field = rcv_nxt_ + (65535U << flags_.rcv_scale);
  return seq_min(field, seq_min(rcv_limit_, stored_end(ctx) + ctx.receive_room));
}

// RFC 9293 3.8.6.2.2: the right edge moves by at least this, unless nothing is left whose removal
// could make more room.
uint32_t TcpConnection::window_step() const {
  const uint32_t half = receive_buffer_ / 2;
  return half < rcv_mss_ ? half : rcv_mss_;
}

// The window field of the segment that is being built; moves rcv_adv_. The right edge never moves
// back; with scaling its last bits may not fit the field (RFC 7323 2.4), and then it is rounded up
// where the buffer allows, and down, less than one unit, where not.
uint16_t TcpConnection::select_window(TcpContext& ctx) {
  const uint32_t limit = receive_limit(ctx);
  uint32_t edge = seq_max(rcv_adv_, rcv_nxt_);
  const bool drained = rcv_limit_ - receive_buffer_ == rcv_nxt_ && ooo_head_ == 0;
  if (seq_ge(limit, edge + (drained ? 1 : window_step()))) edge = limit;
  const uint32_t unit = 1U << flags_.rcv_scale;
  uint32_t field = (edge - rcv_nxt_) >> flags_.rcv_scale;
  if (seq_lt(rcv_nxt_ + field * unit, rcv_adv_) && seq_le(rcv_nxt_ + (field + 1) * unit, limit)) {
    ++field;
  }
  if (field > 65535) field = 65535;
  rcv_adv_ = seq_max(rcv_adv_, rcv_nxt_ + field * unit);
  return static_cast<uint16_t>(field);
}

// Dynamic right-sizing (Feng, Fisk): a buffer of twice what the application reads in a round trip
// never holds the peer back; while the rate grows, more, because the peer may double it in the
// round trip that the new window needs to reach it. Bounded by the configuration, and by half of
// the memory that is free, so that one connection does not promise away what others need.
void TcpConnection::tune_receive_buffer(const TcpContext& ctx, uint32_t rx_head) {
  const uint32_t now = ctx.now_us;
  if (srtt_ == 0 || now - tune_since_us_ < (srtt_ >> 3)) return;
  const uint32_t read = rx_head - tune_from_;
  tune_since_us_ = now;
  tune_from_ = rx_head;
  if (read <= tune_space_ || read > INT32_MAX / 4) return;
  uint64_t wanted = 2ULL * read + 16ULL * rcv_mss_;
  if (tune_space_ != 0) wanted += 2 * wanted * (read - tune_space_) / tune_space_;
  tune_space_ = read;
  const uint64_t memory = uint64_t{receive_buffer_} + ctx.receive_room / 2;
  uint64_t most = ctx.config->receive_buffer_max;
  if (most > memory) most = memory;
  if (wanted > most) wanted = most;
  if (wanted > receive_buffer_) grow_receive_buffer(static_cast<uint32_t>(wanted));
}

// [left, right) with left == rcv_nxt_, within window and memory.
void TcpConnection::accept_in_order(TcpContext& ctx, uint32_t left, uint32_t right, TcpInput& in) {
  const uint32_t length = right - left;
  in.accept_data = true;
  in.length = length;
  in.position = left - irs_ - 1;
  if (right - irs_ < rcv_nxt_ - irs_) ++received_wraps_;
  rcv_nxt_ = right;
  events_ |= tcp_event::readable;
  ctx.counters->add(Counter::tcp_rx_bytes, length);
  if (ooo_head_ != 0) {
    absorb_out_of_order(ctx);
    flags_.ack_now = flags_.output = true;  // RFC 5681 4.2: a segment that fills a gap
  } else {
    schedule_ack(ctx, length);
  }
}

// Received ranges that follow rcv_nxt_ now become part of the stream.
void TcpConnection::absorb_out_of_order(TcpContext& ctx) {
  TcpRangePool& pool = *ctx.ranges;
  while (ooo_head_ != 0 && seq_le(pool[ooo_head_].left, rcv_nxt_)) {
    const uint32_t index = ooo_head_;
    if (seq_gt(pool[index].right, rcv_nxt_)) {
      ctx.counters->add(Counter::tcp_rx_bytes, pool[index].right - rcv_nxt_);
      if (pool[index].right - irs_ < rcv_nxt_ - irs_) ++received_wraps_;
      rcv_nxt_ = pool[index].right;
    }
    ooo_head_ = pool.next(index);
    pool.release(index);
    --ooo_count_;
  }
  if (ooo_head_ == 0) ooo_last_ = 0;
}

// [left, right) beyond rcv_nxt_: joined with what it touches. The list is sorted, ranges in it
// neither overlap nor touch. Most segments continue the last range, so that is tried first.
Drop TcpConnection::accept_out_of_order(TcpContext& ctx, uint32_t left, uint32_t right) {
  flags_.ack_now = flags_.output = true;  // RFC 5681 4.2
  if (ctx.ranges == nullptr) return Drop::tcp_out_of_order_limit;
  TcpRangePool& pool = *ctx.ranges;
  uint32_t before = 0;
  uint32_t at = ooo_head_;
  if (ooo_head_ != 0 && seq_ge(left, pool[ooo_last_].left)) at = ooo_last_;
  while (at != 0 && seq_lt(pool[at].right, left)) {
    before = at;
    at = pool.next(at);
  }
  if (at != 0 && seq_ge(right, pool[at].left)) {
    TcpRange& r = pool[at];
    if (seq_le(r.left, left) && seq_le(right, r.right)) {
      report_duplicate(left, right);
      r.time = ++ooo_stamp_;
      return Drop::tcp_duplicate;
    }
    r.left = seq_min(r.left, left);
    r.right = seq_max(r.right, right);
    r.time = ++ooo_stamp_;
    join_following(pool, at);
  } else {
    const uint32_t fresh = ooo_count_ >= kMaxOutOfOrder ? 0 : pool.allocate(pool.capacity() / 4);
    if (fresh == 0) return Drop::tcp_out_of_order_limit;
    pool[fresh] = TcpRange{left, right, ++ooo_stamp_};
    pool.next(fresh) = at;
    (before == 0 ? ooo_head_ : pool.next(before)) = fresh;
    if (at == 0) ooo_last_ = fresh;
    ++ooo_count_;
  }
  ctx.counters->add(Counter::tcp_out_of_order);
  return Drop::none;
}

void TcpConnection::join_following(TcpRangePool& pool, uint32_t at) {
  for (uint32_t next = pool.next(at); next != 0 && seq_le(pool[next].left, pool[at].right);
       next = pool.next(at)) {
    pool[at].right = seq_max(pool[at].right, pool[next].right);
    pool.next(at) = pool.next(next);
    if (ooo_last_ == next) ooo_last_ = at;
    pool.release(next);
    --ooo_count_;
  }
}

// The stream ends at `end`: what was received beyond is no part of it.
void TcpConnection::cut_out_of_order(TcpRangePool& pool, uint32_t end) {
  uint32_t last = 0;
  uint32_t at = ooo_head_;
  while (at != 0 && seq_lt(pool[at].left, end)) {
    pool[at].right = seq_min(pool[at].right, end);
    last = at;
    at = pool.next(at);
  }
  (last == 0 ? ooo_head_ : pool.next(last)) = 0;
  ooo_last_ = last;
  while (at != 0) {
    const uint32_t next = pool.next(at);
    pool.release(at);
    --ooo_count_;
    at = next;
  }
}

// RFC 2883: the next ACK says that this arrived twice.
void TcpConnection::report_duplicate(uint32_t left, uint32_t right) {
  if (!flags_.sack || seq_ge(left, right)) return;
  dsack_left_ = left;
  dsack_right_ = right;
  unusual_.dsack = flags_.ack_now = flags_.output = true;
}

// RFC 9293 3.8.6.3, RFC 5681 4.2: every second full segment at once, others after a delay; at once
// as well while the sender is in its first windows.
void TcpConnection::schedule_ack(TcpContext& ctx, uint32_t length) {
  if (length > rcv_mss_) {
    // Coalesced segments do not say how large one is.
    rcv_mss_ = static_cast<uint16_t>(length > mss_ + 12U ? mss_ + 12U : length);
  }
  if (quick_acks_ != 0) {
    --quick_acks_;
    flags_.ack_now = flags_.output = true;
  } else if (rcv_nxt_ - last_ack_sent_ >= 2U * rcv_mss_) {
    flags_.ack_now = flags_.output = true;
  } else if (!flags_.ack_delayed) {
    flags_.ack_delayed = true;
    ack_at_ = ctx.now + ctx.config->delayed_ack;
  }
}

// RFC 2018 4, RFC 2883 4: the duplicate first, then the range that arrived last, then the others
// by recency, as many as `room` bytes of options hold.
void TcpConnection::fill_sack(const TcpContext& ctx, TcpSegment& out) {
  if (!flags_.sack) return;
  const uint32_t most = flags_.timestamps ? 3 : kMaxSack;
  uint32_t used = 0;
  if (unusual_.dsack) {
    out.sack[used++] = SackBlock{dsack_left_, dsack_right_};
    unusual_.dsack = false;
  }
  const uint32_t first = used;
  std::array<uint32_t, kMaxSack> stamp{};
  for (uint32_t at = ooo_head_; at != 0; at = ctx.ranges->next(at)) {
    const TcpRange& r = (*ctx.ranges)[at];
    uint32_t place = used;
    while (place > first && seq_gt(r.time, stamp[place - 1])) --place;
    if (place == most) continue;
    if (used < most) ++used;
    for (uint32_t i = used - 1; i > place; --i) {
      out.sack[i] = out.sack[i - 1];
      stamp[i] = stamp[i - 1];
    }
    const bool fin = unusual_.fin_waits && r.right == fin_seq_;  // it has a sequence number as well
    out.sack[place] = SackBlock{r.left, r.right + (fin ? 1 : 0)};
    stamp[place] = r.time;
  }
  out.sack_count = static_cast<uint8_t>(used);
}

}  // namespace postern
