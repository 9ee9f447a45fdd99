/* The shared memory between posternd and one application. Plain C11, fixed-width integers, host
 * byte order, no pointers: offsets only. Included by C and C++.
 *
 * THE PICTURE
 *
 *   application process                                   posternd
 *   ===================                                   ========
 *   attach: connect to /run/postern/postern.sock (SOCK_SEQPACKET), send shm_attach_request;
 *   the kernel proves who is calling (SO_PEERCRED). The reply carries three or more descriptors:
 *
 *     daemon segment  a sealed memory file. The daemon writes, the client can map it read-only only
 *                     (F_SEAL_FUTURE_WRITE): events, socket states, receive payload.
 *     client segment  a sealed memory file. The client writes, the daemon trusts no word of it:
 *                     commands, connect requests, transmit payload, the client's own book-keeping.
 *     two doorbells a channel: one that wakes the worker, one that wakes the client. A doorbell is
 * a pipe, rung by writing 8 bytes, of which each side holds an open file description of its own:
 * file status flags belong to the description, and with an eventfd, which both sides would share, a
 * client could take O_NONBLOCK off and make the daemon block in its read or write. Both of the
 * client's ends are open for reading and writing, so that ringing a dead daemon raises no SIGPIPE
 *                     and the client's threads can ring one another.
 *
 *   One CHANNEL joins the application with one worker of the daemon. It has a command ring
 *   (client -> worker), an event ring (worker -> client), a table of SLOTS and a pool of receive
 *   chunks. A slot is a socket's place in a channel and belongs to that worker alone.
 *
 *        client segment                        daemon segment
 *        +------------------------+            +---------------------------+
 *        | command ring  ---------|--------->  |  (worker drains)          |
 *        |  (client drains) <-----|----------- | event ring                |
 *        | shm_request per slot   |            | shm_socket per slot       |
 *        | transmit payload       |            | receive chunks            |
 *        | scratch (client's own) |            |                           |
 *        +------------------------+            +---------------------------+
 *
 * RINGS. Entries are 32 bytes, a power of two of them, single producer, single consumer. The
 * producer fills entry i & mask and then stores its `seq` = i + 1 with release order; the consumer
 * holds its own index i, loads `seq` with acquire order and takes the entry if it equals i + 1.
 * (All words start at 0; i starts at 0 and runs freely modulo 2^32; 0 is skipped by nobody because
 * a ring is shorter than 2^31 and every entry is rewritten on each lap.) The consumer copies the
 * entry ONCE and looks at the copy only. It publishes its index in `head` of its own line for the
 * producer's flow control; the producer accepts a head only if tail - head <= capacity.
 *
 * SLEEP. Consumer: make its `armed` word odd (add 1); full fence; look at the ring once more;
 * sleep on the doorbell; on waking make `armed` even (add 1), empty the pipe. Producer: store
 * entries; full fence; load `armed`; if it is odd and differs from the value at which the producer
 * last rang, ring. A producer that finds the ring full rings in the same way, whatever the entries
 * were about. Each side's fence stands between its store and its load, so not
 * both can miss the other (Dekker): either the consumer sees the entry or the producer sees odd.
 * With SHM_FEATURE_WORKER_MEMBARRIER the worker makes the fence of the client as well, by
 * MEMBARRIER_CMD_GLOBAL_EXPEDITED between arming and looking once more: a client process that has
 * registered itself for it (MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) needs none after a command.
 *
 * STREAM POSITIONS. Receive and transmit are byte streams per slot, positions are free-running
 * 32-bit counts that start at 0 when the slot opens. rx_tail: bytes the daemon has delivered.
 * rx_head: bytes the client has consumed. tx bytes are counted as the client queues them;
 * tx_acked: bytes whose storage the daemon no longer needs (acknowledged by the peer, or sent, for
 * UDP). UDP uses the same streams: each datagram is a record, shm_datagram + payload, padded to 8.
 * Urgent data of TCP stays in its place in the stream: an event with SHM_EV_URGENT names the
 * position behind its last byte, which may lie beyond rx_tail; SHM_CMD_URGENT says the same of what
 * is sent.
 *
 * RECEIVE CHUNKS. Payload lies in chunks of the channel's pool. A chunk begins with shm_chunk and
 * is linked to its successor. A chain starts at the chunk that an event with SHM_EV_NEW_CHAIN
 * names: its first payload byte is the stream position shm_chunk.start, which equals rx_head as the
 * client last reported it. The daemon frees a chunk when rx_head has passed its end (rx_head > end,
 * not equal: a client that stands at the end of a chunk still has to read its `next`), and the
 * whole chain when rx_head equals rx_tail. A client that reported all that it knows of may
 * therefore still find, without SHM_EV_NEW_CHAIN, more bytes after the place where it stands; with
 * SHM_EV_NEW_CHAIN it must forget the old chain. A record of UDP may straddle chunks.
 *
 * TRANSMIT EXTENTS. The client keeps payload anywhere in its transmit region and names it by
 * (offset, length) in SHM_OP_SEND. It must not change or reuse the bytes until tx_acked passes
 * them. Adjacent extents (the next starts where the last ended) are merged by the daemon; a slot
 * may have at most SHM_MAX_EXTENTS unmerged extents outstanding (SHM_MAX_DATAGRAMS datagrams: more
 * may be dropped) and SHM_MAX_OUTSTANDING bytes.
 *
 * SLOTS. The first `client_slots` of a channel are opened by the client (OPEN, bind), the rest by
 * the daemon (accepted connections). Whoever opens a slot chooses its generation, different from
 * the slot's last one and never 0. Every command and event carries it: a command with another
 * generation is ignored and counted, an event with another generation is ignored by the client.
 * After SHM_OP_CLOSE the client sends nothing more for the slot; when the daemon needs none of its
 * storage any more (data in flight acknowledged) it answers SHM_EVENT_RELEASED and the slot is
 * free for its opener; a CLOSE of a slot that OPEN failed for is answered at once.
 *
 * VIOLATIONS (an index out of range, an extent outside the transmit region, a ring word that cannot
 * be) evict the application: its connections are reset, the daemon writes the reason into
 * shm_header.state and closes the session socket. Nobody else notices.
 *
 * VERSIONS. A different major is refused, with both versions in the reply. A higher minor only
 * appends; a side uses what the lower of both minors knows.
 */
