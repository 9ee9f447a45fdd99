"""Large transfers, each way and both ways at once, every byte checked."""
import socket
import threading
import time

from harness import LINUX, MIB, QUICK, case, note, receive_to_end
from pattern import Pattern

SIZE = 256 * MIB if QUICK else 1024 * MIB


def rate(size, seconds):
    return f"{size / MIB:.0f} MiB in {seconds:.2f} s, {size * 8 / seconds / 1e9:.2f} Gbit/s"


@case(seconds=180, alone=True)
def download_with_checksum(world):
    world.start()
    app = world.app("source", "--bytes", SIZE).expect_ready()
    with world.connect(7000, timeout=60) as sock:
        begin = time.monotonic()
        total, digest, error = receive_to_end(sock)
        note(rate(total, time.monotonic() - begin))
        assert error is None and total == SIZE
        assert digest == Pattern().digest(SIZE)
    assert app.result()["sent"] == SIZE


@case(seconds=180, alone=True)
def upload_with_checksum(world):
    world.start()
    app = world.app("sink").expect_ready()
    with world.connect(7000, timeout=60) as sock:
        begin = time.monotonic()
        for piece in Pattern().pieces(SIZE):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        result = app.result()
        note(rate(SIZE, time.monotonic() - begin))
        assert result["bytes"] == SIZE and result["sha256"] == Pattern().digest(SIZE), result


@case(seconds=180)
def both_ways_at_once(world):
    """An echo of a long stream: both directions full, and each waits for the other's window."""
    world.start()
    world.serve_echo()
    size = SIZE // 8
    with world.connect(7, timeout=60) as sock:
        def send():
            for piece in Pattern().pieces(size):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        total, digest, error = receive_to_end(sock)
        sender.join(10)
    assert error is None and total == size and digest == Pattern().digest(size)


@case(seconds=120)
def several_flows_at_once(world):
    world.start()
    world.serve_echo()
    size, count, failures = SIZE // 64, 16, []

    def flow(seed):
        pattern = Pattern(seed)
        with world.connect(7, timeout=60) as sock:
            def send():
                for piece in pattern.pieces(size):
                    sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            total, digest, error = receive_to_end(sock)
            sender.join(10)
            if error or total != size or digest != pattern.digest(size):
                failures.append((seed, total, error))
    flows = [threading.Thread(target=flow, args=(seed,), daemon=True) for seed in range(count)]
    for thread in flows:
        thread.start()
    for thread in flows:
        thread.join(100)
        assert not thread.is_alive(), "a flow hangs"
    assert not failures, failures


@case(seconds=90)
def reader_that_sleeps_closes_the_window(world):
    """The peer does not read: the window closes, probes keep the connection, nothing is lost."""
    world.start()
    size = 16 * MIB
    app = world.app("slow", "--bytes", size).expect_ready()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    sock.settimeout(30)
    sock.connect(("192.0.2.2", 7000))
    time.sleep(3)
    total, digest, error = receive_to_end(sock)
    sock.close()
    assert error is None and total == size and digest == Pattern().digest(size)
    assert app.result() == {"queued": size}


@case(seconds=90)
def application_that_sleeps_closes_the_window(world):
    """The application does not read: the kernel must stop sending, and is not cut off."""
    world.start()
    world.app("hold").expect_ready()
    with world.connect(7000) as sock:
        sock.settimeout(1)
        sent = 0
        try:
            while sent < 256 * MIB:
                sent += sock.send(bytes(MIB))
        except TimeoutError:
            pass
        assert sent < 256 * MIB, "the window never closed"
        note(f"{sent / MIB:.1f} MiB until the window closed")
        time.sleep(2)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        assert info[0] == 1, "still established"


@case(seconds=90)
def small_mtu(world):
    """A port with another MTU: segments obey it in both directions."""
    ports = world.config()["ports"]
    ports[0]["mtu"] = 900
    world.start(ports=ports)
    world.serve_echo()
    data = Pattern().bytes(100_000)
    with world.connect(7) as sock:
        mss = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        assert mss <= 860, f"the peer's MSS is {mss}"
        sender = threading.Thread(target=sock.sendall, args=(data,), daemon=True)
        sender.start()
        got = b""
        while len(got) < len(data):
            got += sock.recv(65536)
        assert got == data


@case(seconds=60)
def no_options_at_all(world):
    """Without timestamps and window scaling, as a peer from before RFC 1323."""
    from harness import run
    run("sysctl", "-qw", "net.ipv4.tcp_timestamps=0", "net.ipv4.tcp_window_scaling=0",
        "net.ipv4.tcp_sack=0")
    world.start()
    size = 32 * MIB
    app = world.app("source", "--bytes", size).expect_ready()
    with world.connect(7000) as sock:
        total, digest, error = receive_to_end(sock)
        assert error is None and total == size and digest == Pattern().digest(size)
    assert app.result()["sent"] == size
    with world.listen(9000) as server:
        world.app("connect", "--host", LINUX, "--port", 9000, "--bytes", size)
        conn, _ = server.accept()
        total, digest, error = receive_to_end(conn)
        assert error is None and total == size and digest == Pattern().digest(size)
        conn.close()
