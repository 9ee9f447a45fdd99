#!/usr/bin/env python3
"""What RFCs demand, with the test beside it: tables made from lists and from the tests.

requirements.py ROOT           checks: every requirement but a MAY has a test or a reason, every number
                               that a test names exists, every packet script names a section of an
                               RFC in its heading, and the tables are these
requirements.py ROOT --write   writes the tables

tests/script/rfc9293.txt makes the one in lib/tcp/README.md, each tests/requirements/rfcN.txt
lib/ip/requirements/rfcN.md. A test names what it proves in a comment: "// proves: MUST-13, SHLD-4" in a packet script or above a
TEST, "# proves: ..." above a system test's function.
"""
import pathlib
import re
import sys

BEGIN = "<!-- requirements: made by tests/script/requirements.py -->"
END = "<!-- requirements end -->"
PROVES = re.compile(r"(?://|#) proves: (.*)")
SECTION = re.compile(r"RFC \d+ (?:[A-Z]\.)?\d")
TEST = re.compile(r"TEST(?:_F|_P)?\((\w+), (\w+)\)")


def listed(path):
    """Number -> (section, text, reason or None), in the order of the file."""
    out = {}
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        number, section, text, *reason = [part.strip() for part in line.split(" | ")]
        if number in out:
            sys.exit(f"{path.name}: {number} is there twice")
        out[number] = (section, text, reason[0].removeprefix("not: ") if reason else None)
    return out


def claims(path, name):
    """(requirement, test) for each claim of a file; `name` finds the test that a line begins."""
    pending, out = [], []
    for line in path.read_text().splitlines():
        if claim := PROVES.search(line):
            pending += [word.strip() for word in claim[1].split(",")]
        elif pending and (test := name(line)):
            out += [(requirement, test) for requirement in pending]
            pending = []
    if pending:
        sys.exit(f"{path}: no test follows 'proves: {', '.join(pending)}'")
    return out


def proofs(tests):
    out = {}
    found = []
    for script in sorted((tests / "script").glob("*/*.pkt")):
        name = f"script/{script.parent.name}/{script.name}"
        found += claims(script, lambda line, name=name: name if line.strip() else None)
    for source in sorted((tests / "unit").glob("*/*_test.cc")):
        found += claims(source, lambda line: (t := TEST.match(line)) and f"{t[1]}.{t[2]}")
    for case in sorted((tests / "system").rglob("*.py")):
        found += claims(case, lambda line: (t := re.match(r"def (\w+)", line)) and f"system/{t[1]}")
    for requirement, test in found:
        out.setdefault(requirement, []).append(test)
    return out


def heading(script):
    """What a script says of itself before its first setting or event."""
    lines = []
    for line in script.read_text().splitlines():
        if line and not line.startswith("//"):
            break
        lines.append(line.removeprefix("//").strip())
    return " ".join(lines)


def table(requirements, proven, name="RFC 9293"):
    lines = [f"| {name} | section | what | proven by |", "|---|---|---|---|"]
    for number, (section, text, reason) in requirements.items():
        tests = ", ".join(f"`{test}`" for test in proven.get(number, []))
        lines.append(f"| {number} | {section} | {text} | {tests or (reason and 'not: ' + reason) or 'no'} |")
    return "\n".join(lines)


class Tables:
    """What is made: checked against the files, or written."""

    def __init__(self, root, proven):
        self.root, self.proven, self.wrong = root, proven, []
        self.write = "--write" in sys.argv

    def compare(self, path, old, new):
        if old == new:
            return
        if self.write:
            path.parent.mkdir(exist_ok=True)
            path.write_text(new)
        else:
            self.wrong.append(f"{path.relative_to(self.root)} is stale: requirements.py ROOT --write")

    def part_of(self, path, requirements):
        text = path.read_text()
        old = text[text.index(BEGIN):text.index(END) + len(END)]
        new = "\n".join([BEGIN, table(requirements, self.proven), END])
        self.compare(path, text, text.replace(old, new))

    def whole(self, source, requirements):
        """The first line of the list is the title."""
        title = source.read_text().splitlines()[0].lstrip("# ")
        path = self.root / f"lib/ip/requirements/{source.stem}.md"
        text = "\n".join([f"# {title}", "", f"Made by tests/script/requirements.py from {source.name}.",
                          "", table(requirements, self.proven, "number"), ""])
        self.compare(path, path.read_text() if path.exists() else "", text)


def main():
    root = pathlib.Path(sys.argv[1])
    tcp = listed(root / "tests/script/rfc9293.txt")
    lists = {path: listed(path) for path in sorted((root / "tests/requirements").glob("rfc*.txt"))}
    requirements = {n: r for one in [tcp, *lists.values()] for n, r in one.items()}
    proven = proofs(root / "tests")
    wrong = [f"{n}: no such requirement, but {', '.join(t)} names it"
             for n, t in proven.items() if n not in requirements]
    wrong += [f"{n} ({section}, {text}): no test"
              for n, (section, text, reason) in requirements.items()
              if not n.startswith("MAY") and n not in proven and reason is None]
    wrong += [f"{n}: a reason and a test" for n, (_, _, reason) in requirements.items()
              if reason is not None and n in proven]
    wrong += [f"{script.relative_to(root)}: its heading names no section of an RFC"
              for script in sorted((root / "tests/script").glob("*/*.pkt"))
              if not SECTION.search(heading(script))]
    tables = Tables(root, proven)
    tables.part_of(root / "lib/tcp/README.md", tcp)
    for source, one in lists.items():
        tables.whole(source, one)
    wrong += tables.wrong
    print("\n".join(wrong) or f"{len(proven)} of {len(requirements)} requirements have tests")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
