#include "control/session_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "control/log.h"

namespace postern {
namespace {

using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kAttachDeadline{10};
constexpr milliseconds kAcceptRetry{100};
constexpr int kAcceptBatch = 64;
constexpr size_t kMostDescriptors = 2 + 2 * SHM_MAX_CHANNELS;

// 0 or an errno value; EAGAIN: the peer does not read.
int send_message(int fd, std::span<const std::byte> message, std::span<const int> fds) {
  iovec part{const_cast<std::byte*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

}  // namespace

// ---- Session ----

Session::Session(SessionServer& server, int fd, Credentials peer)
    : server_(server),
      socket_(server.io_, fd),
      attach_deadline_(server.io_),
      peer_(std::move(peer)) {}

void Session::wait_for_request() {
  socket_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](const error_code& error) {
                       if (!error && !self->closed()) self->read_request();
                     });
}

void Session::read_request() {
  std::array<std::byte, kMaxSessionMessage> buffer;
  // Descriptors that a client sends along have no place to go: the kernel closes them.
  const ssize_t got = recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return wait_for_request();
  if (got <= 0) return peer_gone();
  dispatch(std::span<const std::byte>(buffer).first(static_cast<size_t>(got)));
}

void Session::dispatch(std::span<const std::byte> message) {
  const SessionRequest request = decode_request(message);
  if (const auto* reason = std::get_if<std::string>(&request)) return refuse(*reason);
  const auto* attach = std::get_if<shm_attach_request>(&request);
  if (attach == nullptr) {
    if (!attached_) return refuse("the first request is not ATTACH");
    if (const auto* group = std::get_if<shm_group_request>(&request)) {
      return server_.handler_.on_group(shared_from_this(), *group);
    }
    return server_.handler_.on_bind(shared_from_this(), std::get<shm_bind_request>(request));
  }
  if (attached_) return refuse("ATTACH came twice");
  if (const auto refusal = refuse_version(*attach)) {
    spdlog::warn("refused {} ({}): {}", program_name(*attach), peer_.to_string(), *refusal);
    return reply(attach_refusal(EPROTO, *refusal), {});
  }
  attached_ = true;
  attach_deadline_.cancel();
  server_.handler_.on_attach(shared_from_this(), *attach);
}

void Session::reply(const shm_attach_reply& message, std::span<const int> fds) {
  if (message.error == 0) return send(std::as_bytes(std::span(&message, 1)), fds);
  // Refused: the session ends here, and its handler need not be told.
  attached_ = false;
  if (!closed()) send_message(socket_.native_handle(), std::as_bytes(std::span(&message, 1)), {});
  close();
}

void Session::reply(const shm_bind_reply& message) {
  send(std::as_bytes(std::span(&message, 1)), {});
}

void Session::send(std::span<const std::byte> message, std::span<const int> fds) {
  if (closed()) return;
  // One request is under way at a time, so an honest client always has room for its reply.
  const int error = send_message(socket_.native_handle(), message, fds);
  if (error == 0) return wait_for_request();
  if (error == EAGAIN) return refuse("the client does not read its replies");
  if (error != EPIPE && error != ECONNRESET) {
    spdlog::error("cannot answer {}: {}", peer_.to_string(), std::strerror(error));
  }
  peer_gone();
}

void Session::refuse(std::string_view reason) {
  spdlog::warn("closing the session of {}: {}", peer_.to_string(), reason);
  peer_gone();
}

void Session::peer_gone() {
  if (closed()) return;
  const auto self = shared_from_this();
  const bool tell = attached_;
  close();
  if (tell) server_.handler_.on_closed(self);
}

void Session::close() {
  if (closed()) return;
  attach_deadline_.cancel();
  error_code ignored;
  socket_.close(ignored);
  server_.forget(shared_from_this());
}

// ---- SessionServer ----

SessionServer::SessionServer(boost::asio::io_context& io, int listen_fd, SessionHandler& handler,
                             SessionLimits limits)
    : io_(io), listener_(io, listen_fd), retry_(io), handler_(handler), limits_(limits) {
  wait_for_peer();
}

void SessionServer::wait_for_peer() {
  listener_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [this](const error_code& error) {
                         if (!error && listener_.is_open()) accept_peers();
                       });
}

void SessionServer::accept_peers() {
  for (int i = 0; i < kAcceptBatch; ++i) {
    const int fd =
        accept4(listener_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      admit(fd);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN) break;
    // Out of descriptors or memory: the peers stay in the backlog, try again a little later.
    spdlog::error("cannot accept an application: {}", std::strerror(errno));
    retry_.expires_after(kAcceptRetry);
    retry_.async_wait([this](const error_code& error) {
      if (!error) wait_for_peer();
    });
    return;
  }
  wait_for_peer();
}

void SessionServer::admit(int fd) {
  Credentials peer;
  try {
    peer = peer_credentials(fd);
  } catch (const std::system_error& error) {
    spdlog::error("refused a session: {}", error.what());
    ::close(fd);
    return;
  }
  const auto of_user = per_user_.find(peer.uid);
  if (sessions_.size() >= limits_.sessions ||
      (of_user != per_user_.end() && of_user->second >= limits_.per_user)) {
    spdlog::warn("refused a session of {}: too many sessions", peer.to_string());
    const shm_attach_reply refusal = attach_refusal(EMFILE, "too many sessions; close some");
    send_message(fd, std::as_bytes(std::span(&refusal, 1)), {});
    ::close(fd);
    return;
  }
  ++per_user_[peer.uid];
  const auto session = std::make_shared<Session>(*this, fd, std::move(peer));
  sessions_.insert(session);
  session->attach_deadline_.expires_after(kAttachDeadline);
  session->attach_deadline_.async_wait([weak = std::weak_ptr(session)](const error_code& error) {
    const auto self = weak.lock();
    if (!error && self && !self->attached_) self->close();
  });
  session->wait_for_request();
}

void SessionServer::forget(const std::shared_ptr<Session>& session) {
  if (sessions_.erase(session) == 0) return;
  const auto of_user = per_user_.find(session->peer().uid);
  if (--of_user->second == 0) per_user_.erase(of_user);
}

void SessionServer::stop() {
  error_code ignored;
  listener_.close(ignored);
  retry_.cancel();
  while (!sessions_.empty()) {
    const auto session = *sessions_.begin();
    session->close();
  }
}

}  // namespace postern
