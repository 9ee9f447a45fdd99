/* One iperf3 test: its control connection and its streams. */
#ifndef IPERF_SINK_TEST_H
#define IPERF_SINK_TEST_H

#include <stdbool.h>

#include "common/net.h"
#include "iperf_sink/protocol.h"

/* Is a test going on? A second client is refused, as iperf3 itself does. */
bool test_active(void);

/* Both take the socket over. `cookie` has COOKIE_SIZE bytes. */
void test_begin(int fd, const char* cookie, const struct endpoint* peer);
/* False, and the socket stays the caller's: not a stream that the test waits for. */
bool test_add_stream(int fd, const char* cookie);

/* Once a second. */
void test_tick(void);

#endif
