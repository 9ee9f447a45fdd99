"""Programs of one appliance reach each other, and themselves, through its own addresses."""
import os
import socket

from cases_ipv6 import POSTERN6, start6
from cases_malformed import drop_counts, frames_to
from cases_programs import FILE_SIZE, PYTHON, python_program
from cases_programs6 import start_nginx6
from harness import LINUX, POSTERN, WIRE, case, receive_exactly, run, wait_until
from pattern import Pattern

TWO_WORKERS = {"cores": sorted(os.sched_getaffinity(0))[-2:], "idle": "adaptive"}


def counter(world, name):
    return sum(worker[name] for worker in world.show("stats")["workers"])


@case(seconds=120, needs=("nginx", "curl"))
def a_client_and_a_server_of_one_appliance(world):
    """Neither byte nor address of it is seen on the wire."""
    start_nginx6(world)
    before = counter(world, "tx_bytes")
    for target in (POSTERN, f"[{POSTERN6}]"):
        app = world.program("sh", "-c",
                            f"curl -sS --fail http://{target}/large.bin | sha256sum")
        assert app.line(60).split()[0] == Pattern().digest(FILE_SIZE)
    assert counter(world, "local_packets") * 1500 > 2 * FILE_SIZE
    assert counter(world, "tx_bytes") - before < 10_000


@case(seconds=120, needs=("redis-server", "redis-benchmark"))
def pairs_over_two_workers(world):
    """Both ends of a connection meet on one worker, whichever the applications speak through."""
    world.start(workers=TWO_WORKERS)
    world.program("/usr/bin/redis-server", "--port", 6379, "--bind", "0.0.0.0", "--save", "",
                  "--protected-mode", "no", "--dir", world.scratch)
    world.wait_listening(6379)
    app = world.program("redis-benchmark", "-h", POSTERN, "-q", "-n", 5000, "-c", 20, "-t",
                        "set,get")
    rest, _ = app.process.communicate(timeout=90)
    assert app.process.returncode == 0 and rest.count("requests per second") == 2, rest


@case
def a_program_and_itself(world):
    """Streams, datagrams and refusals between the threads of one program, by both families and two
    workers; what a peer's name is."""
    start6(world, workers=TWO_WORKERS)
    program = python_program(world, "itself", f"""
        import socket, threading

        def check(family, address):
            listener = socket.create_server((address, 7001), family=family)
            def serve():
                for _ in range(20):
                    peer, name = listener.accept()
                    with peer:
                        while data := peer.recv(65536):
                            peer.sendall(data)
            thread = threading.Thread(target=serve)
            thread.start()
            for i in range(20):
                with socket.create_connection((address, 7001), timeout=20) as conn:
                    assert conn.getsockname()[0] == conn.getpeername()[0] == address
                    sent = bytes([i]) * 30000
                    conn.sendall(sent)
                    conn.shutdown(socket.SHUT_WR)
                    got = b""
                    while data := conn.recv(65536):
                        got += data
                    assert got == sent
            thread.join()
            listener.close()
            try:
                socket.create_connection((address, 7002), timeout=20)
                raise SystemExit("nobody listens there")
            except ConnectionRefusedError:
                pass
            one = socket.socket(family, socket.SOCK_DGRAM)
            two = socket.socket(family, socket.SOCK_DGRAM)
            one.bind((address, 0))
            two.bind(("", 0))
            one.settimeout(20)
            two.settimeout(20)
            for size in (0, 1, 1400, 20000, 65507):
                one.sendto(bytes(size), (address, two.getsockname()[1]))
                data, name = two.recvfrom(70000)
                assert (len(data), name[:2]) == (size, one.getsockname()[:2])
                two.sendto(data, name)
                assert len(one.recv(70000)) == size

        check(socket.AF_INET, "{POSTERN}")
        check(socket.AF_INET6, "{POSTERN6}")
        print("ready", flush=True)
        """)
    world.program(PYTHON, program).expect_ready(60)


@case(needs=("ping",))
def nobody_outside_is_one_of_us(world):
    """A packet from the wire with our own address as its source is dropped by name, and nothing is
    sent to anybody for it."""
    world.start()
    world.serve_echo(7)
    frames = frames_to(world)
    source = socket.inet_aton(POSTERN)
    before = counter(world, "local_packets")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((WIRE, 0))
        wire.send(frames.udp(source=source))
        wire.send(frames.tcp(flags=2, source=source))
    wait_until(lambda: drop_counts(world).get("ip_source_ours") == 2, 10, "both are dropped by name")
    assert counter(world, "local_packets") == before


@case
def networks_left_to_the_kernel(world):
    """`programs:` of the configuration: the longest network decides, and a wildcard listener serves
    both sides."""
    world.start(programs={"kernel": ["198.51.100.0/24", f"{LINUX}/32"], "postern": ["198.51.100.7/32"],
                          "both": True})
    run("ip", "addr", "add", "198.51.100.1/24", "dev", "lo")
    program = python_program(world, "sides", f"""
        import socket

        listener = socket.create_server(("0.0.0.0", 7001))
        print("ready", flush=True)
        for _ in range(2):
            peer, name = listener.accept()
            peer.sendall(peer.getsockname()[0].encode())
            peer.close()
        near = socket.create_connection(("198.51.100.1", 7002), timeout=20)
        print(near.getsockname()[0], flush=True)
        far = socket.socket()
        far.settimeout(20)
        try:
            far.connect(("198.51.100.7", 7002))
            print("connected", flush=True)
        except OSError as error:
            print(error.errno == errno_of_no_route, flush=True)
        """.replace("errno_of_no_route", "101"))
    with socket.create_server(("198.51.100.1", 7002)):
        app = world.program(PYTHON, program).expect_ready()
        for address in (POSTERN, "198.51.100.1"):
            with socket.create_connection((address, 7001), timeout=20) as conn:
                assert receive_exactly(conn, len(address)).decode() == address
        assert app.line() == "198.51.100.1"
        assert app.line() == "True", "Postern has no route there, and it was Postern that was asked"
