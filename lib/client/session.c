/* Attachment: its begin, its end, and what a fork or an exec makes of it. */
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/internal.h"

enum { DEFAULT_SPIN_US = 30, MAX_SPIN_US = 1000000, MAX_FDS = 2 + 2 * SHM_MAX_CHANNELS };

struct context* context_current;
static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t configured_spin_us = UINT32_MAX; /* UINT32_MAX: as the environment says */

static _Thread_local char message[sizeof((struct shm_attach_reply*)0)->message];

const struct shm_settings* settings_get(void) {
  const struct context* c = context_get();
  return c != NULL ? c->settings : NULL;
}

void message_set(const char* text) { snprintf(message, sizeof message, "%s", text); }

const char* postern_last_error(void) {
  const struct context* c = context_get();
  if (c != NULL && load_relaxed(&c->dead)) {
    char reason[sizeof c->daemon_header->state_reason];
    const bool told = load(&c->daemon_header->state) != SHM_STATE_RUNNING;
    memcpy(reason, c->daemon_header->state_reason, sizeof reason);
    reason[sizeof reason - 1] = '\0';
    message_set(!told               ? "posternd is gone"
                : reason[0] != '\0' ? reason
                                    : "posternd ended the session");
  }
  return message;
}

/* ---- spin ---- */

static uint32_t spin_ns(void) {
  if (configured_spin_us != UINT32_MAX) return configured_spin_us * 1000;
  const char* text = getenv("POSTERN_SPIN_US");
  char* end = NULL;
  const unsigned long us = text != NULL ? strtoul(text, &end, 10) : DEFAULT_SPIN_US;
  if (text != NULL && (end == text || *end != '\0' || us > MAX_SPIN_US)) {
    return DEFAULT_SPIN_US * 1000;
  }
  return (uint32_t)us * 1000;
}

int postern_set_spin(unsigned microseconds) {
  if (microseconds > MAX_SPIN_US) return fail(EINVAL);
  configured_spin_us = microseconds;
  struct context* c = context_get();
  if (c != NULL) {
    store_relaxed(&c->spin_max, microseconds * 1000);
    store_relaxed(&c->spin_now, microseconds * 1000);
  }
  return 0;
}

/* ---- attach: the exchange ---- */

static int connect_session(const char* path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof to.sun_path) return fail(ENAMETOOLONG);
  strcpy(to.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int rc;
  do {
    rc = connect(fd, (const struct sockaddr*)&to, sizeof to);
  } while (rc != 0 && errno == EINTR);
  if (rc == 0) return fd;
  const int error = errno;
  close(fd);
  return fail(error);
}

static void close_all(const int* fds, int n) {
  for (int i = 0; i < n; ++i) close(fds[i]);
}

static int take_descriptors(struct msghdr* m, int* fds) {
  int n = 0;
  for (struct cmsghdr* h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    const int here = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < here && n < MAX_FDS; ++i, ++n) {
      memcpy(&fds[n], CMSG_DATA(h) + (size_t)i * sizeof(int), sizeof(int));
    }
  }
  return n;
}

