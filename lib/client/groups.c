/* Groups and broadcasts: the options of datagram sockets (RFC 3493 5.2, RFC 3678, Linux' ip(7) and
 * ipv6(7)). Which group a socket is in the daemon knows, who answers at once; the rest is kept in
 * the record as other options are. */
#include <arpa/inet.h>
#include <netinet/ip.h>

#include "client/internal.h"

/* netinet/in.h has these only by other names or not at all. */
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

enum { GROUP_MINOR_VERSION = 3 };

/* What a membership option says, whichever its form. */
struct membership {
  uint16_t change; /* enum shm_group_change */
  uint32_t interface;
  uint8_t group[16];
  uint8_t source[16];
  uint8_t at[16]; /* an address of the interface; all zero if `interface` says it */
};

static void put_v4(uint8_t address[16], struct in_addr from) {
  memset(address, 0, 16);
  address[10] = address[11] = 0xff;
  memcpy(address + 12, &from, 4);
}

/* ---- asking the daemon ---- */

static int ask(const struct sock* s, const struct membership* m, uint16_t* interface) {
  struct context* c = s->context;
  if (c->daemon_header->version_minor < GROUP_MINOR_VERSION) return ENOPROTOOPT;
  union {
    struct shm_group_request group;
    struct shm_bind_request bytes; /* of the same size */
  } q = {.group = {.type = SHM_REQ_GROUP, .change = m->change}};
  struct shm_bind_reply reply;
  if (m->interface >= UINT16_MAX) return ENODEV;
  q.group.interface = (uint16_t)m->interface;
  memcpy(q.group.group, m->group, 16);
  memcpy(q.group.source, m->source, 16);
  if ((load(&s->record->flags) & R_BOUND) == 0) q.group.change |= SHM_GROUP_UNBOUND;
  for (uint32_t i = s->index; i != NONE; i = load_relaxed(&record_at(c, i)->sibling)) {
    struct shm_handle* h = &q.group.handles[channel_of(c, i)->index];
    h->slot = slot_of(c, i);
    h->generation = load_relaxed(&record_at(c, i)->generation);
  }
  const int error = session_call(c, &q.bytes, &reply);
  *interface = reply.port;
  return error;
}

/* The interface with an address; 0 for none given. 0 or ENODEV. */
static int find_interface(const struct sock* s, const uint8_t at[16], uint32_t* interface) {
  if (address_is_any(at)) return 0;
  struct membership m = {.change = SHM_GROUP_FIND};
  uint16_t found = 0;
  memcpy(m.source, at, 16);
  const int error = ask(s, &m, &found);
  if (error == 0) *interface = found;
  return error;
}

static int change(const struct sock* s, struct membership* m) {
  uint16_t ignored;
  tx_acquire(s); /* it is not bound meanwhile */
  int error = sock_alive(s) ? find_interface(s, m->at, &m->interface) : EBADF;
  if (error == 0) error = ask(s, m, &ignored);
  tx_unlock(s);
  return error;
}

/* ---- the forms of membership options ---- */

static int read_mreq(const void* value, socklen_t length, struct membership* m) {
  struct ip_mreqn r = {0};
  if (length < sizeof(struct ip_mreq)) return EINVAL;
  memcpy(&r, value, length < sizeof r ? sizeof(struct ip_mreq) : sizeof r);
  put_v4(m->group, r.imr_multiaddr);
  if (r.imr_ifindex < 0) return ENODEV;
  m->interface = (uint32_t)r.imr_ifindex;
  if (m->interface == 0) put_v4(m->at, r.imr_address);
  return 0;
}

static int read_mreq_source(const void* value, socklen_t length, struct membership* m) {
  struct ip_mreq_source r;
  if (length < sizeof r) return EINVAL;
  memcpy(&r, value, sizeof r);
  put_v4(m->group, r.imr_multiaddr);
  put_v4(m->source, r.imr_sourceaddr);
  put_v4(m->at, r.imr_interface);
  return 0;
}

static int read_mreq6(const void* value, socklen_t length, struct membership* m) {
  struct ipv6_mreq r;
  if (length < sizeof r) return EINVAL;
  memcpy(&r, value, sizeof r);
  memcpy(m->group, &r.ipv6mr_multiaddr, 16);
  m->interface = r.ipv6mr_interface;
  return 0;
}

static int read_address(const struct sockaddr_storage* from, int level, uint8_t to[16]) {
  uint16_t port;
  return address_read((const struct sockaddr*)from, sizeof *from, level == IPPROTO_IPV6, to, &port);
}

/* group_req is the beginning of group_source_req. */
static int read_group_req(int level, const void* value, socklen_t length, bool sources,
                          struct membership* m) {
  struct group_source_req r;
  const size_t size = sources ? sizeof r : sizeof(struct group_req);
  if (length < size) return EINVAL;
  memcpy(&r, value, size);
  m->interface = r.gsr_interface;
  const int error = read_address(&r.gsr_group, level, m->group);
  return error != 0 || !sources ? error : read_address(&r.gsr_source, level, m->source);
}

