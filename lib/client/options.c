/* setsockopt and getsockopt. What concerns the daemon is kept in the record and sent when the slot
 * opens, and at once if it is open. */
#include <linux/in6.h>
#include <netinet/tcp.h>
#include <sys/time.h>

#include "client/internal.h"

enum {
  LEAST_BUFFER = 4096,
  MOST_BUFFER = SHM_MAX_OUTSTANDING - 65536, /* a datagram of full size still fits above it */
  DEFAULT_RCVBUF = 1 << 20                   /* of datagrams */
};

static void send_one(struct context* c, uint32_t index, uint16_t option, uint32_t value) {
  command_push(c, index, &(struct command){.op = SHM_OP_SETOPT, .arg = option, .length = value});
}

void options_send(struct context* c, uint32_t index) {
  const struct record* r = record_at(c, index);
  const struct options* o = &r->options;
  const uint32_t f = load(&r->flags);
  const bool stream = (f & R_STREAM) != 0;
  const struct {
    uint16_t option;
    uint32_t value;
  } all[] = {
      {SHM_OPT_NODELAY, (f & R_NODELAY) != 0},
      {SHM_OPT_CORK, (f & R_CORK) != 0},
      {SHM_OPT_KEEPIDLE, stream ? o->keepidle : 0U},
      {SHM_OPT_KEEPINTVL, o->keepintvl},
      {SHM_OPT_KEEPCNT, stream ? o->keepcnt : 0U},
      {SHM_OPT_KEEPALIVE, (f & R_KEEPALIVE) != 0},
      {SHM_OPT_USER_TIMEOUT, stream ? o->user_timeout : 0U},
      {SHM_OPT_RCVBUF, o->rcvbuf},
      {SHM_OPT_MAXSEG, o->maxseg},
      {SHM_OPT_TOS, o->tos},
      {SHM_OPT_TTL, o->ttl},
      {(f & R_STREAM) != 0 ? SHM_OPT_DEFER_ACCEPT : SHM_OPT_MTU_DISCOVER, o->defer_accept},
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i) {
    if (all[i].value != 0) send_one(c, index, all[i].option, all[i].value);
  }
  const uint32_t errors = errors_wanted(record_at(c, load_relaxed(&r->primary)));
  if (errors != 0) send_one(c, index, SHM_OPT_RECVERR, errors);
  if (r->congestion != 0) send_one(c, index, SHM_OPT_CONGESTION, r->congestion - 1U);
  if (stream && r->pacing_rate != 0) send_one(c, index, SHM_OPT_PACING_RATE, r->pacing_rate);
  if (!stream) group_options_send(c, index);
}

void option_send(const struct sock* s, uint16_t option, uint32_t value) {
  struct context* c = s->context;
  for (uint32_t i = s->index; i != NONE; i = load_relaxed(&record_at(c, i)->sibling)) {
    if ((load(&record_at(c, i)->flags) & (R_OPEN | R_CLOSING)) == R_OPEN) {
      send_one(c, i, option, value);
    }
  }
}

static bool is_stream(const struct sock* s) {
  return (load_relaxed(&s->record->flags) & R_STREAM) != 0;
}

static int set_flag(const struct sock* s, uint32_t flag, int on) {
  if (on != 0) {
    fetch_or(&s->record->flags, flag);
  } else {
    fetch_and(&s->record->flags, ~flag);
  }
  return 0;
}

static int set_and_send(const struct sock* s, uint32_t flag, uint16_t option, int on) {
  set_flag(s, flag, on);
  option_send(s, option, on != 0);
  return 0;
}

static uint32_t clamp_buffer(int value) {
  if (value < LEAST_BUFFER) return LEAST_BUFFER;
  return value > MOST_BUFFER ? (uint32_t)MOST_BUFFER : (uint32_t)value;
}

static int64_t from_timeval(const struct timeval* t) {
  return (int64_t)t->tv_sec * 1000000000 + (int64_t)t->tv_usec * 1000;
}

static int set_timeout(int64_t* to, const void* value, socklen_t length) {
  struct timeval t;
  if (length < sizeof t) return EINVAL;
  memcpy(&t, value, sizeof t);
  if (t.tv_usec < 0 || t.tv_usec >= 1000000) return EDOM;
  if (t.tv_sec < 0 || t.tv_sec > INT32_MAX) t = (struct timeval){0};
  store_relaxed(to, from_timeval(&t));
  return 0;
}

