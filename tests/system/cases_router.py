"""Router advertisements: addresses, ways out and parameters that radvd gives, and what liars say."""
import json
import os
import re
import socket
import struct
import subprocess
import time

from cases_ipv6 import mac_of
from cases_malformed import drop_counts
from harness import POSTERN, WIRE, case, note, receive_exactly, run, spawn, wait_until
from spoiled_frames import checksum

FAR6 = "2001:db8:ff::1"   # an address of the Linux end that is not on the link
PREFIX = "2001:db8:a:"


def start(world, ports=None, **sections):
    """posternd that listens to routers; its only configured address is an IPv4 one."""
    run("sysctl", "-qw", f"net.ipv6.conf.{WIRE}.forwarding=1")
    run("ip", "addr", "add", f"{FAR6}/128", "dev", "lo")
    wait_until(lambda: "tentative" not in run("ip", "-6", "addr", "show", "dev", WIRE), 10,
               "the Linux end has its link-local address")
    return world.start(ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                               "addresses": [f"{POSTERN}/24"], "ipv6": {"accept_ra": True},
                               **(ports or {})}], **sections)


def start_radvd(world, valid=3600, preferred=1800, more=""):
    config = world.dir / "radvd.conf"
    config.write_text(f"""interface {WIRE} {{
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; {more}
  prefix {PREFIX}:/64 {{ AdvValidLifetime {valid}; AdvPreferredLifetime {preferred}; }};
}};
""")
    config.chmod(0o644)
    log = open(world.dir / "radvd.log", "ab")
    return spawn(["radvd", "-n", "-m", "stderr", "-C", config, "-p", world.dir / "radvd.pid"],
                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def states(world):
    return {address.split("/")[0]: state
            for address, state in world.show("link")[0]["address_states"].items()}


def made(world, state="preferred", prefix=PREFIX):
    """The address that was made from the prefix, if it is in that state."""
    return next((a for a, s in states(world).items() if a.startswith(prefix) and s == state), None)


def learned(world):
    return {row["to"]: row["via"] for row in world.show("route") if row["origin"].startswith("router")}


def router():
    text = run("ip", "-6", "addr", "show", "dev", WIRE, "scope", "link")
    return re.search(r"inet6 (fe80:[0-9a-f:]+)/", text).group(1)


# proves: 4862-13
@case(seconds=120, needs=("radvd",))
def radvd_gives_an_address_and_a_way_out(world):
    start(world)
    start_radvd(world, more="AdvCurHopLimit 33; AdvLinkMTU 1400;")
    address = wait_until(lambda: made(world), 20, "an address from radvd's prefix is preferred")
    note(f"address {address}")
    assert "ff:fe" not in address, "the identifier shows the MAC"
    assert learned(world) == {f"{PREFIX}:/64": "", "::/0": router()}, learned(world)
    assert router() in world.cli("route", "get", FAR6)
    # It serves there, and reaches what is beyond the router.
    world.serve_echo6 = world.example("echo", "--tcp", 7, "--udp", 7, "--address", "::")
    world.wait_listening(7)
    run("ip", "-6", "route", "add", f"{PREFIX}:/64", "dev", WIRE)
    with socket.create_connection((address, 7), timeout=20) as sock:
        sock.sendall(b"x" * 5000)
        assert receive_exactly(sock, 5000) == b"x" * 5000
        mss = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    assert mss <= 1400 - 60, f"segments of {mss} on a link of 1400"
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind((FAR6, 9000))
        listener.listen()
        client = world.app("connect", "--host", FAR6, "--port", 9000)
        peer, name = listener.accept()
        assert name[0] == address, name
        peer.close()
        client.stop()
    # Its hop limit is the router's word.
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        sock.settimeout(10)
        sock.sendto(b"hops", (address, 7))
        _, ancillary, _, _ = sock.recvmsg(100, 100)
        hops = next(struct.unpack("i", data)[0] for level, kind, data in ancillary
                    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT))
        assert hops == 33, hops
    text = run("ping", "-6", "-n", "-c", "2", "-i", "0.2", address)
    assert "2 received" in text and "ttl=33" in text, text


@case(seconds=120, needs=("radvd",))
def the_address_may_be_bound_and_is_the_same_after_a_restart(world):
    start(world)
    start_radvd(world)
    address = wait_until(lambda: made(world), 20, "an address")

    def bound():
        app = world.example("echo", "--tcp", 7, "--udp", 7, "--address", address)
        time.sleep(0.5)
        ok = app.process.poll() is None
        if not ok:
            app.stop()
        return ok
    wait_until(bound, 10, "a program binds the address")
    run("ip", "-6", "route", "add", f"{PREFIX}:/64", "dev", WIRE)
    with socket.create_connection((address, 7), timeout=20) as sock:
        sock.sendall(b"here")
        assert receive_exactly(sock, 4) == b"here"
    world.daemon.stop()
    world.start(ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                        "addresses": [f"{POSTERN}/24"], "ipv6": {"accept_ra": True}}])
    assert wait_until(lambda: made(world), 20, "an address again") == address
    world.daemon.stop()
    world.start(ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                        "addresses": [f"{POSTERN}/24"],
                        "ipv6": {"accept_ra": True, "interface_ids": "eui64"}}])
    other = wait_until(lambda: made(world), 20, "an address from the MAC")
    assert "ff:fe" in other, other


