/* Slots and their records. Client slots are taken from a free list, or from those never used yet.
 */
#include "client/internal.h"

enum { DEFAULT_SNDBUF = 4 << 20, LEAST_SNDBUF = 64 << 10 };

static uint32_t default_sndbuf(const struct channel* ch) {
  const uint64_t quarter = (uint64_t)ch->tx_blocks * UNITS_PER_BLOCK * SHM_CHUNK_UNIT / 4;
  if (quarter < LEAST_SNDBUF) return LEAST_SNDBUF;
  return quarter < DEFAULT_SNDBUF ? (uint32_t)quarter : DEFAULT_SNDBUF;
}

/* Locks, seq, waiters, life and the links of the lists that a record may still be in (dirty,
 * starved) outlive a use of the slot. */
void record_init(struct context* c, uint32_t index, uint32_t generation, uint32_t flags) {
  struct record* r = record_at(c, index);
  store_relaxed(&r->rx_tail, 0);
  store_relaxed(&r->tx_acked, 0);
  store_relaxed(&r->chain, 0);
  store_relaxed(&r->error, 0);
  store_relaxed(&r->primary, index);
  store_relaxed(&r->sibling, NONE);
  r->accept_head = r->accept_tail = (flags & R_STREAM) != 0 ? NONE : 0;
  store_relaxed(&r->accept_count, 0);
  store_relaxed(&r->rx_head, 0);
  store_relaxed(&r->rx_reported, 0);
  store_relaxed(&r->place, 0);
  r->turn = index;
  r->binding = 0;
  r->rcv_timeout = r->snd_timeout = 0;
  store_relaxed(&r->refs, 1);
  store_relaxed(&r->interest, 0);
  store_relaxed(&r->torn, 0);
  store_relaxed(&r->reserved, 0);
  store_relaxed(&r->taker, 0);
  store_relaxed(&r->tx_tail, 0);
  store_relaxed(&r->tx_reaped, 0);
  r->tx_first = r->tx_last = NONE;
  store_relaxed(&r->tx_extents, 0);
  store_relaxed(&r->sndbuf, default_sndbuf(channel_of(c, index)));
  store_relaxed(&r->dgrams, 0);
  r->dgram_unit = (flags & R_STREAM) != 0 ? 0 : NONE; /* of a stream: pacing_rate */
  r->dgram_offset = r->dgram_position = 0;
  memset(r->local_address, 0, sizeof r->local_address);
  memset(r->remote_address, 0, sizeof r->remote_address);
  r->local_port = r->remote_port = 0;
  memset(&r->options, 0, sizeof r->options);
  store_relaxed(&r->ancillary, 0);
  r->congestion = 0;
  r->zone = 0;
  store(&r->generation, generation);
  store(&r->flags, flags);
}

uint32_t slot_allocate(struct context* c, struct channel* ch, uint32_t flags) {
  struct channel_shared* shared = ch->shared;
  lock_acquire(&shared->slot_lock);
  uint32_t slot = shared->slot_free;
  if (slot != NONE) {
    shared->slot_free = ch->records[slot].next;
  } else if (shared->slot_high < c->client_slots) {
    slot = shared->slot_high++;
  }
  lock_release(&shared->slot_lock);
  if (slot == NONE) return NONE;
  uint32_t generation = load_relaxed(&ch->records[slot].generation) + 1;
  if (generation == 0) generation = 1;
  const uint32_t index = index_of(c, ch, slot);
  record_init(c, index, generation, flags);
  return index;
}

void slot_free(struct context* c, uint32_t index) {
  struct channel* ch = channel_of(c, index);
  struct record* r = record_at(c, index);
  if ((exchange(&r->flags, 0) & R_CLOSING) != 0) fetch_sub(&ch->shared->closing, 1);
  fetch_add(&r->seq, 1);
  if (load(&r->waiters) != 0) futex_wake(&r->seq, INT32_MAX);
  kick_leader(c, index);
  if (load_relaxed(&c->shared)) family_changed(c, index);
  if (slot_of(c, index) >= c->client_slots) return;
  lock_acquire(&ch->shared->slot_lock);
  r->next = ch->shared->slot_free;
  ch->shared->slot_free = slot_of(c, index);
  lock_release(&ch->shared->slot_lock);
}

void record_reopen(struct context* c, uint32_t index) {
  struct record* r = record_at(c, index);
  store_relaxed(&r->rx_tail, 0);
  store_relaxed(&r->tx_acked, 0);
  store_relaxed(&r->tx_reaped, 0);
  store_relaxed(&r->chain, 0);
  store_relaxed(&r->rx_head, 0);
  store_relaxed(&r->rx_reported, 0);
  store_relaxed(&r->place, 0);
  store_relaxed(&r->tx_tail, 0);
  store_relaxed(&r->reserved, 0);
  const uint32_t generation = load_relaxed(&r->generation) + 1;
  store(&r->generation, generation != 0 ? generation : 1);
  fetch_sub(&channel_of(c, index)->shared->closing, 1);
  fetch_and(&r->flags,
            ~(uint32_t)(R_OPEN | R_CONNECTING | R_CONNECTED | R_EOF | R_FAILED | R_SHUT_RD |
                        R_SHUT_WR | R_CLOSING | R_REOPEN | R_ASYNC | R_URGENT | R_URGENT_READ));
  record_changed(c, index);
}
