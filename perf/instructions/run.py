#!/usr/bin/env python3
"""Counts what the worker and the client library cost in instructions and compares with the committed
baseline.

bench_instructions and bench_client run under callgrind; only turns of the worker, or of the event
loop, are counted, and the count is the same on every run. A scenario that costs more than 3 % above baseline.json fails. Whoever has a
reason changes the baseline with --update and gives the reason in the commit.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from cost_profile import own_costs, profile

HERE = pathlib.Path(__file__).resolve().parent
BASELINE = HERE / 'baseline.json'
TOLERANCE = 0.03
SKIP = 77  # what Meson takes for "could not be run here"
UNITS = {'idle': 'turn', 'udp_receive': 'datagram', 'udp_echo': 'datagram', 'bulk_in': '1448 bytes',
         'bulk_out': '1448 bytes', 'connect': 'cycle'}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--program', required=True, action='append',
                        help='bench_instructions, bench_client; may be given more than once')
    parser.add_argument('--compiler', required=True, help='what compiled it, as in the baseline')
    parser.add_argument('--update', action='store_true', help='write the baseline anew')
    parser.add_argument('--keep', metavar='DIR', help="keep callgrind's file here; name one scenario")
    parser.add_argument('--report', metavar='FILE', type=pathlib.Path,
                        help='write a page of Markdown: every figure, and where the instructions go')
    parser.add_argument('--also', metavar='FLAVOR=PROGRAM', action='append', default=[],
                        help='in the report: the same of another build of bench_instructions')
    parser.add_argument('scenarios', nargs='*', help='default: all')
    return parser.parse_args()


def measure_one(program, scenarios, directory):
    out = pathlib.Path(directory) / 'callgrind.out'
    # Names in full: each scenario's file is read on its own.
    command = ['valgrind', '--tool=callgrind', '--collect-atstart=no', '--compress-strings=no',
               f'--callgrind-out-file={out}', program, *scenarios]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        sys.exit(f'{" ".join(command)}\n{done.stderr}')
    units = dict(line.split() for line in done.stdout.splitlines())
    counted = {}
    for file in pathlib.Path(directory).glob('callgrind.out.*'):
        head = file.read_text(errors='replace')[:4096]
        name = re.search(r'^desc: Trigger: Client Request: (\w+)$', head, re.M)
        total = re.search(r'^summary: (\d+)$', head, re.M)
        if name and total:
            counted[name[1]] = int(total[1]) / int(units[name[1]])
            file.rename(file.with_name(name[1] + '.callgrind'))
    if set(counted) != set(units):
        sys.exit(f'callgrind counted {sorted(counted)} of {sorted(units)}')
    return {name: round(counted[name], 1) for name in units}


def measure(programs, scenarios, directory):
    """Instructions per unit by scenario; a program leaves out scenarios that it does not know."""
    counted = {}
    for program in programs:
        counted |= measure_one(program, scenarios, directory)
    if not counted:
        sys.exit(f'no program knows {scenarios}')
    return counted


def compare(counted, baseline):
    """Prints a table; whether nothing rose too much."""
    good = True
    print(f'{"scenario":18}{"per":12}{"instructions":>13}{"baseline":>10}{"change":>9}')
    for name, now in counted.items():
        before = baseline.get(name)
        change = now / before - 1 if before else 0
        verdict = ''
        if not before:
            good, verdict = False, 'not in the baseline'
        elif change > TOLERANCE:
            good, verdict = False, 'more than 3 % above the baseline'
        elif change < -TOLERANCE:
            verdict = 'cheaper: lower the baseline with --update'
        unit = UNITS.get(name, 'request')
        print(f'{name:18}{unit:12}{now:13.1f}{before or 0:10.1f}{change:+9.1%}  {verdict}'.rstrip())
    return good


def row(*cells):
    return '| ' + ' | '.join(cells) + ' |'


def profile_table(name, file, units):
    """What the instructions of one scenario are for."""
    lines = [f'## `{name}`, per {UNITS.get(name, "request")}', '',
             row('what for', 'instructions', 'most of it'), '|---|---|---|']
    for part, cost, functions in profile(file, units):
        if cost >= 1:
            largest = ', '.join(f'`{function}` {n:.0f}' for function, n in functions if n >= 1)
            lines.append(row(part, f'{cost:,.0f}', largest))
    return lines + ['']


def write_report(path, compiler, flavors, counted, directory):
    """counted: {flavor: {scenario: instructions}}; the callgrind files are the first flavor's."""
    first = flavors[0]
    lines = ['# Instructions of the worker', '',
             f'Counted by callgrind over `net_ring` ({compiler}): the same on every run. '
             '[What a scenario is](../README.md#instructions). Made by `perf/instructions/run.py '
             '--report`; below the table, where they go; a function has what the compiler put into it.', '',
             row('scenario', 'per', *flavors), '|---|---|' + '---|' * len(flavors)]
    for name in counted[first]:
        lines.append(row(f'`{name}`', UNITS.get(name, 'request'),
                         *(f'{counted[flavor][name]:,.0f}' for flavor in flavors)))
    lines.append('')
    for name, each in counted[first].items():
        file = pathlib.Path(directory) / f'{name}.callgrind'
        total = sum(own_costs(file).values())
        lines += profile_table(name, file, total / each)
    path.write_text('\n'.join(lines))


def report(options):
    also = (a.split('=', 1) for a in options.also)
    programs = {'release': options.program, **{flavor: [program] for flavor, program in also}}
    counted = {}
    with tempfile.TemporaryDirectory() as scratch:
        for flavor, each in reversed(programs.items()):  # the first one's files remain
            counted[flavor] = measure(each, options.scenarios, scratch)
        write_report(options.report, options.compiler, list(programs), counted, scratch)


def main():
    options = arguments()
    if options.report:
        report(options)
        return
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if not options.update and baseline.get('compiler') != options.compiler:
        print(f'the baseline is for {baseline.get("compiler")}, this is {options.compiler}')
        sys.exit(SKIP)
    with tempfile.TemporaryDirectory() as scratch:
        if options.keep:
            pathlib.Path(options.keep).mkdir(parents=True, exist_ok=True)
        counted = measure(options.program, options.scenarios, options.keep or scratch)
    instructions = baseline.get('instructions', {})
    if options.update:
        compare(counted, instructions)
        instructions.update(counted)
        baseline = {'compiler': options.compiler, 'instructions': instructions}
        BASELINE.write_text(json.dumps(baseline, indent=2) + '\n')
        return
    if not compare(counted, instructions):
        sys.exit(1)


if __name__ == '__main__':
    main()
