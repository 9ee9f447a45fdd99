"""Routes: the configuration's, and those that `postern route` adds and deletes while programs run."""
import os
import pathlib
import subprocess
import time

from cases_path_mtu import FAR, FAR6, LINUX6, NEAR, POSTERN6, Far
from harness import LINUX, POSTERN, WIRE, case, note, receive_exactly, run, wait_until


def start(world, routes=(), **sections):
    far = Far(1500)
    run("ip", "addr", "add", f"{LINUX6}/64", "dev", WIRE, "nodad")
    world.start(ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                        "addresses": [f"{POSTERN}/24", f"{POSTERN6}/64"]}], routes=list(routes), **sections)
    wait_until(lambda: set(world.show("link")[0]["address_states"].values()) == {"preferred"}, 10,
               "addresses are preferred")
    return far


def route(world, *words):
    return world.cli("route", *words)


def refused(world, *words):
    done = subprocess.run([str(world.staging.cli), "route", *words, "--socket", str(world.control_socket)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert done.returncode == 1, done
    return done.stderr


def connect_error(world, host):
    return world.app("connect", "--host", host, "--port", 9).result(30)["errno"]


@case(seconds=90)
def added_and_deleted_while_programs_run(world):
    """Without a route there is no way; with one the far host answers; and what the types say."""
    start(world)
    for far, via, net in ((FAR, LINUX, "198.51.100.0/24"), (FAR6, LINUX6, "2001:db8:f::/64")):
        assert connect_error(world, far) == "ENETUNREACH"
        route(world, "add", net, "via", via)
        assert connect_error(world, far) == "ECONNREFUSED", "the far host itself says so"
        route(world, "add", "unreachable", f"{far}")
        assert connect_error(world, far) == "EHOSTUNREACH"
        route(world, "del", "unreachable", f"{far}")
        route(world, "add", "blackhole", f"{far}", "metric", "5")
        assert connect_error(world, far) == "EINVAL"
        route(world, "del", "blackhole", f"{far}")
        assert connect_error(world, far) == "ECONNREFUSED"
        route(world, "del", net)
        assert connect_error(world, far) == "ENETUNREACH"


@case(seconds=90)
def open_connection_follows_its_route(world):
    """A connection whose route is replaced goes the new way at once, and back."""
    far = start(world, [{"to": "198.51.100.0/24", "via": LINUX}])
    world.serve_echo()
    client = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *far.command("python3", "-c", f"""
import socket, sys
sock = socket.create_connection(("{POSTERN}", 7), timeout=60)
for line in sys.stdin:
    sock.sendall(line.encode())
    print(sock.recv(100).decode(), end="", flush=True)
""")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def exchange(text):
        client.stdin.write(text + "\n")
        client.stdin.flush()
        return client.stdout.readline().strip()
    assert exchange("before") == "before"
    route(world, "add", f"{FAR}/32", "via", "192.0.2.99")  # nobody is there
    begin = time.monotonic()
    client.stdin.write("stuck\n")
    client.stdin.flush()
    time.sleep(1.5)
    assert not __import__("select").select([client.stdout], [], [], 0)[0], "it went on without a router"
    route(world, "del", f"{FAR}/32")
    assert client.stdout.readline().strip() == "stuck"
    note(f"{time.monotonic() - begin:.1f} s until the answer")
    assert exchange("after") == "after"
    client.kill()
    client.wait()


@case(seconds=60)
def a_linux_router_names_a_better_one(world):
    """RFC 1122 3.2.2.2. The better one is Linux again, by proxy ARP."""
    better = "192.0.2.7"
    start(world, [{"to": "default", "via": LINUX}], tcp={"syn_retries": 1})
    for key in ("ip_forward", f"conf/{WIRE}/send_redirects", "conf/all/send_redirects"):
        pathlib.Path("/proc/sys/net/ipv4", key).write_text("1", encoding="ascii")
    run("ip", "neigh", "add", "proxy", better, "dev", WIRE)
    run("ip", "neigh", "add", better, "lladdr", "02:00:00:00:00:77", "dev", WIRE)
    run("ip", "route", "add", "203.0.113.0/24", "via", better)
    assert LINUX in route(world, "get", "203.0.113.5")
    assert connect_error(world, "203.0.113.5") == "ETIMEDOUT"
    assert better in route(world, "get", "203.0.113.5")
    assert LINUX in route(world, "get", "203.0.113.6"), "another destination"
    route(world, "add", "198.18.0.0/15", "via", LINUX)
    assert LINUX in route(world, "get", "203.0.113.5"), "routes have changed"


@case
def shown_and_looked_up(world):
    start(world, [{"to": "default", "via": LINUX, "metric": 7},
                  {"to": "203.0.113.0/24", "type": "blackhole"},
                  {"to": "198.51.100.0/24", "via": "192.0.2.5"}, {"to": "198.51.100.0/24", "via": "192.0.2.6"}])
    rows = world.show("route")
    assert {(r["to"], r["origin"]) for r in rows} >= {
        ("192.0.2.0/24", "port"), ("0.0.0.0/0", "config"), ("203.0.113.0/24", "config"),
        ("2001:db8::/64", "port"), ("fe80::/64", "port")}, rows
    text = world.cli("route")
    assert "blackhole" in text and LINUX in text, text
    assert LINUX in route(world, "get", "8.8.8.8")
    assert "192.0.2.0/24" in route(world, "get", LINUX)
    both = route(world, "get", "198.51.100.1")
    assert "192.0.2.5" in both and "192.0.2.6" in both, both
    assert "no route to 2001:db8:ffff::1" in refused(world, "get", "2001:db8:ffff::1")
    route(world, "add", "default", "via", LINUX6)
    assert LINUX6 in route(world, "get", "2001:db8:ffff::1")


@case
def what_is_not_possible_is_said(world):
    start(world)
    for words, answer in (
            (("add", "10.0.0.0/8"), "leads nowhere"),
            (("add", "10.0.0.0/8", "via", "10.1.1.1"), "not on the network of any port"),
            (("add", "10.0.0.0/8", "via", LINUX6), "not of the same family"),
            (("add", "10.0.0.0/8", "via", POSTERN), "this machine itself"),
            (("add", "10.0.0.0/8", "port", "eth9"), "no port is named"),
            (("add", "2001:db8:1::/48", "via", "fe80::1"), "does not tell the port"),
            (("add", "10.0.0.300/8", "via", LINUX), "is not a network"),
            (("add", "10.0.0.0/8", "by", LINUX), "not known here"),
            (("add", "10.0.0.0/8", "via"), "lacks its value"),
            (("add", "blackhole", "10.0.0.0/8", "via", LINUX), "leads nowhere"),
            (("del", "10.0.0.0/8"), "no such route"),
            (("del", "192.0.2.0/24", "port", WIRE), "network of a port")):
        said = refused(world, *words)
        assert answer in said, (words, said)
    route(world, "add", "10.0.0.0/8", "via", LINUX)
    assert "already" in refused(world, "add", "10.0.0.0/8", "via", LINUX)
    route(world, "add", "10.0.0.0/8", "via", "192.0.2.7")
    assert "several routes" in refused(world, "del", "10.0.0.0/8")
    route(world, "del", "10.0.0.0/8", "via", LINUX)
    route(world, "del", "10.0.0.0/8")


@case(seconds=120)
def a_hundred_thousand_routes(world):
    """Loaded while a connection is served, looked up, and gone with the next start."""
    start(world)
    world.serve_echo()
    table = world.dir / "routes"
    with open(table, "w") as file:
        file.write("# both families\n")
        for i in range(50_000):
            file.write(f"{10 + (i >> 16)}.{i >> 8 & 255}.{i & 255}.0/24 via {LINUX}\n")
            file.write(f"2001:db8:{0x1000 + (i >> 8):x}:{i & 255:x}::/64 via {LINUX6}\n")
    with world.connect(7) as sock:
        sock.sendall(b"before")
        assert receive_exactly(sock, 6) == b"before"
        begin = time.monotonic()
        assert "100000 routes" in route(world, "load", str(table))
        seconds = time.monotonic() - begin
        sock.sendall(b"after.")
        assert receive_exactly(sock, 6) == b"after."
    note(f"100,000 routes in {seconds:.1f} s")
    assert seconds < 20
    assert LINUX in route(world, "get", "10.77.33.1")
    assert LINUX6 in route(world, "get", "2001:db8:10c3:4f::1")
    assert "10.195.79.0/24" in route(world, "get", "10.195.79.200")
    assert "no route" in refused(world, "get", "10.195.80.1")
    assert len(world.show("route")) == 100_000 + 3
    assert NEAR not in world.cli("route")
