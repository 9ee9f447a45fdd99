"""Longer exchanges, each a function of a Side whose value is compared."""
import socket
import time

from states import (NONBLOCK, POLLERR, POLLIN, POLLOUT, POLLRDHUP, connected_pair,
                    listening_with_one_pending, settle, stream)

SEQUENCES = {}
SOL = socket.SOL_SOCKET


def sequence(function):
    SEQUENCES[function.__name__] = function
    return function


def blocking(side, name="s", kind=socket.SOCK_STREAM):
    assert side("socket", name, socket.AF_INET, kind, 0) == "ok"


def blocking_pair(side):
    listener = side.listener()
    blocking(side)
    side("connect", "s", side.peer, listener.getsockname()[1])
    peer, _ = listener.accept()
    side.open.append(peer)
    peer.settimeout(5)
    return peer


def outcome(function, *arguments):
    """What the peer saw, in words."""
    try:
        return repr(function(*arguments))
    except OSError as error:
        return type(error).__name__


@sequence
def socket_arguments(side):
    return [side("socket", "s", *arguments) for arguments in (
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP),
        (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP),
        (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_TCP),
        (99, socket.SOCK_STREAM, 0),
        (socket.AF_INET, 77, 0),
        (socket.AF_INET, socket.SOCK_STREAM, 999))]


@sequence
def nonblocking_connect(side):
    listener = side.listener()
    stream(side)
    first = side("connect", "s", side.peer, listener.getsockname()[1])
    settle(side, POLLOUT)
    return [first, side("poll", "s"), side("getsockopt", "s", SOL, socket.SO_ERROR),
            side("connect", "s", side.peer, listener.getsockname()[1]), side("getsockname", "s"),
            side("getpeername", "s")]


@sequence
def nonblocking_connect_refused(side):
    stream(side)
    first = side("connect", "s", side.peer, side.closed_port())
    settle(side, POLLOUT)
    return [first, side("poll", "s"), side("getsockopt", "s", SOL, socket.SO_ERROR),
            side("getsockopt", "s", SOL, socket.SO_ERROR), side("poll", "s"),
            side("recv", "s", 1), side("send", "s", 1)]


@sequence
def connect_again_after_refusal(side):
    listener = side.listener()
    blocking(side)
    return [side("connect", "s", side.peer, side.closed_port()),
            side("connect", "s", side.peer, listener.getsockname()[1]), side("send", "s", 3),
            outcome(listener.accept()[0].recv, 10)]


@sequence
def blocking_connect_then_everything(side):
    peer = blocking_pair(side)
    peer.sendall(b"hello")
    return [side("recv", "s", 100), side("send", "s", 7), outcome(peer.recv, 100),
            side("getpeername", "s"), side("close", "s"), outcome(peer.recv, 100)]


@sequence
def receive_time_limit(side):
    blocking_pair(side)
    side("time_limit", "s", socket.SO_RCVTIMEO, 50)
    begin = time.monotonic()
    result = side("recv", "s", 10)
    return [result, 0.04 < time.monotonic() - begin < 2]


@sequence
def accept_time_limit(side):
    blocking(side)
    side("bind", "s", side.address, side.next_port())
    side("listen", "s", 1)
    side("time_limit", "s", socket.SO_RCVTIMEO, 50)
    return side("accept", "s", "new")


@sequence
def send_time_limit(side):
    blocking_pair(side)
    side("time_limit", "s", socket.SO_SNDTIMEO, 100)
    results = set()
    while "EAGAIN" not in results:
        results.add(side("send", "s", 100_000))
    return ["EAGAIN" in results, "100000" in results, side("poll", "s", POLLOUT)]


@sequence
def nonblocking_send_until_full(side):
    peer = connected_pair(side)
    sent = 0
    while (result := side("send", "s", 100_000)) != "EAGAIN":
        sent += int(result)
    full = side("poll", "s", POLLOUT)
    got = 0
    while got < sent:
        got += len(peer.recv(1 << 20))
    return [full, got == sent, side("poll", "s", POLLOUT, 3000)]


