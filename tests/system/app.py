#!/usr/bin/env python3
"""The applications of the system tests: each subcommand is one program over libpostern.

It prints "ready" when a peer may begin, and at its end one line of JSON with what it saw.
"""
import argparse
import errno
import hashlib
import json
import socket as kernel
import struct
import sys

import postern_api as postern
from pattern import Pattern

LINGER_RESET = struct.pack("ii", 1, 0)


def say(**facts):
    print(json.dumps(facts), flush=True)


def ready():
    print("ready", flush=True)


def family_of(host):
    return kernel.AF_INET6 if ":" in host else kernel.AF_INET


def listener(port, backlog=1024):
    sock = postern.Socket()
    sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_REUSEADDR, 1)
    sock.bind("0.0.0.0", port)
    sock.listen(backlog)
    return sock


def failure(error):
    return {"errno": errno.errorcode.get(error.errno, str(error.errno)), "message": str(error)}


def receive_all(conn, buffer_size=1 << 18):
    """Receives to the end of the stream. Returns (bytes, SHA-256, error or None)."""
    digest, total, buffer = hashlib.sha256(), 0, bytearray(buffer_size)
    view = memoryview(buffer)
    while True:
        try:
            got = conn.recv_into(buffer)
        except OSError as error:
            return total, digest.hexdigest(), error
        if got == 0:
            return total, digest.hexdigest(), None
        digest.update(view[:got])
        total += got


# ---- programs ----

def sink(args):
    """Accepts one connection and receives to its end."""
    with listener(args.port) as server:
        ready()
        conn, peer = server.accept()
        total, digest, error = receive_all(conn)
        say(bytes=total, sha256=digest, peer=peer, **(failure(error) if error else {}))
        conn.close()


def source(args):
    """Accepts one connection and sends the pattern."""
    with listener(args.port) as server:
        ready()
        conn, _ = server.accept()
        pattern = Pattern()
        try:
            for piece in pattern.pieces(args.bytes):
                conn.sendall(piece)
            conn.shutdown(kernel.SHUT_WR)
            total, _, _ = receive_all(conn)
            say(sent=args.bytes, sha256=pattern.digest(args.bytes), received=total)
        except OSError as error:
            say(**failure(error))
        conn.close()


def connect_again(args):
    """For each line, which is a number of bytes, what `connect` does."""
    ready()
    for line in sys.stdin:
        args.bytes = int(line)
        connect(args)


def connect(args):
    """Connects, sends the pattern, closes its half, and reads what comes back."""
    with postern.Socket(family=family_of(args.host)) as conn:
        try:
            conn.connect(args.host, args.port)
            name = conn.getsockname()
            for piece in Pattern().pieces(args.bytes):
                conn.sendall(piece)
            conn.shutdown(kernel.SHUT_WR)
            total, digest, error = receive_all(conn)
            say(bytes=total, sha256=digest, name=name, **(failure(error) if error else {}))
        except OSError as error:
            say(**failure(error))


def dial_many(args):
    """Opens many connections, then has each echo a line, then closes them."""
    conns = []
    for _ in range(args.count):
        conn = postern.Socket()
        conn.connect(args.host, args.port)
        conns.append(conn)
    good = 0
    for i, conn in enumerate(conns):
        conn.sendall(b"connection %06d\n" % i)
    for i, conn in enumerate(conns):
        want = b"connection %06d\n" % i
        good += conn.recv(len(want), kernel.MSG_WAITALL) == want
    ports = {conn.getsockname() for conn in conns}
    for conn in conns:
        conn.close()
    say(good=good, ports=len(ports))


def half_close(args):
    """Sends a greeting, closes its half, and still receives all that the peer sends."""
    with listener(args.port) as server:
        ready()
        conn, _ = server.accept()
        conn.sendall(b"greeting")
        conn.shutdown(kernel.SHUT_WR)
        total, digest, error = receive_all(conn)
        refused = None
        try:
            conn.send(b"more")
        except OSError as caught:
            refused = errno.errorcode[caught.errno]
        say(bytes=total, sha256=digest, send_after=refused, **(failure(error) if error else {}))
        conn.close()


