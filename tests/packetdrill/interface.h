// What packetdrill expects of a shared object that it is given by --so_filename: one function,
// packetdrill_interface_init, which fills a table of calls. Declared here from the documented
// contract; none of packetdrill's code is used. Each call is told `self` first, otherwise calls are
// those of POSIX: result, or -1 with errno.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

extern "C" {

struct PacketdrillInterface {
  void* self;
  void (*free)(void* self);
  int (*socket)(void* self, int domain, int type, int protocol);
  int (*bind)(void* self, int fd, const sockaddr* address, socklen_t length);
  int (*listen)(void* self, int fd, int backlog);
  int (*accept)(void* self, int fd, sockaddr* address, socklen_t* length);
  int (*connect)(void* self, int fd, const sockaddr* address, socklen_t length);
  ssize_t (*read)(void* self, int fd, void* bytes, size_t size);
  ssize_t (*readv)(void* self, int fd, const iovec* parts, int count);
  ssize_t (*recv)(void* self, int fd, void* bytes, size_t size, int flags);
  ssize_t (*recvfrom)(void* self, int fd, void* bytes, size_t size, int flags, sockaddr* from,
                      socklen_t* length);
  ssize_t (*recvmsg)(void* self, int fd, msghdr* message, int flags);
  ssize_t (*write)(void* self, int fd, const void* bytes, size_t size);
  ssize_t (*writev)(void* self, int fd, const iovec* parts, int count);
  ssize_t (*send)(void* self, int fd, const void* bytes, size_t size, int flags);
  ssize_t (*sendto)(void* self, int fd, const void* bytes, size_t size, int flags,
                    const sockaddr* to, socklen_t length);
  ssize_t (*sendmsg)(void* self, int fd, const msghdr* message, int flags);
  int (*fcntl)(void* self, int fd, int command, ...);
  int (*ioctl)(void* self, int fd, unsigned long request, ...);
  int (*close)(void* self, int fd);
  int (*shutdown)(void* self, int fd, int how);
  int (*getsockopt)(void* self, int fd, int level, int option, void* value, socklen_t* length);
  int (*setsockopt)(void* self, int fd, int level, int option, const void* value, socklen_t length);
  int (*poll)(void* self, pollfd* fds, nfds_t count, int timeout_ms);
  // A packet for the stack, from its IP header on. 0 or -1.
  int (*netdev_send)(void* self, const void* packet, size_t length);
  // Waits for the next packet that leaves the stack, IP header first. In: *length bytes of room;
  // out: its length, and when it left, in microseconds of gettimeofday.
  int (*netdev_receive)(void* self, void* packet, size_t* length, long long* time_usecs);
  int (*usleep)(void* self, useconds_t usecs);
  int (*gettimeofday)(void* self, timeval* time, struct timezone* zone);
  int (*epoll_create)(void* self, int size);
  int (*epoll_ctl)(void* self, int epoll, int operation, int fd, epoll_event* event);
  int (*epoll_wait)(void* self, int epoll, epoll_event* events, int most, int timeout_ms);
  int (*pipe)(void* self, int fds[2]);
  ssize_t (*splice)(void* self, int in, loff_t* in_at, int out, loff_t* out_at, size_t size,
                    unsigned flags);
};

__attribute__((visibility("default"))) void packetdrill_interface_init(const char* flags,
                                                                       PacketdrillInterface* out);
}
