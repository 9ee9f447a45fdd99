/* The two rings of a channel, as the client sees them. The proof that nobody sleeps through an
 * entry stands in lib/shm/channel.cc; our sides of it are command_push() with ring_worker(), and
 * sleep_enter(). */
#include <poll.h>
#include <unistd.h>

#include "client/internal.h"

enum {
  DRAIN_BATCH = 256,    /* events taken before event_head is published */
  AHEAD = 4,            /* entries of the command ring */
  LOOKS_PER_CLOCK = 64, /* drains that found nothing, between looks at the clock */
  LOOK_AT_SESSION_NS = 100000000
};

/* ---- commands ---- */

static inline void ring_worker(struct context* c, struct channel* ch) {
  if (c->needs_fence) {
    shm_fence();
  } else {
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the worker's membarrier does the rest */
  }
  const uint32_t armed = load_relaxed(&ch->theirs->armed);
  if ((armed & 1) == 0 || armed == load_relaxed(&ch->shared->rung)) return;
  store_relaxed(&ch->shared->rung, armed);
  const uint64_t one = 1;
  count(&c->doorbells);
  (void)!write(ch->ring_fd, &one, sizeof one);
}

static inline bool command_ring_full(const struct channel* ch) {
  struct channel_shared* shared = ch->shared;
  if (shared->command_tail - shared->command_head <= ch->command_mask) return false;
  shared->command_head = load(&ch->theirs->command_head);
  return shared->command_tail - shared->command_head > ch->command_mask;
}

/* The tail moves after the entry's seq: who died in between has sent the command. */
static void command_recover(struct channel* ch) {
  struct channel_shared* shared = ch->shared;
  const uint32_t i = shared->command_tail;
  if (load(&ch->commands[i & ch->command_mask].seq) == i + 1) {
    store_relaxed(&shared->command_tail, i + 1);
  }
}

static inline void command_acquire(struct channel* ch) {
  if (lock_acquire(&ch->shared->command_lock)) command_recover(ch);
}

/* Under command_lock; false: without it. */
__attribute__((noinline)) static bool command_wait(struct context* c, struct channel* ch) {
  for (unsigned tries = 0; command_ring_full(ch); ++tries) {
    lock_release(&ch->shared->command_lock);
    ring_worker(c, ch);
    if (check_daemon(c, tries % 1024 == 1023)) return false;
    if (tries < 64) {
      cpu_relax();
    } else {
      const struct timespec pause = {.tv_nsec = 20000};
      nanosleep(&pause, NULL);
    }
    command_acquire(ch);
  }
  return true;
}

/* Takes command_lock with room for one entry. False: the daemon is gone. */
static inline bool command_begin(struct context* c, struct channel* ch) {
  command_acquire(ch);
  return !command_ring_full(ch) || command_wait(c, ch);
}

static inline void command_end(struct context* c, struct channel* ch, const struct command* command,
                               uint32_t slot, uint32_t generation, uint32_t rx_head) {
  const uint32_t i = ch->shared->command_tail;
  struct shm_command* e = &ch->commands[i & ch->command_mask];
  /* The worker has read its line since: have it back before it is written. */
  __builtin_prefetch(&ch->commands[(i + AHEAD) & ch->command_mask], 1);
  e->op = command->op;
  e->flags = command->flags;
  e->arg = command->arg;
  e->slot = slot;
  e->generation = generation;
  e->rx_head = rx_head;
  e->length = command->length;
  e->offset = command->offset;
  store(&e->seq, i + 1);
  store(&ch->shared->command_tail, i + 1);
  lock_release(&ch->shared->command_lock);
  ring_worker(c, ch);
}

/* The daemon reads rx_head in these only. */
static inline bool reports_consumption(uint8_t op) {
  return op == SHM_OP_SEND || op == SHM_OP_SENDTO || op == SHM_OP_RECEIVED || op == SHM_OP_CLOSE;
}