/* Sends the request, receives reply and descriptors. Number of descriptors or -1. */
static int exchange_attach(int session, struct shm_attach_reply* reply, int* fds) {
  struct shm_attach_request request = {
      .type = SHM_REQ_ATTACH,
      .magic = SHM_MAGIC,
      .version_major = SHM_VERSION_MAJOR,
      .version_minor = SHM_VERSION_MINOR,
  };
  snprintf(request.name, sizeof request.name, "%s", program_invocation_short_name);
  if (send(session, &request, sizeof request, MSG_NOSIGNAL) < 0) return -1;
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
  } control;
  struct iovec iov = {.iov_base = reply, .iov_len = sizeof *reply};
  struct msghdr m = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n;
  do {
    n = recvmsg(session, &m, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return -1;
  const int count = take_descriptors(&m, fds);
  if (n < (ssize_t)sizeof *reply || reply->type != SHM_REQ_ATTACH ||
      (m.msg_flags & MSG_CTRUNC) != 0) {
    close_all(fds, count);
    return fail(n == 0 ? ECONNREFUSED : EPROTO);
  }
  return count;
}

static int refused(const struct shm_attach_reply* reply) {
  if (reply->message[0] != '\0') {
    snprintf(message, sizeof message, "%.*s", (int)sizeof reply->message - 1, reply->message);
  } else if (reply->error == EPROTO) {
    snprintf(message, sizeof message, "posternd speaks version %u.%u, this library %u.%u",
             reply->version_major, reply->version_minor, SHM_VERSION_MAJOR, SHM_VERSION_MINOR);
  }
  return fail((int)reply->error);
}

/* ---- attach: the maps ---- */

static const void* region(const void* map, uint32_t kind, uint32_t channel, uint64_t least,
                          uint64_t* size) {
  const struct shm_header* h = map;
  const struct shm_region* r = (const void*)((const char*)map + h->regions_offset);
  for (uint32_t i = 0; i < h->region_count; ++i) {
    if (r[i].kind != kind || r[i].channel != channel) continue;
    if (r[i].offset % 4096 != 0 || r[i].size < least || r[i].offset > h->segment_size ||
        r[i].size > h->segment_size - r[i].offset) {
      return NULL;
    }
    if (size != NULL) *size = r[i].size;
    return (const char*)map + r[i].offset;
  }
  return NULL;
}

static void* writable_region(void* map, uint32_t kind, uint32_t channel, uint64_t least,
                             uint64_t* size) {
  return (void*)(uintptr_t)region(map, kind, channel, least, size);
}

static bool header_fits(const struct shm_header* h, size_t size) {
  return h->magic == SHM_MAGIC && h->version_major == SHM_VERSION_MAJOR &&
         h->segment_size == size && h->channel_count >= 1 && h->channel_count <= SHM_MAX_CHANNELS &&
         h->slots != 0 && (h->slots & (h->slots - 1)) == 0 && h->client_slots <= h->slots &&
         h->command_entries != 0 && (h->command_entries & (h->command_entries - 1)) == 0 &&
         h->event_entries != 0 && (h->event_entries & (h->event_entries - 1)) == 0 &&
         h->regions_offset <= size &&
         h->region_count <= (size - h->regions_offset) / sizeof(struct shm_region);
}

static bool open_channel(struct context* c, uint32_t i) {
  const struct shm_header* h = c->daemon_header;
  struct channel* ch = &c->channels[i];
  uint64_t rx_size = 0, tx_size = 0;
  ch->index = i;
  ch->command_mask = h->command_entries - 1;
  ch->event_mask = h->event_entries - 1;
  ch->theirs = region(c->daemon_map, SHM_REGION_CHANNEL_DAEMON, i, sizeof *ch->theirs, NULL);
  ch->events = region(c->daemon_map, SHM_REGION_EVENT_RING, i,
                      (uint64_t)h->event_entries * sizeof *ch->events, NULL);
  ch->sockets =
      region(c->daemon_map, SHM_REGION_SOCKETS, i, (uint64_t)h->slots * sizeof *ch->sockets, NULL);
  ch->figures = region(c->daemon_map, SHM_REGION_FIGURES, i, sizeof(struct shm_figures), NULL);
  ch->rx_pool = region(c->daemon_map, SHM_REGION_RX_POOL, i, SHM_CHUNK_UNIT, &rx_size);
  ch->errors =
      region(c->daemon_map, SHM_REGION_ERRORS, i, (uint64_t)SHM_ERRORS * sizeof *ch->errors, NULL);
  ch->ours = writable_region(c->client_map, SHM_REGION_CHANNEL_CLIENT, i, sizeof *ch->ours, NULL);
  ch->commands = writable_region(c->client_map, SHM_REGION_COMMAND_RING, i,
                                 (uint64_t)h->command_entries * sizeof *ch->commands, NULL);
  ch->requests = writable_region(c->client_map, SHM_REGION_REQUESTS, i,
                                 (uint64_t)h->client_slots * sizeof *ch->requests, NULL);
  ch->tx_pool = writable_region(c->client_map, SHM_REGION_TX_POOL, i, SHM_CHUNK_UNIT, &tx_size);
  char* scratch = writable_region(c->client_map, SHM_REGION_SCRATCH, i,
                                  SHM_SCRATCH_BYTES(h->slots, tx_size), NULL);
  if (ch->theirs == NULL || ch->events == NULL || ch->sockets == NULL || ch->rx_pool == NULL ||
      ch->ours == NULL || ch->commands == NULL || (ch->requests == NULL && h->client_slots != 0) ||
      ch->tx_pool == NULL || scratch == NULL) {
    return false;
  }
  ch->rx_units = (uint32_t)(rx_size / SHM_CHUNK_UNIT);
  ch->tx_blocks = (uint32_t)(tx_size / SHM_CHUNK_UNIT / UNITS_PER_BLOCK);
  ch->tx_low = ch->tx_blocks * UNITS_PER_BLOCK / 8 * 7;
  ch->shared = (struct channel_shared*)(void*)(scratch + SCRATCH_CHANNEL);
  ch->records = (struct record*)(void*)(scratch + SCRATCH_RECORDS);
  ch->units = (struct tx_unit*)(void*)(ch->records + h->slots);
  ch->blocks = (struct tx_block*)(void*)(ch->units + (size_t)ch->tx_blocks * UNITS_PER_BLOCK);
  if (i == 0) c->app = (struct app_shared*)(void*)scratch;
  if (ch->shared->pool_ready == 0) {
    ch->shared->slot_free = NONE;
    pool_init(ch);
    ch->shared->pool_ready = 1;
  }
  /* No page fault where bytes arrive; best effort, kernels before 5.14 do not know these. */
  (void)madvise((void*)(uintptr_t)ch->events, (size_t)h->event_entries * sizeof *ch->events,
                MADV_POPULATE_READ);
  (void)madvise((void*)(uintptr_t)ch->rx_pool, rx_size, MADV_POPULATE_READ);
  (void)madvise(ch->commands, (size_t)h->command_entries * sizeof *ch->commands,
                MADV_POPULATE_WRITE);
  return true;
}

static bool open_maps(struct context* c, const struct attachment* a) {
  c->daemon_size = a->daemon_size;
  c->client_size = a->client_size;
  if (c->daemon_size < sizeof(struct shm_header) || c->client_size < sizeof(struct shm_header)) {
    return false;
  }
  c->daemon_map = mmap(NULL, c->daemon_size, PROT_READ, MAP_SHARED, a->daemon_fd, 0);
  c->client_map = mmap(NULL, c->client_size, PROT_READ | PROT_WRITE, MAP_SHARED, a->client_fd, 0);
  if (c->daemon_map == MAP_FAILED || c->client_map == MAP_FAILED) return false;
  c->daemon_header = c->daemon_map;
  if (!header_fits(c->daemon_header, c->daemon_size) ||
      !header_fits(c->client_map, c->client_size) ||
      c->daemon_header->channel_count != a->channel_count) {
    return false;
  }
  c->channel_count = a->channel_count;
  c->slots = c->daemon_header->slots;
  c->slot_shift = (uint32_t)__builtin_ctz(c->slots);
  c->client_slots = c->daemon_header->client_slots;
  c->settings = region(c->daemon_map, SHM_REGION_SETTINGS, 0, sizeof(struct shm_settings), NULL);
  c->report_at = report_at(c->settings != NULL ? c->settings->receive_buffer : 0);
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    if (!open_channel(c, i)) return false;
  }
  return true;
}

