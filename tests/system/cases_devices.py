"""Each virtual device that Postern runs on, with the Linux kernel as the peer wherever a wire to it can
be made. Devices that only speak to DPDK are joined to the kernel's veth by dpdk-testpmd, which hands
every frame from one to the other.

With POSTERN_DEVICE_FACTS=FILE each case adds a line of JSON there: what the device offered. The table
in the README is made of them by tests/system/device_matrix.py."""
import contextlib
import ctypes
import json
import os
import re
import socket
import struct
import subprocess

from harness import (LINUX, POSTERN, WIRE, CLONE_NEWNET, Skip, case, receive_exactly, receive_to_end,
                     run, spawn, wait_until)
from pattern import Pattern


def facts(world, shown, exercise):
    """Keeps what `postern link` says of the device, for the table in the README."""
    port = world.show("link")[0]
    assert port["driver"], port
    file = os.environ.get("POSTERN_DEVICE_FACTS")
    if file:
        with open(file, "a") as out:
            out.write(json.dumps({"device": shown, "test": exercise, "driver": port["driver"],
                                  "queues": port["queues"],
                                  "capabilities": port["capabilities"]}) + "\n")
    return port


def start(world, device, **sections):
    ports = [{"name": WIRE, "device": device, "addresses": [f"{POSTERN}/24"]}]
    return world.start(ports=ports, **sections)


def exercise(world):
    """Ping, UDP echo, TCP echo of 300,000 bytes, and a download whose checksum is compared."""
    wait_until(lambda: "1 received" in run("ping", "-n", "-q", "-c", 1, "-W", 1, POSTERN, check=False),
               30, "the first answer to a ping")
    text = run("ping", "-n", "-q", "-c", 20, "-i", "0.01", "-W", 2, POSTERN)
    assert "20 received" in text, text
    world.serve_echo()
    data = Pattern().bytes(300_000)
    with world.udp() as sock:
        for size in (0, 1, 18, 100, 1472):
            sock.send(data[:size])
            assert sock.recv(2048) == data[:size], size
    with world.connect(7) as sock:
        for i in range(0, len(data), 50_000):
            sock.sendall(data[i:i + 50_000])
            assert receive_exactly(sock, 50_000) == data[i:i + 50_000]
    world.app("source", "--bytes", 1 << 20).expect_ready()
    with world.connect(7000) as sock:
        total, digest, error = receive_to_end(sock)
    assert (total, error) == (1 << 20, None), (total, error)
    assert digest == Pattern().digest(total)


