#include "client/family.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/internal.h"

enum {
  MAX_SHARERS = 256,
  CLOSING = 14,         /* closes under way, of a process, that survive it */
  CHECK_NS = 100000000, /* between looks for sharers that are gone */
  PULSE_NS = 200000000,
  WORD = 64
};

struct sharer {
  SHM_ALIGNED(64) uint32_t life;   /* 0: free; under family.lock */
  uint32_t pid;                    /* for people */
  uint32_t high;                   /* its descriptors from here on were never used */
  uint32_t polling;                /* threads in postern_poll: interested in everything */
  SHM_ALIGNED(64) uint32_t asleep; /* threads and event loops that sleep until kicked */
  uint32_t kicked;
  uint32_t changed;          /* a bit of its map is set */
  uint64_t closing[CLOSING]; /* descriptors' entries that are being closed; 0 unused */
  SHM_ALIGNED(64) uint16_t sleeping[SHM_MAX_CHANNELS]; /* its part of channel_shared.sleepers */
};

struct family { /* at offset 0 of the file; tables and maps follow */
  struct lock lock;
  uint32_t last_life;
  uint32_t used;    /* sharers from here on were never used */
  uint32_t polling; /* sharer.polling of all; more where one died while it counted */
  int64_t checked;  /* when sharers were last looked for */
  struct sharer sharers[MAX_SHARERS];
};

/* ---- the file ---- */

static size_t page_up(size_t n) { return (n + 4095) & ~(size_t)4095; }

/* Of the map of a sharer: a bit a record, and a bit a word of those. */
static size_t map_words(const struct context* c) {
  const size_t records = (size_t)c->channel_count << c->slot_shift;
  return (records + WORD - 1) / WORD;
}
static size_t map_bytes(const struct context* c) {
  return page_up((map_words(c) + (map_words(c) + WORD - 1) / WORD) * sizeof(uint64_t));
}
static size_t table_bytes(void) { return page_up(DESCRIPTORS * sizeof(uint64_t)); }

static size_t family_bytes(const struct context* c) {
  return page_up(sizeof(struct family)) + MAX_SHARERS * (table_bytes() + map_bytes(c));
}
static uint64_t* table_of(const struct context* c, uint32_t sharer) {
  char* tables = (char*)c->family + page_up(sizeof(struct family));
  return (uint64_t*)(void*)(tables + sharer * table_bytes());
}
static uint64_t* map_of(const struct context* c, uint32_t sharer) {
  char* maps = (char*)c->family + page_up(sizeof(struct family)) + MAX_SHARERS * table_bytes();
  return (uint64_t*)(void*)(maps + sharer * map_bytes(c));
}
static uint64_t* summary_of(const struct context* c, uint32_t sharer) {
  return map_of(c, sharer) + map_words(c);
}

/* ---- lives ---- */

static struct flock byte_of(uint32_t sharer) {
  return (struct flock){
      .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)sharer, .l_len = 1};
}

/* An open file description of its own that keeps the sharer's byte locked; -1. */
static int hold_life(const struct context* c, uint32_t sharer) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", c->family_fd);
  const int fd = own_move((int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0));
  if (fd < 0) return -1;
  struct flock byte = byte_of(sharer);
  if (syscall(SYS_fcntl, fd, F_OFD_SETLK, &byte) == 0) return fd;
  close(fd);
  return -1;
}

static bool holds_life(const struct context* c, uint32_t sharer) {
  struct flock byte = byte_of(sharer);
  return syscall(SYS_fcntl, c->family_fd, F_OFD_GETLK, &byte) != 0 || byte.l_type != F_UNLCK;
}

bool family_is_gone(uint32_t life) {
  const struct context* c = context_get();
  if (c == NULL || life == lock_self) return false;
  const uint32_t used = load(&c->family->used);
  for (uint32_t i = 0; i < used; ++i) {
    if (load(&c->family->sharers[i].life) == life) return !holds_life(c, i);
  }
  return true;
}

static uint32_t new_life(struct family* f) {
  return __atomic_add_fetch(&f->last_life, 1, __ATOMIC_SEQ_CST);
}

/* ---- begin and end ---- */

static void become(struct context* c, uint32_t sharer, uint32_t life) {
  c->sharer = sharer;
  c->self = &c->family->sharers[sharer];
  c->self->pid = (uint32_t)getpid();
  lock_self = life;
  descriptor_use(table_of(c, sharer), &c->self->high);
}

static bool map_family(struct context* c) {
  void* p = mmap(NULL, c->family_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                 c->family_fd, 0);
  if (p == MAP_FAILED) return false;
  c->family = p;
  return true;
}

