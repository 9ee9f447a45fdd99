"""Programs that know nothing of Postern, under `postern run`: as servers of kernel clients and as
clients of kernel servers."""
import contextlib
import hashlib
import json
import pathlib
import shutil
import signal
import socket
import textwrap
import threading
import time

from harness import (HERE, LINUX, MIB, POSTERN, QUICK, Skip, case, note, receive_exactly,
                     receive_to_end, run, spawn, wait_until)
from pattern import Pattern

FILE_SIZE = (4 if QUICK else 64) * MIB + 12345
PYTHON = "/usr/bin/python3"


def make_site(world):
    """A directory with a large file and a page, for every user. Returns its path."""
    root = world.dir / "site"
    root.mkdir(mode=0o755)
    with (root / "large.bin").open("wb") as file:
        for piece in Pattern().pieces(FILE_SIZE):
            file.write(piece)
    (root / "index.html").write_text("<p>Served by Postern.</p>\n")
    return root


def download(url, *arguments):
    """What curl of this end gets: SHA-256 and size."""
    pipe = spawn(["curl", "-sS", "--fail", "--max-time", "50", *arguments, url], stdout=-1)
    digest, total = hashlib.sha256(), 0
    while piece := pipe.stdout.read(1 << 18):
        digest.update(piece)
        total += len(piece)
    assert pipe.wait(10) == 0, f"curl {url}: exit status {pipe.returncode} after {total} bytes"
    return digest.hexdigest(), total


def expect_large(url, *arguments):
    assert download(url, *arguments) == (Pattern().digest(FILE_SIZE), FILE_SIZE), url


def python_program(world, name, text):
    """Writes a program of the test for Python to run."""
    path = world.dir / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    path.chmod(0o644)
    return path


