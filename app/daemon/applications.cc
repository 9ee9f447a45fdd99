#include "daemon/applications.h"

#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <utility>

#include "control/log.h"
#include "control/units.h"
#include "tcp/congestion.h"

namespace postern {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kMinSlots = 16;
constexpr uint32_t kMaxBacklog = 4096;  // as Linux' net.core.somaxconn
constexpr milliseconds kUnbindRetry{5};
constexpr int kUnbindTries = 40;
constexpr milliseconds kReleasePoll{20};
constexpr milliseconds kReleasePollLater{500};
constexpr milliseconds kStopGrace{50};  // for the workers to send what the stop gave them to send

std::vector<IpAddress> local_addresses(const Config& config) {
  std::vector<IpAddress> out;
  for (const InterfaceEntry& interface : interfaces_of(config.ports)) {
    for (const Prefix& prefix : interface.addresses) out.push_back(prefix.address);
  }
  return out;
}

void add_network(shm_settings& settings, const Prefix& network, bool kernel) {
  shm_network& to = settings.networks[settings.network_count++];
  std::memcpy(to.address, network.address.data(), sizeof to.address);
  to.bits = static_cast<uint8_t>(network.length + (network.address.is_v4() ? 96 : 0));
  to.kernel = kernel;
}

shm_settings settings_of(const Config& config) {
  shm_settings settings{};
  settings.receive_buffer = config.tcp.receive_buffer;
  settings.both_sides = config.programs.both;
  settings.congestion = config.tcp.congestion;
  static_assert(kCongestionCount <= SHM_MAX_CONGESTION);
  for (const std::string_view name : kCongestionNames) {
    name.copy(settings.congestion_names[settings.congestion_count++], SHM_CONGESTION_NAME - 1);
  }
  for (const auto& port : config.ports) settings.mtu = std::max(settings.mtu, port.mtu);
  for (const Prefix& network : config.programs.kernel) add_network(settings, network, true);
  for (const Prefix& network : config.programs.postern) add_network(settings, network, false);
  return settings;
}

SegmentOptions segment_options(const AccessRule& rule, uint32_t wanted_slots, uint32_t channels,
                               const shm_settings& settings) {
  SegmentOptions options;
  options.settings = settings;
  options.channels = channels;
  options.slots = wanted_slots == 0
                      ? rule.sockets
                      : std::bit_ceil(std::clamp(wanted_slots, kMinSlots, rule.sockets));
  options.client_slots = options.slots / 2;
  options.rx_pool_bytes = rule.memory;
  options.tx_pool_bytes = rule.memory;
  return options;
}

Endpoint local_endpoint(const shm_bind_request& request) {
  const IpAddress address = IpAddress::v6(request.address);
  if (address.is_any() && request.is_v6 == 0) return {IpAddress::v4(0), request.port};
  return {address, request.port};
}

SocketRef socket_on(AppId app, const Reservation& reservation, size_t worker) {
  return {app, reservation.handles[worker].slot, reservation.handles[worker].generation};
}

bool handles_are_sane(const shm_bind_request& request, const Application& app) {
  const SegmentOptions& options = app.segment->options();
  return std::all_of(request.handles, request.handles + options.channels, [&](const auto& handle) {
    return handle.slot < options.client_slots && handle.generation != 0;
  });
}

size_t book_size(const Channel& channel) {
  AppMemory memory;
  memory.rx_units = channel.rx_units();
  memory.tx_size = channel.tx_size();
  memory.slots = channel.slots();
  memory.client_slots = channel.client_slots();
  return Stack::book_size(memory);
}

int first_error(const std::vector<int>& errors) {
  const auto found = std::find_if(errors.begin(), errors.end(), [](int e) { return e != 0; });
  return found == errors.end() ? 0 : *found;
}

std::string_view protocol_name(uint32_t protocol) {
  return protocol == IPPROTO_TCP ? "tcp" : "udp";
}

}  // namespace

std::string Application::to_string() const {
  return name + " (app " + std::to_string(id) + ", " + peer.to_string() + ')';
}

