#!/usr/bin/env python3
"""Runs packetdrill scripts against a Postern stack.

tests/packetdrill/run.py [--module postern_packetdrill.so] [--flags key=value,...] [script.pkt ...]

Without scripts: those of tests/packetdrill/scripts. packetdrill is found by $PACKETDRILL or $PATH;
exit status 77 (skipped) if there is none. The module is looked for in build*/tests/packetdrill.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIMIT = 120  # seconds a script


def find_module(given):
    if given:
        return pathlib.Path(given).resolve()
    found = sorted(ROOT.glob("build*/tests/packetdrill/postern_packetdrill.so"),
                   key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit("no postern_packetdrill.so under build*: build first, or give --module")
    return found[-1]


def run(packetdrill, module, flags, script):
    """packetdrill's complaint, or an empty string."""
    command = [packetdrill, f"--so_filename={module}", "--local_ip=192.168.0.2",
               "--tolerance_usecs=10000"]
    if flags:
        command.append(f"--so_flags={flags}")
    environment = dict(os.environ, LD_PRELOAD=str(module))
    try:
        done = subprocess.run([*command, script.name], cwd=script.parent, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"still running after {LIMIT} s"
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or "failed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--module")
    parser.add_argument("--flags", default="", help="see README.md")
    parser.add_argument("scripts", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    packetdrill = os.environ.get("PACKETDRILL") or shutil.which("packetdrill")
    if packetdrill is None:
        print("skipped: no packetdrill in $PATH and no $PACKETDRILL "
              "(https://github.com/google/packetdrill)")
        return 77
    module = find_module(options.module)
    scripts = options.scripts or sorted((HERE / "scripts").glob("*.pkt"))
    flags = options.flags if options.scripts else options.flags or "timestamps=0"
    failed = 0
    for script in scripts:
        complaint = run(packetdrill, module, flags, script.resolve())
        if complaint and not options.scripts:  # real time on a busy machine: once more
            complaint = run(packetdrill, module, flags, script.resolve())
        print(f"{'FAIL' if complaint else 'PASS'}  {script.name}  {complaint}".rstrip(), flush=True)
        failed += bool(complaint)
    print(f"{len(scripts) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