bool family_begin(struct context* c) {
  for (int i = 0; i < KICK_FDS; ++i) c->family_kick[i] = -1;
  c->life_fd = c->sleep_fd = c->pulse_fd = -1;
  c->family_fd = own_move((int)syscall(SYS_memfd_create, "postern-family", 1U /* MFD_CLOEXEC */));
  if (c->family_fd < 0) return false;
  c->family_size = family_bytes(c);
  if (ftruncate(c->family_fd, (off_t)c->family_size) != 0) return false;
  if (!map_family(c)) return false;
  c->family->used = c->family->last_life = c->family->sharers[0].life = 1;
  become(c, 0, 1);
  return true;
}

void family_end(struct context* c) {
  if (c->family != NULL) munmap(c->family, c->family_size);
  for (int i = 0; i < KICK_FDS; ++i) {
    if (c->family_kick[i] >= 0) close(c->family_kick[i]);
  }
  if (c->family_fd >= 0) close(c->family_fd);
  if (c->life_fd >= 0) close(c->life_fd);
  if (c->sleep_fd >= 0) close(c->sleep_fd);
  if (c->pulse_fd >= 0) close(c->pulse_fd);
}

/* ---- what a sharer holds ---- */

static void drop_table(struct context* c, uint32_t sharer) {
  uint64_t* table = table_of(c, sharer);
  const uint32_t high = load(&c->family->sharers[sharer].high);
  for (uint32_t fd = 0; fd < high; ++fd) {
    const uint64_t entry = load(&table[fd]);
    if (entry == 0) continue;
    store(&table[fd], 0); /* before: a reference too many is better than one too few */
    reference_drop(c, entry);
  }
}

uint64_t* family_closing(struct context* c, uint64_t entry) {
  for (int i = 0; i < CLOSING; ++i) {
    uint64_t unused = 0;
    uint64_t* at = &c->self->closing[i];
    if (load_relaxed(at) == 0 && __atomic_compare_exchange_n(at, &unused, entry, false,
                                                             __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
      return at;
    }
  }
  return NULL;
}

/* After the table: what still stands there was dropped with it. */
static void finish_closing(struct context* c, struct sharer* s) {
  for (int i = 0; i < CLOSING; ++i) {
    const uint64_t entry = load(&s->closing[i]);
    if (entry != 0) reference_finish(c, entry);
    store(&s->closing[i], 0);
  }
}

static void clear_map(const struct context* c, uint32_t sharer) {
  uint64_t* summary = summary_of(c, sharer);
  for (size_t s = 0; s * WORD < map_words(c); ++s) {
    if (load(&summary[s]) == 0) continue;
    memset(map_of(c, sharer) + s * WORD, 0,
           (map_words(c) - s * WORD < WORD ? map_words(c) - s * WORD : WORD) * sizeof(uint64_t));
    store(&summary[s], 0);
  }
}

/* Under family.lock. What the threads of a sharer were doing is over. */
static void forget_threads(struct context* c, uint32_t sharer) {
  struct sharer* s = &c->family->sharers[sharer];
  finish_closing(c, s);
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    sleep_forget(c, &c->channels[i], s->sleeping[i]);
    s->sleeping[i] = 0;
  }
  clear_map(c, sharer);
  fetch_sub(&c->family->polling, s->polling);
  s->polling = s->asleep = s->kicked = s->changed = 0;
}

/* Under family.lock. The sharer is gone. */
static void remove_sharer(struct context* c, uint32_t sharer) {
  drop_table(c, sharer);
  forget_threads(c, sharer);
  c->family->sharers[sharer].high = 0;
  store(&c->family->sharers[sharer].life, 0);
}

/* Event loops that sleep wake to look for sharers that are gone. One timer for all processes. */
static bool beat(const struct context* c, bool on) {
  const struct timespec period = {.tv_nsec = on ? PULSE_NS : 0};
  const struct itimerspec times = {.it_interval = period, .it_value = period};
  return syscall(SYS_timerfd_settime, c->pulse_fd, 0, &times, NULL) == 0;
}

/* Under family.lock. */
static void alone_again(struct context* c) {
  for (uint32_t i = 0; i < c->family->used; ++i) {
    if (i != c->sharer && load(&c->family->sharers[i].life) != 0) return;
  }
  store(&c->shared, false);
  (void)beat(c, false);
  bias_unshare();
}

