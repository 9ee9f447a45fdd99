"""Java under `postern run`: the JDK's HTTP server, a selector, and threads that block in accept and
read. The JVM waits in epoll for the first two and in poll for the third, closes a socket by putting
another one in its place (dup2), and takes a socket out of its set for as long as a thread reads it."""
import hashlib
import http.client
import socket
import threading

from cases_programs import idle_cpu
from harness import HERE, POSTERN, case, receive_exactly, receive_to_end, run, wait_until
from pattern import Pattern

HTTP, SELECTOR, THREADS = 8080, 7001, 7002


def start_servers(world):
    """Compiles and starts java/Servers.java; waits for its listeners."""
    classes = world.dir / "classes"
    run("javac", "-d", classes, HERE / "java" / "Servers.java", timeout=80)
    for path in [classes, *classes.rglob("*")]:
        path.chmod(0o755)
    app = world.program("/usr/bin/java", "-Xshare:auto", "-XX:+UseSerialGC", "-cp", classes, "Servers")
    assert app.line(60) == "ready"
    return app


def exchange_echo(world, port, size):
    """Sends `size` bytes of the pattern and the end, and expects both back."""
    data = Pattern(port).bytes(size)
    with world.connect(port) as sock:
        def send():
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        total, digest, error = receive_to_end(sock)
        sender.join()
    assert (total, digest, error) == (size, hashlib.sha256(data).hexdigest(), None)


def post(conn, body, headers=None):
    conn.request("POST", "/", body, headers or {})
    reply = conn.getresponse()
    assert reply.status == 200 and reply.read() == body


@case(seconds=180, needs=("javac", "curl"))
def java_http_server(world):
    """Kept-alive connections go in and out of the selector's set with each request."""
    world.start()
    app = start_servers(world)
    conns = [http.client.HTTPConnection(POSTERN, HTTP, timeout=20) for _ in range(8)]
    for turn in range(5):
        for i, conn in enumerate(conns):
            post(conn, Pattern(i).bytes(1 + turn * 30_000))
    for conn in conns:
        conn.close()
    for i in range(30):  # a connection a request
        conn = http.client.HTTPConnection(POSTERN, HTTP, timeout=20)
        post(conn, b"request %d" % i, {"Connection": "close"})
        conn.close()
    with world.connect(HTTP) as conn:  # a request that comes in pieces
        for piece in (b"POST / HT", b"TP/1.1\r\nHost: x\r\nContent-", b"Length: 4\r\n\r\nab", b"cd"):
            conn.sendall(piece)
        assert receive_exactly(conn, 15) == b"HTTP/1.1 200 OK"
    many = [word for i in range(60) for word in ("-o", "/dev/null", f"http://{POSTERN}:{HTTP}/{i}")]
    run("curl", "-sS", "--fail", "-Z", "--parallel-max", 20, *many)
    assert idle_cpu(app) < 0.05, "selectors and blocked threads sleep"


@case(seconds=180, needs=("javac",))
def java_selector_and_threads(world):
    world.start()
    app = start_servers(world)
    for port in (SELECTOR, THREADS):
        exchange_echo(world, port, 3_000_000)
        conns = [world.connect(port) for _ in range(20)]
        for turn in range(5):
            for i, conn in enumerate(conns):
                conn.sendall(b"connection %d turn %d" % (i, turn))
            for i, conn in enumerate(conns):
                want = b"connection %d turn %d" % (i, turn)
                assert receive_exactly(conn, len(want)) == want
        for conn in conns:
            conn.close()
        threads = [threading.Thread(target=exchange_echo, args=(world, port, 100_000))
                   for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def open_ones():
        return [row for row in world.show("ss") if row["state"] not in ("LISTEN", "TIME-WAIT")]
    wait_until(lambda: not open_ones(), 10, "every connection that ended is closed")
    assert idle_cpu(app) < 0.05
