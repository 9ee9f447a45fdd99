"""What is measured. A sheet is one question: its `measure` takes every variant once, `render` makes
Markdown and plots of all rounds. main.py calls measure() `rounds` times, so that variants of a sheet
are always compared within a round.
"""
import functools
import itertools
import pathlib
import re
import statistics
import subprocess
import time
import typing

from report import latency_text, plot, rate_text, ratio_text, ratios, spread, table
from systems import SINK, SOURCE, Failed, ip, run_json


class Sheet:
    """samples: [{variant: sample}], one dict a round."""

    def __init__(self, bench):
        self.bench = bench
        self.samples = []

    def column(self, variant, figure):
        return [r[variant][figure] for r in self.samples if variant in r]

    def median(self, variant, figure):
        values = self.column(variant, figure)
        return statistics.median(values) if values else None


def with_server(start, run):
    """run(server) with one that is started; once more if it ended: testpmd does not survive every end
    of its peer."""
    for attempt in (1, 2):
        server = start()
        try:
            return run(server)
        except Failed:
            if attempt == 2:
                raise
        finally:
            server.stop()
    return None


# ---- echo: against the bare link and the kernel ----

class Case(typing.NamedTuple):
    title: str
    load: list       # what loadgen is asked
    figure: str      # which figure counts
    ceiling: str     # the system that is the ceiling
    kernel: list     # the kernel client's part
    v6: bool = False
    checksums: str = "on"


ECHO_CASES = [
    Case("UDP echo, 64 B frames, 256 outstanding",
         ["--mode", "udp-echo", "--size", 18, "--window", 256, "--connections", 16], "rate", "testpmd",
         ["udp", "--size", 18, "--connections", 16, "--window", 16]),
    Case("UDP echo, 64 B frames, 1024 outstanding",
         ["--mode", "udp-echo", "--size", 18, "--window", 1024, "--connections", 64], "rate", "testpmd",
         ["udp", "--size", 18, "--connections", 64, "--window", 16]),
    Case("UDP echo, 64 B frames, 1 outstanding",
         ["--mode", "udp-echo", "--size", 18, "--window", 1], "rate", "testpmd",
         ["udp", "--size", 18, "--connections", 1, "--window", 1]),
    Case("UDP echo, 1472 B, 64 outstanding",
         ["--mode", "udp-echo", "--size", 1472, "--window", 64], "rate", "testpmd",
         ["udp", "--size", 1472, "--connections", 1, "--window", 64]),
    Case("TCP request-response, 64 B, 1 connection",
         ["--mode", "tcp-rr", "--connections", 1], "rate", "reflector", ["tcp", "--connections", 1]),
    Case("TCP request-response, 64 B, 32 connections",
         ["--mode", "tcp-rr", "--connections", 32], "rate", "reflector", ["tcp", "--connections", 32]),
    Case("TCP request-response, 64 B, 128 connections",
         ["--mode", "tcp-rr", "--connections", 128], "rate", "reflector",
         ["tcp", "--connections", 128]),
    Case("TCP request-response, 64 B, 1000 connections",
         ["--mode", "tcp-rr", "--connections", 1000], "rate", "reflector",
         ["tcp", "--connections", 1000]),
    Case("TCP open, use once, close, 64 at once",
         ["--mode", "tcp-crr", "--connections", 64], "rate", None, None),
    Case("TCP bulk to the application, 1 flow",
         ["--mode", "tcp-send", "--port", SINK], "gbit_out", None, None),
    Case("TCP bulk from the application, 1 flow",
         ["--mode", "tcp-recv", "--port", SOURCE], "gbit_in", None, None),
    Case("UDP echo over IPv6, 18 B, 256 outstanding",
         ["--mode", "udp-echo", "--size", 18, "--window", 256, "--connections", 16], "rate",
         "testpmd", ["udp", "--size", 18, "--connections", 16, "--window", 16], v6=True),
    Case("TCP request-response over IPv6, 64 B, 1 connection",
         ["--mode", "tcp-rr", "--connections", 1], "rate", "reflector",
         ["tcp", "--connections", 1], v6=True),
    Case("TCP request-response over IPv6, 64 B, 128 connections",
         ["--mode", "tcp-rr", "--connections", 128], "rate", "reflector",
         ["tcp", "--connections", 128], v6=True),
    Case("TCP open, use once, close over IPv6, 64 at once",
         ["--mode", "tcp-crr", "--connections", 64], "rate", None, None, v6=True),
    Case("TCP bulk to the application over IPv6, 1 flow",
         ["--mode", "tcp-send", "--port", SINK], "gbit_out", None, None, v6=True),
    Case("TCP bulk from the application over IPv6, 1 flow",
         ["--mode", "tcp-recv", "--port", SOURCE], "gbit_in", None, None, v6=True),
    # The last of its daemon, which keeps the connections when the generator is gone.
    Case("TCP request-response, 64 B, 100,000 connections",
         ["--mode", "tcp-rr", "--connections", 100_000, "--clients", 2], "rate", "reflector", None),
    Case("UDP echo without checksums, 64 B frames, 256 outstanding",
         ["--mode", "udp-echo", "--size", 18, "--window", 256, "--connections", 16], "rate", "testpmd",
         None, checksums="off"),
    Case("TCP request-response without checksums, 64 B, 1 connection",
         ["--mode", "tcp-rr", "--connections", 1], "rate", "reflector", None, checksums="off"),
    Case("TCP request-response without checksums, 64 B, 32 connections",
         ["--mode", "tcp-rr", "--connections", 32], "rate", "reflector", None, checksums="off"),
    Case("TCP request-response without checksums, 64 B, 128 connections",
         ["--mode", "tcp-rr", "--connections", 128], "rate", "reflector", None, checksums="off"),
    Case("TCP bulk to the application without checksums, 1 flow",
         ["--mode", "tcp-send", "--port", SINK], "gbit_out", None, None, checksums="off"),
    Case("TCP bulk from the application without checksums, 1 flow",
         ["--mode", "tcp-recv", "--port", SOURCE], "gbit_in", None, None, checksums="off"),
]


