/* libpostern: sockets that posternd serves, from any unprivileged process. C11 and C++17.
 *
 * The calls are those of POSIX with `postern_` before the name and behave as POSIX and Linux say;
 * this header tells what is different. They return -1 and set errno on failure unless noted.
 *
 * DESCRIPTORS are small integers of the library's own, lowest free number first, from 0 on. They
 * are not kernel descriptors: give them to postern_* calls only. At most 2^23 are open at once.
 *
 * THREADS. Every call may be made by any thread at any time, also several on one socket. As with
 * the kernel, a send that has to wait midway may find another thread's bytes between its own.
 * Closing a socket that another thread is blocked in wakes that thread with EBADF. No call is
 * async-signal-safe.
 *
 * BLOCKING calls first spin for at most the spin time (postern_set_spin) while the daemon is busy
 * with the socket, then sleep. A signal interrupts them with EINTR, unless every signal handler
 * that the process has installed was installed with SA_RESTART: then they go on, as the kernel's
 * would; with a time limit (SO_RCVTIMEO, SO_SNDTIMEO) or in the waiting calls it is always EINTR.
 *
 * FORK. Parent and child share every socket, as they do with the kernel: each has its descriptors,
 * a socket lives until the last of all of them is closed or its process is gone, however that came
 * about (a killed process is noticed within 0.2 s by whoever waits or calls). At most 256 processes
 * share an attachment; the child of one more is not attached. Queues are copied: those of the child
 * are its own, under the same descriptor of postern_queue_fd(). Descriptors do not survive exec.
 *
 * ADDRESSES are struct sockaddr_in or sockaddr_in6 as the socket's domain says; an AF_INET6 socket
 * carries IPv4 as ::ffff:a.b.c.d unless IPV6_V6ONLY is set.
 *
 * WHEN THE DAEMON IS GONE (killed, stopped, or it evicted this process for a broken contract) every
 * blocked call returns at once, and every call but close and detach fails with ECONNABORTED, after
 * what had been received before has been read. postern_last_error() has the reason. To go on,
 * postern_detach() and postern_attach() again; sockets do not survive.
 *
 * ERRORS that any call may give besides those of POSIX:
 *   EBADF         not an open descriptor
 *   ENOTCONN      postern_socket: not attached
 *   ECONNABORTED  the daemon is gone
 *   EOPNOTSUPP    a flag or combination that is not served; never silently ignored
 */
#ifndef POSTERN_H
#define POSTERN_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mmsghdr;

#define POSTERN_VERSION_MAJOR 0
#define POSTERN_VERSION_MINOR 1
#define POSTERN_API __attribute__((visibility("default")))

/* ---- attachment ---- */

/* Attaches this process to the daemon at the Unix socket `path`; NULL: the environment variable
 * POSTERN_SOCKET, else /run/postern/postern.sock. Returns 0.
 * Errors: EISCONN attached already; ENOENT, ECONNREFUSED no daemon there; EACCES the daemon's
 * `access:` does not list this user, or the socket is not accessible; EPROTO versions differ;
 * EAGAIN this user has as many applications attached as allowed; ENOMEM. */
POSTERN_API int postern_attach(const char* path);

/* Closes every socket as postern_close() does, without waiting, and leaves the daemon. No other
 * postern_* call may be running. Queues become invalid. Returns 0. ENOTCONN: not attached. */
POSTERN_API int postern_detach(void);

/* What the daemon last said to this thread, for people: why attach or bind was refused, or, when
 * the daemon is gone, why. "" if nothing. Valid until this thread's next postern_* call. */
POSTERN_API const char* postern_last_error(void);

/* How long a blocking or waiting call spins before it sleeps, in microseconds, 0..1,000,000. The
 * default is POSTERN_SPIN_US of the environment, else 30. The library spins less by itself where
 * spinning does not pay. EINVAL. */
POSTERN_API int postern_set_spin(unsigned microseconds);

/* ---- POSIX calls ---- */

/* domain AF_INET or AF_INET6; type SOCK_STREAM or SOCK_DGRAM, or'ed with SOCK_NONBLOCK and
 * SOCK_CLOEXEC (without effect: descriptors never survive exec); protocol 0, IPPROTO_TCP,
 * IPPROTO_UDP. EAFNOSUPPORT, EPROTONOSUPPORT, ENOBUFS (no slot left: the daemon's limit for this
 * user), EMFILE. */
POSTERN_API int postern_socket(int domain, int type, int protocol);