def idle_cpu(app, seconds=1.0):
    """The share of a core that a program uses while nothing happens."""
    def ticks():
        fields = pathlib.Path(f"/proc/{app.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / 100 / seconds


# ---- Python ----

@case(needs=("curl",))
def python_http_server(world):
    world.start()
    world.program(PYTHON, "-m", "http.server", "--directory", make_site(world), 8000)
    world.wait_listening(8000)
    expect_large(f"http://{POSTERN}:8000/large.bin")
    assert run("curl", "-sS", "--fail", f"http://{POSTERN}:8000/") == "<p>Served by Postern.</p>\n"


@case(needs=("curl",))
def python_threads_and_selectors(world):
    """socketserver with threads, and a selectors loop over both kinds of sockets, in one program."""
    world.start()
    program = python_program(world, "servers", """
        import selectors, socket, socketserver, threading

        class Upper(socketserver.BaseRequestHandler):
            def handle(self):
                while data := self.request.recv(65536):
                    self.request.sendall(data.upper())

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        threaded = socketserver.ThreadingTCPServer(("0.0.0.0", 7001), Upper)
        threading.Thread(target=threaded.serve_forever, daemon=True).start()

        loop = selectors.DefaultSelector()
        listener = socket.create_server(("0.0.0.0", 7002))
        listener.setblocking(False)
        near, far = socket.socketpair()         # of the kernel's
        loop.register(listener, selectors.EVENT_READ)
        loop.register(near, selectors.EVENT_READ)

        def forward():
            while data := far.recv(65536):      # in a thread, so that the loop really waits
                far.sendall(data[::-1])
        threading.Thread(target=forward, daemon=True).start()
        peer = None
        print("ready", flush=True)
        while True:
            for key, _ in loop.select():
                if key.fileobj is listener:
                    peer, _ = listener.accept()
                    loop.register(peer, selectors.EVENT_READ)
                elif key.fileobj is near:
                    peer.sendall(near.recv(65536))
                else:
                    data = peer.recv(65536)
                    if data:
                        near.sendall(data)
                    else:
                        loop.unregister(peer)
                        peer.close()
        """)
    app = world.program(PYTHON, program).expect_ready()
    conns = [world.connect(7001) for _ in range(20)]
    for turn in range(10):
        for i, conn in enumerate(conns):
            conn.sendall(b"connection %d turn %d" % (i, turn))
        for i, conn in enumerate(conns):
            want = b"CONNECTION %d TURN %d" % (i, turn)
            assert receive_exactly(conn, len(want)) == want
    with world.connect(7002) as conn:
        for turn in range(200):
            conn.sendall(b"%08d" % turn)
            assert receive_exactly(conn, 8) == (b"%08d" % turn)[::-1]
    share = idle_cpu(app)
    note(f"idle: {share:.3f} of a core")
    assert share < 0.05, "a program that waits for both kinds of descriptors does not spin"
    for conn in conns:
        conn.close()


@case(needs=("curl",))
def python_asyncio(world):
    """An asyncio server and its own clients of a kernel server, 100 at once."""
    world.start()
    program = python_program(world, "relay", f"""
        import asyncio

        async def relay(reader, writer):
            upstream, out = await asyncio.open_connection("{LINUX}", 9000)
            out.write(await reader.readexactly(100000))
            writer.write(await upstream.readexactly(100000))
            await writer.drain()
            for one in out, writer:
                one.close()
                await one.wait_closed()

        async def main():
            server = await asyncio.start_server(relay, "0.0.0.0", 7000)
            print("ready", flush=True)
            await server.serve_forever()
        asyncio.run(main())
        """)
    app = world.program(PYTHON, program).expect_ready()
    with world.listen(9000) as upstream:
        for turn in range(4):
            conns = [world.connect(7000) for _ in range(25)]
            for i, conn in enumerate(conns):
                conn.sendall(Pattern(i).bytes(100000))
            asked = [upstream.accept()[0] for _ in conns]
            for conn in asked:
                conn.sendall(receive_exactly(conn, 100000)[::-1])
            for i, conn in enumerate(conns):
                assert receive_exactly(conn, 100000) == Pattern(i).bytes(100000)[::-1], (turn, i)
                assert conn.recv(1) == b""
            for conn in conns + asked:
                conn.close()
    assert idle_cpu(app) < 0.05


@case
def python_forks(world):
    """socketserver with a process a connection, a pool of processes that accept from one listener,
    and a program that goes on in its child."""
    world.start()
    program = python_program(world, "forks", """
        import os, select, socket, socketserver, threading

        class Answer(socketserver.BaseRequestHandler):
            def handle(self):
                while data := self.request.recv(65536):
                    self.request.sendall(b"%d %s" % (os.getpid(), data))

        class Forking(socketserver.ForkingMixIn, socketserver.TCPServer):
            allow_reuse_address = True
        forking = Forking(("0.0.0.0", 7001), Answer)

        shared = socket.create_server(("0.0.0.0", 7002))
        for _ in range(3):
            if os.fork() == 0:
                while True:
                    peer, _ = shared.accept()
                    peer.sendall(b"%d" % os.getpid())
                    peer.close()

        listener = socket.create_server(("0.0.0.0", 7003))
        epoll = select.epoll()                  # before the fork, used after it
        epoll.register(listener, select.EPOLLIN)
        if os.fork() == 0:
            while True:
                for fd, _ in epoll.poll():
                    peer, _ = listener.accept()
                    peer.sendall(b"child")
                    peer.close()
        epoll.close()
        listener.close()
        print("ready", flush=True)
        forking.serve_forever()
        """)
    app = world.program(PYTHON, program).expect_ready()
    children = set()
    conns = [world.connect(7001) for _ in range(5)]
    for turn in range(3):
        for conn in conns:
            conn.sendall(b"turn %d" % turn)
            child, text = conn.recv(100).split(b" ", 1)
            assert text == b"turn %d" % turn
            children.add(child)
    assert len(children) == 5 and str(app.pid).encode() not in children
    for conn in conns:
        conn.close()
    assert len({receive_to_end(world.connect(7002))[1] for _ in range(60)}) > 1, "one child does all"
    for _ in range(5):
        with world.connect(7003) as conn:
            assert receive_exactly(conn, 5) == b"child"


# ---- the kernel's side ----

@case(needs=("curl",))
def listener_on_both_sides(world):
    """--both: one listener serves Postern and the kernel's own loopback, whether the program waits
    in accept() or in a selector."""
    world.start()
    program = python_program(world, "both", """
        import selectors, socket, threading

        waiting = socket.create_server(("0.0.0.0", 7001))
        def accept():
            while True:
                peer, name = waiting.accept()
                peer.sendall(name[0].encode())
                peer.close()
        threading.Thread(target=accept, daemon=True).start()

        loop = selectors.DefaultSelector()
        listener = socket.create_server(("0.0.0.0", 7002))
        listener.setblocking(False)
        loop.register(listener, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            loop.select()
            try:
                peer, name = listener.accept()
            except BlockingIOError:
                continue
            peer.sendall(name[0].encode())
            peer.close()
        """)
    app = world.program(PYTHON, program, options=("--both",)).expect_ready()
    for port in (7001, 7002):
        for _ in range(5):
            assert receive_exactly(world.connect(port), 100) == LINUX.encode()
            near = socket.create_connection(("127.0.0.1", port), timeout=10)
            assert receive_exactly(near, 100) == b"127.0.0.1"
    assert idle_cpu(app) < 0.05
    app.stop()
    server = world.program(PYTHON, "-m", "http.server", "--directory", make_site(world), 8000)
    world.wait_listening(8000)
    assert server.process.poll() is None
    assert ":8000" not in run("ss", "-ltn"), "without --both the kernel has nothing to do with it"


# ---- many starts ----

@case(seconds=240, needs=("curl",))
def programs_come_and_go(world):
    """Started, used and stopped or killed, again and again: nothing is left in the daemon."""
    daemon = world.start()
    site = make_site(world)
    serve_kernel_site(site)
    for path in site.iterdir():
        path.chmod(0o644)

    def rounds(count):
        for turn in range(count):
            app = world.program(PYTHON, "-m", "http.server", "--directory", site, 8000)
            wait_until(lambda: "LISTEN" in world.cli("ss"), 20, "it listens")
            assert run("curl", "-sS", f"http://{POSTERN}:8000/") == "<p>Served by Postern.</p>\n"
            app.kill() if turn % 2 else app.stop()
            client = world.program("curl", "-sS", f"http://{LINUX}:8000/")
            assert client.line() == "<p>Served by Postern.</p>"
            client.process.wait(10)
            wait_until(lambda: "LISTEN" not in world.cli("ss"), 10, "the listener is gone")
    def descriptors_of_an_idle_daemon():
        wait_until(lambda: world.show("stats")["applications"] == [], 10, "no application is left")
        time.sleep(0.5)  # the command's own connection ends, too
        return daemon.descriptors()
    rounds(3)
    before, descriptors = daemon.resident_bytes(), descriptors_of_an_idle_daemon()
    rounds(4 if QUICK else 12)
    after = descriptors_of_an_idle_daemon()
    assert after == descriptors, set(after) ^ set(descriptors) or (len(after), len(descriptors))
    grown = daemon.resident_bytes() - before
    note(f"resident memory grew by {grown // 1024} KiB")
    assert grown < 4 * MIB


# ---- waiting ----

def serve_kernel_echo(world, port=9000):
    """An echo server of this end, a thread a connection."""
    server = world.listen(port)
    server.settimeout(None)

    def serve(conn):
        with conn, contextlib.suppress(ConnectionError):
            while data := conn.recv(65536):
                conn.sendall(data)

    def accept():
        while True:
            conn, _ = server.accept()
            threading.Thread(target=serve, args=(conn,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


@case(seconds=90)
def waits_as_the_kernel_does(world):
    """waits.py checks epoll in full, poll and select over both kinds, numbers and options."""
    world.start()
    serve_kernel_echo(world)
    program = python_program(world, "waits", (HERE / "waits.py").read_text())
    app = world.program(PYTHON, program, LINUX, 9000)
    passed = []
    while (line := app.line()) != "done":
        passed.append(line)
    assert len(passed) == 15, passed
    assert app.process.wait(10) == 0


# ---- clients ----

def serve_kernel_site(root):
    """Python's http.server over the kernel, at this end."""
    spawn([PYTHON, "-m", "http.server", "--bind", LINUX, "--directory", root, "8000"],
          stdout=-3, stderr=-3)
    wait_until(lambda: ":8000" in run("ss", "-ltn"), 10, "the kernel's server listens")


@case(needs=("curl", "wget"))
def curl_and_wget_as_clients(world):
    world.start()
    serve_kernel_site(make_site(world))
    for command in (["curl", "-sS", "--fail", f"http://{LINUX}:8000/large.bin"],
                    ["wget", "-q", "-O", "-", f"http://{LINUX}:8000/large.bin"]):
        app = world.program("sh", "-c", f"{' '.join(command)} | sha256sum")
        assert app.line(60).split()[0] == Pattern().digest(FILE_SIZE), command[0]
        assert app.process.wait(10) == 0
    assert f"{POSTERN}:" in run("ss", "-tan"), "the server has seen Postern's address"
    app = world.program("curl", "-sS", f"http://{LINUX}:9/")
    assert app.process.wait(20) == 7, "connection refused"


# ---- nginx ----

def nginx_config(world, **more):
    settings = {"master_process": "off", "worker_processes": "1"} | more
    path = world.dir / "nginx.conf"
    path.write_text("\n".join(f"{name} {value};" for name, value in settings.items()) + f"""
        daemon off;
        pid {world.scratch}/nginx.pid;
        error_log stderr notice;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            sendfile on;
            tcp_nopush on;
            client_body_temp_path {world.scratch}/body;
            proxy_temp_path {world.scratch}/proxy;
            fastcgi_temp_path {world.scratch}/fastcgi;
            uwsgi_temp_path {world.scratch}/uwsgi;
            scgi_temp_path {world.scratch}/scgi;
            server {{
                listen 80;
                root {world.dir}/site;
                location /upstream/ {{ proxy_pass http://{LINUX}:8000/; }}
            }}
        }}
        """)
    path.chmod(0o644)
    return path


@case(seconds=120, needs=("nginx", "curl"))
def nginx_serves(world):
    world.start()
    site = make_site(world)
    serve_kernel_site(site)
    app = world.program("/usr/sbin/nginx", "-c", nginx_config(world), "-e", "stderr")
    world.wait_listening(80)
    expect_large(f"http://{POSTERN}/large.bin")
    expect_large(f"http://{POSTERN}/upstream/large.bin")
    pages = [word for i in range(50) for word in ("-o", world.dir / f"page{i}", f"http://{POSTERN}/")]
    run("curl", "-sS", "--fail", "-Z", *pages)
    for i in range(50):
        assert (world.dir / f"page{i}").read_text() == "<p>Served by Postern.</p>\n"
    assert idle_cpu(app) < 0.05


@case(seconds=180, needs=("nginx", "wrk", "curl"))
def nginx_with_workers_reloads_under_load(world):
    """Two workers share the listener; a reload replaces them and no connection is lost. Each request
    has its own: nginx closes those that are kept alive, also on the kernel."""
    world.start()
    make_site(world)
    config = nginx_config(world, master_process="on", worker_processes="2")
    app = world.program("/usr/sbin/nginx", "-c", config, "-e", "stderr")
    world.wait_listening(80)
    expect_large(f"http://{POSTERN}/large.bin")

    def workers():
        return set(run("pgrep", "-P", app.pid).split())
    before = workers()
    assert len(before) == 2
    load = spawn(["wrk", "-t", "1", "-c", "16", "-d", "4s", "-H", "Connection: close",
                  f"http://{POSTERN}/"], stdout=-1, text=True)
    time.sleep(1)
    app.process.send_signal(signal.SIGHUP)
    text, _ = load.communicate(timeout=30)
    note(text.split("Requests/sec:")[1].split()[0] + " requests/s")
    assert "Socket errors" not in text and "Non-2xx" not in text, text
    wait_until(lambda: len(workers()) == 2 and not workers() & before, 20, "the workers are new ones")
    expect_large(f"http://{POSTERN}/large.bin")
    app.process.send_signal(signal.SIGQUIT)
    assert app.process.wait(10) == 0
    wait_until(lambda: "LISTEN" not in world.cli("ss"), 10, "the listener is gone with the last process")


@case(seconds=90, needs=("nginx", "wrk"), alone=True)
def wrk_against_nginx(world):
    world.start()
    make_site(world)
    world.program("/usr/sbin/nginx", "-c", nginx_config(world), "-e", "stderr")
    world.wait_listening(80)
    text = run("wrk", "-t", 1, "-c", 64, "-d", "3s", f"http://{POSTERN}/")
    note(text.split("Requests/sec:")[1].split()[0] + " requests/s")
    assert "Socket errors" not in text and "Non-2xx" not in text, text


@case(seconds=170, needs=("nginx", "curl"))
def nginx_sends_a_gigabyte(world):
    """By sendfile, from two workers; the file has holes, and marks that tell its parts apart."""
    size = 1024 * MIB
    world.start()
    root = make_site(world)
    with (root / "gigabyte.bin").open("wb") as file:
        file.truncate(size)
        for at in range(0, size, 64 * MIB):
            file.seek(at)
            file.write(Pattern(at).bytes(MIB + 1))
    digest = hashlib.sha256()
    with (root / "gigabyte.bin").open("rb") as file:
        while piece := file.read(4 * MIB):
            digest.update(piece)
    config = nginx_config(world, master_process="on", worker_processes="2")
    world.program("/usr/sbin/nginx", "-c", config, "-e", "stderr")
    world.wait_listening(80)
    url = f"http://{POSTERN}/gigabyte.bin"
    assert download(url, "--max-time", "150") == (digest.hexdigest(), size)


# ---- redis ----

@case(seconds=120, needs=("redis-server", "redis-benchmark", "redis-cli"))
def redis_serves(world):
    world.start()
    app = world.program("/usr/bin/redis-server", "--port", 6379, "--bind", "0.0.0.0", "--save", "",
                        "--protected-mode", "no", "--dir", world.scratch)
    world.wait_listening(6379)

    def cli(*words, **more):
        return run("redis-cli", "-h", POSTERN, *words, **more).strip()
    assert cli("ping") == "PONG"
    value = Pattern().bytes(300_000).hex()
    assert cli("-x", "set", "large", input=value) == "OK"
    assert cli("get", "large") == value
    count = 2000 if QUICK else 10000
    text = run("redis-benchmark", "-h", POSTERN, "-q", "-n", count, "-c", 50, "-P", 4, timeout=100)
    assert text.count("requests per second") >= 15 and "rror" not in text, text
    assert cli("bgsave") == "Background saving started"
    while "rdb_bgsave_in_progress:1" in cli("info", "persistence"):
        assert cli("get", "large") == value, "it serves while its child saves"
    assert "rdb_last_bgsave_status:ok" in cli("info", "persistence")
    assert idle_cpu(app) < 0.1, "redis itself wakes ten times a second"


# ---- Node ----

@case(seconds=90, needs=("node", "curl"))
def node_serves(world):
    """Its server listens on an IPv6 wildcard; its event loop is libuv's."""
    world.start()
    site = make_site(world)
    program = python_program(world, "server", f"""
        const http = require("http"), fs = require("fs");
        http.createServer((request, response) => {{
          if (request.url === "/upstream") {{
            http.get("http://{LINUX}:8000/large.bin", (from) => from.pipe(response));
          }} else {{
            fs.createReadStream("{site}" + request.url).pipe(response);
          }}
        }}).listen(8080, () => console.log("ready"));
        """)
    serve_kernel_site(site)
    app = world.program(shutil.which("node"), program).expect_ready()
    expect_large(f"http://{POSTERN}:8080/large.bin")
    expect_large(f"http://{POSTERN}:8080/upstream")
    assert idle_cpu(app) < 0.05


# ---- PostgreSQL ----

POSTGRES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))


def start_postgres(world):
    """A new database, served under Postern."""
    if not POSTGRES:
        raise Skip("PostgreSQL's server is not installed")
    world.start()
    data = world.scratch / "pg"
    run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", POSTGRES[-1] / "initdb",
        "-D", data, "-A", "trust", "-U", "test", "-N", "--no-locale", timeout=90, cwd="/")
    (data / "pg_hba.conf").write_text("host all all all trust\n")
    app = world.program(POSTGRES[-1] / "postgres", "-D", data, "-c", "listen_addresses=*",
                        "-c", f"unix_socket_directories={world.scratch}", "-c", "fsync=off")
    world.wait_listening(5432)
    return app


