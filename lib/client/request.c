/* Requests that the control thread of the daemon answers: one at a time in the whole family. */
#include <stdio.h>

#include "client/internal.h"

/* Both: bytes, or negative when the session is over. */
static ssize_t ask(const struct context* c, const struct shm_bind_request* request) {
  ssize_t n;
  do {
    n = send(c->session_fd, request, sizeof *request, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n;
}
static ssize_t hear(const struct context* c, struct shm_bind_reply* reply) {
  ssize_t n;
  do {
    n = recv(c->session_fd, reply, sizeof *reply, 0);
  } while (n < 0 && errno == EINTR);
  return n;
}

/* A sharer died over its request: its reply, if there is to be one, comes before the refusal of a
 * request that cannot be granted. What it bound nobody knows of. */
static void session_recover(const struct context* c) {
  struct shm_bind_request impossible = {.type = SHM_REQ_UNBIND};
  struct shm_bind_reply reply;
  if (ask(c, &impossible) < 0) return;
  while (hear(c, &reply) == (ssize_t)sizeof reply) {
    if (reply.type == SHM_REQ_UNBIND && reply.error != 0) return;
    if (reply.type != SHM_REQ_BIND || reply.error != 0) continue;
    struct shm_bind_request unbind = {.type = SHM_REQ_UNBIND, .binding = reply.binding};
    if (ask(c, &unbind) < 0) return; /* its reply has error 0 and is passed over here */
  }
}

int session_call(struct context* c, const struct shm_bind_request* request,
                 struct shm_bind_reply* reply) {
  message_set("");
  if (lock_acquire(&c->app->session_lock)) session_recover(c);
  ssize_t n = ask(c, request);
  if (n >= 0) n = hear(c, reply);
  lock_release(&c->app->session_lock);
  if (n < (ssize_t)sizeof *reply) {
    declare_dead(c);
    return ECONNABORTED;
  }
  if (reply->error != 0) {
    char text[sizeof reply->message];
    snprintf(text, sizeof text, "%.*s", (int)sizeof reply->message - 1, reply->message);
    message_set(text);
  }
  return (int)reply->error;
}
