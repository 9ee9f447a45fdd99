#!/usr/bin/env python3
"""Prints the packet scripts under the directory given, one a line."""
import pathlib
import sys

root = pathlib.Path(sys.argv[1])
print("\n".join(sorted(str(path.relative_to(root)) for path in root.glob("*/*.pkt"))))