@case(seconds=170, needs=("pgbench", "psql"))
def postgres_serves(world):
    """A process a connection, each waiting for its socket and the kernel's signals at once."""
    app = start_postgres(world)
    server = ("-h", POSTERN, "-U", "test")
    wait_until(lambda: "1" in run("psql", *server, "-Atc", "select 1", "postgres", check=False), 20,
               "it answers")
    large = run("psql", *server, "-Atc", "select repeat('postern', 500000)", "postgres").strip()
    assert large == "postern" * 500000
    run("pgbench", *server, "-i", "-s", 1, "-q", "postgres")
    text = run("pgbench", *server, "-c", 4, "-T", 2, "postgres")
    note(text.split("tps = ")[1].split()[0] + " transactions/s")
    assert "number of failed transactions: 0 " in text, text
    app.process.send_signal(signal.SIGINT)  # a fast shutdown
    assert app.process.wait(20) == 0
    wait_until(lambda: "LISTEN" not in world.cli("ss"), 10, "the listeners are gone")


# ---- memcached ----

@case(seconds=90, needs=("memcached",))
def memcached_serves(world):
    """Its threads have an epoll set each and hand connections over by eventfd."""
    world.start()
    app = world.program("/usr/bin/memcached", "-l", "0.0.0.0", "-p", 11211, "-U", 11211, "-t", 4)
    world.wait_listening(11211)
    conns = [world.connect(11211) for _ in range(16)]
    for i, conn in enumerate(conns):
        value = Pattern(i).bytes(100_000 + i)
        conn.sendall(b"set key%d 0 0 %d\r\n%s\r\n" % (i, len(value), value))
        assert receive_exactly(conn, 8) == b"STORED\r\n"
    for i, conn in enumerate(conns):
        key = (i + 5) % len(conns)
        conn.sendall(b"get key%d\r\n" % key)
        want = b"VALUE key%d 0 %d\r\n%s\r\nEND\r\n" % (key, 100_000 + key,
                                                      Pattern(key).bytes(100_000 + key))
        assert receive_exactly(conn, len(want)) == want
    with world.udp(11211) as sock:
        frame = b"\x00\x07\x00\x00\x00\x01\x00\x00"
        sock.send(frame + b"version\r\n")
        assert sock.recv(2000).startswith(frame + b"VERSION ")
    assert idle_cpu(app) < 0.05
    for conn in conns:
        conn.close()


