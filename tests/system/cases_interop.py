"""Interoperation: each of Linux's TCP settings turned, against each of Postern's.

One case is one configuration of Postern. In it every setting of the kernel has its turn: a
connection that Linux opens and one that Postern opens, data both ways, every byte checked, and what
was negotiated compared with what both sides allow. Each once over a clean wire and once over one that
loses, duplicates, reorders and corrupts (with --quick every fifth of these pairs, and all of Postern's
defaults).
"""
import contextlib
import pathlib
import socket
import threading

from harness import LINUX, POSTERN, QUICK, WIRE, case, note, receive_to_end, run
from pattern import Pattern

SIZE, SMALL = 600_000, 48_000  # bytes each way; a small window takes a round trip for a few KiB
BAD_WIRE = {"loss": "2%", "duplicate": "1%", "reorder": "2%", "corrupt": "1%"}
BAD_SIZE = 100_000 if QUICK else SIZE  # a timeout takes 200 ms
QUICK_SHARE = 5

# tcp_info.tcpi_options
TIMESTAMPS, SACK, SCALING, ECN = 1, 2, 4, 8
NAMES = {TIMESTAMPS: "timestamps", SACK: "sack", SCALING: "window_scaling", ECN: "ecn"}

# Settings of the kernel, by namespace. tcp_ecn: 0 never, 1 asks for it, 2 grants it.
KERNEL = {
    "defaults": {},
    "no timestamps": {"tcp_timestamps": "0"},
    "no SACK": {"tcp_sack": "0"},
    "no DSACK": {"tcp_dsack": "0"},
    "no scaling": {"tcp_window_scaling": "0"},
    "no F-RTO": {"tcp_frto": "0"},
    "no RACK": {"tcp_recovery": "0"},
    "no tail loss probe": {"tcp_early_retrans": "0"},
    "bare": {"tcp_timestamps": "0", "tcp_sack": "0", "tcp_window_scaling": "0", "tcp_ecn": "0"},
    "asks for ECN": {"tcp_ecn": "1"},
    "no ECN": {"tcp_ecn": "0"},
    "probes the MTU": {"tcp_mtu_probing": "2", "tcp_base_mss": "512"},
    "small buffers": {"tcp_rmem": "4096 8192 16384", "tcp_wmem": "4096 8192 16384"},
    "reno": {"tcp_congestion_control": "reno"},
    "bbr": {"tcp_congestion_control": "bbr"},
}

POSTERN_TCP = {
    "defaults": {},
    "no_timestamps": {"timestamps": False},
    "no_sack": {"sack": False},
    "no_scaling": {"window_scaling": False},
    "bare_dctcp": {"timestamps": False, "sack": False, "window_scaling": False,
                   "congestion": "dctcp"},  # wants ECN all the same
    "ecn": {"ecn": True},
    "newreno_and_small_buffers": {"congestion": "newreno", "receive_buffer": "16KiB",
                                  "receive_buffer_max": "16KiB", "send_buffer": "16KiB"},
}


@contextlib.contextmanager
def settings(values):
    """Sets them in this namespace and puts them back. Yields whether the kernel has them all."""
    base, before = pathlib.Path("/proc/sys/net/ipv4"), {}
    try:
        for name, value in values.items():
            file = base / name
            old = file.read_text()
            file.write_text(value)
            before[file] = old
        yield True
    except (FileNotFoundError, PermissionError) as error:
        # A congestion control that is not compiled in, or not allowed here.
        if not error.filename or "ipv4" not in error.filename:
            raise
        yield False
    finally:
        for file, old in before.items():
            file.write_text(old)


def expected(kernel, ours, linux_opens):
    """What a connection has when both sides allow it."""
    both = 0
    if kernel.get("tcp_timestamps") != "0" and ours.get("timestamps", True):
        both |= TIMESTAMPS
    if kernel.get("tcp_sack") != "0" and ours.get("sack", True):
        both |= SACK
    if kernel.get("tcp_window_scaling") != "0" and ours.get("window_scaling", True):
        both |= SCALING
    ecn = kernel.get("tcp_ecn", "2")
    wants_ecn = ours.get("ecn", False) or ours.get("congestion") == "dctcp"
    if wants_ecn and ecn != "0" and (ecn == "1" or not linux_opens):
        both |= ECN
    return both


def check_negotiated(sock, kernel, ours, linux_opens, bad_wire):
    has = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]
    has &= TIMESTAMPS | SACK | SCALING | ECN
    wanted = expected(kernel, ours, linux_opens)
    if bad_wire and not has & ECN:  # RFC 3168 6.1.1.1: a SYN that was lost is sent again without
        wanted &= ~ECN
    names = [name for bit, name in NAMES.items() if (has ^ wanted) & bit]
    assert not names, f"differs from what both allow: {', '.join(names)} (has {has}, not {wanted})"


def linux_opens(world, kernel, ours, size, bad_wire):
    """Through Postern's echo: both directions at once."""
    with world.connect(7, timeout=20) as sock:
        check_negotiated(sock, kernel, ours, True, bad_wire)

        def send():
            for piece in Pattern().pieces(size):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        total, digest, error = receive_to_end(sock)
        sender.join(20)
    assert error is None and total == size, f"{total} of {size} bytes, {error}"
    assert digest == Pattern().digest(size), "other bytes came back"


def postern_opens(app, server, kernel, ours, size, bad_wire):
    """Linux takes all, and then sends as much."""
    app.tell(f"{size}\n")
    sock, _ = server.accept()
    with sock:
        sock.settimeout(20)
        check_negotiated(sock, kernel, ours, False, bad_wire)
        total, digest, error = receive_to_end(sock)
        assert error is None and total == size, f"{total} of {size} bytes, {error}"
        assert digest == Pattern().digest(size), "other bytes arrived"
        for piece in Pattern().pieces(size):
            sock.sendall(piece)
    result = app.result(20)
    assert result.get("bytes") == size and result["sha256"] == Pattern().digest(size), result


def interoperate(world, ours, impair, whole_size, names=tuple(KERNEL)):
    world.start(tcp=ours, **({"impair": impair} if impair else {}))
    world.serve_echo()
    # Linux gives up after three ARP requests, of which each may be lost.
    mac = world.show("link")[0]["mac"]
    run("ip", "neigh", "replace", POSTERN, "lladdr", mac, "dev", WIRE)
    app = world.app("connect_again", "--host", LINUX, "--port", 9000).expect_ready()
    done = 0
    for name in names:
        kernel = KERNEL[name]
        with settings(kernel) as there, world.listen() as server:
            if not there:
                note(f"the kernel has no {name}")
                continue
            size = SMALL if "small" in name else whole_size
            try:
                linux_opens(world, kernel, ours, size, bool(impair))
                postern_opens(app, server, kernel, ours, size, bool(impair))
            except (AssertionError, OSError) as error:
                raise AssertionError(f"Linux: {name}; Postern: {ours}: {error}") from error
            done += 2
    note(f"{done} connections")


def register(name, seconds, *arguments):
    def body(world):
        interoperate(world, *arguments)
    body.__name__, body.__module__ = name, __name__
    case(body, seconds=seconds)


for _seed, (_name, _ours) in enumerate(POSTERN_TCP.items()):
    register(_name, 60, _ours, None, SIZE)
    _share = QUICK_SHARE if QUICK and _ours else 1
    register(f"{_name}_over_a_bad_wire", 240, _ours, {"seed": _seed + 1, **BAD_WIRE}, BAD_SIZE,
             tuple(KERNEL)[_seed % _share::_share])
