/* UDP: echo and sink. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/postern.h"
#include "common/loop.h"
#include "echo/echo.h"

enum { LARGEST = 65507, BURST = 64 };

static struct source server;
static char datagram[LARGEST];
static size_t held_length;
static struct endpoint held_peer;

/* False: no room, the datagram is held until there is. */
static bool answer(size_t length, const struct endpoint* to) {
  const ssize_t n = postern_sendto(server.fd, datagram, length, 0,
                                   (const struct sockaddr*)&to->address, to->length);
  if (n < 0 && errno == EAGAIN) {
    held_length = length;
    held_peer = *to;
    loop_wait_for(&server, POLLOUT);
    return false;
  }
  if (n >= 0) {
    totals.datagrams_out++;
    totals.sent += (uint64_t)n;
  } else {
    totals.lost++; /* e.g. too long to send in one piece, or no way there */
  }
  return true;
}

static void receive_some(void) {
  for (int i = 0; i < BURST; i++) {
    struct endpoint peer = {.length = sizeof peer.address};
    const ssize_t n = postern_recvfrom(server.fd, datagram, sizeof datagram, 0,
                                       (struct sockaddr*)&peer.address, &peer.length);
    if (n < 0) return; /* nothing more, or the error of an earlier answer, now cleared */
    totals.datagrams_in++;
    totals.received += (uint64_t)n;
    if (options.role == ROLE_ECHO && !answer((size_t)n, &peer)) return;
  }
}

static void server_ready(struct source* source, uint32_t events) {
  (void)events;
  if (source->events == POLLOUT) {
    if (!answer(held_length, &held_peer)) return;
    loop_wait_for(source, POLLIN);
  }
  receive_some();
}

int udp_server_start(const struct endpoint* at) {
  const int fd = open_server(at, SOCK_DGRAM);
  if (fd < 0) return -1;
  server = (struct source){fd, POLLIN, server_ready};
  return loop_add(&server);
}