static void unmap(struct context* c) {
  if (c->daemon_map != NULL && c->daemon_map != MAP_FAILED) munmap(c->daemon_map, c->daemon_size);
  if (c->client_map != NULL && c->client_map != MAP_FAILED) munmap(c->client_map, c->client_size);
}

/* 0 or an errno; what is open is the caller's to close. `place`: as in session_resume(), or NULL.
 */
static int open_resources(struct context* c, const struct attachment* a,
                          const struct family_place* place) {
  c->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (c->kick_fd < 0) return errno;
  if (!open_maps(c, a)) {
    return c->daemon_map == MAP_FAILED || c->client_map == MAP_FAILED ? ENOMEM : EPROTO;
  }
  if (place != NULL ? !family_resume(c, place) : !family_begin(c)) return errno;
  c->watches = calloc((size_t)c->channel_count << c->slot_shift, sizeof(struct watch*));
  return c->watches != NULL ? 0 : ENOMEM;
}

/* Only processes that asked for it are fenced. */
static bool fenced_by_worker(const struct context* c) {
  return (c->daemon_header->features & SHM_FEATURE_WORKER_MEMBARRIER) != 0 &&
         syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

static int open_context(const struct attachment* a, const struct family_place* place) {
  struct context* c = calloc(1, sizeof *c);
  if (c == NULL) return fail(ENOMEM);
  const int error = open_resources(c, a, place);
  if (error != 0) {
    if (c->kick_fd >= 0) close(c->kick_fd);
    family_end(c);
    descriptor_reset();
    unmap(c);
    free(c);
    return fail(error);
  }
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    c->channels[i].ring_fd = a->doorbells[2 * i];
    c->channels[i].wake_fd = a->doorbells[2 * i + 1];
  }
  c->session_fd = a->session_fd;
  c->daemon_fd = a->daemon_fd;
  c->client_fd = a->client_fd;
  c->spin_max = c->spin_now = spin_ns();
  c->needs_fence = !fenced_by_worker(c);
  store(&context_current, c);
  bias_begin();
  return 0;
}

