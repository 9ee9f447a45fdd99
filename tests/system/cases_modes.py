"""The same appliance in its other modes: busy and idle, hugepages, several workers."""
import contextlib
import json
import os
import pathlib
import re
import statistics
import time

from harness import MIB, POSTERN, Skip, case, note, receive_exactly, receive_to_end, run, wait_until
from pattern import Pattern


def exercise(world):
    """Ping, UDP, TCP: enough to see that everything works."""
    text = run("ping", "-n", "-q", "-c", 10, "-i", "0.01", "-W", 2, POSTERN)
    assert "10 received" in text, text
    world.serve_echo()
    data = Pattern().bytes(1_000_000)
    with world.udp() as sock:
        for size in (0, 1, 100, 1472):
            sock.send(data[:size])
            assert sock.recv(2048) == data[:size]
    with world.connect(7) as sock:
        for i in range(0, len(data), 50_000):
            sock.sendall(data[i:i + 50_000])
            assert receive_exactly(sock, 50_000) == data[i:i + 50_000]


# ---- idle ----

@case(alone=True, needs=("ping",))
def idle_adaptive_costs_nearly_nothing(world):
    daemon = world.start()
    world.serve_echo()
    with world.connect(7) as sock:  # an established but silent connection
        sock.sendall(b"x")
        assert receive_exactly(sock, 1) == b"x"
        time.sleep(1)
        before, begin = daemon.cpu_seconds(), time.monotonic()
        time.sleep(5)
        share = (daemon.cpu_seconds() - before) / (time.monotonic() - begin)
    note(f"{share * 100:.2f} % of a core while idle")
    assert share < 0.03


@case(needs=("ping",))
def stages_say_where_a_worker_spends_its_time(world):
    world.start()
    exercise(world)

    def looked_at():
        sock.sendall(bytes(50_000))  # one turn in 64 is looked at
        receive_exactly(sock, 50_000)
        [worker] = json.loads(world.cli("stats", "--stages", "-j"))
        return worker if worker["packets_in"] > 20 else None
    with world.connect(7) as sock:
        worker = wait_until(looked_at, 20, "turns with packets have been looked at")
    steps = {row["stage"]: row for row in worker["stages"]}
    assert steps["input"]["cycles"] > 0 and steps["output"]["cycles"] > 0, worker
    assert abs(sum(row["share"] for row in steps.values()) - 1) < 1e-6, worker
    assert sum(worker["bursts"].values()) > 10, worker
    assert worker["long_turns_seconds"] >= worker["longest_turn_seconds"] >= 0, worker
    assert 0 < worker["asleep"] < 1 and 0 < worker["busy"] < 1, worker
    text = world.cli("stats", "--stages")
    assert "Cycles/packet" in text and text.startswith("worker 0: busy "), text


@case(alone=True)
def first_packet_after_idle_is_answered_quickly(world):
    world.start()
    world.serve_echo()
    pings, echoes = [], []
    for _ in range(20):
        time.sleep(0.2)
        text = run("ping", "-n", "-c", 1, "-W", 2, POSTERN)
        pings.append(float(re.search(r"time=([\d.]+) ms", text).group(1)) * 1000)
    with world.udp() as sock:
        for _ in range(20):
            time.sleep(0.2)
            begin = time.perf_counter()
            sock.send(b"awake?")
            assert sock.recv(100) == b"awake?"
            echoes.append((time.perf_counter() - begin) * 1e6)
    note(f"after 0.2 s of silence: ping {statistics.median(pings):.0f} us, "
         f"UDP echo by a sleeping application {statistics.median(echoes):.0f} us (medians)")
    assert statistics.median(pings) < 1000 and statistics.median(echoes) < 2000


@case
def application_that_sleeps_is_woken_by_data(world):
    world.start()
    world.app("sink").expect_ready()
    with world.connect(7000) as sock:
        for _ in range(20):
            time.sleep(0.1)
            sock.sendall(b"piece of data")
        sock.shutdown(1)
        assert world.apps[0].result(10)["bytes"] == 20 * 13


@case
def busy_worker(world):
    world.start(workers={"cores": [os.cpu_count() - 1], "idle": "busy"})
    exercise(world)


