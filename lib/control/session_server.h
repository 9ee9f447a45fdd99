// Application sessions on postern.sock. Control thread only: everything runs in the io_context.
//
// A session has at most one request under way: the next is read when the reply to the last is gone,
// so that a client can make the daemon neither queue nor wait. Its end of file, however it comes
// about, is the death of the application.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "control/access.h"
#include "control/session_protocol.h"

namespace postern {

class SessionServer;

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(SessionServer& server, int fd, Credentials peer);

  [[nodiscard]] const Credentials& peer() const { return peer_; }
  [[nodiscard]] bool closed() const { return !socket_.is_open(); }

  // Answers the request under way; `fds` ride along and stay the caller's. No effect once closed.
  // An ATTACH answered with an error ends the session. The peer may turn out to be gone while this
  // runs: on_closed is then called from here.
  void reply(const shm_attach_reply& message, std::span<const int> fds);
  void reply(const shm_bind_reply& message);
  // Ends the session from this side; SessionHandler::on_closed is not called.
  void close();

 private:
  friend class SessionServer;
  void wait_for_request();
  void read_request();
  void dispatch(std::span<const std::byte> message);
  void send(std::span<const std::byte> message, std::span<const int> fds);
  void peer_gone();
  void refuse(std::string_view reason);

  SessionServer& server_;
  boost::asio::posix::stream_descriptor socket_;
  boost::asio::steady_timer attach_deadline_;
  Credentials peer_;
  bool attached_ = false;  // ATTACH was handed to the handler
};

// What the daemon does about sessions. Each request is answered with Session::reply, now or later.
class SessionHandler {
 public:
  virtual void on_attach(const std::shared_ptr<Session>& session,
                         const shm_attach_request& request) = 0;
  // BIND, LISTEN or UNBIND, after an ATTACH that the handler saw.
  virtual void on_bind(const std::shared_ptr<Session>& session,
                       const shm_bind_request& request) = 0;
  virtual void on_group(const std::shared_ptr<Session>& session,
                        const shm_group_request& request) = 0;
  // The peer is gone; called once for each session that on_attach saw.
  virtual void on_closed(const std::shared_ptr<Session>& session) = 0;

 protected:
  ~SessionHandler() = default;
};

struct SessionLimits {
  size_t sessions = 1024;  // in all
  size_t per_user = 256;   // so that no user can keep the others out
};

class SessionServer {
 public:
  // Takes over listen_fd: a listening non-blocking SOCK_SEQPACKET socket. The handler outlives it.
  SessionServer(boost::asio::io_context& io, int listen_fd, SessionHandler& handler,
                SessionLimits limits = {});
  // Stops accepting and closes every session. Nothing is called back any more.
  void stop();
  [[nodiscard]] size_t size() const { return sessions_.size(); }

 private:
  friend class Session;
  void wait_for_peer();
  void accept_peers();
  void admit(int fd);
  void forget(const std::shared_ptr<Session>& session);

  boost::asio::io_context& io_;
  boost::asio::posix::stream_descriptor listener_;
  boost::asio::steady_timer retry_;
  SessionHandler& handler_;
  SessionLimits limits_;
  std::set<std::shared_ptr<Session>> sessions_;
  std::map<uid_t, size_t> per_user_;
};

}  // namespace postern
