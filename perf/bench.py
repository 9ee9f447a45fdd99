"""UDP and TCP echo through Postern, through the bare link and through the kernel, by turns.

One run measures every system in every round, one after the other, so that what else the machine
does hits all of them; results are ratios of the same round, with median and spread. Core A has the
server side (the daemon's worker, testpmd, the reflector, the kernel's server), core B has the load
generator and, for Postern, the application too.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

SERVER, CLIENT = "10.254.0.1", "10.254.0.2"
ECHO, SINK, SOURCE = 7, 9, 19


class Failed(Exception):
    """A program did not do what it was started for; the text says which and why."""


# ---- processes ----

def prioritised(command, core):
    """The scheduler shares by session: a session of its own, ahead of the others, on one core."""
    script = 'echo -20 > /proc/self/autogroup 2>/dev/null; exec taskset -c "$0" "$@"'
    return ["sh", "-c", script, str(core), *map(str, command)]


class Server:
    """A program on the server's core, and how to know that it is ready."""

    def __init__(self, name, command, core, log_dir, ready=None, netns=None):
        self.name = name
        self.log_path = log_dir / f"{name}.log"
        self.log = open(self.log_path, "w")
        command = prioritised(command, core)
        if netns:
            command = ["ip", "netns", "exec", netns, *command]
        # A pipe that stays open: testpmd ends when its standard input does.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        try:
            self._await(ready)
        except Failed:
            self.stop()
            raise

    def _await(self, ready, patience=20):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended at once:\n{self.tail()}")
            if ready is None or ready(self.log_path.read_text()):
                return
            time.sleep(0.05)
        raise Failed(f"{self.name} was not ready after {patience} s:\n{self.tail()}")

    def tail(self):
        return "\n".join(self.log_path.read_text().splitlines()[-10:])

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process.stdin.close()
        self.log.close()


def run_json(command, core, netns=None, patience=120):
    command = prioritised(command, core)
    if netns:
        command = ["ip", "netns", "exec", netns, *command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          start_new_session=True, timeout=patience)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


# ---- the systems ----

