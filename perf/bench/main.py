"""Benchmarks of Postern against the bare link and the kernel, by turns.

Every sheet is measured in every round, one variant after the other, so that what else the machine
does hits all of them; results are medians with spread, and ratios of the same round. The server's
core has the daemon's worker, testpmd, the reflector or the kernel's server; the client's core has the
load generator and, for Postern, the application too.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

from report import machine, revision
from programs import Programs
from sheets import SHEETS
from systems import Bench, Failed

HERE = pathlib.Path(__file__).resolve().parent


def parse_options():
    cores = sorted(os.sched_getaffinity(0))
    names = [s.name for s in [*SHEETS, Programs]]
    p = argparse.ArgumentParser(prog="perf/run.sh", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", required=True, help=argparse.SUPPRESS)
    p.add_argument("--other-build", help=argparse.SUPPRESS)
    p.add_argument("--flavor", default="release", help=argparse.SUPPRESS)
    p.add_argument("--against", default="", help=argparse.SUPPRESS)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1, help="measured, each")
    p.add_argument("--warmup", type=float, default=0.5, help="seconds before")
    p.add_argument("--only", default=",".join(names),
                   help=f"sheets, separated by commas: {', '.join(names)}")
    p.add_argument("--case", default="", help="echo: cases whose title contains this")
    p.add_argument("--quick", action="store_true",
                   help="2 rounds of half a second, no million connections")
    p.add_argument("--server-core", type=int, default=cores[0])
    p.add_argument("--client-core", type=int, default=cores[-1])
    p.add_argument("--output", default=HERE.parent / "report", help="directory of the report")
    o = p.parse_args()
    if o.quick:
        o.rounds, o.seconds, o.warmup = 2, 0.5, 0.2
    o.only = o.only.split(",")
    if unknown := set(o.only) - set(names):
        p.error(f"there is no sheet {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if o.server_core == o.client_core:
        p.error("two cores are needed")
    if os.geteuid() != 0:
        p.error("run it as root: it makes network namespaces")
    return o


def measure(sheet, options):
    print(f"{sheet.name}: ", end="", file=sys.stderr, flush=True)
    for _ in range(options.rounds):
        sheet.measure()
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def write(sheet, bench, about):
    """One file of Markdown a sheet, one of JSON with every sample, and its plots."""
    o = bench.o
    out = pathlib.Path(o.output)
    out.mkdir(parents=True, exist_ok=True)
    body, plots = sheet.render()
    text = "\n".join([
        f"# {sheet.title}", "",
        f"Revision {about['revision']} ({o.flavor}), {about['date']}. {about['machine']}.", "",
        f"{o.rounds} rounds by turns, {o.seconds:g} s each after {o.warmup:g} s; median (least to "
        "most), ratios within a round. Link: net_memif, copying, MTU 1500 unless said, TCP and UDP "
        "checksums filled in and verified at both ends in software unless said, "
        f"{'hugepages' if bench.huge else 'no hugepages'}. Everyone spins unless said. The daemon has "
        "one worker on one core; load generator and application share the other. "
        f"[What each number is](../README.md). {sheet.about}", "", body, ""])
    (out / f"{sheet.name}.md").write_text(text)
    for name, svg in plots.items():
        (out / name).write_text(svg)
    samples = [{" ".join(map(str, k)) if isinstance(k, tuple) else str(k): v for k, v in r.items()}
               for r in sheet.samples]
    (out / f"{sheet.name}.json").write_text(
        json.dumps({**about, "sheet": sheet.name, "flavor": o.flavor, "rounds": samples}, indent=1) +
        "\n")
    print(text)


def main():
    options = parse_options()
    about = {"revision": revision(HERE), "machine": machine(), "date": time.strftime("%Y-%m-%d")}
    bench = Bench(options)
    try:
        for kind in [*SHEETS, Programs]:
            if kind.name in options.only:
                sheet = kind(bench)
                measure(sheet, options)
                write(sheet, bench, about)
    except (Failed, subprocess.TimeoutExpired) as error:
        sys.exit(f"perf/run.sh: {error}")
    finally:
        bench.close()


if __name__ == "__main__":
    main()
