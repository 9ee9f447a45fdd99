/* Ancillary data of datagrams: what sendmsg() is told and recvmsg() tells beside the payload. RFC
 * 3542 and ip(7). An interface is named by its number in `postern show interfaces` plus one. */

#include <fcntl.h> /* struct timespec, which the next one needs */
#include <linux/errqueue.h>

#include "client/internal.h"

enum { OLD_HOPLIMIT = 8 }; /* IPV6_2292HOPLIMIT, option and message: what iputils ask for */

/* ---- what a socket wants to be told ---- */

static const struct {
  int level;
  int option;
  uint32_t bit;
} wishes[] = {
    {IPPROTO_IP, IP_PKTINFO, TELL_PKTINFO},
    {IPPROTO_IP, IP_RECVTOS, TELL_TOS},
    {IPPROTO_IP, IP_RECVTTL, TELL_TTL},
    {IPPROTO_IP, IP_RECVORIGDSTADDR, TELL_DESTINATION},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, TELL_PKTINFO6},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, TELL_TCLASS},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, TELL_HOPLIMIT},
    {IPPROTO_IPV6, OLD_HOPLIMIT, TELL_HOPLIMIT_OLD},
};

static uint32_t wish(int level, int option) {
  for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; ++i) {
    if (wishes[i].level == level && wishes[i].option == option) return wishes[i].bit;
  }
  return 0;
}

int ancillary_set(struct record* r, int level, int option, int on) {
  const uint32_t bit = wish(level, option);
  if (bit == 0 || (load(&r->flags) & R_STREAM) != 0) return ENOPROTOOPT;
  if (on != 0) {
    fetch_or(&r->ancillary, bit);
  } else {
    fetch_and(&r->ancillary, ~bit);
  }
  return 0;
}

int ancillary_get(const struct record* r, int level, int option, int* on) {
  const uint32_t bit = wish(level, option);
  if (bit == 0 || (load(&r->flags) & R_STREAM) != 0) return ENOPROTOOPT;
  *on = (load_relaxed(&r->ancillary) & bit) != 0;
  return 0;
}

/* ---- telling ---- */

struct writer {
  uint8_t* at;
  size_t room;
  size_t used;
  bool truncated;
};

/* As Linux does it: what does not fit whole is cut, and MSG_CTRUNC says so. */
static void put(struct writer* w, int level, int type, const void* data, size_t size) {
  struct cmsghdr h = {.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(size)};
  const size_t left = w->room - w->used;
  if (left < CMSG_LEN(0)) {
    w->truncated = true;
    return;
  }
  if (h.cmsg_len > left) {
    w->truncated = true;
    h.cmsg_len = left;
  }
  memcpy(w->at + w->used, &h, sizeof h);
  memcpy(w->at + w->used + CMSG_LEN(0), data, h.cmsg_len - CMSG_LEN(0));
  const size_t space = CMSG_SPACE(size);
  w->used += space < left ? space : left;
}

