"""What no honest host sends, made with scapy: what is answered, and by which name the rest is dropped."""
import json
import subprocess

from cases_ipv6 import LINUX6, POSTERN6, serve6, start6, udp6
from cases_malformed import drop_counts
from harness import POSTERN, WIRE, Skip, case, wait_until

PYTHON = "/usr/bin/python3"  # Debian's, for which Debian's scapy is

# A JSON line {name: [[type, code, pointer], ...]} of the ICMP that each packet is answered with.
SENDER = """
import json, sys, time
from scapy.all import (AsyncSniffer, Ether, IP, IPv6, ICMP, TCP, UDP, Raw, sendp, conf, fragment,
                       IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, IPv6ExtHdrFragment,
                       HBHOptUnknown, PadN, ICMPv6ParamProblem, ICMPv6DestUnreach, ICMPv6EchoRequest,
                       ICMPv6ND_NS, IPOption_LSRR)
wire, theirs, ours4, ours6, mine4, mine6 = sys.argv[1:]
conf.verb = 0
ether = Ether(dst=theirs)
four, six = ether / IP(src=mine4, dst=ours4), ether / IPv6(src=mine6, dst=ours6)
datagram = UDP(sport=4000, dport=9) / Raw(b"x" * 32)
def option(kind):
    return IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=kind, optdata=b"1234")])
PACKETS = {
    "closed port": [four / datagram],
    "closed port 6": [six / datagram],
    "protocol": [four / Raw(b"z" * 16)],
    "protocol 6": [ether / IPv6(src=mine6, dst=ours6, nh=200) / Raw(b"z" * 16)],
    "option to tell": [six / option(0x9e) / datagram],
    "option to drop": [six / option(0x5e) / datagram],
    "option to skip": [six / option(0x1e) / datagram],
    "routing 0": [six / IPv6ExtHdrRouting(type=0, segleft=1, addresses=[mine6]) / datagram],
    "hop-by-hop second": [six / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"1234")]) /
                          IPv6ExtHdrHopByHop(options=[PadN(optdata=b"1234")]) / datagram],
    "nothing behind": [ether / IPv6(src=mine6, dst=ours6, nh=59) / Raw(b"z" * 16)],
    "source route": [ether / IP(src=mine4, dst=ours4, options=[IPOption_LSRR(routers=[mine4])]) / datagram],
    "no checksum 6": [six / UDP(sport=4000, dport=9, chksum=0) / Raw(b"x")],
    "xmas": [four / TCP(sport=4000, dport=7, flags="FPU")],
    "syn fin": [six / TCP(sport=4000, dport=7, flags="SF")],
    "land": [ether / IP(src=ours4, dst=ours4) / TCP(sport=7, dport=7, flags="S")],
    "tiny 6": [six / IPv6ExtHdrFragment(nh=6, offset=0, m=1, id=14) / Raw(b"12345678")],
    "uneven 6": [six / IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=15) / Raw(b"123456789")],
    "far solicitation": [ether / IPv6(src=mine6, dst=ours6, hlim=64) / ICMPv6ND_NS(tgt=ours6)],
    "redirect 4": [four / ICMP(type=5, code=1, gw=mine4) / IP(src=ours4, dst="198.51.100.1") / UDP()],
}
PACKETS["protocol"][0][IP].proto = 200
def said(packet):
    for kind in (ICMPv6ParamProblem, ICMPv6DestUnreach, ICMP):
        if kind in packet:
            p = packet[kind]
            return [p.type, p.code, getattr(p, "ptr", 0) or 0]
answers = {}
sniffer = AsyncSniffer(iface=wire, store=True, lfilter=lambda p: p.src == theirs)
for name, packets in PACKETS.items():
    sniffer.start()
    time.sleep(0.15)
    for packet in packets:
        sendp(packet, iface=wire)
    time.sleep(0.25)
    got = [said(p) for p in sniffer.stop()]
    answers[name] = [a for a in got if a]
print(json.dumps(answers))
"""

ANSWERED = {
    "closed port": [3, 3, 0], "closed port 6": [1, 4, 0], "protocol": [3, 2, 0],
    "protocol 6": [4, 1, 6], "option to tell": [4, 2, 42], "option to skip": [1, 4, 0],
    "routing 0": [4, 0, 42], "hop-by-hop second": [4, 1, 40], "tiny 6": [4, 3, 0],
    "uneven 6": [4, 0, 4],
}
# How often each reason, besides those that closed ports make.
DROPPED = {
    "ip_unknown_protocol": 3, "ip6_bad_extension": 5, "ip4_bad_option": 1, "udp_bad_checksum": 1,
    "tcp_bad_flags": 2, "ip_source_ours": 1, "ip_fragment_tiny": 1, "nd_bad_hop_limit": 1,
}


@case(seconds=180)
def scapy_is_answered_or_dropped_by_name(world):
    if subprocess.run([PYTHON, "-c", "import scapy.all"], check=False, capture_output=True).returncode:
        raise Skip("python3-scapy is not installed")
    start6(world)
    serve6(world)
    with udp6() as sock:
        sock.send(b"before")
        assert sock.recv(100) == b"before"
    mac = world.show("link")[0]["mac"]
    before = drop_counts(world)
    done = subprocess.run([PYTHON, "-c", SENDER, WIRE, mac, POSTERN, POSTERN6, "192.0.2.1", LINUX6],
                          check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout)
    for name, said in answers.items():
        wanted = [ANSWERED[name]] if name in ANSWERED else []
        assert said == wanted, (name, said, wanted)

    def news():
        now = drop_counts(world)
        return {reason: now.get(reason, 0) - before.get(reason, 0) for reason in DROPPED}
    wait_until(lambda: news() == DROPPED, 10, f"drops by name: {drop_counts(world)}, before {before}")
    with udp6() as sock:
        sock.send(b"after")
        assert sock.recv(100) == b"after"
