#!/usr/bin/env python3
"""Runs the fuzzers of a clang build for a while each, two at a time.

tests/fuzz/run.py --build build-fuzz [--seconds 60] [--filter REGEX] [--seed N] [--keep]

Each begins with its inputs in tests/fuzz/corpus. What it finds is printed: the input, what the
program said of it, and the command that repeats it; the input stays in BUILD/fuzz-findings.
"""
import argparse
import base64
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
LONGEST = {"fuzz_parse": 300, "fuzz_tcp_options": 64, "fuzz_tcp_engine": 2000,
           "fuzz_tcp_pair": 2000, "fuzz_fragments": 1000, "fuzz_stack": 3000, "fuzz_session": 1000,
           "fuzz_config": 2000}  # bytes of an input
KEPT_FILES, KEPT_SIZE = 64, 1024  # a target: --keep keeps no more inputs, and none that is longer
GRACE = 60  # seconds beyond its time after which a fuzzer is taken to hang
KEPT_NAME = re.compile("[0-9a-f]{16}")  # other names are of findings, which stay


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, default=60, help="for each fuzzer")
    parser.add_argument("--seed", type=int, default=0, help="the same one mutates alike each time; 0: another each time")
    parser.add_argument("--filter", default="", help="only those whose name matches")
    parser.add_argument("--results", type=pathlib.Path, help="file of results that run.sh totals")
    parser.add_argument("--keep", action="store_true",
                        help="put the inputs that reach new code into tests/fuzz/corpus")
    return parser.parse_args()


def reproducer(artifact, program):
    """How a stranger repeats it, without this machine's files if it is short."""
    data = artifact.read_bytes()
    lines = [f"reproducer: {program} {artifact}"]
    if len(data) <= 3000:
        text = base64.b64encode(data).decode()
        lines.append(f"or: echo {text} | base64 -d >input && {program} input")
    return "\n".join(lines)


def keep(program, name, scratch):
    """Least set of short inputs that reaches what all of them reach."""
    merged = scratch / "merged"
    merged.mkdir()
    subprocess.run([program, "-merge=1", f"-max_len={KEPT_SIZE}", merged, CORPUS / name,
                    scratch / "corpus"], capture_output=True, timeout=600, check=True)
    chosen = sorted(merged.iterdir(), key=lambda path: path.stat().st_size, reverse=True)[:KEPT_FILES]
    for path in (CORPUS / name).iterdir():
        if KEPT_NAME.fullmatch(path.name):
            path.unlink()
    for path in chosen:
        shutil.copy(path, CORPUS / name / path.name[:16])


def without_aslr():
    """Compared pointers become part of mutations: the same ones each time, where that is allowed."""
    command = ["setarch", "-R"]
    allowed = shutil.which("setarch") and subprocess.run([*command, "true"], stderr=subprocess.DEVNULL,
                                                         check=False).returncode == 0
    return command if allowed else []


def supervised(command, env, seconds):
    """Its exit status and what it said; one that outlives its time by far is killed: status None."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", env=env)
    try:
        said, _ = process.communicate(timeout=seconds + GRACE)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return None, f"{said}\nstill running {GRACE} s after its {seconds} s: killed"


def fuzz(program, args):
    """One fuzzer's time. Returns (name, seconds, what it found or ''), and its last word."""
    name = program.name
    findings = args.build / "fuzz-findings"
    findings.mkdir(exist_ok=True)
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        (scratch / "corpus").mkdir()
        command = [program, f"-max_total_time={args.seconds}", f"-max_len={LONGEST[name]}",
                   f"-seed={args.seed}", "-reload=0",
                   "-timeout=20", "-len_control=0", "-rss_limit_mb=2048", "-print_final_stats=1",
                   f"-artifact_prefix={findings}/{name}-", scratch / "corpus", CORPUS / name]
        # Optional: dictionaries help where the input is text.
        if (HERE / f"{name}.dict").exists():
            command.insert(1, f"-dict={HERE / name}.dict")
        if args.seed != 0:
            command[:0] = without_aslr()
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1",
                   UBSAN_OPTIONS="print_stacktrace=1")
        status, log = supervised(command, env, args.seconds)
        if status == 0 and args.keep:
            keep(program, name, scratch)
    seconds = time.monotonic() - begin
    runs = re.search(r"number_of_executed_units: (\d+)", log)
    coverage = re.findall(r"cov: (\d+)", log)
    word = f"{runs[1] if runs else 0} inputs, {coverage[-1] if coverage else 0} edges"
    if status == 0:
        return name, seconds, "", word
    parts = [log[-6000:]]
    for artifact in sorted(set(findings.iterdir()) - before):
        parts.append(reproducer(artifact, program))
    return name, seconds, "\n".join(parts), word


def main():
    args = parse_arguments()
    args.build = args.build.resolve()
    programs = [args.build / "tests/fuzz" / name for name in LONGEST
                if re.search(args.filter, f"fuzz/{name}")]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, seconds, found, word in pool.map(lambda p: fuzz(p, args), programs):
            status = "FAIL" if found else "PASS"
            failed += bool(found)
            if found:
                print(found)
            print(f"{status}  fuzz/{name} ({seconds:.0f} s): {word}", flush=True)
            if args.results:
                why = found.strip().splitlines()[-1][:300] if found else ""
                with args.results.open("a") as results:
                    results.write(f"{status}\tfuzz/{name}\t{seconds:.0f}\t{why}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
