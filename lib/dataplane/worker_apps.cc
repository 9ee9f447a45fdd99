#include "dataplane/worker_apps.h"

#include <netinet/in.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/chunk.h"
#include "shm/sleep_fence.h"
#include "udp/datagram.h"

namespace postern {
namespace {

// The pure stack knows these layouts under names of its own.
static_assert(sizeof(ChunkHeader) == sizeof(shm_chunk));
static_assert(offsetof(ChunkHeader, next) == offsetof(shm_chunk, next));
static_assert(offsetof(ChunkHeader, capacity) == offsetof(shm_chunk, capacity));
static_assert(offsetof(ChunkHeader, start) == offsetof(shm_chunk, start));
static_assert(offsetof(ChunkHeader, units) == offsetof(shm_chunk, units));
static_assert(sizeof(DatagramRecord) == sizeof(shm_datagram));
static_assert(offsetof(DatagramRecord, length) == offsetof(shm_datagram, length));
static_assert(offsetof(DatagramRecord, port) == offsetof(shm_datagram, port));
static_assert(offsetof(DatagramRecord, flags) == offsetof(shm_datagram, flags));
static_assert(offsetof(DatagramRecord, tos) == offsetof(shm_datagram, tos));
static_assert(offsetof(DatagramRecord, address) == offsetof(shm_datagram, address));
static_assert(offsetof(DatagramRecord, local) == offsetof(shm_datagram, local));
static_assert(offsetof(DatagramRecord, ttl) == offsetof(shm_datagram, ttl));
static_assert(offsetof(DatagramRecord, is_v6) == offsetof(shm_datagram, is_v6));
static_assert(offsetof(DatagramRecord, interface) == offsetof(shm_datagram, interface));
static_assert(kChunkUnit == SHM_CHUNK_UNIT && kChunkLargeUnits == SHM_CHUNK_LARGE_UNITS);

Endpoint endpoint(const uint8_t address[16], uint16_t port) {
  Endpoint e;
  e.address = IpAddress::v6(address);
  e.port = port;
  return e;
}

uint8_t type_of(const AppEvent& e) {
  switch (e.type) {
    case AppEvent::Type::update:
      return SHM_EVENT_UPDATE;
    case AppEvent::Type::accept:
      return SHM_EVENT_ACCEPT;
    case AppEvent::Type::released:
      break;
  }
  return SHM_EVENT_RELEASED;
}

uint8_t flags_of(const AppEvent& e) {
  return static_cast<uint8_t>(
      (e.new_chain ? SHM_EV_NEW_CHAIN : 0) | (e.eof ? SHM_EV_EOF : 0) |
      (e.error != 0 ? SHM_EV_ERROR : 0) | (e.connected ? SHM_EV_CONNECTED : 0) |
      (e.has_mark ? SHM_EV_URGENT : 0) | (e.queued || e.soft_error != 0 ? SHM_EV_ERRQUEUE : 0));
}

// All but seq. Straight into the ring: an event put together elsewhere would be loaded again before
// its parts have left the store buffer.
void write_event(shm_event& out, const AppEvent& e, uint32_t error_tail) {
  out.type = SHM_EVENT_UPDATE;
  out.flags = e.new_chain ? SHM_EV_NEW_CHAIN : 0;
  out.error = 0;
  out.slot = e.socket.slot;
  out.generation = e.socket.generation;
  out.rx_tail = e.rx_tail;
  out.tx_acked = e.tx_acked;
  out.value = e.chain;
  out.value2 = 0;
  if (e.plain) return;
  out.type = type_of(e);
  out.flags = flags_of(e);
  out.error = static_cast<uint16_t>(e.error != 0 ? e.error : e.soft_error);
  if (e.type == AppEvent::Type::accept) {
    out.value = e.new_slot;
    out.value2 = e.new_generation;
  } else {
    out.value2 = e.queued ? error_tail : e.mark;
  }
}

uint32_t microseconds(Duration d) {
  return static_cast<uint32_t>(std::min<int64_t>(d.count() / 1000, UINT32_MAX));
}

// As Linux's tcpi_ca_state.
uint8_t recovery_state(const TcpInfo& info) {
  enum : uint8_t { open, disorder, reduced, recovery, loss };
  if (info.in_recovery) return info.retries != 0 ? loss : recovery;
  return info.sacked != 0 ? disorder : open;
}

void write_figures(shm_figures& out, SocketRef socket, const TcpInfo& info) {
  const auto whole_microseconds = [](Duration d) {
    return static_cast<uint64_t>(d.count() / 1000);
  };
  out.slot = socket.slot;
  out.generation = socket.generation;
  out.options = static_cast<uint8_t>(
      (info.timestamps ? SHM_FIGURES_TIMESTAMPS : 0) | (info.sack ? SHM_FIGURES_SACK : 0) |
      (info.window_scaling ? SHM_FIGURES_WSCALE : 0) | (info.ecn ? SHM_FIGURES_ECN : 0));
  out.snd_scale = info.snd_scale;
  out.rcv_scale = info.rcv_scale;
  out.backoff = info.backoff;
  out.retries = info.retries;
  out.ca_state = recovery_state(info);
  out.rate_limited = info.delivery_rate_app_limited ? 1 : 0;
  out.probes = info.probes;
  out.rto = microseconds(info.rto);
  out.srtt = microseconds(info.srtt);
  out.rttvar = microseconds(info.rttvar);
  out.min_rtt = microseconds(info.min_rtt);
  out.mss = info.mss;
  out.rcv_mss = info.rcv_mss;
  out.cwnd = info.cwnd;
  out.ssthresh = info.ssthresh;
  out.snd_wnd = info.snd_wnd;
  out.rcv_wnd = info.rcv_wnd;
  out.in_flight = info.in_flight;
  out.sacked = info.sacked;
  out.lost = info.lost;
  out.unsent = info.unsent;
  out.receive_buffer = info.receive_buffer;
  out.retransmits = info.retransmits;
  out.reorder_seen = info.reorder_seen;
  out.path_mss = info.path_mss;
  out.bytes_sent = info.bytes_sent;
  out.bytes_resent = info.bytes_resent;
  out.bytes_acked = info.bytes_acked;
  out.bytes_received = info.bytes_received;
  out.delivery_rate = info.delivery_rate;
  out.pacing_rate = info.pacing_rate;
  out.max_pacing_rate = info.max_pacing_rate;
  out.busy = whole_microseconds(info.busy);
  out.limited_by_receiver = whole_microseconds(info.limited_by_receiver);
  out.limited_by_send_buffer = whole_microseconds(info.limited_by_send_buffer);
}

shm_error error_entry(const SocketError& e) {
  static_assert(SocketError::kPayload == SHM_ERROR_PAYLOAD);
  shm_error out{};
  out.slot = e.socket.slot;
  out.generation = e.socket.generation;
  out.info = e.info;
  out.error = e.error;
  out.origin = e.origin;
  out.type = e.type;
  out.code = e.code;
  out.ttl = e.ttl;
  out.port = e.destination.port;
  out.length = e.length;
  out.zone = static_cast<uint16_t>(e.interface + 1);
  std::memcpy(out.offender, e.offender.data(), sizeof out.offender);
  std::memcpy(out.destination, e.destination.address.data(), sizeof out.destination);
  std::memcpy(out.payload, e.payload.data(), e.length);
  return out;
}

}  // namespace

WorkerApps::WorkerApps(Stack& stack, uint16_t max_apps)
    : stack_(stack), apps_(max_apps), evictions_(max_apps) {
  hot_.reserve(max_apps);
  cold_.reserve(max_apps);
  to_ring_.reserve(max_apps);
}

void WorkerApps::attach(AppId id, Channel* channel, void* book) noexcept {
  App& app = apps_[id];
  app = App{};
  app.channel = channel;
  AppMemory memory;
  memory.rx_pool = channel->rx_pool();
  memory.rx_units = channel->rx_units();
  memory.tx_pool = channel->tx_pool();
  memory.tx_size = channel->tx_size();
  memory.slots = channel->slots();
  memory.client_slots = channel->client_slots();
  memory.book = book;
  stack_.attach(id, memory);
  place(id, app, true);
}

Channel* WorkerApps::detach(AppId id, Time now, bool reset) noexcept {
  App& app = apps_[id];
  if (app.channel == nullptr) return nullptr;
  if (!app.gone) unplace(app);
  app.gone = app.evicted = true;
  stack_.detach(id, now, reset);
  return app.channel;
}

void WorkerApps::forget(AppId id) noexcept { apps_[id] = App{}; }

void WorkerApps::place(AppId id, App& app, bool hot) noexcept {
  std::vector<AppId>& list = hot ? hot_ : cold_;
  app.hot = hot;
  app.place = static_cast<uint32_t>(list.size());
  app.last_active = drains_;
  list.push_back(id);
}

void WorkerApps::unplace(App& app) noexcept {
  std::vector<AppId>& list = app.hot ? hot_ : cold_;
  list[app.place] = list.back();
  apps_[list.back()].place = app.place;
  list.pop_back();
}

void WorkerApps::evict(AppId id, App& app) noexcept {
  if (app.evicted) return;
  if (!app.gone) unplace(app);
  app.gone = app.evicted = true;
  const char* reason = app.channel->violation();
  attention_ = evictions_.push({id, reason != nullptr ? reason : "broke the contract"});
}

bool WorkerApps::take_attention() noexcept {
  const bool was = attention_;
  attention_ = false;
  return was;
}

// ---- commands ----

uint32_t WorkerApps::drain(Time now) noexcept {
  ++drains_;
  uint32_t taken = 0;
  for (size_t i = 0; i < hot_.size();) {
    const AppId id = hot_[(i + hot_next_) % hot_.size()];
    App& app = apps_[id];
    const uint32_t n = drain_app(id, app, now);
    taken += n;
    if (app.gone) continue;  // another stands in its place now
    if (n == 0 && drains_ - app.last_active > kHotTurns) {
      unplace(app);
      place(id, app, false);
      continue;
    }
    ++i;
  }
  ++hot_next_;  // who comes first changes, so that a budget favours nobody
  for (size_t polls = 0; polls < kColdPolls && polls < cold_.size(); ++polls) {
    const AppId id = cold_[cold_next_++ % cold_.size()];
    App& app = apps_[id];
    if (!app.channel->commands_pending()) continue;
    unplace(app);
    place(id, app, true);
    taken += drain_app(id, app, now);
  }
  return taken;
}

uint32_t WorkerApps::drain_app(AppId id, App& app, Time now) noexcept {
  if (app.has_answer) {
    app.has_answer = !after_event(id, app, app.channel->push_event(app.answer), true);
    if (app.has_answer || app.gone) return 0;
  }
  shm_command command;
  uint32_t n = 0;
  while (n < kCommandsPerTurn && !app.gone && !app.has_answer &&
         app.channel->next_command(&command)) {
    execute(id, app, command, now);
    ++n;
  }
  if (n > 0) {
    app.channel->publish_commands();
    app.last_active = drains_;
    stack_.counters().add(Counter::app_commands, n);
  }
  if (app.channel->violation() != nullptr) evict(id, app);
  return n;
}

void WorkerApps::execute(AppId id, App& app, const shm_command& command, Time now) noexcept {
  const SocketRef socket{id, command.slot, command.generation};
  const int error = perform(app, socket, command, now);
  if (error == 0) return;
  if (error == ESTALE) {
    stack_.counters().add(Counter::app_stale_handles);
    if (command.op == SHM_OP_CLOSE) answer(app, command, SHM_EVENT_RELEASED, 0);
  } else if (error == EPROTO) {
    app.channel->set_violation("command that contradicts the state of its socket");
  } else if (command.op == SHM_OP_OPEN || command.op == SHM_OP_CONNECT) {
    answer(app, command, SHM_EVENT_UPDATE, error);
  }
  // Other errors are of operations whose result the client has given to its caller already.
}

int WorkerApps::perform(App& app, SocketRef socket, const shm_command& c, Time now) noexcept {
  switch (c.op) {
    case SHM_OP_OPEN:
      return stack_.open_tcp(socket, now);
    case SHM_OP_CONNECT:
      return connect(app, socket, now);
    case SHM_OP_SEND: {
      const int error = stack_.send(socket, c.offset, c.length, (c.flags & SHM_CMD_MORE) != 0,
                                    (c.flags & SHM_CMD_WANT_TX) != 0, now, &c.rx_head);
      return error != 0 || (c.flags & SHM_CMD_URGENT) == 0 ? error
                                                           : stack_.mark_urgent(socket, now);
    }
    case SHM_OP_SENDTO:
      return send_datagram(app, socket, c, now);
    case SHM_OP_RECEIVED:
      return stack_.consumed(socket, c.rx_head, now);
    case SHM_OP_SHUTDOWN:
      return stack_.shutdown(socket, c.arg != 1, c.arg != 0, now);
    case SHM_OP_CLOSE:
      return stack_.close(socket, c.arg == 1, c.rx_head, now);
    case SHM_OP_SETOPT:
      return stack_.set_option(socket, c.arg, c.length, now);
    case SHM_OP_ACCEPTED:
      return stack_.accepted(socket, c.length, now);
    case SHM_OP_INFO:
      publish_figures(socket, now);
      return 0;
    default:
      return EPROTO;
  }
}

// UDP sockets got their address from the control thread; TCP names its own here.
bool WorkerApps::may_connect(const App& app, SocketRef socket, const shm_request& r) noexcept {
  const AppRights* rights = app.channel->rights();
  SocketInfo info;
  if (rights == nullptr || !stack_.socket_info(socket, &info) || info.protocol != IPPROTO_TCP) {
    return true;
  }
  return rights->may_connect() && (r.local_port == 0 || rights->holds_port(r.local_port));
}

int WorkerApps::connect(App& app, SocketRef socket, Time now) noexcept {
  const shm_request r = app.channel->request(socket.slot);
  if (!may_connect(app, socket, r)) return EACCES;
  const int error = stack_.connect(socket, endpoint(r.local_address, r.local_port),
                                   endpoint(r.remote_address, r.remote_port), now, r.zone);
  if (error == 0) publish_socket(socket);
  return error;
}

int WorkerApps::send_datagram(App& app, SocketRef socket, const shm_command& c, Time now) noexcept {
  shm_datagram d;
  if (!app.channel->datagram(c, &d)) return 0;  // the channel knows why
  return stack_.send_datagram(socket, c.length, c.offset + sizeof(shm_datagram), d.length,
                              IpAddress::v6(d.local), endpoint(d.address, d.port), d.tos, d.ttl,
                              now, (c.flags & SHM_CMD_WANT_TX) != 0, d.interface, &c.rx_head);
}

// The socket never came to be, so the stack has no event for it.
void WorkerApps::answer(App& app, const shm_command& command, shm_event_type type,
                        int error) noexcept {
  app.answer = {};
  app.answer.type = static_cast<uint8_t>(type);
  app.answer.flags = error != 0 ? SHM_EV_ERROR : 0;
  app.answer.error = static_cast<uint16_t>(error);
  app.answer.slot = command.slot;
  app.answer.generation = command.generation;
  app.has_answer = true;
}

// ---- events ----

uint32_t WorkerApps::publish() noexcept {
  blocked_ = false;
  uint32_t given = 0;
  if (stack_.wants_publish()) {
    give_errors();
    stack_.publish(kEventsPerTurn, [this, &given](const AppEvent& event) {
      const bool taken = give_event(event);
      if (taken) {
        ++given;
      } else {
        blocked_ = true;
      }
      return taken;
    });
    stack_.counters().add(Counter::app_events, given);
  }
  if (!to_ring_.empty()) ring_doorbells();
  return given;
}

void WorkerApps::give_errors() noexcept {
  SocketError error;
  while (stack_.take_error(&error)) {
    const App& app = apps_[error.socket.app];
    if (!app.gone && app.channel != nullptr) app.channel->push_error(error_entry(error));
  }
}

bool WorkerApps::give_event(const AppEvent& event) noexcept {
  App& app = apps_[event.socket.app];
  if (app.gone || app.channel == nullptr) return true;  // nobody is there to read it
  if (!event.plain) show_state(event);
  shm_event* const place = app.channel->event_place();
  if (place != nullptr) {
    write_event(*place, event, app.channel->error_tail());
    app.channel->show_event();
  }
  return after_event(event.socket.app, app, place != nullptr, event.urgent) || app.gone;
}

// What getsockname() and getpeername() read, before the application is told to look.
void WorkerApps::show_state(const AppEvent& event) noexcept {
  if (event.type == AppEvent::Type::accept) {
    publish_socket({event.socket.app, event.new_slot, event.new_generation});
  } else if (event.connected || event.eof || event.error != 0) {
    publish_socket(event.socket);
  }
}

// Returns `taken`; false: no room. A full ring is a reason to ring too, or a sleeping client never
// makes room.
bool WorkerApps::after_event(AppId id, App& app, bool taken, bool urgent) noexcept {
  if (!taken && app.channel->violation() != nullptr) evict(id, app);
  if ((urgent || !taken) && !app.ring) {
    app.ring = true;
    to_ring_.push_back(id);
  }
  return taken;
}

void WorkerApps::ring_doorbells() noexcept {
  for (const AppId id : to_ring_) {
    App& app = apps_[id];
    if (app.channel == nullptr) continue;
    app.ring = false;
    if (app.gone || !app.channel->doorbell_due()) continue;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n =
        ::write(app.channel->client_doorbell_fd(), &one, sizeof(one));
    stack_.counters().add(Counter::app_doorbells);
  }
  to_ring_.clear();
}

void WorkerApps::publish_socket(SocketRef socket) noexcept {
  SocketInfo info;
  App& app = apps_[socket.app];
  if (app.channel == nullptr || socket.slot >= app.channel->slots() ||
      !stack_.socket_info(socket, &info)) {
    return;
  }
  shm_socket* out = app.channel->socket(socket.slot);
  out->protocol = info.protocol;
  out->is_v6 = info.local.address.is_v4() || info.remote.address.is_v4() ? 0 : 1;
  out->tcp_state = static_cast<uint8_t>(info.listening ? TcpState::listen : info.state);
  std::memcpy(out->local_address, info.local.address.data(), sizeof(out->local_address));
  std::memcpy(out->remote_address, info.remote.address.data(), sizeof(out->remote_address));
  out->local_port = info.local.port;
  out->remote_port = info.remote.port;
  out->mss = info.mss;
  std::atomic_ref<uint32_t>(out->generation).store(socket.generation, std::memory_order_release);
}

// For TCP_INFO. A slot without a connection is answered with zeroes.
void WorkerApps::publish_figures(SocketRef socket, Time now) noexcept {
  App& app = apps_[socket.app];
  if (app.channel == nullptr || socket.slot >= app.channel->slots()) return;
  TcpInfo info;
  if (stack_.tcp_info(socket, now, &info)) publish_socket(socket);
  shm_socket* out = app.channel->socket(socket.slot);
  out->rto = static_cast<uint16_t>(std::min<uint32_t>(microseconds(info.rto) / 1000, UINT16_MAX));
  out->srtt = microseconds(info.srtt);
  out->rttvar = microseconds(info.rttvar);
  out->cwnd = info.cwnd;
  out->retransmits = info.retransmits;
  write_figures(*app.channel->figures(), socket, info);
  std::atomic_ref<uint8_t> seq(out->info_seq);
  seq.store(static_cast<uint8_t>(seq.load(std::memory_order_relaxed) + 1),
            std::memory_order_release);
}

// ---- sleep ----

void WorkerApps::arm() noexcept {
  if (hot_.empty() && cold_.empty()) return;
  for (const auto* list : {&hot_, &cold_}) {
    for (const AppId id : *list) apps_[id].channel->arm();
  }
  sleep_fence();
}

void WorkerApps::disarm() noexcept {
  for (const auto* list : {&hot_, &cold_}) {
    for (const AppId id : *list) apps_[id].channel->disarm();
  }
}

bool WorkerApps::pending() const noexcept {
  for (const auto* list : {&hot_, &cold_}) {
    for (const AppId id : *list) {
      if (apps_[id].channel->commands_pending()) return true;
    }
  }
  return false;
}

}  // namespace postern
