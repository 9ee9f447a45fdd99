// The table of calls that packetdrill takes from the shared object, each handed on to Sockets and
// Host. With LD_PRELOAD of the same object getsockopt() of its descriptors works for packetdrill
// itself too, which reads TCP_INFO for %{ }% that way.
#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "interface.h"
#include "sockets.h"

namespace postern::packetdrill {
namespace {

struct Session {
  explicit Session(const Settings& settings) : host(settings), sockets(host) {}
  Host host;
  Sockets sockets;
};

Session* current = nullptr;  // for the preloaded getsockopt()

Sockets& sockets(void* self) { return static_cast<Session*>(self)->sockets; }
Host& host(void* self) { return static_cast<Session*>(self)->host; }

int unsupported() {
  errno = ENOSYS;
  return -1;
}

void end(void* self) {
  current = nullptr;
  delete static_cast<Session*>(self);
}

// One call for each part, until one is short.
template <class Call>
ssize_t each_part(const iovec* parts, size_t count, Call&& call) {
  ssize_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    const ssize_t n = call(parts[i], i + 1 < count);
    if (n < 0) return total != 0 ? total : n;
    total += n;
    if (static_cast<size_t>(n) < parts[i].iov_len) break;
  }
  return total;
}

ssize_t receive_parts(void* self, int fd, const iovec* parts, size_t count, int flags) {
  bool first = true;
  return each_part(parts, count, [&](const iovec& part, bool) {
    const int how = first ? flags : flags | MSG_DONTWAIT;  // what is there is enough
    first = false;
    return sockets(self).receive(fd, part.iov_base, part.iov_len, how);
  });
}

ssize_t send_parts(void* self, int fd, const iovec* parts, size_t count, int flags) {
  return each_part(parts, count, [&](const iovec& part, bool more) {
    return sockets(self).send(fd, part.iov_base, part.iov_len, more ? flags | MSG_MORE : flags);
  });
}

int netdev_receive(void* self, void* packet, size_t* length, long long* time_usecs) {
  Host::Lock held = host(self).lock();
  const auto next = host(self).next_packet(held);
  if (!next.has_value()) {
    std::fprintf(stderr, "postern: no packet for as long as --so_flags=wait=SECONDS says\n");
    *length = 0;
    return 0;
  }
  if (next->bytes.size() > *length) return -1;
  std::memcpy(packet, next->bytes.data(), next->bytes.size());
  *length = next->bytes.size();
  *time_usecs = next->time_usecs;
  return 0;
}

int fcntl_call(void* self, int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  const long argument = va_arg(arguments, long);
  va_end(arguments);
  return sockets(self).fcntl(fd, command, argument);
}

int ioctl_call(void* self, int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return sockets(self).ioctl(fd, request, argument);
}

void fill_sockets(PacketdrillInterface& t) {
  t.socket = [](void* s, int d, int y, int p) { return sockets(s).socket(d, y, p); };
  t.bind = [](void* s, int f, const sockaddr* a, socklen_t n) { return sockets(s).bind(f, a, n); };
  t.listen = [](void* s, int f, int n) { return sockets(s).listen(f, n); };
  t.accept = [](void* s, int f, sockaddr* a, socklen_t* n) { return sockets(s).accept(f, a, n); };
  t.connect = [](void* s, int f, const sockaddr* a, socklen_t n) {
    return sockets(s).connect(f, a, n);
  };
  t.close = [](void* s, int f) { return sockets(s).close(f); };
  t.shutdown = [](void* s, int f, int how) { return sockets(s).shutdown(f, how); };
  t.getsockopt = [](void* s, int f, int l, int o, void* v, socklen_t* n) {
    return sockets(s).getsockopt(f, l, o, v, n);
  };
  t.setsockopt = [](void* s, int f, int l, int o, const void* v, socklen_t n) {
    return sockets(s).setsockopt(f, l, o, v, n);
  };
  t.poll = [](void* s, pollfd* f, nfds_t n, int ms) { return sockets(s).poll(f, n, ms); };
  t.fcntl = fcntl_call;
  t.ioctl = ioctl_call;
}

void fill_data(PacketdrillInterface& t) {
  t.read = [](void* s, int f, void* b, size_t n) { return sockets(s).receive(f, b, n, 0); };
  t.recv = [](void* s, int f, void* b, size_t n, int how) {
    return sockets(s).receive(f, b, n, how);
  };
  t.recvfrom = [](void* s, int f, void* b, size_t n, int how, sockaddr*, socklen_t*) {
    return sockets(s).receive(f, b, n, how);
  };
  t.readv = [](void* s, int f, const iovec* v, int n) {
    return receive_parts(s, f, v, static_cast<size_t>(n), 0);
  };
  t.recvmsg = [](void* s, int f, msghdr* m, int how) {
    m->msg_controllen = 0;
    m->msg_flags = 0;
    return receive_parts(s, f, m->msg_iov, m->msg_iovlen, how);
  };
  t.write = [](void* s, int f, const void* b, size_t n) { return sockets(s).send(f, b, n, 0); };
  t.send = [](void* s, int f, const void* b, size_t n, int how) {
    return sockets(s).send(f, b, n, how);
  };
  t.sendto = [](void* s, int f, const void* b, size_t n, int how, const sockaddr*, socklen_t) {
    return sockets(s).send(f, b, n, how);
  };
  t.writev = [](void* s, int f, const iovec* v, int n) {
    return send_parts(s, f, v, static_cast<size_t>(n), 0);
  };
  t.sendmsg = [](void* s, int f, const msghdr* m, int how) {
    return send_parts(s, f, m->msg_iov, m->msg_iovlen, how);
  };
}

void fill_rest(PacketdrillInterface& t) {
  t.netdev_send = [](void* s, const void* packet, size_t length) {
    const Host::Lock held = host(s).lock();
    host(s).receive(packet, length);
    return 0;
  };
  t.netdev_receive = netdev_receive;
  t.usleep = [](void*, useconds_t usecs) { return usleep(usecs); };
  t.gettimeofday = [](void*, timeval* time, struct timezone*) {
    return gettimeofday(time, nullptr);
  };
  t.epoll_create = [](void*, int) { return unsupported(); };
  t.epoll_ctl = [](void*, int, int, int, epoll_event*) { return unsupported(); };
  t.epoll_wait = [](void*, int, epoll_event*, int, int) { return unsupported(); };
  t.pipe = [](void*, int*) { return unsupported(); };
  t.splice = [](void*, int, loff_t*, int, loff_t*, size_t, unsigned) {
    return ssize_t{unsupported()};
  };
}

}  // namespace
}  // namespace postern::packetdrill

void packetdrill_interface_init(const char* flags, PacketdrillInterface* out) {
  using namespace postern::packetdrill;
  try {
    current = new Session(parse_settings(flags));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "postern: --so_flags: %s\n", e.what());
    std::exit(2);
  }
  out->self = current;
  out->free = end;
  fill_sockets(*out);
  fill_data(*out);
  fill_rest(*out);
}

extern "C" __attribute__((visibility("default"))) int getsockopt(
    int fd, int level, int option, void* __restrict value, socklen_t* __restrict length) noexcept {
  using namespace postern::packetdrill;
  if (current != nullptr && current->sockets.has(fd)) {
    return current->sockets.getsockopt(fd, level, option, value, length);
  }
  using Call = int (*)(int, int, int, void*, socklen_t*);
  static const auto next = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "getsockopt"));
  return next(fd, level, option, value, length);
}
