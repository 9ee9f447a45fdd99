"""Groups and broadcasts: unmodified programs as members, the kernel as the other members, a raw socket
as the router that asks."""
import ipaddress
import json
import socket
import struct
import time

from cases_ipv6 import start6
from cases_malformed import drop_counts
from harness import LINUX, POSTERN, WIRE, case, run, wait_until
from spoiled_frames import checksum

GROUP4, GROUP6 = "239.1.2.3", "ff15::77"
PORT = 5000
IP, IPV6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE, IP_ADD_SOURCE, IP_DROP_SOURCE, IP_MULTICAST_ALL = 38, 37, 39, 40, 49
IP_RECVTTL = 12
MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP, MCAST_JOIN_SOURCE = 42, 45, 46


def packed(address):
    return ipaddress.ip_address(address).packed


def mreq(group, at="0.0.0.0"):
    return (packed(group) + packed(at)).hex()


def mreq_source(group, source, at="0.0.0.0"):
    return (packed(group) + packed(at) + packed(source)).hex()


def mreq6(group, interface=0):
    return (packed(group) + struct.pack("=I", interface)).hex()


def storage(address):
    a = packed(address)
    head = struct.pack("=HH4s", socket.AF_INET, 0, a) if len(a) == 4 else \
        struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, a, 0)
    return head.ljust(128, b"\0")


def group_req(group, source=None, interface=0):
    body = struct.pack("=I4x", interface) + storage(group)
    return (body + (storage(source) if source else b"")).hex()