static int open_reply(int session, const struct shm_attach_reply* reply, const int* fds,
                      int count) {
  if (reply->error != 0) return refused(reply);
  if (reply->channel_count < 1 || reply->channel_count > SHM_MAX_CHANNELS ||
      count != (int)(2 + 2 * reply->channel_count)) {
    return fail(EPROTO);
  }
  struct attachment a = {.daemon_size = reply->daemon_segment_size,
                         .client_size = reply->client_segment_size,
                         .channel_count = reply->channel_count,
                         .session_fd = session,
                         .daemon_fd = fds[0],
                         .client_fd = fds[1]};
  memcpy(a.doorbells, fds + 2, (size_t)(count - 2) * sizeof *fds);
  return open_context(&a, NULL);
}

void session_describe(const struct context* c, struct attachment* a) {
  *a = (struct attachment){.daemon_size = c->daemon_size,
                           .client_size = c->client_size,
                           .channel_count = c->channel_count,
                           .session_fd = c->session_fd,
                           .daemon_fd = c->daemon_fd,
                           .client_fd = c->client_fd};
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    a->doorbells[2 * i] = c->channels[i].ring_fd;
    a->doorbells[2 * i + 1] = c->channels[i].wake_fd;
  }
}

/* ---- the end ---- */

static void close_context(struct context* c) {
  store(&context_current, NULL);
  close(c->session_fd);
  close(c->daemon_fd);
  close(c->client_fd);
  close(c->kick_fd);
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    close(c->channels[i].ring_fd);
    close(c->channels[i].wake_fd);
  }
  queues_invalidate(c);
  free(c->watches);
  family_end(c);
  unmap(c);
  free(c);
  descriptor_reset();
}

/* ---- fork ---- */

static void before_fork(void) {
  pthread_mutex_lock(&attach_lock);
  struct context* c = context_get();
  if (c == NULL) return;
  ENTER();
  family_share(c);
  queues_lock(c);
  descriptor_lock();
  family_admit(c);
}

static void in_parent(void) {
  struct context* c = context_get();
  if (c != NULL) {
    ENTER();
    descriptor_unlock();
    queues_unlock(c);
    family_in_parent(c);
  }
  pthread_mutex_unlock(&attach_lock);
}

