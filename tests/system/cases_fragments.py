"""Packets larger than a frame: the kernel's fragments put together, ours by the kernel, and fragments
that no honest host sends."""
import os
import re
import socket
import struct
import time

from cases_ipv6 import LINUX6, POSTERN6, Frames6, serve6, settled6, start6, udp6
from cases_malformed import drop_counts
from cases_path_mtu import start as start_path
from harness import HERE, LINUX, POSTERN, WIRE, case, note, run, wait_until
from pattern import Pattern
from spoiled_frames import checksum


def start(world, **sections):
    """Over net_pcap: behind net_af_packet the kernel puts IPv4 fragments together itself, for its fan-out."""
    return start6(world, ports={"device": f"net_pcap0,iface={WIRE}"}, **sections)


@case(needs=("ping",))
def ping_of_the_largest_size(world):
    start(world)
    for target in (POSTERN, POSTERN6):
        for size in (1473, 2953, 20000, 65507):
            text = run("ping", "-n", "-q", "-M", "dont", "-c", 5, "-i", "0.2", "-W", 2, "-s", size, target)
            assert " 5 received, 0% packet loss" in text, text


@case(seconds=120)
def udp_echo_larger_than_frames(world):
    start(world)
    serve6(world)
    data = Pattern().bytes(65507)
    for family, target in ((socket.AF_INET, POSTERN), (socket.AF_INET6, POSTERN6)):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.connect((target, 7))
            for size in (1452, 1453, 1472, 1473, 2952, 2953, 8192, 9000, 32768, 65506, 65507):
                sock.send(data[:size])
                try:
                    answer = sock.recv(70000)
                except TimeoutError:
                    raise AssertionError(f"{target}: {size} bytes did not come back: "
                                         f"{drop_counts(world)}") from None
                assert answer == data[:size], f"{target}: {size} bytes came back as {len(answer)}"


@case(seconds=90)
def udp_from_application_larger_than_frames(world):
    start(world)
    for family, host in ((socket.AF_INET, LINUX), (socket.AF_INET6, LINUX6)):
        with socket.socket(family, socket.SOCK_DGRAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            server.bind((host, 9000))
            server.settimeout(10)
            app = world.app("udp_send", "--host", host, "--port", 9000, "--largest", 65507, "--step", 7001)
            count = len(range(0, 65508, 7001))
            for _ in range(count):
                data, peer = server.recvfrom(70000)
                server.sendto(data, peer)
            assert app.result() == {"good": count}


@case(needs=("ping",))
def several_workers_put_fragments_together(world):
    """Fragments meet on the worker of their addresses, whichever serves the socket's flow."""
    cores = sorted(os.sched_getaffinity(0))
    start6(world, workers={"cores": cores[-2:], "idle": "adaptive"})
    serve6(world)
    data = Pattern().bytes(20000)
    for _ in range(8):
        with udp6() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.send(data)
            assert sock.recv(70000) == data
    text = run("ping", "-n", "-q", "-M", "dont", "-c", 3, "-i", "0.2", "-W", 2, "-s", 5000, POSTERN6)
    assert "0% packet loss" in text, text


@case(seconds=180)
def streams_in_fragments_reach_their_worker(world):
    """A host far away does not set DF, and the router between cuts its segments: put together by the worker
    of their addresses, they go to that of their connection."""
    cores = sorted(os.sched_getaffinity(0))
    far = start_path(world, mtu=1500, device=f"net_pcap0,iface={WIRE}",
                     workers={"cores": cores[-2:], "idle": "adaptive"})
    run("ip", "route", "add", f"{POSTERN}/32", "dev", WIRE, "mtu", "lock", 1000)
    far.run("sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1")
    world.serve_echo()
    program = ("import socket, sys\n"
               "sys.path.insert(0, sys.argv[1])\n"
               "from pattern import Pattern\n"
               "from harness import receive_exactly\n"
               "data = Pattern().bytes(60000)\n"
               f"socks = [socket.create_connection(('{POSTERN}', 7), timeout=20) for _ in range(8)]\n"
               "for sock in socks:\n"
               "    sock.sendall(data)\n"
               "    assert receive_exactly(sock, len(data)) == data\n")
    far.run("python3", "-c", program, HERE, timeout=60)
    total = world.show("stats")["total"]
    note(f"{total['ip_reassembled']} segments put together")
    assert total["ip_reassembled"] > 100, total["ip_reassembled"]
    assert drop_counts(world).get("ip_fragment_foreign", 0) == 0
    shares = [row["tcp_rx_segments"] for row in world.show("stats")["workers"]]
    assert all(shares), shares


# ---- what no honest host sends ----

class Pieces(Frames6):
    """Fragments of both families, of UDP to a port where nobody listens."""

    def piece4(self, data, offset, more, ident, protocol=17, tos=0):
        place = (0x2000 if more else 0) | offset // 8
        head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(data), ident, place, 64, protocol, 0) + \
            socket.inet_aton(LINUX) + socket.inet_aton(POSTERN)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return self.theirs + self.ours + b"\x08\x00" + head + data

    def piece6(self, data, offset, more, ident, protocol=17, tos=0):
        header = struct.pack("!BBHI", protocol, 0, offset | more, ident)
        frame = bytearray(self.ip(header + data, 44))
        frame[14:18] = struct.pack("!I", 6 << 28 | tos << 20)
        return bytes(frame)