# ---- memory ----

POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


@contextlib.contextmanager
def hugepages(wanted):
    """Reserves hugepages on top of those that are there, and gives them back."""
    if not POOL.exists():
        raise Skip("this kernel has no 2 MiB hugepages")
    before = int((POOL / "nr_hugepages").read_text())
    try:
        (POOL / "nr_hugepages").write_text(str(before + wanted))
        if int((POOL / "nr_hugepages").read_text()) < before + wanted:
            raise Skip(f"the kernel cannot reserve {wanted} hugepages")
        yield
    finally:
        (POOL / "nr_hugepages").write_text(str(before))


def free_pages():
    return int((POOL / "free_hugepages").read_text())


@case(seconds=90, alone=True)
def with_hugepages(world):
    with hugepages(200):
        free = free_pages()
        daemon = world.start(memory={"hugepages": "on", "size": "256MiB"})
        assert free_pages() < free, "hugepages are in use"
        exercise(world)
        world.app("source", "--bytes", 64 * MIB).expect_ready()
        with world.connect(7000) as sock:
            total, digest, _ = receive_to_end(sock)
            assert total == 64 * MIB and digest == Pattern().digest(total)
        world.daemon_may_end = True
        assert daemon.stop() == 0
        wait_until(lambda: free_pages() == free, 10, "all hugepages are given back")


@case(seconds=90, alone=True)
def killed_with_hugepages_gives_them_back(world):
    with hugepages(200):
        free = free_pages()
        daemon = world.start(memory={"hugepages": "on", "size": "256MiB"})
        assert free_pages() < free
        world.daemon_may_end = True
        daemon.kill()
        wait_until(lambda: free_pages() == free, 10, "all hugepages are given back")


@case(alone=True)
def automatic_hugepages_fall_back(world):
    if POOL.exists() and free_pages() > 0:
        raise Skip("this machine has free hugepages of its own")
    daemon = world.start(memory={"hugepages": "auto", "size": "256MiB"})
    assert re.search(r"hugepage", daemon.log(), re.I), "the log says that there are none"
    exercise(world)


# ---- workers ----

def two_workers(world):
    if os.cpu_count() < 2:
        raise Skip("one core only")
    return world.start(workers={"cores": [0, 1], "idle": "adaptive"})


@case(seconds=90)
def two_workers_serve_everything(world):
    two_workers(world)
    exercise(world)


@case(seconds=120)
def two_workers_share_connections(world):
    two_workers(world)
    world.serve_echo()
    conns = [world.connect(7) for _ in range(200)]
    for i, conn in enumerate(conns):
        conn.sendall(b"%06d" % i)
    for i, conn in enumerate(conns):
        assert receive_exactly(conn, 6) == b"%06d" % i
    rows = [row for row in world.show("ss") if row["state"] == "ESTAB" and row["protocol"] == "tcp"]
    per_worker = [sum(row["worker"] == w for row in rows) for w in (0, 1)]
    note(f"connections on each worker: {per_worker}")
    assert sum(per_worker) == 200 and min(per_worker) >= 40, per_worker
    for conn in conns:
        conn.close()


@case(seconds=120)
def two_workers_open_connections(world):
    two_workers(world)
    with world.listen(9000) as server:
        app = world.app("dial_many", "--host", "192.0.2.1", "--port", 9000, "--count", 100)
        conns = [server.accept()[0] for _ in range(100)]
        for conn in conns:
            conn.sendall(receive_exactly(conn, 18))
        assert app.result() == {"good": 100, "ports": 100}
        for conn in conns:
            conn.close()


@case(seconds=120)
def two_workers_survive_killed_application(world):
    daemon = two_workers(world)
    idle = daemon.descriptors()
    app = world.app("hold", "--count", 40).expect_ready()
    conns = [world.connect(7000) for _ in range(40)]
    assert app.result() == {"accepted": 40}
    app.kill()
    for conn in conns:
        conn.settimeout(10)
        _, _, error = receive_to_end(conn)
        assert error is None or isinstance(error, ConnectionResetError)
    wait_until(lambda: daemon.descriptors() == idle, 10, "descriptors are back to the idle set")