static int set_linger(const struct sock* s, const void* value, socklen_t length) {
  struct linger l;
  if (length < sizeof l) return EINVAL;
  memcpy(&l, value, sizeof l);
  if (l.l_linger < 0 || l.l_linger > UINT16_MAX) l.l_linger = UINT16_MAX;
  s->record->options.linger = (uint16_t)l.l_linger;
  return set_flag(s, R_LINGER, l.l_onoff);
}

/* ---- TCP_CONGESTION: a name ---- */

static bool names_algorithm(const struct shm_settings* all, uint32_t i, const char* name,
                            size_t length) {
  const char* known = all->congestion_names[i];
  return strnlen(known, SHM_CONGESTION_NAME) == length && memcmp(known, name, length) == 0;
}

/* Linux knows NewReno as "reno". */
static int set_congestion(const struct sock* s, const char* value, socklen_t length) {
  const struct shm_settings* all = s->context->settings;
  size_t n = strnlen(value, length);
  if (length == 0) return EINVAL;
  if (all == NULL) return ENOPROTOOPT;
  if (n == 4 && memcmp(value, "reno", 4) == 0) value = "newreno", n = 7;
  for (uint32_t i = 0; i < all->congestion_count && i < SHM_MAX_CONGESTION; ++i) {
    if (!names_algorithm(all, i, value, n)) continue;
    s->record->congestion = (uint8_t)(i + 1);
    option_send(s, SHM_OPT_CONGESTION, i);
    return 0;
  }
  return ENOENT;
}

/* SO_MAX_PACING_RATE: of 4 or 8 bytes; all ones: not paced. */
static int set_pacing_rate(const struct sock* s, const void* value, socklen_t length) {
  uint64_t rate = 0;
  if (length < sizeof(uint32_t)) return EINVAL;
  if (!daemon_knows(s->context, 4)) return ENOPROTOOPT;
  memcpy(&rate, value, length >= sizeof rate ? sizeof rate : sizeof(uint32_t));
  const uint32_t paced = rate < UINT32_MAX ? (uint32_t)rate : 0;
  store_relaxed(&s->record->pacing_rate, paced);
  option_send(s, SHM_OPT_PACING_RATE, paced);
  return 0;
}

static void put(void* value, socklen_t* length, const void* from, socklen_t size) {
  if (*length > size) *length = size;
  memcpy(value, from, *length);
}

static int get_congestion(const struct sock* s, void* value, socklen_t* length) {
  const struct shm_settings* all = s->context->settings;
  if (all == NULL) return ENOPROTOOPT;
  const uint8_t chosen = s->record->congestion;
  const uint32_t i = chosen != 0 ? chosen - 1U : all->congestion;
  char name[SHM_CONGESTION_NAME] = {0};
  if (i < SHM_MAX_CONGESTION) memcpy(name, all->congestion_names[i], sizeof name - 1);
  put(value, length, name, sizeof name);
  return 0;
}

static int set_socket_option(const struct sock* s, int option, int v) {
  struct options* o = &s->record->options;
  switch (option) {
    case SO_REUSEADDR:
      return set_flag(s, R_REUSEADDR, v);
    case SO_REUSEPORT:
      return set_flag(s, R_REUSEPORT, v);
    case SO_OOBINLINE:
      return set_flag(s, R_OOBINLINE, v);
    case SO_KEEPALIVE:
      return set_and_send(s, R_KEEPALIVE, SHM_OPT_KEEPALIVE, v);
    case SO_RCVBUF:
      store_relaxed(&o->rcvbuf, clamp_buffer(v));
      option_send(s, SHM_OPT_RCVBUF, o->rcvbuf);
      return 0;
    case SO_SNDBUF:
      store_relaxed(&s->record->sndbuf, clamp_buffer(v));
      option_send(s, SHM_OPT_SNDBUF, clamp_buffer(v));
      return 0;
    default:
      return ENOPROTOOPT;
  }
}

/* A number of the record within its range, sent to the daemon. */
#define SET_NUMBER(field, least, most, shm)       \
  do {                                            \
    if (v < (least) || v > (most)) return EINVAL; \
    o->field = (__typeof__(o->field))v;           \
    option_send(s, (shm), (uint32_t)v);           \
    return 0;                                     \
  } while (0)

