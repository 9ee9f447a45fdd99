#!/usr/bin/env python3
"""Tags of IEEE 802.1Q where the kernel has no vlan device: what comes on an interface goes out on the
wire with its tag, and back.

    tagger.py WIRE TAG=INTERFACE...

Prints "ready". The other end of each INTERFACE, a veth, is as good as the kernel's WIRE.TAG."""
import select
import socket
import struct
import sys

ETH_P_ALL, ETH_P_8021Q = 3, 0x8100
SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 263, 8, 4
TP_STATUS_VLAN_VALID = 1 << 4
AUXDATA = "=IIIHHHH"


def open_raw(name):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((name, ETH_P_ALL))
    return sock


def take(sock):
    """A frame that arrived, without its tag, and the tag; (None, 0) if the frame only left."""
    frame, control, _, address = sock.recvmsg(65536, 256)
    if address[2] == PACKET_OUTGOING:
        return None, 0
    for level, kind, data in control:
        if level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, *_, tci, _ = struct.unpack(AUXDATA, data[:struct.calcsize(AUXDATA)])
            return frame, tci & 0xfff if status & TP_STATUS_VLAN_VALID else 0
    return frame, 0


def main():
    wire = open_raw(sys.argv[1])
    by_tag, by_socket = {}, {}
    for word in sys.argv[2:]:
        tag, name = word.split("=")
        sock = open_raw(name)
        by_tag[int(tag)], by_socket[sock] = sock, int(tag)
    print("ready", flush=True)
    while True:
        for sock in select.select([wire, *by_socket], [], [])[0]:
            frame, tag = take(sock)
            if frame is None:
                continue
            if sock is wire and tag in by_tag:
                by_tag[tag].send(frame)
            elif sock is not wire and tag == 0:
                wire.send(frame[:12] + struct.pack("!HH", ETH_P_8021Q, by_socket[sock]) + frame[12:])


main()
