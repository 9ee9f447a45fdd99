#!/usr/bin/env python3
"""Makes socket calls as it is told, over the kernel or over libpostern: the one and the other have
the same C interface, so this program does not know which it is.

A line of input is a JSON list, the call's name and its arguments; a line of output is what came of
it, as text: the result, or the name of the errno. Sockets are named by the caller.
"""
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket as names
import sys
import termios

over_postern = sys.argv[1] == "postern"
library = ctypes.CDLL(os.environ.get("LIBPOSTERN", "libpostern.so.0") if over_postern else None,
                      use_errno=True)
SIOCATMARK = 0x8905
fds = {}


def call(name, *arguments):
    """The C function; a negative result becomes the errno's name, anything else stays a number."""
    function = getattr(library, ("postern_" if over_postern else "") + name)
    function.restype = ctypes.c_ssize_t if name.startswith(("send", "recv")) else ctypes.c_int
    ctypes.set_errno(0)
    result = function(*arguments)
    return result if result >= 0 else errno.errorcode.get(ctypes.get_errno(), "errno?")


def sockaddr(host, port, family=names.AF_INET):
    return (family.to_bytes(2, "little") + port.to_bytes(2, "big") + names.inet_aton(host) + bytes(8))


def address_text(raw, length):
    if length < 8:
        return f"{length} bytes"
    if int.from_bytes(raw[:2], "little") != names.AF_INET:
        return f"family {int.from_bytes(raw[:2], 'little')}"
    return f"{names.inet_ntoa(raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"


def keep(name, result):
    if isinstance(result, str):
        return result
    fds[name] = result
    return "ok"


def op_socket(name, domain, kind, protocol):
    return keep(name, call("socket", domain, kind, protocol))


def op_bind(name, host, port, length=16, family=names.AF_INET):
    return call("bind", fds[name], sockaddr(host, port, family), length)


def op_connect(name, host, port, length=16, family=names.AF_INET):
    return call("connect", fds[name], sockaddr(host, port, family), length)


def op_listen(name, backlog):
    return call("listen", fds[name], backlog)


def op_accept(name, new, flags=0, with_address=True):
    raw, length = ctypes.create_string_buffer(16), ctypes.c_uint32(16)
    more = (raw, ctypes.byref(length)) if with_address else (None, None)
    result = keep(new, call("accept4", fds[name], *more, flags))
    return f"ok from {address_text(raw.raw, length.value)}" if result == "ok" and with_address else result


def op_send(name, size, flags=names.MSG_NOSIGNAL):
    return call("send", fds[name], b"s" * size, ctypes.c_size_t(size), flags)


def op_sendto(name, size, host, port, flags=names.MSG_NOSIGNAL, length=16, family=names.AF_INET):
    return call("sendto", fds[name], b"t" * size, ctypes.c_size_t(size), flags,
                sockaddr(host, port, family), length)


def op_recv(name, size, flags=0):
    data = ctypes.create_string_buffer(max(size, 1))
    result = call("recv", fds[name], data, ctypes.c_size_t(size), flags)
    return result if isinstance(result, str) else f"{result} {data.raw[:min(result, size)][:32]!r}"


def op_recvfrom(name, size, flags=0):
    data, raw = ctypes.create_string_buffer(max(size, 1)), ctypes.create_string_buffer(16)
    length = ctypes.c_uint32(16)
    result = call("recvfrom", fds[name], data, ctypes.c_size_t(size), flags, raw,
                  ctypes.byref(length))
    if isinstance(result, str):
        return result
    sender = address_text(raw.raw, length.value) if length.value else "nobody"
    return f"{result} {data.raw[:min(result, size)][:32]!r} from {sender}"


