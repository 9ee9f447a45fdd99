#!/usr/bin/env python3
"""What each call of the pure TCP engine costs: perf/report/tcp.md and tcp.json.

perf/tcp/report.py --build build [--print]

Instructions by callgrind (bench_tcp): the same program counts the same on every run, another compiler
counts otherwise. Nanoseconds (bench_tcp_time): of this machine and this hour, each twice.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / 'instructions'))

import run as instructions  # noqa: E402

REPORT = HERE.parent / 'report'
# Scenario -> what is counted, and for what.
ROWS = {
    'receive_data': ('on_segment', 'data in order, 1448 bytes'),
    'send_ack': ('next_segment', 'the ACK of two segments, with the call that finds nothing more'),
    'receive_ack': ('on_segment', 'an ACK of two segments, with CUBIC'),
    'send_data': ('next_segment', 'a segment of 1448 bytes, with the call that finds nothing more'),
    'send_burst': ('next_segment', '44 segments in one for TSO'),
    'out_of_order': ('on_segment', 'data behind a gap'),
    'receive_sack': ('on_segment', 'an ACK with a SACK block that has grown'),
    'retransmit': ('next_segment', 'a retransmission, with the call that finds nothing more'),
    'ack_timer': ('on_timer', 'the delayed ACK'),
    'retransmission_timer': ('on_timer', 'a timeout with ten segments in flight'),
    'early_timer': ('on_timer', 'nothing is due'),
}


# Of bench_tcp_time: scenario -> what is timed.
TIMED = {
    'receive_data': '`on_segment`: data in order, 1448 bytes',
    'receive_ack': '`on_segment`: an ACK of two segments, with CUBIC',
    'send_data': '`next_segment`: a segment of 1448 bytes',
    'timer': '`on_timer`: the delayed ACK',
}
# Heading -> arguments of bench_tcp_time.
SETUPS = {
    '1 connection': ['1'],
    '1 million, random order': ['1000000'],
    'the same, fetched ahead in bursts of 32': ['1000000', '32'],
}
RUNS = 2


def timed(program):
    """{heading: {scenario: [nanoseconds of each run]}}, and the bytes of a connection."""
    out, size = {heading: {} for heading in SETUPS}, 0
    for _ in range(RUNS):
        for heading, arguments in SETUPS.items():
            done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True,
                                  timeout=600)
            figures = dict(line.split() for line in done.stdout.splitlines())
            size = int(figures.pop('bytes'))
            for name, value in figures.items():
                out[heading].setdefault(name, []).append(float(value))
    return out, size


def time_table(times):
    lines = ['| call | ' + ' | '.join(SETUPS) + ' |', '|---' * (len(SETUPS) + 1) + '|']
    for name, what in TIMED.items():
        cells = [', '.join(f'{ns:.0f}' for ns in times[heading][name]) for heading in SETUPS]
        lines.append(f'| {what} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def compiler():
    return subprocess.run(['g++', '-dumpfullversion'], capture_output=True, text=True,
                          check=True).stdout.strip()


def table(counted):
    lines = ['| call | for | instructions |', '|---|---|---|']
    for name, (call, what) in ROWS.items():
        lines.append(f'| `{call}` | {what} | {counted[name]:.0f} |')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', required=True, type=pathlib.Path, help='a release build')
    parser.add_argument('--print', action='store_true', help='only the tables')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counted = instructions.measure(str(args.build / 'perf/bench_tcp'), [], scratch)
    times, size = timed(args.build / 'perf/bench_tcp_time')
    if args.print:
        print(table(counted), time_table(times), f'{size} bytes a connection', sep='\n\n')
        return
    (REPORT / 'tcp.json').write_text(json.dumps(
        {'compiler': f'gcc {compiler()} release', 'instructions': counted, 'nanoseconds': times,
         'bytes': size}, indent=2) + '\n')
    (REPORT / 'tcp.md').write_text(f'''# What the TCP engine costs

The pure engine, connections with SACK, timestamps and window scaling, MSS 1448, CUBIC, without headers,
checksums, payload and sockets. gcc {compiler()}, release. `perf/tcp/report.py --build build` makes this
file. A connection is {size} bytes; established in-order traffic touches two cache lines of them. What a
connection costs the daemon in all is in `scale.md`.

## Instructions

One connection; counted by callgrind in each call alone.

{table(counted)}

What a packet costs the whole worker is in `perf/instructions`, which also guards it.

## Nanoseconds

Of this machine, which is shared and whose speed differs by more than two: two runs, one after the other.
In the second column every call finds its connection in memory; in the third the two lines are fetched
for a burst of 32 before the burst is handled; of a burst of packets the worker fetches the first.

{time_table(times)}
''')


if __name__ == '__main__':
    main()
