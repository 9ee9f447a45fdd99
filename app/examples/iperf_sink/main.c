/* A peer for iperf3's client: `iperf3 -c ADDRESS`, TCP, also with -R and -P. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/postern.h"
#include "common/loop.h"
#include "iperf_sink/test.h"

static const char help[] =
    "Usage: iperf_sink [options]\n"
    "\n"
    "Serves iperf3's client over posternd's sockets: TCP tests in either direction (-R), with any\n"
    "number of streams up to 128 (-P), one test at a time.\n"
    "\n"
    "  --port PORT        (5201)\n"
    "  --address ADDRESS  listen on this address only (0.0.0.0)\n"
    "  --busy             spin instead of sleeping\n"
    "  --socket PATH      posternd's application socket (POSTERN_SOCKET, else\n"
    "                     /run/postern/postern.sock)\n";

/* A connection that has not yet sent its whole cookie. */
struct newcomer {
  struct source source;
  struct endpoint peer;
  char cookie[COOKIE_SIZE];
  size_t have;
  double since;
  struct newcomer *next, **link;
};

enum { PATIENCE = 10 }; /* seconds for a cookie */

static struct source listener;
static struct newcomer* newcomers;

/* Takes it out of the list; its socket stays. */
static void forget(struct newcomer* n) {
  *n->link = n->next;
  if (n->next != NULL) n->next->link = n->link;
  free(n);
}

static void dismiss(struct newcomer* n) {
  loop_close(&n->source);
  forget(n);
}

/* The queue names the newcomer, which goes: its socket enters anew under its next owner. */
static void pass_on(struct newcomer* n) {
  const int fd = n->source.fd;
  loop_remove(&n->source);
  if (!test_active()) {
    test_begin(fd, n->cookie, &n->peer);
  } else if (!test_add_stream(fd, n->cookie)) {
    const signed char denied = ACCESS_DENIED;
    postern_send(fd, &denied, 1, MSG_NOSIGNAL);
    postern_close(fd);
  }
  forget(n);
}

static void newcomer_ready(struct source* source, uint32_t events) {
  (void)events;
  struct newcomer* n = (struct newcomer*)source;
  const ssize_t got = postern_recv(source->fd, n->cookie + n->have, COOKIE_SIZE - n->have, 0);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
    dismiss(n);
  } else if (got > 0 && (n->have += (size_t)got) == COOKIE_SIZE) {
    pass_on(n);
  }
}

static void accept_one(struct source* source, uint32_t events) {
  (void)events;
  struct endpoint peer = {.length = sizeof peer.address};
  const int fd =
      postern_accept4(source->fd, (struct sockaddr*)&peer.address, &peer.length, SOCK_NONBLOCK);
  if (fd < 0) {
    (void)loop_daemon_gone();
    return;
  }
  struct newcomer* n = calloc(1, sizeof *n);
  if (n == NULL) {
    postern_close(fd);
    return;
  }
  *n = (struct newcomer){.source = {fd, POLLIN, newcomer_ready},
                         .peer = peer,
                         .since = now_seconds(),
                         .next = newcomers,
                         .link = &newcomers};
  if (newcomers != NULL) newcomers->link = &n->next;
  newcomers = n;
  if (loop_add(&n->source) != 0) dismiss(n);
}

static void tick(void) {
  test_tick();
  const double now = now_seconds();
  for (struct newcomer *n = newcomers, *next; n != NULL; n = next) {
    next = n->next;
    if (now - n->since > PATIENCE) dismiss(n);
  }
}

int main(int argc, char** argv) {
  static const struct option known[] = {
      {"port", required_argument, NULL, 'p'}, {"address", required_argument, NULL, 'a'},
      {"busy", no_argument, NULL, 'b'},       {"socket", required_argument, NULL, 's'},
      {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
  const char *address = "0.0.0.0", *socket_path = NULL;
  uint16_t port = 5201;
  bool busy = false;
  for (int id; (id = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
    switch (id) {
      case 'p':
        port = (uint16_t)parse_number("--port", optarg, 1, 65535);
        break;
      case 'a':
        address = optarg;
        break;
      case 'b':
        busy = true;
        break;
      case 's':
        socket_path = optarg;
        break;
      case 'h':
        fputs(help, stdout);
        return 0;
      default:
        fprintf(stderr, "see iperf_sink --help\n");
        return 2;
    }
  }
  struct endpoint at;
  if (optind < argc || resolve(address, port, &at) != 0) {
    fprintf(stderr, "see iperf_sink --help\n");
    return 2;
  }
  loop_init(socket_path, busy);
  const int fd = open_server(&at, SOCK_STREAM);
  if (fd < 0) return 1;
  listener = (struct source){fd, POLLIN, accept_one};
  if (loop_add(&listener) != 0) return 1;
  printf("listening on TCP %s\n", endpoint_text(&at));
  fflush(stdout);
  const bool alive = loop_run(tick);
  loop_fini();
  return alive ? 0 : 1;
}
