#!/usr/bin/env python3
"""The table of RFC 9293's requirements in lib/tcp/README.md, made from the tests.

requirements.py ROOT           checks: every MUST, SHLD and REC has a test or a reason, every number
                               that a test names exists, every packet script names a section of an
                               RFC in its heading, and the table in the README is this one
requirements.py ROOT --write   writes the table

A test names what it proves in a comment: "// proves: MUST-13, SHLD-4" in a packet script or above a
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


def table(requirements, proven):
    lines = [BEGIN, "| RFC 9293 | section | what | proven by |", "|---|---|---|---|"]
    for number, (section, text, reason) in requirements.items():
        tests = ", ".join(f"`{test}`" for test in proven.get(number, []))
        lines.append(f"| {number} | {section} | {text} | {tests or (reason and 'not: ' + reason) or 'no'} |")
    return "\n".join(lines + [END])


def main():
    root = pathlib.Path(sys.argv[1])
    requirements = listed(root / "tests/script/rfc9293.txt")
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
    readme = root / "lib/tcp/README.md"
    text = readme.read_text()
    new = table(requirements, proven)
    old = text[text.index(BEGIN):text.index(END) + len(END)]
    if "--write" in sys.argv:
        readme.write_text(text.replace(old, new))
    elif old != new:
        wrong.append("the table in lib/tcp/README.md is stale: requirements.py ROOT --write")
    print("\n".join(wrong) or f"{len(proven)} of {len(requirements)} requirements have tests")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
