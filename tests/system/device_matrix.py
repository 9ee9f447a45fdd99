#!/usr/bin/env python3
"""Writes the table of devices in the README from what the tests found.

    POSTERN_DEVICE_FACTS=/tmp/facts tests/run.sh --suite system --filter devices
    POSTERN_DEVICE_FACTS=/tmp/facts tests/run.sh --suite nic
    tests/system/device_matrix.py /tmp/facts

usage: device_matrix.py FACTS: a line of JSON for each device that was run."""
import json
import pathlib
import sys

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- devices: tests/system/device_matrix.py -->", "<!-- /devices -->"

# What a device lacks, and what Postern does instead.
INSTEAD = {
    "rx-checksum": "verifies checksums in software",
    "tx-checksum": "computes checksums in software",
    "rss": "hands packets over between workers",
}


def row(fact):
    has = fact["capabilities"].split()
    offers = ", ".join(c for c in has if not c.startswith("wake=")) or "nothing"
    wake = next((c[5:] for c in has if c.startswith("wake=")), "poll")
    sleeps = {"fd": "by its descriptor", "interrupt": "by interrupt", "poll": "naps"}[wake]
    if "rx-checksum" not in has and "tx-checksum" not in has:
        lacks = ["checksums in software"]
    else:
        lacks = [text for name, text in INSTEAD.items() if name not in has and name != "rss"]
    if fact["queues"] > 1 and "rss" not in has:
        lacks.append(INSTEAD["rss"])
    return (f"| {fact['device']} | {fact['test']} | {offers} | {sleeps} | "
            f"{'; '.join(lacks) or '-'} |")


def main():
    facts = {}
    for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
        fact = json.loads(line)
        facts[fact["device"]] = fact
    table = ["| device | what was run | offers | wakes a sleeping worker | Postern does itself |",
             "|---|---|---|---|---|", *map(row, facts.values())]
    text = README.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    README.write_text(head + BEGIN + "\n" + "\n".join(table) + "\n" + END + tail)


if __name__ == "__main__":
    main()
