/* Urgent data (RFC 9293 3.8.5, RFC 6093) as programs know it from Linux: the last urgent byte is
 * kept out of the stream and read by MSG_OOB, a receive stops before it, SIOCATMARK says whether it
 * is next; with SO_OOBINLINE it stays in the stream. POLLPRI tells that it is there. There is one
 * at a time: a newer one takes its place.
 *
 * Here the byte always lies in the receive chunks, at position record.urgent; R_URGENT holds until
 * reading has passed it. */
#include "client/internal.h"

static bool pending(const struct record* r, uint32_t flags, uint32_t* ahead) {
  *ahead = load(&r->urgent) - load_relaxed(&r->rx_head);
  return (flags & R_URGENT) != 0 && (int32_t)*ahead >= 0;
}

/* A byte that nobody has fetched, and that reading has come to, is lost for a newer one. The
 * drainer waits for no record's lock: where a reader is at work it gets the byte as any other. */
static void give_up_older(struct context* c, uint32_t index) {
  struct record* r = record_at(c, index);
  const bool inline_data = (load(&r->flags) & R_OOBINLINE) != 0;
  if (inline_data || !urgent_next(r) || !lock_try(&r->rx_lock)) return;
  if (urgent_next(r) && load(&r->rx_tail) != load_relaxed(&r->rx_head)) {
    receive_skip(channel_of(c, index), r);
  }
  lock_release(&r->rx_lock);
}

/* The place first, then the flag; who clears flags for an older place finds out (see there). */
void urgent_arrived(struct context* c, uint32_t index, uint32_t mark) {
  struct record* r = record_at(c, index);
  const uint32_t distance = mark - 1 - load(&r->rx_head);
  uint32_t ahead;
  const bool older = pending(r, load(&r->flags), &ahead);
  if ((int32_t)distance < 0 || (older && (int32_t)(distance - ahead) <= 0)) return;
  if (older) give_up_older(c, index);
  store(&r->urgent, mark - 1);
  fetch_and(&r->flags, ~(uint32_t)R_URGENT_READ);
  fetch_or(&r->flags, R_URGENT);
}

struct urgent_limit urgent_limit(const struct record* r, uint32_t there, bool begun) {
  const uint32_t f = load(&r->flags);
  uint32_t ahead;
  if (!pending(r, f, &ahead)) return (struct urgent_limit){.there = there};
  if (ahead != 0) {
    return (struct urgent_limit){.there = ahead < there ? ahead : there, .stop = ahead <= there};
  }
  if (begun) return (struct urgent_limit){.stop = true};
  const bool skip = there != 0 && (f & R_OOBINLINE) == 0;
  return (struct urgent_limit){.there = skip ? there - 1 : there, .skip = skip};
}

void urgent_passed(struct record* r) {
  const uint32_t f = load(&r->flags);
  const uint32_t at = load(&r->urgent);
  uint32_t ahead;
  if ((f & R_URGENT) == 0 || pending(r, f, &ahead)) return;
  fetch_and(&r->flags, ~(uint32_t)(R_URGENT | R_URGENT_READ));
  if (load(&r->urgent) != at) fetch_or(&r->flags, R_URGENT);
}

void urgent_fetched(struct record* r, uint32_t at) {
  fetch_or(&r->flags, R_URGENT_READ);
  if (load(&r->urgent) != at) fetch_and(&r->flags, ~(uint32_t)R_URGENT_READ);
}

bool urgent_next(const struct record* r) {
  uint32_t ahead;
  return pending(r, load(&r->flags), &ahead) && ahead == 0;
}

bool urgent_unread(const struct record* r) {
  const uint32_t f = load(&r->flags);
  uint32_t ahead;
  return pending(r, f, &ahead) && (f & R_URGENT_READ) == 0 &&
         load(&r->rx_tail) - load_relaxed(&r->rx_head) > ahead;
}

uint32_t stream_unread(const struct record* r) {
  const uint32_t there = load(&r->rx_tail) - load_relaxed(&r->rx_head);
  const uint32_t f = load(&r->flags);
  uint32_t ahead;
  return (f & R_OOBINLINE) != 0 || !pending(r, f, &ahead) || ahead >= there ? there : ahead;
}

bool stream_readable(const struct record* r) {
  const uint32_t there = load(&r->rx_tail) - load_relaxed(&r->rx_head);
  const uint32_t f = load(&r->flags);
  uint32_t ahead;
  const bool left_out = (f & R_OOBINLINE) == 0 && pending(r, f, &ahead) && ahead == 0;
  return there > (left_out ? 1 : 0);
}