void command_send(const struct sock* slot, const struct command* command) {
  struct context* c = slot->context;
  struct channel* ch = slot->channel;
  struct record* r = slot->record;
  if (!command_begin(c, ch)) return;
  if (command->op != SHM_OP_CLOSE && (load(&r->flags) & R_CLOSING) != 0) {
    lock_release(&ch->shared->command_lock); /* nothing follows a CLOSE */
    return;
  }
  /* Read under the lock: what is reported never goes backwards. */
  const uint32_t rx_head = load(&r->rx_head);
  if (reports_consumption(command->op)) store_relaxed(&r->rx_reported, rx_head);
  command_end(c, ch, command, slot_of(c, slot->index), load_relaxed(&r->generation), rx_head);
}

void command_close_again(struct context* c, uint32_t index, uint32_t generation) {
  struct channel* ch = channel_of(c, index);
  const struct command command = {.op = SHM_OP_CLOSE, .arg = 1};
  if (!command_begin(c, ch)) return;
  /* Of another life if the daemon has released this one; then it does not read further. */
  const uint32_t rx_head = load(&record_at(c, index)->rx_head);
  command_end(c, ch, &command, slot_of(c, index), generation, rx_head);
}

/* ---- reports of consumption ---- */

void report(struct context* c, uint32_t index) {
  struct record* r = record_at(c, index);
  const uint32_t flags = load(&r->flags);
  if ((flags & R_OPEN) == 0 || (flags & R_CLOSING) != 0) return;
  if (load_relaxed(&r->rx_head) == load_relaxed(&r->rx_reported)) return;
  command_push(c, index, &(struct command){.op = SHM_OP_RECEIVED});
}

void consumed(const struct sock* slot) {
  struct context* c = slot->context;
  struct record* r = slot->record;
  const uint32_t own = load_relaxed(&r->options.rcvbuf);
  const uint32_t at = own == 0 ? c->report_at : report_at(own);
  if (load_relaxed(&r->rx_head) - load_relaxed(&r->rx_reported) >= at) {
    report(c, slot->index);
    return;
  }
  if (load_relaxed(&r->dirty) != 0 || exchange(&r->dirty, 1) != 0) return;
  uint32_t head = load_relaxed(&c->app->dirty_head);
  do {
    store_relaxed(&r->next_dirty, head);
  } while (!exchange_if(&c->app->dirty_head, &head, slot->index + 1));
}

void report_consumed(struct context* c) {
  if (load_relaxed(&c->app->dirty_head) == 0) return;
  uint32_t head = exchange(&c->app->dirty_head, 0);
  while (head != 0) {
    struct record* r = record_at(c, head - 1);
    const uint32_t index = head - 1;
    head = load_relaxed(&r->next_dirty);
    exchange(&r->dirty, 0); /* before looking: later consumption puts it into the list again */
    report(c, index);
  }
}

/* ---- changes ---- */

/* What a change may have made true, of POLL*. */
enum {
  NEWS_IN = POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND,
  NEWS_OUT = POLLOUT | POLLWRNORM | POLLWRBAND,
  NEWS_ALL = 0xffff
};

static void poke_pollers(struct context* c) {
  fetch_add(&c->own.event_seq, 1);
  if (load(&c->own.event_sleepers) != 0) futex_wake(&c->own.event_seq, INT32_MAX);
  kick_leader(c, (uint32_t)WAITS_FOR_ANY);
}

static inline void tell(struct context* c, uint32_t primary, uint32_t news) {
  kick_leader(c, primary);
  if (load(&c->own.pollers) != 0) poke_pollers(c);
  if (__atomic_load_n(&c->watches[primary], __ATOMIC_SEQ_CST) != NULL) {
    watches_notify(c, primary, news);
  }
}

static inline void changed(struct context* c, struct record* r, uint32_t primary, uint32_t news) {
  fetch_add(&r->seq, 1);
  if (load(&r->waiters) != 0) futex_wake(&r->seq, INT32_MAX);
  tell(c, primary, news);
  if (load_relaxed(&c->shared)) family_changed(c, primary);
}

void record_tell(struct context* c, uint32_t primary) { tell(c, primary, NEWS_ALL); }

void record_changed(struct context* c, uint32_t index) {
  const uint32_t primary = load_relaxed(&record_at(c, index)->primary);
  changed(c, record_at(c, primary), primary, NEWS_ALL);
}

/* ---- events ---- */

