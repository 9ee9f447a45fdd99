/* connect: sends test data, receives it, or both, and checks every byte. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/postern.h"
#include "common/loop.h"
#include "common/pattern.h"
#include "common/sha256.h"
#include "echo/echo.h"

enum { BUFFER = 64 * 1024 };

struct client {
  struct source source;
  uint64_t sent, received;
  struct sha256 hash;
  bool connected, sending;
};

static char buffer[1 << 20];
static struct client* clients;

static void finish(struct client* c, const char* failure) {
  if (failure != NULL) {
    totals.failed++;
    fprintf(stderr, "%s: %s after %" PRIu64 " bytes sent, %" PRIu64 " received\n",
            endpoint_text(&options.peer), failure, c->sent, c->received);
  } else if (options.sha256) {
    char text[65];
    sha256_finish(&c->hash, text);
    printf("%s sha256 %s bytes %" PRIu64 "\n", endpoint_text(&options.peer), text, c->received);
  }
  loop_close(&c->source);
  totals.closed++;
  if (totals.closed == options.connections) loop_stop();
}

static void update_interest(struct client* c) {
  uint32_t events = c->sending ? POLLOUT : 0;
  /* A client that only sends still has to see the end of the connection. */
  events |= POLLIN;
  loop_wait_for(&c->source, events);
}

static bool send_more(struct client* c) {
  size_t length = options.size;
  if (options.bytes != 0 && options.bytes - c->sent < length) length = options.bytes - c->sent;
  pattern_fill(c->sent, buffer, length);
  const ssize_t n = postern_send(c->source.fd, buffer, length, MSG_NOSIGNAL);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return true;
    finish(c, strerror(errno));
    return false;
  }
  c->sent += (uint64_t)n;
  totals.sent += (uint64_t)n;
  if (options.bytes != 0 && c->sent == options.bytes) {
    c->sending = false;
    postern_shutdown(c->source.fd, SHUT_WR);
  }
  return true;
}

static void end_of_stream(struct client* c) {
  const bool short_of = options.direction == DIRECTION_ECHO && c->received != c->sent;
  finish(c, c->sending || short_of ? "the peer closed too early" : NULL);
}

static void receive_more(struct client* c) {
  const ssize_t n = postern_recv(c->source.fd, buffer, BUFFER, 0);
  if (n == 0) {
    end_of_stream(c);
    return;
  }
  if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) finish(c, strerror(errno));
    return;
  }
  if (pattern_match(c->received, buffer, (size_t)n) != (size_t)n) {
    totals.corrupt++;
    finish(c, "data differs from the test data");
    return;
  }
  if (options.sha256) sha256_add(&c->hash, buffer, (size_t)n);
  c->received += (uint64_t)n;
  totals.received += (uint64_t)n;
}

static bool complete_connect(struct client* c) {
  int error = 0;
  socklen_t length = sizeof error;
  postern_getsockopt(c->source.fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    finish(c, strerror(error));
    return false;
  }
  c->connected = true;
  c->sending = options.direction != DIRECTION_RECEIVE;
  return true;
}

static void client_ready(struct source* source, uint32_t events) {
  struct client* c = (struct client*)source;
  if (!c->connected && !complete_connect(c)) return;
  if (c->sending && (events & POLLOUT) != 0 && !send_more(c)) return;
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) {
    const uint64_t closed = totals.closed;
    receive_more(c);
    if (totals.closed != closed) return;
  }
  update_interest(c);
}

static int open_one(struct client* c) {
  const int fd = postern_socket(options.peer.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    fprintf(stderr, "cannot open a socket: %s\n", strerror(errno));
    return -1;
  }
  c->source = (struct source){fd, POLLOUT, client_ready};
  sha256_init(&c->hash);
  totals.opened++;
  if (postern_connect(fd, (const struct sockaddr*)&options.peer.address, options.peer.length) !=
          0 &&
      errno != EINPROGRESS) {
    fprintf(stderr, "cannot connect to %s: %s\n", endpoint_text(&options.peer), strerror(errno));
    return -1;
  }
  return loop_add(&c->source);
}

int tcp_client_start(void) {
  clients = calloc(options.connections, sizeof *clients);
  if (clients == NULL) {
    fprintf(stderr, "no memory for %u connections\n", options.connections);
    return -1;
  }
  for (uint32_t i = 0; i < options.connections; i++) {
    if (open_one(&clients[i]) != 0) return -1;
  }
  return 0;
}
