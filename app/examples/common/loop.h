/* An event loop over one postern queue, for one thread. */
#ifndef EXAMPLES_LOOP_H
#define EXAMPLES_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct source; /* a socket and what to do when it is ready; embedded in its owner */
typedef void (*source_ready)(struct source* source, uint32_t events);

struct source {
  int fd;
  uint32_t events; /* POLLIN, POLLOUT: what it waits for now */
  source_ready ready;
};

/* Attaches to the daemon (path NULL: the default) and prepares the loop. Prints why and exits with
 * status 1 when it cannot. `busy`: never sleep. */
void loop_init(const char* path, bool busy);
void loop_fini(void);

/* 0, or -1 with errno. */
int loop_add(struct source* source);
int loop_wait_for(struct source* source, uint32_t events);
/* Takes the source out of the loop; its socket stays open. Then, as for loop_close(): */
void loop_remove(struct source* source);
/* Takes the source out of the loop and closes its socket. No report of it follows, also not in the
 * burst that is being handled: the owner may free it at once. */
void loop_close(struct source* source);

/* Runs until loop_stop(), SIGINT or SIGTERM. `tick` is called about once a second; NULL: never.
 * Returns false when the daemon is gone. */
bool loop_run(void (*tick)(void));
void loop_stop(void);

/* After a call on a listener failed: with ECONNABORTED it is either one peer that left, or the
 * daemon. True: the daemon; the loop will end and loop_run() return false. Keeps errno. */
bool loop_daemon_gone(void);

double now_seconds(void); /* monotonic */

#endif
