/* Waiting: one thread, the leader, takes events and sleeps on the doorbells for all; the others
 * sleep on the futex of what they wait for. A leader that leaves wakes a follower, which takes
 * over.
 *
 * Nobody is left asleep: a follower counts itself in `followers`, then looks whether there is a
 * leader; a leader clears `leader`, then looks at `followers`. A leader that is about to sleep sets
 * `leader_asleep`, then looks at what it waits for; whoever changes something while others wait
 * does so first, then looks at `leader_asleep` and kicks, by an eventfd of its own: bytes in the
 * doorbell may be read by another sleeper. */
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "client/internal.h"

enum { SPIN_LEAST_NS = 2000 };

int64_t deadline_after(int64_t timeout_ns) {
  return timeout_ns == 0 ? FOREVER : now_ns() + timeout_ns;
}

int64_t deadline_after_ms(int timeout_ms) {
  return timeout_ms < 0 ? FOREVER : now_ns() + (int64_t)timeout_ms * 1000000;
}

void kick_leader(struct context* c, uint32_t what) {
  if (__atomic_load_n(&c->app->leader_asleep, __ATOMIC_SEQ_CST) == 0) return;
  if (load_relaxed(&c->app->leader_waits) != what) return;
  if (exchange(&c->app->leader_asleep, 0) == 0) return;
  const uint64_t one = 1;
  (void)!write(c->kick_fd, &one, sizeof one);
}

static bool over(struct context* c, const struct wait* w, uint32_t seen) {
  return __atomic_load_n(w->word, __ATOMIC_SEQ_CST) != seen || load(&c->dead);
}

/* Spins for what spinning is worth at present: more where it met the event, less where it did not.
 */
static bool spin(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline,
                 bool draining) {
  const uint32_t most = load_relaxed(&c->spin_max);
  uint32_t budget = load_relaxed(&c->spin_now);
  if (budget > most) budget = most;
  if (budget == 0) return over(c, w, seen);
  int64_t end = now_ns() + budget;
  if (end > deadline) end = deadline;
  do {
    for (int i = 0; i < 16; ++i) {
      if (draining) drain_all(c);
      if (over(c, w, seen)) {
        const uint32_t more = budget + budget / 8;
        store_relaxed(&c->spin_now, more < most ? more : most);
        return true;
      }
      cpu_relax();
    }
  } while (now_ns() < end);
  const uint32_t less = budget - budget / 4;
  store_relaxed(&c->spin_now, less > SPIN_LEAST_NS || less > most ? less : SPIN_LEAST_NS);
  return false;
}

/* Sleeps until a doorbell, the session or the deadline. 0, ETIMEDOUT or EINTR. */
static int sleep_on_doorbells(struct context* c, int64_t deadline) {
  struct pollfd fds[SHM_MAX_CHANNELS + 2];
  const uint32_t session = c->channel_count, kick = session + 1;
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    fds[i] = (struct pollfd){.fd = c->channels[i].wake_fd, .events = POLLIN};
  }
  fds[session] = (struct pollfd){.fd = c->session_fd, .events = POLLRDHUP};
  fds[kick] = (struct pollfd){.fd = c->kick_fd, .events = POLLIN};
  struct timespec left = {0};
  if (deadline != FOREVER) {
    const int64_t ns = deadline - now_ns();
    if (ns > 0) left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
  }
  count(&c->sleeps);
  const uint32_t calls = bias_pause();
  const int n = ppoll(fds, kick + 1, deadline == FOREVER ? NULL : &left, NULL);
  bias_resume(calls);
  if (n < 0) return EINTR;
  if (n == 0) return ETIMEDOUT;
  uint64_t count;
  if (fds[session].revents != 0) check_daemon(c, true);
  if (fds[kick].revents != 0) (void)!read(c->kick_fd, &count, sizeof count);
  return 0;
}

static int lead(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline) {
  report_consumed(c);
  if (spin(c, w, seen, deadline, true)) return 0;
  int rc = 0;
  store_relaxed(&c->app->leader_waits, w->what);
  while (rc == 0) {
    exchange(&c->app->leader_asleep, 1);
    for (uint32_t i = 0; i < c->channel_count; ++i) sleep_enter(c, &c->channels[i]);
    report_consumed(c);
    if (!over(c, w, seen) && !check_daemon(c, false)) rc = sleep_on_doorbells(c, deadline);
    exchange(&c->app->leader_asleep, 0);
    for (uint32_t i = 0; i < c->channel_count; ++i) sleep_leave(c, &c->channels[i]);
    check_daemon(c, false);
    if (over(c, w, seen)) return 0;
  }
  return rc;
}

static int follow(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline) {
  struct app_shared* app = c->app;
  if (spin(c, w, seen, deadline, false)) return 0;
  report_consumed(c);
  fetch_add(&app->followers, 1);
  fetch_add(w->sleepers, 1);
  const uint32_t lead_seen = load(&app->leader_seq);
  int rc = 0;
  if (__atomic_load_n(&app->leader, __ATOMIC_SEQ_CST) != 0 && !over(c, w, seen)) {
    const uint32_t calls = bias_pause();
    rc = futex_wait_either(w->word, seen, &app->leader_seq, lead_seen, deadline);
    bias_resume(calls);
  }
  fetch_sub(w->sleepers, 1);
  fetch_sub(&app->followers, 1);
  return rc;
}

static bool take_lead(struct context* c) {
  uint32_t nobody = 0;
  return load_relaxed(&c->app->leader) == 0 && exchange_if(&c->app->leader, &nobody, 1);
}

/* On leaving a wait, by whoever leaves: a follower that was woken to lead may have had its own
 * event at the same time. */
static void pass_lead(struct context* c) {
  struct app_shared* app = c->app;
  if (__atomic_load_n(&app->leader, __ATOMIC_SEQ_CST) != 0) return;
  if (__atomic_load_n(&app->followers, __ATOMIC_SEQ_CST) == 0) return;
  fetch_add(&app->leader_seq, 1);
  futex_wake(&app->leader_seq, 1);
}

int wait_change(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline) {
  int rc = 0;
  while (rc == 0 && !over(c, w, seen)) {
    if (take_lead(c)) {
      rc = lead(c, w, seen, deadline);
      exchange(&c->app->leader, 0);
    } else {
      rc = follow(c, w, seen, deadline);
    }
  }
  pass_lead(c);
  return over(c, w, seen) ? 0 : rc;
}

int wait_record(struct context* c, uint32_t index, uint32_t seen, int64_t deadline) {
  struct record* r = record_at(c, index);
  const struct wait w = {.word = &r->seq, .sleepers = &r->waiters, .what = index};
  return wait_change(c, &w, seen, deadline);
}

bool interruption_restarts(void) {
  for (int signal = 1; signal < SIGRTMAX; ++signal) {
    struct sigaction action;
    if (sigaction(signal, NULL, &action) != 0) continue;
    if ((action.sa_flags & SA_SIGINFO) == 0 &&
        (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) {
      continue;
    }
    if ((action.sa_flags & SA_RESTART) == 0) return false;
  }
  return true;
}