WORKER_ALONE = ("The worker alone: what its core could do at the cycles a packet that it needed (`postern stats "
                "--stages`); where that is far above the rate, the core that generator and application "
                "share is what bounds it.")


def counter_hz():
    """Of the time stamp counter, which is what a virtual machine calls its MHz."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    return float(re.search(r"^cpu MHz\s*: ([0-9.]+)", text, re.M).group(1)) * 1e6


def with_worker(bench, run):
    """A sample, and in it packets a second (the way that has more) of a worker that is never idle."""
    def booked():
        [worker] = bench.postern("stats", "--stages")
        packets = max(worker["packets_in"], worker["packets_out"])
        return packets, (worker["cycles_per_packet"] or 0) * packets
    before = booked()
    sample = run()
    packets, cycles = (a - b for a, b in zip(booked(), before))
    sample["worker_alone"] = counter_hz() * packets / cycles if cycles else 0
    return sample


class Echo(Sheet):
    name = "echo"
    title = "Against the bare link and the kernel"
    about = ("The kernel: veth, server and client on a core each, both spinning. The bare link: "
             "`dpdk-testpmd` in 5tswap for UDP, the reflector for TCP. " + WORKER_ALONE)

    def __init__(self, bench):
        super().__init__(bench)
        only = bench.o.case.lower()
        self.cases = [c for c in ECHO_CASES if only in c.title.lower()]
        bench.make_veth()

    def take(self, row, system, start, run, wants):
        cases = [(i, c) for i, c in enumerate(self.cases) if wants(c)]
        if not cases:
            return
        server = start()
        try:
            for i, case in cases:
                try:
                    sample = run(case)
                except Failed:
                    server.stop()
                    server = start()
                    sample = run(case)
                row[i, system] = sample
        finally:
            server.stop()

    def measure(self):
        b, row = self.bench, {}
        self.take(row, "testpmd", b.testpmd,
                  lambda c: b.loadgen(c.load, ["--peer-mac", "02:00:00:00:00:01"], c.v6,
                                      checksums=c.checksums),
                  lambda c: c.ceiling == "testpmd")
        for sums in ("on", "off"):
            for system, build in (("postern", b.build), ("other", b.other)):
                if not build:
                    continue
                self.take(row, system, lambda build=build, sums=sums: b.posternd(
                    build=build, connections=1 << 17, checksums=sums),
                    lambda c: with_worker(b, lambda: b.hosted(c.load, c.v6, checksums=c.checksums)),
                    lambda c, sums=sums: c.checksums == sums)
        self.take(row, "kernel", b.kernel, lambda c: b.kernel_client(c.kernel, c.v6),
                  lambda c: c.kernel)
        for v6, sums in ((False, "on"), (True, "on"), (False, "off")):
            self.take(row, "reflector", lambda v6=v6, sums=sums: b.reflector(v6, sums),
                      lambda c: b.loadgen(c.load, v6=c.v6, checksums=c.checksums),
                      lambda c, v6=v6, sums=sums: (c.ceiling, c.v6, c.checksums) ==
                      ("reflector", v6, sums))
        self.samples.append(row)

    def rate_rows(self):
        for i, case in enumerate(self.cases):
            figure = case.figure
            form = rate_text if figure == "rate" else (lambda v: f"{v:.2f} Gbit/s")
            ours = self.column((i, "postern"), figure)
            above = self.column((i, case.ceiling), figure)
            kernel = self.column((i, "kernel"), figure)
            alone = self.column((i, "postern"), "worker_alone") if figure == "rate" else []
            row = [case.title, spread(ours, form), spread(alone, rate_text), spread(above, form),
                   spread(ratios(ours, above), ratio_text), spread(kernel, form),
                   spread(ratios(ours, kernel), ratio_text)]
            if self.bench.other:
                row.append(spread(ratios(ours, self.column((i, "other"), figure)), ratio_text))
            yield row

    def latency_rows(self):
        for i, case in enumerate(self.cases):
            if case.figure == "rate":
                yield [case.title, *(latency_text(self.column((i, s), "latency_us"))
                                     for s in ("postern", case.ceiling, "kernel"))]

    def trouble(self):
        keys = ("lost", "retransmits", "resets", "mismatches", "bad_frames", "tx_dropped")
        for i, case in enumerate(self.cases):
            found = {k: v for k in keys
                     if (v := sum(r[i, "postern"].get(k, 0) for r in self.samples))}
            if found:
                yield f"- {case.title}: {found}"

    def render(self):
        head = ["", "Postern", "its worker alone", "bare link", "ratio to it", "kernel", "ratio to it"]
        if self.bench.other:
            head.append(f"ratio to {self.bench.o.against}")
        text = [table(head, self.rate_rows()), "", "Latency, microseconds, p50 / p99 / p99.9:", "",
                table(["", "Postern", "bare link", "kernel"], self.latency_rows()), ""]
        text += list(self.trouble()) or [
            "Trouble: none. Nothing was lost, retransmitted, reset or changed."]
        return "\n".join(text), {}


# ---- receiving only ----

class Receive(Sheet):
    name = "receive"
    title = "UDP received, one worker"
    about = ("64-byte frames as fast as the link takes them, to an application that reads them; "
             "beside it `dpdk-testpmd --forward-mode=rxonly`, which frees what it receives. Datagrams "
             "that the application read; of testpmd, frames that it took off the link. " + WORKER_ALONE)
    FLOOD = ["--mode", "udp-flood", "--size", 18, "--connections", 16]

    def measure(self):
        b = self.bench
        bare = with_server(b.testpmd_rxonly, lambda _: b.loadgen(
            self.FLOOD, ["--peer-mac", "02:00:00:00:00:01"]))
        ours = with_server(b.posternd, lambda _: with_worker(
            b, lambda: b.hosted([*self.FLOOD, "--port", SINK])))
        self.samples.append({"bare": {"rate": bare["tx_pps"]},
                             "postern": {"rate": ours["application"]["datagrams_in"],
                                         "worker_alone": ours["worker_alone"]}})

    def render(self):
        ours, bare = self.column("postern", "rate"), self.column("bare", "rate")
        return table(["", "Postern", "its worker alone", "bare link", "ratio to it"], [
            ["UDP received, 64 B frames", spread(ours, rate_text),
             spread(self.column("postern", "worker_alone"), rate_text), spread(bare, rate_text),
             spread(ratios(ours, bare), ratio_text)]]), {}


# ---- latency against offered load ----

class Load(Sheet):
    name = "load"
    title = "Latency against offered load"
    about = ("TCP request-response, 64 B, 128 connections, an open loop: requests are due at fixed "
             "moments, and latency counts from there (no coordinated omission). The load is in percent "
             "of the closed loop's rate in the same round. The bare link: the reflector, offered the same "
             "rate in the same round. A core was taken away, by the scheduler or by the hypervisor, where a "
             "turn of its loop took 100 us or more: milliseconds in a second, and how often. What is due "
             "meanwhile waits: cores that are away for 10 ms in a second have a p99 of milliseconds, "
             "whatever they run. What latency is while they are there, the median 10 ms of a run shows: "
             "quantiles of each 10 ms, and of each quantile the median. The generator shares its core with "
             "the application, and an open loop gives both smaller batches than the closed one, each "
             "with its fixed costs: where little of that core is idle, that is what bounds the rate.")
    SHARES = (10, 30, 50, 70, 80, 90, 95)
    CASE = ["--mode", "tcp-rr", "--connections", 128]

    def long_turns(self):
        [worker] = self.bench.postern("stats", "--stages")
        return worker["long_turns"], worker["long_turns_seconds"]

    def measure(self):
        b, row = self.bench, {}

        def run(_):
            row["peak"] = b.hosted(self.CASE)
            for share in self.SHARES:
                rate = int(row["peak"]["rate"] * share / 100)
                before = self.long_turns()
                row[share] = b.hosted([*self.CASE, "--rate", rate])
                times, seconds = (a - b for a, b in zip(self.long_turns(), before))
                row[share]["worker_away"] = {"times": times, "ms": seconds * 1e3}
            return True
        with_server(b.posternd, run)

        def run_bare(_):
            for share in self.SHARES:
                row[share, "bare"] = b.loadgen([*self.CASE, "--rate", row[share]["rate_limit"]])
            return True
        with_server(b.reflector, run_bare)
        self.samples.append(row)

    def p99(self, variant, which):
        return statistics.median(r[variant][which]["p99"] for r in self.samples)

    def away(self, variant, who, seconds):
        return (f"{statistics.median(r[variant][who]['ms'] / seconds for r in self.samples):.1f} ms, "
                f"{statistics.median(r[variant][who]['times'] / seconds for r in self.samples):.0f} times")

    def rows(self):
        o = self.bench.o
        for share in self.SHARES:
            yield [f"{share} %", spread(self.column(share, "rate"), rate_text),
                   *(latency_text(self.column(variant, which))
                     for which in ("typical_us", "latency_us") for variant in (share, (share, "bare"))),
                   spread([100 * v for v in self.column(share, "idle_share")], lambda v: f"{v:.0f} %"),
                   self.away(share, "worker_away", o.warmup + o.seconds),
                   self.away(share, "away", o.seconds), self.away((share, "bare"), "away", o.seconds)]

    def render(self):
        text = (f"Closed loop: {spread(self.column('peak', 'rate'), rate_text)}. Latency in microseconds, p50 / "
                "p99 / p99.9.\n\n" +
                table(["offered", "answered", "median 10 ms: Postern", "bare link",
                       "the whole: Postern", "bare link", "generator and application idle",
                       "worker's core away", "generator's",
                       "generator's, bare link"], self.rows()) +
                "\n\n![p99](load.svg)")
        lines = {name: [(share, self.p99((share, "bare") if "bare" in name else share, which))
                        for share in self.SHARES]
                 for name, which in (("p99, 10 ms", "typical_us"), ("bare, 10 ms", "typical_us"),
                                     ("p99, whole", "latency_us"), ("bare, whole", "latency_us"))}
        return text, {"load.svg": plot(lines, "offered, % of the closed loop", "microseconds",
                                       logarithmic=True)}


# ---- many connections ----

class Scale(Sheet):
    name = "scale"
    title = "Many connections, few active"
    about = ("TCP request-response, 64 B, over 100 connections among so many established ones. "
             "Memory is what the daemon's process holds more than with 100 connections, divided by the "
             "connections: everything counts, tables, timers and the application's slots included, "
             "less what the application itself maps.")
    ACTIVE = 100
    BESIDE_ONE = (1, 10_000)

    @functools.cached_property
    def counts(self):
        if self.bench.o.quick:
            return 100, 1000, 10_000, 100_000
        counts = 100, 10_000, 100_000, 1_000_000
        return (*counts, 4_000_000) if memory_available() >= 16 << 30 else counts

    def take(self, count, active):
        b = self.bench
        limit = 1 << (count + 10_000).bit_length()

        def run(server):
            sample = b.hosted(["--mode", "tcp-rr", "--connections", count, "--active", active,
                               "--clients", max(1, count // 50_000)])
            sample["resident"] = resident_bytes(server.process.pid)
            return sample
        return with_server(lambda: b.posternd(connections=limit, memory=512 + limit // 1024), run)

    def measure(self):
        row = {count: self.take(count, self.ACTIVE) for count in self.counts}
        row |= {(count, "one"): self.take(count, 1) for count in self.BESIDE_ONE}
        self.samples.append(row)

    def render(self):
        first = self.counts[0]
        base = self.column(first, "rate")
        rows = []
        for count in self.counts:
            held = [s[count]["resident"] - s[first]["resident"] for s in self.samples]
            rows.append([f"{count:,}", spread(self.column(count, "rate"), rate_text),
                         spread(ratios(self.column(count, "rate"), base), ratio_text),
                         latency_text(self.column(count, "latency_us")),
                         "" if count == first else f"{statistics.median(held) / count:.0f}",
                         f"{count / self.median(count, 'setup_seconds') / 1e3:.0f} k/s"])
        alone = self.column((self.BESIDE_ONE[0], "one"), "rate")
        one = [[f"{count:,}", spread(self.column((count, "one"), "rate"), rate_text),
                spread(ratios(self.column((count, "one"), "rate"), alone), ratio_text),
                latency_text(self.column((count, "one"), "latency_us"))] for count in self.BESIDE_ONE]
        return "\n\n".join([
            table(["established", f"rate of {self.ACTIVE} active", f"ratio to {first}",
                   "p50 / p99 / p99.9, us", "bytes a connection", "opened at"], rows),
            table(["established", "rate of 1 active", "ratio to 1", "p50 / p99 / p99.9, us"], one)]), {}


def memory_available():
    for line in open("/proc/meminfo", encoding="ascii"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise Failed("no MemAvailable")


def resident_bytes(pid):
    for line in open(f"/proc/{pid}/status", encoding="ascii"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise Failed("no VmRSS")


# ---- many applications ----

class Applications(Sheet):
    name = "applications"
    title = "Many applications attached, one active"
    about = "TCP request-response, 64 B, 128 connections, beside so many applications that do nothing."

    @property
    def counts(self):
        return (0, 7, 63)

    def measure(self):
        b, row = self.bench, {}
        for count in self.counts:
            def run(_, count=count):
                with b.idle_applications(count):
                    return b.hosted(["--mode", "tcp-rr", "--connections", 128])
            row[count] = with_server(b.posternd, run)
        self.samples.append(row)

    def render(self):
        base = self.column(0, "rate")
        rows = [[str(count + 1), spread(self.column(count, "rate"), rate_text),
                 spread(ratios(self.column(count, "rate"), base), ratio_text),
                 latency_text(self.column(count, "latency_us"))] for count in self.counts]
        return table(["applications", "rate", "ratio to 1", "p50 / p99 / p99.9, us"], rows), {}


# ---- bulk ----

class Bulk(Sheet):
    name = "bulk"
    title = "Bulk"
    about = ("Payload of TCP. Checksums off: neither verified nor filled in at either end "
             "(`ports[].checksums`). The ratio is of off to on.")
    CASES = [(f"{'to' if to else 'from'} the application, {flows} flow{'s' if flows > 1 else ''}, "
              f"MTU {mtu}", mtu,
              ["--mode", "tcp-send" if to else "tcp-recv", "--port", SINK if to else SOURCE,
               "--connections", flows], "gbit_out" if to else "gbit_in")
             for mtu in (1500, 9000) for to in (True, False) for flows in (1, 8)]

    def measure(self):
        b, row = self.bench, {}
        for mtu, sums in itertools.product((1500, 9000), ("on", "off")):
            def run(_, mtu=mtu, sums=sums):
                for title, its_mtu, case, _figure in self.CASES:
                    if its_mtu == mtu:
                        row[title, sums] = b.hosted(case, checksums=sums, mtu=mtu)
                return True
            with_server(lambda mtu=mtu, sums=sums: b.posternd(mtu=mtu, checksums=sums), run)
        self.samples.append(row)

    def render(self):
        rows = []
        for title, _, _, figure in self.CASES:
            on, off = (self.column((title, sums), figure) for sums in ("on", "off"))
            rows.append([title, *(spread(v, lambda v: f"{v:.2f} Gbit/s") for v in (on, off)),
                         spread(ratios(off, on), ratio_text)])
        return table(["", "checksums on", "off", "ratio"], rows), {}


# ---- lookup ----

class Lookup(Sheet):
    name = "lookup"
    title = "Flow lookup"
    about = ("Nanoseconds of the thread's own CPU time a lookup, random flows: the flow table, beside DPDK's "
             "`rte_hash` (lock-free for readers, `rte_jhash`, in bulk), `std::unordered_map` with the flow "
             "table's hash, and a chase of pointers through as many cache lines, in one chain and in "
             "sixteen at once. Memory in ordinary pages, transparent huge ones where the kernel gives "
             "them.")
    TABLES = (("postern", "flow table"), ("rte_hash", "rte_hash"), ("unordered_map", "unordered_map"))

    @property
    def counts(self):
        return (1000, 100_000, 1_000_000) if self.bench.o.quick else (1000, 100_000, 1_000_000,
                                                                      10_000_000)

    def measure(self):
        rows = run_json([self.bench.build / "perf/bench_flow", "--json", *map(str, self.counts)],
                        self.bench.o.client_core, patience=900)
        self.samples.append({row["flows"]: row for row in rows})

    def figure(self, flows, *path):
        values = []
        for sample in self.samples:
            value = sample[flows]
            for step in path:
                value = value[step]
            values.append(value)
        return values

    def rows(self):
        for flows in self.counts:
            for table_name, title in self.TABLES:
                bulk = self.figure(flows, table_name, "hit", 2)
                yield [f"{flows:,}", title,
                       *(f"{statistics.median(self.figure(flows, table_name, kind, i)):.1f}"
                         for kind in ("hit", "miss") for i in range(3)),
                       *(f"{statistics.median(self.figure(flows, table_name, kind)):.0f}"
                         for kind in ("insert", "erase")),
                       "" if table_name == "postern" else
                       spread(ratios(bulk, self.figure(flows, "postern", "hit", 2)), ratio_text)]

    def render(self):
        text = table(["flows", "", "hit, burst 1", "8", "32", "miss, burst 1", "8", "32", "insert",
                      "erase", "hit, burst 32, to the flow table's"], self.rows())
        facts = table(["flows", "longest probe, buckets", "bytes a flow", "pointer chase, 1 / 16 chains"],
                      [[f"{n:,}", str(max(self.figure(n, "longest_probe"))),
                        f"{self.figure(n, 'bytes')[0]:.1f}",
                        " / ".join(f"{statistics.median(self.figure(n, 'chase', i)):.1f}"
                                   for i in range(2))] for n in self.counts])
        return text + "\n\n" + facts, {}


# ---- sleep ----

class Sleep(Sheet):
    name = "sleep"
    title = "`idle: adaptive`: waking up, and the cost of waiting"
    about = ("A datagram of 64 B every 50 ms to a daemon whose worker sleeps in between; the "
             "application, in the generator's thread, spins. memif cannot wake anybody: the worker "
             "naps (`workers.nap`), and each nap costs the kernel's timer and two switches. "
             "af_packet over a veth wakes it by its descriptor; beside it the kernel's own echo server, "
             "which spins. Idle: share of a core with one application attached and nothing to do.")
    DEVICE = "net_af_packet0,iface=veth0"
    CASE = ["--mode", "udp-echo", "--size", 64, "--window", 1, "--rate", 20]
    NAPS = ("100us", "250us", "500us", "1ms")

    def __init__(self, bench):
        super().__init__(bench)
        self.kernel, beside_kernel = bench.make_veth()
        postern, beside_postern = bench.make_veth()
        for namespace in (beside_kernel, postern, beside_postern):
            ip("-n", namespace, "addr", "flush", "dev", "veth0")
        # What leaves its checksums to the device meets none here.
        subprocess.run(["ip", "netns", "exec", self.kernel, "ethtool", "-K", "veth0", "tx", "off"],
                       check=True, stdout=subprocess.DEVNULL)
        self.server, self.client, self.beside_kernel = (
            {"device": self.DEVICE, "netns": n} for n in (postern, beside_postern, beside_kernel))

    def measure(self):
        b, row = self.bench, {}
        case = [*self.CASE, "--duration", max(3, b.o.seconds)]

        def run(server, link):
            echo = b.hosted(case, **link)
            with b.idle_applications(1):
                time.sleep(1)
                before, begin = cpu_seconds(server.process.pid), time.monotonic()
                time.sleep(max(3, b.o.seconds))
                share = (cpu_seconds(server.process.pid) - before) / (time.monotonic() - begin)
            echo["idle_percent"] = 100 * share
            return echo
        for nap in self.NAPS:
            row["memif", nap] = with_server(lambda nap=nap: b.posternd(idle="adaptive", nap=nap),
                                            lambda s: run(s, {}))
        row["af_packet"] = with_server(lambda: b.posternd(idle="adaptive", **self.server),
                                       lambda s: run(s, self.client))
        row["spinning"] = with_server(lambda: b.posternd(**self.server),
                                      lambda _: b.hosted(case, **self.client))
        row["kernel"] = with_server(lambda: b.kernel(self.kernel),
                                    lambda _: b.loadgen(case, **self.beside_kernel))
        self.samples.append(row)

    def render(self):
        titles = (*((("memif", nap), f"memif, naps up to {nap}") for nap in self.NAPS),
                  ("af_packet", "af_packet, woken"),
                  ("spinning", "af_packet, `idle: busy`"), ("kernel", "the kernel, spinning"))
        return table(["", "answered after, p50 / p99 / p99.9, us", "idle, % of a core"], [
            [title, latency_text(self.column(name, "latency_us")),
             spread(self.column(name, "idle_percent"), lambda v: f"{v:.2f}")
             if "idle_percent" in self.samples[0][name] else "100"]
            for name, title in titles]), {}


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


SHEETS = [Echo, Receive, Load, Bulk, Scale, Applications, Lookup, Sleep]