Applications::Applications(boost::asio::io_context& io, const Config& config, WorkerCalls& calls,
                           Groups& groups, uint16_t ephemeral_first, uint16_t ephemeral_last,
                           uint16_t max_apps)
    : io_(io),
      config_file_(config.file),
      settings_(settings_of(config)),
      policy_(config.access),
      calls_(calls),
      groups_(groups),
      ports_(local_addresses(config), ephemeral_first, ephemeral_last),
      max_apps_(max_apps) {}

const Application* Applications::find(AppId id) const {
  const auto found = apps_.find(id);
  return found == apps_.end() ? nullptr : found->second.get();
}

Application* Applications::owner(const Session& session) {
  const auto found = std::find_if(apps_.begin(), apps_.end(), [&](const auto& entry) {
    return entry.second->session.get() == &session;
  });
  return found == apps_.end() ? nullptr : found->second.get();
}

AppId Applications::free_id() const {
  AppId id = 0;
  while (apps_.contains(id)) ++id;
  return id;
}

// ---- attach ----

Applications::Refusal Applications::check_limits(const Credentials& peer,
                                                 const AccessRule* rule) const {
  if (stopping_) return {ESHUTDOWN, "posternd is stopping"};
  if (rule == nullptr) {
    return {EACCES, "uid " + std::to_string(peer.uid) + " is not in access: of " + config_file_ +
                        "; add an entry for it"};
  }
  const auto of_rule = [&](bool leaving) {
    return static_cast<size_t>(std::count_if(apps_.begin(), apps_.end(), [&](const auto& entry) {
      const Application& app = *entry.second;
      return app.rule == rule && (leaving || app.state != Application::State::leaving);
    }));
  };
  // Those that are leaving hold memory for their last bytes; they must not keep a restart out, nor
  // may they pile up.
  const size_t limit = rule->applications;
  if (of_rule(false) >= limit || of_rule(true) >= 2 * limit + 2) {
    return {EAGAIN, rule->who + " has " + std::to_string(of_rule(true)) +
                        " applications already; raise applications: of its entry in access:"};
  }
  if (apps_.size() >= max_apps_) return {EAGAIN, "too many applications in all"};
  return {};
}

Application& Applications::create(const SessionPtr& session, const AccessRule& rule,
                                  const shm_attach_request& request) {
  auto app = std::make_unique<Application>();
  app->id = free_id();
  app->name = program_name(request);
  app->peer = session->peer();
  app->rule = &rule;
  app->session = session;
  const auto channels = static_cast<uint32_t>(calls_.workers());
  app->rights = std::make_unique<AppRights>(rule.connect);
  app->segment = AppSegment::create(segment_options(rule, request.slots, channels, settings_));
  for (uint32_t c = 0; c < channels; ++c) {
    app->channels.push_back(std::make_unique<Channel>(*app->segment, c));
    app->channels.back()->set_rights(app->rights.get());
    app->books.push_back(std::make_unique<std::byte[]>(book_size(*app->channels.back())));
  }
  return *apps_.emplace(app->id, std::move(app)).first->second;
}

void Applications::on_attach(const SessionPtr& session, const shm_attach_request& request) {
  const AccessRule* rule = policy_.rule_for(session->peer());
  const Refusal refusal = check_limits(session->peer(), rule);
  if (refusal.error != 0) {
    spdlog::warn("refused {} ({}): {}", program_name(request), session->peer().to_string(),
                 refusal.message);
    return session->reply(attach_refusal(refusal.error, refusal.message), {});
  }
  try {
    Application& app = create(session, *rule, request);
    calls_.post_all(
        [&app](Worker& worker) noexcept {
          const uint32_t index = worker.options().index;
          worker.attach(app.id, app.channels[index].get(), app.books[index].get());
          return 0;
        },
        [this, &app](const std::vector<int>&) { reply_attached(app); });
  } catch (const std::exception& error) {
    spdlog::error("cannot attach {} ({}): {}", program_name(request), session->peer().to_string(),
                  error.what());
    session->reply(attach_refusal(ENOMEM, error.what()), {});
  }
}

