"""A bad wire, from the daemon's seeded impairment stage: the bytes arrive intact all the same."""
import socket
import time

from harness import MIB, POSTERN, QUICK, WIRE, case, note, receive_to_end, run
from pattern import Pattern

SIZE = (20 if QUICK else 100) * MIB


def both_directions(world, size, **impair):
    world.start(impair={"seed": 20, **impair})
    app = world.app("source", "--port", 7000, "--bytes", size).expect_ready()
    with world.connect(7000, timeout=60) as sock:
        begin = time.monotonic()
        total, digest, error = receive_to_end(sock)
        down = time.monotonic() - begin
        assert error is None and total == size and digest == Pattern().digest(size), (total, error)
    assert app.result()["sent"] == size
    app = world.app("sink", "--port", 7001).expect_ready()
    with world.connect(7001, timeout=60) as sock:
        begin = time.monotonic()
        for piece in Pattern().pieces(size):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        result = app.result(200)
        up = time.monotonic() - begin
        assert result["bytes"] == size and result["sha256"] == Pattern().digest(size), result
    note(f"{size / MIB:.0f} MiB: down {down:.1f} s, up {up:.1f} s")
    assert int(impaired(world)) > 0 or "loss" not in impair


def impaired(world):
    for line in world.cli("drops").splitlines():
        words = line.split()
        if "impaired" in words:
            return next(word for word in words if word.isdigit())
    return "0"


@case(seconds=400)
def hundred_mebibytes_at_five_percent_loss(world):
    both_directions(world, SIZE, loss="5%")


@case(seconds=200)
def duplication(world):
    both_directions(world, SIZE, duplicate="10%")


@case(seconds=200)
def reordering(world):
    both_directions(world, SIZE, reorder="10%")


@case(seconds=300)
def corruption(world):
    both_directions(world, SIZE, corrupt="2%")


@case(seconds=300)
def everything_at_once(world):
    both_directions(world, SIZE // 4, loss="2%", duplicate="2%", reorder="2%", corrupt="1%")


@case(seconds=120)
def handshakes_survive_loss(world):
    world.start(impair={"seed": 3, "loss": "20%"}, tcp={"rto_initial": "100ms", "rto_min": "100ms"})
    world.serve_echo()
    # Linux gives up after three ARP requests, of which each may be lost.
    run("ip", "neigh", "replace", POSTERN, "lladdr", world.show("link")[0]["mac"], "dev", WIRE)
    for i in range(20):
        with world.connect(7, timeout=40) as sock:
            sock.sendall(b"%d" % i)
            assert sock.recv(10) == b"%d" % i


@case
def same_seed_same_losses(world):
    """The stage is deterministic: equal seeds drop the same packets of the same sequence."""
    pictures = []
    for _ in range(2):
        daemon = world.start(impair={"seed": 99, "loss": "30%", "tx": False})
        app = world.serve_echo()
        answered = []
        with world.udp(timeout=0.3) as sock:
            for i in range(40):
                sock.send(b"%d" % i)
                try:
                    answered.append(sock.recv(10))
                except TimeoutError:
                    answered.append(None)
        pictures.append(answered)
        app.stop()
        daemon.stop()
    lost = sum(answer is None for answer in pictures[0])
    note(f"{lost} of 40 lost")
    assert 3 < lost < 30
    assert abs(sum(a is None for a in pictures[1]) - lost) <= 6
    world.daemon_may_end = True
