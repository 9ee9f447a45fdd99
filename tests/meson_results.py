#!/usr/bin/env python3
"""Runs suites of `meson test` and counts every GoogleTest case as a test of its own.

Prints one line per failed case and one per executable, and appends a line for each case to the
file of results that run.sh totals: STATUS <tab> NAME <tab> SECONDS <tab> WHY.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--prefix", default="", help="put before each name")
    parser.add_argument("--filter", default="", help="only tests whose name matches this expression")
    parser.add_argument("--results", type=pathlib.Path, required=True)
    parser.add_argument("suites", nargs="+")
    return parser.parse_args()


def list_tests(build, suites):
    """What Meson knows: name and command of each test of these suites."""
    text = subprocess.run(["meson", "introspect", "--tests", str(build)], check=True,
                          capture_output=True, text=True).stdout
    for test in json.loads(text):
        suite = next((s for s in suites if any(name.endswith(":" + s) for name in test["suite"])), None)
        if suite:
            yield suite, test


def run_test(build, test, environment):
    """Runs one executable as Meson does, in the build directory. Returns exit status and output."""
    env = dict(os.environ, **environment)
    env.update(test.get("env", {}))
    try:
        done = subprocess.run(test["cmd"], cwd=test["workdir"] or build, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=4 * max(test["timeout"], 30), check=False)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        return 124, output.decode(errors="replace") + "\ntimed out"


def gtest_cases(report):
    """(status, name, seconds, why) of each case in a GoogleTest JSON report."""
    for suite in report["testsuites"]:
        for case in suite["testsuite"]:
            name = f'{case["classname"]}.{case["name"]}'
            seconds = case["time"].rstrip("s")
            if case.get("failures"):
                why = case["failures"][0]["failure"].strip().splitlines()
                yield "FAIL", name, seconds, " ".join(why)[:300]
            elif case["result"] == "SKIPPED":
                yield "SKIP", name, seconds, "the test skipped itself"
            elif case["status"] == "RUN":
                yield "PASS", name, seconds, ""


def cases_of(build, suite, test, prefix, pattern):
    """Runs one test executable and returns its cases."""
    base = f'{prefix}{suite}/{test["name"]}'
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.json"
        status, output = run_test(build, test, {"GTEST_OUTPUT": f"json:{report}"})
        cases = []
        if report.exists():
            cases = [(s, f"{base}/{name}", t, why)
                     for s, name, t, why in gtest_cases(json.loads(report.read_text()))]
    if status == 77:
        cases = [("SKIP", base, "0", "the test skipped itself")]
    elif not cases:
        cases = [("FAIL" if status else "PASS", base, "0", f"exit status {status}" if status else "")]
    elif status and not any(case[0] == "FAIL" for case in cases):
        # All cases passed, and yet the process failed: a sanitizer, or a crash at its end.
        cases.append(("FAIL", f"{base}/exit", "0", f"exit status {status}"))
    if status not in (0, 77):
        print(output)
    return [case for case in cases if re.search(pattern, case[1])]


def main():
    args = parse_arguments()
    failed = False
    with args.results.open("a") as results:
        for suite, test in list_tests(args.build, args.suites):
            cases = cases_of(args.build, suite, test, args.prefix, args.filter)
            if not cases:
                continue
            for case in cases:
                results.write("\t".join(case) + "\n")
                if case[0] == "FAIL":
                    print(f"FAIL  {case[1]}: {case[3]}")
            results.flush()
            bad = sum(case[0] == "FAIL" for case in cases)
            failed = failed or bad > 0
            good = sum(case[0] == "PASS" for case in cases)
            print(f'{"FAIL" if bad else "PASS"}  {args.prefix}{suite}/{test["name"]}: '
                  f"{good} passed, {bad} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
