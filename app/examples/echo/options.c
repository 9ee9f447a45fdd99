#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "echo/echo.h"

static const char help[] =
    "Usage: echo [--tcp PORT] [--udp PORT] [options]        send back what comes\n"
    "       echo sink [--tcp PORT] [--udp PORT] [options]   read and discard\n"
    "       echo source [--tcp PORT] [options]              send test data to who connects\n"
    "       echo connect HOST PORT [options]                be the client of one of these\n"
    "\n"
    "Sockets are posternd's, not the kernel's.\n"
    "\n"
    "Servers (without --tcp and --udp: both, port 7)\n"
    "  --tcp PORT         serve TCP\n"
    "  --udp PORT         serve UDP\n"
    "  --address ADDRESS  listen on this address only (0.0.0.0)\n"
    "  --bytes N          source: send N bytes on each connection, then close (no end)\n"
    "  --stop-after N     exit after N connections have ended; status 1 if one failed\n"
    "\n"
    "Client\n"
    "  --send             only send, for a sink\n"
    "  --receive          only receive, from a source\n"
    "  --udp              datagrams, one outstanding a connection\n"
    "  --bytes N          bytes to send on each connection (1M); 0: until interrupted\n"
    "  --size N           bytes of a datagram or of one send call (1024)\n"
    "  --connections N    at once (1)\n"
    "  Exits 0 when every byte came back or was taken, 1 otherwise.\n"
    "\n"
    "All\n"
    "  --verify           sink, --receive: data must be the test data; connect always verifies\n"
    "  --sha256           print the SHA-256 of what each TCP connection received\n"
    "  --report           print rates once a second\n"
    "  --busy             spin instead of sleeping\n"
    "  --quiet            print errors only\n"
    "  --socket PATH      posternd's application socket (POSTERN_SOCKET, else\n"
    "                     /run/postern/postern.sock)\n"
    "Numbers may end in K, M or G.\n";

enum {
  OPT_TCP = 256,
  OPT_UDP,
  OPT_ADDRESS,
  OPT_BYTES,
  OPT_STOP_AFTER,
  OPT_SEND,
  OPT_RECEIVE,
  OPT_SIZE,
  OPT_CONNECTIONS,
  OPT_VERIFY,
  OPT_SHA256,
  OPT_REPORT,
  OPT_BUSY,
  OPT_QUIET,
  OPT_SOCKET,
  OPT_HELP
};

/* --udp takes a port in a server and nothing in a client. */
static const struct option server_options[] = {
    {"tcp", required_argument, NULL, OPT_TCP},
    {"udp", required_argument, NULL, OPT_UDP},
    {"address", required_argument, NULL, OPT_ADDRESS},
    {"bytes", required_argument, NULL, OPT_BYTES},
    {"stop-after", required_argument, NULL, OPT_STOP_AFTER},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"sha256", no_argument, NULL, OPT_SHA256},
    {"report", no_argument, NULL, OPT_REPORT},
    {"busy", no_argument, NULL, OPT_BUSY},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0}};

static const struct option client_options[] = {
    {"send", no_argument, NULL, OPT_SEND},
    {"receive", no_argument, NULL, OPT_RECEIVE},
    {"udp", no_argument, NULL, OPT_UDP},
    {"bytes", required_argument, NULL, OPT_BYTES},
    {"size", required_argument, NULL, OPT_SIZE},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"sha256", no_argument, NULL, OPT_SHA256},
    {"report", no_argument, NULL, OPT_REPORT},
    {"busy", no_argument, NULL, OPT_BUSY},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0}};

static void usage_error(const char* what, const char* value) {
  fprintf(stderr, "echo: %s%s; see echo --help\n", what, value);
  exit(2);
}

static void apply(struct options* o, int id) {
  switch (id) {
    case OPT_TCP:
      o->tcp_port = (uint16_t)parse_number("--tcp", optarg, 1, 65535);
      break;
    case OPT_UDP:
      if (o->role == ROLE_CONNECT) {
        o->udp = true;
      } else {
        o->udp_port = (uint16_t)parse_number("--udp", optarg, 1, 65535);
      }
      break;
    case OPT_ADDRESS:
      o->address = optarg;
      break;
    case OPT_BYTES:
      o->bytes = parse_number("--bytes", optarg, 0, UINT64_MAX >> 1);
      break;
    case OPT_STOP_AFTER:
      o->stop_after = (uint32_t)parse_number("--stop-after", optarg, 1, UINT32_MAX);
      break;
    case OPT_SEND:
      o->direction = DIRECTION_SEND;
      break;
    case OPT_RECEIVE:
      o->direction = DIRECTION_RECEIVE;
      break;
    case OPT_SIZE:
      o->size = (uint32_t)parse_number("--size", optarg, 0, 1 << 20);
      break;
    case OPT_CONNECTIONS:
      o->connections = (uint32_t)parse_number("--connections", optarg, 1, 1 << 20);
      break;
    case OPT_VERIFY:
      o->verify = true;
      break;
    case OPT_SHA256:
      o->sha256 = true;
      break;
    case OPT_REPORT:
      o->report = true;
      break;
    case OPT_BUSY:
      o->busy = true;
      break;
    case OPT_QUIET:
      o->quiet = true;
      break;
    case OPT_SOCKET:
      o->socket_path = optarg;
      break;
    case OPT_HELP:
      fputs(help, stdout);
      exit(0);
    default:
      usage_error("unknown option, or one that lacks its value: ", "");
  }
}

static void parse_peer(struct options* o, int argc, char** argv) {
  if (argc - optind != 2) usage_error("connect needs HOST PORT", "");
  const uint16_t port = (uint16_t)parse_number("PORT", argv[optind + 1], 1, 65535);
  if (resolve(argv[optind], port, &o->peer) != 0) exit(2);
}

static void check(const struct options* o) {
  if (o->role == ROLE_SOURCE && o->udp_port != 0) usage_error("source serves TCP only", "");
  if (o->udp && o->direction == DIRECTION_RECEIVE) usage_error("no source serves UDP", "");
  if (o->udp && o->size > 65507) usage_error("--size: a datagram has at most 65507 bytes", "");
  if (!o->udp && o->size == 0) usage_error("--size: 0 is for --udp only", "");
}

static enum role role_of(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "sink") == 0) return ROLE_SINK;
  if (argc > 1 && strcmp(argv[1], "source") == 0) return ROLE_SOURCE;
  if (argc > 1 && strcmp(argv[1], "connect") == 0) return ROLE_CONNECT;
  return ROLE_ECHO;
}

struct options parse_options(int argc, char** argv) {
  struct options o = {
      .role = role_of(argc, argv), .address = "0.0.0.0", .size = 1024, .connections = 1};
  if (o.role != ROLE_ECHO) {
    argv[1] = argv[0];
    argc--, argv++;
  }
  if (o.role == ROLE_CONNECT) o.bytes = 1 << 20;
  const struct option* known = o.role == ROLE_CONNECT ? client_options : server_options;
  for (int id; (id = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
    apply(&o, id == 'h' ? OPT_HELP : id);
  }
  if (o.role == ROLE_CONNECT) {
    parse_peer(&o, argc, argv);
  } else if (optind < argc) {
    usage_error("what is this: ", argv[optind]);
  }
  if (o.role != ROLE_CONNECT && o.tcp_port == 0 && o.udp_port == 0) {
    o.tcp_port = 7;
    if (o.role != ROLE_SOURCE) o.udp_port = 7;
  }
  check(&o);
  return o;
}