/* EACCES: `access:` does not let this user bind the port. EADDRINUSE, EADDRNOTAVAIL, EINVAL. */
POSTERN_API int postern_bind(int fd, const struct sockaddr* address, socklen_t length);
POSTERN_API int postern_listen(int fd, int backlog);
POSTERN_API int postern_accept(int fd, struct sockaddr* address, socklen_t* length);
/* flags: SOCK_NONBLOCK, SOCK_CLOEXEC. */
POSTERN_API int postern_accept4(int fd, struct sockaddr* address, socklen_t* length, int flags);
/* Stream: EINPROGRESS when non-blocking (POLLOUT and SO_ERROR tell the outcome), EALREADY, EISCONN.
 * After a failed connect the socket may try again. AF_UNSPEC dissolves a datagram's association;
 * it resets a stream's connection, and the socket is new again (EOPNOTSUPP: accepted, or listens).
 * sin6_scope_id of a link-local address is the number of the interface in `postern show link`,
 * counted from 1; with one interface it need not be said. */
POSTERN_API int postern_connect(int fd, const struct sockaddr* address, socklen_t length);

/* flags of the sending calls: MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE; of streams MSG_OOB. EPIPE
 * raises SIGPIPE unless MSG_NOSIGNAL. A datagram is at most 65,507 bytes (EMSGSIZE). */
POSTERN_API ssize_t postern_send(int fd, const void* data, size_t length, int flags);
POSTERN_API ssize_t postern_sendto(int fd, const void* data, size_t length, int flags,
                                   const struct sockaddr* to, socklen_t to_length);
/* msg_name, msg_iov, and of datagrams msg_control: IP_PKTINFO (the source address; routes choose
 * the interface), IP_TOS, IP_TTL, IPV6_PKTINFO, IPV6_TCLASS, IPV6_HOPLIMIT; EINVAL for others. */
POSTERN_API ssize_t postern_sendmsg(int fd, const struct msghdr* message, int flags);
/* Several messages: returns how many were sent, -1 if none. struct mmsghdr is <sys/socket.h>'s with
 * _GNU_SOURCE. */
POSTERN_API int postern_sendmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags);

/* flags of the receiving calls: MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, MSG_TRUNC; of streams MSG_OOB,
 * of datagrams MSG_ERRQUEUE.
 *
 * URGENT DATA (RFC 6093) is as on Linux: the last byte sent with MSG_OOB is read with MSG_OOB
 * (which never blocks; EINVAL: there is none, it was read, or SO_OOBINLINE is set), POLLPRI tells
 * of it, and a receive stops before it; with SO_OOBINLINE it is read in its place. SIGURG is not
 * sent. */
POSTERN_API ssize_t postern_recv(int fd, void* data, size_t length, int flags);
POSTERN_API ssize_t postern_recvfrom(int fd, void* data, size_t length, int flags,
                                     struct sockaddr* from, socklen_t* from_length);
/* msg_name, msg_iov; msg_flags returns MSG_TRUNC and MSG_CTRUNC. msg_control of datagrams: what the
 * socket has asked for by IP_PKTINFO and the IP_RECV* and IPV6_RECV* options. */
POSTERN_API ssize_t postern_recvmsg(int fd, struct msghdr* message, int flags);
/* Several messages: returns how many were received, -1 if none. flags, further: MSG_WAITFORONE,
 * after which only the first waits. The time limit (NULL: none) is looked at after each message, as
 * on Linux. Datagrams that are there are taken all at once: the cheapest way to receive them. */
POSTERN_API int postern_recvmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags,
                                 struct timespec* limit);

/* WITHOUT COPYING, streams only (EOPNOTSUPP). One thread at a time may do so in each direction of a
 * socket, and not receive or send otherwise in between.
 *
 * Lends what has arrived, where it lies: fills at most *count spans and sets *count to how many.
 * Returns the bytes in them, 0 at the end of the stream. The memory is read-only and stays until it
 * is returned or the socket is closed; borrowing again lends the same bytes and what came since.
 * flags: MSG_DONTWAIT. */
POSTERN_API ssize_t postern_recv_borrow(int fd, struct iovec* spans, int* count, int flags);
/* Gives the first `length` bytes back; the peer may send as many more. EINVAL: that many are not
 * there. */
POSTERN_API int postern_recv_return(int fd, size_t length);
/* Lends room for bytes to send: *span, as long as wanted or, more often than not, shorter. Returns
 * its length. flags: MSG_DONTWAIT, MSG_NOSIGNAL; blocks as send does. */
