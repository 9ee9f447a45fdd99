#include "sockets.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

namespace postern::packetdrill {
namespace {

int fail(int error) {
  errno = error;
  return -1;
}

Endpoint endpoint_of(const sockaddr* address) {
  sockaddr_in in;
  std::memcpy(&in, address, sizeof in);
  const uint32_t host = ntohl(in.sin_addr.s_addr);
  return {host == INADDR_ANY ? IpAddress{} : IpAddress::v4(host), ntohs(in.sin_port)};
}

void store(const Endpoint& e, sockaddr* address, socklen_t* length) {
  if (address == nullptr || length == nullptr) return;
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(e.address.v4_value());
  in.sin_port = htons(e.port);
  std::memcpy(address, &in, std::min<size_t>(*length, sizeof in));
  *length = sizeof in;
}

}  // namespace

Sockets::Open* Sockets::find(int fd) {
  const auto it = open_.find(fd);
  if (it != open_.end()) return &it->second;
  errno = EBADF;
  return nullptr;
}

bool Sockets::has(int fd) {
  const Host::Lock held = host_.lock();
  return open_.count(fd) != 0;
}

test::TestApp::Socket* Sockets::state(Open& s) {
  return s.exists && host_.app().has(s.ref) ? &host_.app()[s.ref] : nullptr;
}

int Sockets::pending_error(Open& s) {
  const auto* socket = state(s);
  if (socket == nullptr || socket->error == 0 || s.error_taken) return 0;
  s.error_taken = true;
  return socket->error;
}

int Sockets::open_descriptor(const Open& s) {
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (fd >= 0) open_[fd] = s;
  return fd;
}

bool Sockets::wait(Host::Lock& held, const Open& s, int flags, const std::function<bool()>& done) {
  if (done()) return true;
  if (!s.blocking || (flags & MSG_DONTWAIT) != 0) return false;
  return host_.wait(held, kNever, done);
}

int Sockets::socket(int domain, int type, int protocol) {
  const Host::Lock held = host_.lock();
  if (domain != AF_INET) return fail(EAFNOSUPPORT);
  if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM) return fail(ESOCKTNOSUPPORT);
  if (protocol != 0 && protocol != IPPROTO_TCP) return fail(EPROTONOSUPPORT);
  Open s;
  s.blocking = (type & SOCK_NONBLOCK) == 0;
  return open_descriptor(s);
}

int Sockets::bind(int fd, const sockaddr* address, socklen_t length) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (length < sizeof(sockaddr_in) || s->exists || s->local.port != 0) return fail(EINVAL);
  s->local = endpoint_of(address);
  host_.use_address(s->local.address.is_any() ? host_.local() : s->local.address);
  return 0;
}

int Sockets::listen(int fd, int backlog) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (s->listening) return 0;
  if (s->exists) return fail(EINVAL);
  host_.use_address(host_.local());
  s->ref = host_.app().next_client_slot();
  const int error = host_.stack().listen(s->ref, s->local, std::max(1, backlog), false);
  if (error != 0) return fail(error);
  s->exists = s->listening = true;
  apply_options(*s);
  return 0;
}

int Sockets::accept(int fd, sockaddr* address, socklen_t* length) {
  Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (!s->listening) return fail(EINVAL);
  test::TestApp::Socket& listener = host_.app()[s->ref];
  if (!wait(held, *s, 0, [&] { return !listener.accepted.empty(); })) return fail(EAGAIN);
  Open child;
  child.ref = *host_.app().accept(s->ref, Host::now());
  child.exists = true;
  SocketInfo info;
  if (host_.stack().socket_info(child.ref, &info)) store(info.remote, address, length);
  host_.turn();
  return open_descriptor(child);
}

int Sockets::connect(int fd, const sockaddr* address, socklen_t length) {
  Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (length < sizeof(sockaddr_in) || s->listening) return fail(EINVAL);
  if (!s->exists) {
    host_.use_address(host_.local());
    s->ref = host_.app().open(Host::now());
    if (s->ref.slot == kNoSlot) return fail(ENOBUFS);
    s->exists = true;
    apply_options(*s);
    const int error = host_.app().connect(s->ref, endpoint_of(address), Host::now(), s->local);
    if (error != 0) return fail(error);
    host_.turn();
    if (!s->blocking && !state(*s)->connected && state(*s)->error == 0) return fail(EINPROGRESS);
  } else if (state(*s)->connected) {
    return s->blocking ? fail(EISCONN) : 0;
  } else if (!s->blocking && state(*s)->error == 0) {
    return fail(EALREADY);
  }
  wait(held, *s, 0, [&] { return state(*s)->connected || state(*s)->error != 0; });
  const int error = pending_error(*s);
  return error == 0 ? 0 : fail(error);
}

