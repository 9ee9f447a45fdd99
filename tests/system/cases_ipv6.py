"""IPv6 as IPv4: neighbor discovery, ping, UDP, TCP, and what no honest host sends."""
import errno
import hashlib
import ipaddress
import json
import re
import socket
import struct
import time

from cases_malformed import drop_counts
from harness import WIRE, POSTERN, case, note, receive_exactly, receive_to_end, run, wait_until
from pattern import Pattern
from spoiled_frames import checksum

LINUX6 = "2001:db8::1"
POSTERN6 = "2001:db8::2"
ALL_NODES = "ff02::1"


def start6(world, *more, ports=None, **sections):
    """posternd with an address of each family, once its IPv6 addresses are its own."""
    run("ip", "addr", "add", f"{LINUX6}/64", "dev", WIRE, "nodad")
    port = {"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
            "addresses": [f"{POSTERN}/24", f"{POSTERN6}/64", *more], **(ports or {})}
    daemon = world.start(ports=[port], **sections)
    wait_until(lambda: set(states(world).values()) == {"preferred"}, 10, "addresses are preferred")
    return daemon


def states(world):
    return {address.split("/")[0]: state
            for address, state in world.show("link")[0]["address_states"].items()}


def link_local(world):
    return next(a for a in states(world) if a.startswith("fe80:"))


def serve6(world, port=7):
    """The echo server on both families by one socket."""
    app = world.example("echo", "--tcp", port, "--udp", port, "--address", "::")
    world.wait_listening(port)
    return app


def udp6(port=7, timeout=5):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.settimeout(timeout)
    sock.connect((POSTERN6, port))
    return sock


def tcp6(port=7, timeout=20):
    sock = socket.create_connection((POSTERN6, port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def mac_of(text):
    return bytes.fromhex(text.replace(":", ""))


# ---- neighbor discovery ----

# proves: 4443-20
@case(needs=("ping",))
def ping_of_several_sizes(world):
    start6(world)
    for size in (0, 1, 7, 8, 56, 1000, 1451, 1452):
        text = run("ping", "-6", "-n", "-q", "-M", "do", "-c", 5, "-i", "0.02", "-W", 2, "-s", size,
                   POSTERN6)
        assert " 5 received, 0% packet loss" in text, text


# proves: 4443-7, 4862-1
@case(needs=("ping",))
def ping_of_the_link_local_address_and_of_all_nodes(world):
    start6(world)
    mac = world.show("link")[0]["mac"]
    first, *rest = mac_of(mac)
    eui = bytes([first ^ 2, *rest[:2], 0xff, 0xfe, *rest[2:]])
    own = str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + eui))
    assert link_local(world) == own
    for target in (own, ALL_NODES):
        text = run("ping", "-6", "-n", "-c", 3, "-i", "0.1", "-W", 2, f"{target}%{WIRE}")
        assert own in text and "0% packet loss" in text, text


@case(needs=("ping",))
def neighbors_know_each_other(world):
    start6(world)
    run("ping", "-6", "-n", "-q", "-c", 1, "-W", 2, POSTERN6)
    mac = re.search(r"lladdr (\S+)", run("ip", "-6", "neigh", "show", POSTERN6)).group(1)
    assert mac == world.show("link")[0]["mac"]
    own = re.search(r"link/ether (\S+)", run("ip", "link", "show", WIRE)).group(1)
    row = next(r for r in world.show("neigh") if r["address"] == LINUX6)
    assert row["mac"] == own and row["state"] in ("reachable", "stale", "probe"), row


@case(needs=("ndisc6",))
def ndisc6_is_answered(world):
    start6(world)
    text = run("ndisc6", "-1", POSTERN6, WIRE)
    assert world.show("link")[0]["mac"].upper() in text.upper(), text


@case(needs=("ping",))
def new_mac_of_the_peer_is_learned(world):
    """Unreachability detection: the kernel's answers to probes bring the new address."""
    start6(world, neighbors={"reachable": "1s"})
    serve6(world)
    with tcp6() as sock:
        sock.sendall(b"before")
        assert receive_exactly(sock, 6) == b"before"
        run("ip", "link", "set", WIRE, "address", "02:00:00:00:77:01")
        run("ip", "addr", "replace", f"{LINUX6}/64", "dev", WIRE, "nodad")
        sock.sendall(b"after.")
        assert receive_exactly(sock, 6) == b"after."
    row = next(r for r in world.show("neigh") if r["address"] == LINUX6)
    assert row["mac"] == "02:00:00:00:77:01", row