@sequence
def signal_interrupts_recv(side):
    blocking_pair(side)
    side("alarm", 100)
    return side("recv", "s", 10)


@sequence
def signal_interrupts_accept(side):
    blocking(side)
    side("bind", "s", side.address, side.next_port())
    side("listen", "s", 1)
    side("alarm", 100)
    return side("accept", "s", "new")


@sequence
def signal_interrupts_poll(side):
    blocking_pair(side)
    side("alarm", 100)
    return side("poll", "s", POLLIN, 5000)


@sequence
def waitall_takes_what_comes_before_the_end(side):
    peer = blocking_pair(side)
    peer.sendall(b"1234")
    peer.shutdown(socket.SHUT_WR)
    return [side("recv", "s", 10, socket.MSG_WAITALL), side("recv", "s", 10, socket.MSG_WAITALL)]


@sequence
def waitall_waits_for_the_rest(side):
    peer = blocking_pair(side)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in (b"12", b"34", b"56"):
        peer.sendall(piece)
    return side("recv", "s", 6, socket.MSG_WAITALL)


@sequence
def waitall_and_a_time_limit(side):
    peer = blocking_pair(side)
    peer.sendall(b"1234")
    side("time_limit", "s", socket.SO_RCVTIMEO, 100)
    return side("recv", "s", 10, socket.MSG_WAITALL)


@sequence
def peek_takes_nothing(side):
    peer = blocking_pair(side)
    peer.sendall(b"abcdef")
    return [side("recv", "s", 3, socket.MSG_PEEK), side("recv", "s", 3, socket.MSG_PEEK),
            side("recv", "s", 3), side("recv", "s", 10)]


@sequence
def half_closed_by_us(side):
    peer = blocking_pair(side)
    results = [side("shutdown", "s", 1), outcome(peer.recv, 10), side("send", "s", 1)]
    peer.sendall(b"still")
    return results + [side("recv", "s", 10), side("poll", "s")]


@sequence
def half_closed_by_the_peer(side):
    peer = connected_pair(side)
    peer.shutdown(socket.SHUT_WR)
    settle(side, POLLRDHUP)
    return [side("recv", "s", 10), side("send", "s", 5), outcome(peer.recv, 10), side("poll", "s"),
            side("recv", "s", 10)]


@sequence
def write_to_a_peer_that_is_gone(side):
    """The first write provokes the reset, the second finds it."""
    connected_pair(side).close()
    settle(side, POLLRDHUP)
    first = side("send", "s", 5)
    settle(side, 0)
    return [first, side("poll", "s"), side("send", "s", 5), side("send", "s", 5),
            side("recv", "s", 5), side("recv", "s", 5)]


@sequence
def linger_zero_resets(side):
    peer = blocking_pair(side)
    return [side("linger", "s", 1, 0), side("close", "s"), outcome(peer.recv, 10)]


@sequence
def close_with_unread_data_resets(side):
    peer = connected_pair(side)
    peer.sendall(b"unread")
    settle(side)
    return [side("close", "s"), outcome(peer.recv, 10)]


@sequence
def linger_waits_for_the_data(side):
    peer = blocking_pair(side)
    return [side("linger", "s", 1, 5), side("send", "s", 50_000), side("close", "s"),
            outcome(lambda: len(peer.recv(100_000, socket.MSG_WAITALL)))]


@sequence
def reset_before_accept(side):
    peer = listening_with_one_pending(side)
    side.reset(peer)
    time.sleep(0.1)
    return [side("accept", "s", "new", NONBLOCK), side("poll", "new"), side("recv", "new", 1)]


