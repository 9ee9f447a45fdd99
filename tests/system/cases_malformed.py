"""Frames that no honest host sends: each is dropped under its name, counted, and harms nobody."""
import json
import pathlib
import random
import re
import socket
import struct
import time

from harness import LINUX, POSTERN, WIRE, case, note, receive_exactly, run

COUNT = 7  # frames of each kind: a count that nothing else produces


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Frames:
    """Builds frames from this host to posternd; a keyword spoils one field."""

    def __init__(self, world):
        run("ping", "-n", "-q", "-c", 1, "-W", 2, POSTERN)
        theirs = re.search(r"lladdr (\S+)", run("ip", "neigh", "show", POSTERN)).group(1)
        ours = re.search(r"link/ether (\S+)", run("ip", "link", "show", WIRE)).group(1)
        self.theirs, self.ours = (bytes.fromhex(m.replace(":", "")) for m in (theirs, ours))
        self.source, self.target = socket.inet_aton(LINUX), socket.inet_aton(POSTERN)

    def ethernet(self, payload, kind=0x0800, target=None, source=None):
        return (target or self.theirs) + (source or self.ours) + struct.pack("!H", kind) + payload

    def ip(self, payload, protocol, *, version=4, ihl=5, length=None, sum_error=0, source=None,
           target=None, fragment=0, options=b""):
        length = 4 * ihl + len(payload) if length is None else length
        head = struct.pack("!BBHHHBBH4s4s", version << 4 | ihl, 0, length, 1, fragment, 64, protocol,
                           0, source or self.source, target or self.target) + options
        value = checksum(head) ^ sum_error
        head = head[:10] + struct.pack("!H", value) + head[12:]
        return self.ethernet(head + payload)

    def pseudo(self, payload, protocol, ip):
        source, target = ip.get("source") or self.source, ip.get("target") or self.target
        return source + target + struct.pack("!BBH", 0, protocol, len(payload))

    def udp(self, data=b"datagram", port=7, udp_length=None, sum_error=0, **ip):
        length = 8 + len(data) if udp_length is None else udp_length
        head = struct.pack("!HHHH", 4000, port, length, 0)
        value = checksum(self.pseudo(head + data, 17, ip) + head + data) or 0xffff
        head = head[:6] + struct.pack("!H", value ^ sum_error)
        return self.ip(head + data, 17, **ip)

    def tcp(self, data=b"", port=7, offset=5, flags=0x02, sum_error=0, options=b"", **ip):
        head = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, offset << 4, flags, 1000, 0, 0) + options
        value = checksum(self.pseudo(head + data, 6, ip) + head + data) ^ sum_error
        head = head[:16] + struct.pack("!H", value) + head[18:]
        return self.ip(head + data, 6, **ip)

    def icmp(self, sum_error=0, kind=8, data=b"ping"):
        head = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + data
        value = checksum(head) ^ sum_error
        return self.ip(head[:2] + struct.pack("!H", value) + head[4:], 1)

    def arp(self, **spoil):
        field = {"hardware": 1, "protocol": 0x0800, "hlen": 6, "plen": 4, "op": 1,
                 "target": self.target, **spoil}
        body = struct.pack("!HHBBH", field["hardware"], field["protocol"], field["hlen"],
                           field["plen"], field["op"])
        body += self.ours + self.source + bytes(6) + field["target"]
        return self.ethernet(body, kind=0x0806, target=b"\xff" * 6)