void family_check(struct context* c, bool forced) {
  if (!load_relaxed(&c->shared)) return;
  struct family* f = c->family;
  const int64_t now = now_ns();
  if (!forced && now - load_relaxed(&f->checked) < CHECK_NS) return;
  store_relaxed(&f->checked, now);
  bool removed = false;
  lock_acquire(&f->lock);
  for (uint32_t i = 0; i < f->used; ++i) {
    if (i == c->sharer || load(&f->sharers[i].life) == 0 || holds_life(c, i)) continue;
    remove_sharer(c, i);
    removed = true;
  }
  if (removed) alone_again(c);
  lock_release(&f->lock);
  if (!removed) return;
  connections_recover(c);
  for (uint32_t i = 0; i < c->channel_count; ++i) ring_again(c, &c->channels[i]);
}

/* ---- fork ---- */

static bool have_kicks(struct context* c) {
  for (int i = 0; i < KICK_FDS; ++i) {
    if (c->family_kick[i] < 0) c->family_kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->family_kick[i] < 0) return false;
  }
  if (c->pulse_fd < 0) {
    c->pulse_fd =
        own_move((int)syscall(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  }
  return c->pulse_fd >= 0;
}

static void copy_table(struct context* c, uint32_t child) {
  const uint64_t* from = table_of(c, c->sharer);
  uint64_t* to = table_of(c, child);
  const uint32_t high = c->self->high;
  store(&c->family->sharers[child].high, high);
  for (uint32_t fd = 0; fd < high; ++fd) {
    if (from[fd] == 0) continue;
    fetch_add(&record_at(c, (uint32_t)from[fd])->refs, 1);
    store(&to[fd], from[fd]);
  }
}

/* Under family.lock. The place of the child, its byte locked through c->child_fd; NONE. */
static uint32_t admit_child(struct context* c) {
  struct family* f = c->family;
  uint32_t child = 0;
  while (child < f->used && load(&f->sharers[child].life) != 0) ++child;
  if (child == MAX_SHARERS) return NONE;
  c->child_fd = hold_life(c, child);
  if (c->child_fd < 0) return NONE;
  if (child == f->used) store(&f->used, child + 1);
  store(&f->sharers[child].life, new_life(f));
  copy_table(c, child);
  return child;
}

void family_share(struct context* c) {
  c->child = NONE;
  if (!load_relaxed(&c->dead)) {
    if (c->life_fd < 0) c->life_fd = hold_life(c, c->sharer);
    (void)have_kicks(c);
    family_check(c, true);
  }
  bias_share();
  lock_acquire(&c->family->lock);
}

void family_admit(struct context* c) {
  if (!load_relaxed(&c->dead) && c->life_fd >= 0 && c->pulse_fd >= 0 && beat(c, true)) {
    c->child = admit_child(c);
  }
  if (c->child != NONE) store(&c->shared, true);
  bias_share(); /* another thread may have found the family alone before we had the lock */
  lock_release(&c->family->lock);
}

void family_in_parent(struct context* c) {
  if (!load_relaxed(&c->shared)) bias_unshare();
  if (c->child == NONE) return;
  close(c->child_fd); /* if there is no child, its place is free with this */
  if (load(&c->self->asleep) == 0) return;
  const uint64_t one = 1; /* who sleeps alone has to learn that others take events now */
  (void)!write(c->kick_fd, &one, sizeof one);
}

bool family_in_child(struct context* c) {
  if (c->life_fd >= 0) close(c->life_fd); /* the parent's */
  if (c->sleep_fd >= 0) close(c->sleep_fd);
  c->life_fd = c->sleep_fd = -1;
  if (c->child == NONE) return false;
  c->life_fd = c->child_fd;
  become(c, c->child, load(&c->family->sharers[c->child].life));
  return true;
}

/* ---- exec ---- */

void family_describe(const struct context* c, struct family_place* place) {
  *place = (struct family_place){.sharer = c->sharer,
                                 .family_fd = c->family_fd,
                                 .life_fd = c->life_fd,
                                 .pulse_fd = c->pulse_fd};
  for (int i = 0; i < KICK_FDS; ++i) place->kicks[i] = c->family_kick[i];
}

bool family_resume(struct context* c, const struct family_place* place) {
  struct stat file;
  c->family_fd = place->family_fd;
  c->life_fd = place->life_fd;
  c->pulse_fd = place->pulse_fd;
  c->sleep_fd = -1;
  for (int i = 0; i < KICK_FDS; ++i) c->family_kick[i] = place->kicks[i];
  c->family_size = family_bytes(c);
  if (fstat(c->family_fd, &file) != 0) return false;
  if ((size_t)file.st_size != c->family_size || place->sharer >= MAX_SHARERS) {
    errno = EPROTO;
    return false;
  }
  if (!map_family(c)) return false;
  const uint32_t life = new_life(c->family);
  become(c, place->sharer, life);
  store(&c->self->life, life); /* from here on the old one is over */
  for (uint32_t i = 0; i < load(&c->family->used); ++i) {
    if (i != c->sharer && load(&c->family->sharers[i].life) != 0) c->shared = true;
  }
  return true;
}

void family_settle(struct context* c) {
  lock_acquire(&c->family->lock);
  forget_threads(c, c->sharer);
  lock_release(&c->family->lock);
  family_check(c, true);
  connections_recover(c);
}

/* ---- changes ---- */

static uint64_t interest_bit(uint32_t sharer) { return UINT64_C(1) << sharer % WORD; }

void family_interested(struct context* c, uint32_t primary) {
  uint64_t* interest = &record_at(c, primary)->interest;
  const uint64_t bit = interest_bit(c->sharer);
  if ((load(interest) & bit) == 0) __atomic_fetch_or(interest, bit, __ATOMIC_SEQ_CST);
}

static void tell(struct context* c, uint32_t sharer, uint32_t primary) {
  struct sharer* s = &c->family->sharers[sharer];
  const uint32_t word = primary / WORD;
  __atomic_fetch_or(&map_of(c, sharer)[word], UINT64_C(1) << primary % WORD, __ATOMIC_SEQ_CST);
  __atomic_fetch_or(&summary_of(c, sharer)[word / WORD], UINT64_C(1) << word % WORD,
                    __ATOMIC_SEQ_CST);
  __atomic_store_n(&s->changed, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&s->asleep, __ATOMIC_SEQ_CST) == 0) return;
  if (__atomic_exchange_n(&s->kicked, 1, __ATOMIC_SEQ_CST) != 0) return;
  const uint64_t one = 1;
  (void)!write(c->family_kick[sharer % KICK_FDS], &one, sizeof one);
}

