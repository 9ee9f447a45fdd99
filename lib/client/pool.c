/* Transmit memory of a channel: blocks of 64 KiB, each given out whole or as 32 units of 2 KiB. A
 * block is in the list `whole`, in the list `partial`, or in none when nothing of it is free. */
#include "client/internal.h"

#define ALL_FREE UINT32_MAX

static void unlink_block(struct channel* ch, uint32_t* head, uint32_t block) {
  struct tx_block* b = &ch->blocks[block];
  if (b->prev != NONE) {
    ch->blocks[b->prev].next = b->next;
  } else {
    store_relaxed(head, b->next);
  }
  if (b->next != NONE) ch->blocks[b->next].prev = b->prev;
}

static void link_block(struct channel* ch, uint32_t* head, uint32_t block) {
  struct tx_block* b = &ch->blocks[block];
  b->prev = NONE;
  b->next = *head;
  if (b->next != NONE) ch->blocks[b->next].prev = block;
  store_relaxed(head, block);
}

static uint32_t* list_of(struct channel* ch, uint32_t free_mask) {
  if (free_mask == 0) return NULL;
  return free_mask == ALL_FREE ? &ch->shared->whole : &ch->shared->partial;
}

static void relink_block(struct channel* ch, uint32_t block, uint32_t* from, uint32_t* to) {
  if (from == to) return;
  if (from != NULL) unlink_block(ch, from, block);
  if (to != NULL) link_block(ch, to, block);
}

static bool is_partial(uint32_t free_mask) { return free_mask != 0 && free_mask != ALL_FREE; }

static inline void set_free_mask(struct channel* ch, uint32_t block, uint32_t mask) {
  struct tx_block* b = &ch->blocks[block];
  const uint32_t before = b->free_mask;
  b->free_mask = mask;
  if (is_partial(before) && is_partial(mask)) return;
  relink_block(ch, block, list_of(ch, before), list_of(ch, mask));
}

void pool_init(struct channel* ch) {
  struct channel_shared* shared = ch->shared;
  shared->partial = shared->whole = NONE;
  shared->units_used = 0;
  for (uint32_t b = ch->tx_blocks; b-- > 0;) {
    ch->blocks[b].free_mask = ALL_FREE;
    link_block(ch, &shared->whole, b);
  }
}

static inline uint32_t take(struct channel* ch, uint32_t unit, uint32_t mask, uint32_t units) {
  const uint32_t block = unit / UNITS_PER_BLOCK;
  set_free_mask(ch, block, ch->blocks[block].free_mask & ~mask);
  store_relaxed(&ch->shared->units_used, ch->shared->units_used + units);
  ch->units[unit].units = (uint16_t)units;
  return unit;
}

static inline uint32_t take_small(struct channel* ch, uint32_t near) {
  if (near / UNITS_PER_BLOCK < ch->tx_blocks) {
    const uint32_t bit = UINT32_C(1) << near % UNITS_PER_BLOCK;
    if ((ch->blocks[near / UNITS_PER_BLOCK].free_mask & bit) != 0) return take(ch, near, bit, 1);
  }
  const uint32_t block = ch->shared->partial != NONE ? ch->shared->partial : ch->shared->whole;
  if (block == NONE) return NONE;
  const uint32_t mask = ch->blocks[block].free_mask;
  const uint32_t first = (uint32_t)__builtin_ctz(mask);
  return take(ch, block * UNITS_PER_BLOCK + first, UINT32_C(1) << first, 1);
}

static uint32_t take_large(struct channel* ch, uint32_t near) {
  uint32_t block = ch->shared->whole;
  const uint32_t wanted = near / UNITS_PER_BLOCK;
  if (near % UNITS_PER_BLOCK == 0 && wanted < ch->tx_blocks &&
      ch->blocks[wanted].free_mask == ALL_FREE) {
    block = wanted;
  }
  if (block == NONE) return NONE;
  return take(ch, block * UNITS_PER_BLOCK, ALL_FREE, UNITS_PER_BLOCK);
}

/* The free masks are right at any moment, the lists and the count are made from them. */
static void pool_recover(struct channel* ch) {
  struct channel_shared* shared = ch->shared;
  uint32_t unused = 0;
  shared->partial = shared->whole = NONE;
  for (uint32_t b = ch->tx_blocks; b-- > 0;) {
    const uint32_t mask = ch->blocks[b].free_mask;
    unused += (uint32_t)__builtin_popcount(mask);
    if (mask != 0) link_block(ch, list_of(ch, mask), b);
  }
  store_relaxed(&shared->units_used, ch->tx_blocks * UNITS_PER_BLOCK - unused);
}

static inline void pool_acquire(struct channel* ch) {
  if (lock_acquire(&ch->shared->pool_lock)) pool_recover(ch);
}

uint32_t pool_allocate(struct channel* ch, uint32_t units, uint32_t near) {
  pool_acquire(ch);
  const uint32_t unit = units == 1 ? take_small(ch, near) : take_large(ch, near);
  lock_release(&ch->shared->pool_lock);
  return unit;
}

uint32_t pool_allocate_double(struct channel* ch) {
  uint32_t unit = NONE;
  pool_acquire(ch);
  for (uint32_t b = 0; b + 1 < ch->tx_blocks && unit == NONE; ++b) {
    if (ch->blocks[b].free_mask != ALL_FREE || ch->blocks[b + 1].free_mask != ALL_FREE) continue;
    take(ch, (b + 1) * UNITS_PER_BLOCK, ALL_FREE, UNITS_PER_BLOCK);
    unit = take(ch, b * UNITS_PER_BLOCK, ALL_FREE, UNITS_PER_BLOCK);
    ch->units[unit].units = 2 * UNITS_PER_BLOCK;
  }
  lock_release(&ch->shared->pool_lock);
  return unit;
}

static void wake_starved(struct context* c) {
  uint32_t head = exchange(&c->app->starved_head, 0);
  while (head != 0) {
    struct record* r = record_at(c, head - 1);
    const uint32_t index = head - 1;
    head = load_relaxed(&r->next_starved);
    exchange(&r->starved, 0);
    record_changed(c, index);
  }
}

void pool_free(struct context* c, struct channel* ch, uint32_t unit) {
  pool_acquire(ch);
  const uint32_t units = ch->units[unit].units;
  if (units == 1) {
    const uint32_t block = unit / UNITS_PER_BLOCK;
    const uint32_t bit = UINT32_C(1) << unit % UNITS_PER_BLOCK;
    set_free_mask(ch, block, ch->blocks[block].free_mask | bit);
  } else {
    for (uint32_t u = unit; u < unit + units; u += UNITS_PER_BLOCK) {
      set_free_mask(ch, u / UNITS_PER_BLOCK, ALL_FREE);
    }
  }
  store_relaxed(&ch->shared->units_used, ch->shared->units_used - units);
  lock_release(&ch->shared->pool_lock);
  if (__atomic_load_n(&c->app->starved_head, __ATOMIC_SEQ_CST) != 0) wake_starved(c);
}