/* 0 and a change; ENOPROTOOPT: no membership option; or another errno. */
static int read_membership(int level, int option, const void* value, socklen_t length,
                           struct membership* m) {
  static const struct {
    int option;
    uint16_t change;
    bool sources;
  } protocol_independent[] = {
      {MCAST_JOIN_GROUP, SHM_GROUP_JOIN, false},
      {MCAST_LEAVE_GROUP, SHM_GROUP_LEAVE, false},
      {MCAST_JOIN_SOURCE_GROUP, SHM_GROUP_ALLOW, true},
      {MCAST_LEAVE_SOURCE_GROUP, SHM_GROUP_DISALLOW, true},
      {MCAST_BLOCK_SOURCE, SHM_GROUP_BLOCK, true},
      {MCAST_UNBLOCK_SOURCE, SHM_GROUP_UNBLOCK, true},
  };
  for (size_t i = 0; i < sizeof protocol_independent / sizeof protocol_independent[0]; ++i) {
    if (protocol_independent[i].option != option) continue;
    m->change = protocol_independent[i].change;
    return read_group_req(level, value, length, protocol_independent[i].sources, m);
  }
  if (level == IPPROTO_IPV6) {
    if (option != IPV6_JOIN_GROUP && option != IPV6_LEAVE_GROUP) return ENOPROTOOPT;
    m->change = option == IPV6_JOIN_GROUP ? SHM_GROUP_JOIN : SHM_GROUP_LEAVE;
    return read_mreq6(value, length, m);
  }
  switch (option) {
    case IP_ADD_MEMBERSHIP:
    case IP_DROP_MEMBERSHIP:
      m->change = option == IP_ADD_MEMBERSHIP ? SHM_GROUP_JOIN : SHM_GROUP_LEAVE;
      return read_mreq(value, length, m);
    case IP_ADD_SOURCE_MEMBERSHIP:
      m->change = SHM_GROUP_ALLOW;
      return read_mreq_source(value, length, m);
    case IP_DROP_SOURCE_MEMBERSHIP:
      m->change = SHM_GROUP_DISALLOW;
      return read_mreq_source(value, length, m);
    case IP_BLOCK_SOURCE:
      m->change = SHM_GROUP_BLOCK;
      return read_mreq_source(value, length, m);
    case IP_UNBLOCK_SOURCE:
      m->change = SHM_GROUP_UNBLOCK;
      return read_mreq_source(value, length, m);
    default:
      return ENOPROTOOPT;
  }
}

bool group_is_membership(int level, int option) {
  struct membership m;
  return (level == IPPROTO_IP || level == IPPROTO_IPV6) &&
         read_membership(level, option, NULL, 0, &m) != ENOPROTOOPT;
}

/* ---- the other options ---- */

static int set_flag(const struct sock* s, uint32_t flag, bool on, uint16_t option, bool value) {
  if (on) {
    fetch_or(&s->record->flags, flag);
  } else {
    fetch_and(&s->record->flags, ~flag);
  }
  if ((load(&s->record->flags) & R_STREAM) == 0) option_send(s, option, value);
  return 0;
}

static int set_interface(const struct sock* s, uint32_t interface, struct in_addr at) {
  struct options* o = &s->record->options;
  if (interface >= UINT16_MAX) return ENODEV;
  o->group_interface = (uint16_t)interface;
  memcpy(&o->group_address, &at, sizeof o->group_address);
  option_send(s, SHM_OPT_GROUP_INTERFACE, interface);
  return 0;
}

/* An address, or one of the structures whose last part is the interface. */
static int set_interface4(const struct sock* s, const void* value, socklen_t length) {
  struct ip_mreqn r = {0};
  uint8_t at[16];
  if (length < sizeof r.imr_address) return EINVAL;
  if (length >= sizeof(struct ip_mreq)) {
    memcpy(&r, value, length < sizeof r ? sizeof(struct ip_mreq) : sizeof r);
  } else {
    memcpy(&r.imr_address, value, sizeof r.imr_address);
  }
  if (r.imr_ifindex != 0) {
    return r.imr_ifindex < 0 ? ENODEV : set_interface(s, (uint32_t)r.imr_ifindex, r.imr_address);
  }
  uint32_t interface = 0;
  put_v4(at, r.imr_address);
  const int error = find_interface(s, at, &interface);
  return error == 0 ? set_interface(s, interface, r.imr_address)
                    : (error == ENODEV ? EADDRNOTAVAIL : error);
}

static int set_ttl(const struct sock* s, int v) {
  if (v == -1) v = 1; /* the default */
  if (v < 0 || v > 255) return EINVAL;
  s->record->options.group_ttl = (uint8_t)(v ^ 1);
  option_send(s, SHM_OPT_GROUP_TTL, (uint32_t)v);
  return 0;
}