void family_changed(struct context* c, uint32_t primary) {
  const uint64_t interest = __atomic_load_n(&record_at(c, primary)->interest, __ATOMIC_SEQ_CST);
  const uint32_t used = load(&c->family->used);
  const uint64_t others = interest & ~interest_bit(c->sharer);
  if (others == 0 && used <= WORD && load(&c->family->polling) == 0) return;
  for (uint32_t i = 0; i < used; ++i) {
    const struct sharer* s = &c->family->sharers[i];
    if (i == c->sharer || load(&s->life) == 0) continue;
    if ((interest & interest_bit(i)) == 0 && load(&s->polling) == 0) continue;
    tell(c, i, primary);
  }
}

static void take_word(struct context* c, uint32_t word) {
  uint64_t bits = __atomic_exchange_n(&map_of(c, c->sharer)[word], 0, __ATOMIC_SEQ_CST);
  for (; bits != 0; bits &= bits - 1) {
    record_tell(c, word * WORD + (uint32_t)__builtin_ctzll(bits));
  }
}

void family_take_changes(struct context* c) {
  if (!load_relaxed(&c->shared) || load(&c->self->changed) == 0) return;
  __atomic_store_n(&c->self->changed, 0, __ATOMIC_SEQ_CST);
  uint64_t* summary = summary_of(c, c->sharer);
  for (uint32_t s = 0; s * WORD < map_words(c); ++s) {
    if (load(&summary[s]) == 0) continue;
    uint64_t words = __atomic_exchange_n(&summary[s], 0, __ATOMIC_SEQ_CST);
    for (; words != 0; words &= words - 1) {
      take_word(c, s * WORD + (uint32_t)__builtin_ctzll(words));
    }
  }
}

/* ---- sleep ---- */

void family_sleep_enter(struct context* c) {
  __atomic_store_n(&c->self->kicked, 0, __ATOMIC_SEQ_CST);
  fetch_add(&c->self->asleep, 1);
}

void family_sleep_leave(struct context* c) { fetch_sub(&c->self->asleep, 1); }

void family_sleeping(struct context* c, uint32_t channel, int change) {
  c->self->sleeping[channel] = (uint16_t)(c->self->sleeping[channel] + change);
}

void family_polling(struct context* c, int change) {
  if (change > 0) fetch_add(&c->family->polling, (uint32_t)change);
  fetch_add(&c->self->polling, (uint32_t)change);
  if (change < 0) fetch_add(&c->family->polling, (uint32_t)change);
}