static void put_pktinfo(struct writer* w, const struct shm_datagram* d) {
  struct in_pktinfo info = {.ipi_ifindex = d->interface + 1};
  memcpy(&info.ipi_addr, d->local + 12, sizeof info.ipi_addr);
  info.ipi_spec_dst = info.ipi_addr;
  put(w, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
}

static void put_pktinfo6(struct writer* w, const struct shm_datagram* d) {
  struct in6_pktinfo info = {.ipi6_ifindex = d->interface + 1U};
  memcpy(&info.ipi6_addr, d->local, sizeof info.ipi6_addr);
  put(w, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
}

static void put_destination(struct writer* w, const struct shm_datagram* d, uint16_t port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  memcpy(&to.sin_addr, d->local + 12, sizeof to.sin_addr);
  put(w, IPPROTO_IP, IP_ORIGDSTADDR, &to, sizeof to);
}

static struct writer writer_of(struct msghdr* m) {
  return (struct writer){.at = m->msg_control,
                         .room = m->msg_control != NULL ? m->msg_controllen : 0};
}

static void put_wishes(struct writer* to, const struct record* r, const struct shm_datagram* d) {
  const uint32_t told = load_relaxed(&r->ancillary);
  struct writer w = *to;
  const bool v4 = address_is_v4(d->local);
  const int ttl = d->ttl, tos = d->tos;
  if (v4 && (told & TELL_PKTINFO) != 0) put_pktinfo(&w, d);
  if (v4 && (told & TELL_TTL) != 0) put(&w, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
  if (v4 && (told & TELL_TOS) != 0) put(&w, IPPROTO_IP, IP_TOS, &d->tos, sizeof d->tos);
  if (v4 && (told & TELL_DESTINATION) != 0) put_destination(&w, d, r->local_port);
  if ((told & TELL_PKTINFO6) != 0) put_pktinfo6(&w, d);
  if (!v4 && (told & TELL_HOPLIMIT) != 0) put(&w, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof ttl);
  if (!v4 && (told & TELL_HOPLIMIT_OLD) != 0) {
    put(&w, IPPROTO_IPV6, OLD_HOPLIMIT, &ttl, sizeof ttl);
  }
  if (!v4 && (told & TELL_TCLASS) != 0) put(&w, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
  *to = w;
}

bool ancillary_write(const struct record* r, const struct shm_datagram* d, struct msghdr* m) {
  struct writer w = writer_of(m);
  put_wishes(&w, r, d);
  m->msg_controllen = w.used;
  return w.truncated;
}

/* The error, then the name of who sent it: ip(7), SO_EE_OFFENDER. */
static void put_error(struct writer* w, const struct shm_error* e, bool v6) {
  struct {
    struct sock_extended_err error;
    union {
      struct sockaddr_in v4;
      struct sockaddr_in6 v6;
    } offender;
  } block = {.error = {.ee_errno = e->error,
                       .ee_origin = e->origin,
                       .ee_type = e->type,
                       .ee_code = e->code,
                       .ee_info = e->info}};
  _Static_assert(sizeof block.error == 16, "the name follows at once");
  if (e->origin != SO_EE_ORIGIN_LOCAL) {
    socklen_t length = sizeof block.offender;
    address_write((struct sockaddr*)&block.offender, &length, v6, e->offender, 0, e->zone);
  }
  const size_t name = v6 ? sizeof block.offender.v6 : sizeof block.offender.v4;
  put(w, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &block,
      sizeof block.error + name);
}

bool ancillary_write_error(const struct record* r, const struct shm_error* e, struct msghdr* m) {
  struct writer w = writer_of(m);
  const bool v6 = (load_relaxed(&r->flags) & R_V6) != 0;
  if (e->origin != SO_EE_ORIGIN_LOCAL) {
    struct shm_datagram d = {.ttl = e->ttl, .interface = (uint16_t)(e->zone - 1)};
    memcpy(d.local, r->local_address, sizeof d.local);
    if (address_is_v4(e->offender)) memset(d.local, 0, 10), memset(d.local + 10, 0xff, 2);
    put_wishes(&w, r, &d);
  }
  put_error(&w, e, v6);
  m->msg_controllen = w.used;
  return w.truncated;
}

/* ---- being told ---- */

static int read_int(const struct cmsghdr* h, int least, int most, int* to) {
  if (h->cmsg_len != CMSG_LEN(sizeof *to)) return EINVAL;
  memcpy(to, CMSG_DATA(h), sizeof *to);
  return *to < least || *to > most ? EINVAL : 0;
}

/* Linux takes IP_TOS as a byte as well. */
static int read_tos(const struct cmsghdr* h, struct shm_datagram* d) {
  int value = 0;
  if (h->cmsg_type == IP_TOS && h->cmsg_len == CMSG_LEN(1)) {
    d->tos = *CMSG_DATA(h);
    return 0;
  }
  const int error = read_int(h, 0, 255, &value);
  if (error == 0) d->tos = (uint8_t)value;
  return error;
}

static int read_ttl(const struct cmsghdr* h, struct shm_datagram* d) {
  int value = 0;
  const int error = read_int(h, 1, 255, &value);
  if (error == 0) d->ttl = (uint8_t)value;
  return error;
}

static void mapped_address(uint8_t to[16], const struct in_addr* from) {
  memset(to, 0, 16);
  if (from->s_addr == 0) return; /* left to the daemon */
  to[10] = to[11] = 0xff;
  memcpy(to + 12, from, sizeof *from);
}

static int read_pktinfo(const struct cmsghdr* h, struct shm_datagram* d) {
  struct in_pktinfo info;
  if (h->cmsg_len != CMSG_LEN(sizeof info)) return EINVAL;
  memcpy(&info, CMSG_DATA(h), sizeof info);
  mapped_address(d->local, &info.ipi_spec_dst);
  if (info.ipi_ifindex != 0) d->interface = (uint16_t)info.ipi_ifindex;
  return 0;
}

static int read_pktinfo6(const struct cmsghdr* h, struct shm_datagram* d) {
  struct in6_pktinfo info;
  if (h->cmsg_len < CMSG_LEN(sizeof info)) return EINVAL;
  memcpy(&info, CMSG_DATA(h), sizeof info);
  memcpy(d->local, &info.ipi6_addr, sizeof info.ipi6_addr);
  if (info.ipi6_ifindex != 0) d->interface = (uint16_t)info.ipi6_ifindex;
  return 0;
}

static int read_v4(const struct cmsghdr* h, struct shm_datagram* d) {
  switch (h->cmsg_type) {
    case IP_PKTINFO:
      return read_pktinfo(h, d);
    case IP_TOS:
      return read_tos(h, d);
    case IP_TTL:
      return read_ttl(h, d);
    default:
      return EINVAL;
  }
}

static int read_v6(const struct cmsghdr* h, struct shm_datagram* d) {
  if (!d->is_v6) return 0; /* Linux looks at its own family's only */
  switch (h->cmsg_type) {
    case IPV6_PKTINFO:
      return read_pktinfo6(h, d);
    case IPV6_TCLASS:
      return read_tos(h, d);
    case IPV6_HOPLIMIT:
      return read_ttl(h, d);
    default:
      return EINVAL;
  }
}

/* SCM_RIGHTS and SCM_CREDENTIALS mean nothing here, and Linux lets them pass. */
static int read_socket(const struct cmsghdr* h) {
  return h->cmsg_type == SCM_RIGHTS || h->cmsg_type == SCM_CREDENTIALS ? 0 : EINVAL;
}

int ancillary_read(const struct msghdr* message, struct shm_datagram* d) {
  struct msghdr* m = (struct msghdr*)(uintptr_t)message;
  for (struct cmsghdr* h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
    const size_t left = m->msg_controllen - (size_t)((uint8_t*)h - (uint8_t*)m->msg_control);
    if (h->cmsg_len < sizeof *h || h->cmsg_len > left) return EINVAL;
    int error = 0;
    if (h->cmsg_level == SOL_SOCKET) error = read_socket(h);
    if (d != NULL && h->cmsg_level == IPPROTO_IP) error = read_v4(h, d);
    if (d != NULL && h->cmsg_level == IPPROTO_IPV6) error = read_v6(h, d);
    if (d != NULL && h->cmsg_level == IPPROTO_UDP) error = EINVAL; /* UDP_SEGMENT: not served */
    if (error != 0) return error;
  }
  return 0;
}
