#!/usr/bin/env python3
"""RFC 2544 for Postern: throughput without loss (NDR) and with little (PDR), frame loss, bursts and
latency of UDP echo by an application over IPv4 and IPv6, as Markdown, JSON and SVG. Start it by run.sh."""
import argparse
import dataclasses
import os
import pathlib
import platform
import re
import shlex
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import method
import report
import rig as rigs

HERE = pathlib.Path(__file__).resolve().parent
IMIX = (64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594)


def parse_arguments():
    last = os.cpu_count() - 1
    p = argparse.ArgumentParser(description=__doc__, prog="run.sh",
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--generator", choices=["pktgen", "loadgen"], help="default: pktgen if found")
    p.add_argument("--pktgen", metavar="PATH", help="default: $PKTGEN, PATH, the usual places")
    p.add_argument("--build", type=pathlib.Path, help="build directory; default: a release build")
    p.add_argument("--sizes", default="64,128,256,512,1024,1280,1518,imix",
                   help="frame sizes with FCS; imix: 7 of 64, 4 of 594, 1 of 1518")
    p.add_argument("--sizes6", default="same", help="of IPv6; same: those of --sizes, but 82 for 64, "
                   "the least that carries the generators' marks; none: no IPv6")
    p.add_argument("--flows", default="1", help="numbers of flows, each with every size")
    p.add_argument("--trial", type=float, default=60, help="seconds of a trial")
    p.add_argument("--resolution", type=float, default=0.01, help="of a search, part of the rate")
    p.add_argument("--repeats", type=int, default=3, help="trials that confirm a rate")
    p.add_argument("--pdr", type=float, default=0.005, help="part of the frames that PDR may lose")
    p.add_argument("--longest-burst", type=int, default=1_000_000)
    p.add_argument("--burst-resolution", type=float, default=0.05, help="part of the burst's length")
    p.add_argument("--burst-repeats", type=int, default=3)
    p.add_argument("--latency-trial", type=float, default=10, help="seconds")
    p.add_argument("--server-core", default=str(last), help="of posternd's worker")
    p.add_argument("--client-core", default=str(max(0, last - 1)), help="of the generator")
    p.add_argument("--app-core", default=str(max(0, last - 1)),
                   help="of the application, with pktgen, and of pktgen's own console")
    p.add_argument("--port", help="posternd's port, a PCI address; default: memif")
    p.add_argument("--pktgen-port", help="pktgen's port, a PCI address; default: memif")
    p.add_argument("--output", type=pathlib.Path, default=HERE.parent / "report")
    p.add_argument("--name", help="of the report's files; default: rfc2544-GENERATOR")
    options = p.parse_args()
    if bool(options.port) != bool(options.pktgen_port):
        p.error("--port and --pktgen-port go together")
    if options.port and options.generator == "loadgen":
        p.error("loadgen has no PCI ports; leave out --port")
    try:
        options.traffics = traffics(options)
    except ValueError:
        p.error("--sizes, --sizes6 and --flows are numbers with commas; a size may be imix")
    most = rigs.Pktgen.most_flows
    if options.generator == "pktgen" and any(t.flows > most for t in options.traffics):
        p.error(f"pktgen makes {most:,} packets for a trial, and repeats them: no more flows than that")
    return options


def traffics(o):
    """All combinations that are measured; IPv6 frames are not smaller than 82 bytes."""
    found = []
    names = {4: o.sizes, 6: o.sizes if o.sizes6 == "same" else o.sizes6.replace("none", "")}
    for flows in map(int, o.flows.split(",")):
        for version, text in names.items():
            least = 82 if version == 6 else 64
            for name in filter(None, text.split(",")):
                sizes = IMIX if name == "imix" else (int(name),)
                if o.generator == "pktgen" and len(sizes) > 1 and (version == 6 or flows > 1):
                    continue  # its sequences are of IPv4, its ranges of one size
                sizes = tuple(max(least, s) for s in sizes)
                found.append(method.Traffic(version, sizes, flows))
    return found


def trial_facts(trial):
    return {**dataclasses.asdict(trial), "loss": trial.loss, "sent_rate": trial.sent_rate,
            "received_rate": trial.received_rate}


def throughput_facts(found):
    return {"limit": found.limit, "rate": found.rate, "repeats": found.repeats,
            "trials": [trial_facts(t) for t in found.trials]}


def without_paths(arguments):
    """Without what only this machine knows."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument not in ("--build", "--pktgen", "--output"):
            kept.append(argument)
        skip = not skip and argument in ("--build", "--pktgen", "--output")
    return kept


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def account(before, after):
    """What the device under test did between two readings of its counters."""
    drops = {reason: count - before["drops"].get(reason, 0)
             for reason, count in after["drops"].items()}
    return {**{name: after[name] - before[name] for name in after if name != "drops"},
            "drops": {reason: count for reason, count in drops.items() if count}}


def measure(o, generator, device, traffic):
    """All that RFC 2544 asks for of one kind of traffic. `device`: counters() of what is measured."""
    for _ in range(3):  # once more if posternd had to be started again in between
        before, life = device.counters(), device.lives
        top = method.ceiling(generator, traffic, o.trial)
        facts = account(before, device.counters())
        if device.lives == life:
            break
    progress(f"IPv{traffic.version}, {traffic.name} bytes, {traffic.flows} flows: ceiling "
             f"{top.sent_rate / 1e6:.3f} M/s, {top.loss * 100:.2f} % lost")
    found = {}
    for name, limit in (("ndr", 0.0), ("pdr", o.pdr)):
        found[name] = method.search(generator, traffic, o.trial, top, limit, o.resolution, o.repeats,
                                    found["ndr"].rate if found else 0.0)
        progress(f"  {name.upper()} {found[name].rate / 1e6:.3f} M/s")
    base = found["pdr"].rate or found["ndr"].rate or top.received_rate
    curve = method.loss_curve(generator, traffic, o.trial, top, base,
                              found["ndr"].trials + found["pdr"].trials)
    burst, _ = method.back_to_back(generator, traffic, o.longest_burst, o.burst_resolution,
                                   o.burst_repeats)
    progress(f"  burst {burst} frames")
    return {"version": traffic.version, "size": traffic.name, "sizes": traffic.sizes,
            "flows": traffic.flows, "bits_of_frame": traffic.bits, "ceiling": trial_facts(top),
            "at_the_ceiling": facts, "ndr": throughput_facts(found["ndr"]),
            "pdr": throughput_facts(found["pdr"]), "loss_curve": [trial_facts(t) for t in curve],
            "back_to_back": burst, "latency": []}


def measure_latency(o, loadgen, results):
    for result in results:
        traffic = method.Traffic(result["version"], result["sizes"], result["flows"])
        for share in (0.1, 0.5, 0.9):
            rate = result["ndr"]["rate"] * share
            if rate > 0:
                us = loadgen.latency(traffic, rate, o.latency_trial)
                result["latency"].append({"share": share, "rate": rate, "latency_us": us})
                progress(f"IPv{traffic.version}, {traffic.name} bytes, {share * 100:.0f} %: "
                         f"p50 {us['p50']:.1f} us")


def machine(o):
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo)
    commit = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], text=True,
                            capture_output=True, check=False).stdout.strip()
    dpdk = subprocess.run(["pkg-config", "--modversion", "libdpdk"], text=True, capture_output=True,
                          check=False).stdout.strip()
    return [f"Machine: {model.group(1) if model else platform.machine()}, {os.cpu_count()} CPUs, "
            f"load average {os.getloadavg()[0]:.1f} at the start, Linux {platform.release()}",
            f"Software: Postern {commit or 'of no checkout'}, DPDK {dpdk}, "
            f"Python {platform.python_version()}",
            f"Link: {'PCI ports ' + o.port + ' and ' + o.pktgen_port if o.port else 'net_memif, copying'}"
            ", MTU 1500, checksums in software unless the device has them",
            f"Cores: worker {o.server_core} (spinning), generator {o.client_core}, "
            f"application {o.client_core if o.generator == 'loadgen' else o.app_core}"]


def limits(o, generator):
    lines = []
    if generator.hosts_application:
        lines.append("The generator hosts the application in its own turns, on one core.")
    elif o.app_core == o.client_core:
        lines.append("Application and generator share a core, because there are no more: the kernel "
                     "gives each its turns of milliseconds, and a receive queue must hold what comes in "
                     "while the application waits for its own. Rates here are bounded by that.")
    if o.generator == "pktgen":
        lines.append("pktgen sends frames in bursts of 64 at the rate asked for. It has no mixed sizes "
                     "over IPv6: for IMIX over IPv6 see the report made with perf/loadgen.")
    return lines


def with_rig(o, make_generator, use):
    rig = rigs.Rig(o)
    try:
        rig.start_posternd()
        if make_generator is rigs.Pktgen:
            rig.start_echo()
        generator = make_generator(rig)
        return generator, use(generator)
    finally:
        rig.close()


def main():
    o = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of Rig.close()
    begin = time.monotonic()
    facts = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "machine": machine(o),
             "command": "perf/pktgen/run.sh " + shlex.join(without_paths(sys.argv[1:]))}
    make = rigs.Pktgen if o.generator == "pktgen" else rigs.Loadgen
    generator, results = with_rig(
        o, make, lambda g: [measure(o, g, g.rig, t) for t in o.traffics])
    if not o.port:  # pktgen's own figures are of no use: it probes 100 times a second
        with_rig(o, rigs.Loadgen, lambda g: measure_latency(o, g, results))
    facts |= {"generator": generator.name, "limits": limits(o, generator), "settings": {
        "trial_seconds": o.trial, "resolution": o.resolution, "repeats": o.repeats, "pdr": o.pdr,
        "burst_repeats": o.burst_repeats, "burst_resolution": o.burst_resolution,
        "longest_burst": o.longest_burst, "latency_seconds": o.latency_trial,
        "minutes": round((time.monotonic() - begin) / 60, 1)}}
    name = o.name or f"rfc2544-{o.generator}"
    report.write(o.output, name, facts, results)
    print(f"report: {o.output / name}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
