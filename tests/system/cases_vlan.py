"""VLANs: tags of IEEE 802.1Q as interfaces of their own, with the kernel's as peers."""
import hashlib
import os
import socket
import subprocess

from cases_malformed import drop_counts
from harness import HERE, POSTERN, WIRE, case, receive_exactly, receive_to_end, run, spawn, wait_until
from pattern import Pattern

TAGS = {100: ("10.1.0", "2001:db8:100:"), 4094: ("10.2.0", "2001:db8:4094:")}


def kernel_has_vlans():
    made = run("ip", "link", "add", "link", WIRE, "name", "probe.1", "type", "vlan", "id", 1, check=False)
    names = run("ip", "-o", "link")
    run("ip", "link", "del", "probe.1", check=False)
    return "probe.1" in names and made == ""


def add_tags(tags):
    """Interfaces of the kernel, {tag: name}, whose frames are tagged on the wire."""
    names = {tag: f"{WIRE}.{tag}" for tag in tags}
    if kernel_has_vlans():
        for tag, name in names.items():
            run("ip", "link", "add", "link", WIRE, "name", name, "type", "vlan", "id", tag)
            run("ip", "link", "set", name, "up")
        return names
    for tag, name in names.items():
        run("ip", "link", "add", name, "type", "veth", "peer", "name", f"tag{tag}")
        for end in (name, f"tag{tag}"):
            run("ethtool", "-K", end, "tx", "off", "tso", "off", "gso", "off")
            run("sysctl", "-qw", f"net.ipv6.conf.{end.replace('.', '/')}.disable_ipv6={int(end != name)}")
            run("ip", "link", "set", end, "up")
    tagger = spawn(["python3", HERE / "tagger.py", WIRE, *(f"{tag}=tag{tag}" for tag in tags)],
                   stdout=subprocess.PIPE, text=True)
    assert tagger.stdout.readline() == "ready\n"
    return names


def start(world, sections=None, exceptions=None, **more):
    """`exceptions`: {tag: exception}."""
    names = add_tags(TAGS)
    for tag, (net4, net6) in TAGS.items():
        run("ip", "addr", "add", f"{net4}.1/24", "dev", names[tag])
        run("ip", "addr", "add", f"{net6}:1/64", "dev", names[tag], "nodad")
    port = {"name": WIRE, "device": f"net_af_packet0,iface={WIRE}", "addresses": [f"{POSTERN}/24"],
            "vlans": [{"id": tag, "addresses": [f"{net4}.2/24", f"{net6}:2/64"],
                       **({"exception": exceptions[tag]} if tag in (exceptions or {}) else {})}
                      for tag, (net4, net6) in TAGS.items()], **more}
    world.start(ports=[port], **(sections or {}))

    def ready():
        vlans = world.show("link")[0]["vlans"]
        return all(state == "preferred" for v in vlans for state in v["address_states"].values())
    wait_until(ready, 10, "addresses are preferred")


@case(seconds=90, needs=("ping",))
def each_tag_is_an_interface(world):
    """Ping, UDP and TCP of both families on each tag and without one; every interface has its neighbors."""
    start(world)
    app = world.example("echo", "--tcp", 7, "--udp", 7, "--address", "::")
    world.wait_listening(7)
    data = Pattern().bytes(300_000)
    for host in (POSTERN, *(f"{net4}.2" for net4, _ in TAGS.values()),
                 *(f"{net6}:2" for _, net6 in TAGS.values())):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for size in (56, 1472 if family == socket.AF_INET else 1452):
            text = run("ping", "-n", "-q", "-M", "do", "-c", 3, "-i", "0.05", "-W", 2, "-s", size, host)
            assert "0% packet loss" in text, text
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((host, 7))
            for size in (0, 100, 1400):
                sock.send(data[:size])
                assert sock.recv(2048) == data[:size]
        with socket.create_connection((host, 7), timeout=20) as sock:
            for size in (1, 1460, 100_000):
                sock.sendall(data[:size])
                assert receive_exactly(sock, size) == data[:size], f"{host}: {size} bytes"
    assert app.process.poll() is None
    names = {(row["address"], row["port"]) for row in world.show("neigh")}
    assert {("10.1.0.1", f"{WIRE}.100"), ("10.2.0.1", f"{WIRE}.4094")} <= names, names
    text = world.cli("link")
    assert "vlan 100" in text and "10.1.0.2/24" in text, text
    assert not drop_counts(world).get("vlan_unknown"), drop_counts(world)