class Bench:
    def __init__(self, options):
        self.o = options
        self.build = pathlib.Path(options.build)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-bench-"))
        self.memif = self.dir / "link.sock"  # an abstract name: no file
        self.huge = free_hugepages() >= 512
        self.eal = ["--in-memory"] if self.huge else ["--no-huge", "-m", "512"]
        self.namespaces = []

    def close(self):
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def loadgen(self, case, extra=()):
        command = [self.build / "perf/loadgen", "--json", "--core", self.o.client_core,
                   "--vdev", f"net_memif0,role=client,socket={self.memif}",
                   "--local", CLIENT, "--peer", SERVER, "--file-prefix", "bench-client",
                   "--warmup", self.o.warmup, "--duration", self.o.seconds, *case, *extra]
        return run_json(command, self.o.client_core)

    # The bare link, UDP: DPDK's own program swaps addresses and ports and sends back.
    def testpmd(self):
        core = self.o.server_core
        return Server("testpmd", [
            "stdbuf", "-oL", "dpdk-testpmd", f"--lcores=0@{core},1@{core}", "--no-pci", "--no-telemetry", *self.eal,
            "--file-prefix=bench-testpmd", f"--vdev=net_memif0,role=server,socket={self.memif}",
            "--", "--forward-mode=5tswap", "--auto-start", "--port-topology=loop", "--rxd=1024",
            "--txd=1024", "--total-num-mbufs=16384", "--no-lsc-interrupt",
            "--disable-link-check",
        ], core, self.dir, lambda log: "Press enter to exit" in log)

    # The bare link, TCP: the cheapest peer that answers TCP at all.
    def reflector(self):
        return Server("reflector", [
            self.build / "perf/loadgen", "--mode", "reflect", "--core", self.o.server_core,
            "--vdev", f"net_memif0,role=server,socket={self.memif}", "--local", SERVER, "--peer",
            CLIENT, "--file-prefix", "bench-reflector", "--warmup", 0, "--duration", 86000,
        ], self.o.server_core, self.dir, lambda log: "reflecting" in log)

    def posternd(self):
        config = self.dir / "posternd.yaml"
        config.write_text(f"""\
dpdk:
  file_prefix: bench-posternd
memory:
  hugepages: {"on" if self.huge else "off"}
  size: 512MiB
workers:
  cores: [{self.o.server_core}]
  idle: busy
ports:
  - name: link0
    device: "net_memif0,role=server,socket={self.memif}"
    addresses: [{SERVER}/24]
access:
  - user: root
    bind: [tcp/{ECHO}, udp/{ECHO}, tcp/{SINK}, tcp/{SOURCE}]
control:
  app_socket: {self.dir}/app.sock
  socket: {self.dir}/control.sock
""")
        return Server("posternd", [self.build / "app/daemon/posternd", "--config", config],
                      self.o.server_core, self.dir, lambda log: "ready" in log)

    def hosted(self, case):
        return self.loadgen(case, ["--host-echo", f"tcp:{ECHO},udp:{ECHO}", "--host-sink",
                                   f"tcp:{SINK}", "--host-source", f"tcp:{SOURCE}",
                                   "--app-socket", self.dir / "app.sock"])

    def make_veth(self):
        tag = os.getpid()
        a, b = f"bench-a-{tag}", f"bench-b-{tag}"
        for name in (a, b):
            ip("netns", "add", name)
            self.namespaces.append(name)
        ip("link", "add", "veth0", "netns", a, "type", "veth", "peer", "name", "veth0", "netns", b)
        for name, address in ((a, SERVER), (b, CLIENT)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "veth0")
            ip("-n", name, "link", "set", "veth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        return a, b

    def kernel(self):
        return Server("kernel", [self.build / "perf/kernel_echo", "serve", ECHO],
                      self.o.server_core, self.dir, lambda log: True, netns=self.namespaces[0])

    def kernel_client(self, arguments):
        return run_json([self.build / "perf/kernel_echo", arguments[0], SERVER, ECHO,
                         "--warmup", self.o.warmup, "--duration", self.o.seconds, *arguments[1:]],
                        self.o.client_core, netns=self.namespaces[1])


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def free_hugepages():
    path = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    return int(path.read_text()) if path.exists() else 0


# ---- the cases ----

# A case: title, what loadgen is asked, which figure counts, the ceiling, the kernel client's part.
CASES = [
    ("UDP echo, 64 B frames, 256 outstanding",
     ["--mode", "udp-echo", "--size", 18, "--window", 256, "--connections", 16], "rate", "testpmd",
     ["udp", "--size", 18, "--connections", 16, "--window", 16]),
    ("UDP echo, 64 B frames, 1 outstanding",
     ["--mode", "udp-echo", "--size", 18, "--window", 1], "rate", "testpmd",
     ["udp", "--size", 18, "--connections", 1, "--window", 1]),
    ("UDP echo, 1472 B, 64 outstanding",
     ["--mode", "udp-echo", "--size", 1472, "--window", 64], "rate", "testpmd",
     ["udp", "--size", 1472, "--connections", 1, "--window", 64]),
    ("TCP request-response, 64 B, 1 connection",
     ["--mode", "tcp-rr", "--connections", 1], "rate", "reflector", ["tcp", "--connections", 1]),
    ("TCP request-response, 64 B, 32 connections",
     ["--mode", "tcp-rr", "--connections", 32], "rate", "reflector", ["tcp", "--connections", 32]),
    ("TCP request-response, 64 B, 128 connections",
     ["--mode", "tcp-rr", "--connections", 128], "rate", "reflector",
     ["tcp", "--connections", 128]),
    ("TCP request-response, 64 B, 1000 connections",
     ["--mode", "tcp-rr", "--connections", 1000], "rate", "reflector",
     ["tcp", "--connections", 1000]),
    ("TCP open, use once, close, 64 at once",
     ["--mode", "tcp-crr", "--connections", 64], "rate", None, None),
    ("TCP bulk to the application, 1 flow",
     ["--mode", "tcp-send", "--port", SINK], "gbit_out", None, None),
    ("TCP bulk from the application, 1 flow",
     ["--mode", "tcp-recv", "--port", SOURCE], "gbit_in", None, None),
]


def measure_round(bench, cases, samples):
    """One round: each system once, all its cases. samples[case][system] grows by one."""
    def take(system, start, run, wants):
        server = start()
        try:
            for index, case in enumerate(cases):
                if wants(case):
                    try:
                        sample = run(case)
                    except Failed:  # testpmd does not survive every end of its peer
                        server.stop()
                        server = start()
                        sample = run(case)
                    samples[index].setdefault(system, []).append(sample)
                    print(".", end="", file=sys.stderr, flush=True)
        finally:
            server.stop()

    take("testpmd", bench.testpmd,
         lambda c: bench.loadgen(c[1], ["--peer-mac", "02:00:00:00:00:01"]),
         lambda c: c[3] == "testpmd")
    take("postern", bench.posternd, lambda c: bench.hosted(c[1]), lambda c: True)
    take("kernel", bench.kernel, lambda c: bench.kernel_client(c[4]), lambda c: c[4])
    take("reflector", bench.reflector, lambda c: bench.loadgen(c[1]),
         lambda c: c[3] == "reflector")


# ---- the report ----

def spread(values, form):
    if not values:
        return ""
    return f"{form(statistics.median(values))} ({form(min(values))} to {form(max(values))})"


def rate_text(value):
    return f"{value / 1e6:.3f} M/s" if value >= 1e6 else f"{value / 1e3:.1f} k/s"


def ratio_text(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def figures(samples, system, figure):
    return [sample[figure] for sample in samples.get(system, [])]


def ratios(a, b):
    return [x / y for x, y in zip(a, b) if y]


def latency_text(samples, system):
    runs = samples.get(system, [])
    if not runs:
        return ""
    return " / ".join(f"{statistics.median(r['latency_us'][q] for r in runs):.1f}"
                      for q in ("p50", "p99", "p99.9"))


def trouble(samples):
    keys = ("lost", "retransmits", "resets", "mismatches", "bad_frames", "tx_dropped")
    return {k: v for k in keys if (v := sum(r.get(k, 0) for r in samples.get("postern", [])))}


def rate_rows(cases, samples):
    for case, s in zip(cases, samples):
        title, _, figure, ceiling, _ = case
        form = rate_text if figure == "rate" else (lambda v: f"{v:.2f} Gbit/s")
        ours = figures(s, "postern", figure)
        above = figures(s, ceiling, figure) if ceiling else []
        kernel = figures(s, "kernel", figure)
        yield [title, spread(ours, form), spread(above, form), spread(ratios(ours, above), ratio_text),
               spread(kernel, form), spread(ratios(ours, kernel), ratio_text)]


def latency_rows(cases, samples):
    for case, s in zip(cases, samples):
        if case[2] == "rate":
            yield [case[0], latency_text(s, "postern"), latency_text(s, case[3]),
                   latency_text(s, "kernel")]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), platform.machine())
    dpdk = subprocess.run(["pkg-config", "--modversion", "libdpdk"], capture_output=True,
                          text=True).stdout.strip()
    return (f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, DPDK "
            f"{dpdk or 'of unknown version'}, load {os.getloadavg()[0]:.1f} at the start")


