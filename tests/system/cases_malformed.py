"""Frames that no honest host sends: each is dropped under its name, counted, and harms nobody."""
import json
import pathlib
import random
import re
import socket
import time

from harness import LINUX, POSTERN, WIRE, case, note, receive_exactly, run
from spoiled_frames import Frames, spoiled

COUNT = 7  # frames of each kind: a count that nothing else produces


def frames_to(world):
    run("ping", "-n", "-q", "-c", 1, "-W", 2, POSTERN)
    theirs = re.search(r"lladdr (\S+)", run("ip", "neigh", "show", POSTERN)).group(1)
    ours = re.search(r"link/ether (\S+)", run("ip", "link", "show", WIRE)).group(1)
    return Frames(ours, theirs, LINUX, POSTERN)


def drop_counts(world):
    return {row["reason"]: row["packets"] for row in world.show("drops")}


@case(seconds=120, needs=("ping",))
def every_malformation_has_its_name(world):
    # The kernel's own IPv6 chatter would be counted among the drops.
    run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    world.start()
    world.serve_echo()
    frames = frames_to(world)
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
    frames, rng = frames_to(world), random.Random(5)
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