@sequence
def end_before_accept(side):
    stream(side)
    side("bind", "s", side.address, side.next_port())
    side("listen", "s", 4)
    peer = side.reach(side.port)
    peer.sendall(b"early")
    peer.close()
    settle(side)
    time.sleep(0.1)
    return [side("accept", "s", "new", NONBLOCK), side("recv", "new", 10), side("recv", "new", 10)]


@sequence
def accepted_socket_does_not_inherit_nonblocking(side):
    listening_with_one_pending(side)
    side("accept", "s", "new")
    side("time_limit", "new", socket.SO_RCVTIMEO, 30)
    begin = time.monotonic()
    result = side("recv", "new", 1)
    return [result, time.monotonic() - begin > 0.02]


@sequence
def accepted_socket_inherits_options(side):
    stream(side)
    side("setsockopt", "s", SOL, socket.SO_KEEPALIVE, 1)
    side("setsockopt", "s", socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    side("setsockopt", "s", socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33)
    side("setsockopt", "s", socket.IPPROTO_IP, socket.IP_TTL, 77)
    side("bind", "s", side.address, side.next_port())
    side("listen", "s", 4)
    side.reach(side.port)
    settle(side)
    side("accept", "s", "new")
    return [side("getsockopt", "new", level, option) for level, option in (
        (SOL, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_NODELAY),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), (socket.IPPROTO_IP, socket.IP_TTL))]


@sequence
def listener_closed_with_pending_resets_them(side):
    peer = listening_with_one_pending(side)
    return [side("close", "s"), outcome(peer.recv, 1)]


@sequence
def port_in_use_matrix(side):
    """Every pair of wildcard or address, with and without SO_REUSEADDR, listening or not."""
    results = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for first in ("0.0.0.0", side.address):
            for second in ("0.0.0.0", side.address):
                for options in ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,)):
                    results.append(bind_twice(side, kind, first, second, options))
    return results


def bind_twice(side, kind, first, second, options):
    port = side.next_port()
    for name in ("a", "b"):
        side("socket", name, socket.AF_INET, kind, 0)
        for option in options:
            side("setsockopt", name, SOL, option, 1)
    side("bind", "a", first, port)
    result = [side("bind", "b", second, port)]
    if kind == socket.SOCK_STREAM:
        result += [side("listen", "a", 1), side("listen", "b", 1)]
    side("close", "a")
    side("close", "b")
    return result


@sequence
def port_is_free_after_close(side):
    results = []
    port = side.next_port()
    for _ in range(3):
        blocking(side)
        results += [side("bind", "s", side.address, port), side("listen", "s", 1),
                    side("close", "s")]
    return results


@sequence
def bind_then_connect_keeps_the_port(side):
    listener = side.listener()
    blocking(side)
    side("bind", "s", side.address, side.next_port())
    side("connect", "s", side.peer, listener.getsockname()[1])
    _, (_, port) = listener.accept()
    return [side("getsockname", "s"), port == side.port]


@sequence
def ports_of_port_zero_differ(side):
    names = []
    for name in ("a", "b"):
        blocking(side, name)
        side("bind", name, side.address, 0)
        names.append(side("getsockname", name))
    return names


@sequence
def option_values_come_back(side):
    blocking(side)
    results = []
    for level, option, value in (
            (SOL, socket.SO_KEEPALIVE, 5), (SOL, socket.SO_REUSEADDR, 7),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 3),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
            (socket.IPPROTO_TCP, socket.TCP_CORK, 1), (socket.IPPROTO_IP, socket.IP_TTL, 17),
            (socket.IPPROTO_IP, socket.IP_TOS, 0x10)):
        results += [side("setsockopt", "s", level, option, value),
                    side("getsockopt", "s", level, option)]
    return results


