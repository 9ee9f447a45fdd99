"""The states that a socket can be in, each made anew for every call that is tried in it.

Each is a function of a Side that leaves a non-blocking socket named "s" in that state.
"""
import socket

NONBLOCK = socket.SOCK_NONBLOCK
POLLRDHUP = 0x2000
POLLERR = 8
POLLHUP = 16
POLLIN = 1
POLLOUT = 4

TCP = {}
UDP = {}


def tcp(function):
    TCP[function.__name__] = function
    return function


def udp(function):
    UDP[function.__name__] = function
    return function


def stream(side, name="s"):
    assert side("socket", name, socket.AF_INET, socket.SOCK_STREAM | NONBLOCK, 0) == "ok"


def settle(side, events=POLLIN, name="s"):
    """Until the subject has heard of it."""
    seen = side("poll", name, events, 3000)
    assert seen != "nothing", "the subject heard nothing"


def connected_pair(side):
    """The subject's "s" and the peer's end of the same connection."""
    listener = side.listener()
    stream(side)
    side("connect", "s", side.peer, listener.getsockname()[1])
    settle(side, POLLOUT)
    peer, _ = listener.accept()
    side.open.append(peer)
    peer.settimeout(5)
    return peer


# ---- TCP ----

@tcp
def fresh(side):
    stream(side)


@tcp
def bound(side):
    stream(side)
    side("bind", "s", side.address, side.next_port())


@tcp
def bound_to_any(side):
    stream(side)
    side("bind", "s", "0.0.0.0", side.next_port())


@tcp
def listening(side):
    stream(side)
    side("bind", "s", side.address, side.next_port())
    side("listen", "s", 8)


@tcp
def listening_with_one_pending(side):
    listening(side)
    peer = side.reach(side.port)
    settle(side)
    return peer


@tcp
def connecting(side):
    """Nobody answers there."""
    stream(side)
    side("connect", "s", side.peer.rsplit(".", 1)[0] + ".77", 9)


@tcp
def refused(side):
    stream(side)
    side("connect", "s", side.peer, side.closed_port())
    settle(side, POLLOUT)


@tcp
def refused_and_told(side):
    refused(side)
    side("getsockopt", "s", socket.SOL_SOCKET, socket.SO_ERROR)


@tcp
def connected(side):
    connected_pair(side)


@tcp
def accepted(side):
    assert side("socket", "l", socket.AF_INET, socket.SOCK_STREAM | NONBLOCK, 0) == "ok"
    side("bind", "l", side.address, side.next_port())
    side("listen", "l", 8)
    side.reach(side.port)
    settle(side, name="l")
    side("accept", "l", "s", NONBLOCK)
    side("close", "l")


@tcp
def data_waits(side):
    connected_pair(side).sendall(b"0123456789")
    settle(side)


@tcp
def peer_has_shut(side):
    connected_pair(side).shutdown(socket.SHUT_WR)
    settle(side, POLLRDHUP)


@tcp
def peer_has_shut_after_data(side):
    peer = connected_pair(side)
    peer.sendall(b"last")
    peer.shutdown(socket.SHUT_WR)
    settle(side, POLLRDHUP)


@tcp
def peer_has_shut_and_end_was_read(side):
    peer_has_shut(side)
    side("recv", "s", 10)


@tcp
def peer_has_reset(side):
    side.reset(connected_pair(side))
    settle(side, POLLERR)


@tcp
def peer_has_reset_and_told(side):
    peer_has_reset(side)
    side("recv", "s", 10)


@tcp
def peer_has_reset_after_data(side):
    peer = connected_pair(side)
    peer.sendall(b"last")
    settle(side)
    side.reset(peer)
    settle(side, POLLERR)


@tcp
def shut_for_writing(side):
    connected_pair(side)
    side("shutdown", "s", socket.SHUT_WR)


@tcp
def shut_for_reading(side):
    connected_pair(side)
    side("shutdown", "s", socket.SHUT_RD)


@tcp
def shut_for_both(side):
    peer = connected_pair(side)
    side("shutdown", "s", socket.SHUT_RDWR)
    assert peer.recv(1) == b""


@tcp
def both_have_shut(side):
    peer = connected_pair(side)
    peer.shutdown(socket.SHUT_WR)
    settle(side, POLLRDHUP)
    side("shutdown", "s", socket.SHUT_WR)
    assert peer.recv(1) == b""
    settle(side, POLLHUP)


@tcp
def listener_shut(side):
    listening(side)
    side("shutdown", "s", socket.SHUT_RD)


# ---- UDP ----

def datagrams(side, name="s"):
    assert side("socket", name, socket.AF_INET, socket.SOCK_DGRAM | NONBLOCK, 0) == "ok"


def associated(side):
    peer = side.udp()
    datagrams(side)
    side("bind", "s", side.address, side.next_port())
    side("connect", "s", side.peer, peer.getsockname()[1])
    return peer


@udp
def udp_fresh(side):
    datagrams(side)


@udp
def udp_bound(side):
    datagrams(side)
    side("bind", "s", side.address, side.next_port())


@udp
def udp_bound_with_datagram(side):
    udp_bound(side)
    side.udp().sendto(b"0123456789", (side.address, side.port))
    settle(side)


@udp
def udp_bound_with_empty_datagram(side):
    udp_bound(side)
    side.udp().sendto(b"", (side.address, side.port))
    settle(side)


@udp
def udp_connected(side):
    associated(side)


@udp
def udp_connected_with_two_datagrams(side):
    peer = associated(side)
    peer.sendto(b"first", (side.address, side.port))
    peer.sendto(b"second one", (side.address, side.port))
    settle(side)


@udp
def udp_connected_to_nobody(side):
    """An ICMP port unreachable has come back."""
    associated(side).close()
    side("send", "s", 1)
    settle(side, POLLERR)


@udp
def udp_dissolved(side):
    associated(side)
    side("connect", "s", "0.0.0.0", 0, 16, socket.AF_UNSPEC)


@udp
def udp_shut_for_writing(side):
    associated(side)
    side("shutdown", "s", socket.SHUT_WR)


@udp
def udp_shut_for_reading(side):
    associated(side)
    side("shutdown", "s", socket.SHUT_RD)
