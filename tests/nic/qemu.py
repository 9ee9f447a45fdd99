"""The emulator of the guest. Debian 12's has no igb: for that card a newer one is fetched from
bookworm-backports and unpacked beside the kernel. Nothing of it is installed on this machine."""
import os
import re
import shutil
import subprocess

from kernel import Missing, cache

PROGRAM = "qemu-system-x86_64"
PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data")


def has(command, environment, device):
    """Asked for the one device: a list of all would load the modules of any QEMU that is installed."""
    options = subprocess.run([command, "-machine", "q35", "-device", f"{device},help"], check=False,
                             text=True, capture_output=True, env=environment).stdout
    return f"{device} options" in options


def source():
    """Backports where this machine has its Debian from."""
    sites = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE)", "Codename: bookworm"],
                           check=False, text=True, capture_output=True).stdout.split()
    if not sites:
        raise Missing("apt has no lists of Debian 12: run apt-get update")
    return ("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
            f"{sites[0]} bookworm-backports main\n")


def apt(*arguments, cwd=None):
    """apt with sources, lists and cache of its own, so that the machine's stay as they are."""
    home = cache() / "apt"
    for directory in ("lists/partial", "archives/partial"):
        (home / directory).mkdir(parents=True, exist_ok=True)
    (home / "sources.list").write_text(source())
    options = [f"Dir::Etc::sourcelist={home}/sources.list", "Dir::Etc::sourceparts=/dev/null",
               f"Dir::State::lists={home}/lists", f"Dir::Cache::archives={home}/archives",
               f"Dir::Cache::pkgcache={home}/pkgcache", f"Dir::Cache::srcpkgcache={home}/srcpkgcache"]
    command = [arguments[0], *(f"-o{o}" for o in options), *arguments[1:]]
    done = subprocess.run(command, text=True, check=False, capture_output=True, cwd=cwd)
    if done.returncode:
        raise Missing(f"{' '.join(arguments[:2])}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def fetch():
    tree = cache() / "qemu"
    if not (tree / "usr/bin" / PROGRAM).exists():
        apt("apt-get", "-q", "update")
        policy = apt("apt-cache", "policy", PACKAGES[0])
        version = re.search(r"Candidate: (\S+)", policy).group(1)
        work = cache() / "download-qemu"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        apt("apt-get", "-q", "download", *(f"{p}={version}" for p in PACKAGES), cwd=work)
        shutil.rmtree(tree, ignore_errors=True)
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, tree], check=True)
        shutil.rmtree(work)
    return tree


def program(device):
    """(command, environment) of an emulator that has the device. Raises Missing."""
    if shutil.which(PROGRAM) and has(PROGRAM, None, device):
        return PROGRAM, None
    tree = fetch()
    command = str(tree / "usr/bin" / PROGRAM)
    environment = {**os.environ, "QEMU_MODULE_DIR": str(tree / "usr/lib/x86_64-linux-gnu/qemu")}
    if not has(command, environment, device):
        raise Missing(f"no QEMU here has the device {device}")
    return command, environment
