"""The kernel beside Postern: programs of the kernel's sockets on the very addresses of a port."""
import errno
import json
import os
import re
import socket
import subprocess
import threading
import time

import cases_vlan
from cases_ipv6 import mac_of
from cases_malformed import drop_counts
from harness import LINUX, POSTERN, WIRE, case, note, receive_exactly, run, spawn, wait_until
from spoiled_frames import checksum

TAP = "ptn0"
LINUX6, POSTERN6 = "2001:db8::1", "2001:db8::2"


def start(world, *allow, addresses=(), rate=None, **sections):
    """posternd with a tap beside its port."""
    exception = {"tap": TAP, "allow": list(allow)}
    if rate:
        exception["rate"] = rate
    if addresses:
        run("ip", "addr", "add", f"{LINUX6}/64", "dev", WIRE, "nodad")
    world.beyond("sysctl", "-qw", "net.ipv4.ip_local_port_range=61000 65535")
    world.beyond("ip", "link", "set", "lo", "up")
    return world.start(ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                               "addresses": [f"{POSTERN}/24", *addresses],
                               "exception": exception}], **sections)


def beside(world, *command, **more):
    """Starts a program of posternd's namespace."""
    return spawn(["nsenter", f"--net=/proc/{world.holder.pid}/ns/net", "--", *command], **more)


def counters(world):
    return world.show("stats")["total"]


def figures(world):
    return world.show("exception")[0]


def start_sshd(world):
    """An sshd of its own; returns how to reach it."""
    keys = world.dir / "ssh"
    keys.mkdir(mode=0o700)
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name)
    config = keys / "sshd_config"
    config.write_text(f"""
Port 22
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
""")
    log = open(world.dir / "sshd.log", "ab")
    sshd = beside(world, "/usr/sbin/sshd", "-D", "-e", "-f", config, stdin=subprocess.DEVNULL,
                  stdout=log, stderr=log)
    wait_until(lambda: ":22 " in world.beyond("ss", "-Hltn"), 10, "sshd listens")
    return sshd, ["ssh", "-i", keys / "user", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                  "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"]


@case(seconds=120, needs=("sshd", "ssh", "ssh-keygen"))
def sshd_on_the_same_address(world):
    """sshd of the kernel's on port 22, Postern's echo on port 7, both families, same addresses."""
    start(world, "tcp/22", addresses=[f"{POSTERN6}/64"])
    wait_until(lambda: set(world.show("link")[0]["address_states"].values()) == {"preferred"}, 10,
               "addresses are preferred")
    world.serve_echo()
    _, ssh = start_sshd(world)
    for address in (POSTERN, POSTERN6):
        assert run(*ssh, f"root@{address}", "echo", "hello $SSH_CONNECTION").split()[:2] == [
            "hello", LINUX if address == POSTERN else LINUX6]
    big = run(*ssh, f"root@{POSTERN}", "head -c 3000000 /dev/zero | tr '\\0' x")
    assert big == "x" * 3_000_000
    with world.connect(7) as sock:
        sock.sendall(b"both at once")
        assert receive_exactly(sock, 12) == b"both at once"
    now = figures(world)
    assert now["to_kernel"] > 100 and now["from_kernel"] > 100 and now["lost"] == 0, now
    assert "tcp/22" in world.cli("exception")
    total = counters(world)
    assert total["tcp_resets_sent"] == 0, "nothing of the kernel's was refused"
    # A port of neither is refused as ever.
    with socket.socket() as sock:
        assert sock.connect_ex((POSTERN, 23)) == 111
    assert drop_counts(world)["tcp_no_socket"] >= 1


@case(seconds=90)
def what_the_kernel_begins_is_answered(world):
    """Connections, datagrams and pings of the kernel's come back without being allowed."""
    start(world, "tcp/22", addresses=[f"{POSTERN6}/64"])
    wait_until(lambda: set(world.show("link")[0]["address_states"].values()) == {"preferred"}, 10,
               "addresses are preferred")
    server = world.listen(9000)
    client = beside(world, "python3", "-c", f"""
import socket
sock = socket.create_connection(("{LINUX}", 9000), timeout=20)
sock.sendall(b"question")
print(sock.recv(100).decode(), sock.getsockname()[0], flush=True)
""", stdout=subprocess.PIPE, text=True)
    peer, _ = server.accept()
    assert receive_exactly(peer, 8) == b"question"
    peer.sendall(b"answer")
    assert client.stdout.readline().split() == ["answer", POSTERN]
    client.wait(10)
    for address in (LINUX, LINUX6):
        text = world.beyond("ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", address)
        assert "3 received" in text, text
    text = world.beyond("traceroute", "-n", "-w", "2", "-q", "1", LINUX)
    assert re.search(rf"^ 1 +{re.escape(LINUX)} +[0-9.]+ ms", text, re.M), text
    # And the other way, which Postern answers itself.
    before = counters(world)["icmp_tx"]
    assert "3 received" in run("ping", "-n", "-c", "3", "-i", "0.2", POSTERN)
    text = run("traceroute", "-n", "-w", "2", "-q", "1", POSTERN)
    assert re.search(rf"^ 1 +{re.escape(POSTERN)} +[0-9.]+ ms", text, re.M), text

    def answered():
        return counters(world)["icmp_tx"] >= before + 4
    wait_until(answered, 5, "Postern counts what it answered")
    # Nothing was said twice, and only Postern answers ARP.
    replies = run("arping", "-c", "2", "-w", "3", "-I", WIRE, POSTERN, check=False)
    assert len(re.findall(r"from .*" + re.escape(POSTERN), replies)) == 2, replies


