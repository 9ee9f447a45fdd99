/* Included before libpostern's sources where they are built into this library: what they call is
 * libc's, not ours, and the descriptors that they open stand out of the program's way: high
 * numbers, which the program cannot close. */
#ifndef POSTERN_PRELOAD_OWN_H
#define POSTERN_PRELOAD_OWN_H

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/preload/real.h"

int own_socket(int domain, int type, int protocol);
int own_eventfd(unsigned count, int flags);
int own_epoll_create1(int flags);
ssize_t own_recvmsg(int fd, struct msghdr* message, int flags);
int own_close(int fd);
/* Moves a descriptor to a high number and marks it. Returns the number, or fd itself if there is no
 * room up there. */
int own_move(int fd);
/* Marks a descriptor that is there already. */
void own_mark(int fd);

#ifndef POSTERN_PRELOAD_OWN_ITSELF
#define socket(domain, type, protocol) own_socket(domain, type, protocol)
#define eventfd(count, flags) own_eventfd(count, flags)
#define epoll_create1(flags) own_epoll_create1(flags)
#define recvmsg(fd, message, flags) own_recvmsg(fd, message, flags)
#define close(fd) own_close(fd)
#define connect(fd, to, length) real()->connect(fd, to, length)
#define send(fd, data, length, flags) real()->send(fd, data, length, flags)
#define recv(fd, data, length, flags) real()->recv(fd, data, length, flags)
#define read(fd, data, length) real()->read(fd, data, length)
#define write(fd, data, length) real()->write(fd, data, length)
#define poll(fds, n, timeout) real()->poll(fds, n, timeout)
#define ppoll(fds, n, timeout, mask) real()->ppoll(fds, n, timeout, mask)
#define epoll_ctl(set, op, fd, event) real()->epoll_ctl(set, op, fd, event)
#define syscall(...) real()->syscall(__VA_ARGS__)
#endif

#endif
