#!/usr/bin/env python3
"""What each call of the pure TCP engine costs in instructions: perf/report/tcp.md and tcp.json.

perf/tcp/report.py --program build/perf/bench_tcp [--print]

The same program counts the same on every run; another compiler counts otherwise.
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
    parser.add_argument('--program', required=True, help='bench_tcp')
    parser.add_argument('--print', action='store_true', help='only the table')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counted = instructions.measure(args.program, [], scratch)
    if args.print:
        print(table(counted))
        return
    (REPORT / 'tcp.json').write_text(json.dumps(
        {'compiler': f'gcc {compiler()} release', 'instructions': counted}, indent=2) + '\n')
    (REPORT / 'tcp.md').write_text(f'''# Instructions of the TCP engine

The pure engine, one connection with SACK, timestamps and window scaling, MSS 1448, CUBIC; instructions
counted by callgrind in each call alone, without headers, checksums, payload and sockets. gcc
{compiler()}, release. `perf/tcp/report.py --program build/perf/bench_tcp` makes this file.

{table(counted)}

What a packet costs the whole worker is in `perf/instructions`, which also guards it.
''')


if __name__ == '__main__':
    main()
