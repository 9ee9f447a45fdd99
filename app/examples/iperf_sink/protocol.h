/* iperf3's control protocol, as its clients from 3.1 on speak it.
 *
 *   client                          server
 *   control connection: cookie  ->
 *                               <-  PARAM_EXCHANGE
 *   length, JSON of parameters  ->
 *                               <-  CREATE_STREAMS
 *   one connection a stream, each beginning with the cookie
 *                               <-  TEST_START, TEST_RUNNING
 *   data, one way or the other
 *   TEST_END                    ->
 *                               <-  EXCHANGE_RESULTS
 *   length, JSON of results     ->
 *                               <-  length, JSON of results; DISPLAY_RESULTS
 *   IPERF_DONE                  ->
 *
 * A state is one signed byte, a length 4 bytes in network order. */
#ifndef IPERF_SINK_PROTOCOL_H
#define IPERF_SINK_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COOKIE_SIZE = 37, MAX_JSON = 64 * 1024, MAX_STREAMS = 128 };

enum iperf_state {
  TEST_START = 1,
  TEST_RUNNING = 2,
  TEST_END = 4,
  PARAM_EXCHANGE = 9,
  CREATE_STREAMS = 10,
  SERVER_TERMINATE = 11,
  CLIENT_TERMINATE = 12,
  EXCHANGE_RESULTS = 13,
  DISPLAY_RESULTS = 14,
  IPERF_DONE = 16,
  ACCESS_DENIED = -1,
  SERVER_ERROR = -2
};

enum { ERROR_UNIMPLEMENTED = 13 }; /* IEUNIMP: what the client prints for SERVER_ERROR */

struct iperf_parameters {
  bool tcp;
  bool reverse;       /* the server sends */
  bool bidirectional; /* both send */
  unsigned streams;
  unsigned omit;  /* seconds at the start that do not count */
  unsigned block; /* bytes of one send call */
};

/* False: not the JSON of parameters. */
bool parse_parameters(const char* json, struct iperf_parameters* out);

struct iperf_stream_result {
  unsigned id;
  uint64_t bytes;
};

/* Writes the JSON of results. Returns its length, or 0 when `size` is too small. */
size_t format_results(char* out, size_t size, const struct iperf_stream_result* streams,
                      unsigned count, double seconds, double cpu_percent, bool sender);

/* The client numbers its streams 1, 3, 4, 5 ... */
unsigned stream_id(unsigned index);

#endif
