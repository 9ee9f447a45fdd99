#!/usr/bin/env python3
"""Writes a capture of malformed frames for pktgen to send: those of tests/system/spoiled_frames.py, one of
each, and as many good datagrams to the echo server. What is to be dropped, by name, goes to the output."""
import argparse
import collections
import pathlib
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/system"))

from spoiled_frames import Frames, spoiled  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="pktgen's IPv4 address")
    parser.add_argument("--source-mac", default="02:00:00:00:00:02")
    parser.add_argument("--target", required=True, help="posternd's IPv4 address")
    parser.add_argument("--target-mac", required=True)
    parser.add_argument("file", type=pathlib.Path)
    o = parser.parse_args()
    frames = Frames(o.source_mac, o.target_mac, o.source, o.target)
    bad = spoiled(frames)
    out = struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1)
    for _, frame in bad:
        for data in (frame, frames.udp()):
            data += bytes(max(0, 60 - len(data)))
            out += struct.pack("<IIII", 0, 0, len(data), len(data)) + data
    o.file.write_bytes(out)
    for reason, count in collections.Counter(reason for reason, _ in bad).items():
        print(f"{count:3} of {2 * len(bad)}  {reason}")


if __name__ == "__main__":
    main()
