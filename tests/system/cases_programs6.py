"""Programs that know nothing of Postern, over IPv6."""
import contextlib
import socket

from cases_ipv6 import LINUX6, POSTERN6, link_local, start6
from cases_programs import (FILE_SIZE, PYTHON, expect_large, make_site, nginx_config, python_program)
from harness import LINUX, POSTERN, WIRE, case, receive_exactly, run, spawn, wait_until
from pattern import Pattern


@case(needs=("curl",))
def python_serves_and_connects(world):
    """Dual-stack and IPv6-only listeners, both families beside each other on one port, datagrams,
    and connections out."""
    start6(world)
    program = python_program(world, "servers6", f"""
        import socket, threading

        def serve(listener):
            while True:
                peer, name = listener.accept()
                peer.sendall(f"{{name[0]}} {{peer.getsockname()[0]}}".encode())
                peer.close()

        def start(family, address, port, **more):
            listener = socket.create_server((address, port), family=family, **more)
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
        start(socket.AF_INET6, "::", 7001, dualstack_ipv6=True)
        start(socket.AF_INET6, "::", 7002)                      # sets IPV6_V6ONLY
        start(socket.AF_INET, "0.0.0.0", 7003)
        start(socket.AF_INET6, "::", 7003)
        start(socket.AF_INET6, "{POSTERN6}", 7004)
        start(socket.AF_INET6, "::1", 7005)                     # the kernel's

        datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.bind(("::", 7000))
        out = socket.create_connection(("{LINUX6}", 9000), timeout=20)
        out.sendall(b"%s %d" % (out.getsockname()[0].encode(), out.getpeername()[1]))
        near = socket.create_connection(("::1", 7005), timeout=20)
        assert near.recv(100) == b"::1 ::1"
        print("ready", flush=True)
        while True:
            data, name = datagrams.recvfrom(2000)
            datagrams.sendto(data + b" " + name[0].encode(), name)
        """)
    with socket.create_server((LINUX6, 9000), family=socket.AF_INET6) as server:
        server.settimeout(30)
        app = world.program(PYTHON, program)
        conn, name = server.accept()
        assert name[0] == POSTERN6
        assert receive_exactly(conn, len(POSTERN6) + 5) == POSTERN6.encode() + b" 9000"
        app.expect_ready()

    def ask(address, port):
        with socket.create_connection((address, port), timeout=20) as conn:
            return receive_exactly(conn, 200).decode()

    def refused(address, port):
        with contextlib.suppress(ConnectionRefusedError):
            return not ask(address, port)
        return True
    seen6, seen4 = f"{LINUX6} {POSTERN6}", f"{LINUX} {POSTERN}"
    assert ask(POSTERN6, 7001) == seen6
    assert ask(POSTERN, 7001) == f"::ffff:{LINUX} ::ffff:{POSTERN}"
    assert ask(POSTERN6, 7002) == seen6 and refused(POSTERN, 7002)
    assert (ask(POSTERN6, 7003), ask(POSTERN, 7003)) == (seen6, seen4)
    assert ask(POSTERN6, 7004) == seen6 and refused(POSTERN, 7004)
    assert refused(POSTERN6, 7005)
    for family, target, name in ((socket.AF_INET6, POSTERN6, LINUX6),
                                 (socket.AF_INET, POSTERN, f"::ffff:{LINUX}")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.sendto(b"who", (target, 7000))
            assert sock.recv(200).decode() == f"who {name}"
    index = socket.if_nametoindex(WIRE)
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(20)
        sock.connect((link_local(world), 7002, 0, index))
        assert receive_exactly(sock, 200).decode().split()[1] == link_local(world)


def start_nginx6(world):
    """nginx on port 80 of both families."""
    start6(world)
    make_site(world)
    config = nginx_config(world)
    config.write_text(config.read_text().replace("listen 80;", "listen 80; listen [::]:80;"))
    world.program("/usr/sbin/nginx", "-c", config, "-e", "stderr")
    world.wait_listening(80)


@case(seconds=120, needs=("nginx", "curl"))
def nginx_listens_on_both_families(world):
    start_nginx6(world)
    expect_large(f"http://[{POSTERN6}]/large.bin")
    expect_large(f"http://{POSTERN}/large.bin")


@case(needs=("curl",))
def curl_as_a_client(world):
    start6(world)
    site = make_site(world)
    spawn([PYTHON, "-m", "http.server", "--bind", LINUX6, "--directory", site, "8000"],
          stdout=-3, stderr=-3)
    wait_until(lambda: ":8000" in run("ss", "-ltn"), 10, "the kernel's server listens")
    app = world.program("sh", "-c", f"curl -6 -sS --fail http://[{LINUX6}]:8000/large.bin | sha256sum")
    assert app.line(60).split()[0] == Pattern().digest(FILE_SIZE)
    # Both families are named and nobody answers over IPv6: curl goes on with IPv4.
    spawn([PYTHON, "-m", "http.server", "--bind", LINUX, "--directory", site, "8001"],
          stdout=-3, stderr=-3)
    wait_until(lambda: ":8001" in run("ss", "-ltn"), 10, "the kernel's server listens")
    app = world.program("curl", "-sS", "--fail", "--resolve", f"twice:8001:[{LINUX6}],{LINUX}",
                        "http://twice:8001/")
    assert app.line(30) == "<p>Served by Postern.</p>"