#ifndef POSTERN_SHMSOCK_H
#define POSTERN_SHMSOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SHM_ASSERT(cond, what) static_assert(cond, what)
#define SHM_ALIGNED(n) alignas(n)
extern "C" {
#else
#define SHM_ASSERT(cond, what) _Static_assert(cond, what)
#define SHM_ALIGNED(n) _Alignas(n)
#endif

/* The full fence of SLEEP: orders the stores before it against the loads after it. On x86-64 a
 * locked instruction is the cheapest one; thread sanitizers do not know fences, and need not. */
static inline void shm_fence(void) {
#if defined(__x86_64__)
  __asm__ __volatile__("lock; orl $0, (%%rsp)" ::: "memory", "cc");
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#define SHM_MAGIC UINT32_C(0x4e525350) /* "PSRN" */
#define SHM_VERSION_MAJOR 1
#define SHM_VERSION_MINOR 4
#define SHM_DEFAULT_SOCKET_PATH "/run/postern/postern.sock"

enum {
  SHM_CACHE_LINE = 64,
  SHM_MAX_CHANNELS = 64,         /* workers an application can talk to */
  SHM_CHUNK_UNIT = 2048,         /* bytes; receive chunks are counted in these */
  SHM_CHUNK_LARGE_UNITS = 32,    /* the larger chunk: 64 KiB */
  SHM_MAX_EXTENTS = 64,          /* unmerged transmit extents outstanding per slot, of a stream */
  SHM_MAX_DATAGRAMS = 512,       /* datagrams outstanding per slot */
  SHM_MAX_OUTSTANDING = 1 << 24, /* transmit bytes outstanding per slot */
  SHM_ERRORS = 256               /* entries of a channel's ring of errors, a power of two */
};

/* ---- segment header: at offset 0 of both segments, written by the daemon before attach ---- */

enum shm_region_kind {
  SHM_REGION_CHANNEL_DAEMON = 1, /* daemon segment: struct shm_channel_daemon */
  SHM_REGION_EVENT_RING = 2,     /* daemon segment: struct shm_event[] */
  SHM_REGION_SOCKETS = 3,        /* daemon segment: struct shm_socket[slots] */
  SHM_REGION_RX_POOL = 4,        /* daemon segment: SHM_CHUNK_UNIT units; unit 0 is never used */
  SHM_REGION_CHANNEL_CLIENT = 5, /* client segment: struct shm_channel_client */
  SHM_REGION_COMMAND_RING = 6,   /* client segment: struct shm_command[] */
  SHM_REGION_REQUESTS = 7,       /* client segment: struct shm_request[client_slots] */
  SHM_REGION_TX_POOL = 8,        /* client segment: transmit payload, laid out by the client */
  SHM_REGION_SCRATCH = 9,        /* client segment: never read by the daemon */
  SHM_REGION_SETTINGS = 10,      /* daemon segment: struct shm_settings. Since minor version 2. */
  SHM_REGION_FIGURES = 11,       /* daemon segment: struct shm_figures. Since minor version 4. */
  SHM_REGION_ERRORS = 12         /* daemon segment: struct shm_error[SHM_ERRORS]. Since minor
                                    version 4. */
};

struct shm_region {
  uint32_t kind;    /* enum shm_region_kind */
  uint32_t channel; /* index, 0 for regions of the whole application */
  uint64_t offset;  /* from the start of the segment, multiple of 4096 */
  uint64_t size;    /* bytes */
};
SHM_ASSERT(sizeof(struct shm_region) == 24, "shm_region layout");

enum shm_state {
  SHM_STATE_RUNNING = 1,
  SHM_STATE_EVICTED = 2, /* shm_header.state_reason says why */
  SHM_STATE_STOPPED = 3  /* posternd is stopping in good order */
};

enum shm_feature {
  SHM_FEATURE_WORKER_MEMBARRIER = 1 /* of the daemon segment: see SLEEP */
};

struct shm_header {
  uint32_t magic;
  uint16_t version_major;
  uint16_t version_minor;
  uint64_t features;     /* enum shm_feature */
  uint64_t segment_size; /* bytes */
  uint32_t channel_count;
  uint32_t slots;           /* per channel, all */
  uint32_t client_slots;    /* per channel, the first so many are opened by the client */
  uint32_t command_entries; /* ring capacities, powers of two */
  uint32_t event_entries;
  uint32_t region_count;
  uint32_t state; /* daemon segment only: enum shm_state, changes while running */
  uint32_t reserved;
  char state_reason[64];   /* daemon segment only: zero-terminated, for people */
  uint64_t regions_offset; /* struct shm_region[region_count] */
};
SHM_ASSERT(offsetof(struct shm_header, state_reason) == 56, "shm_header layout");
SHM_ASSERT(sizeof(struct shm_header) == 128, "shm_header layout");

/* Size of the scratch region of a channel, at least: room for the client's records, one a slot, and
 * for its map of the transmit region. */
#define SHM_SCRATCH_BYTES(slots, tx_bytes) \
  (UINT64_C(16384) + UINT64_C(256) * (slots) + (uint64_t)(tx_bytes) / 64)

/* ---- what the configuration says to clients; written before attach ---- */

enum {
  SHM_MAX_NETWORKS = 64,
  SHM_MAX_CONGESTION = 8,
  SHM_CONGESTION_NAME = 16 /* bytes, with the zero at the end */
};

struct shm_network { /* of `programs:`; the longest that covers an address decides */
  uint8_t address[16];
  uint8_t bits;   /* of the 128 */
  uint8_t kernel; /* 1: sockets with such an address are the kernel's; 0: Postern's */
  uint8_t reserved[6];
};

struct shm_settings {
  uint32_t receive_buffer; /* bytes, of a stream socket without SO_RCVBUF */
  uint16_t network_count;
  uint8_t both_sides; /* 1: wildcard listeners of programs serve the kernel's side as well */
  uint8_t congestion; /* index of the default algorithm */
  uint8_t congestion_count;
  uint8_t reserved0;
  uint16_t mtu; /* the largest of an interface; 0: not said. Since minor version 4. */
  uint8_t reserved[4];
  char congestion_names[SHM_MAX_CONGESTION]
                       [SHM_CONGESTION_NAME]; /* by SHM_OPT_CONGESTION's value */
  struct shm_network networks[SHM_MAX_NETWORKS];
};
SHM_ASSERT(sizeof(struct shm_network) == 24, "shm_network layout");
SHM_ASSERT(sizeof(struct shm_settings) == 16 + 8 * 16 + 64 * 24, "shm_settings layout");

/* ---- channel control: one writer a line ---- */

struct shm_channel_daemon {              /* all lines written by the daemon */
  SHM_ALIGNED(64) uint32_t command_head; /* consumer index of the command ring */
  SHM_ALIGNED(64) uint32_t armed;        /* odd: the worker sleeps or is about to */
};
SHM_ASSERT(sizeof(struct shm_channel_daemon) == 128, "shm_channel_daemon layout");

struct shm_channel_client {            /* all lines written by the client */
  SHM_ALIGNED(64) uint32_t event_head; /* consumer index of the event ring */
  SHM_ALIGNED(64) uint32_t armed;      /* odd: the client sleeps or is about to */
};
SHM_ASSERT(sizeof(struct shm_channel_client) == 128, "shm_channel_client layout");

/* ---- commands: client -> worker ---- */

enum shm_op {
  SHM_OP_OPEN = 1,     /* arg: IPPROTO_TCP. Opens a slot of the client's range. */
  SHM_OP_CONNECT = 2,  /* addresses in shm_request[slot]; TCP: answered by CONNECTED or ERROR.
                          UDP: sets the peer; remote port 0 dissolves it. */
  SHM_OP_SEND = 3,     /* offset, length in the transmit region; rx_head as in RECEIVED */
  SHM_OP_SENDTO = 4,   /* offset, length: a shm_datagram record; rx_head as in RECEIVED */
  SHM_OP_RECEIVED = 5, /* rx_head: the client has consumed up to here */
  SHM_OP_SHUTDOWN = 6, /* arg: SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2 */
  SHM_OP_CLOSE = 7,    /* arg: 0 close as POSIX does, 1 abort with RST (linger 0) */
  SHM_OP_SETOPT = 8,   /* arg: enum shm_option; length: the value */
  SHM_OP_ACCEPTED = 9, /* listener: length connections were taken by accept() */
  SHM_OP_INFO = 10     /* TCP: write the figures of shm_socket (since minor version 1), and those of
                          shm_figures */
};

enum shm_command_flag {
  SHM_CMD_WANT_TX = 1, /* SEND, SENDTO: a writer waits for space: ring the doorbell whenever
                          tx_acked moves, until the slot's next SEND or SENDTO */
  SHM_CMD_MORE = 2,    /* SEND: more follows, a partial segment may wait (MSG_MORE) */
  SHM_CMD_PUSH = 4,    /* reserved */
  SHM_CMD_URGENT = 8   /* SEND: its last byte is urgent (MSG_OOB). Since minor version 4. */
};

struct shm_command {
  uint32_t seq; /* index + 1, stored last */
  uint8_t op;   /* enum shm_op */
  uint8_t flags;
  uint16_t arg;
  uint32_t slot;
  uint32_t generation;
  uint32_t rx_head; /* SEND, SENDTO, RECEIVED, CLOSE: bytes consumed */
  uint32_t length;
  uint64_t offset; /* from the start of the transmit region of this channel */
};
SHM_ASSERT(sizeof(struct shm_command) == 32, "shm_command layout");

enum shm_option {
  SHM_OPT_NODELAY = 1,       /* 0 or 1 */
  SHM_OPT_CORK = 2,          /* 0 or 1 */
  SHM_OPT_KEEPALIVE = 3,     /* 0 or 1 */
  SHM_OPT_KEEPIDLE = 4,      /* seconds */
  SHM_OPT_KEEPINTVL = 5,     /* seconds */
  SHM_OPT_KEEPCNT = 6,       /* probes */
  SHM_OPT_USER_TIMEOUT = 7,  /* milliseconds, 0 off */
  SHM_OPT_RCVBUF = 8,        /* bytes */
  SHM_OPT_SNDBUF = 9,        /* bytes */
  SHM_OPT_MAXSEG = 10,       /* bytes */
  SHM_OPT_TOS = 11,          /* 0..255 */
  SHM_OPT_TTL = 12,          /* 1..255 */
  SHM_OPT_QUICKACK = 13,     /* 0 or 1 */
  SHM_OPT_CONGESTION = 14,   /* index in the daemon's table of algorithms */
  SHM_OPT_DEFER_ACCEPT = 15, /* seconds */
  SHM_OPT_MTU_DISCOVER = 16, /* IP_PMTUDISC_DONT, WANT, DO, PROBE; plus 1 */
  /* Of datagrams. Since minor version 3. */
  SHM_OPT_BROADCAST = 17,       /* 0 or 1 */
  SHM_OPT_GROUP_TTL = 18,       /* 0..255 */
  SHM_OPT_GROUP_LOOP = 19,      /* 0 or 1 */
  SHM_OPT_GROUP_OTHERS = 20,    /* 0 or 1: IP_MULTICAST_ALL */
  SHM_OPT_GROUP_INTERFACE = 21, /* index plus 1; 0: the routes decide */
  SHM_OPT_PACING_RATE = 22,     /* of TCP: bytes a second, 0 off. Since minor version 4. */
  SHM_OPT_RECVERR = 23,         /* bits: 1 IP_RECVERR, 2 IPV6_RECVERR. Since minor version 4. */
  SHM_OPT_LAST = SHM_OPT_RECVERR
};

/* What CONNECT reads, once. Addresses of both families are 16 bytes, IPv4 mapped (::ffff:a.b.c.d).
 */
struct shm_request {
  uint8_t local_address[16]; /* all zero: the daemon chooses */
  uint8_t remote_address[16];
  uint16_t local_port;  /* host order; 0: the daemon chooses */
  uint16_t remote_port; /* host order */
  uint16_t zone;        /* the interface that a link-local remote address is on, plus 1; 0: not
                           said (RFC 4007). Since minor version 2. */
  uint8_t reserved[26];
};
SHM_ASSERT(sizeof(struct shm_request) == 64, "shm_request layout");

/* ---- events: worker -> client ---- */

enum shm_event_type {
  SHM_EVENT_UPDATE = 1,  /* state of a slot changed: see flags, rx_tail, tx_acked */
  SHM_EVENT_ACCEPT = 2,  /* slot: the listener's; value, value2: slot and generation of the new
                            connection, whose addresses are in its shm_socket */
  SHM_EVENT_RELEASED = 3 /* a closed slot is free again */
};

enum shm_event_flag {
  SHM_EV_NEW_CHAIN = 1, /* value: first unit of a new receive chain */
  SHM_EV_EOF = 2,       /* the peer will send nothing after rx_tail */
  SHM_EV_ERROR = 4,     /* error: a positive errno. TCP: the connection is over. UDP: pending */
  SHM_EV_CONNECTED = 8, /* a TCP connect succeeded */
  SHM_EV_URGENT = 16,   /* value2: stream position behind the urgent data. Since minor version 4. */
  SHM_EV_ERRQUEUE = 32  /* of a socket with SHM_OPT_RECVERR. UDP: value2: the index after the last
                           entry of the channel's ring of errors. TCP: error is pending, the
                           connection goes on. */
};

struct shm_event {
  uint32_t seq; /* index + 1, stored last */
  uint8_t type; /* enum shm_event_type */
  uint8_t flags;
  uint16_t error; /* errno value */
  uint32_t slot;
  uint32_t generation;
  uint32_t rx_tail;
  uint32_t tx_acked;
  uint32_t value;
  uint32_t value2;
};
SHM_ASSERT(sizeof(struct shm_event) == 32, "shm_event layout");

/* ---- per-slot state in the daemon segment: what getsockname and friends read ---- */

struct shm_socket {
  uint32_t generation;
  uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0 free */
  uint8_t is_v6;
  uint8_t tcp_state; /* RFC 9293 state as Linux numbers them (TCP_ESTABLISHED 1 ...) */
  uint8_t info_seq;  /* changes when SHM_OP_INFO has been served; stored after the figures */
  uint8_t local_address[16];
  uint8_t remote_address[16];
  uint16_t local_port;  /* host order */
  uint16_t remote_port; /* host order */
  uint16_t mss;         /* bytes; TCP, both sides agreed */
  /* Figures as of the last SHM_OP_INFO. */
  uint16_t rto;         /* milliseconds, at most 65535 */
  uint32_t srtt;        /* microseconds */
  uint32_t rttvar;      /* microseconds */
  uint32_t cwnd;        /* bytes */
  uint32_t retransmits; /* segments since the connection opened */
};
SHM_ASSERT(sizeof(struct shm_socket) == 64, "shm_socket layout");

enum shm_figures_option { /* as Linux's TCPI_OPT_* */
                          SHM_FIGURES_TIMESTAMPS = 1,
                          SHM_FIGURES_SACK = 2,
                          SHM_FIGURES_WSCALE = 4,
                          SHM_FIGURES_ECN = 8
};

/* All that is known of a connection: of the one that the channel's last SHM_OP_INFO named. Written
 * whole before shm_socket.info_seq changes; one SHM_OP_INFO a channel is asked at a time. */
struct shm_figures {
  uint32_t slot;
  uint32_t generation;
  uint8_t options; /* enum shm_figures_option */
  uint8_t snd_scale;
  uint8_t rcv_scale;
  uint8_t backoff;      /* doublings of the RTO */
  uint8_t retries;      /* timeouts since something was last acknowledged */
  uint8_t ca_state;     /* as Linux's: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss */
  uint8_t rate_limited; /* delivery_rate is what the application asked for, or less */
  uint8_t probes;       /* of keepalive and of a closed window, without an answer */
  uint32_t rto;         /* microseconds */
  uint32_t srtt;        /* microseconds */
  uint32_t rttvar;      /* microseconds */
  uint32_t min_rtt;     /* microseconds; 0: no sample */
  uint32_t mss;         /* bytes, as the rest unless said otherwise */
  uint32_t rcv_mss;
  uint32_t cwnd;
  uint32_t ssthresh; /* UINT32_MAX: none yet */
  uint32_t snd_wnd;
  uint32_t rcv_wnd;
  uint32_t in_flight;
  uint32_t sacked;
  uint32_t lost;
  uint32_t unsent;
  uint32_t receive_buffer;
  uint32_t retransmits;  /* segments */
  uint32_t reorder_seen; /* times */
  uint32_t path_mss;     /* what the path is known to carry, without options */
  uint64_t bytes_sent;   /* retransmissions included, as the rest since the connection opened */
  uint64_t bytes_resent;
  uint64_t bytes_acked;
  uint64_t bytes_received;
  uint64_t delivery_rate;   /* bytes a second; 0: none yet */
  uint64_t pacing_rate;     /* bytes a second; 0: not paced */
  uint64_t max_pacing_rate; /* bytes a second; 0: not limited */
  uint64_t busy;            /* microseconds in which there was something to send */
  uint64_t limited_by_receiver;
  uint64_t limited_by_send_buffer;
};
SHM_ASSERT(offsetof(struct shm_figures, bytes_sent) == 88, "shm_figures layout");
SHM_ASSERT(sizeof(struct shm_figures) == 168, "shm_figures layout");

/* ---- receive chunks ---- */

struct shm_chunk {   /* written by the daemon at the start of each chunk */
  uint32_t next;     /* unit index of the successor; 0: none yet. Stored with release order. */
  uint32_t capacity; /* payload bytes after this header */
  uint32_t start;    /* stream position of the first payload byte */
  uint32_t units;    /* size of the chunk in SHM_CHUNK_UNIT */
};
SHM_ASSERT(sizeof(struct shm_chunk) == 16, "shm_chunk layout");

/* ---- datagram record, both directions ---- */

enum shm_datagram_flag { SHM_DGRAM_TRUNCATED = 1 /* reserved */ };

struct shm_datagram {
  uint32_t length; /* payload bytes that follow; the record is sizeof + length, padded to 8 */
  uint16_t port;   /* peer's, host order; SENDTO: 0 means the connected peer */
  uint8_t flags;
  uint8_t tos;
  uint8_t address[16]; /* peer's */
  uint8_t local[16];   /* receive: destination address; SENDTO: source, all zero to choose */
  uint8_t ttl;         /* receive: as arrived; SENDTO: 0 for the socket's */
  uint8_t is_v6;
  uint16_t interface; /* receive: index; SENDTO: index plus 1, as shm_request.zone */
  uint32_t reserved;
};
SHM_ASSERT(sizeof(struct shm_datagram) == 48, "shm_datagram layout");

/* ---- errors of the network, for MSG_ERRQUEUE: worker -> client ----
 *
 * A ring like that of events, except that nobody waits for its reader: what is old is written over.
 * Entry i & (SHM_ERRORS - 1) holds error i while its seq is i + 1, before and after it was read;
 * seq is 0 while the daemon writes. A socket's errors are those of its slot and generation, up to
 * the index that its last event with SHM_EV_ERRQUEUE named. */

enum { SHM_ERROR_PAYLOAD = 68 };

struct shm_error {
  uint32_t seq; /* index + 1, stored last */
  uint32_t slot;
  uint32_t generation;
  uint32_t info;  /* MTU, with EMSGSIZE; pointer of a parameter problem; else 0 */
  uint16_t error; /* errno value */
  uint8_t origin; /* SO_EE_ORIGIN_LOCAL 1, ICMP 2, ICMP6 3 */
  uint8_t type;   /* of the ICMP message */
  uint8_t code;
  uint8_t ttl;          /* as the message arrived */
  uint16_t port;        /* where the datagram was to go, host order */
  uint16_t length;      /* of its payload, as far as it is known */
  uint16_t zone;        /* the interface that the message came by, plus 1 */
  uint8_t offender[16]; /* who sent the message; all zero: we ourselves */
  uint8_t destination[16];
  uint8_t payload[SHM_ERROR_PAYLOAD];
};
SHM_ASSERT(sizeof(struct shm_error) == 128, "shm_error layout");

/* ---- session protocol on postern.sock (SOCK_SEQPACKET, one message a request) ---- */

enum shm_request_type {
  SHM_REQ_ATTACH = 1,
  SHM_REQ_BIND = 2,   /* reserve an address; UDP: also open the socket on every channel */
  SHM_REQ_LISTEN = 3, /* TCP, bound: open the listener on every channel */
  SHM_REQ_UNBIND = 4, /* give the address back; the slots are closed with SHM_OP_CLOSE */
  SHM_REQ_GROUP = 5   /* shm_group_request; answered by shm_bind_reply. Since minor version 3. */
};

struct shm_attach_request {
  uint32_t type; /* SHM_REQ_ATTACH */
  uint32_t magic;
  uint16_t version_major;
  uint16_t version_minor;
  uint32_t slots; /* wanted per channel, 0 for the default; the daemon's limit applies */
  uint64_t features;
  char name[32]; /* program name for `postern ss`, zero-terminated */
};
SHM_ASSERT(sizeof(struct shm_attach_request) == 56, "shm_attach_request layout");

/* With error 0 the descriptors ride along (SCM_RIGHTS): daemon segment, client segment, then per
 * channel the doorbell that wakes the worker and the doorbell that wakes the client. */
struct shm_attach_reply {
  uint32_t type;  /* SHM_REQ_ATTACH */
  uint32_t error; /* errno value; EPROTO: version refused, EACCES: not in access: */
  uint16_t version_major;
  uint16_t version_minor;
  uint32_t channel_count;
  uint64_t daemon_segment_size;
  uint64_t client_segment_size;
  char message[160]; /* for people, when error != 0 */
};
SHM_ASSERT(sizeof(struct shm_attach_reply) == 192, "shm_attach_reply layout");

struct shm_handle {
  uint32_t slot;
  uint32_t generation;
};

enum shm_bind_flag { SHM_BIND_REUSEADDR = 1, SHM_BIND_REUSEPORT = 2, SHM_BIND_V6ONLY = 4 };

/* BIND, LISTEN and UNBIND. `binding` names the reservation between them. */
struct shm_bind_request {
  uint32_t type;
  uint32_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
  uint8_t address[16];
  uint16_t port; /* host order; 0: the daemon chooses an ephemeral port */
  uint16_t is_v6;
  uint32_t flags;                              /* enum shm_bind_flag */
  uint32_t backlog;                            /* LISTEN */
  uint32_t binding;                            /* LISTEN, UNBIND: from the BIND reply */
  struct shm_handle handles[SHM_MAX_CHANNELS]; /* BIND of UDP, LISTEN: the slot on each channel */
};

struct shm_bind_reply {
  uint32_t type;
  uint32_t error; /* errno: EADDRINUSE, EADDRNOTAVAIL, EACCES, EINVAL ... */
  uint8_t address[16];
  uint16_t port;
  uint16_t reserved;
  uint32_t binding; /* BIND: names the reservation, never 0 */
  char message[96];
};
SHM_ASSERT(sizeof(struct shm_bind_request) == 552, "shm_bind_request layout");

enum shm_group_change {
  SHM_GROUP_FIND = 0, /* nothing changes: the interface that has the address in `source` */
  SHM_GROUP_JOIN = 1,
  SHM_GROUP_LEAVE = 2,
  SHM_GROUP_ALLOW = 3, /* the filter of sources, RFC 3678 4.1.1 */
  SHM_GROUP_DISALLOW = 4,
  SHM_GROUP_BLOCK = 5,
  SHM_GROUP_UNBLOCK = 6,
  SHM_GROUP_UNBOUND = 0x100 /* or-ed: the socket is not bound yet; it is done when it is */
};

/* A datagram socket and a group. The reply's `port` is the interface plus 1. */
struct shm_group_request {
  uint32_t type;      /* SHM_REQ_GROUP */
  uint16_t change;    /* enum shm_group_change */
  uint16_t interface; /* plus 1; 0: by the route to the group */
  uint8_t group[16];
  uint8_t source[16];
  struct shm_handle handles[SHM_MAX_CHANNELS]; /* the slot on each channel; unbound: on its own */
};
SHM_ASSERT(sizeof(struct shm_group_request) == 552, "shm_group_request layout");
SHM_ASSERT(sizeof(struct shm_bind_reply) == 128, "shm_bind_reply layout");

#ifdef __cplusplus
}
#endif
#endif