class Remote:
    """A socket of a program under `postern run`."""

    def __init__(self, world, family=4):
        self.app = world.program("python3", world.staging.bin / "remote_socket.py", str(family))
        self.app.expect_ready()

    def __getattr__(self, name):
        def call(*args):
            self.app.tell(json.dumps({"call": name, "args": args}) + "\n")
            answer = self.app.result()
            return answer["errno"] if "errno" in answer else answer["value"]
        return call

    def ok(self, name, *args):
        value = getattr(self, name)(*args)
        assert not isinstance(value, str), f"{name}{args}: {value}"
        return value

    def member(self, group, port=PORT, share=True):
        """Bound to the port alone, and joined."""
        if share:
            self.ok("setsockopt", socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        v6 = ":" in group
        self.ok("bind", "::" if v6 else "0.0.0.0", port)
        self.ok("setsockopt", IPV6 if v6 else IP, 20 if v6 else 35, mreq6(group) if v6 else mreq(group))
        return self


def sender(v6=False, ttl=1):
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    if v6:
        sock.setsockopt(IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(WIRE))
        sock.setsockopt(IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
    else:
        sock.setsockopt(IP, socket.IP_MULTICAST_IF, socket.inet_aton(LINUX))
        sock.setsockopt(IP, socket.IP_MULTICAST_TTL, ttl)
    return sock


class Router:
    """Sees the reports, and asks."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((WIRE, 3))
        run("ip", "link", "set", WIRE, "allmulticast", "on")
        self.mac = self.sock.getsockname()[4]

    def reports(self, seconds, wanted=None):
        """Records as (type, group, {sources}) that arrive in that time; ends when `wanted` is among
        them. Old messages have their type in place of a record's: 0x12, 0x16, 0x17, 131, 132."""
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                frame, address = self.sock.recvfrom(65536)
            except TimeoutError:
                break
            if address[2] == 4:  # outgoing
                continue
            found += self.records(frame)
            if wanted is not None and wanted in found:
                break
        return found

    def records(self, frame):
        if frame[12:14] == b"\x08\x00" and frame[23] == 2:
            ip = frame[14:]
            header = (ip[0] & 15) * 4
            assert ip[8] == 1 and header == 24 and ip[20:24] == b"\x94\x04\x00\x00", "TTL 1, router alert"
            assert ip[1] == 0xc0, "RFC 3376 4"
            assert str(ipaddress.ip_address(ip[12:16])) == POSTERN
            message = ip[header:int.from_bytes(ip[2:4], "big")]
            assert checksum(message) == 0
            if message[0] != 0x22:
                return [(message[0], str(ipaddress.ip_address(message[4:8])), frozenset())]
            assert str(ipaddress.ip_address(ip[16:20])) == "224.0.0.22"
            return self.parse(message, 4)
        if frame[12:14] == b"\x86\xdd" and frame[20] == 0 and frame[54] == 58 and \
                frame[62] in (131, 132, 143):
            assert frame[21] == 1 and frame[56:60] == b"\x05\x02\x00\x00", "hop limit 1, router alert"
            message = frame[62:]
            if message[0] != 143:
                return [(message[0], str(ipaddress.ip_address(message[8:24])), frozenset())]
            assert str(ipaddress.ip_address(frame[38:54])) == "ff02::16"
            return self.parse(message, 16)
        return []

    @staticmethod
    def parse(message, size):
        records, at = [], 8
        for _ in range(int.from_bytes(message[6:8], "big")):
            kind, count = message[at], int.from_bytes(message[at + 2:at + 4], "big")
            group = str(ipaddress.ip_address(message[at + 4:at + 4 + size]))
            at += 4 + size
            sources = [str(ipaddress.ip_address(message[at + i * size:at + (i + 1) * size]))
                       for i in range(count)]
            at += count * size
            records.append((kind, group, frozenset(sources)))
        assert at == len(message), "nothing behind the last record"
        return records

    def query4(self, group="0.0.0.0", sources=(), code=10, version=3, to=None):
        body = struct.pack("!BBH4s", 0x11, code, 0, packed(group))
        if version == 3:
            body += struct.pack("!BBH", 2, 125, len(sources)) + b"".join(map(packed, sources))
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        to = to or ("224.0.0.1" if group == "0.0.0.0" else group)
        ip = struct.pack("!BBHHHBBH4s4s4s", 0x46, 0xc0, 24 + len(body), 0, 0, 1, 2, 0, packed(LINUX),
                         packed(to), b"\x94\x04\x00\x00")
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        mac = b"\x01\x00\x5e" + bytes([packed(to)[1] & 0x7f]) + packed(to)[2:]
        self.sock.send(mac + self.mac + b"\x08\x00" + ip + body)

    def query6(self, group="::", sources=(), delay=1000, version=2, hops=1, source="fe80::1", alert=True):
        body = struct.pack("!BBHHH16s", 130, 0, 0, delay, 0, packed(group))
        if version == 2:
            body += struct.pack("!BBH", 2, 125, len(sources)) + b"".join(map(packed, sources))
        to = packed("ff02::1" if group == "::" else group)
        pseudo = packed(source) + to + struct.pack("!II", len(body), 58)
        body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
        options = b"\x3a\x00\x05\x02\x00\x00\x01\x00" if alert else b"\x3a\x00\x01\x04\x00\x00\x00\x00"
        ip = struct.pack("!IHBB", 6 << 28, len(options) + len(body), 0, hops) + packed(source) + to
        self.sock.send(b"\x33\x33" + to[12:] + self.mac + b"\x86\xdd" + ip + options + body)


NONE = frozenset()
IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = range(1, 7)


# ---- receiving ----

@case(seconds=90)
def every_member_gets_a_copy(world):
    """Three programs, two of them on one port and group; a fourth that has joined another group."""
    start6(world)
    for group, another in ((GROUP4, "239.9.9.9"), (GROUP6, "ff15::99")):
        v6 = ":" in group
        members = [Remote(world, 6 if v6 else 4).member(group) for _ in range(2)]
        elsewhere = Remote(world, 6 if v6 else 4).member(group, port=PORT + 1)
        stranger = Remote(world, 6 if v6 else 4).member(another)
        stranger.ok("setsockopt", IPV6 if v6 else IP, 29 if v6 else IP_MULTICAST_ALL, 0)
        time.sleep(0.2)  # options are told to the worker, who does not answer
        with sender(v6) as sock:
            for n in range(3):
                sock.sendto(b"to all %d" % n, (group, PORT))
        for member in members:
            for n in range(3):
                data, _ = member.ok("receive", 5)
                assert bytes.fromhex(data) == b"to all %d" % n
        for other in (stranger, elsewhere):
            answer = other.receive(0.3)
            assert answer is None, answer
        for each in (*members, elsewhere, stranger):
            each.close()


@case
def leaving_and_dying_end_membership(world):
    world.start()
    router = Router()
    member = Remote(world).member(GROUP4)
    assert (TO_EX, GROUP4, NONE) in router.reports(5, (TO_EX, GROUP4, NONE))
    router.reports(1.5)
    assert member.setsockopt(IP, socket.IP_DROP_MEMBERSHIP, mreq(GROUP4)) is None
    assert (TO_IN, GROUP4, NONE) in router.reports(5, (TO_IN, GROUP4, NONE))
    assert member.setsockopt(IP, socket.IP_DROP_MEMBERSHIP, mreq(GROUP4)) == "EADDRNOTAVAIL"
    before = drop_counts(world).get("ip4_not_ours", 0)
    with sender() as sock:
        sock.sendto(b"nobody", (GROUP4, PORT))
    wait_until(lambda: drop_counts(world).get("ip4_not_ours", 0) > before, 5, "it is not ours any more")
    member.ok("setsockopt", IP, socket.IP_ADD_MEMBERSHIP, mreq(GROUP4))
    router.reports(2)
    member.app.kill()
    assert (TO_IN, GROUP4, NONE) in router.reports(5, (TO_IN, GROUP4, NONE)), "the dead leave"


@case
def membership_before_bind_counts_from_bind_on(world):
    world.start()
    router = Router()
    early = Remote(world)
    early.ok("setsockopt", IP, socket.IP_ADD_MEMBERSHIP, mreq(GROUP4, POSTERN))
    early.ok("bind", GROUP4, PORT)
    assert (TO_EX, GROUP4, NONE) in router.reports(5, (TO_EX, GROUP4, NONE))
    with sender() as sock:
        sock.sendto(b"early", (GROUP4, PORT))
    assert early.ok("receive", 5)[0] == b"early".hex()


@case
def source_filters(world):
    """Each form of the options, on two sources."""
    world.start()
    run("ip", "addr", "add", "192.0.2.77/24", "dev", WIRE)
    router = Router()
    member = Remote(world)
    member.ok("bind", "0.0.0.0", PORT)

    def heard(source):
        with sender() as sock:
            sock.bind((source, 0))
            sock.sendto(b"x", (GROUP4, PORT))
        answer = member.receive(0.4)
        assert answer is None or answer[1] == source
        return answer is not None

    member.ok("setsockopt", IP, IP_ADD_SOURCE, mreq_source(GROUP4, LINUX))
    assert (ALLOW, GROUP4, frozenset([LINUX])) in router.reports(5, (ALLOW, GROUP4, frozenset([LINUX])))
    assert heard(LINUX) and not heard("192.0.2.77")
    assert drop_counts(world)["udp_source_filtered"] >= 1
    assert member.setsockopt(IP, IP_BLOCK_SOURCE, mreq_source(GROUP4, LINUX)) == "EINVAL"
    member.ok("setsockopt", IP, MCAST_JOIN_SOURCE, group_req(GROUP4, "192.0.2.77"))
    assert heard(LINUX) and heard("192.0.2.77")
    member.ok("setsockopt", IP, IP_DROP_SOURCE, mreq_source(GROUP4, LINUX))
    assert not heard(LINUX) and heard("192.0.2.77")
    member.ok("setsockopt", IP, IP_DROP_SOURCE, mreq_source(GROUP4, "192.0.2.77"))
    assert member.setsockopt(IP, socket.IP_DROP_MEMBERSHIP, mreq(GROUP4)) == "EADDRNOTAVAIL", "left"
    member.ok("setsockopt", IP, MCAST_JOIN_GROUP, group_req(GROUP4))
    member.ok("setsockopt", IP, IP_BLOCK_SOURCE, mreq_source(GROUP4, LINUX))
    assert not heard(LINUX) and heard("192.0.2.77")
    member.ok("setsockopt", IP, IP_UNBLOCK_SOURCE, mreq_source(GROUP4, LINUX))
    assert heard(LINUX)
    member.ok("setsockopt", IP, MCAST_LEAVE_GROUP, group_req(GROUP4))
    assert not heard(LINUX)


@case
def memberships_are_bounded(world):
    world.start()
    member = Remote(world)
    member.ok("bind", "0.0.0.0", PORT)
    results = [member.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, mreq(f"239.0.0.{n}")) for n in range(25)]
    assert results == [None] * 20 + ["ENOBUFS"] * 5, results
    assert member.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, mreq("239.0.0.1")) == "EADDRINUSE"
    assert member.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, mreq("192.0.2.9")) == "EINVAL"
    assert member.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, mreq("239.1.1.1", "198.51.100.1")) == "ENODEV"
    assert member.setsockopt(IP, MCAST_JOIN_GROUP, group_req("239.1.1.1", interface=99)) == "ENODEV"
    member.ok("setsockopt", IP, socket.IP_DROP_MEMBERSHIP, mreq("239.0.0.0"))
    results = [member.setsockopt(IP, IP_ADD_SOURCE, mreq_source(GROUP4, f"10.0.0.{n}")) for n in range(1, 20)]
    assert results == [None] * 16 + ["ENOBUFS"] * 3, results