POSTERN_API ssize_t postern_send_reserve(int fd, struct iovec* span, size_t wanted, int flags);
/* Sends the first `length` bytes of the reserved span, 0 gives it back. EINVAL: nothing is reserved
 * or not that much. flags: MSG_MORE, MSG_NOSIGNAL. Returns length. */
POSTERN_API ssize_t postern_send_commit(int fd, size_t length, int flags);

/* how: SHUT_RD, SHUT_WR, SHUT_RDWR. */
POSTERN_API int postern_shutdown(int fd, int how);
/* What was sent is still delivered. SO_LINGER as on Linux: with a time, waits until all is
 * acknowledged; with 0, resets the connection. */
POSTERN_API int postern_close(int fd);
/* Another descriptor of the same socket, which lives until its last descriptor is closed. EMFILE.
 * Unlike with epoll, a descriptor leaves its queues when it is closed, also if there are others. */
POSTERN_API int postern_dup(int fd);

/* SOL_SOCKET: SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN (get only), SO_REUSEADDR,
 * SO_REUSEPORT, SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SO_RCVBUF, SO_SNDBUF, SO_RCVTIMEO,
 * SO_SNDTIMEO; of streams SO_MAX_PACING_RATE (bytes a second). IPPROTO_TCP: TCP_NODELAY, TCP_CORK,
 * TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_MAXSEG, TCP_USER_TIMEOUT, TCP_QUICKACK,
 * TCP_DEFER_ACCEPT, TCP_CONGESTION (cubic, newreno or reno, dctcp; ENOENT for others). TCP_INFO
 * (get only), in the layout of linux/tcp.h; 0 are ato, retrans, fackets, the last_ times,
 * reordering, rcv_rtt, segs_, data_segs_, delivered, dsack_dups, rcv_ooopack. tcpi_retransmits
 * counts the timeouts since something was last acknowledged: how far the connection is from giving
 * up. IPPROTO_IP: IP_TOS, IP_TTL, IP_MTU_DISCOVER. IPPROTO_IPV6: IPV6_V6ONLY, IPV6_TCLASS,
 * IPV6_UNICAST_HOPS, IPV6_MTU_DISCOVER. The latter of each: DONT, WANT (unless set), DO, PROBE; it
 * matters to datagrams: EMSGSIZE for one that no link carries comes at once, for one that the path
 * does not with a later call. IP_RECVERR, IPV6_RECVERR: of datagrams, errors wait for recvmsg()
 * with MSG_ERRQUEUE (struct sock_extended_err, then the address of who said it; who does not read
 * loses after 256 of an application and worker), and sockets without a peer hear of them too; of
 * streams, SO_ERROR tells what does not end the connection. Of datagrams also IP_PKTINFO,
 * IP_RECVTOS, IP_RECVTTL, IP_RECVORIGDSTADDR, IPV6_RECVPKTINFO, IPV6_RECVTCLASS and
 * IPV6_RECVHOPLIMIT.
 *
 * GROUPS AND BROADCASTS, of datagrams: SO_BROADCAST (EACCES without; for the broadcast address of a
 * network it comes with a later call). IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP,
 * IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE,
 * IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP, and MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP,
 * MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP, MCAST_BLOCK_SOURCE, MCAST_UNBLOCK_SOURCE of
 * both. IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP, IP_MULTICAST_ALL, IPV6_MULTICAST_IF,
 * IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP, IPV6_MULTICAST_ALL. Interfaces have their numbers in
 * `postern link`, counted from 1, the VLANs after all ports; 0: the one that the route to the group
 * names, the first one if there is no route. A socket is in 20 groups at most, a filter has 16
 * sources at most: ENOBUFS. Memberships of a socket that is not bound yet begin when it is.
 *
 * Any other: ENOPROTOOPT. Buffer sizes are used as given, not doubled, within 4 KiB..16 MiB;
 * the default send buffer is 4 MiB at most and 1/4 of the application's transmit memory. */
POSTERN_API int postern_setsockopt(int fd, int level, int option, const void* value,
                                   socklen_t length);
POSTERN_API int postern_getsockopt(int fd, int level, int option, void* value, socklen_t* length);
POSTERN_API int postern_getsockname(int fd, struct sockaddr* address, socklen_t* length);
POSTERN_API int postern_getpeername(int fd, struct sockaddr* address, socklen_t* length);

/* ---- what fcntl and ioctl do for kernel sockets ---- */

