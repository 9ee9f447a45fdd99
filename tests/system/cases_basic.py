"""The first things a host does with a neighbor: resolve it, ping it, exchange datagrams, connect."""
import errno
import re
import socket

from harness import LINUX, POSTERN, WIRE, case, note, receive_exactly, receive_to_end, run, wait_until
from pattern import Pattern


# proves: 4443-20
@case(needs=("ping",))
def ping_of_several_sizes(world):
    world.start()
    for size in (0, 1, 7, 8, 56, 1000, 1471, 1472):
        text = run("ping", "-n", "-q", "-M", "do", "-c", 5, "-i", "0.02", "-W", 2, "-s", size, POSTERN)
        assert " 5 received, 0% packet loss" in text, text


@case(needs=("ping",))
def quick_pings_lose_nothing(world):
    world.start()
    text = run("ping", "-n", "-q", "-c", 2000, "-i", "0.002", "-W", 2, POSTERN)
    assert "2000 received, 0% packet loss" in text, text


@case(needs=("ping",))
def ping_flood_is_limited_and_counted(world):
    """Answers to a flood are limited; what was not answered is a named drop, to the packet."""
    world.start()
    text = run("ping", "-n", "-q", "-f", "-c", 20000, "-W", 2, POSTERN)
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", text).groups())

    def limited():
        return next((row["packets"] for row in world.show("drops")
                     if row["reason"] == "icmp_rate_limited"), 0)
    wait_until(lambda: limited() == sent - received, 5, f"{sent - received} drops are counted")
    note(f"{received} of {sent} answered")
    assert received > 1000


@case(needs=("ping",))
def neighbors_know_each_other(world):
    world.start()
    run("ping", "-n", "-q", "-c", 1, "-W", 2, POSTERN)
    mac = re.search(r"lladdr (\S+)", run("ip", "neigh", "show", POSTERN)).group(1)
    assert mac in world.cli("link"), "`postern link` shows the address that the kernel learned"
    own = re.search(r"link/ether (\S+)", run("ip", "link", "show", WIRE)).group(1)
    neighbors = world.cli("neigh")
    assert LINUX in neighbors and own in neighbors, neighbors
    assert own in world.cli("neigh", "-j")


@case(needs=("arping",))
def arp_alone_is_answered(world):
    world.start()
    text = run("arping", "-c", 3, "-I", WIRE, POSTERN)
    assert re.search(r"Received 3 response|3 packets received", text), text


@case
def udp_echo_of_every_size(world):
    world.start()
    world.serve_echo()
    data = Pattern().bytes(1472)
    with world.udp() as sock:
        for size in range(1473):
            sock.send(data[:size])
            try:
                answer = sock.recv(2048)
            except TimeoutError:
                raise AssertionError(f"a datagram of {size} bytes did not come back") from None
            assert answer == data[:size], f"{size} bytes came back as {len(answer)}"


@case
def udp_echo_to_many_peers_at_once(world):
    world.start()
    world.serve_echo()
    socks = [world.udp() for _ in range(200)]
    for i, sock in enumerate(socks):
        sock.send(b"peer %d" % i)
    for i, sock in enumerate(socks):
        assert sock.recv(100) == b"peer %d" % i
        sock.close()


@case
def udp_from_application_to_linux(world):
    world.start()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((LINUX, 9000))
    server.settimeout(10)
    app = world.app("udp_send", "--host", LINUX, "--port", 9000)
    count = len(range(0, 1473, 16))
    for _ in range(count):
        data, peer = server.recvfrom(2048)
        server.sendto(data, peer)
    assert app.result() == {"good": count}


@case
def tcp_echo_of_odd_sizes(world):
    world.start()
    world.serve_echo()
    data = Pattern().bytes(200_001)
    with world.connect(7) as sock:
        for size in (1, 2, 3, 1447, 1448, 1449, 1460, 2896, 4097, 65535, 65536, 65537, 200_001):
            sock.sendall(data[:size])
            assert receive_exactly(sock, size) == data[:size], f"{size} bytes"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