static int set_tcp_option(const struct sock* s, int option, int v) {
  struct options* o = &s->record->options;
  switch (option) {
    case TCP_NODELAY:
      return set_and_send(s, R_NODELAY, SHM_OPT_NODELAY, v);
    case TCP_CORK:
      return set_and_send(s, R_CORK, SHM_OPT_CORK, v);
    case TCP_KEEPIDLE:
      SET_NUMBER(keepidle, 1, 32767, SHM_OPT_KEEPIDLE);
    case TCP_KEEPINTVL:
      SET_NUMBER(keepintvl, 1, 32767, SHM_OPT_KEEPINTVL);
    case TCP_KEEPCNT:
      SET_NUMBER(keepcnt, 1, 127, SHM_OPT_KEEPCNT);
    case TCP_MAXSEG:
      SET_NUMBER(maxseg, 88, 32767, SHM_OPT_MAXSEG);
    case TCP_USER_TIMEOUT:
      SET_NUMBER(user_timeout, 0, INT32_MAX, SHM_OPT_USER_TIMEOUT);
    case TCP_DEFER_ACCEPT:
      if (v > UINT8_MAX) v = UINT8_MAX;
      SET_NUMBER(defer_accept, 0, UINT8_MAX, SHM_OPT_DEFER_ACCEPT);
    case TCP_QUICKACK:
      option_send(s, SHM_OPT_QUICKACK, v != 0);
      return 0;
    default:
      return ENOPROTOOPT;
  }
}

static int set_tos(const struct sock* s, int v) {
  struct options* o = &s->record->options;
  SET_NUMBER(tos, 0, 255, SHM_OPT_TOS);
}

static int set_ttl(const struct sock* s, int v) {
  struct options* o = &s->record->options;
  if (v == -1) v = 64; /* the default */
  SET_NUMBER(ttl, 1, 255, SHM_OPT_TTL);
}

static int set_mtu_discover(const struct sock* s, int v) {
  if ((load(&s->record->flags) & R_STREAM) != 0) return ENOPROTOOPT;
  if (v < IP_PMTUDISC_DONT || v > IP_PMTUDISC_PROBE) return EINVAL;
  s->record->options.mtu_discover = (uint8_t)(v + 1);
  option_send(s, SHM_OPT_MTU_DISCOVER, (uint32_t)v + 1);
  return 0;
}

static int set_v6only(const struct sock* s, int v) {
  if ((load(&s->record->flags) & R_BOUND) != 0) return EINVAL;
  return set_flag(s, R_V6ONLY, v);
}

static int set_number(const struct sock* s, int level, int option, int v) {
  const uint32_t f = load(&s->record->flags);
  const int error = errors_option_set(s, level, option, v);
  if (error != ENOPROTOOPT) return error;
  switch (level) {
    case SOL_SOCKET:
      return set_socket_option(s, option, v);
    case IPPROTO_TCP:
      return (f & R_STREAM) != 0 ? set_tcp_option(s, option, v) : ENOPROTOOPT;
    case IPPROTO_IP:
      if (option == IP_TOS) return set_tos(s, v);
      if (option == IP_MTU_DISCOVER) return set_mtu_discover(s, v);
      return option == IP_TTL ? set_ttl(s, v) : ancillary_set(s->record, level, option, v);
    case IPPROTO_IPV6:
      if ((f & R_V6) == 0) return ENOPROTOOPT;
      if (option == IPV6_V6ONLY) return set_v6only(s, v);
      if (option == IPV6_TCLASS) return set_tos(s, v == -1 ? 0 : v);
      if (option == IPV6_MTU_DISCOVER) return set_mtu_discover(s, v);
      return option == IPV6_UNICAST_HOPS ? set_ttl(s, v)
                                         : ancillary_set(s->record, level, option, v);
    default:
      return ENOPROTOOPT;
  }
}

