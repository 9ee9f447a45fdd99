#!/usr/bin/env python3
"""Which small mistakes in lib/tcp would no test notice?

tests/mutation/run.py --build build [--sample 100] [--seed 1] [--files recovery.cc,undo.cc] [--list]

Applies one small mutation at a time to a copy of a source of lib/tcp: a comparison that is flipped or
includes its bound, && for ||, a constant off by one, a condition negated, a statement deleted. The
copy alone is compiled, linked with the objects of BUILD into the unit tests and the runner of the
packet scripts, and those are run. A mutant that passes them all survives, and is printed: either a
test is missing or the code does not matter. What does not compile, with warnings as errors, is not
counted, nor is what equivalent.txt lists, with the reason. The tree itself is not touched. On demand only: a mutant takes seconds.
"""
import argparse
import concurrent.futures
import dataclasses
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SOURCES = ROOT / "lib/tcp"
EQUIVALENT = pathlib.Path(__file__).with_name("equivalent.txt")
NOT_MUTATED = {"invariants.cc"}  # what must always hold is a test itself
LONGEST_RUN = 20  # seconds; a mutant that hangs is noticed

SWAPS = [(r"seq_lt\(", "seq_le("), (r"seq_le\(", "seq_lt("), (r"seq_gt\(", "seq_ge("),
         (r"seq_ge\(", "seq_gt("), (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "),
         (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "), (r" && ", " || "),
         (r" \|\| ", " && "), (r" \+ ", " - "), (r" - ", " + "), (r"\btrue\b", "false"),
         (r"\bfalse\b", "true")]
NUMBER = re.compile(r"(?<![\w.'])(\d+)(?=U?\b)(?![\w.']*')(?!\.)")
DELETABLE = re.compile(r"  +[a-z_][\w.>\[\]()&*,+ -]*( = | \+= | -= |\().*;$")
DECLARES = re.compile(r"  +(const|return|auto|u?int\w*|bool|Time|Duration|TcpRange|using|case|break"
                      r"|constexpr)\b")


@dataclasses.dataclass
class Mutation:
    file: pathlib.Path
    line: int  # from 0
    old: str
    new: str
    what: str

    def __str__(self):
        return (f"{self.file.relative_to(ROOT)}:{self.line + 1}: {self.what}\n"
                f"  - {self.old.strip()}\n  + {self.new.strip() or '(nothing)'}")


def code_of(line):
    """The line without its comment."""
    return line.split("//")[0].rstrip()


def mutations_of_line(file, number, line):
    code = code_of(line)
    if not code.startswith("  ") and not code.startswith("constexpr"):
        return
    for pattern, by in SWAPS:
        for hit in re.finditer(pattern, code):
            new = code[:hit.start()] + by + code[hit.end():]
            yield Mutation(file, number, line, new, f"{hit[0].strip()} becomes {by.strip()}")
    for hit in NUMBER.finditer(code):
        new = code[:hit.start()] + str(int(hit[1]) + 1) + code[hit.end():]
        yield Mutation(file, number, line, new, f"{hit[1]} off by one")
    if hit := re.fullmatch(r"( +)if \((.*)\)( \{| [^;{]*;)?", code):
        new = f"{hit[1]}if (!({hit[2]})){hit[3] or ''}"
        if hit[2].count("(") == hit[2].count(")"):
            yield Mutation(file, number, line, new, "condition negated")
    if DELETABLE.fullmatch(code) and not DECLARES.match(code):
        yield Mutation(file, number, line, "", "statement deleted")


def equivalents():
    lines = [line for line in EQUIVALENT.read_text().splitlines() if not line.startswith("#")]
    return {tuple(part.strip() for part in line.split(" | ")[:3]) for line in lines}


def all_mutations(names):
    left_out = equivalents()
    for file in sorted(SOURCES.glob("*.cc")):
        if file.name in NOT_MUTATED or (names and file.name not in names):
            continue
        for number, line in enumerate(file.read_text().splitlines()):
            for mutation in mutations_of_line(file, number, line):
                if (file.name, mutation.what, mutation.old.strip()) not in left_out:
                    yield mutation


class Workshop:
    """Compiles and tries mutants with the objects of a build."""

    def __init__(self, build, directory):
        self.build, self.directory = build, directory
        self.scripts = sorted(str(path) for path in (ROOT / "tests/script").glob("*/*.pkt"))
        self.library = sorted((build / "lib/tcp").glob("libpostern_tcp.a.p/*.o"))
        self.programs = {
            "unit": (sorted((build / "tests/unit/tcp/test_tcp.p").glob("*.o")),
                     ["-lgtest_main", "-lgmock", "-lgtest", "-lpthread"]),
            "script": (sorted([*(build / "tests/script/run_scripts.p").glob("*.o"),
                               *(build / "tests/script/libscript.a.p").glob("*.o")]), []),
        }
        if not self.library or not all(objects for objects, _ in self.programs.values()):
            sys.exit(f"build them first: ninja -C {build} tests/unit/tcp/test_tcp"
                     " tests/script/run_scripts")

    def compile(self, mutation, where):
        lines = mutation.file.read_text().splitlines()
        lines[mutation.line] = mutation.new
        source = where / mutation.file.name
        source.write_text("\n".join(lines) + "\n")
        # What has become unused or constant is a mutation all the same.
        return subprocess.run(["g++", "-std=c++20", "-O1", "-c", "-Wno-all", "-fno-strict-aliasing",
                               f"-I{ROOT}/lib", source, "-o", where / "mutant.o"],
                              capture_output=True, check=False).returncode == 0

    def link(self, name, mutation, where):
        objects, more = self.programs[name]
        others = [o for o in self.library if not o.name.startswith(mutation.file.name)]
        archives = [self.build / f"lib/{part}/libpostern_{part}.a" for part in ("wire", "base")]
        subprocess.run(["g++", *objects, where / "mutant.o", *others, *archives, *more,
                        "-o", where / name], check=True)

    def passes(self, name, where):
        command = [where / name] + (self.scripts if name == "script" else ["--gtest_brief=1"])
        try:
            return subprocess.run(command, capture_output=True, timeout=LONGEST_RUN,
                                  check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def attempt(self, mutation):
        """'killed', 'survived', or 'invalid' if it does not compile."""
        where = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        try:
            if not self.compile(mutation, where):
                return "invalid"
            for name in self.programs:
                self.link(name, mutation, where)
                if not self.passes(name, where):
                    return "killed"
            return "survived"
        finally:
            shutil.rmtree(where)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--sample", type=int, default=100, help="mutants to try; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="of the choice")
    parser.add_argument("--files", default="", help="only these, by commas")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the mutations and stop")
    return parser.parse_args()


def untouched():
    """No mutation: what the tests must let pass."""
    source = SOURCES / "undo.cc"
    first = source.read_text().splitlines()[0]
    return Mutation(source, 0, first, first, "nothing")


def main():
    args = parse_arguments()
    chosen = list(all_mutations(set(args.files.split(",")) - {""}))
    if args.sample and args.sample < len(chosen):
        chosen = random.Random(args.seed).sample(chosen, args.sample)
    if args.list:
        print("\n".join(map(str, chosen)))
        return 0
    counts = dict.fromkeys(("killed", "survived", "invalid"), 0)
    with tempfile.TemporaryDirectory() as directory:
        workshop = Workshop(args.build.resolve(), pathlib.Path(directory))
        if workshop.attempt(untouched()) != "survived":
            sys.exit("the tests fail without a mutation")
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            for mutation, verdict in zip(chosen, pool.map(workshop.attempt, chosen)):
                counts[verdict] += 1
                if verdict == "survived":
                    print(mutation, flush=True)
    tried = counts["killed"] + counts["survived"]
    share = 100 * counts["killed"] / tried if tried else 0
    print(f"{tried} mutants, {counts['killed']} killed ({share:.0f} %), {counts['survived']} survived;"
          f" {counts['invalid']} did not compile")
    return 0


if __name__ == "__main__":
    sys.exit(main())
