"""Debian's kernel for the guest: fetched once, its image unpacked, an initrd of busybox and a few
modules. Nothing of it is installed on this machine."""
import io
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess
import time
import zlib

# In the order of need; what they depend on is added.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "vfio_iommu_type1", "vfio-pci", "virtio_net",
           "e1000", "e1000e", "vmxnet3", "igb")


def cache():
    return pathlib.Path(os.environ.get("POSTERN_NIC_CACHE") or
                        pathlib.Path.home() / ".cache/postern-nic")


class Missing(Exception):
    """What the test needs is not to be had here."""


def download(work):
    depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], check=True, text=True,
                             capture_output=True).stdout
    package = re.search(r"Depends: (linux-image-\S+)", depends).group(1)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    subprocess.run(["apt-get", "-q", "-o", "Acquire::Retries=3", "download", package], cwd=work,
                   check=True, stdout=subprocess.DEVNULL)


def download_patiently(work):
    """The lists may be missing or old, and a mirror or its name away for a minute."""
    for _ in range(4):
        try:
            return download(work)
        except (subprocess.CalledProcessError, AttributeError):
            time.sleep(10)
            subprocess.run(["apt-get", "-q", "update"], check=False, stdout=subprocess.DEVNULL)
    raise Missing("the kernel of the guest: apt-get download linux-image-amd64 fails")


def fetch():
    """The unpacked package: DIRECTORY/boot/vmlinuz-*, DIRECTORY/lib/modules/*."""
    tree = cache() / "kernel"
    if not list(tree.glob("boot/vmlinuz-*")):
        work = cache() / "download"
        download_patiently(work)
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(["dpkg", "-x", next(work.glob("*.deb")), tree], check=True)
        shutil.rmtree(work)
    return tree


def vmlinux(tree):
    """The kernel without its own decompressor, which takes minutes under emulation."""
    path = cache() / "vmlinux"
    packed = next(tree.glob("boot/vmlinuz-*"))
    if path.exists() and path.stat().st_mtime >= packed.stat().st_mtime:
        return path
    data = packed.read_bytes()
    for magic, decompressor in ((b"\xfd7zXZ\x00", lzma.LZMADecompressor),
                                (b"\x1f\x8b\x08", lambda: zlib.decompressobj(31))):
        at = data.find(magic)
        while at >= 0:
            try:
                image = decompressor().decompress(data[at:])
            except (lzma.LZMAError, zlib.error):
                image = b""
            if image.startswith(b"\x7fELF"):
                path.write_bytes(image)
                return path
            at = data.find(magic, at + 1)
    return packed


def module_files(tree):
    """Paths below lib/modules/VERSION, dependencies first."""
    base = next(tree.glob("lib/modules/*"))
    depends = {}
    if not (base / "modules.dep").exists():
        subprocess.run(["depmod", "-b", tree, base.name], check=True)
    for line in (base / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        depends[name] = rest.split()
    by_name = {re.sub(r"\.ko.*", "", pathlib.Path(p).name).replace("_", "-"): p for p in depends}
    wanted = []
    for module in MODULES:
        path = by_name.get(module.replace("_", "-"))
        if path:
            wanted += [*reversed(depends[path]), path]
    return base, list(dict.fromkeys(wanted))


class Cpio:
    """An archive of the kernel's "newc" form."""

    def __init__(self):
        self.out, self.number = io.BytesIO(), 0

    def add(self, name, data=b"", mode=stat.S_IFREG | 0o755):
        self.number += 1
        fields = [self.number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        self.out.write(b"070701" + b"".join(b"%08X" % f for f in fields))
        for part in (name.encode() + b"\0", data):
            self.out.write(part)
            self.out.write(b"\0" * (-self.out.tell() % 4))

    def finish(self):
        self.add("TRAILER!!!", mode=0)
        return self.out.getvalue()


def initrd(tree, init):
    archive = Cpio()
    for directory in ("bin", "dev", "proc", "sys", "modules", "host", "job", "top", "root"):
        archive.add(directory, mode=stat.S_IFDIR | 0o755)
    archive.add("bin/busybox", pathlib.Path("/bin/busybox").read_bytes())
    base, files = module_files(tree)
    for number, file in enumerate(files):
        archive.add(f"modules/{number:03}.ko", (base / file).read_bytes())
    archive.add("init", init.read_bytes())
    return archive.finish()