/* The bytes will be read soon after the batch of events; they are in another core's cache. */
static void prefetch_payload(const struct channel* ch, uint32_t unit, uint32_t offset) {
  const uint8_t* at = ch->rx_pool + (size_t)unit * SHM_CHUNK_UNIT + offset;
  __builtin_prefetch(at);
  __builtin_prefetch(at + SHM_CACHE_LINE);
}

/* More than bytes and acknowledgements. */
__attribute__((noinline)) static void on_state(const struct sock* slot, const struct shm_event* e) {
  struct record* r = slot->record;
  const bool stream = (load_relaxed(&r->flags) & R_STREAM) != 0;
  /* Of a datagram socket's slots any may hear of it; the socket is its primary. */
  if (e->error != 0) {
    store(&record_at(slot->context, load_relaxed(&r->primary))->error, e->error);
  }
  if ((e->flags & SHM_EV_ERRQUEUE) != 0 && !stream) store(&r->errors_tail, e->value2);
  uint32_t set = 0;
  if ((e->flags & SHM_EV_CONNECTED) != 0) set |= R_CONNECTED;
  if ((e->flags & SHM_EV_EOF) != 0) set |= R_EOF;
  if ((e->flags & SHM_EV_ERROR) != 0 && stream) set |= R_FAILED;
  if (set != 0) fetch_or(&r->flags, set);
  if ((set & (R_CONNECTED | R_FAILED)) != 0) fetch_and(&r->flags, ~(uint32_t)R_CONNECTING);
}

/* `again`: perhaps half done by a process that died. */
static inline void on_update(struct context* c, struct channel* ch, const struct shm_event* e,
                             bool again) {
  struct record* r = &ch->records[e->slot];
  const struct sock slot = {
      .context = c, .channel = ch, .record = r, .index = index_of(c, ch, e->slot)};
  if (load_relaxed(&r->generation) != e->generation) return;
  if ((e->flags & SHM_EV_URGENT) != 0)
    urgent_arrived(c, slot.index, e->value2); /* before its bytes */
  uint32_t news = again ? NEWS_ALL : 0;
  if ((e->flags & SHM_EV_NEW_CHAIN) != 0) {
    prefetch_payload(ch, e->value, 0);
    store(&r->chain, e->value);
    news |= NEWS_IN;
  } else if (e->rx_tail != load_relaxed(&r->rx_tail)) {
    const uint64_t place = load_relaxed(&r->place);
    prefetch_payload(ch, (uint32_t)place,
                     (uint32_t)(place >> 32) + (uint32_t)sizeof(struct shm_chunk));
    news |= NEWS_IN;
  }
  store(&r->rx_tail, e->rx_tail);
  const bool acked = load_relaxed(&r->tx_acked) != e->tx_acked;
  if (acked) {
    store(&r->tx_acked, e->tx_acked);
    news |= NEWS_OUT;
  }
  if ((e->flags & ~SHM_EV_NEW_CHAIN) != 0 || e->error != 0) {
    on_state(&slot, e);
    news = NEWS_ALL;
  }
  if (acked || again) tx_try_reap(&slot);
  const uint32_t primary = load_relaxed(&r->primary);
  changed(c, primary == slot.index ? r : record_at(c, primary), primary, news);
}

/* Puts accept_tail and accept_count right; the links are. Under accept_lock. */
void accept_recover(struct context* c, uint32_t listener) {
  struct record* l = record_at(c, listener);
  uint32_t n = 0;
  l->accept_tail = NONE;
  for (uint32_t i = l->accept_head; i != NONE; i = load_relaxed(&record_at(c, i)->next)) {
    l->accept_tail = i;
    ++n;
  }
  store(&l->accept_count, n);
}

/* A process that died over an event leaves it to the next one, which may find it done already. */
static bool accepted_before(struct context* c, uint32_t listener, uint32_t index,
                            uint32_t generation) {
  const struct record* r = record_at(c, index);
  if (load(&r->generation) != generation || load(&r->flags) == 0) return false;
  if ((load(&r->flags) & R_QUEUED) == 0 || load(&r->taker) != 0) return true;
  accept_acquire(c, listener);
  uint32_t i = record_at(c, listener)->accept_head;
  while (i != NONE && i != index) i = load_relaxed(&record_at(c, i)->next);
  lock_release(&record_at(c, listener)->accept_lock);
  return i == index;
}

