"""Frames of IPv4 that no honest host sends, each with the name under which Postern drops it."""
import socket
import struct


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Frames:
    """Builds frames to posternd from a host with a MAC and an address; a keyword spoils one field."""

    def __init__(self, ours, theirs, source, target):
        self.theirs, self.ours = (bytes.fromhex(m.replace(":", "")) for m in (theirs, ours))
        self.source, self.target = socket.inet_aton(source), socket.inet_aton(target)

    def ethernet(self, payload, kind=0x0800, target=None, source=None):
        return (target or self.theirs) + (source or self.ours) + struct.pack("!H", kind) + payload

    def ip(self, payload, protocol, *, version=4, ihl=5, length=None, sum_error=0, source=None,
           target=None, fragment=0, options=b""):
        length = 4 * ihl + len(payload) if length is None else length
        head = struct.pack("!BBHHHBBH4s4s", version << 4 | ihl, 0, length, 1, fragment, 64, protocol,
                           0, source or self.source, target or self.target) + options
        value = checksum(head) ^ sum_error
        head = head[:10] + struct.pack("!H", value) + head[12:]
        return self.ethernet(head + payload)

    def pseudo(self, payload, protocol, ip):
        source, target = ip.get("source") or self.source, ip.get("target") or self.target
        return source + target + struct.pack("!BBH", 0, protocol, len(payload))

    def udp(self, data=b"datagram", port=7, udp_length=None, sum_error=0, **ip):
        length = 8 + len(data) if udp_length is None else udp_length
        head = struct.pack("!HHHH", 4000, port, length, 0)
        value = checksum(self.pseudo(head + data, 17, ip) + head + data) or 0xffff
        head = head[:6] + struct.pack("!H", value ^ sum_error)
        return self.ip(head + data, 17, **ip)

    def tcp(self, data=b"", port=7, offset=5, flags=0x02, sum_error=0, options=b"", **ip):
        head = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, offset << 4, flags, 1000, 0, 0) + options
        value = checksum(self.pseudo(head + data, 6, ip) + head + data) ^ sum_error
        head = head[:16] + struct.pack("!H", value) + head[18:]
        return self.ip(head + data, 6, **ip)

    def icmp(self, sum_error=0, kind=8, data=b"ping"):
        head = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + data
        value = checksum(head) ^ sum_error
        return self.ip(head[:2] + struct.pack("!H", value) + head[4:], 1)

    def arp(self, **spoil):
        field = {"hardware": 1, "protocol": 0x0800, "hlen": 6, "plen": 4, "op": 1,
                 "target": self.target, **spoil}
        body = struct.pack("!HHBBH", field["hardware"], field["protocol"], field["hlen"],
                           field["plen"], field["op"])
        body += self.ours + self.source + bytes(6) + field["target"]
        return self.ethernet(body, kind=0x0806, target=b"\xff" * 6)


def spoiled(f):
    """(drop reason, frame) for each kind of spoiled frame."""
    multicast = b"\x01\x00\x5e\x00\x00\x01"
    return [
        ("eth_not_ours", b"\x02\0\0\0\0\x99" + f.udp()[6:]),
        ("eth_bad_source", f.ethernet(b"x" * 46, source=multicast)),
        ("eth_unknown_type", f.ethernet(b"x" * 46, kind=0x88b5)),
        ("arp_malformed", f.arp(hlen=8)),
        ("arp_malformed", f.arp(hardware=9)),
        ("arp_not_for_us", f.arp(target=socket.inet_aton("192.0.2.77"))),
        ("ip4_malformed", f.udp(version=5)),
        ("ip4_malformed", f.udp(ihl=4)),
        ("ip4_malformed", f.udp(length=4000)),
        ("ip4_malformed", f.udp(length=19)),
        ("ip4_malformed", f.ethernet(b"\x45\x00\x00")),
        ("ip4_bad_checksum", f.ip(b"x" * 20, 17, sum_error=0x1111)),
        ("ip4_bad_source", f.udp(source=socket.inet_aton("224.0.0.1"))),
        ("ip4_not_ours", f.udp(target=socket.inet_aton("192.0.2.77"))),
        ("ip_unknown_protocol", f.ip(b"x" * 20, 253)),
        ("icmp_bad_checksum", f.icmp(sum_error=1)),
        ("icmp_malformed", f.ip(b"\x08\x00\xf7", 1)),
        ("udp_malformed", f.udp(udp_length=7)),
        ("udp_malformed", f.udp(udp_length=1000)),
        ("udp_malformed", f.ip(b"\x0f\xa0\x00\x07", 17)),
        ("udp_bad_checksum", f.udp(sum_error=0x1111)),
        ("udp_no_socket", f.udp(port=9)),
        ("tcp_malformed", f.tcp(offset=4)),
        ("tcp_malformed", f.tcp(offset=15)),
        ("tcp_malformed", f.ip(b"x" * 19, 6)),
        ("tcp_bad_checksum", f.tcp(sum_error=0x1111)),
        ("tcp_bad_flags", f.tcp(flags=0x03)),
        ("tcp_bad_flags", f.tcp(flags=0x00)),
        ("tcp_no_socket", f.tcp(port=9)),
    ]