# ---- the router's part ----

@case
def queries_are_answered_in_the_version_of_the_router(world):
    start6(world)
    router = Router()
    member4, member6 = Remote(world).member(GROUP4), Remote(world, 6).member(GROUP6)
    router.reports(2.5)
    router.query4()
    router.query6()
    found = router.reports(3)
    assert (IS_EX, GROUP4, NONE) in found and (IS_EX, GROUP6, NONE) in found, found
    solicited = [g for kind, g, _ in found if kind == IS_EX and g.startswith("ff02::1:ff")]
    assert solicited, "RFC 4861 7.2.1: the solicited-node groups"
    router.query4(GROUP4)
    router.query6(GROUP6)
    found = router.reports(3)
    assert sorted(found) == [(IS_EX, GROUP4, NONE), (IS_EX, GROUP6, NONE)], found
    router.query4("239.7.7.7")
    router.query4(GROUP4, sources=["10.9.9.9"])
    assert router.reports(2) == [(IS_IN, GROUP4, frozenset(["10.9.9.9"]))]
    router.query4(code=10, version=2)
    router.query6(delay=1000, version=1)
    found = router.reports(2)
    assert (0x16, GROUP4, NONE) in found and (131, GROUP6, NONE) in found, found
    member4.ok("setsockopt", IP, socket.IP_DROP_MEMBERSHIP, mreq(GROUP4))
    member6.ok("setsockopt", IPV6, 21, mreq6(GROUP6))
    found = router.reports(3)
    assert (0x17, GROUP4, NONE) in found and (132, GROUP6, NONE) in found, found