static void on_accept(struct context* c, struct channel* ch, const struct shm_event* e) {
  struct record* listener = &ch->records[e->slot];
  if (e->value >= c->slots) return;
  const uint32_t index = index_of(c, ch, e->value);
  if (accepted_before(c, index_of(c, ch, e->slot), index, e->value2)) return;
  if (e->value >= ch->shared->accepted_high) ch->shared->accepted_high = e->value + 1;
  record_init(c, index, e->value2, R_STREAM | R_OPEN | R_CONNECTED | R_QUEUED);
  accept_acquire(c, index_of(c, ch, e->slot));
  const bool open = load_relaxed(&listener->generation) == e->generation &&
                    (load(&listener->flags) & (R_LISTENING | R_CLOSING | R_SHUT_RD)) == R_LISTENING;
  if (open) {
    struct record* r = &ch->records[e->value];
    store_relaxed(&r->next, NONE);
    if (listener->accept_head == NONE) {
      listener->accept_head = index;
    } else {
      record_at(c, listener->accept_tail)->next = index;
    }
    listener->accept_tail = index;
    fetch_add(&listener->accept_count, 1);
  } else {
    fetch_or(&ch->records[e->value].flags, R_CLOSING);
  }
  lock_release(&listener->accept_lock);
  if (open) {
    record_changed(c, index_of(c, ch, e->slot));
  } else {
    command_push(c, index, &(struct command){.op = SHM_OP_CLOSE, .arg = 1});
  }
}

static void on_released(struct context* c, struct channel* ch, const struct shm_event* e) {
  struct record* r = &ch->records[e->slot];
  const uint32_t index = index_of(c, ch, e->slot);
  if (load_relaxed(&r->generation) != e->generation) return;
  if ((load(&r->flags) & R_CLOSING) == 0) return;
  const struct sock slot = slot_at(c, index);
  tx_acquire(&slot);
  tx_drop(&slot);
  tx_unlock(&slot);
  if ((load(&r->flags) & R_REOPEN) != 0) {
    record_reopen(c, index);
  } else {
    slot_free(c, index);
  }
}

static inline void dispatch(struct context* c, struct channel* ch, const struct shm_event* e,
                            bool again) {
  if (e->slot >= c->slots) return;
  switch (e->type) {
    case SHM_EVENT_UPDATE:
      on_update(c, ch, e, again);
      break;
    case SHM_EVENT_ACCEPT:
      on_accept(c, ch, e);
      break;
    case SHM_EVENT_RELEASED:
      on_released(c, ch, e);
      break;
    default: /* of a later minor version: nothing that we asked for */
      break;
  }
}

static inline bool event_there(const struct channel* ch) {
  const uint32_t i = load_relaxed(&ch->shared->event_index);
  return load(&ch->events[i & ch->event_mask].seq) == i + 1;
}

/* Takes event_lock. True: its holder died, and may have left an event half done. */
static inline bool event_acquire(struct channel* ch) {
  return lock_acquire(&ch->shared->event_lock);
}

static inline void take_event(struct context* c, struct channel* ch, bool again) {
  const uint32_t i = load_relaxed(&ch->shared->event_index);
  const struct shm_event e = ch->events[i & ch->event_mask];
  dispatch(c, ch, &e, again);
  store_relaxed(&ch->shared->event_index, i + 1); /* after: what is half done is done again */
}

__attribute__((noinline)) static void take_event_again(struct context* c, struct channel* ch) {
  take_event(c, ch, true);
}

/* `again`: what event_acquire() said. */
static unsigned drain_locked(struct context* c, struct channel* ch, bool again) {
  unsigned taken = 0;
  while (event_there(ch)) {
    if (again && taken == 0) {
      take_event_again(c, ch);
    } else {
      take_event(c, ch, false);
    }
    if (++taken % DRAIN_BATCH == 0) {
      store(&ch->ours->event_head, load_relaxed(&ch->shared->event_index));
    }
  }
  if (taken != 0) store(&ch->ours->event_head, load_relaxed(&ch->shared->event_index));
  return taken;
}

