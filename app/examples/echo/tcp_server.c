/* TCP: echo, sink and source. */
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

enum { BUFFER = 64 * 1024, ACCEPT_BURST = 64 };

struct connection {
  struct source source;
  struct endpoint peer;
  uint64_t received, sent;
  char* held; /* echo: what the peer does not take yet; allocated only then */
  size_t held_from, held_to;
  struct sha256* hash; /* with --sha256 */
  bool corrupt;
};

static struct source listener;
static char buffer[BUFFER];

static void finish(struct connection* c, const char* failure) {
  if (c->hash != NULL && failure == NULL) {
    char text[65];
    sha256_finish(c->hash, text);
    printf("%s sha256 %s bytes %" PRIu64 "\n", endpoint_text(&c->peer), text, c->received);
    fflush(stdout);
  }
  if (failure != NULL) {
    totals.failed++;
    if (!options.quiet) fprintf(stderr, "%s: %s\n", endpoint_text(&c->peer), failure);
  }
  totals.closed++;
  totals.corrupt += c->corrupt;
  loop_close(&c->source);
  free(c->held);
  free(c->hash);
  free(c);
  if (options.stop_after != 0 && totals.closed >= options.stop_after) loop_stop();
}

/* Sends what it can at once. Returns how much, or -1 when the connection is over. */
static ssize_t send_some(struct connection* c, const char* data, size_t length) {
  const ssize_t n = postern_send(c->source.fd, data, length, MSG_NOSIGNAL);
  if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  c->sent += (uint64_t)n;
  totals.sent += (uint64_t)n;
  return n;
}

static bool hold(struct connection* c, const char* data, size_t length) {
  if (c->held == NULL) c->held = malloc(BUFFER);
  if (c->held == NULL) return false;
  memcpy(c->held, data, length);
  c->held_from = 0;
  c->held_to = length;
  loop_wait_for(&c->source, POLLOUT);
  return true;
}

static void echo_back(struct connection* c, size_t length) {
  const ssize_t n = send_some(c, buffer, length);
  if (n < 0) {
    finish(c, strerror(errno));
  } else if ((size_t)n < length && !hold(c, buffer + n, length - (size_t)n)) {
    finish(c, "no memory");
  }
}

static void flush_held(struct connection* c) {
  const ssize_t n = send_some(c, c->held + c->held_from, c->held_to - c->held_from);
  if (n < 0) {
    finish(c, strerror(errno));
    return;
  }
  c->held_from += (size_t)n;
  if (c->held_from < c->held_to) return;
  free(c->held);
  c->held = NULL;
  loop_wait_for(&c->source, POLLIN);
}

static void take(struct connection* c, size_t length) {
  if (c->hash != NULL) sha256_add(c->hash, buffer, length);
  if (options.verify && !c->corrupt && pattern_match(c->received, buffer, length) != length) {
    fprintf(stderr, "%s: data differs near byte %" PRIu64 "\n", endpoint_text(&c->peer),
            c->received + pattern_match(c->received, buffer, length));
    c->corrupt = true;
  }
  c->received += length;
  totals.received += length;
}

static void receive(struct connection* c) {
  const ssize_t n = postern_recv(c->source.fd, buffer, sizeof buffer, 0);
  if (n == 0) {
    finish(c, NULL);
  } else if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) finish(c, strerror(errno));
  } else {
    take(c, (size_t)n);
    if (options.role == ROLE_ECHO) echo_back(c, (size_t)n);
  }
}

/* Source: fills the connection, and closes it after the last byte. */
static void pour(struct connection* c) {
  size_t length = sizeof buffer;
  if (options.bytes != 0 && options.bytes - c->sent < length) length = options.bytes - c->sent;
  pattern_fill(c->sent, buffer, length);
  if (send_some(c, buffer, length) < 0) {
    finish(c, strerror(errno));
  } else if (options.bytes != 0 && c->sent == options.bytes) {
    postern_shutdown(c->source.fd, SHUT_WR);
    loop_wait_for(&c->source, POLLIN);
  }
}

static void connection_ready(struct source* source, uint32_t events) {
  struct connection* c = (struct connection*)source;
  if (source->events & POLLOUT) {
    if (options.role == ROLE_SOURCE) {
      pour(c);
    } else {
      flush_held(c);
    }
  } else if (events != 0) {
    receive(c);
  }
}

static void adopt(int fd, const struct endpoint* peer) {
  struct connection* c = calloc(1, sizeof *c);
  if (c != NULL && options.sha256) c->hash = malloc(sizeof *c->hash);
  if (c == NULL || (options.sha256 && c->hash == NULL)) {
    fprintf(stderr, "no memory for a connection\n");
    free(c);
    postern_close(fd);
    return;
  }
  if (c->hash != NULL) sha256_init(c->hash);
  c->source = (struct source){fd, options.role == ROLE_SOURCE ? POLLOUT : POLLIN, connection_ready};
  c->peer = *peer;
  totals.opened++;
  if (loop_add(&c->source) != 0) finish(c, strerror(errno));
}

static void accept_some(struct source* source, uint32_t events) {
  (void)events;
  for (int i = 0; i < ACCEPT_BURST; i++) {
    struct endpoint peer = {.length = sizeof peer.address};
    const int fd =
        postern_accept4(source->fd, (struct sockaddr*)&peer.address, &peer.length, SOCK_NONBLOCK);
    if (fd >= 0) {
      adopt(fd, &peer);
    } else if (errno == EAGAIN || loop_daemon_gone()) {
      return;
    } else if (errno != ECONNABORTED && errno != EINTR) {
      fprintf(stderr, "cannot accept: %s\n", strerror(errno));
      return;
    }
  }
}

int tcp_server_start(const struct endpoint* at) {
  const int fd = open_server(at, SOCK_STREAM);
  if (fd < 0) return -1;
  listener = (struct source){fd, POLLIN, accept_some};
  return loop_add(&listener);
}