int postern_setsockopt(int fd, int level, int option, const void* value, socklen_t length) {
  ENTER();
  struct sock s;
  if (sock_lookup_live(fd, &s) != 0) return -1;
  if (value == NULL) return fail(EFAULT);
  int error = group_option_set(&s, level, option, value, length);
  int number;
  if (error != ENOPROTOOPT) return error == 0 ? 0 : fail(error);
  if (level == SOL_SOCKET && option == SO_LINGER) {
    error = set_linger(&s, value, length);
  } else if (level == SOL_SOCKET && option == SO_RCVTIMEO) {
    error = set_timeout(&s.record->rcv_timeout, value, length);
  } else if (level == SOL_SOCKET && option == SO_SNDTIMEO) {
    error = set_timeout(&s.record->snd_timeout, value, length);
  } else if (level == IPPROTO_TCP && option == TCP_CONGESTION && is_stream(&s)) {
    error = set_congestion(&s, value, length);
  } else if (level == SOL_SOCKET && option == SO_MAX_PACING_RATE && is_stream(&s)) {
    error = set_pacing_rate(&s, value, length);
  } else if (length >= sizeof number) {
    memcpy(&number, value, sizeof number);
    error = set_number(&s, level, option, number);
  } else {
    error = EINVAL;
  }
  return error == 0 ? 0 : fail(error);
}

/* ---- getsockopt ---- */

static uint32_t receive_buffer(const struct sock* s, uint32_t f) {
  const uint32_t set = s->record->options.rcvbuf;
  const struct shm_settings* all = s->context->settings;
  if (set != 0) return set;
  return (f & R_STREAM) != 0 && all != NULL ? all->receive_buffer : DEFAULT_RCVBUF;
}

static int get_socket_option(const struct sock* s, uint32_t f, int option, int* v) {
  const struct record* r = s->record;
  switch (option) {
    case SO_ERROR:
      drain_all(s->context);
      *v = (int)exchange(&s->record->error, 0);
      if (*v == 0 && load_relaxed(&s->context->dead)) *v = ECONNABORTED;
      return 0;
    case SO_TYPE:
      *v = (f & R_STREAM) != 0 ? SOCK_STREAM : SOCK_DGRAM;
      return 0;
    case SO_DOMAIN:
      *v = (f & R_V6) != 0 ? AF_INET6 : AF_INET;
      return 0;
    case SO_PROTOCOL:
      *v = (f & R_STREAM) != 0 ? IPPROTO_TCP : IPPROTO_UDP;
      return 0;
    case SO_ACCEPTCONN:
      *v = (f & (R_LISTENING | R_SHUT_RD)) == R_LISTENING;
      return 0;
    case SO_REUSEADDR:
      *v = (f & R_REUSEADDR) != 0;
      return 0;
    case SO_REUSEPORT:
      *v = (f & R_REUSEPORT) != 0;
      return 0;
    case SO_OOBINLINE:
      *v = (f & R_OOBINLINE) != 0;
      return 0;
    case SO_KEEPALIVE:
      *v = (f & R_KEEPALIVE) != 0;
      return 0;
    case SO_RCVBUF:
      *v = (int)receive_buffer(s, f);
      return 0;
    case SO_SNDBUF:
      *v = (int)load_relaxed(&r->sndbuf);
      return 0;
    default:
      return ENOPROTOOPT;
  }
}

static int current_mss(const struct sock* s) {
  const struct shm_socket* d = &s->channel->sockets[slot_of(s->context, s->index)];
  const bool known = load(&d->generation) == load_relaxed(&s->record->generation) && d->mss != 0;
  if (known) return d->mss;
  return s->record->options.maxseg != 0 ? s->record->options.maxseg : 536;
}

static int get_tcp_option(const struct sock* s, uint32_t f, int option, int* v) {
  const struct options* o = &s->record->options;
  switch (option) {
    case TCP_NODELAY:
      *v = (f & R_NODELAY) != 0;
      return 0;
    case TCP_CORK:
      *v = (f & R_CORK) != 0;
      return 0;
    case TCP_KEEPIDLE:
      *v = o->keepidle != 0 ? o->keepidle : 7200;
      return 0;
    case TCP_KEEPINTVL:
      *v = o->keepintvl != 0 ? o->keepintvl : 75;
      return 0;
    case TCP_KEEPCNT:
      *v = o->keepcnt != 0 ? o->keepcnt : 9;
      return 0;
    case TCP_MAXSEG:
      *v = current_mss(s);
      return 0;
    case TCP_USER_TIMEOUT:
      *v = (int)o->user_timeout;
      return 0;
    case TCP_DEFER_ACCEPT:
      *v = o->defer_accept;
      return 0;
    default:
      return ENOPROTOOPT;
  }
}

