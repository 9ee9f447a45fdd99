"""Path MTU discovery, RFC 1191 and 8201: a host behind a router whose link is narrower than ours."""
import ctypes
import hashlib
import json
import os
import select
import socket
import subprocess
import threading
import time

from harness import LINUX, POSTERN, WIRE, case, note, run, spawn, wait_until
from pattern import Pattern

LINUX6, POSTERN6 = "2001:db8::1", "2001:db8::2"
NEAR, FAR = "198.51.100.1", "198.51.100.2"
NEAR6, FAR6 = "2001:db8:f::1", "2001:db8:f::2"
NARROW = 1300


class Far:
    """A namespace behind this host, which routes for it over a link of `mtu`."""

    def __init__(self, mtu=NARROW):
        self.holder = spawn(["unshare", "--net", "--", "sleep", "infinity"])
        mine = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != mine, 10, "a namespace")
        run("ip", "link", "add", "far0", "mtu", mtu, "type", "veth", "peer", "name", "far0", "mtu", mtu,
            "netns", self.holder.pid)
        run("ip", "addr", "add", f"{NEAR}/24", "dev", "far0")
        run("ip", "addr", "add", f"{NEAR6}/64", "dev", "far0", "nodad")
        run("ip", "link", "set", "far0", "up")
        run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", f"{FAR}/24", "dev", "far0")
        self.run("ip", "addr", "add", f"{FAR6}/64", "dev", "far0", "nodad")
        self.run("ip", "link", "set", "far0", "up")
        # Its SYN must not give the narrow link away.
        self.run("ip", "route", "add", "default", "via", NEAR, "advmss", 1460)
        self.run("ip", "-6", "route", "add", "default", "via", NEAR6, "advmss", 1440)

    def command(self, *command):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--", *map(str, command)]

    def run(self, *command, **more):
        return run(*self.command(*command), **more)


def start(world, **sections):
    far = Far(sections.pop("mtu", NARROW))
    device = sections.pop("device", f"net_af_packet0,iface={WIRE}")
    run("ip", "addr", "add", f"{LINUX6}/64", "dev", WIRE, "nodad")
    world.start(ports=[{"name": WIRE, "device": device,
                        "addresses": [f"{POSTERN}/24", f"{POSTERN6}/64"]}],
                routes=[{"to": "0.0.0.0/0", "via": LINUX}, {"to": "::/0", "via": LINUX6}], **sections)
    wait_until(lambda: set(world.show("link")[0]["address_states"].values()) == {"preferred"}, 10,
               "addresses are preferred")
    return far


def counters(world):
    return world.show("stats")["total"]


# proves: 8201-7
@case(seconds=90, needs=("curl",))
def download_through_a_narrow_link(world):
    """Segments are too big for a link in the middle, a router says so, and the transfer goes on in
    segments that fit."""
    far = start(world)
    site = world.dir / "site"
    site.mkdir(mode=0o755)
    data = Pattern().bytes(3_000_000)
    (site / "file.bin").write_bytes(data)
    (site / "file.bin").chmod(0o644)
    world.example("httpd", "--address", "::", "--port", "80", "--root", site)
    world.wait_listening(80)
    for host in (POSTERN, f"[{POSTERN6}]"):
        out = world.dir / "got.bin"
        seconds = float(far.run("curl", "-s", "-g", "-f", "-m", "20", "-w", "%{time_total}", "-o", out,
                                f"http://{host}/file.bin"))
        assert hashlib.sha256(out.read_bytes()).digest() == hashlib.sha256(data).digest()
        note(f"{host}: {seconds} s")
        assert seconds < 5, f"{host}: {seconds} s"
    assert counters(world)["ip_path_mtu_lowered"] == 2, "one path of each family"


# A UDP server in the far namespace: prints the size of each datagram.
SERVER = """
import socket, sys
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 9000))
print("ready", flush=True)
while True:
    print(len(sock.recv(70000)), flush=True)
"""


def far_server(far, host):
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--",
                                *far.command("python3", "-c", SERVER, host)],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def got(process, seconds=3):
    readable, _, _ = select.select([process.stdout], [], [], seconds)
    return int(process.stdout.readline()) if readable else None


