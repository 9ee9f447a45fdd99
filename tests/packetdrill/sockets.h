// Socket calls over a Host, as POSIX has them: result, or -1 with errno. Blocking calls wait in
// real time. A descriptor is also one of the kernel's (of /dev/null): packetdrill closes by itself
// what a script leaves open.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <functional>
#include <map>

#include "host.h"
#include "stack/socket_option.h"

namespace postern::packetdrill {

class Sockets {
 public:
  explicit Sockets(Host& host) : host_(host) {}

  int socket(int domain, int type, int protocol);
  int bind(int fd, const sockaddr* address, socklen_t length);
  int listen(int fd, int backlog);
  int accept(int fd, sockaddr* address, socklen_t* length);
  int connect(int fd, const sockaddr* address, socklen_t length);
  ssize_t receive(int fd, void* bytes, size_t size, int flags);
  ssize_t send(int fd, const void* bytes, size_t size, int flags);
  int shutdown(int fd, int how);
  int close(int fd);
  int fcntl(int fd, int command, long argument);
  int ioctl(int fd, unsigned long request, void* argument);
  int poll(pollfd* fds, nfds_t count, int timeout_ms);
  int setsockopt(int fd, int level, int option, const void* value, socklen_t length);
  int getsockopt(int fd, int level, int option, void* value, socklen_t* length);
  [[nodiscard]] bool has(int fd);

 private:
  struct Open {
    SocketRef ref;
    bool exists = false;  // in the stack: since connect() or listen()
    bool listening = false;
    bool blocking = true;
    bool error_taken = false;
    bool read_shut = false;
    bool write_shut = false;
    bool reset_on_close = false;  // SO_LINGER with a time of zero
    Endpoint local;
    std::map<SocketOption, uint32_t> options;
  };
  Open* find(int fd);
  test::TestApp::Socket* state(Open& s);
  [[nodiscard]] int pending_error(Open& s);
  [[nodiscard]] short events(Open& s);
  int set(Open& s, SocketOption option, uint32_t value);
  int set_tcp(Open& s, int option, const void* value, socklen_t length);
  void apply_options(Open& s);
  int tcp_info(Open& s, void* value, socklen_t* length);
  int open_descriptor(const Open& s);
  // Whether `done` holds, now or, if the call may block, later.
  bool wait(Host::Lock& held, const Open& s, int flags, const std::function<bool()>& done);

  Host& host_;
  std::map<int, Open> open_;
};

}  // namespace postern::packetdrill