# ---- iperf3 ----

def iperf3_report(text):
    report = json.loads(text)
    assert "error" not in report, report["error"]
    received = report["end"]["sum_received"]
    note(f"{received['bits_per_second'] / 1e9:.2f} Gbit/s")
    assert received["bytes"] > MIB
    return report


@case(seconds=120, needs=("iperf3",), alone=True)
def iperf3_serves(world):
    world.start()
    world.program("iperf3", "-s")  # on an IPv6 socket for both versions
    world.wait_listening(5201)
    for options in ([], ["-R"], ["-P", 8], ["-u", "-b", "20M"]):
        iperf3_report(run("iperf3", "-c", POSTERN, "-t", 1, "-J", "--connect-timeout", 5000, *options))
        time.sleep(0.2)


@case(seconds=120, needs=("iperf3",), alone=True)
def iperf3_connects(world):
    world.start()
    spawn(["iperf3", "-s", "-B", LINUX], stdout=-3)
    wait_until(lambda: ":5201" in run("ss", "-ltn"), 10, "the kernel's iperf3 listens")
    for options in ([], ["-R"], ["-P", 8], ["-u", "-b", "20M"]):
        app = world.program("iperf3", "-c", LINUX, "-t", 1, "-J", *options)
        iperf3_report(app.process.stdout.read())
        time.sleep(0.2)


