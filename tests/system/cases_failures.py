"""Processes that die: applications in the middle of a transfer, and posternd itself."""
import pathlib
import signal
import subprocess
import time

from harness import MIB, case, note, receive_exactly, receive_to_end, wait_until
from pattern import Pattern

ENDLESS = 1 << 40


def expect_end(sock):
    """The peer of a dead application sees a reset or a close, soon."""
    sock.settimeout(10)
    total, _, error = receive_to_end(sock)
    assert error is None or isinstance(error, ConnectionResetError), error
    return total


@case(seconds=120)
def application_killed_while_sending(world):
    """Again and again on one port: the peer sees the end, the port is free at once, and posternd
    keeps neither a descriptor nor memory of the dead."""
    daemon = world.start()

    def one_life():
        app = world.app("source", "--bytes", ENDLESS).expect_ready()
        with world.connect(7000) as sock:
            assert len(receive_exactly(sock, 4 * MIB)) == 4 * MIB
            app.kill()
            expect_end(sock)
        world.apps.remove(app)
        app.stop()
    idle = daemon.descriptors()
    for _ in range(3):
        one_life()
    wait_until(lambda: daemon.descriptors() == idle, 10, "descriptors are back to the idle set")
    before = daemon.resident_bytes()
    for _ in range(12):
        one_life()
    wait_until(lambda: daemon.descriptors() == idle, 10, "descriptors are back to the idle set")
    grown = daemon.resident_bytes() - before
    note(f"resident memory grew by {grown // 1024} KiB over 12 killed applications")
    assert grown < 8 * MIB


@case(seconds=120)
def application_killed_while_receiving(world):
    daemon = world.start()
    idle = daemon.descriptors()
    for _ in range(5):
        app = world.app("sink").expect_ready()
        with world.connect(7000) as sock:
            sock.settimeout(10)
            for _ in range(8):
                sock.sendall(bytes(MIB))
            app.kill()
            try:
                while True:
                    sock.sendall(bytes(65536))
            except (ConnectionResetError, BrokenPipeError):
                pass
        app.stop()
    wait_until(lambda: daemon.descriptors() == idle, 10, "descriptors are back to the idle set")


@case
def counters_show_no_memory_held_for_the_dead(world):
    world.start()
    app = world.app("hold").expect_ready()
    with world.connect(7000) as sock:
        sock.sendall(bytes(MIB))
        [entry] = wait_until(lambda: world.show("stats")["applications"], 10, "an application")
        assert entry["pid"] == app.pid and entry["bindings"] == 1, entry
        wait_until(lambda: world.show("stats")["applications"][0]["receive_bytes_used"] >= MIB, 10,
                   "the unread megabyte is counted")
        app.kill()
        expect_end(sock)
    wait_until(lambda: world.show("stats")["applications"] == [], 10, "nothing is left of it")
    assert "7000" not in world.cli("ss")


@case
def memory_of_a_living_application_comes_back(world):
    world.start()
    world.serve_echo()

    def used():
        return world.show("stats")["applications"][0]["receive_bytes_used"]
    before = used()
    data = Pattern().bytes(100_000)
    for _ in range(50):
        with world.connect(7) as sock:
            sock.sendall(data)
            assert receive_exactly(sock, len(data)) == data
    wait_until(lambda: used() == before, 10, "receive memory in use is as before")


@case
def hundred_connections_of_a_killed_application_end(world):
    world.start()
    app = world.app("hold", "--count", 100).expect_ready()
    socks = [world.connect(7000) for _ in range(100)]
    assert app.result() == {"accepted": 100}
    app.kill()
    for sock in socks:
        expect_end(sock)
        sock.close()
    # As on Linux, the side that closed first keeps TIME-WAIT; nothing else may be left.
    wait_until(lambda: {row["state"] for row in world.show("ss")} <= {"TIME-WAIT"}, 10,
               "no socket of the dead is left")


@case
def neighbors_of_a_killed_application_go_on(world):
    world.start()
    world.serve_echo()
    victim = world.app("source", "--bytes", ENDLESS).expect_ready()
    with world.connect(7) as echo, world.connect(7000) as bulk:
        receive_exactly(bulk, MIB)
        victim.kill()
        for i in range(2000):
            line = b"%07d\n" % i
            echo.sendall(line)
            assert receive_exactly(echo, 8) == line