ssize_t Sockets::receive(int fd, void* bytes, size_t size, int flags) {
  Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  test::TestApp::Socket* const socket = state(*s);
  if (socket == nullptr || s->listening) return fail(ENOTCONN);
  const auto ready = [&] {
    return s->read_shut || socket->unread() != 0 || socket->eof || socket->error != 0;
  };
  if (!wait(held, *s, flags, ready)) return fail(EAGAIN);
  const size_t n = host_.app().read(s->ref, static_cast<std::byte*>(bytes), size, Host::now());
  host_.turn();
  if (n != 0) return static_cast<ssize_t>(n);
  const int error = pending_error(*s);
  return error == 0 ? 0 : fail(error);
}

ssize_t Sockets::send(int fd, const void* bytes, size_t size, int flags) {
  Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  test::TestApp::Socket* const socket = state(*s);
  if (socket == nullptr || s->listening) return fail(ENOTCONN);
  size_t done = 0;
  while (done < size) {
    const auto ready = [&] {
      return socket->error != 0 || s->write_shut ||
             (socket->connected && socket->outstanding() < host_.kSendBuffer);
    };
    if (!wait(held, *s, flags, ready)) return done != 0 ? static_cast<ssize_t>(done) : fail(EAGAIN);
    if (socket->error != 0 || s->write_shut) {
      const int error = pending_error(*s);
      return fail(error == 0 ? EPIPE : error);
    }
    done += host_.app().write(s->ref, static_cast<const std::byte*>(bytes) + done, size - done,
                              Host::now(), (flags & MSG_MORE) != 0);
    host_.turn();
  }
  return static_cast<ssize_t>(done);
}

int Sockets::shutdown(int fd, int how) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (state(*s) == nullptr) return fail(ENOTCONN);
  s->read_shut = s->read_shut || how != SHUT_WR;
  s->write_shut = s->write_shut || how != SHUT_RD;
  const int error = host_.stack().shutdown(s->ref, how != SHUT_WR, how != SHUT_RD, Host::now());
  host_.turn();
  return error == 0 ? 0 : fail(error);
}

int Sockets::close(int fd) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (state(*s) != nullptr) host_.app().close(s->ref, Host::now(), s->reset_on_close);
  open_.erase(fd);
  host_.turn();
  return ::close(fd);
}

int Sockets::fcntl(int fd, int command, long argument) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  if (command == F_GETFL) return O_RDWR | (s->blocking ? 0 : O_NONBLOCK);
  if (command != F_SETFL) return fail(EINVAL);
  s->blocking = (argument & O_NONBLOCK) == 0;
  return 0;
}

int Sockets::ioctl(int fd, unsigned long request, void* argument) {
  const Host::Lock held = host_.lock();
  Open* const s = find(fd);
  if (s == nullptr) return -1;
  test::TestApp::Socket* const socket = state(*s);
  if (socket == nullptr || (request != SIOCINQ && request != SIOCOUTQ)) return fail(EINVAL);
  const uint32_t n = request == SIOCINQ ? socket->unread() : socket->outstanding();
  *static_cast<int*>(argument) = static_cast<int>(n);
  return 0;
}

short Sockets::events(Open& s) {
  test::TestApp::Socket* const socket = state(s);
  if (socket == nullptr) return POLLOUT | POLLHUP;
  int events = 0;
  if (!socket->accepted.empty() || socket->unread() != 0 || socket->eof) events |= POLLIN;
  if (socket->eof) events |= POLLRDHUP;
  if (socket->connected && socket->outstanding() < host_.kSendBuffer) events |= POLLOUT;
  if (socket->error != 0) events |= POLLIN | POLLOUT | POLLHUP | POLLRDHUP;
  if (socket->error != 0 && !s.error_taken) events |= POLLERR;
  return static_cast<short>(events);
}

int Sockets::poll(pollfd* fds, nfds_t count, int timeout_ms) {
  Host::Lock held = host_.lock();
  int ready = 0;
  const auto look = [&] {
    ready = 0;
    for (nfds_t i = 0; i < count; ++i) {
      const auto it = open_.find(fds[i].fd);
      fds[i].revents =
          it == open_.end()
              ? static_cast<short>(POLLNVAL)
              : static_cast<short>(events(it->second) & (fds[i].events | POLLERR | POLLHUP));
      if (fds[i].revents != 0) ++ready;
    }
    return ready != 0;
  };
  const Time deadline =
      timeout_ms < 0 ? kNever : Host::now() + std::chrono::milliseconds(timeout_ms);
  host_.wait(held, deadline, look);
  return ready;
}

}  // namespace postern::packetdrill