@case
def queries_that_cannot_be_from_the_link_are_dropped(world):
    start6(world)
    router = Router()
    Remote(world, 6).member(GROUP6)
    router.reports(2.5)
    for wrong in ({"hops": 2}, {"source": "2001:db8::1"}, {"alert": False}):
        before = drop_counts(world).get("group_bad_origin", 0)
        router.query6(**wrong)
        wait_until(lambda: drop_counts(world).get("group_bad_origin", 0) > before, 5, f"{wrong} is dropped")
    assert router.reports(1.5) == []
    before = drop_counts(world).get("group_malformed", 0)
    router.query4(sources=["10.0.0.1"])  # sources of no group
    wait_until(lambda: drop_counts(world).get("group_malformed", 0) > before, 5, "it is malformed")


# ---- sending ----

def kernel_member(group, port):
    v6 = ":" in group
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::" if v6 else "0.0.0.0", port))
    if v6:
        sock.setsockopt(IPV6, 20, packed(group) + struct.pack("=I", socket.if_nametoindex(WIRE)))
        sock.setsockopt(IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        sock.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, packed(group) + packed(LINUX))
        sock.setsockopt(IP, IP_RECVTTL, 1)
    sock.settimeout(5)
    return sock


def received(sock):
    """Payload and TTL."""
    data, control, _, _ = sock.recvmsg(65536, 256)
    return data, struct.unpack("=i", control[0][2][:4])[0]


