#include "host_app.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "client/postern.h"

namespace postern::perf {
namespace {

constexpr size_t kBuffer = 64 * 1024;
constexpr size_t kDatagram = kBuffer + 1088;  // not a power of two: they share the cache's sets
constexpr int kBurst = 64;

[[noreturn]] void fail(const std::string& what) {
  const char* detail = postern_last_error();
  throw std::runtime_error("hosted application: " + what + ": " + std::strerror(errno) +
                           (*detail != 0 ? std::string(": ") + detail : ""));
}

}  // namespace

HostApp::HostApp(const std::vector<HostedService>& services, const std::string& app_socket, bool v6)
    : buffer_(kBurst * kDatagram), messages_(kBurst), parts_(kBurst), peers_(kBurst), v6_(v6) {
  for (size_t i = 0; i < messages_.size(); ++i) {
    msghdr& m = messages_[i].msg_hdr;
    m.msg_iov = &parts_[i];
    m.msg_iovlen = 1;
    m.msg_name = &peers_[i];
    make_room(i);
  }
  if (postern_attach(app_socket.empty() ? nullptr : app_socket.c_str()) != 0) fail("attach");
  queue_ = postern_queue_create();
  if (queue_ == nullptr) fail("queue");
  for (const HostedService& service : services) open(service);
}

HostApp::~HostApp() {
  if (queue_ != nullptr) postern_queue_destroy(queue_);
  postern_detach();
}

void HostApp::open(const HostedService& service) {
  const std::string name = (service.tcp ? "TCP port " : "UDP port ") + std::to_string(service.port);
  const int fd = postern_socket(v6_ ? AF_INET6 : AF_INET,
                                (service.tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
  if (fd < 0) fail("socket for " + name);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(service.port);
  sockaddr_in6 at6{};
  at6.sin6_family = AF_INET6;
  at6.sin6_port = htons(service.port);
  const int bound = v6_ ? postern_bind(fd, reinterpret_cast<sockaddr*>(&at6), sizeof at6)
                        : postern_bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at);
  if (bound != 0) fail("bind " + name);
  if (service.tcp && postern_listen(fd, 65535) != 0) fail("listen on " + name);
  add({.fd = fd, .kind = service.kind, .tcp = service.tcp, .listening = service.tcp});
}

void HostApp::add(Socket socket) {
  const auto fd = static_cast<size_t>(socket.fd);
  if (fd >= sockets_.size()) sockets_.resize(fd + 1);
  socket.writing = !socket.listening && socket.tcp && socket.kind == HostedService::Kind::source;
  if (postern_queue_add(queue_, socket.fd, socket.writing ? POLLOUT : POLLIN, fd) != 0) {
    fail("queue");
  }
  sockets_[fd] = std::make_unique<Socket>(std::move(socket));
}

void HostApp::wait_for(Socket& s, bool writing) {
  if (s.writing == writing) return;
  s.writing = writing;
  postern_queue_modify(queue_, s.fd, writing ? POLLOUT : POLLIN, static_cast<uint64_t>(s.fd));
}

void HostApp::close(Socket& s, bool failed) {
  counters_.errors += failed;
  postern_close(s.fd);
  sockets_[static_cast<size_t>(s.fd)].reset();
}

unsigned HostApp::step() {
  postern_event events[kBurst];
  const int n = postern_queue_wait(queue_, events, kBurst, 0);
  if (n < 0 && errno != EINTR) fail("posternd is gone");
  for (int i = 0; i < n; ++i) {
    Socket* s = sockets_[events[i].data].get();
    if (s != nullptr) serve(*s);
  }
  return n > 0 ? static_cast<unsigned>(n) : 0;
}

void HostApp::serve(Socket& s) {
  if (s.listening) {
    accept_some(s);
  } else if (!s.tcp) {
    serve_datagrams(s);
  } else if (!s.writing) {
    serve_stream(s);
  } else if (s.kind == HostedService::Kind::source) {
    pour(s);
  } else {
    flush(s);
  }
}

void HostApp::accept_some(const Socket& listener) {
  const HostedService::Kind kind = listener.kind;
  const int from = listener.fd;
  for (int i = 0; i < kBurst; ++i) {
    const int fd = postern_accept4(from, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd < 0) return;
    ++counters_.connections;
    add({.fd = fd, .kind = kind});
  }
}

void HostApp::serve_stream(Socket& s) {
  const ssize_t n = postern_recv(s.fd, buffer_.data(), kBuffer, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return close(s, n < 0);
  counters_.bytes_in += static_cast<uint64_t>(n);
  if (s.kind != HostedService::Kind::echo) return;
  ssize_t sent = postern_send(s.fd, buffer_.data(), static_cast<size_t>(n), MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return close(s, true);
  if (sent < 0) sent = 0;
  counters_.bytes_out += static_cast<uint64_t>(sent);
  if (sent == n) return;
  s.held.assign(buffer_.begin() + sent, buffer_.begin() + n);
  s.held_from = 0;
  wait_for(s, true);
}

void HostApp::flush(Socket& s) {
  const ssize_t n =
      postern_send(s.fd, &s.held[s.held_from], s.held.size() - s.held_from, MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) return close(s, true);
  counters_.bytes_out += static_cast<uint64_t>(n);
  s.held_from += static_cast<size_t>(n);
  if (s.held_from < s.held.size()) return;
  s.held.clear();
  wait_for(s, false);
}

void HostApp::pour(Socket& s) {
  const ssize_t n = postern_send(s.fd, buffer_.data(), buffer_.size(), MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) return close(s, true);
  counters_.bytes_out += static_cast<uint64_t>(n);
}

void HostApp::make_room(size_t message) {
  parts_[message] = {&buffer_[message * kDatagram], kBuffer};
  messages_[message].msg_hdr.msg_namelen = sizeof peers_[message];
}

void HostApp::serve_datagrams(Socket& s) {
  const int n = postern_recvmmsg(s.fd, messages_.data(), kBurst, MSG_DONTWAIT, nullptr);
  if (n <= 0) return;
  const auto count = static_cast<size_t>(n);
  for (size_t i = 0; i < count; ++i) {
    parts_[i].iov_len = messages_[i].msg_len;
    counters_.bytes_in += messages_[i].msg_len;
  }
  counters_.datagrams_in += count;
  if (s.kind == HostedService::Kind::echo) send_datagrams(s.fd, count);
  for (size_t i = 0; i < count; ++i) make_room(i);
}

void HostApp::send_datagrams(int fd, size_t count) {
  const int n = postern_sendmmsg(fd, messages_.data(), static_cast<unsigned>(count), MSG_DONTWAIT);
  const auto sent = static_cast<size_t>(std::max(n, 0));
  for (size_t i = 0; i < sent; ++i) counters_.bytes_out += messages_[i].msg_len;
  counters_.datagrams_out += sent;
  counters_.errors += count - sent;
}

}  // namespace postern::perf
