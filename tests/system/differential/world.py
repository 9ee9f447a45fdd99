"""The two sides of the comparison, and the peer that both of them talk to."""
import json
import re
import select
import socket
import struct

LINGER_RESET = struct.pack("ii", 1, 0)


class Hang(Exception):
    """The subject did not answer in time."""


class Side:
    """A subject (a process that makes the calls) and the addresses of its network.

    `peer` is the address of this process as the subject sees it, `address` the subject's own.
    """

    def __init__(self, name, process, peer, address):
        self.name = name
        self.process = process
        self.peer = peer
        self.address = address
        self.open = []  # of the peer
        self.port = 20000

    def __call__(self, operation, *arguments, seconds=10):
        """Has the subject make a call; returns what came of it, in words common to both sides."""
        self.process.stdin.write(json.dumps([operation, *arguments]) + "\n")
        self.process.stdin.flush()
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not readable:
            raise Hang(f"{operation} {arguments}")
        line = self.process.stdout.readline()
        if not line:
            raise Hang(f"the subject ended in {operation} {arguments}")
        return self.common(json.loads(line))

    def common(self, text):
        """Addresses and chosen ports by role: they differ between the sides, and between runs."""
        text = text.replace(self.peer, "PEER").replace(self.address, "SUBJECT")
        return re.sub(r":(\d+)", lambda m: ":" + self._port_role(int(m.group(1))), text)

    @staticmethod
    def _port_role(port):
        if port >= 32768:
            return "ephemeral"
        return "bound" if port >= 20000 else str(port)

    def next_port(self):
        """A port that no earlier sequence has used."""
        self.port += 1
        return self.port

    # ---- the peer: this process, over the kernel ----

    def listener(self, port=0):
        return self._keep(self._tcp(port, backlog=16))

    def _tcp(self, port=0, backlog=None):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(5)
        sock.bind((self.peer, port))
        if backlog is not None:
            sock.listen(backlog)
        return sock

    def udp(self):
        sock = self._keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((self.peer, 0))
        sock.settimeout(5)
        return sock

    def closed_port(self):
        """A port of the peer that refuses."""
        sock = self._tcp()
        port = sock.getsockname()[1]
        sock.close()
        return port

    def reach(self, port):
        """The peer opens a connection to the subject."""
        sock = self._keep(self._tcp())
        sock.connect((self.address, port))
        return sock

    def _keep(self, sock):
        self.open.append(sock)
        return sock

    @staticmethod
    def reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        sock.close()

    def forget(self):
        for sock in self.open:
            sock.close()
        self.open.clear()
        self("forget")
