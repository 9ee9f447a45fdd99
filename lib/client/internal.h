/* The inside of libpostern.
 *
 * WHO WRITES WHAT. What several sharers of an attachment have to agree on lies in the client
 * segment's scratch regions and holds no pointer: struct app_shared (one), struct channel_shared
 * (one a channel), struct record (one a slot), the map of transmit memory. What one process needs
 * for itself lies in struct context: mappings, file descriptors, the descriptor table, queues.
 *
 * LOCKS, in the order in which they may be taken:
 *
 *   context.watch_lock after channel.event_lock; queue.lock after watch_lock
 *   record.rx_lock, record.tx_lock   never while waiting, never before event_lock
 *   record.accept_lock, channel.pool_lock, channel.slot_lock, channel.command_lock   innermost
 *
 * The drainer holds event_lock and takes tx_lock only by trying, but for a record that is being
 * released; whoever holds tx_lock repeats what the drainer could not do before it lets go for good.
 *
 * STATE OF A SOCKET is one word of flags and a few counters in its record. The drainer stores
 * counters first and flags last; a reader loads flags first: what it finds in flags holds for the
 * counters that it loads after.
 */
#ifndef POSTERN_CLIENT_INTERNAL_H
#define POSTERN_CLIENT_INTERNAL_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "abi/shmsock.h"
#include "client/bias.h"
#include "client/family.h"
#include "client/groups.h"
#include "client/postern.h"
#include "client/settings.h"

/* Built into the preload library, descriptors go where programs do not find them. */
#ifndef POSTERN_PRELOAD_OWN_H
static inline int own_move(int fd) { return fd; }
#endif

#define NONE UINT32_MAX
#define FOREVER INT64_MAX /* a deadline that never comes; deadlines are CLOCK_MONOTONIC ns */

#define ALWAYS_INLINE __attribute__((always_inline)) static inline

/* Atomics on plain words that several threads or processes share. */
#define load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)

/* Read-modify-write of the library's own words: atomic when others may be at them, and then ordered
 * as a full fence. Loads and stores beside them are always atomic. */
static inline uint32_t fetch_add(uint32_t* p, uint32_t v) {
  if (!alone()) return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
  const uint32_t old = load_relaxed(p);
  store(p, old + v);
  return old;
}
static inline uint32_t fetch_sub(uint32_t* p, uint32_t v) { return fetch_add(p, 0 - v); }
static inline uint32_t fetch_or(uint32_t* p, uint32_t v) {
  if (!alone()) return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);
  const uint32_t old = load_relaxed(p);
  store(p, old | v);
  return old;
}
static inline uint32_t fetch_and(uint32_t* p, uint32_t v) {
  if (!alone()) return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);
  const uint32_t old = load_relaxed(p);
  store(p, old & v);
  return old;
}
static inline uint32_t exchange(uint32_t* p, uint32_t v) {
  if (!alone()) return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
  const uint32_t old = load_relaxed(p);
  store(p, v);
  return old;
}
/* Stores v if *p == *expected; else *expected = *p and false. */
static inline bool exchange_if(uint32_t* p, uint32_t* expected, uint32_t v) {
  if (!alone()) {
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  }
  const uint32_t old = load_relaxed(p);
  if (old == *expected) return store(p, v), true;
  *expected = old;
  return false;
}
static inline void count(uint64_t* p) { /* for people to read: may miss some */
  store_relaxed(p, load_relaxed(p) + 1);
}

/* ---- futex.c ---- */

/* A mutex that works across processes: 0 free, else the life (family.h) of the process that holds
 * it, with LOCK_SLEEPERS if somebody sleeps for it. lock_acquire() returns true if the holder died:
 * what the lock guards may be half changed. */
struct lock {
  uint32_t word;
};
#define LOCK_SLEEPERS (UINT32_C(1) << 31)
extern uint32_t lock_self;
bool lock_acquire_contended(struct lock* lock);

