"""Programs that know nothing of Postern, under `postern run`: as servers of kernel clients and as
clients of kernel servers."""
import hashlib
import pathlib
import socket
import textwrap
import time

from harness import (LINUX, MIB, POSTERN, QUICK, case, note, receive_exactly, receive_to_end, run,
                     spawn, wait_until)
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


@case(seconds=90, needs=("nginx", "wrk"), alone=True)
def wrk_against_nginx(world):
    world.start()
    make_site(world)
    world.program("/usr/sbin/nginx", "-c", nginx_config(world), "-e", "stderr")
    world.wait_listening(80)
    text = run("wrk", "-t", 1, "-c", 64, "-d", "3s", f"http://{POSTERN}/")
    note(text.split("Requests/sec:")[1].split()[0] + " requests/s")
    assert "Socket errors" not in text and "Non-2xx" not in text, text


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
    assert cli("info", "server").startswith("# Server")
    assert idle_cpu(app) < 0.1, "redis itself wakes ten times a second"