# proves: 4861-30
@case(seconds=60)
def silent_neighbor_becomes_failed(world):
    """RFC 4861 7.3.3: probes go unanswered, the entry says so, and it comes back."""
    start6(world, neighbors={"reachable": "1s"})
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind((LINUX6, 9000))
    serve6(world)
    with udp6() as sock:
        sock.send(b"hello")
        assert sock.recv(10) == b"hello"
    run("ip", "addr", "del", f"{LINUX6}/64", "dev", WIRE)
    app = world.app("connect", "--host", LINUX6, "--port", 9)
    assert app.result(30)["errno"] in ("EHOSTUNREACH", "ETIMEDOUT")
    row = next(r for r in world.show("neigh") if r["address"] == LINUX6)
    assert row["state"] in ("failed", "incomplete"), row
    run("ip", "addr", "add", f"{LINUX6}/64", "dev", WIRE, "nodad")
    with udp6() as sock:
        def answered():
            sock.settimeout(0.5)
            sock.send(b"again")
            try:
                return sock.recv(10) == b"again"
            except TimeoutError:
                return False
        wait_until(answered, 15, "the neighbor is reachable again")


# proves: 4862-6, 4862-7
@case
def address_that_the_kernel_has_is_a_duplicate(world):
    """RFC 4862 5.4: an address that somebody has does not become ours."""
    run("ip", "addr", "add", f"{LINUX6}/64", "dev", WIRE, "nodad")
    run("ip", "addr", "add", f"{POSTERN6}/64", "dev", WIRE, "nodad")
    world.start(ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                        "addresses": [f"{POSTERN}/24", f"{POSTERN6}/64"]}])
    wait_until(lambda: states(world)[POSTERN6] == "duplicate", 10, "the address is a duplicate")
    wait_until(lambda: states(world)[link_local(world)] == "preferred", 10, "the other one is ours")
    assert drop_counts(world).get("nd_conflict", 0) >= 1
    assert "(duplicate)" in world.cli("link")


@case
def address_of_ours_is_a_duplicate_for_the_kernel(world):
    start6(world)
    run("ip", "addr", "add", f"{POSTERN6}/128", "dev", WIRE)
    wait_until(lambda: "dadfailed" in run("ip", "-6", "addr", "show", "dev", WIRE), 10,
               "the kernel finds the address taken")


# ---- UDP ----

@case(seconds=90)
def udp_echo_of_every_size(world):
    start6(world)
    serve6(world)
    data = Pattern().bytes(1452)
    with udp6() as sock:
        for size in range(1453):
            sock.send(data[:size])
            try:
                answer = sock.recv(2048)
            except TimeoutError:
                raise AssertionError(f"a datagram of {size} bytes did not come back") from None
            assert answer == data[:size], f"{size} bytes came back as {len(answer)}"


@case(seconds=120)
def udp_from_application_to_linux(world):
    start6(world)
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind((LINUX6, 9000))
    server.settimeout(10)
    app = world.app("udp_send", "--host", LINUX6, "--port", 9000, "--largest", 1452)
    count = len(range(0, 1453, 16))
    for _ in range(count):
        data, peer = server.recvfrom(2048)
        assert peer[0] == POSTERN6
        server.sendto(data, peer)
    assert app.result() == {"good": count}


# proves: 4443-15
@case
def closed_udp_port_is_refused(world):
    start6(world)
    with udp6(port=1, timeout=3) as sock:
        sock.send(b"anyone?")
        try:
            sock.recv(100)
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("no port unreachable")
    wait_until(lambda: "udp_no_socket" in world.cli("drops"), 5, "the drop is counted")


# ---- TCP ----

@case
def tcp_echo_of_odd_sizes(world):
    start6(world)
    serve6(world)
    data = Pattern().bytes(200_001)
    with tcp6() as sock:
        mss = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        assert mss == 1500 - 40 - 20 - 12, mss  # less timestamps
        for size in (1, 2, 3, 1427, 1428, 1429, 1440, 2856, 4097, 65535, 65536, 65537, 200_001):
            sock.sendall(data[:size])
            assert receive_exactly(sock, size) == data[:size], f"{size} bytes"
        text = world.cli("ss")
        assert f"[{POSTERN6}]:7" in text, text
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


@case(seconds=120)
def download_and_upload_with_checksum(world):
    start6(world)
    serve6(world)
    total = 32 << 20
    world.example("echo", "source", "--tcp", "7001", "--bytes", str(total), "--address", POSTERN6)
    world.wait_listening(7001)
    with tcp6(7001) as sock:
        size, digest, error = receive_to_end(sock)
        assert error is None and size == total, (size, error)
        note(f"{size} bytes, SHA-256 {digest[:16]}")
    app = world.app("connect", "--host", LINUX6, "--port", 9000, "--bytes", 8_000_000)
    with socket.create_server((LINUX6, 9000), family=socket.AF_INET6) as server:
        conn, peer = server.accept()
        size, digest, error = receive_to_end(conn)
        assert error is None and size == 8_000_000 and digest == Pattern().digest(size)
        conn.sendall(Pattern(2).bytes(1_000_000))
        conn.close()
        result = app.result()
        assert result["bytes"] == 1_000_000 and result["sha256"] == Pattern(2).digest(1_000_000), result
        assert tuple(result["name"]) == peer[:2], "getsockname is what the peer sees"