class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32),
                ("vec", ctypes.POINTER(Vec)), ("vec_length", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


def message(data, address, control):
    vec = Vec(ctypes.cast(data, ctypes.c_void_p), len(data))
    where = [ctypes.cast(part, ctypes.c_void_p) if part is not None else None
             for part in (address, control)]
    m = Message(where[0], len(address) if address is not None else 0, ctypes.pointer(vec), 1,
                where[1], len(control) if control is not None else 0, 0)
    m.keep = (vec, data, address, control)
    return m


PKTINFO, ORIGDSTADDR = (names.SOL_IP, 8), (names.SOL_IP, 20)


def control_text(raw):
    """The control messages in order; an interface's number is another one on each side."""
    told, at = [], 0
    while at + 16 <= len(raw):
        length, level, kind = (int.from_bytes(raw[at + a:at + b], "little")
                               for a, b in ((0, 8), (8, 12), (12, 16)))
        if length < 16:
            break
        data = raw[at + 16:at + length]
        if (level, kind) == PKTINFO and len(data) == 12:
            value = f"{names.inet_ntoa(data[4:8])} {names.inet_ntoa(data[8:12])}"
        elif (level, kind) == ORIGDSTADDR and len(data) == 16:
            value = address_text(data, 16)
        elif (level, kind) in (PKTINFO, ORIGDSTADDR):
            value = f"{len(data)} bytes"
        else:
            value = int.from_bytes(data, "little")
        told.append(f"{level}/{kind}={value}")
        at += (length + 7) // 8 * 8
    return " ".join(told) or "nothing told"


def op_recvmsg(name, size, room, flags=0):
    data, control = ctypes.create_string_buffer(size), ctypes.create_string_buffer(room)
    m = message(data, None, control)
    result = call("recvmsg", fds[name], ctypes.byref(m), flags)
    if isinstance(result, str):
        return result
    return f"{result} {control_text(control.raw[:m.control_length])} flags {m.flags:#x}"


def op_sendmsg(name, size, host, port, *controls):
    """A control message is [level, type, bytes as a list, or an address as text]."""
    raw = b""
    for level, kind, value in controls:
        if isinstance(value, str):
            value = bytes(4) + names.inet_aton(value) + bytes(4)
        value = bytes(value)
        raw += ((16 + len(value)).to_bytes(8, "little") + level.to_bytes(4, "little") +
                kind.to_bytes(4, "little") + value + bytes(-len(value) % 8))
    m = message(ctypes.create_string_buffer(b"m" * size, size),
                ctypes.create_string_buffer(sockaddr(host, port), 16),
                ctypes.create_string_buffer(raw, len(raw)) if raw else None)
    return call("sendmsg", fds[name], ctypes.byref(m), names.MSG_NOSIGNAL)


def op_congestion(name, algorithm=None):
    if algorithm is not None:
        return call("setsockopt", fds[name], names.IPPROTO_TCP, names.TCP_CONGESTION,
                    algorithm.encode(), len(algorithm))
    raw, length = ctypes.create_string_buffer(16), ctypes.c_uint32(16)
    result = call("getsockopt", fds[name], names.IPPROTO_TCP, names.TCP_CONGESTION, raw,
                  ctypes.byref(length))
    return result if isinstance(result, str) else f"{raw.value.decode()} {length.value}"


def op_shutdown(name, how):
    return call("shutdown", fds[name], how)


def op_close(name):
    return call("close", fds.pop(name))


def op_dup(name, new):
    return keep(new, call("dup", fds[name]))


def _name_of(function, name, room):
    raw, length = ctypes.create_string_buffer(16), ctypes.c_uint32(room)
    result = call(function, fds[name], raw, ctypes.byref(length))
    return result if isinstance(result, str) else address_text(raw.raw, length.value)


def op_getsockname(name, room=16):
    return _name_of("getsockname", name, room)


def op_getpeername(name, room=16):
    return _name_of("getpeername", name, room)


def op_setsockopt(name, level, option, value, length=4):
    return call("setsockopt", fds[name], level, option, value.to_bytes(16, "little", signed=True),
                length)


def op_linger(name, on, seconds):
    return call("setsockopt", fds[name], names.SOL_SOCKET, names.SO_LINGER,
                on.to_bytes(4, "little") + seconds.to_bytes(4, "little"), 8)


def op_time_limit(name, option, milliseconds):
    value = (milliseconds // 1000).to_bytes(8, "little") + (
        milliseconds % 1000 * 1000).to_bytes(8, "little")
    return call("setsockopt", fds[name], names.SOL_SOCKET, option, value, 16)


def op_getsockopt(name, level, option, room=4):
    raw, length = ctypes.create_string_buffer(16), ctypes.c_uint32(room)
    result = call("getsockopt", fds[name], level, option, raw, ctypes.byref(length))
    if isinstance(result, str):
        return result
    value = int.from_bytes(raw.raw[:length.value], "little", signed=True)
    if (level, option) == (names.SOL_SOCKET, names.SO_ERROR):
        return errno.errorcode.get(value, "none")
    return value


POLL = ((select.POLLIN, "IN"), (select.POLLPRI, "PRI"), (select.POLLOUT, "OUT"), (0x2000, "RDHUP"), (select.POLLERR, "ERR"),
        (select.POLLHUP, "HUP"), (select.POLLNVAL, "NVAL"))
POLL_ALL = select.POLLIN | select.POLLOUT | 0x2000


class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def op_poll(name, events=POLL_ALL, milliseconds=0):
    one = PollFd(fds[name], events, 0)
    result = call("poll", ctypes.byref(one), ctypes.c_ulong(1), milliseconds)
    if isinstance(result, str):
        return result
    return "|".join(text for bit, text in POLL if one.revents & bit) or "nothing"


def op_at_mark(name):
    if over_postern:
        return call("at_mark", fds[name])
    return int.from_bytes(fcntl.ioctl(fds[name], SIOCATMARK, bytes(4)), "little")


def op_unread(name):
    if over_postern:
        return call("available", fds[name])
    return int.from_bytes(fcntl.ioctl(fds[name], termios.FIONREAD, bytes(4)), "little")


def op_nonblocking(name, on):
    if over_postern:
        return call("set_nonblocking", fds[name], on)
    os.set_blocking(fds[name], not on)
    return 0


def op_alarm(milliseconds):
    """A signal with a handler that does not restart calls interrupts what comes next."""
    signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
    return 0


def op_forget():
    """Closes what a sequence left open."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for name in list(fds):
        op_close(name)
    return 0


def main():
    if over_postern and library.postern_attach(None) < 0:
        sys.exit(f"attach: {os.strerror(ctypes.get_errno())}")
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    print("ready", flush=True)
    for line in sys.stdin:
        operation, *arguments = json.loads(line)
        try:
            result = globals()["op_" + operation](*arguments)
        except KeyError:
            result = "no such socket"
        print(json.dumps(str(result)), flush=True)


main()
