#!/usr/bin/env python3
"""Fails when a folder under lib/ includes something that does not stand to its left in the design.

usage: layering.py SOURCE_ROOT [STAMP]
"""
import pathlib
import re
import sys

# folder -> the project folders it may include from, besides itself
PURE = {"base", "wire"}
ALLOWED = {
    "abi": set(),
    "base": set(),
    "wire": {"base"},
    "tcp": PURE,
    "udp": PURE,
    "ip": PURE,
    "flow": PURE,
    "stack": PURE | {"tcp", "udp", "ip", "flow"},
    "shm": {"abi", "base"},
    "client": {"abi"},
    "dpdk": PURE,
    "dataplane": PURE | {"tcp", "udp", "ip", "flow", "stack", "abi", "shm", "dpdk"},
    "control": PURE | {"abi", "tcp", "ip"},
}
# third-party headers by prefix -> the folders that may see them
EXTERNAL = {
    "rte_": {"dpdk", "dataplane"},
    "spdlog/": {"control"},
    "yaml-cpp/": {"control"},
    "boost/": {"control", "client"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def violations(root):
    for folder, allowed in ALLOWED.items():
        for path in sorted((root / "lib" / folder).rglob("*")):
            if path.suffix not in {".h", ".hpp", ".cc", ".c", ".def"}:
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                target = match.group(1)
                top = target.split("/")[0] if "/" in target else None
                if top in ALLOWED and top != folder and top not in allowed:
                    yield path, number, f"lib/{folder} must not include lib/{top}"
                for prefix, users in EXTERNAL.items():
                    if target.startswith(prefix) and folder not in users:
                        yield path, number, f"lib/{folder} must not include {target}"


def main():
    root = pathlib.Path(sys.argv[1])
    found = list(violations(root))
    for path, number, what in found:
        print(f"{path.relative_to(root)}:{number}: {what}", file=sys.stderr)
    if not found and len(sys.argv) > 2:
        pathlib.Path(sys.argv[2]).touch()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