/* A daemon that was killed says nothing: whoever never sleeps has to look. */
static void found_nothing(struct context* c) {
  const uint32_t looks = load_relaxed(&c->empty_looks);
  store_relaxed(&c->empty_looks, looks + 1);
  if (looks % LOOKS_PER_CLOCK != 0) return;
  const int64_t now = now_ns();
  if (now - load_relaxed(&c->session_looked) < LOOK_AT_SESSION_NS) return;
  store_relaxed(&c->session_looked, now);
  check_daemon(c, true);
  family_check(c, false);
}

unsigned drain(struct context* c, struct channel* ch) {
  if (!event_there(ch)) {
    found_nothing(c);
    return 0;
  }
  const bool again = event_acquire(ch);
  const unsigned taken = drain_locked(c, ch, again);
  lock_release(&ch->shared->event_lock);
  return taken;
}

unsigned drain_all(struct context* c) {
  unsigned taken = 0;
  if (load_relaxed(&c->shared)) family_take_changes(c);
  for (uint32_t i = 0; i < c->channel_count; ++i) taken += drain(c, &c->channels[i]);
  return taken;
}

/* ---- sleep ---- */

/* The armed word gets an odd value that it never had, so that the daemon rings once more. */
static void arm(struct channel* ch) {
  const uint32_t armed = ch->shared->armed;
  ch->shared->armed = armed + ((armed & 1) == 0 ? 1 : 2);
  store_relaxed(&ch->ours->armed, ch->shared->armed);
  shm_fence();
}

static void disarm(struct channel* ch) {
  ch->shared->armed += 1;
  store_relaxed(&ch->ours->armed, ch->shared->armed);
}

void sleep_enter(struct context* c, struct channel* ch) {
  const bool again = event_acquire(ch);
  ch->shared->sleepers += 1;
  family_sleeping(c, ch->index, 1);
  arm(ch);
  drain_locked(c, ch, again);
  lock_release(&ch->shared->event_lock);
}

/* The bytes that we read may have been meant for other sleepers too: if there are, arm anew before
 * the ring is looked at, and what is dispatched here for them wakes them in its own way. */
void sleep_leave(struct context* c, struct channel* ch) {
  uint64_t bytes[64];
  const bool again = event_acquire(ch);
  while (read(ch->wake_fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes) continue;
  ch->shared->sleepers -= 1;
  family_sleeping(c, ch->index, -1);
  if (ch->shared->sleepers == 0) {
    disarm(ch);
  } else {
    arm(ch);
  }
  drain_locked(c, ch, again);
  lock_release(&ch->shared->event_lock);
}

void sleep_forget(struct context* c, struct channel* ch, uint32_t sleepers) {
  const bool again = event_acquire(ch);
  ch->shared->sleepers -= sleepers < ch->shared->sleepers ? sleepers : ch->shared->sleepers;
  if (ch->shared->sleepers == 0) disarm(ch);
  drain_locked(c, ch, again);
  lock_release(&ch->shared->event_lock);
}

void ring_again(struct context* c, struct channel* ch) {
  store_relaxed(&ch->shared->rung, 0);
  ring_worker(c, ch);
}

/* ---- the end ---- */

static bool session_over(const struct context* c) {
  struct pollfd p = {.fd = c->session_fd, .events = POLLRDHUP};
  return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool check_daemon(struct context* c, bool look_at_session) {
  if (load_relaxed(&c->dead)) return true;
  if (load(&c->daemon_header->state) == SHM_STATE_RUNNING &&
      !(look_at_session && session_over(c))) {
    return false;
  }
  declare_dead(c);
  return true;
}

static void wake_waiters(struct context* c, uint32_t index) {
  struct record* r = record_at(c, index);
  fetch_add(&r->seq, 1);
  if (load(&r->waiters) != 0) futex_wake(&r->seq, INT32_MAX);
}

void declare_dead(struct context* c) {
  if (exchange(&c->dead, 1) != 0) return;
  descriptor_for_each(c, wake_waiters);
  fetch_add(&c->own.event_seq, 1);
  futex_wake(&c->own.event_seq, INT32_MAX);
  fetch_add(&c->own.leader_seq, 1);
  futex_wake(&c->own.leader_seq, INT32_MAX);
  watches_notify_all(c);
  kick_leader(c, load_relaxed(&c->own.leader_waits));
}