@case(seconds=120, needs=("radvd",))
def a_router_that_leaves_takes_everything_along(world):
    start(world)
    radvd = start_radvd(world, valid=12, preferred=6)
    wait_until(lambda: made(world), 20, "an address")
    radvd.terminate()
    radvd.wait(10)
    wait_until(lambda: "::/0" not in learned(world), 10, "the last advertisement ends the default route")
    wait_until(lambda: made(world, "deprecated"), 15, "the address is deprecated")
    wait_until(lambda: not any(a.startswith(PREFIX) for a in states(world)), 15, "the address is gone")
    wait_until(lambda: not learned(world), 5, "nothing learned is left")
    assert "no route" in subprocess.run(
        [str(world.staging.cli), "route", "get", FAR6, "--socket", str(world.control_socket)],
        stderr=subprocess.PIPE, text=True, check=False).stderr


# ---- liars ----

def icmp6_frame(to_mac, source, destination, icmp, hops=255):
    own = mac_of(json.loads(run("ip", "-j", "link", "show", WIRE))[0]["address"])
    a, b = (socket.inet_pton(socket.AF_INET6, x) for x in (source, destination))
    icmp = bytearray(icmp)
    icmp[2:4] = checksum(a + b + struct.pack("!IHBB", len(icmp), 0, 0, 58) + bytes(icmp)).to_bytes(2, "big")
    ip = struct.pack("!IHBB", 6 << 28, len(icmp), 58, hops) + a + b
    return to_mac + own + b"\x86\xdd" + ip + bytes(icmp)


def say(frame):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((WIRE, 0))
        raw.send(frame)


ALL_NODES = ("ff02::1", bytes.fromhex("333300000001"))


def advertisement(lifetime, preference=0, mac=None, options=b""):
    flags = {1: 0x08, 0: 0, -1: 0x18}[preference]
    mac_option = b"\1\1" + mac if mac else b""
    return struct.pack("!BBHBBHII", 134, 0, 0, 64, flags, lifetime, 0, 0) + mac_option + options


def prefix_option(prefix, valid, preferred):
    return struct.pack("!BBBBIII", 3, 4, 64, 0xc0, valid, preferred, 0) + socket.inet_pton(
        socket.AF_INET6, prefix)


@case(seconds=120, needs=("radvd",))
def a_silent_router_is_not_used_for_long(world):
    """A router with the highest preference that answers nothing: an open connection goes on through
    the other one."""
    start(world)
    start_radvd(world)
    address = wait_until(lambda: made(world), 20, "an address")
    app = world.example("echo", "--tcp", 7, "--udp", 7, "--address", "::")
    world.wait_listening(7)
    run("ip", "-6", "route", "add", f"{PREFIX}:/64", "dev", WIRE)
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind((FAR6, 0))
        sock.settimeout(40)
        sock.connect((address, 7))
        sock.sendall(b"before")
        assert receive_exactly(sock, 6) == b"before"
        say(icmp6_frame(ALL_NODES[1], "fe80::666", ALL_NODES[0],
                        advertisement(600, 1, mac_of("02:00:00:00:06:66"))))
        wait_until(lambda: "fe80::666" in world.cli("route", "get", FAR6), 5, "the liar is believed")
        begin = time.monotonic()
        sock.sendall(b"after.")
        assert receive_exactly(sock, 6) == b"after."
        note(f"{time.monotonic() - begin:.1f} s until the other router was used")
    assert router() in world.cli("route", "get", FAR6)
    assert "silent" in world.cli("route")
    assert app.process.poll() is None


@case(seconds=90, needs=("radvd",))
def redirects_only_from_the_router_in_use(world):
    start(world)
    start_radvd(world)
    address = wait_until(lambda: made(world), 20, "an address")
    mac = mac_of(world.show("link")[0]["mac"])
    other = "fe80::77"

    def redirect(source, hops=255, target=other, destination=FAR6):
        icmp = struct.pack("!BBHI", 137, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, target) + \
            socket.inet_pton(socket.AF_INET6, destination)
        say(icmp6_frame(mac, source, address, icmp, hops))
        time.sleep(0.3)
        return world.cli("route", "get", FAR6)
    before = drop_counts(world)
    assert other not in redirect("fe80::99"), "not the router"
    assert other not in redirect(router(), hops=254), "from beyond a router"
    assert other not in redirect(router(), target="2001:db8::5"), "no router's address"
    assert other not in redirect(router(), destination="ff02::5"), "a group"
    assert other in redirect(router())

    def counted():
        now = drop_counts(world)
        return all(now.get(r, 0) - before.get(r, 0) >= n for r, n in (
            ("nd_not_for_us", 1), ("nd_bad_hop_limit", 1), ("nd_malformed", 2)))
    wait_until(counted, 5, "each refusal has its name")


@case(seconds=90)
def liars_fill_lists_of_fixed_size(world):
    """A thousand routers with sixteen prefixes each: bounded, and an honest program goes on."""
    start(world)
    world.serve_echo()
    with world.connect(7) as sock:
        for i in range(1000):
            options = b"".join(prefix_option(f"2001:db8:{i:x}:{j:x}::", 3600, 1800) for j in range(16))
            say(icmp6_frame(ALL_NODES[1], f"fe80::1:{i:x}", ALL_NODES[0],
                            advertisement(600, 0, None, options)))
            if i % 100 == 0:
                sock.sendall(b"12345678")
                assert receive_exactly(sock, 8) == b"12345678"
    wait_until(lambda: sum(s == "preferred" for s in states(world).values()) >= 17, 20,
               "sixteen addresses and the link-local one")
    assert len(states(world)) == 1 + 1 + 16, states(world)
    assert len(learned(world)) == 32 + 1
    assert os.path.exists(f"/proc/{world.daemon.pid}")