def enter_network_of(process):
    with open(f"/proc/{process.pid}/ns/net") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def patched(world, device):
    """dpdk-testpmd between the veth and `device`: frames of either side go out at the other."""
    log = open(world.dir / "testpmd.log", "wb")
    process = spawn(
        ["nsenter", f"--net=/proc/{world.holder.pid}/ns/net", "--", "stdbuf", "-oL", "dpdk-testpmd",
         "--lcores=0@0,1@0", "--no-pci", "--no-telemetry", "--no-huge", "-m", "256",
         "--file-prefix", f"{world.file_prefix}-patch",
         f"--vdev=net_af_packet0,iface={WIRE}", f"--vdev={device}", "--", "--forward-mode=io",
         "--auto-start", "--total-num-mbufs=8192", "--no-lsc-interrupt", "--disable-link-check",
         "--port-topology=paired"],
        # It ends with its input.
        stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
    try:
        def ready():
            text = (world.dir / "testpmd.log").read_text(errors="replace")
            assert process.poll() is None, f"testpmd ended: {text[-800:]}"
            return "Press enter to exit" in text
        wait_until(ready, 60, "dpdk-testpmd forwards")
        yield
    finally:
        process.kill()
        process.wait()
        log.close()


# ---- devices on an interface of the kernel's ----

@case(seconds=120, needs=("ping",))
def af_packet(world):
    start(world, f"net_af_packet0,iface={WIRE}")
    exercise(world)
    assert "wake=fd" in facts(world, "net_af_packet", "ping, UDP, TCP with Linux")["capabilities"]


@case(seconds=120, needs=("ping",))
def af_xdp(world):
    start(world, f"net_af_xdp0,iface={WIRE},force_copy=1")
    exercise(world)
    assert "wake=fd" in facts(world, "net_af_xdp", "ping, UDP, TCP with Linux")["capabilities"]


@case(seconds=120, needs=("ping",))
def pcap_on_an_interface(world):
    start(world, f"net_pcap0,iface={WIRE}")
    exercise(world)
    facts(world, "net_pcap, interface", "ping, UDP, TCP with Linux")


@case(seconds=120, needs=("ping",))
def tap(world):
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    start(world, "net_tap0,iface=tap0")
    run("ip", "addr", "flush", "dev", WIRE)
    enter_network_of(world.holder)  # the kernel's end of a tap is where it was made
    run("ip", "addr", "add", f"{LINUX}/24", "dev", "tap0")
    run("ip", "link", "set", "tap0", "up")
    exercise(world)
    port = facts(world, "net_tap", "ping, UDP, TCP with Linux")
    assert "tso" not in port["capabilities"], "its own takes no segment of the whole MTU"


# ---- devices between DPDK processes ----

@case(seconds=180, needs=("ping", "dpdk-testpmd"))
def memif(world):
    link = world.dir / "memif.sock"
    start(world, f"net_memif0,role=server,socket={link},socket-abstract=no")
    with patched(world, f"net_memif0,role=client,socket={link},socket-abstract=no"):
        exercise(world)
        facts(world, "net_memif", "ping, UDP, TCP with Linux through testpmd")


def load(world, link, *arguments, addresses=("10.9.0.2", "10.9.0.1")):
    """The load generator at the other end of a memif, with an application of its own in posternd."""
    local, peer = addresses
    text = run(world.staging.build / "perf/loadgen", "--json", "--vdev",
               f"net_memif0,role=client,socket={link},socket-abstract=no", "--local", local, "--peer",
               peer, "--core", 0, "--file-prefix", f"{world.file_prefix}-load", "--warmup", "0.1",
               "--duration", "0.5", "--app-socket", world.app_socket, "--host-echo", "tcp:7,udp:7",
               "--host-sink", "tcp:9", "--host-source", "tcp:19", *arguments, check=False)
    return json.loads(text) if text.startswith("{") else None


@case(seconds=120)
def memif_with_jumbo_frames(world):
    link = world.dir / "memif.sock"
    world.start(ports=[{"name": WIRE, "mtu": 9000, "addresses": ["10.9.0.1/24"],
                        "device": f"net_memif0,role=server,socket={link},socket-abstract=no"}],
                access=[{"user": "root", "bind": ["tcp/any", "udp/any"]}])
    for case_, figure in ((("--mode", "tcp-send", "--port", 9, "--connections", 8), "gbit_out"),
                          (("--mode", "tcp-recv", "--port", 19, "--connections", 8), "gbit_in")):
        found = load(world, f"{link},bsize=9024", *case_, "--mtu", 9000)
        assert found[figure] > 0 == found["retransmits"] == found["bad_frames"], found
    total = world.show("stats")["total"]
    assert total["tcp_retransmits"] == 0, total


@case(seconds=180)
def memif_without_checksums(world):
    """Both ends do without: nothing is lost or changed. One end alone: what it sends is wrong to the
    other."""
    link = world.dir / "memif.sock"
    v4, v6 = ("10.9.0.2", "10.9.0.1"), ("fd00:9::2", "fd00:9::1")
    port = {"name": WIRE, "device": f"net_memif0,role=server,socket={link},socket-abstract=no",
            "addresses": [f"{v4[1]}/24", f"{v6[1]}/64"], "checksums": "off"}
    root = [{"user": "root", "bind": ["tcp/any", "udp/any"]}]
    daemon = world.start(ports=[port], access=root)
    assert "neither verified nor filled in" in daemon.log()
    assert {"no-checksums", "gather"} <= set(world.show("link")[0]["capabilities"].split())
    echo = ("--mode", "udp-echo", "--size", 18, "--window", 16)
    for addresses in (v4, v6):
        for case_, figure in ((("--mode", "tcp-send", "--port", 9), "gbit_out"),
                              (("--mode", "tcp-recv", "--port", 19), "gbit_in"),
                              (("--mode", "tcp-rr", "--connections", 4), "rate"), (echo, "rate"),
                              # More than the ring takes at once, straight from the application.
                              (("--mode", "tcp-rr", "--connections", 400, "--size", 8000), "rate")):
            found = load(world, link, *case_, "--checksum", "off", addresses=addresses)
            assert found and found[figure] > 0, (case_, found)
            assert found["mismatches"] == found["bad_frames"] == 0, (case_, found)
    found = load(world, link, *echo, addresses=v6)
    assert found["rate"] == 0 < found["bad_frames"], found
    assert not [d for d in world.show("drops") if "checksum" in d["reason"]]
    daemon.stop()
    world.start(ports=[port | {"checksums": "on"}], access=root)
    assert "no-checksums" not in world.show("link")[0]["capabilities"].split()
    found = load(world, link, *echo, "--checksum", "off", addresses=v6)
    assert found["rate"] == 0, found
    assert [d for d in world.show("drops") if d["reason"] == "udp_bad_checksum"]


@case(seconds=180, needs=("ping", "dpdk-testpmd"))
def virtio_user_before_vhost(world):
    link = world.dir / "vhost.sock"
    with patched(world, f"net_vhost0,iface={link}"):
        start(world, f"net_virtio_user0,path={link}")
        exercise(world)
        facts(world, "net_virtio_user", "ping, UDP, TCP with Linux through testpmd's vhost")


@case(seconds=180, needs=("ping", "dpdk-testpmd"))
def vhost_behind_virtio_user(world):
    link = world.dir / "vhost.sock"
    start(world, f"net_vhost0,iface={link}")
    with patched(world, f"net_virtio_user0,path={link}"):
        exercise(world)
        facts(world, "net_vhost", "ping, UDP, TCP with Linux through testpmd's virtio-user")


# ---- devices without a peer ----

def frame(source_mac, destination_mac, ether_type, payload):
    return destination_mac + source_mac + struct.pack("!H", ether_type) + payload


def write_pcap(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for data in frames:
            file.write(struct.pack("<IIII", 0, 0, len(data), len(data)) + data)


def read_pcap(path):
    data = path.read_bytes()
    at, frames = 24, []
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return frames


def arp_request(mac):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + socket.inet_aton(LINUX) + bytes(6) \
        + socket.inet_aton(POSTERN)
    return frame(mac, b"\xff" * 6, 0x0806, body + bytes(18))


@case
def pcap_files(world):
    """An ARP request from a file; the answer in another."""
    mac = bytes.fromhex("02000000000a")
    write_pcap(world.dir / "in.pcap", [arp_request(mac)])
    out = world.dir / "out.pcap"
    start(world, f"net_pcap0,rx_pcap={world.dir}/in.pcap,tx_pcap={out}")
    wait_until(lambda: world.show("link")[0]["tx_packets"] > 0, 20, "the answer is sent")
    own = bytes.fromhex(facts(world, "net_pcap, files", "an ARP request answered")["mac"]
                        .replace(":", ""))
    world.daemon_may_end = True
    assert world.daemon.stop() == 0  # which writes the file to its end
    answers = [f for f in read_pcap(out) if f[:6] == mac and f[12:14] == b"\x08\x06"]
    assert answers, "an ARP answer in the file"
    operation, sender_mac, sender = struct.unpack("!H6s4s", answers[0][20:32])
    assert (operation, sender_mac, sender) == (2, own, socket.inet_aton(POSTERN))


@case
def ring(world):
    """net_ring gives back what is sent: every packet that leaves arrives, and is dropped by name."""
    start(world, "net_ring0")
    app = world.app("udp_send", "--host", LINUX, "--port", 9)  # asks for the neighbor, in vain
    wait_until(lambda: world.show("link")[0]["tx_packets"] > 0, 20, "an ARP request is sent")
    app.kill()

    def returned():
        port = world.show("link")[0]
        return port["rx_packets"] == port["tx_packets"]
    wait_until(returned, 20, "what was sent came back")
    assert world.show("drops"), "one's own requests are not answered but counted"
    facts(world, "net_ring", "own ARP requests come back and are dropped")


@case
def null(world):
    """net_null delivers empty frames without end: all are dropped, by one name."""
    start(world, "net_null0,size=64")

    def flooded():
        return max((row["packets"] for row in world.show("drops")), default=0) > 100_000
    wait_until(flooded, 30, "100,000 frames of nothing")
    facts(world, "net_null", "a flood of empty frames dropped by name")
    assert re.search(r"\bUP\b|\bup\b", world.cli("link")), "it still answers its operator"
