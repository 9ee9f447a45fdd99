/* What the parts of the echo program share. */
#ifndef EXAMPLES_ECHO_H
#define EXAMPLES_ECHO_H

#include <stdbool.h>
#include <stdint.h>

#include "common/net.h"

enum role { ROLE_ECHO, ROLE_SINK, ROLE_SOURCE, ROLE_CONNECT };
enum direction { DIRECTION_ECHO, DIRECTION_SEND, DIRECTION_RECEIVE };

struct options {
  enum role role;
  const char* socket_path; /* of the daemon; NULL: the default */
  const char* address;     /* servers: where to listen */
  uint16_t tcp_port;       /* 0: not asked for */
  uint16_t udp_port;
  struct endpoint peer; /* connect */
  enum direction direction;
  bool udp;             /* connect: datagrams instead of a stream */
  uint64_t bytes;       /* source, connect: to send on each connection; 0: without end */
  uint32_t size;        /* connect: bytes of a datagram or of a send call */
  uint32_t connections; /* connect: at once */
  uint32_t stop_after;  /* servers: exit after so many connections; 0: never */
  bool verify, sha256, report, busy, quiet;
};

/* Exits 0 after --help and 2 on a mistake. */
struct options parse_options(int argc, char** argv);

/* Counted by all parts, for the lines of --report and the last one. */
struct totals {
  uint64_t opened, closed, failed; /* connections; failed: reset, timed out */
  uint64_t received, sent;         /* payload bytes */
  uint64_t datagrams_in, datagrams_out;
  uint64_t corrupt; /* connections or datagrams whose data was not what it should be */
  uint64_t lost;    /* datagrams without an answer */
};
extern struct totals totals;
extern struct options options;

int tcp_server_start(const struct endpoint* at);
int udp_server_start(const struct endpoint* at);
int tcp_client_start(void);
int udp_client_start(void);
void udp_client_tick(void); /* once a second: gives up on lost answers */

#endif