void Applications::reply_attached(Application& app) {
  // Evicted before it knew of its memory: cannot be, unless the stop came in between.
  if (app.state != Application::State::attaching) return;
  app.state = Application::State::attached;
  const AppSegment& segment = *app.segment;
  std::vector<int> fds{segment.daemon_fd(), segment.client_fd()};
  for (uint32_t c = 0; c < segment.options().channels; ++c) {
    fds.push_back(segment.worker_doorbell(c));
    fds.push_back(segment.client_doorbell(c));
  }
  shm_attach_reply reply = attach_refusal(0, "");
  reply.channel_count = segment.options().channels;
  reply.daemon_segment_size = segment.daemon_size();
  reply.client_segment_size = segment.client_size();
  spdlog::info("attached {} by the entry of {}, {} each way on {} worker(s), {} sockets",
               app.to_string(), app.rule->who, format_size(app.rule->memory),
               segment.options().channels, segment.options().slots);
  const SessionPtr session = app.session;
  session->reply(reply, fds);
}

// ---- bind, listen, unbind ----

void Applications::on_bind(const SessionPtr& session, const shm_bind_request& request) {
  Application* app = owner(*session);
  if (app == nullptr) {
    return session->reply(bind_refusal(request.type, ESHUTDOWN, "posternd is stopping"));
  }
  switch (request.type) {
    case SHM_REQ_BIND:
      return bind(*app, request);
    case SHM_REQ_LISTEN:
      return listen(*app, request);
    default:
      return unbind(*app, request);
  }
}

void Applications::bind(Application& app, const shm_bind_request& request) {
  const auto refuse = [&](int error, std::string_view why) {
    app.session->reply(bind_refusal(request.type, error, why));
  };
  if (request.protocol != IPPROTO_TCP && request.protocol != IPPROTO_UDP) {
    return refuse(EPROTONOSUPPORT, "only TCP and UDP have ports");
  }
  const auto protocol = static_cast<uint8_t>(request.protocol);
  if (!may_bind(*app.rule, protocol, request.port)) {
    return refuse(EACCES, app.rule->who + " may not bind " + std::string(protocol_name(protocol)) +
                              '/' + std::to_string(request.port) + "; see access:");
  }
  if (ports_.count(app.id) >= app.rule->sockets) return refuse(ENOBUFS, "too many bound sockets");
  Reservation wanted;
  wanted.app = app.id;
  wanted.uid = app.peer.uid;
  wanted.protocol = protocol;
  wanted.is_v6 = request.is_v6 != 0;
  wanted.flags = request.flags;
  wanted.local = local_endpoint(request);
  if (protocol == IPPROTO_UDP) {
    if (!handles_are_sane(request, app)) return refuse(EINVAL, "no such socket slot");
    std::copy(std::begin(request.handles), std::end(request.handles), wanted.handles.begin());
  }
  const PortTable::Result result = ports_.bind(wanted, random_());
  if (result.error != 0) return refuse(result.error, std::strerror(result.error));
  if (protocol == IPPROTO_UDP) return open_udp(app, result.binding);
  app.rights->set_port(result.local.port, true);
  reply_bound(app, request.type, result.binding);
}

void Applications::open_udp(Application& app, uint32_t binding) {
  const Reservation reservation = *ports_.find(app.id, binding);
  const Groups::Changes early = groups_.take_early(app.id, reservation);
  calls_.post_all(
      [reservation, early = early.get()](Worker& worker) noexcept {
        const SocketRef socket = socket_on(reservation.app, reservation, worker.options().index);
        const int error = worker.stack().bind_udp(socket, reservation.local,
                                                  (reservation.flags & SHM_BIND_V6ONLY) != 0);
        if (error != 0) return error;
        worker.publish_socket(socket);
        for (size_t i = 0; early != nullptr && i < early->size(); ++i) {
          const Groups::Change& c = (*early)[i];
          (void)worker.stack().change_group(socket, c.what, c.group, c.interface, c.source,
                                            worker.now());
        }
        return 0;
      },
      [this, &app, binding, reservation, early](const std::vector<int>& errors) {
        if (early != nullptr) groups_.refresh_filters();
        if (app.state != Application::State::attached) return;
        const int error = first_error(errors);
        if (error == 0) return reply_bound(app, SHM_REQ_BIND, binding);
        close_everywhere(app.id, reservation);
        release_binding(app, binding);
        app.session->reply(bind_refusal(SHM_REQ_BIND, error, std::strerror(error)));
      });
}

