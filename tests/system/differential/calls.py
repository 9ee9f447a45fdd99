"""The calls that are tried in every state: the right ones and the wrong ones.

Each is (name, function of a Side); the function's value is what is compared.
"""
import socket

from states import NONBLOCK

SOL, TCPL, IP = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP
DONTWAIT, NOSIGNAL = socket.MSG_DONTWAIT, socket.MSG_NOSIGNAL
UNKNOWN_OPTION = 200


def plain(*arguments):
    return lambda side: side(*arguments)


def connect(side, port):
    """The kernel's answer over a veth is there at once, Postern's a moment later."""
    result = side("connect", "s", side.peer, port)
    if result == "EINPROGRESS":
        side("poll", "s", 4, 2000)
    return result


def connect_to_listener(side):
    return connect(side, side.listener().getsockname()[1])


def bind_taken(side):
    """Another socket of the same kind has the port."""
    kind = int(side("getsockopt", "s", SOL, socket.SO_TYPE))
    side("socket", "other", socket.AF_INET, kind, 0)
    side("bind", "other", side.address, side.next_port())
    if kind == socket.SOCK_STREAM:
        side("listen", "other", 1)
    return side("bind", "s", side.address, side.port)


BOTH = [
    ("bind", lambda side: side("bind", "s", side.address, side.next_port())),
    ("bind any", lambda side: side("bind", "s", "0.0.0.0", side.next_port())),
    ("bind port 0", lambda side: side("bind", "s", side.address, 0)),
    ("bind foreign address", lambda side: side("bind", "s", "203.0.113.9", side.next_port())),
    ("bind short address", lambda side: side("bind", "s", side.address, side.next_port(), 15)),
    ("bind no address", lambda side: side("bind", "s", side.address, side.next_port(), 0)),
    ("bind wrong family", lambda side: side("bind", "s", side.address, side.next_port(), 16, 10)),
    ("bind taken", bind_taken),
    ("connect short address", lambda side: side("connect", "s", side.peer, 9, 8)),
    ("connect no address", lambda side: side("connect", "s", side.peer, 9, 0)),
    ("connect wrong family", lambda side: side("connect", "s", side.peer, 9, 16, 10)),
    ("connect nowhere", plain("connect", "s", "0.0.0.0", 0, 16, socket.AF_UNSPEC)),
    ("send", plain("send", "s", 5)),
    ("send nothing", plain("send", "s", 0)),
    ("recv", plain("recv", "s", 4)),
    ("recv nothing", plain("recv", "s", 0)),
    ("recv peek", plain("recv", "s", 4, socket.MSG_PEEK)),
    ("recv trunc", plain("recv", "s", 4, socket.MSG_TRUNC)),
    ("recv waitall dontwait", plain("recv", "s", 4, socket.MSG_WAITALL | DONTWAIT)),
    ("recv errqueue", plain("recv", "s", 4, socket.MSG_ERRQUEUE)),
    ("recvfrom", plain("recvfrom", "s", 100)),
    ("shutdown read", plain("shutdown", "s", socket.SHUT_RD)),
    ("shutdown write", plain("shutdown", "s", socket.SHUT_WR)),
    ("shutdown both", plain("shutdown", "s", socket.SHUT_RDWR)),
    ("shutdown 7", plain("shutdown", "s", 7)),
    ("getsockname", plain("getsockname", "s")),
    ("getsockname no room", plain("getsockname", "s", 0)),
    ("getpeername", plain("getpeername", "s")),
    ("poll", plain("poll", "s")),
    ("poll in", plain("poll", "s", 1)),
    ("error", plain("getsockopt", "s", SOL, socket.SO_ERROR)),
    ("type", plain("getsockopt", "s", SOL, socket.SO_TYPE)),
    ("domain", plain("getsockopt", "s", SOL, socket.SO_DOMAIN)),
    ("protocol", plain("getsockopt", "s", SOL, socket.SO_PROTOCOL)),
    ("listens", plain("getsockopt", "s", SOL, socket.SO_ACCEPTCONN)),
    ("set error", plain("setsockopt", "s", SOL, socket.SO_ERROR, 1)),
    ("set reuseaddr", plain("setsockopt", "s", SOL, socket.SO_REUSEADDR, 1)),
    ("set reuseaddr short", plain("setsockopt", "s", SOL, socket.SO_REUSEADDR, 1, 2)),
    ("set keepalive", plain("setsockopt", "s", SOL, socket.SO_KEEPALIVE, 1)),
    ("set ttl", plain("setsockopt", "s", IP, socket.IP_TTL, 9)),
    ("set ttl 0", plain("setsockopt", "s", IP, socket.IP_TTL, 0)),
    ("set ttl 256", plain("setsockopt", "s", IP, socket.IP_TTL, 256)),
    ("set unknown option", plain("setsockopt", "s", SOL, UNKNOWN_OPTION, 1)),
    ("get unknown option", plain("getsockopt", "s", SOL, UNKNOWN_OPTION)),
    ("set unknown ip option", plain("setsockopt", "s", IP, UNKNOWN_OPTION, 1)),
    ("get unknown level", plain("getsockopt", "s", 77, 1)),
    ("accept", plain("accept", "s", "new", NONBLOCK)),
    ("dup and close", lambda side: [side("dup", "s", "two"), side("close", "two"),
                                    side("poll", "s")]),
    ("close", plain("close", "s")),
]