def revision(root):
    done = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def write_report(bench, cases, samples, about):
    o = bench.o
    parts = [
        "# Postern against the bare link and the kernel", "",
        f"Revision {about['revision']}, {about['date']}. {about['machine']}.", "",
        f"{o.rounds} rounds by turns, {o.seconds:g} s each after {o.warmup:g} s; median (least to "
        "most), ratios within a round. Link: net_memif, copying, MTU 1500, TCP and UDP checksums "
        f"filled in and verified at both ends, {'hugepages' if bench.huge else 'no hugepages'}. "
        "Everyone spins. The daemon has one worker on one core; load generator and application "
        "share the other. The kernel: veth, server and client on a core each. "
        "[What each number is](../README.md).", "",
        "## Rates", "",
        table(["", "Postern", "bare link", "ratio to it", "kernel", "ratio to it"],
              rate_rows(cases, samples)), "",
        "## Latency, microseconds, p50 / p99 / p99.9", "",
        table(["", "Postern", "bare link", "kernel"], latency_rows(cases, samples)), "",
    ]
    bad = {case[0]: found for case, s in zip(cases, samples) if (found := trouble(s))}
    parts += ["## Trouble", ""]
    parts += [f"- {title}: {found}" for title, found in bad.items()] or [
        "None: nothing lost, retransmitted, reset or changed."]
    out = pathlib.Path(o.output)
    out.mkdir(parents=True, exist_ok=True)
    (out / "echo.md").write_text("\n".join(parts) + "\n")
    (out / "echo.json").write_text(json.dumps(
        {**about, "cases": [{"title": c[0], "samples": s} for c, s in zip(cases, samples)]},
        indent=1) + "\n")
    print("\n".join(parts))


def parse_options():
    here = pathlib.Path(__file__).resolve().parent
    cores = sorted(os.sched_getaffinity(0))
    p = argparse.ArgumentParser(prog="perf/bench.sh", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", help="build directory (default: a release build is made)")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=2, help="measured, each")
    p.add_argument("--warmup", type=float, default=0.5, help="seconds before")
    p.add_argument("--only", default="", help="cases whose title contains this")
    p.add_argument("--server-core", type=int, default=cores[0])
    p.add_argument("--client-core", type=int, default=cores[-1])
    p.add_argument("--output", default=here / "report", help="directory of echo.md and echo.json")
    o = p.parse_args()
    if o.server_core == o.client_core:
        p.error("two cores are needed")
    if os.geteuid() != 0:
        p.error("run it as root: it makes network namespaces")
    return o


def main():
    options = parse_options()
    cases = [c for c in CASES if options.only.lower() in c[0].lower()]
    samples = [{} for _ in cases]
    about = {"revision": revision(pathlib.Path(__file__).parent), "machine": machine(),
             "date": time.strftime("%Y-%m-%d")}
    bench = Bench(options)
    try:
        bench.make_veth()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} ", end="", file=sys.stderr, flush=True)
            measure_round(bench, cases, samples)
            print(file=sys.stderr)
        write_report(bench, cases, samples, about)
    except (Failed, subprocess.TimeoutExpired) as error:
        sys.exit(f"bench: {error}")
    finally:
        bench.close()


if __name__ == "__main__":
    main()
