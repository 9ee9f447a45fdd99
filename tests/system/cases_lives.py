"""Programs that are started and stopped again and again leave nothing behind in the daemon."""
import shutil
import signal
import time

from cases_programs import PYTHON, make_certificate, make_site, nginx_config, python_program
from harness import LINUX, POSTERN, QUICK, case, note, receive_exactly, run, wait_until

LIVES = 10 if QUICK else 100


def sockets(world):
    """All but those in TIME-WAIT: which end is the first to close is nobody's to say."""
    return [s for s in world.show("ss") if s["state"] != "TIME-WAIT"]


def nothing_left(world, descriptors):
    """No socket, no application, no descriptor more than before."""
    stats = world.show("stats")
    return (sockets(world) == [] and stats["applications"] == [] and
            world.daemon.descriptors() == descriptors)


def lives(world, command, port, use, signals):
    """Starts the program, uses it, ends it by the signals in turn; then looks at what is left."""
    world.start()
    descriptors = None
    memory = []
    for life in range(LIVES):
        app = world.program(*command)
        world.wait_listening(port)
        use()
        app.process.send_signal(signals[life % len(signals)])
        app.process.wait(20)
        if descriptors is None:
            wait_until(lambda: sockets(world) == [], 20, "the first is gone")
            time.sleep(0.3)
            descriptors = world.daemon.descriptors()
        wait_until(lambda: nothing_left(world, descriptors), 20, f"nothing is left of life {life}")
        memory.append(world.daemon.resident_bytes())
    early, late = memory[len(memory) // 3], memory[-1]
    note(f"{LIVES} lives; {early >> 20} MiB resident after a third, {late >> 20} at the end")
    assert late <= early + (4 << 20), f"resident memory grew: {memory}"


@case(seconds=400, needs=("nginx", "curl"))
def of_nginx(world):
    make_site(world)
    config = nginx_config(world)

    def use():
        page = run("curl", "-sS", "--fail", f"http://{POSTERN}/")
        assert "Served by Postern" in page
    lives(world, ("/usr/sbin/nginx", "-c", config, "-e", "stderr"), 80, use,
          (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL))


@case(seconds=400, needs=("redis-server", "redis-cli"))
def of_redis(world):
    def use():
        assert run("redis-cli", "-h", POSTERN, "incr", "lives").strip().isdigit()
    lives(world, ("/usr/bin/redis-server", "--port", 6379, "--bind", "0.0.0.0", "--save", "",
                  "--protected-mode", "no", "--dir", world.scratch), 6379, use,
          (signal.SIGTERM, signal.SIGKILL))


@case(seconds=400, needs=("memcached",))
def of_memcached(world):
    def use():
        with world.connect(11211) as conn:
            conn.sendall(b"set key 0 0 5\r\nvalue\r\nget key\r\n")
            want = b"STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n"
            assert receive_exactly(conn, len(want)) == want
    lives(world, ("/usr/bin/memcached", "-l", "0.0.0.0", "-p", 11211, "-U", 11211, "-t", 4), 11211, use,
          (signal.SIGTERM, signal.SIGKILL))


@case(seconds=400, needs=("node",))
def of_node(world):
    program = python_program(world, "server", """
        require("http").createServer((request, response) => response.end("node")).listen(8080);
        """)

    def use():
        assert run("curl", "-sS", "--fail", f"http://{POSTERN}:8080/") == "node"
    lives(world, (shutil.which("node"), program), 8080, use, (signal.SIGTERM, signal.SIGINT))


@case(seconds=400, needs=("openssl",))
def of_openssl(world):
    key, certificate = make_certificate(world)

    def use():
        assert "s_server" in run("curl", "-sS", "--cacert", certificate, f"https://{POSTERN}/")
    lives(world, ("openssl", "s_server", "-4", "-accept", "443", "-www", "-key", key, "-cert",
                  certificate), 443, use, (signal.SIGTERM, signal.SIGKILL))


@case(seconds=400)
def of_a_program_with_everything_open(world):
    """It dies in the middle of a transfer, with a listener, datagram sockets, an accept queue and an
    epoll set."""
    program = python_program(world, "open", """
        import select, socket
        listener = socket.create_server(("0.0.0.0", 7000))
        datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
        for i, sock in enumerate(datagrams):
            sock.bind(("0.0.0.0", 7000 + i))
        epoll = select.epoll()
        peer, _ = listener.accept()
        epoll.register(peer, select.EPOLLIN)
        peer.sendall(b"began")
        peer.setblocking(False)
        while True:
            try:
                peer.send(bytes(100000))
            except BlockingIOError:
                epoll.poll(1)
        """)

    def use():
        conns = [world.connect(7000) for _ in range(3)]
        assert receive_exactly(conns[0], 5) == b"began"
        with world.udp(7003) as sock:
            sock.send(bytes(1000))
        for conn in conns[1:]:
            conn.close()
    lives(world, (PYTHON, program), 7000, use, (signal.SIGKILL, signal.SIGTERM))


@case(seconds=400)
def of_a_client(world):
    """A process that connects, asks and exits."""
    program = python_program(world, "asks", f"""
        import socket
        with socket.create_connection(("{LINUX}", 9000), timeout=20) as conn:
            conn.sendall(b"ask")
            assert conn.recv(10) == b"answer"
        """)
    world.start()
    listener = world.listen(9000)
    descriptors = None
    for life in range(LIVES):
        app = world.program(PYTHON, program)
        conn, _ = listener.accept()
        assert receive_exactly(conn, 3) == b"ask"
        conn.sendall(b"answer")
        assert conn.recv(1) == b""
        conn.close()
        assert app.process.wait(20) == 0
        if descriptors is None:
            time.sleep(0.5)
            descriptors = world.daemon.descriptors()
        wait_until(lambda: world.show("stats")["applications"] == [] and
                   world.daemon.descriptors() == descriptors, 20, f"nothing is left of life {life}")