@case(needs=("curl",))
def curl_downloads_a_file(world):
    start6(world)
    site = world.dir / "site"
    site.mkdir(mode=0o755)
    data = Pattern().bytes(5_000_000)
    (site / "file.bin").write_bytes(data)
    (site / "file.bin").chmod(0o644)
    world.example("httpd", "--address", "::", "--port", "80", "--root", site)
    world.wait_listening(80)
    for host in (f"[{POSTERN6}]", POSTERN):
        out = world.dir / "got.bin"
        run("curl", "-s", "-g", "-f", "-o", out, f"http://{host}/file.bin")
        assert hashlib.sha256(out.read_bytes()).digest() == hashlib.sha256(data).digest()


@case
def one_socket_serves_both_families(world):
    start6(world)
    serve6(world)
    for sock in (tcp6(), world.connect(7)):
        with sock:
            sock.sendall(b"hello")
            assert receive_exactly(sock, 5) == b"hello"
    for sock in (udp6(), world.udp()):
        with sock:
            sock.send(b"hello")
            assert sock.recv(10) == b"hello"


@case
def v6_only_leaves_ipv4_to_another_socket(world):
    start6(world)
    both = world.app("bind", "--host", "::", "--port", 7001)
    assert both.result()["bound"] == ["::", 7001]
    assert world.app("bind", "--host", "0.0.0.0", "--port", 7001).result()["errno"] == "EADDRINUSE"
    alone = world.app("bind", "--host", "::", "--port", 7002, "--v6-only")
    assert alone.result()["bound"] == ["::", 7002]
    try:
        world.connect(7002, timeout=5).close()
        raise AssertionError("IPv4 reached a socket that is for IPv6 only")
    except ConnectionRefusedError:
        pass
    assert world.app("bind", "--host", "0.0.0.0", "--port", 7002).result()["bound"]
    tcp6(7002).close()
    world.connect(7002).close()


@case
def addresses_that_are_not_ours_cannot_be_bound(world):
    start6(world)
    assert world.app("bind", "--host", LINUX6, "--port", 7001).result()["errno"] == "EADDRNOTAVAIL"
    assert world.app("bind", "--host", POSTERN6, "--port", 7001).result()["bound"]
    assert world.app("bind", "--host", link_local(world), "--port", 7001).result()["bound"]


@case
def closed_tcp_port_refuses(world):
    start6(world)
    try:
        tcp6(1, timeout=5).close()
    except ConnectionRefusedError:
        return
    raise AssertionError("a connection to a port that nobody listens on was not refused")


@case
def connection_to_closed_linux_port_is_refused(world):
    start6(world)
    app = world.app("connect", "--host", LINUX6, "--port", 9)
    assert app.result()["errno"] == errno.errorcode[errno.ECONNREFUSED]


# ---- beyond a router ----

@case(needs=("tracepath",))
def tracepath_reaches_us_with_the_whole_mtu(world):
    start6(world)
    text = run("tracepath", "-6", "-n", POSTERN6)
    assert re.search(r"pmtu 1500", text) and "reached" in text, text


# ---- what no honest host sends ----

def capture():
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd))
    wire.bind((WIRE, 0x86dd))
    wire.setblocking(False)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    return wire


class Frames6:
    """Builds IPv6 frames from this host to posternd; a keyword spoils one field."""

    def __init__(self, world):
        self.theirs = mac_of(world.show("link")[0]["mac"])
        self.ours = mac_of(re.search(r"link/ether (\S+)", run("ip", "link", "show", WIRE)).group(1))
        self.source = socket.inet_pton(socket.AF_INET6, LINUX6)
        self.target = socket.inet_pton(socket.AF_INET6, POSTERN6)
        self.group = b"\xff\x02" + bytes(9) + b"\x01\xff" + self.target[13:]

    def ip(self, payload, protocol, *, source=None, target=None, hops=255, length=None, version=6):
        head = struct.pack("!IHBB", version << 28, len(payload) if length is None else length,
                           protocol, hops) + (source or self.source) + (target or self.target)
        return self.theirs + self.ours + b"\x86\xdd" + head + payload

    def icmp(self, kind, body, *, code=0, sum_error=0, **ip):
        source, target = ip.get("source") or self.source, ip.get("target") or self.target
        message = struct.pack("!BBH", kind, code, 0) + body
        value = checksum(source + target + struct.pack("!II", len(message), 58) + message)
        return self.ip(message[:2] + struct.pack("!H", value ^ sum_error) + message[4:], 58, **ip)

    def solicitation(self, target=None, option=None, **more):
        option = b"\x01\x01" + self.ours if option is None else option
        return self.icmp(135, bytes(4) + (target or self.target) + option, **more)

    def advertisement(self, target, flags=0x60, option=None, **more):
        option = b"\x02\x01" + self.ours if option is None else option
        return self.icmp(136, bytes([flags, 0, 0, 0]) + target + option, **more)