def syn(source_port, port):
    """A SYN from a host at the Linux end, without Ethernet header."""
    a, b = socket.inet_aton("192.0.2.77"), socket.inet_aton(POSTERN)
    tcp = bytearray(source_port.to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(4) + bytes(4)
                    + b"\x50\x02\x10\x00" + bytes(4))
    tcp[16:18] = checksum(a + b + b"\0\6" + len(tcp).to_bytes(2, "big") + bytes(tcp)).to_bytes(2, "big")
    ip = bytearray(b"\x45\0" + (20 + len(tcp)).to_bytes(2, "big") + b"\0\1\x40\0\x40\6\0\0" + a + b)
    ip[10:12] = checksum(bytes(ip)).to_bytes(2, "big")
    return bytes(ip) + bytes(tcp)


@case(seconds=120)
def a_flood_for_the_kernel_does_no_harm_to_others(world):
    """Ten times the rate for the kernel's port: what is beyond it is dropped by name, an echo over
    Postern goes on, and so does a conversation of the kernel's. Slow enough for the device's ring."""
    rate = 500
    start(world, "tcp/22", rate=rate)
    world.serve_echo()
    postern_mac = mac_of(world.show("link")[0]["mac"])
    kernel = world.listen(9000)
    talk = beside(world, "python3", "-c", f"""
import socket
sock = socket.create_connection(("{LINUX}", 9000), timeout=20)
while data := sock.recv(100):
    sock.sendall(data)
""")
    peer, _ = kernel.accept()
    peer.settimeout(20)
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((WIRE, 0x0800))
    mac = mac_of(json.loads(run("ip", "-j", "link", "show", WIRE))[0]["address"])
    frames = [postern_mac + mac + b"\x08\0" + syn(port, 22) for port in range(20000, 20256)]
    stop, sent = threading.Event(), [0]

    def flood():
        for turn in range(1 << 30):
            if stop.wait(0.01):
                break
            for i in range(rate // 10):
                raw.send(frames[(turn + i) % len(frames)])
            sent[0] += rate // 10
    begin = time.monotonic()
    before = figures(world)["to_kernel"]
    thread = threading.Thread(target=flood)
    thread.start()
    exchanges = 0
    try:
        with world.connect(7) as sock:
            while time.monotonic() - begin < 4:
                sock.sendall(b"12345678")
                assert receive_exactly(sock, 8) == b"12345678"
                if exchanges % 50 == 0:
                    peer.sendall(b"kernel")
                    assert receive_exactly(peer, 6) == b"kernel"
                exchanges += 1
    finally:
        stop.set()
        thread.join()
    seconds = time.monotonic() - begin
    talk.kill()
    wait_until(lambda: drop_counts(world).get("exception_rate_limited", 0) > 0, 5, "packets over the rate")
    # Answers to the conversation and ARP count apart from what nobody asked for.
    passed = figures(world)["to_kernel"] - before
    kept_back = drop_counts(world)["exception_rate_limited"]
    note(f"{sent[0]} SYNs in {seconds:.1f} s, {passed} packets reached the kernel, {kept_back} were over "
         f"the rate; {exchanges} exchanges beside them")
    assert sent[0] > 4 * rate * seconds, "not a flood"
    # Twice the bucket: once for what nobody asked for, once for answers.
    assert passed <= (rate * seconds + rate / 10) * 2, passed
    assert kept_back >= 0.9 * sent[0] - rate * seconds - rate / 10, (kept_back, sent[0])
    assert exchanges > 100
    assert counters(world)["tcp_retransmits"] <= exchanges // 50, "the echo lost packets"


def start_bird(world, name, inside, config):
    """A BIRD with its own socket; returns what asks it."""
    home = world.dir / f"bird-{name}"
    home.mkdir()
    (home / "bird.conf").write_text(config)
    command = ["bird", "-f", "-c", home / "bird.conf", "-s", home / "ctl"]
    log = open(world.dir / f"bird-{name}.log", "ab")
    more = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    _ = beside(world, *command, **more) if inside else spawn(command, **more)
    wait_until((home / "ctl").exists, 10, f"BIRD {name} runs")
    return lambda *words: run("birdc", "-s", home / "ctl", *words)


def bird_config(own, peer, own_as, peer_as, routes, more=""):
    static = "".join(f"  route {r} blackhole;\n" for r in routes)
    return f"""
router id {own};
log stderr all;
protocol device {{ }}
protocol static {{ ipv4;
{static}}}
protocol bgp peer {{
  # BIRD's socket is bound to the interface; with that gone, nothing it still sends reaches the peer,
  # which knows the session's end by the hold time alone.
  local {own} as {own_as};
  neighbor {peer} as {peer_as};
  hold time 9; connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 {{ import all; export all; }};
}}
{more}"""


@case(seconds=150, needs=("bird", "birdc"))
def bird_holds_a_bgp_session(world):
    """BIRD beside Postern exchanges routes with a BIRD of the Linux end, and both survive a flood of
    routes; Postern serves on the same address all the while."""
    start(world, "tcp/179")
    world.serve_echo()
    far = [f"10.{i}.{j}.0/24" for i in range(4) for j in range(250)]
    there = start_bird(world, "linux", False,
                       bird_config(LINUX, POSTERN, 65001, 65002, far))
    here = start_bird(world, "postern", True,
                      bird_config(POSTERN, LINUX, 65002, 65001, ["203.0.113.0/24", "198.51.100.0/24"]))
    wait_until(lambda: "Established" in here("show", "protocols"), 60, "the session is established")
    wait_until(lambda: "1002 of 1002 routes" in here("show", "route", "count"), 20, "all routes arrive")
    wait_until(lambda: "203.0.113.0/24" in there("show", "route"), 10, "and the others there")
    assert f"via {LINUX}" in here("show", "route", "10.3.7.0/24")
    with world.connect(7) as sock:
        sock.sendall(b"served")
        assert receive_exactly(sock, 6) == b"served"
    assert counters(world)["tcp_resets_sent"] == 0
    # The daemon goes, and with it the interface: the session ends. It comes back by itself.
    world.daemon.stop()
    start(world, "tcp/179")
    wait_until(lambda: "1002 of 1002 routes" in here("show", "route", "count"), 60, "all routes are back")


@case(seconds=120, needs=("bird", "birdc"))
def bird_speaks_ospf(world):
    """Hellos go to a group, which the policy names by its protocol."""
    start(world, "ospf")
    area = "area 0 {{ interface \"{}\" {{ hello 1; dead 4; wait 2; type broadcast; }}; }};"

    def config(own, interface, route):
        return bird_config(own, "192.0.2.99", 65001, 65009, [route]).split("protocol bgp")[0] + \
            f"protocol ospf v2 {{ ipv4 {{ export all; import all; }}; {area.format(interface)} }}\n"
    there = start_bird(world, "linux", False, config(LINUX, WIRE, "10.1.0.0/16"))
    here = start_bird(world, "postern", True, config(POSTERN, TAP, "10.2.0.0/16"))
    wait_until(lambda: "10.1.0.0/16" in here("show", "route"), 40, "the route of the Linux end")
    wait_until(lambda: "10.2.0.0/16" in there("show", "route"), 20, "the route of the other end")
    assert "Full" in here("show", "ospf", "neighbors")


@case(seconds=240, needs=("sshd", "ssh", "ssh-keygen"))
def sshd_on_a_vlan(world):
    """The tap of a VLAN has its addresses, and frames without its tag; other tags have no kernel."""
    world.beyond("sysctl", "-qw", "net.ipv4.ip_local_port_range=61000 65535")
    world.beyond("ip", "link", "set", "lo", "up")
    cases_vlan.start(world, exceptions={100: {"tap": TAP, "allow": ["tcp/22"]}})
    world.example("echo", "--tcp", "7", "--udp", "7", "--address", "::")
    world.wait_listening(7)
    _, ssh = start_sshd(world)
    net4, net6 = cases_vlan.TAGS[100]
    for address in (f"{net4}.2", f"{net6}:2"):
        assert run(*ssh, f"root@{address}", "echo", "hello $SSH_CONNECTION").split()[0] == "hello"
        with socket.create_connection((address, 7), timeout=20) as sock:
            sock.sendall(b"both at once")
            assert receive_exactly(sock, 12) == b"both at once"
    assert figures(world)["port"] == f"{WIRE}.100" and figures(world)["to_kernel"] > 20
    for address in (POSTERN, f"{cases_vlan.TAGS[4094][0]}.2"):
        with socket.socket() as sock:
            assert sock.connect_ex((address, 22)) == errno.ECONNREFUSED, address
    # And what the kernel begins leaves by the tag.
    for address in (f"{net4}.1", f"{net6}:1"):
        text = world.beyond("ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", address)
        assert "3 received" in text, text
