"""SYN cookies (RFC 4987): a listener that is flooded serves the Linux client that answers."""
import random
import socket
import struct
import time

from cases_malformed import frames_to
from harness import LINUX, WIRE, case, note, receive_exactly, wait_until
from pattern import Pattern
from spoiled_frames import checksum

BACKLOG = 4096  # of the echo server, and the most that posternd allows


class Flood:
    """SYNs with the options of Linux from addresses where nobody answers."""

    OPTIONS = bytes.fromhex("020405b4" "0402" "080a" "00000001" "00000000" "01" "030307")

    def __init__(self, world):
        self.frames, self.rng = frames_to(world), random.Random(7)
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.wire.bind((WIRE, 0))

    def syn(self):
        source = socket.inet_aton(f"192.0.2.{self.rng.randint(100, 250)}")
        head = struct.pack("!HHIIBBHHH", self.rng.randint(1024, 65535), 7, self.rng.getrandbits(32), 0,
                           10 << 4, 2, 64240, 0, 0) + self.OPTIONS
        value = checksum(self.frames.pseudo(head, 6, {"source": source}) + head)
        return self.frames.ip(head[:16] + struct.pack("!H", value) + head[18:], 6, source=source)

    def send(self, count):
        for i in range(count):
            self.wire.send(self.syn())
            if i % 64 == 63:
                time.sleep(0.001)  # no more than the device's ring holds


def counters(world):
    """The counters of all workers together."""
    return world.show("stats")["total"]


OPTIONS = {1: "timestamps", 2: "SACK", 4: "window scale"}  # tcpi_options of linux/tcp.h


def transfer(world):
    """Bytes there and back; the options that Linux says hold for the connection."""
    data = Pattern().bytes(300_000)
    with world.connect(7) as sock:
        for at in range(0, len(data), 30_000):
            piece = data[at:at + 30_000]
            sock.sendall(piece)
            assert receive_exactly(sock, len(piece)) == piece
        options = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]
    return {name for bit, name in OPTIONS.items() if options & bit}


@case(seconds=120)
def a_flooded_listener_serves_who_answers(world):
    world.start()
    world.serve_echo()
    flood = Flood(world)
    flood.send(BACKLOG + 2000)
    wait_until(lambda: counters(world)["tcp_syncookies_sent"] > 100, 20, "cookies")
    before = counters(world)
    for _ in range(5):
        seen = transfer(world)
        assert seen == set(OPTIONS.values()), seen
        flood.send(100)
    wait_until(lambda: counters(world)["tcp_syncookies_received"] >= 5, 10, "the cookies to be counted")
    after = counters(world)
    note(f"{after['tcp_syncookies_sent']} cookies sent, {after['tcp_syncookies_received']} received")
    assert after["tcp_syncookies_received"] - before["tcp_syncookies_received"] == 5, after
    assert after["tcp_syncookies_failed"] == 0, after


@case(seconds=120)
def without_cookies_a_full_backlog_drops(world):
    world.start(tcp={"syncookies": "never"})
    world.serve_echo()
    Flood(world).send(BACKLOG + 2000)
    wait_until(lambda: any(row["reason"] == "tcp_backlog_full" for row in world.show("drops")), 20,
               "dropped SYNs")
    sock = socket.socket()
    sock.settimeout(1.5)
    try:
        sock.connect(("192.0.2.2", 7))
    except TimeoutError:
        return
    finally:
        sock.close()
    raise AssertionError(f"{LINUX} was let in")


@case
def always_means_every_connection(world):
    world.start(tcp={"syncookies": "always"})
    world.serve_echo()
    for _ in range(3):
        transfer(world)
    wait_until(lambda: counters(world)["tcp_syncookies_received"] == 3, 10, "three cookies")
    assert counters(world)["tcp_syncookies_sent"] == 3