def abuses(piece):
    """(reason, how many of it, frames): each with an identification of its own."""
    a, b = bytes(64), b"\1" * 64
    return [
        ("ip_fragment_duplicate", 1, [piece(a, 0, 1, 1), piece(a, 0, 1, 1)]),
        ("ip_fragment_overlap", 2, [piece(a, 0, 1, 2), piece(a, 56, 1, 2), piece(a, 64, 0, 2)]),
        ("ip_fragment_overlap", 1, [piece(a, 0, 1, 3), piece(b, 0, 1, 3)]),
        ("ip_fragment_overlap", 1, [piece(a, 64, 0, 4), piece(a, 128, 1, 4)]),
        ("ip_fragment_overlap", 1, [piece(a, 64, 0, 5), piece(a, 128, 0, 5)]),
        ("ip_fragment_tiny", 1, [piece(a[:16], 0, 1, 6, protocol=6)]),
        ("ip_fragment_tiny", 1, [piece(a[:8], 8, 1, 7, protocol=6)]),
        ("ip_fragment_ecn", 1, [piece(a, 0, 1, 8), piece(a, 64, 0, 8, tos=3)]),
        # Teardrop, and a packet whose parts say that it is nobody's.
        ("ip_fragment_overlap", 1, [piece(a, 0, 1, 9), piece(a[:24], 24, 0, 9)]),
    ]


@case(seconds=120)
def every_abuse_of_fragments_has_its_name(world):
    start(world)
    frames, wrong = Pieces(world), []
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((WIRE, 0))
    time.sleep(1)
    cases = abuses(frames.piece4) + abuses(frames.piece6) + [
        ("ip_fragment_too_long", 1, [frames.piece4(bytes(8), 65520, 0, 20)]),
        ("ip4_malformed", 1, [frames.piece4(bytes(64), 65528, 0, 21)]),
        ("ip4_malformed", 1, [frames.piece4(bytes(63), 0, 1, 22)]),
        ("ip6_bad_extension", 1, [frames.piece6(bytes(64), 65528, 0, 21)]),
        ("ip6_bad_extension", 1, [frames.piece6(bytes(63), 0, 1, 22)]),
        # RFC 6946: an atomic fragment waits for nobody, whatever lies there under its number.
        ("udp_bad_checksum", 1, [frames.piece6(bytes(64), 0, 1, 23),
                                 frames.piece6(struct.pack("!HHHH", 1, 2, 16, 7) + bytes(8), 0, 0, 23)]),
        # A fragment inside a fragment.
        ("ip6_bad_extension", 1, [frames.piece6(struct.pack("!BBHI", 17, 0, 1, 5) + bytes(56), 0, 1, 24,
                                                protocol=44),
                                  frames.piece6(bytes(64), 64, 0, 24, protocol=44)]),
    ]
    for reason, count, pieces in cases:
        before = settled6(world)
        for piece in pieces:
            wire.send(piece)
        after = settled6(world)
        gained = {k: after.get(k, 0) - before.get(k, 0) for k in after}
        if gained.get(reason, 0) < count:
            wrong.append(f"{len(pieces)} frames: wanted {count} {reason}, got "
                         f"{ {k: v for k, v in gained.items() if v} }")
    assert not wrong, "\n".join(wrong)


@case(seconds=90)
def flood_of_first_fragments_is_bounded(world):
    """20,000 packets that will never be whole, from one source and from many: memory stays, and honest
    fragments are put together all the while."""
    daemon = start(world)
    serve6(world)
    frames, data = Pieces(world), Pattern().bytes(8000)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((WIRE, 0))
    with world.udp() as sock:
        sock.send(data)
        assert sock.recv(70000) == data
        sock.settimeout(0.5)

        def answered():  # the device's queue may be full of the flood
            sock.send(data)
            try:
                return sock.recv(70000) == data
            except TimeoutError:
                return False
        resident = daemon.resident_bytes()
        for i in range(20000):
            frame = bytearray(frames.piece4(bytes(1400), 0, 1, i & 0xffff))
            if i % 2:
                frame[26:30] = socket.inet_aton(f"198.51.{i >> 8 & 255}.{i & 255 or 1}")
                frame[24:26] = b"\0\0"
                frame[24:26] = struct.pack("!H", checksum(bytes(frame[14:34])))
            wire.send(frame)
            if i % 1000 == 0:
                wait_until(answered, 10, "honest fragments are put together")
    displaced = drop_counts(world).get("ip_fragment_memory", 0)
    assert displaced > 10000, displaced
    grown = daemon.resident_bytes() - resident
    note(f"{displaced} fragments gave way, {grown >> 10} KiB more resident")
    assert grown < 8 << 20, grown


@case(seconds=90)
def fragments_that_stay_alone_are_reported(world):
    """RFC 1122 3.3.2: after 30 s, to the kernel that sent them."""
    start(world)
    frames4 = Pieces.__new__(Pieces)
    run("ping", "-n", "-q", "-c", 1, "-W", 2, POSTERN)
    mac = re.search(r"lladdr (\S+)", run("ip", "neigh", "show", POSTERN)).group(1)
    frames4.theirs = bytes.fromhex(mac.replace(":", ""))
    own = re.search(r"link/ether (\S+)", run("ip", "link", "show", WIRE)).group(1)
    frames4.ours = bytes.fromhex(own.replace(":", ""))
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((WIRE, 0))
    listener = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    listener.settimeout(45)
    begin = time.monotonic()
    wire.send(frames4.piece4(bytes(range(64)), 0, 1, 77))
    while True:
        packet = listener.recv(2048)
        if packet[20] == 11:
            break
    waited = time.monotonic() - begin
    assert packet[21] == 1, "reassembly"
    assert packet[28 + 4:28 + 6] == struct.pack("!H", 77) and packet[48:112] == bytes(range(64))
    assert 29 < waited < 33, waited
    wait_until(lambda: drop_counts(world).get("ip_fragment_timeout") == 1, 5, "it is counted")
