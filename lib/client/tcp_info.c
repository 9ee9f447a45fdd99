/* TCP_INFO. The kernel's structure, not libc's, which ends before most of it. */
#include <linux/tcp.h>

#include "client/internal.h"

enum { INFO_PATIENCE_NS = 1000000000, INFO_NAP_NS = 20000, LEAST_MSS = 536 };

/* Has the daemon write the figures of the slot. 0 or an errno. */
static int ask_for_figures(const struct sock* s, const struct shm_socket* d) {
  const uint8_t seen = load(&d->info_seq);
  const int64_t deadline = now_ns() + INFO_PATIENCE_NS;
  command_push(s->context, s->index, &(struct command){.op = SHM_OP_INFO});
  while (load(&d->info_seq) == seen) {
    if (check_daemon(s->context, false)) return ECONNABORTED;
    if (now_ns() > deadline) return ETIMEDOUT;
    nanosleep(&(struct timespec){.tv_nsec = INFO_NAP_NS}, NULL);
  }
  return 0;
}

static uint32_t segments(uint64_t bytes, uint32_t mss) {
  return (uint32_t)((bytes + mss - 1) / mss);
}

/* From a daemon that knows no more than these. */
static void fill_brief(const struct sock* s, const struct shm_socket* d, struct tcp_info* info) {
  const struct record* r = s->record;
  const uint32_t mss = d->mss != 0 ? d->mss : LEAST_MSS;
  info->tcpi_snd_mss = info->tcpi_rcv_mss = info->tcpi_advmss = mss;
  info->tcpi_rto = d->rto * 1000U;
  info->tcpi_rtt = d->srtt;
  info->tcpi_rttvar = d->rttvar;
  info->tcpi_snd_cwnd = d->cwnd / mss;
  info->tcpi_total_retrans = d->retransmits;
  info->tcpi_unacked = segments(load_relaxed(&r->tx_tail) - load(&r->tx_acked), mss);
}

static uint8_t option_bits(uint8_t options) {
  return (uint8_t)(((options & SHM_FIGURES_TIMESTAMPS) != 0 ? TCPI_OPT_TIMESTAMPS : 0) |
                   ((options & SHM_FIGURES_SACK) != 0 ? TCPI_OPT_SACK : 0) |
                   ((options & SHM_FIGURES_WSCALE) != 0 ? TCPI_OPT_WSCALE : 0) |
                   ((options & SHM_FIGURES_ECN) != 0 ? TCPI_OPT_ECN : 0));
}

static void fill_path(const struct shm_figures* d, uint32_t headers, struct tcp_info* info) {
  const uint32_t mss = d->mss != 0 ? d->mss : LEAST_MSS;
  info->tcpi_snd_mss = info->tcpi_advmss = mss;
  info->tcpi_rcv_mss = d->rcv_mss;
  info->tcpi_pmtu = d->path_mss != 0 ? d->path_mss + headers : 0;
  info->tcpi_rto = d->rto;
  info->tcpi_rtt = d->srtt;
  info->tcpi_rttvar = d->rttvar;
  info->tcpi_min_rtt = d->min_rtt != 0 ? d->min_rtt : UINT32_MAX;
  info->tcpi_snd_cwnd = d->cwnd / mss;
  info->tcpi_snd_ssthresh = d->ssthresh == UINT32_MAX ? INT32_MAX : d->ssthresh / mss;
  info->tcpi_unacked = segments((uint64_t)d->in_flight + d->sacked + d->lost, mss);
  info->tcpi_sacked = segments(d->sacked, mss);
  info->tcpi_lost = segments(d->lost, mss);
  info->tcpi_snd_wnd = d->snd_wnd;
  info->tcpi_rcv_ssthresh = d->rcv_wnd;
  info->tcpi_rcv_space = d->receive_buffer;
}

static void fill_totals(const struct shm_figures* d, struct tcp_info* info) {
  info->tcpi_total_retrans = d->retransmits;
  info->tcpi_reord_seen = d->reorder_seen;
  info->tcpi_notsent_bytes = d->unsent;
  info->tcpi_bytes_sent = d->bytes_sent;
  info->tcpi_bytes_retrans = d->bytes_resent;
  info->tcpi_bytes_acked = d->bytes_acked;
  info->tcpi_bytes_received = d->bytes_received;
  info->tcpi_delivery_rate = d->delivery_rate;
  info->tcpi_delivery_rate_app_limited = d->rate_limited;
  info->tcpi_pacing_rate = d->pacing_rate != 0 ? d->pacing_rate : UINT64_MAX;
  info->tcpi_max_pacing_rate = d->max_pacing_rate != 0 ? d->max_pacing_rate : UINT64_MAX;
  info->tcpi_busy_time = d->busy;
  info->tcpi_rwnd_limited = d->limited_by_receiver;
  info->tcpi_sndbuf_limited = d->limited_by_send_buffer;
}

static void fill(const struct sock* s, const struct shm_figures* d, struct tcp_info* info) {
  const bool v6 = s->channel->sockets[slot_of(s->context, s->index)].is_v6 != 0;
  info->tcpi_ca_state = d->ca_state;
  info->tcpi_retransmits = d->retries;
  info->tcpi_probes = d->probes;
  info->tcpi_backoff = d->backoff;
  info->tcpi_options = option_bits(d->options);
  info->tcpi_snd_wscale = d->snd_scale & 15;
  info->tcpi_rcv_wscale = d->rcv_scale & 15;
  fill_path(d, v6 ? 60 : 40, info);
  fill_totals(d, info);
}

/* Under info_lock, so that the figures are of whoever asked. */
static int ask_and_fill(const struct sock* s, struct tcp_info* info) {
  const uint32_t slot = slot_of(s->context, s->index);
  const struct shm_socket* d = &s->channel->sockets[slot];
  const int error = ask_for_figures(s, d);
  if (error != 0) return error;
  info->tcpi_state = d->tcp_state;
  const struct shm_figures* figures = s->channel->figures;
  if (figures != NULL && figures->slot == slot &&
      figures->generation == load_relaxed(&s->record->generation)) {
    fill(s, figures, info);
  } else {
    fill_brief(s, d, info);
  }
  return 0;
}

int tcp_info_get(const struct sock* s, uint32_t flags, void* value, socklen_t* length) {
  enum { listening = 10, closed = 7 }; /* TCP_LISTEN and TCP_CLOSE of netinet/tcp.h */
  struct tcp_info info = {.tcpi_state = (flags & R_LISTENING) != 0 ? listening : closed};
  if ((flags & (R_OPEN | R_LISTENING | R_CLOSING)) == R_OPEN) {
    struct lock* lock = &s->channel->shared->info_lock;
    lock_acquire(lock);
    const int error = ask_and_fill(s, &info);
    lock_release(lock);
    if (error != 0) return error;
  }
  if (*length > sizeof info) *length = sizeof info;
  memcpy(value, &info, *length);
  return 0;
}
