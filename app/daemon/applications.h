// The applications that are attached: who they are, their shared memory, the ports they hold. Makes
// sessions and workers meet. Control thread only.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "control/access.h"
#include "control/config.h"
#include "control/port_table.h"
#include "control/session_server.h"
#include "daemon/groups.h"
#include "daemon/worker_calls.h"
#include "shm/channel.h"
#include "shm/segment.h"

namespace postern {

struct Application {
  // leaving: the client is gone or evicted; workers still need its memory for data in flight.
  enum class State { attaching, attached, leaving };

  AppId id = 0;
  std::string name;
  Credentials peer;
  const AccessRule* rule = nullptr;
  State state = State::attaching;
  std::unique_ptr<AppRights> rights;
  std::unique_ptr<AppSegment> segment;
  std::vector<std::unique_ptr<Channel>> channels;   // by worker
  std::vector<std::unique_ptr<std::byte[]>> books;  // by worker: AppMemory::book
  std::shared_ptr<Session> session;                 // null when leaving

  [[nodiscard]] std::string to_string() const;  // for the log
};

class Applications final : public SessionHandler {
 public:
  Applications(boost::asio::io_context& io, const Config& config, WorkerCalls& calls,
               Groups& groups, uint16_t ephemeral_first, uint16_t ephemeral_last,
               uint16_t max_apps);

  void on_attach(const std::shared_ptr<Session>& session,
                 const shm_attach_request& request) override;
  void on_bind(const std::shared_ptr<Session>& session, const shm_bind_request& request) override;
  void on_group(const std::shared_ptr<Session>& session, const shm_group_request& request) override;
  void on_closed(const std::shared_ptr<Session>& session) override;

  // Those that may be bound, from now on.
  void set_addresses(std::vector<IpAddress> ours) { ports_.set_addresses(std::move(ours)); }
  // A worker found that the application broke the contract.
  void evict(AppId id, std::string_view reason);
  // The daemon stops: tells every client, resets its connections, then calls done.
  void stop(std::function<void()> done);

  [[nodiscard]] const std::map<AppId, std::unique_ptr<Application>>& all() const { return apps_; }
  [[nodiscard]] const Application* find(AppId id) const;
  [[nodiscard]] const PortTable& ports() const { return ports_; }

 private:
  struct Refusal {
    int error = 0;
    std::string message;
  };
  using SessionPtr = std::shared_ptr<Session>;

  [[nodiscard]] Refusal check_limits(const Credentials& peer, const AccessRule* rule) const;
  Application& create(const SessionPtr& session, const AccessRule& rule,
                      const shm_attach_request& request);
  void reply_attached(Application& app);
  [[nodiscard]] Application* owner(const Session& session);
  [[nodiscard]] AppId free_id() const;

  void bind(Application& app, const shm_bind_request& request);
  void open_udp(Application& app, uint32_t binding);
  void listen(Application& app, const shm_bind_request& request);
  void unbind(Application& app, const shm_bind_request& request);
  void unbind_when_closed(AppId id, uint32_t binding, int tries);
  void close_everywhere(AppId id, const Reservation& reservation);
  // Removes the reservation and, with its last one, the right to its TCP port.
  void release_binding(Application& app, uint32_t binding);
  void reply_bound(Application& app, uint32_t type, uint32_t binding);

  void leave(Application& app, bool reset);
  void poll_released(AppId id, int tries);
  void forget(AppId id);
  // Runs `then` a little later unless the application has been forgotten by then.
  void later(std::chrono::milliseconds delay, std::function<void()> then);

  boost::asio::io_context& io_;
  std::string config_file_;
  const shm_settings settings_;
  AccessPolicy policy_;
  WorkerCalls& calls_;
  Groups& groups_;
  PortTable ports_;
  uint16_t max_apps_;
  std::map<AppId, std::unique_ptr<Application>> apps_;
  std::random_device random_;
  bool stopping_ = false;
};

}  // namespace postern
