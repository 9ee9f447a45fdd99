"""Exchanges with urgent data (RFC 9293 3.8.5, RFC 6093): MSG_OOB, SO_OOBINLINE, SIOCATMARK, POLLPRI."""
import socket
import time

from sequences import blocking, blocking_pair, outcome, sequence
from states import NONBLOCK, POLLIN, connected_pair, settle

SOL, OOB, NOSIGNAL = socket.SOL_SOCKET, socket.MSG_OOB, socket.MSG_NOSIGNAL
POLLPRI = 2
BOTH = POLLIN | POLLPRI


def arrive(side):
    """What the peer has sent is there, on both sides."""
    settle(side, POLLPRI)
    time.sleep(0.05)


def look(side):
    return [side("poll", "s", BOTH), side("at_mark", "s"), side("unread", "s")]


def three_parts(side):
    """The subject's "s" with ordinary, urgent and ordinary bytes before it."""
    peer = connected_pair(side)
    peer.sendall(b"abc")
    peer.send(b"!", OOB)
    peer.sendall(b"def")
    arrive(side)
    return peer


# proves: MUST-32, MUST-33
@sequence
def urgent_byte_beside_the_stream(side):
    three_parts(side)
    return [look(side), side("recv", "s", 100), look(side), side("recv", "s", 1, OOB), look(side),
            side("recv", "s", 1, OOB), side("recv", "s", 100), look(side),
            side("recv", "s", 1, OOB), side("recv", "s", 1)]


@sequence
def urgent_byte_in_line(side):
    peer = connected_pair(side)
    results = [side("setsockopt", "s", SOL, socket.SO_OOBINLINE, 1)]
    peer.sendall(b"abc")
    peer.send(b"xy!", OOB)
    peer.sendall(b"def")
    arrive(side)
    results += [look(side), side("recv", "s", 1, OOB), side("recv", "s", 100), look(side),
                side("recv", "s", 1), look(side), side("recv", "s", 100), look(side)]
    return results


@sequence
def urgent_byte_fetched_first(side):
    three_parts(side)
    return [side("recv", "s", 1, OOB), look(side), side("recv", "s", 2), look(side),
            side("recv", "s", 100), look(side), side("recv", "s", 100), look(side)]


@sequence
def urgent_byte_read_past_is_gone(side):
    three_parts(side)
    return [side("recv", "s", 3), side("recv", "s", 2), side("recv", "s", 1, OOB), look(side),
            side("recv", "s", 100)]


@sequence
def urgent_byte_alone(side):
    connected_pair(side).send(b"!", OOB)
    arrive(side)
    return [look(side), side("recv", "s", 10), look(side), side("recv", "s", 1, OOB)]


@sequence
def urgent_byte_peeked(side):
    three_parts(side)
    return [side("recv", "s", 1, OOB | socket.MSG_PEEK), side("recv", "s", 0, OOB),
            side("recv", "s", 100, socket.MSG_PEEK), look(side), side("recv", "s", 100),
            side("recv", "s", 100, socket.MSG_PEEK), look(side)]


@sequence
def urgent_byte_by_recvmsg(side):
    three_parts(side)
    return [side("recvmsg", "s", 10, 0, OOB), side("recvmsg", "s", 10, 0), side("recvmsg", "s", 10, 0)]


@sequence
def waiting_for_all_ends_at_the_mark(side):
    peer = blocking_pair(side)
    peer.sendall(b"abc")
    peer.send(b"!", OOB)
    peer.sendall(b"def")
    arrive(side)
    return [side("recv", "s", 5, socket.MSG_WAITALL), side("recv", "s", 3, socket.MSG_WAITALL),
            look(side)]


@sequence
def second_urgent_byte_takes_the_place_of_the_first(side):
    peer = connected_pair(side)
    peer.sendall(b"abc")
    peer.send(b"1", OOB)
    arrive(side)
    peer.sendall(b"de")
    peer.send(b"2", OOB)
    time.sleep(0.05)
    return [look(side), side("recv", "s", 100), side("recv", "s", 1, OOB), look(side),
            side("recv", "s", 100)]


@sequence
def second_urgent_byte_at_the_mark_of_the_first(side):
    peer = connected_pair(side)
    peer.send(b"1", OOB)
    arrive(side)
    first = look(side)
    peer.send(b"2", OOB)
    time.sleep(0.05)
    return [first, look(side), side("recv", "s", 1, OOB), side("recv", "s", 100), look(side)]


@sequence
def urgent_byte_and_the_end(side):
    peer = three_parts(side)
    peer.shutdown(socket.SHUT_WR)
    settle(side, 0x2000)
    return [look(side), side("recv", "s", 100), side("recv", "s", 1, OOB), side("recv", "s", 100),
            side("recv", "s", 100), look(side)]


@sequence
def urgent_bytes_sent(side):
    peer = blocking_pair(side)
    results = [side("send", "s", 3), side("send", "s", 4, OOB | NOSIGNAL)]
    time.sleep(0.05)
    return results + [outcome(peer.recv, 1, OOB), outcome(peer.recv, 100), side("send", "s", 2),
                      outcome(peer.recv, 100), side("send", "s", 0, OOB | NOSIGNAL),
                      outcome(peer.recv, 1, OOB)]


@sequence
def accepted_sockets_inherit_in_line(side):
    blocking(side, "l")
    side("setsockopt", "l", SOL, socket.SO_OOBINLINE, 1)
    side("bind", "l", side.address, side.next_port())
    side("listen", "l", 8)
    peer = side.reach(side.port)
    settle(side, name="l")
    side("accept", "l", "s", NONBLOCK)
    peer.send(b"abc", OOB)
    arrive(side)
    return [side("getsockopt", "s", SOL, socket.SO_OOBINLINE), side("recv", "s", 100),
            side("recv", "s", 100)]