@case(seconds=120)
def datagrams_learn_the_path(world):
    """The first datagram is too big for the path and is lost; the router's word makes the next ones go in
    fragments that fit. An application that wants none is told EMSGSIZE."""
    far = start(world)
    for host in (FAR, FAR6):
        server = far_server(far, host)
        app = world.app("udp_path", "--host", host, "--port", 9000).expect_ready()

        def send(size, to=app):
            to.tell(f"{size}\n")
            return to.result(10)
        assert send(100) == {"sent": 100} and got(server) == 100
        assert send(1400) == {"sent": 1400}
        assert got(server, 1) is None, "it did not fit"
        assert send(1400).get("errno") == "EMSGSIZE", "a connected socket is told, as Linux does"
        assert send(1400) == {"sent": 1400} and got(server) == 1400
        assert send(5000) == {"sent": 5000} and got(server) == 5000
        strict = world.app("udp_path", "--host", host, "--port", 9000, "--discover", 2).expect_ready()
        assert send(1200, strict) == {"sent": 1200} and got(server) == 1200
        send(1400, strict)
        assert got(server, 0.5) is None
        answer = send(1200, strict)
        assert answer.get("errno") == "EMSGSIZE", (host, answer, world.cli("drops"))
        assert send(1200, strict) == {"sent": 1200} and got(server) == 1200
        server.kill()
        server.wait()


class Frames:
    """Average length of the frames that the narrow link carries to the far host, from one look to the
    next."""

    def __init__(self):
        self.bytes = self.packets = 0
        self.average()

    def average(self):
        stats = json.loads(run("ip", "-j", "-s", "link", "show", "dev", "far0"))[0]["stats64"]["tx"]
        length = (stats["bytes"] - self.bytes) / max(stats["packets"] - self.packets, 1)
        self.bytes, self.packets = stats["bytes"], stats["packets"]
        return length


class FarReader(threading.Thread):
    """Reads a stream of the pattern on the far host, a few MiB a second."""

    def __init__(self, far):
        super().__init__(daemon=True)
        self.namespace = f"/proc/{far.holder.pid}/ns/net"
        self.total, self.error, self.stop = 0, None, False
        self.start()

    def run(self):
        try:
            with open(self.namespace, encoding="ascii") as namespace:  # of this thread alone
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            with socket.create_connection((POSTERN, 7000), timeout=30) as sock:
                self.read(sock)
        except (AssertionError, OSError) as error:
            self.error = error

    def read(self, sock):
        pattern = Pattern().block * 2
        while not self.stop:
            data = sock.recv(1 << 16, socket.MSG_WAITALL)
            at = self.total % Pattern.BLOCK
            assert data == pattern[at:at + len(data)], f"other bytes at {self.total}"
            self.total += len(data)
            time.sleep(0.01)

    def advances(self, seconds):
        """Whether something arrives in each of so many seconds."""
        for _ in range(seconds):
            before = self.total
            time.sleep(1)
            if self.error or self.total == before:
                return False
        return True


def set_far_mtu(far, mtu):
    run("ip", "link", "set", "far0", "mtu", mtu)
    far.run("ip", "link", "set", "far0", "mtu", mtu)


# proves: 8504-8
@case(seconds=90, alone=True)
def black_hole_that_comes_and_goes(world):
    """RFC 4821: a link becomes narrow, and the router says nothing. The stream goes on in smaller
    segments, a probe that is lost does not stop it, and once the link is wide segments grow again."""
    far = start(world, mtu=1500)
    run("ip", "rule", "add", "to", POSTERN, "ipproto", "icmp", "blackhole", "pref", 1)
    world.app("source", "--bytes", 1 << 30).expect_ready()
    reader, frames = FarReader(far), Frames()
    wait_until(lambda: reader.advances(1) and frames.average() > 1400, 10, "large segments")
    set_far_mtu(far, 1280)
    wait_until(lambda: reader.advances(1) and frames.average() < 1300, 20, "smaller segments")
    assert reader.advances(7), "the stream stops for a probe"
    assert frames.average() < 1300
    timeouts = counters(world)["tcp_rto"]
    set_far_mtu(far, 1500)
    wait_until(lambda: reader.advances(1) and frames.average() > 1400, 30, "larger segments")
    assert counters(world)["tcp_rto"] == timeouts
    reader.stop = True
    reader.join(10)
    assert reader.error is None, reader.error
