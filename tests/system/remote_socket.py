#!/usr/bin/env python3
"""A datagram socket that a test has calls made on, one JSON line each: {"call": NAME, "args": [...]}.
Bytes are hexadecimal. Answers {"value": ...} or {"errno": NAME}."""
import errno
import json
import socket
import sys


def main():
    family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)

    def setsockopt(level, option, value):
        sock.setsockopt(level, option, bytes.fromhex(value) if isinstance(value, str) else value)

    def getsockopt(level, option):
        return sock.getsockopt(level, option)

    def bind(address, port):
        sock.bind((address, port))
        return sock.getsockname()[1]

    def sendto(data, address, port):
        return sock.sendto(bytes.fromhex(data), (address, port))

    def receive(seconds):
        sock.settimeout(seconds)
        try:
            data, sender = sock.recvfrom(65536)
        except TimeoutError:
            return None
        return [data.hex(), sender[0]]

    calls = {f.__name__: f for f in (setsockopt, getsockopt, bind, sendto, receive)}
    calls["close"] = sock.close
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": calls[request["call"]](*request.get("args", []))}
        except OSError as error:
            answer = {"errno": errno.errorcode.get(error.errno, str(error.errno))}
        print(json.dumps(answer), flush=True)


main()
