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
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"

enum { SPIN_LEAST_NS = 2000 };

int64_t deadline_after(int64_t timeout_ns) {
  return timeout_ns == 0 ? FOREVER : now_ns() + timeout_ns;
}

int64_t deadline_after_ms(int timeout_ms) {
  return timeout_ms < 0 ? FOREVER : now_ns() + (int64_t)timeout_ms * 1000000;
}

void kick_asleep(struct context* c, uint32_t what) {
  if (load_relaxed(&c->own.leader_waits) != what) return;
  if (exchange(&c->own.leader_asleep, 0) == 0) return;
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

enum { SLICE_NS = 100000000 }; /* between looks for sharers that are gone */

/* The leader's epoll set while other processes share the attachment. The doorbells wake one of
 * them, which tells the others; the family's eventfd is never read. */
static int sleep_set(struct context* c) {
  if (c->sleep_fd >= 0) return c->sleep_fd;
  const int set = epoll_create1(EPOLL_CLOEXEC);
  const struct {
    int fd;
    uint32_t events;
  } sources[] = {{c->session_fd, EPOLLRDHUP},
                 {c->kick_fd, EPOLLIN},
                 {c->family_kick[c->sharer % KICK_FDS], EPOLLIN | EPOLLET}};
  for (size_t i = 0; i < sizeof sources / sizeof *sources; ++i) {
    struct epoll_event e = {.events = sources[i].events, .data.fd = sources[i].fd};
    epoll_ctl(set, EPOLL_CTL_ADD, sources[i].fd, &e);
  }
  for (uint32_t i = 0; i < c->channel_count; ++i) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = -1};
    epoll_ctl(set, EPOLL_CTL_ADD, c->channels[i].wake_fd, &e);
  }
  return c->sleep_fd = set;
}

/* As sleep_on_doorbells(), and for a slice at most. */
static int sleep_in_family(struct context* c, int64_t deadline) {
  struct epoll_event events[8];
  const int64_t now = now_ns();
  int64_t ns = deadline - now < SLICE_NS ? deadline - now : SLICE_NS;
  if (ns < 0) ns = 0;
  const int set = sleep_set(c);
  count(&c->sleeps);
  const uint32_t calls = bias_pause();
  const int n = (int)syscall(SYS_epoll_pwait, set, events, 8, (int)((ns + 999999) / 1000000), NULL,
                             (size_t)0);
  const bool interrupted = n < 0;
  bias_resume(calls);
  uint64_t count;
  for (int i = 0; i < n; ++i) {
    if (events[i].data.fd == c->session_fd) check_daemon(c, true);
    if (events[i].data.fd == c->kick_fd) (void)!read(c->kick_fd, &count, sizeof count);
  }
  family_check(c, interrupted); /* it may have been a child's end */
  if (interrupted) return EINTR;
  return n == 0 && now_ns() >= deadline ? ETIMEDOUT : 0;
}

static int lead(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline) {
  report_consumed(c);
  if (spin(c, w, seen, deadline, true)) return 0;
  int rc = 0;
  store_relaxed(&c->own.leader_waits, w->what);
  if (w->what < (uint32_t)WAITS_FOR_QUEUE) family_interested(c, w->what);
  while (rc == 0) {
    exchange(&c->own.leader_asleep, 1);
    family_sleep_enter(c);
    family_take_changes(c);
    for (uint32_t i = 0; i < c->channel_count; ++i) sleep_enter(c, &c->channels[i]);
    report_consumed(c);
    if (!over(c, w, seen) && !check_daemon(c, false)) {
      rc = load(&c->shared) ? sleep_in_family(c, deadline) : sleep_on_doorbells(c, deadline);
    }
    exchange(&c->own.leader_asleep, 0);
    family_sleep_leave(c);
    family_take_changes(c);
    for (uint32_t i = 0; i < c->channel_count; ++i) sleep_leave(c, &c->channels[i]);
    check_daemon(c, false);
    if (over(c, w, seen)) return 0;
  }
  return rc;
}

static int follow(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline) {
  struct process* own = &c->own;
  if (spin(c, w, seen, deadline, false)) return 0;
  report_consumed(c);
  fetch_add(&own->followers, 1);
  fetch_add(w->sleepers, 1);
  const uint32_t lead_seen = load(&own->leader_seq);
  int rc = 0;
  if (__atomic_load_n(&own->leader, __ATOMIC_SEQ_CST) != 0 && !over(c, w, seen)) {
    const uint32_t calls = bias_pause();
    rc = futex_wait_either(w->word, seen, &own->leader_seq, lead_seen, deadline);
    bias_resume(calls);
  }
  fetch_sub(w->sleepers, 1);
  fetch_sub(&own->followers, 1);
  return rc;
}

static bool take_lead(struct context* c) {
  uint32_t nobody = 0;
  return load_relaxed(&c->own.leader) == 0 && exchange_if(&c->own.leader, &nobody, 1);
}

/* On leaving a wait, by whoever leaves: a follower that was woken to lead may have had its own
 * event at the same time. */
static void pass_lead(struct context* c) {
  struct process* own = &c->own;
  if (__atomic_load_n(&own->leader, __ATOMIC_SEQ_CST) != 0) return;
  if (__atomic_load_n(&own->followers, __ATOMIC_SEQ_CST) == 0) return;
  fetch_add(&own->leader_seq, 1);
  futex_wake(&own->leader_seq, 1);
}

int wait_change(struct context* c, const struct wait* w, uint32_t seen, int64_t deadline) {
  int rc = 0;
  while (rc == 0 && !over(c, w, seen)) {
    if (take_lead(c)) {
      rc = lead(c, w, seen, deadline);
      exchange(&c->own.leader, 0);
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

/* A handler of faults does not count: a thread that sleeps makes none, and crash reporters install
 * theirs as they like. */
static bool is_fault(int signal) {
  return signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL ||
         signal == SIGTRAP || signal == SIGABRT || signal == SIGSYS;
}

bool interruption_restarts(void) {
  for (int signal = 1; signal < SIGRTMAX; ++signal) {
    if (is_fault(signal)) continue;
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
