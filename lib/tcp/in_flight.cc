// What is in flight, and what of it the peer has.
//
// Ranges in order of sequence: a list of nodes from sent_head_, then newest_, which is addressed
// as index 0. An acknowledgment takes ranges from the front; SACK splits ranges, marks what has
// arrived, and joins what then lies side by side.
#include "tcp/connection.h"

namespace postern {

namespace {
constexpr uint16_t kMaxSent = 1024;  // nodes per connection
}  // namespace

// ---- the list ----

// RFC 6675 4 "pipe": bytes believed to be in the network.
uint32_t TcpConnection::pipe() const {
  const uint32_t flight = snd_nxt_ - snd_una_;
  if (!unusual_.loss_marks) return flight;
  const uint32_t gone = sacked_bytes_ + lost_bytes_;
  return gone < flight ? flight - gone : 0;
}

// New data [left, right) goes out now. What goes out in one turn is one range.
void TcpConnection::append_range(TcpContext& ctx, uint32_t left, uint32_t right) {
  const uint32_t now = ctx.now_us;
  if (newest_.left == newest_.right) {
    newest_ = TcpRange{left, right, now, 0, 1};
    return;
  }
  if (newest_.time == now && newest_.flags == 0) {
    newest_.right = right;
    return;
  }
  const uint32_t node = sent_count_ < kMaxSent ? allocate_sent(ctx) : 0;
  if (node != 0) {
    (*ctx.ranges)[node] = newest_;
    link_last(ctx, node);
    if (resend_hint_ == 0 && newest_.has(TcpRange::kLost)) resend_hint_ = node;
    newest_ = TcpRange{left, right, now, 0, 1};
    return;
  }
  unmark(newest_, TcpRange::kSacked | TcpRange::kLost |
                      TcpRange::kProbe);  // the peer, or a timeout, says so again
  newest_.right = right;
  newest_.time = now;
}

uint32_t TcpConnection::allocate_sent(TcpContext& ctx) {
  return ctx.ranges == nullptr ? 0 : ctx.ranges->allocate();
}

void TcpConnection::link_last(TcpContext& ctx, uint32_t node) {
  (sent_last_ == 0 ? sent_head_ : ctx.ranges->next(sent_last_)) = node;
  sent_last_ = node;
  ++sent_count_;
}

// Cuts the range at `at`, left < at < right. The front part's index, 0 if there is no node for it.
uint32_t TcpConnection::split_range(TcpContext& ctx, uint32_t index, uint32_t at) {
  const uint32_t node = sent_count_ < kMaxSent ? allocate_sent(ctx) : 0;
  if (node == 0) return 0;
  TcpRangePool& pool = *ctx.ranges;
  if (index == 0) {
    pool[node] = newest_;
    pool[node].right = newest_.left = at;
    link_last(ctx, node);
    if (resend_hint_ == 0) resend_hint_ = node;
    return node;
  }
  pool[node] = pool[index];
  pool[index].right = pool[node].left = at;
  pool.next(node) = pool.next(index);
  pool.next(index) = node;
  if (sent_last_ == index) sent_last_ = node;
  ++sent_count_;
  return index;
}

void TcpConnection::mark(TcpRange& r, uint8_t flag) {
  r.flags |= flag;
  (flag == TcpRange::kSacked ? sacked_bytes_ : lost_bytes_) += r.size();
  unusual_.loss_marks = true;
}

void TcpConnection::unmark(TcpRange& r, uint8_t flags) {
  if ((r.flags & flags & TcpRange::kSacked) != 0) sacked_bytes_ -= r.size();
  if ((r.flags & flags & TcpRange::kLost) != 0) lost_bytes_ -= r.size();
  r.flags = static_cast<uint8_t>(r.flags & ~flags);
  unusual_.loss_marks = (sacked_bytes_ | lost_bytes_) != 0;
}

// ---- what an acknowledgment says ----

// The first `bytes` of r have arrived, as far as they were not known to have.
void TcpConnection::count_delivered(TcpContext& ctx, const TcpRange& r, uint32_t right,
                                    Acked& acked) {
  if (r.has(TcpRange::kSacked)) return;
  acked.delivered += right - r.left;
  if (!r.has(TcpRange::kResent)) {
    if (acked.rtt_us == 0) {
      acked.rtt_us = ctx.now_us - r.time;
      if (acked.rtt_us == 0) acked.rtt_us = 1;
    }
    acked.original = true;
    if (unusual_.loss_marks && seq_lt(right, fack_)) {  // RFC 8985 6.2.3
      flags_.reordering = true;
      ++reorder_seen_;
    }
  }
  const auto later = static_cast<int32_t>(r.time - acked.newest_time);
  if (!acked.newest_valid || later > 0 || (later == 0 && seq_gt(right, acked.newest_end))) {
    acked.newest_valid = true;
    acked.newest_time = r.time;
    acked.newest_end = right;
    acked.newest_resent = r.has(TcpRange::kResent);
  }
}

// Everything before `ack` leaves the list.
void TcpConnection::acknowledge_ranges(TcpContext& ctx, uint32_t ack, Acked& acked) {
  while (sent_head_ != 0) {
    TcpRangePool& pool = *ctx.ranges;
    const uint32_t index = sent_head_;
    TcpRange& r = pool[index];
    if (seq_gt(r.right, ack)) {
      acknowledge_front(ctx, r, ack, acked);
      return;
    }
    count_delivered(ctx, r, r.right, acked);
    unmark(r, TcpRange::kSacked | TcpRange::kLost);
    sent_head_ = pool.next(index);
    if (resend_hint_ == index) resend_hint_ = sent_head_;
    if (sent_last_ == index) sent_last_ = 0;
    pool.release(index);
    --sent_count_;
  }
  acknowledge_front(ctx, newest_, ack, acked);
  if (newest_.left == newest_.right) newest_.flags = 0;
}

void TcpConnection::acknowledge_front(TcpContext& ctx, TcpRange& r, uint32_t ack, Acked& acked) {
  if (seq_ge(r.left, ack)) return;
  count_delivered(ctx, r, ack, acked);
  const uint8_t marks = r.flags & (TcpRange::kSacked | TcpRange::kLost);
  if (marks != 0) {
    (marks == TcpRange::kSacked ? sacked_bytes_ : lost_bytes_) -= ack - r.left;
    unusual_.loss_marks = (sacked_bytes_ | lost_bytes_) != 0;
  }
  r.left = ack;
  if (r.has(TcpRange::kPartial) && r.left != r.right) {
    r.flags = static_cast<uint8_t>(r.flags & ~TcpRange::kPartial);
    if (marks == 0) mark(r, TcpRange::kLost);  // what follows the part that was sent again
    resend_hint_ = sent_head_;
  }
}

// RFC 2018, 2883. Blocks that do not lie within what is in flight are ignored.
void TcpConnection::take_sack(TcpContext& ctx, const TcpSegment& s, Acked& acked) {
  std::array<SackBlock, 4> blocks;
  uint32_t count = 0;
  for (uint32_t i = 0; i < s.sack_count && i < blocks.size(); ++i) {
    const SackBlock b = s.sack[i];
    if (i == 0 && is_dsack(s)) {
      acked.dsack = true;
      continue;
    }
    if (seq_ge(b.left, b.right) || seq_le(b.left, snd_una_) || seq_gt(b.right, snd_nxt_)) continue;
    uint32_t place = count++;
    for (; place > 0 && seq_gt(blocks[place - 1].left, b.left); --place) {
      blocks[place] = blocks[place - 1];
    }
    blocks[place] = b;
  }
  if (count == 0) return;
  if (sacked_bytes_ == 0) fack_ = snd_una_;
  mark_sacked(ctx, blocks.data(), count, acked);
}

// RFC 2883 4: the first block lies below the cumulative ACK, or within the second one.
bool TcpConnection::is_dsack(const TcpSegment& s) const {
  const SackBlock b = s.sack[0];
  if (seq_ge(b.left, b.right)) return false;
  if (seq_le(b.right, s.ack)) return seq_ge(b.left, s.ack - max_snd_wnd_);
  return s.sack_count > 1 && seq_le(s.sack[1].left, b.left) && seq_ge(s.sack[1].right, b.right);
}

// One walk for all blocks, which are sorted.
void TcpConnection::mark_sacked(TcpContext& ctx, const SackBlock* blocks, uint32_t count,
                                Acked& acked) {
  const SackBlock* const end = blocks + count;
  uint32_t previous = 0;
  uint32_t highest = fack_;
  for (uint32_t index = sent_head_; blocks != end;) {
    while (blocks != end && seq_le(blocks->right, range(ctx, index).left)) ++blocks;
    if (blocks == end) break;
    if (seq_lt(blocks->left, range(ctx, index).right) &&
        !range(ctx, index).has(TcpRange::kSacked)) {
      // Cut so that the range lies within the block, or leave it: the peer repeats what it has.
      if (seq_lt(range(ctx, index).left, blocks->left)) {
        const uint32_t front = split_range(ctx, index, blocks->left);
        if (front == 0) break;
        previous = front;
        index = ctx.ranges->next(front);
      }
      if (seq_gt(range(ctx, index).right, blocks->right)) {
        index = split_range(ctx, index, blocks->right);
        if (index == 0) break;
      }
      TcpRange& r = range(ctx, index);
      count_delivered(ctx, r, r.right, acked);
      highest = seq_max(highest, r.right);
      unmark(r, TcpRange::kLost);
      mark(r, TcpRange::kSacked);
      acked.sacked_new = true;
      if (join_sacked(ctx, previous, index)) index = previous;
    }
    if (index == 0) break;
    previous = index;
    index = ctx.ranges->next(index);
  }
  fack_ = highest;
}

// Neighbours that have both arrived are one range. True if `index` went into `previous`.
bool TcpConnection::join_sacked(TcpContext& ctx, uint32_t previous, uint32_t index) {
  if (previous == 0 || index == 0) return false;
  TcpRangePool& pool = *ctx.ranges;
  if (!pool[previous].has(TcpRange::kSacked)) return false;
  pool[previous].right = pool[index].right;
  pool.next(previous) = pool.next(index);
  if (sent_last_ == index) sent_last_ = previous;
  if (resend_hint_ == index) resend_hint_ = previous;
  pool.release(index);
  --sent_count_;
  return true;
}

}  // namespace postern