def hostile(f):
    """(drop reason, frame) for each kind of spoiled frame."""
    stranger = socket.inet_pton(socket.AF_INET6, "2001:db8::77")
    return [
        ("nd_bad_hop_limit", f.solicitation(hops=254)),
        ("nd_bad_hop_limit", f.advertisement(stranger, hops=64)),
        ("nd_malformed", f.solicitation(option=b"\x01\x00" + bytes(6))),
        ("nd_malformed", f.solicitation(option=b"\x01\x02" + bytes(6))),
        ("nd_malformed", f.solicitation(option=b"\x01")),
        ("nd_malformed", f.solicitation(option=b"\x01\x01\x33\x33\0\0\0\1")),
        ("nd_malformed", f.solicitation(target=b"\xff\x02" + bytes(14))),
        ("nd_malformed", f.solicitation(code=1)),
        ("nd_malformed", f.solicitation(source=bytes(16), target=f.target)),
        ("nd_malformed", f.icmp(135, bytes(12))),
        ("nd_malformed", f.icmp(136, struct.pack("!I", 0x60000000) + f.target,
                                target=b"\xff\x02" + bytes(13) + b"\x01")),
        ("nd_not_for_us", f.solicitation(target=stranger)),
        ("nd_not_for_us", f.advertisement(stranger)),
        ("ip6_not_ours", f.icmp(128, bytes(8), target=stranger)),
        ("ip6_not_ours", f.icmp(128, bytes(8), target=b"\xff\x05" + bytes(13) + b"\x09")),
        ("ip6_bad_source", f.icmp(128, bytes(8), source=b"\xff\x02" + bytes(14))),
        ("ip6_bad_source", f.icmp(128, bytes(8), source=bytes(15) + b"\x01")),
        ("ip6_malformed", f.icmp(128, bytes(8), length=2000)),
        ("ip6_malformed", f.icmp(128, bytes(8), version=5)),
        ("ip6_bad_extension", f.ip(b"\x3a\x7f" + bytes(6), 0)),
        ("icmp_bad_checksum", f.icmp(128, bytes(8), sum_error=1)),
        ("icmp_malformed", f.ip(b"\x80\x00\x00", 58)),
        ("icmp_ignored", f.icmp(2, struct.pack("!I", 1280) + f.ip(bytes(40), 6)[14:])),
    ]


@case(seconds=120)
def every_malformation_has_its_name(world):
    start6(world)
    serve6(world)
    frames, wire, wrong = Frames6(world), capture(), []
    for reason, frame in hostile(frames):
        for _ in range(3):  # what the kernel says in between is counted among the drops as well
            before = settled6(world)
            for _ in range(7):
                wire.send(frame)
            after = settled6(world)
            gained = {k: after.get(k, 0) - before.get(k, 0) for k in after}
            if gained.get(reason, 0) == 7:
                break
        else:
            wrong.append(f"{frame[14:90].hex()}: wanted 7 {reason}, got "
                         f"{ {k: v for k, v in gained.items() if v} }")
    assert not wrong, "\n".join(wrong)
    with tcp6() as sock:
        sock.sendall(b"alive")
        assert receive_exactly(sock, 5) == b"alive"


def settled6(world):
    run("ping", "-6", "-n", "-q", "-c", 1, "-W", 2, POSTERN6)
    previous = None
    while True:
        counts = drop_counts(world)
        if counts == previous:
            return counts
        previous = counts
        time.sleep(0.1)


@case
def flood_of_solicitations_leaves_the_table_bounded(world):
    """Thousands of neighbors that nobody knows: the table keeps its size, and its real neighbor."""
    start6(world, neighbors={"entries": 64})
    serve6(world)
    frames, wire = Frames6(world), capture()
    with tcp6() as sock:
        sock.sendall(b"before")
        assert receive_exactly(sock, 6) == b"before"
        for i in range(5000):
            source = frames.source[:8] + struct.pack("!Q", 0x1000 + i)
            wire.send(frames.solicitation(source=source))
        sock.sendall(b"after.")
        assert receive_exactly(sock, 6) == b"after."
    rows = json.loads(world.cli("neigh", "-j"))
    assert len(rows) <= 64, len(rows)
    assert any(r["address"] == LINUX6 for r in rows)
