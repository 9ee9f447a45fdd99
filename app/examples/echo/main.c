/* Echo, sink, source and their client: a small program to try posternd with, and an example of the
 * C interface. Event-driven, one thread, as many connections as the daemon allows. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/loop.h"
#include "echo/echo.h"

struct totals totals;
struct options options;

static double started, last_report;
static struct totals last;

static double rate(uint64_t now, uint64_t before, double seconds) {
  return (double)(now - before) / seconds;
}

static void tick(void) {
  udp_client_tick();
  if (!options.report) return;
  const double now = now_seconds();
  const double seconds = now - last_report;
  printf("%.0f s: %" PRIu64
         " connections, in %.3f Mbit/s, out %.3f Mbit/s, datagrams in %.0f/s, "
         "out %.0f/s\n",
         now - started, totals.opened - totals.closed,
         rate(totals.received, last.received, seconds) * 8e-6,
         rate(totals.sent, last.sent, seconds) * 8e-6,
         rate(totals.datagrams_in, last.datagrams_in, seconds),
         rate(totals.datagrams_out, last.datagrams_out, seconds));
  fflush(stdout);
  last = totals;
  last_report = now;
}

static void print_totals(void) {
  const double seconds = now_seconds() - started;
  printf("connections %" PRIu64 " (%" PRIu64 " failed), received %" PRIu64 " bytes, sent %" PRIu64
         " bytes, datagrams in %" PRIu64 ", out %" PRIu64 ", corrupt %" PRIu64 ", lost %" PRIu64
         ", %.3f s, in %.3f Mbit/s, out %.3f Mbit/s\n",
         totals.opened, totals.failed, totals.received, totals.sent, totals.datagrams_in,
         totals.datagrams_out, totals.corrupt, totals.lost, seconds,
         (double)totals.received / seconds * 8e-6, (double)totals.sent / seconds * 8e-6);
}

static int start_servers(void) {
  struct endpoint at;
  if (options.tcp_port != 0) {
    if (resolve(options.address, options.tcp_port, &at) != 0) return -1;
    if (tcp_server_start(&at) != 0) return -1;
    if (!options.quiet) printf("listening on TCP %s\n", endpoint_text(&at));
  }
  if (options.udp_port != 0) {
    if (resolve(options.address, options.udp_port, &at) != 0) return -1;
    if (udp_server_start(&at) != 0) return -1;
    if (!options.quiet) printf("listening on UDP %s\n", endpoint_text(&at));
  }
  fflush(stdout);
  return 0;
}

static int start(void) {
  if (options.role != ROLE_CONNECT) return start_servers();
  return options.udp ? udp_client_start() : tcp_client_start();
}

int main(int argc, char** argv) {
  options = parse_options(argc, argv);
  loop_init(options.socket_path, options.busy);
  started = last_report = now_seconds();
  if (start() != 0) return 1;
  const bool alive = loop_run(tick);
  if (!options.quiet) print_totals();
  loop_fini();
  return alive && totals.corrupt == 0 && totals.failed == 0 && totals.lost == 0 ? 0 : 1;
}
