#include "common/loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/postern.h"

enum { BURST = 64, TICK_MS = 1000 };

static struct {
  postern_queue* queue;
  struct postern_event burst[BURST];
  int next, filled; /* of the burst that is being handled */
  bool busy, daemon_gone;
} loop;

static volatile sig_atomic_t stopped;

static void on_signal(int number) {
  (void)number;
  stopped = 1;
}

double now_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void explain_attach(const char* path) {
  const int error = errno;
  const char* detail = postern_last_error();
  fprintf(stderr, "cannot attach to posternd at %s: %s%s%s\n",
          path != NULL ? path : "its default socket", strerror(error), *detail ? ": " : "", detail);
  if (error == ENOENT || error == ECONNREFUSED) fprintf(stderr, "is posternd running?\n");
}

void loop_init(const char* path, bool busy) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  if (path == NULL) path = getenv("POSTERN_SOCKET");
  if (postern_attach(path) != 0) {
    explain_attach(path);
    exit(1);
  }
  loop.busy = busy;
  loop.queue = postern_queue_create();
  if (loop.queue == NULL) {
    perror("cannot make a queue");
    exit(1);
  }
}

void loop_fini(void) {
  postern_queue_destroy(loop.queue);
  postern_detach();
}

int loop_add(struct source* source) {
  return postern_queue_add(loop.queue, source->fd, source->events, (uintptr_t)source);
}

int loop_wait_for(struct source* source, uint32_t events) {
  if (source->events == events) return 0;
  source->events = events;
  return postern_queue_modify(loop.queue, source->fd, events, (uintptr_t)source);
}

static void forget_reports(const struct source* source) {
  for (int i = loop.next; i < loop.filled; i++) {
    if (loop.burst[i].data == (uintptr_t)source) loop.burst[i].data = 0;
  }
}

void loop_remove(struct source* source) {
  postern_queue_remove(loop.queue, source->fd);
  forget_reports(source);
}

void loop_close(struct source* source) {
  postern_close(source->fd);
  forget_reports(source);
}

void loop_stop(void) { stopped = 1; }

bool loop_daemon_gone(void) {
  const int error = errno;
  if (error == ECONNABORTED && *postern_last_error() != '\0') loop.daemon_gone = true;
  errno = error;
  return loop.daemon_gone;
}

static void handle_burst(void) {
  for (loop.next = 0; loop.next < loop.filled;) {
    const struct postern_event* event = &loop.burst[loop.next++];
    struct source* source = (struct source*)(uintptr_t)event->data;
    if (source != NULL) source->ready(source, event->events);
  }
}

bool loop_run(void (*tick)(void)) {
  double next_tick = now_seconds() + 1;
  unsigned turns = 0;
  while (!stopped) {
    loop.filled = postern_queue_wait(loop.queue, loop.burst, BURST, loop.busy ? 0 : TICK_MS);
    if (loop.filled < 0 && errno != EINTR) loop.daemon_gone = true;
    handle_burst();
    if (loop.daemon_gone) {
      fprintf(stderr, "posternd is gone: %s\n", postern_last_error());
      return false;
    }
    /* While spinning, look at the clock now and then only. */
    if (loop.filled > 0 || !loop.busy || ++turns % 4096 == 0) {
      if (now_seconds() >= next_tick) {
        next_tick += 1;
        if (tick != NULL) tick();
      }
    }
  }
  return true;
}