@case
def posternd_killed_while_applications_wait(world):
    daemon = world.start()
    reader = world.app("wait_error").expect_ready()
    acceptor = world.app("sink", "--port", 7001).expect_ready()
    peer = world.connect(7000)
    assert reader.result() == {"accepted": True}
    world.daemon_may_end = True
    begin = time.monotonic()
    daemon.kill()
    assert reader.result(10)["errno"] == "ECONNABORTED"
    acceptor.process.wait(10)
    assert acceptor.process.returncode != 0, "accept() failed, as it should"
    assert "Errno 103" in (world.dir / f"{acceptor.name}.err").read_text()
    note(f"told within {(time.monotonic() - begin) * 1000:.0f} ms")
    peer.close()


@case
def posternd_killed_in_mid_transfer(world):
    daemon = world.start()
    app = world.app("source", "--bytes", ENDLESS).expect_ready()
    sock = world.connect(7000)
    receive_exactly(sock, MIB)
    world.daemon_may_end = True
    daemon.kill()
    assert app.result(10)["errno"] == "ECONNABORTED"


@case
def posternd_starts_again_after_a_kill(world):
    """What a killed posternd left lying about does not hinder the next one."""
    daemon = world.start()
    daemon.kill()
    world.start()
    world.serve_echo()
    with world.connect(7) as sock:
        sock.sendall(b"again")
        assert receive_exactly(sock, 5) == b"again"


@case
def clean_stop_leaves_nothing(world):
    daemon = world.start()
    app = world.app("wait_error").expect_ready()
    sock = world.connect(7000)
    assert app.result() == {"accepted": True}
    assert world.app_socket.is_socket() and world.control_socket.is_socket()
    world.daemon_may_end = True
    begin = time.monotonic()
    assert daemon.stop() == 0, "exit status"
    note(f"stopped within {(time.monotonic() - begin) * 1000:.0f} ms")
    assert app.result(10)["errno"] == "ECONNABORTED"
    expect_end(sock)
    left = [p.name for p in world.dir.iterdir() if p.is_socket()]
    left += [str(p) for p in pathlib.Path("/var/run/dpdk").glob(world.file_prefix + "*")]
    left += [str(p) for p in pathlib.Path("/dev/shm").glob(f"*{world.file_prefix}*")]
    left += [str(p) for p in pathlib.Path("/dev/hugepages").glob(world.file_prefix + "*")]
    assert not left, left


@case
def interrupt_stops_as_well(world):
    daemon = world.start()
    world.daemon_may_end = True
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(10) == 0


@case(seconds=60)
def second_posternd_with_the_same_sockets_is_refused(world):
    daemon = world.start()
    second = subprocess.run(
        ["nsenter", f"--net=/proc/{world.holder.pid}/ns/net", "--", str(world.staging.daemon),
         "--config", str(world.dir / "posternd.yaml")],
        check=False, capture_output=True, text=True, timeout=30)
    assert second.returncode not in (0, -9), second
    assert second.stderr.strip() or second.stdout.strip(), "it says why"
    assert daemon.alive()
    world.serve_echo()
    with world.connect(7) as sock:
        sock.sendall(b"first")
        assert receive_exactly(sock, 5) == b"first"


@case(seconds=120)
def hostile_client_beside_a_neighbor(world):
    """A client that scribbles over all it can write: evicted with a logged reason, as often as it
    comes; the neighbor's bytes are intact; posternd neither crashes, stalls nor leaks."""
    daemon = world.start()
    idle = daemon.descriptors()
    world.serve_echo()
    with_neighbor = daemon.descriptors()
    rounds = 0
    data = Pattern().bytes(50_000)
    with world.connect(7) as echo:
        hostile = world.example("hostile", *hostile_arguments(world))
        deadline = time.monotonic() + 60
        while hostile.process.poll() is None and time.monotonic() < deadline:
            size = 1 + rounds * 7919 % len(data)
            echo.sendall(data[:size])
            assert receive_exactly(echo, size) == data[:size], f"round {rounds}"
            rounds += 1
        assert hostile.process.returncode == 0, f"hostile: status {hostile.process.returncode}"
        note(f"{rounds} echoes beside it: {hostile.process.stdout.read().strip()}")
        assert rounds > 100
        assert daemon.alive() and "evict" in daemon.log().lower()
        echo.sendall(b"after")
        assert receive_exactly(echo, 5) == b"after"
    wait_until(lambda: daemon.descriptors() == with_neighbor, 10, "nothing of the hostile one is left")
    assert len(idle) < len(with_neighbor)


def hostile_arguments(world):
    return ["--socket", world.app_socket, "--seed", 1, "--rounds", 40]
