#include "iperf_sink/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/postern.h"
#include "common/loop.h"

enum phase { IDLE, PARAMETERS, STREAMS, RUNNING, RESULTS, DONE };
enum { BUFFER = 1 << 20, PATIENCE = 30 }; /* seconds without progress outside of the run */

struct stream {
  struct source source;
  uint64_t bytes;
  bool open;
};

static struct {
  enum phase phase;
  struct source control;
  struct endpoint peer;
  char cookie[COOKIE_SIZE];
  struct iperf_parameters parameters;
  struct stream streams[MAX_STREAMS];
  unsigned count;
  double started, ended, last_progress, cpu_started;
  bool omitting;
  uint32_t have, need; /* bytes of the length and JSON that come in */
  char json[4 + MAX_JSON + 1];
} test;

static char buffer[BUFFER];

static double cpu_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

bool test_active(void) { return test.phase != IDLE; }

static void test_end(const char* problem) {
  if (problem != NULL) fprintf(stderr, "%s: %s\n", endpoint_text(&test.peer), problem);
  for (unsigned i = 0; i < test.count; i++) {
    if (test.streams[i].open) loop_close(&test.streams[i].source);
  }
  loop_close(&test.control);
  test.phase = IDLE;
  test.count = 0;
}

/* What goes over the control connection is small: it fits, or the peer does not listen. */
static bool send_control(const void* data, size_t length) {
  return postern_send(test.control.fd, data, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool send_state(enum iperf_state state) {
  const signed char byte = (signed char)state;
  return send_control(&byte, 1);
}

static void enter(enum phase phase) {
  test.phase = phase;
  test.have = 0;
  test.need = 4;
  test.last_progress = now_seconds();
}

/* ---- the streams ---- */

static void close_stream(struct stream* s) {
  loop_close(&s->source);
  s->open = false;
}

static void drain(struct stream* s) {
  const ssize_t n = postern_recv(s->source.fd, buffer, sizeof buffer, 0);
  if (n > 0) {
    s->bytes += (uint64_t)n;
  } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
    close_stream(s);
  }
}

static void fill(struct stream* s) {
  const ssize_t n = postern_send(s->source.fd, buffer, test.parameters.block, MSG_NOSIGNAL);
  if (n > 0) {
    s->bytes += (uint64_t)n;
  } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
    close_stream(s);
  }
}

static void stream_ready(struct source* source, uint32_t events) {
  struct stream* s = (struct stream*)source;
  if ((source->events & POLLOUT) != 0) {
    fill(s);
  } else if (events != 0) {
    drain(s);
  }
}

static void start_running(void) {
  if (!send_state(TEST_START) || !send_state(TEST_RUNNING)) {
    test_end("the control connection broke");
    return;
  }
  enter(RUNNING);
  test.started = now_seconds();
  test.cpu_started = cpu_seconds();
  test.omitting = test.parameters.omit != 0;
  for (unsigned i = 0; i < test.count; i++) {
    loop_wait_for(&test.streams[i].source, test.parameters.reverse ? POLLOUT : POLLIN);
  }
}

bool test_add_stream(int fd, const char* cookie) {
  if (test.phase != STREAMS || memcmp(cookie, test.cookie, COOKIE_SIZE) != 0) return false;
  struct stream* s = &test.streams[test.count];
  *s = (struct stream){.source = {fd, 0, stream_ready}, .open = true};
  if (loop_add(&s->source) != 0) return false;
  test.last_progress = now_seconds();
  if (++test.count == test.parameters.streams) start_running();
  return true;
}

/* ---- the control connection ---- */

static void refuse(const char* why) {
  const uint32_t codes[2] = {htonl(ERROR_UNIMPLEMENTED), 0};
  if (send_state(SERVER_ERROR)) send_control(codes, sizeof codes);
  test_end(why);
}

static void on_parameters(const char* json) {
  struct iperf_parameters* p = &test.parameters;
  if (!parse_parameters(json, p)) {
    test_end("sent no test parameters");
  } else if (!p->tcp) {
    refuse("only TCP tests are served");
  } else if (p->bidirectional) {
    refuse("tests in both directions at once are not served");
  } else if (p->streams > MAX_STREAMS) {
    refuse("asks for too many streams");
  } else if (!send_state(CREATE_STREAMS)) {
    test_end("the control connection broke");
  } else {
    enter(STREAMS);
  }
}

