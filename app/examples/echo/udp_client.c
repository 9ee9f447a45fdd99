/* connect --udp: datagrams, one outstanding a socket, each answer checked. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/postern.h"
#include "common/loop.h"
#include "common/pattern.h"
#include "echo/echo.h"

struct flow {
  struct source source;
  uint64_t position; /* test data of the outstanding datagram starts here */
  uint64_t sent;     /* bytes, --bytes ends it */
  unsigned ticks;    /* since it was sent */
  bool done;
};

static char datagram[65536];
static struct flow* flows;
static uint32_t finished;

static void finish(struct flow* f) {
  f->done = true;
  loop_close(&f->source);
  totals.closed++;
  if (++finished == options.connections) loop_stop();
}

static void send_next(struct flow* f) {
  if (options.bytes != 0 && f->sent >= options.bytes) {
    finish(f);
    return;
  }
  f->position = f->sent;
  f->ticks = 0;
  pattern_fill(f->position, datagram, options.size);
  const ssize_t n = postern_send(f->source.fd, datagram, options.size, 0);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) {
      loop_wait_for(&f->source, POLLIN | POLLOUT);
    } else {
      totals.failed++;
      fprintf(stderr, "%s: %s\n", endpoint_text(&options.peer), strerror(errno));
      finish(f);
    }
    return;
  }
  f->sent += options.size > 0 ? options.size : 1;
  totals.datagrams_out++;
  totals.sent += (uint64_t)n;
  const bool waits_for_answer = options.direction == DIRECTION_ECHO;
  loop_wait_for(&f->source, waits_for_answer ? POLLIN : POLLOUT);
}

static void receive_answer(struct flow* f) {
  const ssize_t n = postern_recv(f->source.fd, datagram, sizeof datagram, 0);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    totals.failed++;
    fprintf(stderr, "%s: %s\n", endpoint_text(&options.peer), strerror(errno));
    finish(f);
    return;
  }
  totals.datagrams_in++;
  totals.received += (uint64_t)n;
  const size_t length = (size_t)n;
  if (length != options.size || pattern_match(f->position, datagram, length) != length) {
    totals.corrupt++;
  }
  send_next(f);
}

static void flow_ready(struct source* source, uint32_t events) {
  struct flow* f = (struct flow*)source;
  if ((events & (POLLIN | POLLERR)) != 0) {
    receive_answer(f);
  } else if ((events & POLLOUT) != 0) {
    send_next(f);
  }
}

void udp_client_tick(void) {
  if (flows == NULL || options.direction != DIRECTION_ECHO) return;
  for (uint32_t i = 0; i < options.connections; i++) {
    if (flows[i].done || ++flows[i].ticks < 2) continue;
    totals.lost++;
    send_next(&flows[i]);
  }
}

static int open_one(struct flow* f) {
  const int fd = postern_socket(options.peer.address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  if (fd < 0 || postern_connect(fd, (const struct sockaddr*)&options.peer.address,
                                options.peer.length) != 0) {
    fprintf(stderr, "cannot reach %s: %s\n", endpoint_text(&options.peer), strerror(errno));
    return -1;
  }
  f->source = (struct source){fd, POLLOUT, flow_ready};
  totals.opened++;
  return loop_add(&f->source);
}

int udp_client_start(void) {
  flows = calloc(options.connections, sizeof *flows);
  if (flows == NULL) {
    fprintf(stderr, "no memory for %u sockets\n", options.connections);
    return -1;
  }
  for (uint32_t i = 0; i < options.connections; i++) {
    if (open_one(&flows[i]) != 0) return -1;
  }
  return 0;
}