@sequence
def cork_holds_until_it_is_pulled(side):
    peer = blocking_pair(side)
    side("setsockopt", "s", socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    side("send", "s", 3)
    peer.settimeout(0.05)
    held = outcome(peer.recv, 10)
    peer.settimeout(5)
    side("setsockopt", "s", socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    return [held, outcome(peer.recv, 10)]


@sequence
def more_holds_until_the_rest(side):
    peer = blocking_pair(side)
    side("send", "s", 3, socket.MSG_MORE | socket.MSG_NOSIGNAL)
    peer.settimeout(0.05)
    held = outcome(peer.recv, 10)
    peer.settimeout(5)
    side("send", "s", 2)
    return [held, outcome(peer.recv, 5, socket.MSG_WAITALL)]


# ---- UDP ----

def datagram_pair(side):
    peer = side.udp()
    blocking(side, kind=socket.SOCK_DGRAM)
    side("bind", "s", side.address, side.next_port())
    side("time_limit", "s", socket.SO_RCVTIMEO, 1000)
    return peer


@sequence
def datagrams_keep_their_borders(side):
    peer = datagram_pair(side)
    for data in (b"a", b"", b"ccc"):
        peer.sendto(data, (side.address, side.port))
    return [side("recvfrom", "s", 10) for _ in range(3)]


@sequence
def datagram_too_large_for_the_buffer(side):
    peer = datagram_pair(side)
    peer.sendto(b"0123456789", (side.address, side.port))
    peer.sendto(b"next", (side.address, side.port))
    return [side("recv", "s", 4, socket.MSG_TRUNC), side("recv", "s", 10)]


@sequence
def connected_udp_hears_its_peer_only(side):
    peer = datagram_pair(side)
    side("connect", "s", side.peer, peer.getsockname()[1])
    side.udp().sendto(b"stranger", (side.address, side.port))
    peer.sendto(b"friend", (side.address, side.port))
    side("time_limit", "s", socket.SO_RCVTIMEO, 100)
    return [side("recvfrom", "s", 100), side("recvfrom", "s", 100)]


@sequence
def connected_udp_may_send_elsewhere(side):
    peer, other = datagram_pair(side), side.udp()
    side("connect", "s", side.peer, peer.getsockname()[1])
    return [side("sendto", "s", 5, side.peer, other.getsockname()[1]), outcome(other.recv, 100),
            side("send", "s", 6), outcome(peer.recv, 100)]


@sequence
def refused_datagram_is_told_once(side):
    peer = datagram_pair(side)
    side("connect", "s", side.peer, peer.getsockname()[1])
    peer.close()
    first = side("send", "s", 5)
    settle(side, POLLERR)
    return [first, side("send", "s", 5), side("getsockopt", "s", SOL, socket.SO_ERROR)]


@sequence
def unconnected_udp_hears_no_refusal(side):
    datagram_pair(side)
    side("sendto", "s", 5, side.peer, side.closed_port())
    time.sleep(0.05)
    return [side("poll", "s"), side("getsockopt", "s", SOL, socket.SO_ERROR)]


@sequence
def udp_dissolve_and_connect_again(side):
    peer = datagram_pair(side)
    return [side("connect", "s", side.peer, peer.getsockname()[1]), side("getpeername", "s"),
            side("connect", "s", "0.0.0.0", 0, 16, socket.AF_UNSPEC), side("getpeername", "s"),
            side("getsockname", "s"),
            side("connect", "s", side.peer, peer.getsockname()[1]), side("send", "s", 4),
            outcome(peer.recv, 10)]


@sequence
def udp_every_border_size(side):
    peer = datagram_pair(side)
    results = []
    for size in (0, 1, 1471, 1472, 1473, 2952, 9000, 65507):
        results += [side("sendto", "s", size, side.peer, peer.getsockname()[1]),
                    outcome(lambda: len(peer.recv(70_000)))]
    return results


# ---- what goes with a datagram ----

IP = socket.IPPROTO_IP
RECVTTL, RECVTOS, PKTINFO, RECVORIGDSTADDR = 12, 13, 8, 20


@sequence
def told_how_a_datagram_came(side):
    """In the order in which Linux tells; cut where there is no room."""
    peer = datagram_pair(side)
    peer.setsockopt(IP, socket.IP_TTL, 33)
    peer.setsockopt(IP, socket.IP_TOS, 0x10)
    before = [side("getsockopt", "s", IP, option) for option in (PKTINFO, RECVTTL, RECVTOS)]
    results = []
    for options in ((), (PKTINFO,), (RECVTTL, RECVTOS), (RECVORIGDSTADDR,)):
        results += [side("setsockopt", "s", IP, option, 1) for option in options]
        for room in (256, 64, 44, 20, 8, 0):
            peer.sendto(b"datagram", (side.address, side.port))
            results.append(side("recvmsg", "s", 100, room))
    peer.sendto(b"datagram", (side.address, side.port))
    results += [side("recvmsg", "s", 3, 64), side("getsockopt", "s", IP, PKTINFO),
                side("setsockopt", "s", IP, PKTINFO, 0), side("getsockopt", "s", IP, PKTINFO)]
    return before + results


@sequence
def datagrams_sent_as_told(side):
    peer = datagram_pair(side)
    peer.setsockopt(IP, RECVTTL, 1)
    peer.setsockopt(IP, RECVTOS, 1)
    to = (side.peer, peer.getsockname()[1])

    def seen():
        data, control, _, name = peer.recvmsg(100, 256)
        told = sorted((kind, int.from_bytes(value, "little")) for _, kind, value in control)
        return f"{len(data)} {told} {side.common(name[0])}"
    number = [7, 0, 0, 0]
    good = ([], [[IP, 2, number]], [[IP, 1, [0x20, 0, 0, 0]]], [[IP, 1, [0x20]]],
            [[IP, 8, side.address]], [[IP, 8, "0.0.0.0"], [IP, 2, number]],
            [[socket.IPPROTO_TCP, 1, number]])
    results = []
    for controls in good:
        results += [side("sendmsg", "s", 5, *to, *controls), seen()]
    bad = ([[IP, 2, [0, 0, 0, 0]]], [[IP, 2, [0, 1, 0, 0]]], [[IP, 2, [7]]], [[IP, 8, [0] * 4]],
           [[IP, 77, number]], [[socket.SOL_SOCKET, 77, number]], [[IP, 1, [0, 1, 0, 0]]])
    return results + [side("sendmsg", "s", 5, *to, *controls) for controls in bad]


@sequence
def a_stream_heeds_no_control_message(side):
    peer = blocking_pair(side)
    return [side("sendmsg", "s", 5, side.peer, 1, [IP, 2, [7, 0, 0, 0]]), outcome(peer.recv, 10),
            side("sendmsg", "s", 5, side.peer, 1, [socket.SOL_SOCKET, 77, [7, 0, 0, 0]])]


# ---- congestion control ----

@sequence
def congestion_control_by_name(side):
    listener = side.listener()
    blocking(side)
    before = [side("congestion", "s", "nonesuch"), side("congestion", "s", "cubic"), side("congestion", "s"),
              side("congestion", "s", "")]
    side("connect", "s", side.peer, listener.getsockname()[1])
    after = [side("congestion", "s", "cubic"), side("congestion", "s")]
    blocking(side, "d", socket.SOCK_DGRAM)
    return before + after + [side("congestion", "d", "cubic"), side("congestion", "d")]


# ---- connect to nowhere ----

@sequence
def a_stream_dissolved_connects_again(side):
    first = blocking_pair(side)
    listener = side.listener()
    dissolved = [side("connect", "s", "0.0.0.0", 0, 16, socket.AF_UNSPEC), outcome(first.recv, 10),
                 side("getpeername", "s"), side("send", "s", 1), side("recv", "s", 1)]
    again = [side("connect", "s", side.peer, listener.getsockname()[1])]
    peer, _ = listener.accept()
    side.open.append(peer)
    return dissolved + again + [side("send", "s", 4), outcome(peer.recv, 10)]