def wait_error(args):
    """Accepts a connection, sets the time-outs asked for, and waits for its end."""
    with listener(args.port) as server:
        ready()
        conn, _ = server.accept()
        if args.user_timeout:
            conn.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_USER_TIMEOUT, args.user_timeout)
        if args.keepalive:
            conn.setsockopt(kernel.SOL_SOCKET, kernel.SO_KEEPALIVE, 1)
            conn.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_KEEPIDLE, 1)
            conn.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_KEEPINTVL, 1)
            conn.setsockopt(kernel.IPPROTO_TCP, kernel.TCP_KEEPCNT, 2)
        say(accepted=True)
        if args.send_on:
            # The peer's word that the wire is cut; then data that nobody will acknowledge.
            conn.recv(1)
            sys.stdin.readline()
            conn.sendall(b"into the void")
        total, _, error = receive_all(conn)
        say(bytes=total, **(failure(error) if error else {"eof": True}))
        conn.close()


def reset(args):
    """Accepts a connection and aborts it."""
    with listener(args.port) as server:
        ready()
        conn, _ = server.accept()
        conn.recv(1)
        conn.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, LINGER_RESET)
        conn.close()
        say(closed=True)


def hold(args):
    """Accepts any number of connections and keeps them, reading nothing, until it is killed."""
    with listener(args.port) as server:
        ready()
        conns = []
        while True:
            conn, _ = server.accept()
            conns.append(conn)
            if len(conns) == args.count:
                say(accepted=len(conns))


def slow(args):
    """Accepts a connection, sends the pattern to a peer that will not read for a while."""
    with listener(args.port) as server:
        ready()
        conn, _ = server.accept()
        for piece in Pattern().pieces(args.bytes):
            conn.sendall(piece)
        say(queued=args.bytes)
        conn.close()


def bind(args):
    """Attaches and binds: says the outcome, keeps the binding until its input ends."""
    try:
        family = family_of(args.host)
        sock = postern.Socket(kernel.SOCK_DGRAM if args.udp else kernel.SOCK_STREAM, family=family)
        if args.v6_only:
            sock.setsockopt(kernel.IPPROTO_IPV6, kernel.IPV6_V6ONLY, 1)
        sock.bind(args.host, args.port)
        if not args.udp:
            sock.listen(16)
        say(bound=sock.getsockname())
        sys.stdin.read()
    except OSError as error:
        say(**failure(error))


def udp_send(args):
    """Sends datagrams to a peer and checks that they come back."""
    with postern.Socket(kernel.SOCK_DGRAM, family=family_of(args.host)) as sock:
        sock.settimeout(5)
        good = 0
        for size in range(0, args.largest + 1, args.step):
            data = Pattern().bytes(size)
            sock.sendto(data, args.host, args.port)
            answer, peer = sock.recvfrom(70000)
            good += answer == data and peer == (args.host, args.port)
        say(good=good)


def udp_path(args):
    """A connected socket: for each size on its input, a datagram, or the error that an earlier one met on
    its way."""
    with postern.Socket(kernel.SOCK_DGRAM, family=family_of(args.host)) as sock:
        if args.discover >= 0:
            v6 = family_of(args.host) == kernel.AF_INET6
            sock.setsockopt(kernel.IPPROTO_IPV6 if v6 else kernel.IPPROTO_IP, 23 if v6 else 10,
                            args.discover)
        sock.connect(args.host, args.port)
        ready()
        for line in sys.stdin:
            try:
                sock.recv(1, kernel.MSG_DONTWAIT)
            except BlockingIOError:
                sock.send(Pattern().bytes(int(line)))
                say(sent=int(line))
            except OSError as error:
                say(**failure(error))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--udp", action="store_true")
    parser.add_argument("--largest", type=int, default=1472, help="bytes of a datagram")
    parser.add_argument("--step", type=int, default=16, help="bytes from one datagram to the next")
    parser.add_argument("--discover", type=int, default=-1, help="IP_MTU_DISCOVER")
    parser.add_argument("--v6-only", action="store_true")
    parser.add_argument("--user-timeout", type=int, default=0, help="milliseconds")
    parser.add_argument("--keepalive", action="store_true")
    parser.add_argument("--send-on", action="store_true")
    args = parser.parse_args()
    programs = {f.__name__: f for f in (sink, source, connect, connect_again, dial_many, half_close,
                                        wait_error, reset, hold, slow, bind, udp_send, udp_path)}
    try:
        postern.attach()
    except OSError as error:
        say(attach=True, **failure(error))
        return
    programs[args.program](args)


if __name__ == "__main__":
    main()