@case(seconds=90)
def connections_from_here_leave_by_the_tag_of_their_route(world):
    start(world)
    for net4, net6 in TAGS.values():
        for host in (f"{net4}.1", f"{net6}:1"):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            app = world.app("connect", "--host", host, "--port", 9000, "--bytes", 1_000_000)
            with socket.create_server((host, 9000), family=family) as server:
                conn, peer = server.accept()
                assert peer[0] == (f"{net6}:2" if ":" in host else f"{net4}.2"), "the source is that interface's"
                size, digest, error = receive_to_end(conn)
                assert error is None and size == 1_000_000 and digest == Pattern().digest(size)
                conn.sendall(Pattern(2).bytes(200_000))
                conn.close()
            assert app.result()["sha256"] == hashlib.sha256(Pattern(2).bytes(200_000)).hexdigest()


@case
def a_tag_that_nobody_has_is_dropped_by_name(world):
    start(world)
    other = add_tags([7])[7]
    run("ip", "addr", "add", "10.7.0.1/24", "dev", other)
    before = drop_counts(world).get("vlan_unknown", 0)
    run("ping", "-n", "-q", "-c", 2, "-i", "0.1", "-W", 1, "10.7.0.2", check=False)
    wait_until(lambda: drop_counts(world).get("vlan_unknown", 0) > before, 5, "it is counted")


@case
def datagrams_in_fragments_go_tagged(world):
    """IPv6: behind net_af_packet the kernel would put IPv4's together itself."""
    start(world)
    world.example("echo", "--tcp", 7, "--udp", 7, "--address", "::")
    world.wait_listening(7)
    data = Pattern().bytes(20000)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((f"{TAGS[100][1]}:2", 7))
        sock.send(data)
        assert sock.recv(70000) == data


@case(needs=("ping",))
def a_host_of_one_tag_cannot_pass_for_one_of_another(world):
    """Behind tag 4094, in a namespace of its own, a host has the addresses of the one behind tag 100."""
    start(world)
    app = world.serve_echo()
    with socket.create_connection(("10.1.0.2", 7), timeout=10) as sock:
        sock.sendall(b"before")
        assert receive_exactly(sock, 6) == b"before"
        mac = next(row["mac"] for row in world.show("neigh") if row["address"] == "10.1.0.1")
        twin = spawn(["unshare", "--net", "--", "sleep", "infinity"])
        mine = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{twin.pid}/ns/net") != mine, 5, "a namespace for the twin")
        inside = ["nsenter", f"--net=/proc/{twin.pid}/ns/net", "--"]
        run("ip", "link", "set", f"{WIRE}.4094", "netns", twin.pid)
        run(*inside, "ip", "link", "set", f"{WIRE}.4094", "up")
        run(*inside, "ip", "addr", "add", "10.1.0.1/16", "dev", f"{WIRE}.4094")
        run(*inside, "ip", "route", "add", "10.2.0.0/24", "dev", f"{WIRE}.4094", "src", "10.1.0.1")
        run(*inside, "ping", "-n", "-q", "-c", 3, "-i", "0.1", "-W", 1, "10.2.0.2", check=False)
        sock.sendall(b"after")
        assert receive_exactly(sock, 5) == b"after"
        rows = {(row["address"], row["port"]): row["mac"] for row in world.show("neigh")}
        assert rows["10.1.0.1", f"{WIRE}.100"] == mac, rows
        twin.kill()
        twin.wait()
    assert app.process.poll() is None


@case(seconds=90)
def several_workers_share_the_flows_of_a_tag(world):
    start(world, sections={"workers": {"cores": [0, 1], "idle": "adaptive"}})
    world.serve_echo()
    data = Pattern().bytes(20_000)
    for _ in range(8):
        for net4, _ in TAGS.values():
            with socket.create_connection((f"{net4}.2", 7), timeout=20) as sock:
                sock.sendall(data)
                assert receive_exactly(sock, len(data)) == data
    counts = world.show("stats")
    assert not drop_counts(world).get("vlan_unknown"), counts
