"""The same socket calls over the kernel and over Postern: results and errno are equal, or the
difference is listed with its reason in differential/differences.py."""
import os
import re
import subprocess
import sys

from harness import HERE, LINUX, POSTERN, App, case, note, run, spawn, wait_until

sys.path.insert(0, str(HERE / "differential"))

import calls  # noqa: E402
import differences  # noqa: E402
import sequences  # noqa: E402
import states  # noqa: E402
import urgent  # noqa: E402, F401: its sequences are among sequences.SEQUENCES
from world import Side  # noqa: E402

KERNEL_PEER = "198.51.100.1"
KERNEL_SUBJECT = "198.51.100.2"


def postern_side(world):
    world.start(access=[{"user": "nobody", "bind": ["tcp/any", "udp/any"]}])
    app = App(world, "subject", ["python3", world.staging.bin / "subject.py", "postern"], "nobody")
    world.apps.append(app)
    app.expect_ready()
    return Side("postern", app.process, LINUX, POSTERN)


def kernel_side(world):
    """A third host, the kernel's own, beside the one that is posternd."""
    holder = spawn(["unshare", "--net", "--", "sleep", "infinity"])
    mine = os.readlink("/proc/self/ns/net")
    wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != mine, 10, "a third namespace")
    inside = ("nsenter", f"--net=/proc/{holder.pid}/ns/net", "--")
    run("ip", "link", "add", "kernel0", "type", "veth", "peer", "name", "kernel0", "netns", holder.pid)
    run("ip", "addr", "add", f"{KERNEL_PEER}/24", "dev", "kernel0")
    run("ip", "link", "set", "kernel0", "up")
    run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0")  # every refused datagram is told
    run(*inside, "ip", "addr", "add", f"{KERNEL_SUBJECT}/24", "dev", "kernel0")
    run(*inside, "ip", "link", "set", "kernel0", "up")
    run(*inside, "ip", "link", "set", "lo", "up")
    process = spawn([*inside, "python3", world.staging.bin / "subject.py", "kernel"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return Side("kernel", process, KERNEL_PEER, KERNEL_SUBJECT)


def in_state(state, call):
    """What became of the socket afterwards belongs to the result."""
    def body(side):
        state(side)
        return [call(side), side("poll", "s"), side("getsockopt", "s", 1, 4)]
    return body


def both(sides, body):
    """The results of the two, as text."""
    results = []
    for side in sides:
        try:
            results.append(repr(body(side)))
        except AssertionError as error:
            results.append(f"could not be tried: {error}")
        side.forget()
    return results


def explained(name, kernel, postern):
    for expression, kernel_result, postern_result, _ in differences.DIFFERENCES:
        if re.fullmatch(expression, name) and all(
                wanted is None or re.search(wanted, got)
                for wanted, got in ((kernel_result, kernel), (postern_result, postern))):
            return True
    return False


def compare(sides, trials):
    """Runs the trials on both sides; fails with a list of what differs without a reason."""
    equal, listed, faults = 0, 0, []
    for name, body in trials:
        kernel, postern = both(sides, body)
        if kernel == postern:
            equal += 1
        elif explained(name, kernel, postern):
            listed += 1
        else:
            faults.append(f"{name}\n  kernel  {kernel}\n  postern {postern}")
    note(f"{equal} sequences equal, {listed} different for a listed reason, {len(faults)} faults")
    assert not faults, f"{len(faults)} differences:\n" + "\n".join(faults)


def every_call(in_states, tried):
    for state_name, state in in_states.items():
        for call_name, call in tried:
            yield f"{state_name} / {call_name}", in_state(state, call)


@case(seconds=900)
def tcp_calls_in_every_state(world):
    compare((kernel_side(world), postern_side(world)), every_call(states.TCP, calls.STREAM))


@case(seconds=900)
def udp_calls_in_every_state(world):
    compare((kernel_side(world), postern_side(world)), every_call(states.UDP, calls.DGRAM))


@case(seconds=120)
def longer_sequences(world):
    trials = [(f"sequence / {name}", body) for name, body in sequences.SEQUENCES.items()]
    compare((kernel_side(world), postern_side(world)), trials)