static int get_ip_option(const struct record* r, uint32_t f, int level, int option, int* v) {
  const struct options* o = &r->options;
  const int ttl = o->ttl != 0 ? o->ttl : 64;
  if (errors_option_get(r, level, option, v) == 0) return 0;
  if (level == IPPROTO_IP && option == IP_TOS) return *v = o->tos, 0;
  if (level == IPPROTO_IP && option == IP_TTL) return *v = ttl, 0;
  const bool told = (f & R_STREAM) == 0 && o->mtu_discover != 0;
  const int discover = told ? o->mtu_discover - 1 : IP_PMTUDISC_WANT;
  if (level == IPPROTO_IP && option == IP_MTU_DISCOVER) return *v = discover, 0;
  if (level == IPPROTO_IP) return ancillary_get(r, level, option, v);
  if ((f & R_V6) == 0) return ENOPROTOOPT;
  if (option == IPV6_V6ONLY) return *v = (f & R_V6ONLY) != 0, 0;
  if (option == IPV6_TCLASS) return *v = o->tos, 0;
  if (option == IPV6_UNICAST_HOPS) return *v = ttl, 0;
  if (option == IPV6_MTU_DISCOVER) return *v = discover, 0;
  return ancillary_get(r, level, option, v);
}

/* The options that are not an int. ENOPROTOOPT: none of them. */
static int get_structure(const struct sock* s, int option, void* value, socklen_t* length) {
  const struct record* r = s->record;
  if (option == SO_LINGER) {
    const struct linger l = {.l_onoff = (load(&r->flags) & R_LINGER) != 0,
                             .l_linger = r->options.linger};
    put(value, length, &l, sizeof l);
    return 0;
  }
  if (option == SO_MAX_PACING_RATE && is_stream(s)) {
    const uint32_t rate = load_relaxed(&r->pacing_rate);
    const uint64_t whole = rate != 0 ? rate : UINT64_MAX;
    put(value, length, &whole, *length >= sizeof whole ? sizeof whole : sizeof rate);
    return 0;
  }
  if (option != SO_RCVTIMEO && option != SO_SNDTIMEO) return ENOPROTOOPT;
  const int64_t ns = load_relaxed(option == SO_RCVTIMEO ? &r->rcv_timeout : &r->snd_timeout);
  const struct timeval t = {.tv_sec = ns / 1000000000, .tv_usec = ns % 1000000000 / 1000};
  put(value, length, &t, sizeof t);
  return 0;
}

int postern_getsockopt(int fd, int level, int option, void* value, socklen_t* length) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  if (value == NULL || length == NULL) return fail(EFAULT);
  const uint32_t f = load(&s.record->flags);
  if (level == SOL_SOCKET && get_structure(&s, option, value, length) == 0) return 0;
  if (level == IPPROTO_TCP && option == TCP_INFO && (f & R_STREAM) != 0) {
    const int rc = tcp_info_get(&s, f, value, length);
    return rc == 0 ? 0 : fail(rc);
  }
  if (level == IPPROTO_TCP && option == TCP_CONGESTION && (f & R_STREAM) != 0) {
    const int rc = get_congestion(&s, value, length);
    return rc == 0 ? 0 : fail(rc);
  }
  int number = 0;
  int error = group_option_get(&s, level, option, &number);
  if (error == 0) {
    put(value, length, &number, sizeof number);
    return 0;
  }
  if (level == SOL_SOCKET) error = get_socket_option(&s, f, option, &number);
  if (level == IPPROTO_TCP) {
    error = (f & R_STREAM) != 0 ? get_tcp_option(&s, f, option, &number) : EOPNOTSUPP;
  }
  if (level == IPPROTO_IP || level == IPPROTO_IPV6) {
    error = get_ip_option(s.record, f, level, option, &number);
  }
  if (error != 0) return fail(error);
  put(value, length, &number, sizeof number);
  return 0;
}

/* ---- fcntl, ioctl ---- */

int postern_set_nonblocking(int fd, int on) {
  ENTER();
  struct sock s;
  return sock_lookup(fd, &s) != 0 ? -1 : set_flag(&s, R_NONBLOCK, on);
}

int postern_get_nonblocking(int fd) {
  ENTER();
  struct sock s;
  return sock_lookup(fd, &s) != 0 ? -1 : (load(&s.record->flags) & R_NONBLOCK) != 0;
}

int postern_unacknowledged(int fd) {
  ENTER();
  struct sock s;
  if (sock_lookup(fd, &s) != 0) return -1;
  drain(s.context, s.channel);
  return (int)(load_relaxed(&s.record->tx_tail) - load(&s.record->tx_acked));
}
