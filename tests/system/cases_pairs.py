"""Pairs of programs that know nothing of Postern, both ends under `postern run` on one appliance."""
import signal

from cases_programs import (FILE_SIZE, PYTHON, iperf3_report, make_certificate, make_site,
                            nginx_config, python_program, start_postgres)
from harness import POSTERN, case, note
from pattern import Pattern


def output(app, seconds=100):
    text, _ = app.process.communicate(timeout=seconds)
    assert app.process.returncode == 0, f"exit status {app.process.returncode}: {text[-500:]}"
    return text


@case(seconds=120, needs=("iperf3",), alone=True)
def iperf3_and_iperf3(world):
    world.start()
    world.program("iperf3", "-s")
    world.wait_listening(5201)
    for options in ([], ["-R"], ["-P", 8], ["-u", "-b", "20M"]):
        iperf3_report(output(world.program("iperf3", "-c", POSTERN, "-t", 1, "-J", *options)))


@case(seconds=120, needs=("nginx", "wrk", "wget"))
def nginx_wrk_and_wget(world):
    world.start()
    make_site(world)
    world.program("/usr/sbin/nginx", "-c", nginx_config(world), "-e", "stderr")
    world.wait_listening(80)
    text = output(world.program("wrk", "-t1", "-c50", "-d2", f"http://{POSTERN}/"))
    note(text.split("Requests/sec:")[1].split()[0] + " requests/s")
    assert "Socket errors" not in text and "Non-2xx" not in text, text
    app = world.program("sh", "-c", f"wget -q -O - http://{POSTERN}/large.bin | sha256sum")
    assert app.line(60).split()[0] == Pattern().digest(FILE_SIZE)


@case(seconds=170, needs=("pgbench", "psql"))
def postgres_and_pgbench(world):
    app = start_postgres(world)
    server = ("-h", POSTERN, "-U", "test")
    output(world.program("pgbench", *server, "-i", "-s", 1, "-q", "postgres"))
    text = output(world.program("pgbench", *server, "-c", 4, "-T", 2, "postgres"))
    note(text.split("tps = ")[1].split()[0] + " transactions/s")
    assert "number of failed transactions: 0 " in text, text
    large = output(world.program("psql", *server, "-Atc", "select repeat('postern', 500000)",
                                 "postgres")).strip()
    assert large == "postern" * 500000
    app.process.send_signal(signal.SIGINT)
    assert app.process.wait(20) == 0


@case(seconds=90, needs=("openssl",))
def openssl_and_openssl(world):
    world.start()
    key, certificate = make_certificate(world)
    world.program("openssl", "s_server", "-4", "-accept", "443", "-rev", "-key", key, "-cert",
                  certificate)
    world.wait_listening(443)
    app = world.program("openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile",
                        certificate, "-connect", f"{POSTERN}:443")
    app.tell("drawer\n")
    assert app.line() == "reward"


@case(seconds=90, needs=("socat", "memcached"))
def memcached_socat_and_python(world):
    """Three in a row: Python asks memcached through socat."""
    world.start()
    world.program("/usr/bin/memcached", "-l", "0.0.0.0", "-p", 11211, "-t", 2)
    world.wait_listening(11211)
    world.program("socat", "TCP-LISTEN:7000,fork", f"TCP:{POSTERN}:11211")
    world.wait_listening(7000)
    program = python_program(world, "asks", f"""
        import socket
        value = bytes(range(256)) * 3000
        with socket.create_connection(("{POSTERN}", 7000), timeout=20) as conn:
            conn.sendall(b"set key 0 0 %d\\r\\n%s\\r\\n" % (len(value), value))
            assert conn.recv(100) == b"STORED\\r\\n"
            conn.sendall(b"get key\\r\\n")
            got = b""
            while not got.endswith(b"END\\r\\n"):
                got += conn.recv(65536)
            assert got.split(b"\\r\\n", 1)[1] == value + b"\\r\\nEND\\r\\n"
        print("ready", flush=True)
        """)
    world.program(PYTHON, program).expect_ready(60)
