#!/usr/bin/env python3
"""Runs the system tests: each case in a process and a network namespace of its own."""
import argparse
import importlib
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

import harness  # noqa: E402

SKIPPED = 77


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--filter", default="", help="only cases whose name matches this expression")
    parser.add_argument("--results", type=pathlib.Path, help="append a line for each case here")
    parser.add_argument("--jobs", type=int, default=1, help="cases at once, where they allow it")
    parser.add_argument("--retries", type=int, default=0,
                        help="failed cases that may run once more, for machines with noisy neighbors")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="show logs of passing cases too")
    return parser.parse_args()


def load_cases(pattern):
    for path in sorted(HERE.glob("cases_*.py")):
        importlib.import_module(path.stem)
    return [c for c in harness.CASES if re.search(pattern, c["name"])]


def run_inside(case, staging, directory):
    """The child: builds the world, runs the case. Returns the exit status."""
    missing = [program for program in case["needs"] if not shutil.which(program)]
    if missing:
        print(f"skip: {', '.join(missing)} is not installed")
        return SKIPPED
    harness.enter_new_network()
    world = harness.World(staging, directory)
    status = 1
    try:
        case["body"](world)
        status = 0
        if world.daemon and not getattr(world, "daemon_may_end", False):
            assert world.daemon.alive(), "posternd ended during the test"
    except harness.Skip as skip:
        print(f"skip: {skip}")
        status = SKIPPED
    except BaseException:  # noqa: B902 whatever it is, the test failed
        status = 1
        traceback.print_exc()
        print(world.logs())
    finally:
        world.close()
    return status


class Running:
    """A case in its process."""

    def __init__(self, case, staging):
        self.case = case
        self.begin = time.monotonic()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="postern-test-"))
        self.directory.chmod(0o755)
        self.output = self.directory / "output"
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fd = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            status = 1
            try:
                status = run_inside(case, staging, self.directory)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)

    def poll(self):
        """None while it runs, else (status word, why)."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and time.monotonic() - self.begin < self.case["seconds"]:
            return None
        timed_out = pid == 0
        if timed_out:
            self.kill()
        code = os.waitstatus_to_exitcode(status) if not timed_out else None
        text = self.text()
        if timed_out:
            return "FAIL", f"still running after {self.case['seconds']} s"
        if code == 0:
            return "PASS", ""
        if code == SKIPPED:
            return "SKIP", next((line[6:] for line in text.splitlines()
                                 if line.startswith("skip: ")), "no reason given")
        lines = [line for line in text.splitlines() if re.match(r"\w*(Error|Exception|Expired)\b", line)]
        return "FAIL", lines[0] if lines else f"exit status {code}"

    def text(self):
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)

    def clean(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def report(running, outcome, results, verbose):
    word, why = outcome
    seconds = f"{time.monotonic() - running.begin:.1f}"
    text = running.text()
    print(f"{word}  {running.case['name']} ({seconds} s){': ' + why if why else ''}")
    for line in text.splitlines():
        if line.startswith("note: "):
            print(f"      {line[6:]}")
    if word == "FAIL" or verbose:
        print("      | " + "\n      | ".join(text.splitlines()))
        logs = [p for p in sorted(running.directory.glob("*.log"))] if "--- " not in text else []
        for path in logs:
            tail = path.read_text(errors="replace").splitlines()[-15:]
            print(f"      | --- {path.name}\n      | " + "\n      | ".join(tail))
    sys.stdout.flush()
    if results:
        with results.open("a") as file:
            file.write("\t".join((word, running.case["name"], seconds, why)) + "\n")


def run_all(cases, jobs, staging, args):
    """Runs cases, at most `jobs` at once. Returns how many failed."""
    waiting, active, failed, retried = list(cases), [], 0, set()
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(Running(waiting.pop(0), staging))
            for running in list(active):
                outcome = running.poll()
                if outcome is None:
                    continue
                active.remove(running)
                name = running.case["name"]
                again = outcome[0] == "FAIL" and name not in retried and len(retried) < args.retries
                if again:  # said aloud, not hidden: "RETRY" stands in the output with what failed
                    retried.add(name)
                    waiting.append(running.case)
                    report(running, ("RETRY", outcome[1]), None, True)
                else:
                    report(running, outcome, args.results, args.verbose)
                    failed += outcome[0] == "FAIL"
                running.clean()
            time.sleep(0.02)
    finally:
        for running in active:
            running.kill()
            running.clean()
    return failed


def main():
    args = parse_arguments()
    cases = load_cases(args.filter)
    if args.list:
        print("\n".join(c["name"] for c in cases))
        return 0
    if os.geteuid() != 0:
        sys.exit("run.py: needs root for network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="postern-staging-") as scratch:
        os.chmod(scratch, 0o755)
        staging = harness.Staging(args.build.resolve(), pathlib.Path(scratch))
        failed = run_all([c for c in cases if not c["alone"]], args.jobs, staging, args)
        failed += run_all([c for c in cases if c["alone"]], 1, staging, args)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