/* O_NONBLOCK of the socket: sets it and returns 0; or returns 0 or 1. */
POSTERN_API int postern_set_nonblocking(int fd, int on);
POSTERN_API int postern_get_nonblocking(int fd);
/* FIONREAD: bytes that a receive can return now; a datagram socket: the size of the next one. */
POSTERN_API int postern_available(int fd);
/* SIOCATMARK: 1 if the next byte is an urgent one, else 0. */
POSTERN_API int postern_at_mark(int fd);
/* SIOCOUTQ: bytes sent and not yet acknowledged. */
POSTERN_API int postern_unacknowledged(int fd);

/* ---- waiting ---- */

struct postern_pollfd {
  int fd; /* negative: ignored */
  short events;
  short revents; /* POLLIN, POLLPRI, POLLOUT, POLLRDHUP, POLLERR, POLLHUP, POLLNVAL */
};
/* As poll(2): milliseconds, -1 for ever. Costs O(n); for many sockets use a queue. */
POSTERN_API int postern_poll(struct postern_pollfd* fds, nfds_t n, int timeout_ms);

/* A QUEUE waits for many sockets at a cost that depends on the active ones only, as epoll does, and
 * makes no system call while there is something to report. A socket may be in several queues. */
typedef struct postern_queue postern_queue;

#define POSTERN_EDGE (UINT32_C(1) << 31)    /* report changes, not states (EPOLLET) */
#define POSTERN_ONESHOT (UINT32_C(1) << 30) /* report once, then be silent until modified */

struct postern_event {
  uint32_t
      events; /* POLLIN, POLLPRI, POLLOUT, POLLRDHUP; POLLERR and POLLHUP always; POSTERN_* flags */
  int fd;
  uint64_t data; /* the caller's, returned as given */
};

/* NULL and errno on failure: ENOTCONN, ENOMEM, EMFILE. */
POSTERN_API postern_queue* postern_queue_create(void);
/* No other thread may be using the queue. Sockets stay open. */
POSTERN_API void postern_queue_destroy(postern_queue* queue);
/* EEXIST, ENOENT, EBADF, ENOMEM. A socket leaves its queues when it is closed. */
POSTERN_API int postern_queue_add(postern_queue* queue, int fd, uint32_t events, uint64_t data);
POSTERN_API int postern_queue_modify(postern_queue* queue, int fd, uint32_t events, uint64_t data);
POSTERN_API int postern_queue_remove(postern_queue* queue, int fd);
/* Waits until something is to report, at most timeout_ms milliseconds (-1: for ever, 0: not at
 * all); returns how many of `events` were filled, 0 for a time-out. EINTR, EINVAL (n < 1). Several
 * threads may wait in one queue: each report goes to one of them. */
POSTERN_API int postern_queue_wait(postern_queue* queue, struct postern_event* events, int n,
                                   int timeout_ms);
/* Ends one wait of the queue early (it returns 0 events), now or the next one. Any thread. */
POSTERN_API int postern_queue_wake(postern_queue* queue);

/* FOR EVENT LOOPS that sleep in the kernel on other things too:
 *
 *   take everything:   while (postern_queue_wait(q, events, n, 0) > 0) ...
 *   before sleeping:   if (postern_queue_arm(q)) do not sleep: there is something to take
 *   sleep:             poll, select or epoll for POLLIN on postern_queue_fd(q)
 *
 * The descriptor is the kernel's and the queue's: do not read, write or close it. After arm() has
 * returned 0 it becomes readable at the next event; postern_queue_wait() ends that. A loop that
 * sleeps without arming is not woken. */
POSTERN_API int postern_queue_fd(postern_queue* queue);
POSTERN_API int postern_queue_arm(postern_queue* queue);
/* 1 if a wait would report something now, and leaves it there; else 0. Takes no events: call it
 * after postern_queue_arm(), which may say so of sockets that changed and have nothing to report.
 */
POSTERN_API int postern_queue_ready(postern_queue* queue);

/* ---- looking in ---- */

struct postern_stats {
  uint64_t tx_bytes_total; /* transmit memory of the application, all channels */
  uint64_t tx_bytes_used;  /* of it, held by data that the daemon may still need */
  uint32_t channels;       /* workers of the daemon */
  uint32_t descriptors;    /* open */
  uint32_t closing;        /* closed sockets whose last data is not yet acknowledged */
  uint32_t reserved;
  uint64_t commands; /* since attach */
  uint64_t events;
  uint64_t doorbells_rung;
  uint64_t sleeps;
};
/* A snapshot, not exact while other threads work. ENOTCONN. */
POSTERN_API int postern_get_stats(struct postern_stats* stats);

#ifdef __cplusplus
}
#endif
#endif