/* Options of IPv4 may be a byte, for BSD's sake. */
static int read_number(int level, const void* value, socklen_t length, int* v) {
  if (length >= sizeof *v) {
    memcpy(v, value, sizeof *v);
    return 0;
  }
  if (level != IPPROTO_IP || length == 0) return EINVAL;
  *v = *(const uint8_t*)value;
  return 0;
}

int group_option_set(const struct sock* s, int level, int option, const void* value,
                     socklen_t length) {
  const uint32_t f = load(&s->record->flags);
  const bool v6 = level == IPPROTO_IPV6;
  int v = 0;
  if (level == SOL_SOCKET) {
    if (option != SO_BROADCAST) return ENOPROTOOPT;
    const int error = read_number(level, value, length, &v);
    return error != 0 ? error : set_flag(s, R_BROADCAST, v != 0, SHM_OPT_BROADCAST, v != 0);
  }
  if ((f & R_STREAM) != 0) return ENOPROTOOPT;
  if ((level != IPPROTO_IP && !v6) || (v6 && (f & R_V6) == 0)) return ENOPROTOOPT;
  if (group_is_membership(level, option)) {
    struct membership m = {0};
    const int error = read_membership(level, option, value, length, &m);
    return error != 0 ? error : change(s, &m);
  }
  if (level == IPPROTO_IP && option == IP_MULTICAST_IF) return set_interface4(s, value, length);
  const bool loop = option == (v6 ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP);
  const bool others = option == (v6 ? IPV6_MULTICAST_ALL : IP_MULTICAST_ALL);
  const bool ttl = option == (v6 ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL);
  const bool interface6 = v6 && option == IPV6_MULTICAST_IF;
  if (!loop && !others && !ttl && !interface6) return ENOPROTOOPT;
  const int error = read_number(level, value, length, &v);
  if (error != 0) return error;
  if (ttl) return set_ttl(s, v);
  if (interface6) return v < 0 ? EINVAL : set_interface(s, (uint32_t)v, (struct in_addr){0});
  return loop ? set_flag(s, R_NO_GROUP_LOOP, v == 0, SHM_OPT_GROUP_LOOP, v != 0)
              : set_flag(s, R_NO_GROUP_OTHERS, v == 0, SHM_OPT_GROUP_OTHERS, v != 0);
}

int group_option_get(const struct sock* s, int level, int option, int* v) {
  const uint32_t f = load(&s->record->flags);
  const struct options* o = &s->record->options;
  const bool v6 = level == IPPROTO_IPV6;
  if (level == SOL_SOCKET && option == SO_BROADCAST) return *v = (f & R_BROADCAST) != 0, 0;
  if ((f & R_STREAM) != 0 || (level != IPPROTO_IP && !v6)) return ENOPROTOOPT;
  if (v6 && (f & R_V6) == 0) return ENOPROTOOPT;
  if (option == (v6 ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP)) {
    return *v = (f & R_NO_GROUP_LOOP) == 0, 0;
  }
  if (option == (v6 ? IPV6_MULTICAST_ALL : IP_MULTICAST_ALL)) {
    return *v = (f & R_NO_GROUP_OTHERS) == 0, 0;
  }
  if (option == (v6 ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL)) return *v = o->group_ttl ^ 1, 0;
  if (v6 && option == IPV6_MULTICAST_IF) return *v = o->group_interface, 0;
  if (!v6 && option == IP_MULTICAST_IF) return memcpy(v, &o->group_address, sizeof *v), 0;
  return ENOPROTOOPT;
}

void group_options_send(struct context* c, uint32_t index) {
  const struct record* r = record_at(c, index);
  const struct options* o = &r->options;
  const uint32_t f = load(&record_at(c, load_relaxed(&r->primary))->flags);
  const struct {
    bool set;
    uint16_t option;
    uint32_t value;
  } all[] = {
      {(f & R_BROADCAST) != 0, SHM_OPT_BROADCAST, 1},
      {(f & R_NO_GROUP_LOOP) != 0, SHM_OPT_GROUP_LOOP, 0},
      {(f & R_NO_GROUP_OTHERS) != 0, SHM_OPT_GROUP_OTHERS, 0},
      {o->group_ttl != 0, SHM_OPT_GROUP_TTL, o->group_ttl ^ 1U},
      {o->group_interface != 0, SHM_OPT_GROUP_INTERFACE, o->group_interface},
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i) {
    if (!all[i].set) continue;
    command_push(
        c, index,
        &(struct command){.op = SHM_OP_SETOPT, .arg = all[i].option, .length = all[i].value});
  }
}

/* RFC 919: the limited broadcast, to which only some sockets may send. */
bool group_forbids(const struct record* r, const uint8_t address[16]) {
  static const uint8_t limited[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255};
  return (load(&r->flags) & R_BROADCAST) == 0 && memcmp(address, limited, sizeof limited) == 0;
}