# ---- socat, nc ----

@case(needs=("socat",))
def socat_relays(world):
    """A kernel client, through socat under Postern and back out of it, to a kernel server; over
    TCP, and from a Unix socket of the kernel's."""
    world.start()
    with world.listen(9000) as server:
        world.program("socat", "TCP-LISTEN:7000", f"TCP:{LINUX}:9000")
        world.wait_listening(7000)
        client = world.connect(7000)
        relayed, _ = server.accept()
        for near, far in ((client, relayed), (relayed, client)):
            data = Pattern(near.fileno()).bytes(3_000_000)
            sender = threading.Thread(target=near.sendall, args=(data,))
            sender.start()
            assert receive_exactly(far, len(data)) == data
            sender.join()
        client.shutdown(socket.SHUT_WR)
        assert relayed.recv(1) == b""
        relayed.close()
        assert client.recv(1) == b""

        path = world.scratch / "relay.sock"
        world.program("socat", f"UNIX-LISTEN:{path},mode=777", f"TCP:{LINUX}:9000")
        wait_until(path.exists, 10, "socat listens on its Unix socket")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            relayed, _ = server.accept()
            client.sendall(b"from a Unix socket")
            assert receive_exactly(relayed, 18) == b"from a Unix socket"


@case(needs=("nc",))
def nc_talks_and_listens(world):
    world.start()
    app = world.program("nc", "-l", "-N", 7000)
    world.wait_listening(7000)
    with world.connect(7000) as conn:
        conn.sendall(b"a line\n")
        assert app.line() == "a line"
        app.tell("an answer\n")
        assert receive_exactly(conn, 10) == b"an answer\n"
    app.process.wait(10)
    with world.listen(9000) as server:
        app = world.program("nc", "-N", LINUX, 9000)
        conn, _ = server.accept()
        app.tell("hello\n")
        assert receive_exactly(conn, 6) == b"hello\n"
        conn.close()
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind((LINUX, 9001))
    echo.settimeout(10)
    app = world.program("nc", "-u", LINUX, 9001)
    app.tell("datagram\n")
    data, peer = echo.recvfrom(100)
    assert (data, peer[0]) == (b"datagram\n", POSTERN)
    echo.sendto(b"answer\n", peer)
    assert app.line() == "answer"


# ---- openssl ----

def make_certificate(world):
    key, certificate = world.dir / "key.pem", world.dir / "certificate.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=postern.test", "-addext", f"subjectAltName=IP:{POSTERN},IP:{LINUX}",
        "-keyout", key, "-out", certificate, "-days", "2")
    key.chmod(0o644)
    return key, certificate


@case(needs=("openssl", "curl"))
def openssl_serves_and_connects(world):
    world.start()
    site = make_site(world)
    key, certificate = make_certificate(world)
    world.program("sh", "-c", f"cd {site} && exec openssl s_server -4 -accept 443 -WWW -key {key} "
                              f"-cert {certificate}")
    world.wait_listening(443)
    expect_large(f"https://{POSTERN}/large.bin", "--cacert", certificate, "--http0.9")
    spawn(["openssl", "s_server", "-4", "-accept", f"{LINUX}:4433", "-rev", "-key", key, "-cert",
           certificate], stdout=-3, stderr=-3)
    wait_until(lambda: ":4433" in run("ss", "-ltn"), 10, "the kernel's s_server listens")
    app = world.program("openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile",
                        certificate, "-connect", f"{LINUX}:4433")
    app.tell("drawer\n")
    assert app.line() == "reward"