@case
def sending_to_a_group(world):
    """TTL 1 unless set; long ones go in fragments; loop to members here, or not."""
    start6(world)
    for group, level, ttl, loop in ((GROUP4, IP, socket.IP_MULTICAST_TTL, socket.IP_MULTICAST_LOOP),
                                    (GROUP6, IPV6, socket.IPV6_MULTICAST_HOPS, socket.IPV6_MULTICAST_LOOP)):
        family = 6 if ":" in group else 4
        with kernel_member(group, PORT) as kernel:
            remote, member = Remote(world, family), Remote(world, family).member(group)
            remote.ok("sendto", b"one".hex(), group, PORT)
            assert received(kernel) == (b"one", 1)
            assert member.ok("receive", 5)[0] == b"one".hex(), "a member on this host hears it"
            assert remote.ok("getsockopt", level, ttl) == 1 and remote.ok("getsockopt", level, loop) == 1
            remote.ok("setsockopt", level, ttl, 9)
            remote.ok("setsockopt", level, loop, 0)
            assert remote.ok("getsockopt", level, ttl) == 9 and remote.ok("getsockopt", level, loop) == 0
            remote.ok("sendto", b"two".hex(), group, PORT)
            assert received(kernel) == (b"two", 9)
            assert member.receive(0.3) is None, "not looped"
            long = bytes(range(256)) * 20
            remote.ok("sendto", long.hex(), group, PORT)
            assert received(kernel)[0] == long
            remote.ok("setsockopt", level, ttl, 0)
            remote.ok("setsockopt", level, loop, 1)
            remote.ok("sendto", b"three".hex(), group, PORT)
            assert member.ok("receive", 5)[0] == b"three".hex()
            kernel.settimeout(0.3)
            try:
                raise AssertionError(f"TTL 0 left the host: {received(kernel)}")
            except TimeoutError:
                pass
            for each in (remote, member):
                each.close()


@case
def broadcasts(world):
    """SO_BROADCAST, and what arrives at every socket on the port."""
    world.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        kernel.bind(("0.0.0.0", PORT))
        kernel.settimeout(5)
        remote = Remote(world)
        assert remote.sendto(b"x".hex(), "255.255.255.255", PORT) == "EACCES"
        remote.sendto(b"x".hex(), "192.0.2.255", PORT)  # told later: the client does not know the networks
        assert remote.receive(5) == "EACCES"
        remote.ok("setsockopt", socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        assert remote.ok("getsockopt", socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
        for address in ("255.255.255.255", "192.0.2.255"):
            remote.ok("sendto", address.encode().hex(), address, PORT)
            data, peer = kernel.recvfrom(100)
            assert data == address.encode() and peer[0] == POSTERN
        receivers = [Remote(world), Remote(world)]
        for receiver in receivers:
            receiver.ok("setsockopt", socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            receiver.ok("bind", "0.0.0.0", PORT + 1)
        kernel.sendto(b"limited", ("192.0.2.255", PORT + 1))
        for receiver in receivers:
            assert receiver.ok("receive", 5) == [b"limited".hex(), LINUX]
    assert not any(row["address"].endswith(".255") for row in world.show("neigh")), "nobody asks for it"


@case(seconds=90)
def several_workers_agree_about_membership(world):
    """Datagrams of many senders fall to either worker; one of the two reports."""
    world.start(workers={"cores": [0, 1], "idle": "adaptive"})
    router = Router()
    member = Remote(world).member(GROUP4)
    found = router.reports(2.5)
    assert found == [(TO_EX, GROUP4, NONE)] * 2, found
    for n in range(32):
        with sender() as sock:
            sock.sendto(b"%d" % n, (GROUP4, PORT))
        assert member.ok("receive", 5)[0] == (b"%d" % n).hex()
    router.query4()
    assert router.reports(2) == [(IS_EX, GROUP4, NONE)]