void Applications::on_group(const SessionPtr& session, const shm_group_request& request) {
  Application* app = owner(*session);
  if (app == nullptr) {
    return session->reply(bind_refusal(request.type, ESHUTDOWN, "posternd is stopping"));
  }
  groups_.request(app->id, request, [session](int error, uint16_t interface) {
    shm_bind_reply reply =
        bind_refusal(SHM_REQ_GROUP, error, error == 0 ? "" : std::strerror(error));
    reply.port = interface;
    session->reply(reply);
  });
}

void Applications::listen(Application& app, const shm_bind_request& request) {
  const auto refuse = [&](int error) {
    app.session->reply(bind_refusal(request.type, error, std::strerror(error)));
  };
  Reservation* own = ports_.find(app.id, request.binding);
  if (own == nullptr || !handles_are_sane(request, app)) return refuse(EINVAL);
  if (const int error = ports_.listen(app.id, request.binding)) return refuse(error);
  std::copy(std::begin(request.handles), std::end(request.handles), own->handles.begin());
  const Reservation reservation = *own;
  const uint32_t backlog = std::clamp(request.backlog, 1U, kMaxBacklog);
  calls_.post_all(
      [reservation, backlog](Worker& worker) noexcept {
        const SocketRef socket = socket_on(reservation.app, reservation, worker.options().index);
        const int error = worker.stack().listen(socket, reservation.local, backlog,
                                                (reservation.flags & SHM_BIND_V6ONLY) != 0);
        if (error == 0) worker.publish_socket(socket);
        return error;
      },
      [this, &app, binding = request.binding, reservation](const std::vector<int>& errors) {
        if (app.state != Application::State::attached) return;
        const int error = first_error(errors);
        if (error == 0) return reply_bound(app, SHM_REQ_LISTEN, binding);
        close_everywhere(app.id, reservation);
        ports_.unlisten(binding);
        app.session->reply(bind_refusal(SHM_REQ_LISTEN, error, std::strerror(error)));
      });
}

void Applications::release_binding(Application& app, uint32_t binding) {
  const Reservation gone = *ports_.find(app.id, binding);
  ports_.unbind(app.id, binding);
  if (gone.protocol != IPPROTO_TCP) return;
  app.rights->set_port(gone.local.port, ports_.holds(app.id, IPPROTO_TCP, gone.local.port));
}

void Applications::reply_bound(Application& app, uint32_t type, uint32_t binding) {
  shm_bind_reply reply = bind_refusal(type, 0, "");
  const Reservation& reservation = *ports_.find(app.id, binding);
  std::memcpy(reply.address, reservation.local.address.data(), sizeof reply.address);
  reply.port = reservation.local.port;
  reply.binding = binding;
  app.session->reply(reply);
}

void Applications::close_everywhere(AppId id, const Reservation& reservation) {
  calls_.post_all(
      [id, reservation](Worker& worker) noexcept {
        const SocketRef socket = socket_on(id, reservation, worker.options().index);
        return worker.stack().close(socket, true, 0, worker.now());  // stale where it never opened
      },
      [](const std::vector<int>&) {});
}

void Applications::unbind(Application& app, const shm_bind_request& request) {
  const Reservation* own = ports_.find(app.id, request.binding);
  if (own == nullptr) {
    return app.session->reply(bind_refusal(request.type, EINVAL, "no such binding"));
  }
  const bool open = own->protocol == IPPROTO_UDP || own->listening;
  unbind_when_closed(app.id, request.binding, open ? kUnbindTries : 0);
}