STREAM = BOTH + [
    ("listen", plain("listen", "s", 5)),
    ("listen -1", plain("listen", "s", -1)),
    ("listen twice", lambda side: [side("listen", "s", 5), side("listen", "s", 1)]),
    ("listen, then connect", lambda side: [side("listen", "s", 5), connect_to_listener(side)]),
    ("accept without address", plain("accept", "s", "new", NONBLOCK, False)),
    ("accept bad flags", plain("accept", "s", "new", 1)),
    ("connect", connect_to_listener),
    ("connect refused", lambda side: connect(side, side.closed_port())),
    ("connect twice", lambda side: [connect_to_listener(side), connect_to_listener(side)]),
    ("sendto elsewhere", lambda side: side("sendto", "s", 5, side.peer, 9)),
    ("send twice", lambda side: [side("send", "s", 5), side("send", "s", 5)]),
    ("recv twice", lambda side: [side("recv", "s", 3), side("recv", "s", 100),
                                 side("recv", "s", 1)]),
    ("peek, then recv", lambda side: [side("recv", "s", 3, socket.MSG_PEEK),
                                      side("recvfrom", "s", 100)]),
    ("error twice", lambda side: [side("getsockopt", "s", SOL, socket.SO_ERROR),
                                  side("getsockopt", "s", SOL, socket.SO_ERROR)]),
    ("shutdown, then send", lambda side: [side("shutdown", "s", 1), side("send", "s", 1)]),
    ("shutdown read, then recv", lambda side: [side("shutdown", "s", 0), side("recv", "s", 10),
                                               side("poll", "s")]),
    ("shutdown twice", lambda side: [side("shutdown", "s", 2), side("shutdown", "s", 2)]),
    ("set nodelay", lambda side: [side("setsockopt", "s", TCPL, socket.TCP_NODELAY, 1),
                                  side("getsockopt", "s", TCPL, socket.TCP_NODELAY)]),
    ("set maxseg 1", plain("setsockopt", "s", TCPL, socket.TCP_MAXSEG, 1)),
    ("set keepidle 0", plain("setsockopt", "s", TCPL, socket.TCP_KEEPIDLE, 0)),
    ("set keepcnt 128", plain("setsockopt", "s", TCPL, socket.TCP_KEEPCNT, 128)),
    ("set user timeout", lambda side: [side("setsockopt", "s", TCPL, socket.TCP_USER_TIMEOUT, 1500),
                                       side("getsockopt", "s", TCPL, socket.TCP_USER_TIMEOUT)]),
    ("set user timeout -1", plain("setsockopt", "s", TCPL, socket.TCP_USER_TIMEOUT, -1)),
    ("set unknown tcp option", plain("setsockopt", "s", TCPL, UNKNOWN_OPTION, 1)),
    ("linger", plain("linger", "s", 1, 1)),
    ("recv urgent", plain("recv", "s", 4, socket.MSG_OOB)),
    ("send urgent", plain("send", "s", 5, socket.MSG_OOB | NOSIGNAL)),
    ("at mark", plain("at_mark", "s")),
    ("set urgent in line", lambda side: [side("setsockopt", "s", SOL, socket.SO_OOBINLINE, 1),
                                         side("getsockopt", "s", SOL, socket.SO_OOBINLINE),
                                         side("recv", "s", 4, socket.MSG_OOB)]),
]

DGRAM = BOTH + [
    ("listen", plain("listen", "s", 5)),
    ("connect", lambda side: [side("connect", "s", side.peer, side.udp().getsockname()[1]),
                              side("getpeername", "s")]),
    ("connect port 0", lambda side: side("connect", "s", side.peer, 0)),
    ("sendto", lambda side: side("sendto", "s", 5, side.peer, side.udp().getsockname()[1])),
    ("sendto nothing", lambda side: side("sendto", "s", 0, side.peer, side.udp().getsockname()[1])),
    ("sendto port 0", lambda side: side("sendto", "s", 5, side.peer, 0)),
    ("sendto short address", lambda side: side("sendto", "s", 5, side.peer, 9, NOSIGNAL, 8)),
    ("sendto wrong family", lambda side: side("sendto", "s", 5, side.peer, 9, NOSIGNAL, 16, 10)),
    ("sendto most", lambda side: side("sendto", "s", 65507, side.peer,
                                      side.udp().getsockname()[1])),
    ("sendto too much", lambda side: side("sendto", "s", 65508, side.peer,
                                          side.udp().getsockname()[1])),
    ("sendto, then name", lambda side: [side("sendto", "s", 5, side.peer, 9),
                                        side("getsockname", "s")]),
    ("recv small trunc", plain("recv", "s", 2, socket.MSG_TRUNC)),
    ("recv small, then next", lambda side: [side("recv", "s", 2), side("recvfrom", "s", 100)]),
    ("peek, then recv", lambda side: [side("recv", "s", 3, socket.MSG_PEEK),
                                      side("recvfrom", "s", 100)]),
    ("recv three times", lambda side: [side("recvfrom", "s", 100) for _ in range(3)]),
    ("get nodelay", plain("getsockopt", "s", TCPL, socket.TCP_NODELAY)),
]