@case
def tcp_round_trips_in_order(world):
    world.start()
    world.serve_echo()
    with world.connect(7) as sock:
        for i in range(5000):
            line = b"%07d\n" % i
            sock.sendall(line)
            assert receive_exactly(sock, 8) == line


@case
def closed_tcp_port_refuses(world):
    world.start()
    try:
        world.connect(1, timeout=5).close()
    except ConnectionRefusedError:
        return
    raise AssertionError("a connection to a port that nobody listens on was not refused")


@case
def closed_udp_port_is_counted(world):
    world.start()
    with world.udp(port=1, timeout=1) as sock:
        sock.send(b"anyone?")
        try:
            sock.recv(100)
        except (TimeoutError, ConnectionRefusedError):
            pass
    wait_until(lambda: "udp_no_socket" in world.cli("drops"), 5, "the drop is counted")


@case
def connections_opened_by_the_application(world):
    world.start()
    with world.listen(9000) as server:
        app = world.app("connect", "--host", LINUX, "--port", 9000, "--bytes", 3_000_000)
        conn, peer = server.accept()
        total, digest, error = receive_to_end(conn)
        assert error is None and total == 3_000_000 and digest == Pattern().digest(total)
        conn.sendall(Pattern(2).bytes(1_000_000))
        conn.close()
        result = app.result()
        assert result["bytes"] == 1_000_000 and result["sha256"] == Pattern(2).digest(1_000_000), result
        assert tuple(result["name"]) == peer, "getsockname is what the peer sees"


@case
def connection_to_closed_linux_port_is_refused(world):
    world.start()
    app = world.app("connect", "--host", LINUX, "--port", 9)
    assert app.result()["errno"] == errno.errorcode[errno.ECONNREFUSED]


@case(seconds=40)
def connection_to_silent_address_times_out(world):
    world.start(tcp={"rto_initial": "100ms", "rto_min": "100ms", "syn_retries": 3})
    app = world.app("connect", "--host", "192.0.2.77", "--port", 9)
    # No such neighbor: EHOSTUNREACH as soon as address resolution gives up, as Linux does.
    assert app.result(30)["errno"] in ("EHOSTUNREACH", "ETIMEDOUT")


@case(seconds=120)
def thousand_concurrent_connections(world):
    world.start()
    world.serve_echo()
    conns = [world.connect(7) for _ in range(1000)]
    for turn in range(5):
        for i, conn in enumerate(conns):
            conn.sendall(b"%d of connection %d\n" % (turn, i))
        for i, conn in enumerate(conns):
            want = b"%d of connection %d\n" % (turn, i)
            assert receive_exactly(conn, len(want)) == want, f"connection {i}"
    listing = world.cli("ss")
    assert len(re.findall(r"ESTAB", listing)) == 1000, f"{listing.count('ESTAB')} in `postern ss`"
    for conn in conns:
        conn.close()
    wait_until(lambda: "ESTAB" not in world.cli("ss"), 10, "all connections are gone")


@case(seconds=120)
def many_connections_from_the_application(world):
    world.start()
    with world.listen(9000) as server:
        app = world.app("dial_many", "--host", LINUX, "--port", 9000, "--count", 500)
        conns = [server.accept()[0] for _ in range(500)]
        for conn in conns:
            line = receive_exactly(conn, 18)
            conn.sendall(line)
        assert app.result() == {"good": 500, "ports": 500}
        for conn in conns:
            assert conn.recv(1) == b""
            conn.close()


@case(seconds=120)
def connections_come_and_go(world):
    """Open, use, close, again and again: nothing may pile up."""
    daemon = world.start()
    world.serve_echo()

    def rounds(count):
        for _ in range(count):
            with world.connect(7) as sock:
                sock.sendall(b"hello")
                assert receive_exactly(sock, 5) == b"hello"
    rounds(500)
    before = daemon.resident_bytes()
    rounds(3000)
    grown = daemon.resident_bytes() - before
    note(f"resident memory grew by {grown // 1024} KiB over 3000 connections")
    assert grown < 4 << 20
