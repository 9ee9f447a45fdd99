"""Errors of single datagrams: IP_RECVERR and MSG_ERRQUEUE, beside the kernel's, and the programs that
live on them."""
import json
import re
import subprocess

from cases_path_mtu import FAR, FAR6, LINUX6, NARROW, NEAR, NEAR6, POSTERN6, start
from harness import LINUX, POSTERN, case, run

# What a socket hears, as JSON: errno, origin, type, code, info, offender, destination, payload.
LISTENER = """
import errno, json, select, socket, struct, sys
host, closed = sys.argv[1], 4321
v6 = ":" in host
family = socket.AF_INET6 if v6 else socket.AF_INET
level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
RECVERR, DISCOVER, TTL = (25, 23, 16) if v6 else (11, 10, 2)

def opened(want=1):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(level, RECVERR, want)
    assert sock.getsockopt(level, RECVERR) == want
    return sock

def queued(sock):
    poll = select.poll()
    poll.register(sock, 0)
    if not poll.poll(3000):
        return "nothing"
    data, control, flags, name = sock.recvmsg(2000, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    (got_level, got_type, block), = control
    assert (got_level, got_type) == (level, RECVERR) and flags & socket.MSG_ERRQUEUE, (control, flags)
    error, origin, kind, code, _, info, _ = struct.unpack("=IBBBBII", block[:16])
    offender = ""
    if origin != 1:
        offender = socket.inet_ntop(family, block[24:40] if v6 else block[20:24])
    return [errno.errorcode[error], origin, kind, code, info, offender, name[0], name[1], data.decode()]

def refusal(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]

def empty(sock):
    return refusal(lambda: sock.recvmsg(2000, 512, socket.MSG_ERRQUEUE))

out = {}
with opened() as sock:  # nobody listens; not connected
    sock.sendto(b"one", (host, closed))
    out["closed"] = queued(sock)
    out["then"] = [empty(sock), sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
with opened() as sock:  # two, of which the application hears one after the other
    sock.sendto(b"a", (host, closed))
    first = queued(sock)
    sock.sendto(b"b", (host, closed))
    out["again"] = [first, queued(sock), empty(sock)]
with opened() as sock:  # a call fails before the queue is read, which is still there
    sock.connect((host, closed))
    sock.send(b"two")
    out["receive"] = [refusal(lambda: sock.recv(100)), queued(sock), empty(sock)]
with opened() as sock:  # no further than the first router
    sock.setsockopt(level, TTL, 1)
    sock.sendto(b"three", (host, closed))
    out["hops"] = queued(sock)
with opened() as sock:  # more than the link carries; whether the call fails is not compared
    sock.setsockopt(level, DISCOVER, 2)
    refusal(lambda: sock.sendto(bytes(2000), (host, closed)))
    out["long"] = queued(sock)
with opened(0) as sock:  # who does not ask hears nothing
    sock.sendto(b"four", (host, closed))
    out["deaf"] = queued(sock) if select.select([sock], [], [], 0.5)[0] else "nothing"
with opened(0) as sock:
    sock.setsockopt(level, DISCOVER, 2)
    out["refused"] = refusal(lambda: sock.sendto(bytes(1473 if not v6 else 1453), (host, closed)))
    out["huge"] = refusal(lambda: sock.sendto(bytes(65508), (host, closed)))
print(json.dumps(out), flush=True)
"""


def listened(text, router, target, mtu):
    """The answer with the addresses of that side replaced by their roles."""
    for address, role in ((router, "router"), (target, "target")):
        text = text.replace(f'"{address}"', f'"{role}"')
    said = json.loads(text)
    assert said["long"][4] == mtu, (said["long"], mtu)
    said["long"][4] = "the link's"
    return said


# proves: 4443-16, 4443-18, 1122-24, 1122-27, 1122-43
@case(seconds=180)
def the_queue_says_what_the_kernels_says(world):
    far = start(world)
    for router, target, kernels_router, kernels_target in (
            (LINUX, FAR, NEAR, POSTERN), (LINUX6, FAR6, NEAR6, POSTERN6)):
        said = {}
        app = world.program("python3", "-c", LISTENER, target)
        said["postern"] = listened(app.line(40), router, target, 1500)
        said["kernel"] = listened(far.run("python3", "-c", LISTENER, kernels_target), kernels_router,
                                  kernels_target, NARROW)
        for name in said["kernel"]:
            assert said["postern"][name] == said["kernel"][name], (
                name, said["postern"][name], said["kernel"][name])
        assert said["kernel"]["hops"][5] == "router" and said["kernel"]["closed"][5] == "target"


