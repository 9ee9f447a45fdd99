"""Programs that know nothing of Postern, under `postern run`: as servers of kernel clients and as
clients of kernel servers."""
import hashlib
import pathlib
import socket
import textwrap
import time

from harness import (LINUX, MIB, POSTERN, QUICK, case, note, receive_exactly, receive_to_end, run,
                     spawn, wait_until)
from pattern import Pattern

FILE_SIZE = (4 if QUICK else 64) * MIB + 12345
PYTHON = "/usr/bin/python3"


def make_site(world):
    """A directory with a large file and a page, for every user. Returns its path."""
    root = world.dir / "site"
    root.mkdir(mode=0o755)
    with (root / "large.bin").open("wb") as file:
        for piece in Pattern().pieces(FILE_SIZE):
            file.write(piece)
    (root / "index.html").write_text("<p>Served by Postern.</p>\n")
    return root


def download(url, *arguments):
    """What curl of this end gets: SHA-256 and size."""
    pipe = spawn(["curl", "-sS", "--fail", "--max-time", "50", *arguments, url], stdout=-1)
    digest, total = hashlib.sha256(), 0
    while piece := pipe.stdout.read(1 << 18):
        digest.update(piece)
        total += len(piece)
    assert pipe.wait(10) == 0, f"curl {url}: exit status {pipe.returncode} after {total} bytes"
    return digest.hexdigest(), total


def expect_large(url, *arguments):
    assert download(url, *arguments) == (Pattern().digest(FILE_SIZE), FILE_SIZE), url


def python_program(world, name, text):
    """Writes a program of the test for Python to run."""
    path = world.dir / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    path.chmod(0o644)
    return path


def idle_cpu(app, seconds=1.0):
    """The share of a core that a program uses while nothing happens."""
    def ticks():
        fields = pathlib.Path(f"/proc/{app.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / 100 / seconds


# ---- Python ----

@case(needs=("curl",))
def python_http_server(world):
    world.start()
    world.program(PYTHON, "-m", "http.server", "--directory", make_site(world), 8000)
    world.wait_listening(8000)
    expect_large(f"http://{POSTERN}:8000/large.bin")
    assert run("curl", "-sS", "--fail", f"http://{POSTERN}:8000/") == "<p>Served by Postern.</p>\n"