ALWAYS_INLINE bool lock_try(struct lock* lock) {
  uint32_t free = 0;
  if (!alone()) {
    return __atomic_compare_exchange_n(&lock->word, &free, lock_self, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
  }
  if (load_relaxed(&lock->word) != 0) return false;
  store_relaxed(&lock->word, lock_self);
  return true;
}
ALWAYS_INLINE bool lock_acquire(struct lock* lock) {
  return !lock_try(lock) && lock_acquire_contended(lock);
}
void futex_wake(uint32_t* word, int count);
ALWAYS_INLINE void lock_release(struct lock* lock) {
  if ((exchange(&lock->word, 0) & LOCK_SLEEPERS) != 0) futex_wake(&lock->word, 1);
}

/* In a public call, of what other processes do not share: nothing to lock while no other thread can
 * come in before the call ends or sleeps. Returns what local_release() is to be told. */
ALWAYS_INLINE bool local_acquire(struct lock* lock) {
  if (alone_here()) return false;
  (void)lock_acquire(lock);
  return true;
}
ALWAYS_INLINE void local_release(struct lock* lock, bool locked) {
  if (locked) lock_release(lock);
}

/* Sleeps while *word == seen and *other == other_seen. 0: look again; ETIMEDOUT; EINTR. */
int futex_wait_either(uint32_t* word, uint32_t seen, uint32_t* other, uint32_t other_seen,
                      int64_t deadline);
int64_t now_ns(void);
void cpu_relax(void);

/* ---- shared state ---- */

enum record_flag {
  R_STREAM = 1 << 0,
  R_V6 = 1 << 1,
  R_V6ONLY = 1 << 2,
  R_NONBLOCK = 1 << 3,
  R_OPEN = 1 << 4,  /* the daemon knows the slot */
  R_BOUND = 1 << 5, /* local address chosen by bind or for it */
  R_LISTENING = 1 << 6,
  R_CONNECTING = 1 << 7, /* CONNECT sent, no answer yet */
  R_CONNECTED = 1 << 8,  /* stream: established once; datagram: has a peer */
  R_EOF = 1 << 9,        /* nothing comes after rx_tail */
  R_FAILED = 1 << 10,    /* stream: the connection is over */
  R_SHUT_RD = 1 << 11,
  R_SHUT_WR = 1 << 12,
  R_CLOSING = 1 << 13, /* CLOSE sent; the slot waits for RELEASED */
  R_REUSEADDR = 1 << 14,
  R_REUSEPORT = 1 << 15,
  R_NODELAY = 1 << 16,
  R_CORK = 1 << 17,
  R_KEEPALIVE = 1 << 18,
  R_LINGER = 1 << 19,
  R_SIBLING = 1 << 20, /* belongs to the socket `primary` on another channel */
  R_QUEUED = 1 << 21,  /* in a listener's accept queue */
  R_REOPEN = 1 << 22,  /* with R_CLOSING: on RELEASED the slot stays with its descriptor */
  R_ASYNC = 1 << 23,   /* connect returned before its outcome; the next one tells it */
  R_BROADCAST = 1 << 24,
  R_NO_GROUP_LOOP = 1 << 25,   /* IP_MULTICAST_LOOP is off */
  R_NO_GROUP_OTHERS = 1 << 26, /* IP_MULTICAST_ALL is off */
  R_URGENT = 1 << 27,          /* `urgent` is the place of an urgent byte not yet passed */
  R_URGENT_READ = 1 << 28,     /* which MSG_OOB has read */
  R_OOBINLINE = 1 << 29
};
/* What accepted sockets inherit. */
#define R_INHERITED (R_V6 | R_NODELAY | R_CORK | R_KEEPALIVE | R_LINGER | R_OOBINLINE)

enum tell { /* of a datagram */
            TELL_PKTINFO = 1 << 0,
            TELL_TOS = 1 << 1,
            TELL_TTL = 1 << 2,
            TELL_DESTINATION = 1 << 3, /* IP_RECVORIGDSTADDR */
            TELL_PKTINFO6 = 1 << 4,
            TELL_TCLASS = 1 << 5,
            TELL_HOPLIMIT = 1 << 6,
            TELL_ERRORS = 1 << 7, /* IP_RECVERR; also of a stream */
            TELL_ERRORS6 = 1 << 8,
            TELL_HOPLIMIT_OLD = 1 << 9 /* IPV6_2292HOPLIMIT */
};

struct options { /* values set by setsockopt and not 0 are sent when the slot opens */
  union {
    uint32_t user_timeout;  /* of a stream: ms */
    uint32_t group_address; /* of datagrams: IP_MULTICAST_IF, as it was given */
  };
  uint32_t rcvbuf; /* bytes; 0: the daemon's default */
  union {
    uint16_t keepidle;        /* of a stream: s */
    uint16_t group_interface; /* of datagrams: index plus 1 */
  };
  uint16_t keepintvl; /* s */
  uint16_t linger;    /* s */
  uint16_t maxseg;    /* bytes */
  union {
    uint8_t keepcnt;   /* of a stream */
    uint8_t group_ttl; /* of datagrams, with the lowest bit inverted: 0 is the default of 1 */
  };
  uint8_t tos;
  uint8_t ttl;
  union {
    uint8_t defer_accept; /* of a stream: s */
    uint8_t mtu_discover; /* of datagrams: IP_PMTUDISC_*, plus 1 */
  };
};

struct record {
  /* Line 0: the socket as the drainer keeps it. */
  uint32_t life;       /* odd: belongs to a descriptor of this value; even: to none */
  uint32_t generation; /* of the slot; kept when the slot is free */
  uint32_t flags;      /* enum record_flag */
  uint32_t seq;        /* futex: changes with every change of the record */
  uint32_t waiters;    /* threads that sleep on seq */
  uint32_t rx_tail;    /* stream position up to which bytes have arrived */
  uint32_t tx_acked;   /* stream position up to which transmit memory is ours again */
  uint32_t chain;      /* first unit of a receive chain not yet looked at; 0 none */
  uint32_t error;      /* pending SO_ERROR */
  uint32_t primary;    /* index of the record that stands for the socket */
  uint32_t sibling;    /* index of the next record of the same socket; NONE */
  uint32_t next;       /* link in the accept queue or the free list */
  struct lock accept_lock;
  union {
    uint32_t accept_head; /* of a listener: first and last of its accept queue; NONE */
    uint32_t errors_head; /* of a datagram socket: what of the ring of errors it has not seen */
  };
  union {
    uint32_t accept_tail;
    uint32_t errors_tail;
  };
  uint32_t accept_count;

  /* Line 1: receive side, under rx_lock of the primary. */
  struct lock rx_lock;
  uint32_t rx_head; /* consumed up to here; atomic: whoever sends a command reports it */
  uint64_t place;   /* where the next byte is: chunk, 0 before the first chain; and, in the upper
                       half, bytes of its payload already consumed */
  uint32_t rx_reported; /* last rx_head sent; under command_lock */
  uint32_t dirty;       /* in the list of records with something to report */
  uint32_t next_dirty;
  uint32_t turn;       /* primary: index of the sibling to look at first */
  uint32_t binding;    /* the daemon's name of our reservation; 0 none */
  uint32_t refs;       /* descriptors of all sharers */
  int64_t rcv_timeout; /* ns, 0 none */
  int64_t snd_timeout; /* ns, 0 none */
  uint64_t interest;   /* primary: bit i: sharers i, i + 64 ... want to hear of changes */

  /* Line 2: transmit side, under tx_lock. */
  struct lock tx_lock;
  uint32_t tx_tail;    /* stream position after the last byte sent */
  uint32_t tx_first;   /* oldest chunk (unit index) that holds unacknowledged bytes; NONE */
  uint32_t tx_last;    /* chunk that the next byte goes to */
  uint32_t tx_extents; /* stream: chunks in the list that do not continue their predecessor */
  uint32_t sndbuf;     /* bytes */
  uint32_t starved;    /* in the list of records that wait for transmit memory */
  uint32_t next_starved;
  uint32_t dgrams; /* datagrams outstanding */
  union {
    uint32_t dgram_unit;  /* oldest outstanding datagram: chunk and offset in it, stream position */
    uint32_t pacing_rate; /* of a stream: SO_MAX_PACING_RATE, bytes a second; 0 none */
  };
  union {
    uint32_t dgram_offset;
    uint32_t urgent; /* of a stream, the drainer's: position of the urgent byte, with R_URGENT */
  };
  uint32_t dgram_position;
  uint32_t tx_reaped; /* tx_acked when memory was last freed */
  uint32_t torn;      /* stream: bytes are counted that are not yet sent */
  uint32_t taker;     /* R_QUEUED: life of the process that took it from the accept queue; 0 */
  uint32_t reserved;  /* stream: room in the last chunk is lent to the application */

  /* Line 3: names and options. Addresses of both families are 16 bytes, IPv4 mapped. */
  uint8_t local_address[16];
  uint8_t remote_address[16];
  uint16_t local_port; /* host order */
  uint16_t remote_port;
  struct options options;
  uint32_t ancillary; /* enum tell: what recvmsg() tells beside the payload */
  uint8_t congestion; /* index of the algorithm, plus 1; 0: the daemon's default */
  uint8_t reserved3;
  uint16_t zone; /* that was said with remote_address: shm_request.zone */
};
_Static_assert(sizeof(struct record) == 256, "a record is four cache lines");
_Static_assert(offsetof(struct record, rx_lock) == 64, "receive side has its own line");
_Static_assert(offsetof(struct record, tx_lock) == 128, "transmit side has its own line");

struct app_shared {                      /* at the start of channel 0's scratch region */
  SHM_ALIGNED(64) uint32_t dirty_head;   /* index + 1; records with consumption to report */
  SHM_ALIGNED(64) uint32_t starved_head; /* index + 1; records that wait for transmit memory */
  uint32_t next_channel;
  struct lock session_lock;
};

struct channel_shared {
  SHM_ALIGNED(64) struct lock command_lock;
  uint32_t command_tail; /* next entry to write */
  uint32_t command_head; /* last head seen from the daemon */
  uint32_t rung;         /* value of the daemon's armed word when it was last rung */
  SHM_ALIGNED(64) struct lock event_lock;
  uint32_t event_index; /* next entry to take */
  uint32_t armed;       /* our armed word */
  uint32_t sleepers;    /* threads and event loops that sleep on the doorbell */
  SHM_ALIGNED(64) struct lock pool_lock;
  uint32_t pool_ready; /* the block lists below are set up */
  uint32_t partial;    /* first block with free and used units; NONE */
  uint32_t whole;      /* first block with free units only; NONE */
  uint32_t units_used;
  SHM_ALIGNED(64) struct lock slot_lock;
  uint32_t slot_free;     /* first free slot, linked by record.next; NONE */
  uint32_t slot_high;     /* slots from here on have never been used */
  uint32_t closing;       /* slots that wait for RELEASED */
  uint32_t accepted_high; /* slots from here on were never opened by the daemon */
  struct lock info_lock;  /* whoever asks for figures: one at a time */
};

struct tx_unit { /* of a chunk's first unit */
  uint32_t next; /* next chunk of the same socket; NONE */
  uint32_t end;  /* stream position after the chunk's last byte */
  uint32_t used; /* bytes filled */
  uint16_t units;
  uint16_t starts_extent; /* its first byte does not follow its predecessor's last in memory */
};
struct tx_block {     /* 64 KiB of transmit memory */
  uint32_t free_mask; /* bit i: unit i is free */
  uint32_t prev;
  uint32_t next;
  uint32_t reserved;
};
_Static_assert(sizeof(struct tx_unit) == 16 && sizeof(struct tx_block) == 16, "scratch layout");

enum {
  UNITS_PER_BLOCK = SHM_CHUNK_LARGE_UNITS,
  SCRATCH_CHANNEL = 4096, /* offsets in a scratch region */
  SCRATCH_RECORDS = 16384
};
_Static_assert(sizeof(struct app_shared) <= SCRATCH_CHANNEL, "scratch layout");
_Static_assert(SCRATCH_CHANNEL + sizeof(struct channel_shared) <= SCRATCH_RECORDS, "");

/* ---- one process's view ---- */

struct channel {
  struct shm_command* commands;
  const struct shm_event* events;
  const struct shm_channel_daemon* theirs;
  struct shm_channel_client* ours;
  struct channel_shared* shared;
  struct record* records;
  uint32_t command_mask;
  uint32_t event_mask;
  const uint8_t* rx_pool;
  uint8_t* tx_pool;
  struct tx_unit* units;
  struct tx_block* blocks;
  struct shm_request* requests;
  const struct shm_socket* sockets;
  const struct shm_figures* figures; /* NULL: the daemon is older than they are */
  const struct shm_error* errors;    /* NULL: the daemon is older than they are */
  uint32_t rx_units;
  uint32_t tx_blocks;
  uint32_t tx_low; /* with more units in use than that little is left */
  uint32_t index;
  int ring_fd; /* wakes the worker */
  int wake_fd; /* wakes us */
};

struct watch;

struct process {   /* the threads of this process that wait */
  uint32_t leader; /* 1: a thread sleeps for all */
  uint32_t leader_asleep;
  uint32_t leader_waits; /* index of the record that the leader waits for, WAITS_FOR_* */
  uint32_t leader_seq;   /* futex: changes when the lead is free and somebody follows */
  uint32_t followers;
  uint32_t event_seq;      /* futex: changes with any record while pollers != 0 */
  uint32_t pollers;        /* threads in postern_poll() */
  uint32_t event_sleepers; /* of them, asleep on event_seq */
};

struct context {
  struct app_shared* app;
  uint32_t channel_count;
  uint32_t slots; /* per channel */
  uint32_t slot_shift;
  uint32_t client_slots;
  uint32_t dead;          /* the daemon is gone */
  bool needs_fence;       /* after a command: the worker makes none for us */
  uint32_t spin_max;      /* ns */
  uint32_t spin_now;      /* ns: what spinning is worth at present */
  uint32_t empty_looks;   /* drains that found nothing */
  int64_t session_looked; /* when the session was last looked at */
  int session_fd;
  int daemon_fd; /* the segments' files */
  int client_fd;
  int kick_fd; /* eventfd that ends the leader's sleep */
  const struct shm_header* daemon_header;
  const struct shm_settings* settings; /* NULL: the daemon is older than they are */
  uint32_t report_at; /* bytes consumed and not reported that are worth a command */
  void* daemon_map;
  size_t daemon_size;
  void* client_map;
  size_t client_size;
  struct watch** watches; /* by record index: who wants to hear of it; under watch_lock */
  struct lock watch_lock;
  struct postern_queue* queues; /* under watch_lock */
  uint64_t sleeps;
  uint64_t doorbells;
  struct process own;
  bool shared;     /* with other processes */
  uint32_t sharer; /* this process's place in the family */
  struct sharer* self;
  struct family* family;
  size_t family_size;
  int family_fd;
  int life_fd;  /* holds our byte; -1 before the first fork */
  int sleep_fd; /* epoll set of the leader while shared; -1 until needed */
  int pulse_fd; /* timerfd, as these eventfds not read: who waits in epoll looks after the others */
  int family_kick[KICK_FDS]; /* eventfds that nobody reads; -1 before the first fork */
  uint32_t child;            /* place of the child that is being forked; NONE */
  int child_fd;
  struct channel channels[SHM_MAX_CHANNELS];
};

/* NULL when not attached. */
extern struct context* context_current;
static inline struct context* context_get(void) { return load(&context_current); }

static inline struct channel* channel_of(struct context* c, uint32_t index) {
  return &c->channels[index >> c->slot_shift];
}
static inline uint32_t slot_of(const struct context* c, uint32_t index) {
  return index & (c->slots - 1);
}
static inline struct record* record_at(struct context* c, uint32_t index) {
  return &channel_of(c, index)->records[slot_of(c, index)];
}
static inline uint32_t index_of(const struct context* c, const struct channel* ch, uint32_t slot) {
  return (ch->index << c->slot_shift) | slot;
}

/* A socket as one call uses it, or one slot of it. */
struct sock {
  struct context* context;
  struct channel* channel;
  struct record* record; /* the primary */
  uint32_t index;
  uint32_t life; /* of a slot: 0 */
};
static inline struct sock slot_at(struct context* c, uint32_t index) {
  struct channel* ch = channel_of(c, index);
  return (struct sock){
      .context = c, .channel = ch, .record = &ch->records[slot_of(c, index)], .index = index};
}
/* The daemon knows what that minor version of shmsock.h has added. */
static inline bool daemon_knows(const struct context* c, uint16_t minor) {
  return c->daemon_header->version_minor >= minor;
}
/* Still the socket that was looked up, not closed meanwhile. */
static inline bool sock_alive(const struct sock* s) { return load(&s->record->life) == s->life; }

static inline int fail(int error) {
  errno = error;
  return -1;
}

/* ---- descriptor.c ---- */
enum {
  DESCRIPTORS = 1 << 23 /* of a process */
};
extern uint64_t* descriptor_table; /* life << 32 | index; 0 free. NULL: not attached */

static inline uint64_t descriptor_entry(int fd) {
  uint64_t* entries = load(&descriptor_table);
  return (uint32_t)fd >= DESCRIPTORS || entries == NULL ? 0 : load(&entries[fd]);
}
/* False: no such socket. Works after the daemon's death. */
static inline bool sock_find(int fd, struct sock* s) {
  const uint64_t entry = descriptor_entry(fd);
  struct context* c = context_get();
  if (entry == 0 || c == NULL) return false;
  *s = slot_at(c, (uint32_t)entry);
  s->life = (uint32_t)(entry >> 32);
  return true;
}
/* The same; 0 or -1 with EBADF. */
int sock_lookup(int fd, struct sock* s);
/* As sock_lookup, but ECONNABORTED when the daemon is gone. */
int sock_lookup_live(int fd, struct sock* s);
int descriptor_create(uint32_t index, uint32_t life); /* -1, EMFILE */
/* Removes fd if it still names the socket. False: somebody else was faster. */
bool descriptor_remove(int fd, const struct sock* s);
uint32_t descriptor_count(void);
/* Calls f with the record index of every descriptor that is open throughout. */
void descriptor_for_each(struct context* c, void (*f)(struct context* c, uint32_t index));
/* The lowest open descriptor from fd on; -1. */
int descriptor_next(int fd);
/* The table lies in the memory of the family, `high` beside it. */
void descriptor_use(uint64_t* table, uint32_t* high);
void descriptor_reset(void);
/* Finds out which numbers of the table are in use. */
void descriptor_resume(void);
/* Around a fork. */
void descriptor_lock(void);
void descriptor_unlock(void);

/* ---- ring.c ---- */
struct command {
  uint8_t op;
  uint8_t flags;
  uint16_t arg;
  uint32_t length;
  uint64_t offset;
};
/* Sends a command for a slot, with what it has consumed. Waits (microseconds) while the ring is
 * full. Does nothing once the daemon is gone. */
void command_send(const struct sock* slot, const struct command* command);
static inline void command_push(struct context* c, uint32_t index, const struct command* command) {
  const struct sock slot = slot_at(c, index);
  command_send(&slot, command);
}
/* CLOSE, abortive, once more for a process that died before it was sure to have sent it. */
void command_close_again(struct context* c, uint32_t index, uint32_t generation);
/* Takes the events that are there. Returns how many. */
unsigned drain(struct context* c, struct channel* ch);
unsigned drain_all(struct context* c);
/* Enters and leaves the state in which the doorbell is rung for this channel. Both drain. */
void sleep_enter(struct context* c, struct channel* ch);
void sleep_leave(struct context* c, struct channel* ch);
/* Tells everybody who waits for the record (an index of any of its socket's records). */
void record_changed(struct context* c, uint32_t index);
/* Of them, those of this process that do not sleep on the record's futex. */
void record_tell(struct context* c, uint32_t primary);
/* `sleepers` fewer on the channel: those of a process that is gone. */
void sleep_forget(struct context* c, struct channel* ch, uint32_t sleepers);
/* Rings the worker if it sleeps, also if it was rung already. */
void ring_again(struct context* c, struct channel* ch);
/* Reports consumption of all records in the list. Before every sleep. */
void report_consumed(struct context* c);
enum { REPORT_MOST = 16384 };
/* Bytes consumed and not reported that are worth a command, with so large a receive buffer. */
static inline uint32_t report_at(uint32_t buffer) {
  return buffer < 4 || buffer / 4 > REPORT_MOST ? REPORT_MOST : buffer / 4;
}
/* Puts the record into that list, or reports at once if there is much. */
void consumed(const struct sock* slot);
/* Reports now what is not reported yet. */
void report(struct context* c, uint32_t index);
/* Notices that the daemon is gone, if it is. */
bool check_daemon(struct context* c, bool look_at_session);
void declare_dead(struct context* c);

/* ---- slots.c ---- */
/* A client slot of a channel, its record set up anew and alive; NONE if there is none. */
uint32_t slot_allocate(struct context* c, struct channel* ch, uint32_t flags);
void slot_free(struct context* c, uint32_t index);
/* Makes a record whose connection failed ready for another one, in the same slot. */
void record_reopen(struct context* c, uint32_t index);
/* Sets up the record of a slot that the daemon opened. */
void record_init(struct context* c, uint32_t index, uint32_t generation, uint32_t flags);

/* ---- pool.c: transmit memory of a channel ---- */
void pool_init(struct channel* ch);
/* A chunk of `units` (1..32) units, the one at unit `near` if free; NONE. */
uint32_t pool_allocate(struct channel* ch, uint32_t units, uint32_t near);
/* Two adjacent blocks; NONE. */
uint32_t pool_allocate_double(struct channel* ch);
void pool_free(struct context* c, struct channel* ch, uint32_t unit);
/* Less than 1/8 is left. */
static inline bool pool_low(const struct channel* ch) {
  return load_relaxed(&ch->shared->units_used) > ch->tx_low;
}

/* ---- wait.c ---- */
enum { WAITS_FOR_ANY = -1, WAITS_FOR_QUEUE = -2 }; /* instead of a record's index */
struct wait {
  uint32_t* word;     /* changes when the waiting may be over */
  uint32_t* sleepers; /* counts those asleep on it: who changes it wakes them if there are any */
  uint32_t what;      /* index of a record, WAITS_FOR_* */
};
/* Waits until *word != seen, the daemon is gone, or the deadline. 0, ETIMEDOUT or EINTR. Drains
 * events meanwhile, for all threads. No record lock may be held. */
int wait_change(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline);
/* The same for a record's seq. */
int wait_record(struct context* c, uint32_t index, uint32_t seen, int64_t deadline);
/* Wakes the leader if it sleeps and waits for that. */
void kick_asleep(struct context* c, uint32_t what);
static inline void kick_leader(struct context* c, uint32_t what) {
  if (__atomic_load_n(&c->own.leader_asleep, __ATOMIC_SEQ_CST) != 0) kick_asleep(c, what);
}
/* EINTR for a call that has no time limit: true if the kernel would have restarted it. */
bool interruption_restarts(void);
int64_t deadline_after_ms(int timeout_ms);
int64_t deadline_after(int64_t timeout_ns); /* 0: FOREVER */

/* ---- session.c ---- */
/* What an attachment is made of: descriptors, which the context keeps, and sizes. */
struct attachment {
  uint64_t daemon_size;
  uint64_t client_size;
  uint32_t channel_count;
  int32_t session_fd;
  int32_t daemon_fd;
  int32_t client_fd;
  int32_t doorbells[2 * SHM_MAX_CHANNELS]; /* a channel's: wakes the worker, wakes us */
};
void session_describe(const struct context* c, struct attachment* attachment);
/* Goes on with an attachment that the program that was here before has left. 0, or -1 and errno. */
int session_resume(const struct attachment* attachment, const struct family_place* place);
/* One request and its reply; 0 or an errno. Sets the thread's message. */
int session_call(struct context* c, const struct shm_bind_request* request,
                 struct shm_bind_reply* reply);
void message_set(const char* text);

/* ---- locks of a record that may have been a dead process's ---- */
void rx_recover(struct context* c, uint32_t index);
void tx_recover(struct context* c, uint32_t index);
void accept_recover(struct context* c, uint32_t listener);
ALWAYS_INLINE void rx_acquire(const struct sock* s) {
  if (lock_acquire(&s->record->rx_lock)) rx_recover(s->context, s->index);
}
ALWAYS_INLINE void tx_acquire(const struct sock* s) {
  if (lock_acquire(&s->record->tx_lock)) tx_recover(s->context, s->index);
}
static inline void accept_acquire(struct context* c, uint32_t listener) {
  if (lock_acquire(&record_at(c, listener)->accept_lock)) accept_recover(c, listener);
}

/* ---- urgent.c ---- */
/* The daemon knows of urgent data up to stream position `mark`. rx_tail is still what it was. */
void urgent_arrived(struct context* c, uint32_t index, uint32_t mark);
/* Of `there` bytes at rx_head: those that one receive may take. Under rx_lock. */
struct urgent_limit {
  uint32_t there;
  bool skip; /* first, one byte is left out: it is urgent and not read in line */
  bool stop; /* the urgent byte comes after `there` */
};
struct urgent_limit urgent_limit(const struct record* r, uint32_t there, bool begun);
/* Forgets an urgent byte that rx_head has passed. Under rx_lock. */
void urgent_passed(struct record* r);
/* MSG_OOB has read the urgent byte at position `at`. Under rx_lock. */
void urgent_fetched(struct record* r, uint32_t at);
/* The next byte is the urgent one (SIOCATMARK). */
bool urgent_next(const struct record* r);
/* There is an urgent byte that nobody has read (POLLPRI). */
bool urgent_unread(const struct record* r);
/* Bytes up to the urgent one (FIONREAD). */
uint32_t stream_unread(const struct record* r);
/* A receive would return some (POLLIN). */
bool stream_readable(const struct record* r);

/* ---- receive.c ---- */
/* Leaves out the byte at rx_head, which is there. Under rx_lock. */
void receive_skip(const struct channel* ch, struct record* r);

/* ---- tcp_info.c ---- */
/* TCP_INFO. 0 or an errno. */
int tcp_info_get(const struct sock* s, uint32_t flags, void* value, socklen_t* length);

/* ---- transmit.c ---- */
/* Frees everything: the daemon is done with it. Under tx_lock. */
void tx_drop(const struct sock* slot);
/* Frees what tx_acked has passed if nobody holds tx_lock; whoever does, frees it when it lets go
 * (tx_unlock). */
void tx_try_reap(const struct sock* slot);
void tx_unlock(const struct sock* slot);
/* Is POLLOUT on? */
bool tx_writable(const struct sock* s);

/* ---- sockets.c ---- */
/* Binds to an ephemeral port what has to be bound. 0 or -1. */
int ensure_bound(struct sock* s);
/* Sends every option that is not the default. After a slot opened. */
void options_send(struct context* c, uint32_t index);
/* Sends one option to all slots of a socket, if they are open. */
void option_send(const struct sock* s, uint16_t option, uint32_t value);
int close_descriptor(int fd, bool wait);
/* What a descriptor held, given as it stood in the table. */
void reference_drop(struct context* c, uint64_t entry);
/* The same when a process died while it closed the descriptor: what was left to do. */
void reference_finish(struct context* c, uint64_t entry);
/* Closes connections that a process took from an accept queue and died before it had them. */
void connections_recover(struct context* c);

/* ---- queue.c ---- */
/* `news`: of POLL*, what may have come true; POLLERR and POLLHUP: all that is asked for. */
void watches_notify(struct context* c, uint32_t primary, uint32_t news);
void watches_notify_all(struct context* c);
void watches_drop(struct context* c, uint32_t primary);
void watches_drop_descriptor(struct context* c, uint32_t primary, int fd);
void queues_invalidate(struct context* c);
/* Around a fork: locks them all; lets their descriptors hear of other sharers; makes those of the
 * child its own, under the same numbers. */
void queues_lock(struct context* c);
void queues_unlock(struct context* c);
void queues_in_child(struct context* c);
/* What is true of `wanted`. */
uint32_t poll_mask(struct context* c, uint32_t primary, uint32_t wanted);

/* ---- iov.c ---- */
struct iter { /* where the next byte of a scattered buffer is */
  const struct iovec* vec;
  size_t count;
  size_t offset;
};
/* Copies n bytes out of or into the buffer and moves on; n <= what is left. */
void iter_read_pieces(struct iter* it, void* to, size_t n);
void iter_write(struct iter* it, const void* from, size_t n);
static inline void iter_read(struct iter* it, void* to, size_t n) {
  if (it->count != 1 || n == 0) {
    iter_read_pieces(it, to, n);
    return;
  }
  memcpy(to, (const char*)it->vec->iov_base + it->offset, n);
  it->offset += n;
}

/* What a datagram of so many bytes takes in a stream, of either direction. */
static inline uint32_t record_bytes(uint32_t payload) {
  return ((uint32_t)sizeof(struct shm_datagram) + payload + 7) & ~UINT32_C(7);
}

/* Sum of the lengths; -1 with EINVAL or EMSGSIZE. */
ssize_t iov_total(const struct iovec* vec, size_t count);

/* ---- ancillary.c ---- */
/* The options that say what recvmsg() tells. 0, or ENOPROTOOPT: not one of them. */
int ancillary_set(struct record* r, int level, int option, int on);
int ancillary_get(const struct record* r, int level, int option, int* on);
/* Control messages about a datagram, as the socket wants them. True: there was no room for all. */
bool ancillary_write(const struct record* r, const struct shm_datagram* d, struct msghdr* m);
/* The same for one of the error queue: the error itself comes last. */
bool ancillary_write_error(const struct record* r, const struct shm_error* e, struct msghdr* m);
/* What control messages say of a datagram to send; of a stream (NULL) it is nothing. 0 or an errno.
 */
int ancillary_read(const struct msghdr* m, struct shm_datagram* d);
/* ---- errors.c: the error queue of datagram sockets ---- */
/* IP_RECVERR, IPV6_RECVERR. 0, or ENOPROTOOPT: not one of them, or the daemon does not know them.
 */
int errors_option_set(const struct sock* s, int level, int option, int on);
int errors_option_get(const struct record* r, int level, int option, int* on);
/* As SHM_OPT_RECVERR has it. */
uint32_t errors_wanted(const struct record* r);
/* Is there one on any slot of the socket? */
bool errors_there(struct context* c, uint32_t primary);
/* recvmsg() with MSG_ERRQUEUE. Never waits. */
ssize_t errors_receive(struct sock* s, struct msghdr* m, int flags);
/* ---- groups.c ---- */
/* Options of groups and broadcasts: 0, an errno, or ENOPROTOOPT if it is none of them. */
int group_option_set(const struct sock* s, int level, int option, const void* value,
                     socklen_t length);
int group_option_get(const struct sock* s, int level, int option, int* v);
/* Of datagrams: what is not as the daemon has it by itself. */
void group_options_send(struct context* c, uint32_t index);
/* The socket may not send there: EACCES. */
bool group_forbids(const struct record* r, const uint8_t address[16]);

/* ---- address.c ---- */
/* 0 or an errno. `v6`: the socket's family. */
int address_read(const struct sockaddr* from, socklen_t length, bool v6, uint8_t address[16],
                 uint16_t* port);
/* `zone`: of a link-local address (RFC 4007), 0 if it is not known. */
void address_write(struct sockaddr* to, socklen_t* length, bool v6, const uint8_t address[16],
                   uint16_t port, uint32_t zone);
/* The zone of an address that address_read() took; 0: none, or it needs none. */
uint16_t address_zone(const struct sockaddr* from);
bool address_is_any(const uint8_t address[16]);
bool address_is_v4(const uint8_t address[16]); /* mapped */

#endif
