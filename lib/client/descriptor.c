/* The descriptor table of the process: number -> record and its life. Lookup is one load. A bitmap
 * of three levels finds the lowest free number. */
#include <assert.h>

#include "client/internal.h"

enum { BITS = 64, LEVEL0 = 131072, LEVEL1 = LEVEL0 / BITS, LEVEL2 = LEVEL1 / BITS };
_Static_assert(DESCRIPTORS == LEVEL0 * BITS, "three levels of 64");

uint64_t* descriptor_table;
static uint32_t* high;         /* numbers from here on were never used */
static uint64_t full0[LEVEL0]; /* bit: number in use */
static uint64_t full1[LEVEL1]; /* bit: word of the level below is all ones */
static uint64_t full2[LEVEL2];
static uint32_t open_count;
static struct lock table_lock;

void descriptor_use(uint64_t* its_table, uint32_t* its_high) {
  high = its_high;
  store(&descriptor_table, its_table);
}

void descriptor_lock(void) { lock_acquire(&table_lock); }
void descriptor_unlock(void) { lock_release(&table_lock); }

static int lowest_free(void) {
  for (int i = 0; i < LEVEL2; ++i) {
    if (full2[i] == UINT64_MAX) continue;
    const int j = i * BITS + __builtin_ctzll(~full2[i]);
    const int k = j * BITS + __builtin_ctzll(~full1[j]);
    return k * BITS + __builtin_ctzll(~full0[k]);
  }
  return -1;
}

static void mark(int fd, bool used) {
  const int k = fd / BITS;
  const int j = k / BITS;
  const uint64_t bit = UINT64_C(1) << fd % BITS;
  full0[k] = used ? full0[k] | bit : full0[k] & ~bit;
  const uint64_t bit1 = UINT64_C(1) << k % BITS;
  full1[j] = full0[k] == UINT64_MAX ? full1[j] | bit1 : full1[j] & ~bit1;
  const uint64_t bit2 = UINT64_C(1) << j % BITS;
  full2[j / BITS] = full1[j] == UINT64_MAX ? full2[j / BITS] | bit2 : full2[j / BITS] & ~bit2;
}

void descriptor_resume(void) {
  for (uint32_t fd = 0; fd < *high; ++fd) {
    if (descriptor_table[fd] == 0) continue;
    mark((int)fd, true);
    ++open_count;
  }
}

int descriptor_create(uint32_t index, uint32_t life) {
  lock_acquire(&table_lock);
  const int fd = lowest_free();
  if (fd >= 0) {
    mark(fd, true);
    if ((uint32_t)fd >= *high) store(high, (uint32_t)fd + 1);
    store(&descriptor_table[fd], (uint64_t)life << 32 | index);
    store_relaxed(&open_count, open_count + 1);
  }
  lock_release(&table_lock);
  return fd >= 0 ? fd : fail(EMFILE);
}

bool descriptor_remove(int fd, const struct sock* s) {
  lock_acquire(&table_lock);
  const bool ours = descriptor_table[fd] == ((uint64_t)s->life << 32 | s->index);
  if (ours) {
    store(&descriptor_table[fd], 0);
    mark(fd, false);
    store_relaxed(&open_count, open_count - 1);
  }
  lock_release(&table_lock);
  return ours;
}

int sock_lookup(int fd, struct sock* s) {
  assert(!alone_here() || bias.inside[bias_number] != 0); /* a public function without ENTER() */
  return sock_find(fd, s) ? 0 : fail(EBADF);
}

int sock_lookup_live(int fd, struct sock* s) {
  if (sock_lookup(fd, s) != 0) return -1;
  return load_relaxed(&s->context->dead) ? fail(ECONNABORTED) : 0;
}

uint32_t descriptor_count(void) { return load_relaxed(&open_count); }

int descriptor_next(int fd) {
  const int end = load(&descriptor_table) != NULL ? (int)load(high) : 0;
  for (; fd < end; ++fd) {
    if (descriptor_entry(fd) != 0) return fd;
  }
  return -1;
}

void descriptor_for_each(struct context* c, void (*f)(struct context* c, uint32_t index)) {
  for (int fd = descriptor_next(0); fd >= 0; fd = descriptor_next(fd + 1)) {
    const uint64_t entry = descriptor_entry(fd);
    if (entry != 0) f(c, (uint32_t)entry);
  }
}

void descriptor_reset(void) {
  store(&descriptor_table, NULL);
  memset(full0, 0, sizeof full0);
  memset(full1, 0, sizeof full1);
  memset(full2, 0, sizeof full2);
  open_count = 0;
  table_lock.word = 0;
}