// The port is given to the next one only when no worker serves it any more: the client closes its
// slots by the command ring, which may come after its UNBIND. One that does not is closed here.
void Applications::unbind_when_closed(AppId id, uint32_t binding, int tries) {
  Application* app = apps_.contains(id) ? apps_.at(id).get() : nullptr;
  if (app == nullptr || app->state != Application::State::attached) return;
  const Reservation* own = ports_.find(id, binding);
  if (own == nullptr) return;
  if (tries == 0) {
    if (own->protocol == IPPROTO_UDP || own->listening) close_everywhere(id, *own);
    release_binding(*app, binding);
    shm_bind_reply reply = bind_refusal(SHM_REQ_UNBIND, 0, "");
    reply.binding = binding;
    return app->session->reply(reply);
  }
  calls_.post_all(
      [id, reservation = *own](Worker& worker) noexcept {
        SocketInfo info;
        const SocketRef socket = socket_on(id, reservation, worker.options().index);
        return worker.stack().socket_info(socket, &info) ? 1 : 0;
      },
      [this, id, binding, tries](const std::vector<int>& open) {
        if (first_error(open) == 0) return unbind_when_closed(id, binding, 0);
        later(kUnbindRetry, [=, this] { unbind_when_closed(id, binding, tries - 1); });
      });
}

// ---- the end of an application ----

void Applications::on_closed(const SessionPtr& session) {
  Application* app = owner(*session);
  if (app == nullptr || stopping_) return;
  spdlog::info("detached {}", app->to_string());
  leave(*app, false);
}

void Applications::evict(AppId id, std::string_view reason) {
  const auto found = apps_.find(id);
  if (found == apps_.end() || found->second->state == Application::State::leaving || stopping_) {
    return;
  }
  Application& app = *found->second;
  spdlog::warn("evicted {}: {}", app.to_string(), reason);
  app.segment->set_state(SHM_STATE_EVICTED, reason);
  app.session->close();
  leave(app, true);
}

void Applications::leave(Application& app, bool reset) {
  app.state = Application::State::leaving;
  app.session.reset();
  const AppId id = app.id;
  calls_.post_all(
      [id, reset](Worker& worker) noexcept {
        worker.detach(id, reset);
        return 0;
      },
      [this, id](const std::vector<int>&) {
        ports_.remove_app(id);
        groups_.forget(id);
        groups_.refresh_filters();
        poll_released(id, 0);
      });
}

void Applications::poll_released(AppId id, int tries) {
  calls_.post_all([id](Worker& worker) noexcept { return worker.stack().released(id) ? 0 : 1; },
                  [this, id, tries](const std::vector<int>& busy) {
                    if (first_error(busy) == 0) return forget(id);
                    later(tries < 50 ? kReleasePoll : kReleasePollLater,
                          [=, this] { poll_released(id, tries + 1); });
                  });
}

void Applications::forget(AppId id) {
  calls_.post_all(
      [id](Worker& worker) noexcept {
        worker.forget(id);
        return 0;
      },
      [this, id](const std::vector<int>&) {
        spdlog::debug("memory of {} is free again", apps_.at(id)->to_string());
        apps_.erase(id);
      });
}

void Applications::later(milliseconds delay, std::function<void()> then) {
  auto timer = std::make_shared<boost::asio::steady_timer>(io_, delay);
  timer->async_wait([timer, then = std::move(then)](const boost::system::error_code& error) {
    if (!error) then();
  });
}

void Applications::stop(std::function<void()> done) {
  stopping_ = true;
  for (const auto& [id, app] : apps_) {
    if (app->state == Application::State::leaving) continue;
    app->segment->set_state(SHM_STATE_STOPPED, "posternd is stopping");
    app->state = Application::State::leaving;
    const SessionPtr session = std::exchange(app->session, nullptr);
    session->close();
    calls_.post_all(
        [app_id = id](Worker& worker) noexcept {
          worker.detach(app_id, true);
          return 0;
        },
        [](const std::vector<int>&) {});
  }
  // Calls run in order: when this one is done, all were.
  calls_.post_all(
      [](Worker&) noexcept { return 0; },
      [this, done = std::move(done)](const std::vector<int>&) { later(kStopGrace, done); });
}

}  // namespace postern