static void print_summary(uint64_t bytes) {
  const double seconds = test.ended - test.started;
  printf("%s: %u streams, %s %llu bytes in %.3f s, %.3f Gbit/s\n", endpoint_text(&test.peer),
         test.count, test.parameters.reverse ? "sent" : "received", (unsigned long long)bytes,
         seconds, (double)bytes * 8e-9 / seconds);
  fflush(stdout);
}

static void send_results(void) {
  static char json[MAX_STREAMS * 160 + 256];
  struct iperf_stream_result results[MAX_STREAMS];
  uint64_t bytes = 0;
  for (unsigned i = 0; i < test.count; i++) {
    results[i] = (struct iperf_stream_result){stream_id(i), test.streams[i].bytes};
    bytes += test.streams[i].bytes;
  }
  const double seconds = test.ended - test.started;
  const double cpu = (cpu_seconds() - test.cpu_started) / seconds * 100;
  const size_t length =
      format_results(json, sizeof json, results, test.count, seconds, cpu, test.parameters.reverse);
  const uint32_t prefix = htonl((uint32_t)length);
  if (length == 0 || !send_control(&prefix, sizeof prefix) || !send_control(json, length) ||
      !send_state(DISPLAY_RESULTS)) {
    test_end("the control connection broke");
    return;
  }
  print_summary(bytes);
  enter(DONE);
}

static void on_state(int state) {
  if (test.phase == RUNNING && state == TEST_END) {
    test.ended = now_seconds();
    for (unsigned i = 0; i < test.count; i++) {
      if (test.streams[i].open) loop_wait_for(&test.streams[i].source, POLLIN);
    }
    if (send_state(EXCHANGE_RESULTS)) {
      enter(RESULTS);
    } else {
      test_end("the control connection broke");
    }
  } else if (test.phase == DONE && state == IPERF_DONE) {
    test_end(NULL);
  } else if (state == CLIENT_TERMINATE) {
    test_end("the client gave up");
  } else {
    test_end("unexpected state from the client");
  }
}

/* Takes what has come of the length and the JSON. True when it is complete. */
static bool take_json(ssize_t n) {
  test.have += (uint32_t)n;
  if (test.have == 4 && test.need == 4) {
    uint32_t length;
    memcpy(&length, test.json, sizeof length);
    test.need = 4 + ntohl(length);
  }
  if (test.have < test.need || test.need == 4) return false;
  test.json[test.have] = '\0';
  return true;
}

static void read_json(void) {
  const ssize_t n = postern_recv(test.control.fd, test.json + test.have, test.need - test.have, 0);
  if (n == 0) {
    test_end("the client hung up");
  } else if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) test_end(strerror(errno));
  } else if (take_json(n)) {
    if (test.phase == PARAMETERS) {
      on_parameters(test.json + 4);
    } else {
      send_results();
    }
  } else if (test.need - 4 > MAX_JSON) {
    test_end("sent a message that is too long");
  }
}

static void read_state(void) {
  signed char state;
  const ssize_t n = postern_recv(test.control.fd, &state, 1, 0);
  if (n == 1) {
    on_state(state);
  } else if (n == 0) {
    test_end(test.phase == DONE ? NULL : "the client hung up");
  } else if (errno != EAGAIN && errno != EINTR) {
    test_end(strerror(errno));
  }
}

static void control_ready(struct source* source, uint32_t events) {
  (void)source;
  (void)events;
  if (test.phase == PARAMETERS || test.phase == RESULTS) {
    read_json();
  } else {
    read_state();
  }
}

void test_begin(int fd, const char* cookie, const struct endpoint* peer) {
  test.control = (struct source){fd, POLLIN, control_ready};
  test.peer = *peer;
  memcpy(test.cookie, cookie, COOKIE_SIZE);
  test.count = 0;
  enter(PARAMETERS);
  if (loop_add(&test.control) != 0 || !send_state(PARAM_EXCHANGE)) {
    test_end("the control connection broke");
  }
}

void test_tick(void) {
  const double now = now_seconds();
  if (test.phase == RUNNING && test.omitting && now - test.started >= test.parameters.omit) {
    test.omitting = false;
    test.started = now;
    for (unsigned i = 0; i < test.count; i++) test.streams[i].bytes = 0;
  }
  if (test.phase != IDLE && test.phase != RUNNING && now - test.last_progress > PATIENCE) {
    test_end("no progress, given up");
  }
}
