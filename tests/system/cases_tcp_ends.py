"""How a connection ends: half-close, reset, a peer that vanishes."""
import socket
import struct
import time

from harness import LINUX, WIRE, case, receive_exactly, receive_to_end, run, wait_until
from pattern import Pattern

LINGER_RESET = struct.pack("ii", 1, 0)


@case
def linux_closes_its_half_first(world):
    world.start()
    world.serve_echo()
    data = Pattern().bytes(300_000)
    with world.connect(7) as sock:
        sock.sendall(data[:1000])
        assert receive_exactly(sock, 1000) == data[:1000]
        sock.sendall(data[1000:60_000])
        sock.shutdown(socket.SHUT_WR)
        rest = receive_exactly(sock, len(data))
        assert rest == data[1000:60_000], "the whole echo comes after our half is closed"


@case
def application_closes_its_half_first(world):
    world.start()
    app = world.app("half_close").expect_ready()
    with world.connect(7000) as sock:
        assert receive_exactly(sock, 8) == b"greeting"
        assert sock.recv(1) == b"", "the application's half is closed"
        for piece in Pattern().pieces(5_000_000):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        result = app.result()
        assert result["bytes"] == 5_000_000 and result["sha256"] == Pattern().digest(5_000_000)
        assert result["send_after"] == "EPIPE", result


@case
def linux_resets(world):
    world.start()
    app = world.app("sink").expect_ready()
    sock = world.connect(7000)
    sock.sendall(b"x" * 1000)
    time.sleep(0.2)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()
    result = app.result()
    assert result["errno"] == "ECONNRESET" and result["bytes"] == 1000, result


@case
def application_resets(world):
    world.start()
    world.app("reset").expect_ready()
    with world.connect(7000) as sock:
        sock.sendall(b"x")
        total, _, error = receive_to_end(sock)
        assert total == 0 and isinstance(error, ConnectionResetError), error


@case
def data_after_close_is_answered_with_reset(world):
    """The application closes with the connection open: later data must not be acknowledged."""
    world.start()
    app = world.app("source", "--bytes", 10).expect_ready()
    with world.connect(7000) as sock:
        assert receive_exactly(sock, 10) == Pattern().bytes(10)
        app.kill()
        deadline = time.monotonic() + 10
        try:
            while time.monotonic() < deadline:
                sock.send(b"still there?")
                time.sleep(0.05)
        except (ConnectionResetError, BrokenPipeError):
            return
    raise AssertionError("no reset for data that nobody reads")


@case(seconds=40)
def vanished_peer_ends_by_user_timeout(world):
    world.start()
    app = world.app("wait_error", "--user-timeout", 2000, "--send-on").expect_ready()
    with world.connect(7000) as sock:
        assert app.result() == {"accepted": True}
        sock.sendall(b"x")
        time.sleep(0.2)
        # The address goes: packets for it are dropped in silence, as by a host that lost power.
        run("ip", "addr", "del", f"{LINUX}/24", "dev", WIRE)
        begin = time.monotonic()
        app.tell()
        assert app.result(20)["errno"] == "ETIMEDOUT"
        assert 1.5 < time.monotonic() - begin < 8


@case(seconds=40)
def vanished_peer_ends_by_keepalive(world):
    world.start()
    app = world.app("wait_error", "--keepalive").expect_ready()
    with world.connect(7000):
        assert app.result() == {"accepted": True}
        run("ip", "addr", "del", f"{LINUX}/24", "dev", WIRE)
        begin = time.monotonic()
        assert app.result(20)["errno"] == "ETIMEDOUT"
        assert 2 < time.monotonic() - begin < 10


@case(seconds=60)
def cut_link_comes_back(world):
    """Two seconds without a link in the middle of a transfer: it goes on."""
    world.start()
    size = 64 << 20
    world.app("source", "--bytes", size).expect_ready()
    with world.connect(7000, timeout=30) as sock:
        head = receive_exactly(sock, 4 << 20)
        run("ip", "link", "set", WIRE, "down")
        time.sleep(2)
        run("ip", "link", "set", WIRE, "up")
        rest = receive_exactly(sock, size - len(head))
        assert head + rest == Pattern().bytes(size)


@case
def port_is_free_again_at_once(world):
    """A server that ends with connections open, and its successor on the same port."""
    world.start()
    for turn in range(5):
        app = world.app("source", "--bytes", 1000).expect_ready()
        with world.connect(7000) as sock:
            total, _, error = receive_to_end(sock)
            assert error is None and total == 1000, f"turn {turn}"
        app.result()
        app.process.wait(10)


@case
def closed_connections_leave_the_table(world):
    world.start()
    world.serve_echo()
    for _ in range(50):
        with world.connect(7) as sock:
            sock.sendall(b"bye")
            assert receive_exactly(sock, 3) == b"bye"
    wait_until(lambda: "ESTAB" not in world.cli("ss"), 10, "no connection is left established")