NARROW_PATH = """
import errno, select, socket, struct, sys, time
host = sys.argv[1]
v6 = ":" in host
level, RECVERR, DISCOVER = (socket.IPPROTO_IPV6, 25, 23) if v6 else (socket.IPPROTO_IP, 11, 10)
sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(level, RECVERR, 1)
sock.setsockopt(level, DISCOVER, 2)
for size in (1400, 1350):
    sock.sendto(bytes(size), (host, 4321))
    poll = select.poll()
    poll.register(sock, 0)
    assert poll.poll(5000), size
    _, control, _, _ = sock.recvmsg(2000, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    error, origin, kind, code, _, info, _ = struct.unpack("=IBBBBII", control[0][2][:16])
    print(errno.errorcode[error], origin, info, flush=True)
"""


# proves: 4443-17, 8201-8
@case(seconds=90)
def the_mtu_of_the_path_is_told(world):
    """By the router at first, then by Postern itself, which knows."""
    start(world)
    for host, origin in ((FAR, 2), (FAR6, 3)):
        app = world.program("python3", "-c", NARROW_PATH, host)
        assert app.line(40) == f"EMSGSIZE {origin} {NARROW}"
        assert app.line(40) == f"EMSGSIZE 1 {NARROW}"


def output_of(app, seconds):
    app.process.wait(seconds)
    return app.process.stdout.read()


# proves: 4443-18, 1122-27
@case(seconds=90, needs=("traceroute",))
def traceroute_finds_the_way(world):
    start(world)
    for host, router in ((FAR, LINUX), (FAR6, LINUX6)):
        app = world.program("traceroute", "-n", "-w", "2", "-m", "5", host)
        text = output_of(app, 40)
        hops = re.findall(r"^ *(\d+)  (\S+) ", text, re.M)
        assert hops == [("1", router), ("2", host)], text
        assert "*" not in text, text


@case(seconds=90, needs=("tracepath",))
def tracepath_finds_the_way_and_its_mtu(world):
    start(world)
    for host, router in ((FAR, LINUX), (FAR6, LINUX6)):
        app = world.program("tracepath", "-n", "-m", "5", host)
        text = output_of(app, 60)
        assert re.search(rf"^ *1: +{router} ", text, re.M), text
        assert re.search(rf"^ *2: +{host} .*reached", text, re.M), text
        assert f"pmtu {NARROW}" in text and re.search(rf"Resume: pmtu {NARROW} hops 2 back", text), text


# A stream hears what does not end it: the far host becomes unreachable, and reachable again.
STREAM = """
import errno, select, socket, sys, time
host = sys.argv[1]
v6 = ":" in host
sock = socket.create_connection((host, 9000), timeout=10)
sock.setsockopt(socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP, 25 if v6 else 11, 1)
print("ready", flush=True)
sys.stdin.readline()
sock.setblocking(False)
sock.send(b"lost at first")
error = 0
for _ in range(100):
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        break
    time.sleep(0.05)
print(errno.errorcode.get(error, "nothing"), flush=True)
sys.stdin.readline()
sock.settimeout(20)
while True:  # until then each attempt is told of
    try:
        print(sock.recv(100).decode(), flush=True)
        break
    except OSError as error:
        assert error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH), error
"""

SERVER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 9000), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("ready", flush=True)
conn, _ = listener.accept()
conn.sendall(b"got " + conn.recv(100))
conn.recv(1)
"""


@case(seconds=90)
def a_stream_hears_at_once_and_goes_on(world):
    far = start(world)
    for host, prefix, error in ((FAR, f"{FAR}/32", "EHOSTUNREACH"), (FAR6, f"{FAR6}/128", "ENETUNREACH")):
        server = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--",
                                   *far.command("python3", "-c", SERVER, host)],
                                  stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
        app = world.program("python3", "-c", STREAM, host)
        app.expect_ready()
        run("ip", "route", "add", "unreachable", prefix)
        app.tell()
        heard = app.line(20)
        assert heard == error, heard
        run("ip", "route", "del", "unreachable", prefix)
        app.tell()
        assert app.line(30) == "got lost at first"
        app.stop()
        server.kill()
        server.wait()