/* An eventfd of our own under the number of the parent's. */
static void renew_kick(struct context* c) {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return;
  syscall(SYS_dup3, fd, c->kick_fd, O_CLOEXEC);
  close(fd);
}

static void in_child(void) {
  attach_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  bias_in_child();
  struct context* c = context_get();
  if (c == NULL) return;
  const bool admitted = family_in_child(c);
  descriptor_unlock();
  queues_unlock(c);
  c->own = (struct process){0};
  if (!admitted) {
    close_context(c);
    return;
  }
  c->needs_fence = !fenced_by_worker(c);
  renew_kick(c);
  queues_in_child(c);
}

static void register_fork_handler(void) { pthread_atfork(before_fork, in_parent, in_child); }

/* What other processes share lives on; what this one held is dropped at once, not when the others
 * find it gone. */
__attribute__((destructor)) static void at_exit(void) {
  ENTER();
  const struct context* c = context_get();
  if (c == NULL || !load(&c->shared)) return;
  for (int fd = descriptor_next(0); fd >= 0; fd = descriptor_next(fd + 1)) {
    close_descriptor(fd, false);
  }
}

static int attach(const char* path) {
  struct shm_attach_reply reply;
  int fds[MAX_FDS];
  const int session = connect_session(path);
  if (session < 0) return -1;
  const int count = exchange_attach(session, &reply, fds);
  if (count >= 0 && open_reply(session, &reply, fds, count) == 0) return 0;
  const int error = errno;
  if (count > 0) close_all(fds, count);
  close(session);
  return fail(error);
}

static pthread_once_t fork_handler = PTHREAD_ONCE_INIT;

int session_resume(const struct attachment* a, const struct family_place* place) {
  pthread_once(&fork_handler, register_fork_handler);
  if (open_context(a, place) != 0) return -1;
  descriptor_resume();
  ENTER();
  struct context* c = context_get();
  if (c->shared) bias_share();
  family_settle(c);
  return 0;
}

int postern_attach(const char* path) {
  pthread_once(&fork_handler, register_fork_handler);
  message[0] = '\0';
  if (path == NULL) path = getenv("POSTERN_SOCKET");
  if (path == NULL) path = SHM_DEFAULT_SOCKET_PATH;
  pthread_mutex_lock(&attach_lock);
  const int rc = context_get() != NULL ? fail(EISCONN) : attach(path);
  pthread_mutex_unlock(&attach_lock);
  return rc;
}

int postern_detach(void) {
  ENTER();
  pthread_mutex_lock(&attach_lock);
  struct context* c = context_get();
  if (c != NULL) {
    for (int fd = descriptor_next(0); fd >= 0; fd = descriptor_next(fd + 1)) {
      close_descriptor(fd, false);
    }
    close_context(c);
  }
  pthread_mutex_unlock(&attach_lock);
  return c != NULL ? 0 : fail(ENOTCONN);
}

/* ---- looking in ---- */

int postern_get_stats(struct postern_stats* stats) {
  struct context* c = context_get();
  if (c == NULL) return fail(ENOTCONN);
  memset(stats, 0, sizeof *stats);
  stats->channels = c->channel_count;
  stats->descriptors = descriptor_count();
  stats->doorbells_rung = load_relaxed(&c->doorbells);
  stats->sleeps = load_relaxed(&c->sleeps);
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    const struct channel* ch = &c->channels[i];
    stats->tx_bytes_total += (uint64_t)ch->tx_blocks * UNITS_PER_BLOCK * SHM_CHUNK_UNIT;
    stats->tx_bytes_used += (uint64_t)load_relaxed(&ch->shared->units_used) * SHM_CHUNK_UNIT;
    stats->closing += load_relaxed(&ch->shared->closing);
    stats->commands += load_relaxed(&ch->shared->command_tail);
    stats->events += load_relaxed(&ch->shared->event_index);
  }
  return 0;
}