def spoiled(f):
    """(drop reason, frame) for each kind of spoiled frame."""
    multicast = b"\x01\x00\x5e\x00\x00\x01"
    return [
        ("eth_not_ours", b"\x02\0\0\0\0\x99" + f.udp()[6:]),
        ("eth_bad_source", f.ethernet(b"x" * 46, source=multicast)),
        ("eth_unknown_type", f.ethernet(b"x" * 46, kind=0x88b5)),
        ("arp_malformed", f.arp(hlen=8)),
        ("arp_malformed", f.arp(hardware=9)),
        ("arp_not_for_us", f.arp(target=socket.inet_aton("192.0.2.77"))),
        ("ip4_malformed", f.udp(version=5)),
        ("ip4_malformed", f.udp(ihl=4)),
        ("ip4_malformed", f.udp(length=4000)),
        ("ip4_malformed", f.udp(length=19)),
        ("ip4_malformed", f.ethernet(b"\x45\x00\x00")),
        ("ip4_bad_checksum", f.ip(b"x" * 20, 17, sum_error=0x1111)),
        ("ip4_bad_source", f.udp(source=socket.inet_aton("224.0.0.1"))),
        ("ip4_not_ours", f.udp(target=socket.inet_aton("192.0.2.77"))),
        ("ip_unknown_protocol", f.ip(b"x" * 20, 253)),
        ("icmp_bad_checksum", f.icmp(sum_error=1)),
        ("icmp_malformed", f.ip(b"\x08\x00\xf7", 1)),
        ("udp_malformed", f.udp(udp_length=7)),
        ("udp_malformed", f.udp(udp_length=1000)),
        ("udp_malformed", f.ip(b"\x0f\xa0\x00\x07", 17)),
        ("udp_bad_checksum", f.udp(sum_error=0x1111)),
        ("udp_no_socket", f.udp(port=9)),
        ("tcp_malformed", f.tcp(offset=4)),
        ("tcp_malformed", f.tcp(offset=15)),
        ("tcp_malformed", f.ip(b"x" * 19, 6)),
        ("tcp_bad_checksum", f.tcp(sum_error=0x1111)),
        ("tcp_bad_flags", f.tcp(flags=0x03)),
        ("tcp_bad_flags", f.tcp(flags=0x00)),
        ("tcp_no_socket", f.tcp(port=9)),
    ]


def drop_counts(world):
    return {row["reason"]: row["packets"] for row in world.show("drops")}


@case(seconds=120, needs=("ping",))
def every_malformation_has_its_name(world):
    # The kernel's own IPv6 chatter would be counted among the drops.
    run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    world.start()
    world.serve_echo()
    frames = Frames(world)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((WIRE, 0))
    wrong = []
    for reason, frame in spoiled(frames):
        before = settled(world)
        for _ in range(COUNT):
            wire.send(frame)
        after = settled(world)
        gained = {k: after.get(k, 0) - before.get(k, 0) for k in after}
        gained = {k: v for k, v in gained.items() if v}
        if gained.get(reason, 0) != COUNT or sum(gained.values()) != COUNT:
            wrong.append(f"{frame[14:60].hex()}: wanted {COUNT} {reason}, got {gained}")
    assert not wrong, "\n".join(wrong)
    with world.connect(7) as sock:
        sock.sendall(b"alive")
        assert receive_exactly(sock, 5) == b"alive"


def settled(world):
    """The counters once all frames sent so far are counted: a ping behind them has come back, and
    the worker has published."""
    run("ping", "-n", "-q", "-c", 1, "-W", 2, POSTERN)
    previous = None
    while True:
        counts = drop_counts(world)
        if counts == previous:
            return counts
        previous = counts
        time.sleep(0.1)


@case(seconds=120)
def random_frames_are_survived(world):
    """A seeded storm of frames that begin well and go on at random."""
    daemon = world.start()
    world.serve_echo()
    frames, rng = Frames(world), random.Random(5)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((WIRE, 0))
    seeds = [frame for _, frame in spoiled(frames)] + [frames.udp(), frames.tcp(), frames.icmp(),
                                                       frames.arp()]
    sent = 0
    for _ in range(20000):
        frame = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            frame[rng.randrange(12, len(frame))] = rng.randrange(256)
        if rng.random() < 0.3:
            frame = frame[:rng.randint(14, len(frame))]
        if rng.random() < 0.2:
            frame += rng.randbytes(rng.randint(0, 1400))
        try:
            sent += wire.send(frame[:1514]) > 0
        except OSError:
            pass
    note(f"{sent} frames sent")
    assert sent > 15000 and daemon.alive()
    with world.connect(7) as sock:
        sock.sendall(b"alive")
        assert receive_exactly(sock, 5) == b"alive"


@case
def every_drop_has_a_name_and_a_help_text(world):
    """The operator's list shows the names of the code."""
    table = pathlib.Path(__file__).resolve().parents[2] / "lib/base/drops.def"
    names = re.findall(r"^DROP\((\w+),", table.read_text(), re.M)
    world.start()
    rows = json.loads(world.cli("drops", "--all", "-j"))
    missing = sorted(set(names) - {row["reason"] for row in rows if row["help"]})
    assert len(names) > 40 and not missing, f"not in `postern drops -j`: {missing}"
