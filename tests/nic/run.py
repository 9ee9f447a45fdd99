#!/usr/bin/env python3
"""Postern on PCI network cards: in a guest with Debian's kernel, an emulated IOMMU and emulated cards,
with the programs built here, the kernel of this machine as the peer. Function only, no rates."""
import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

import kernel  # noqa: E402
import qemu  # noqa: E402
from harness import LINUX, POSTERN, enter_new_network, receive_exactly, run  # noqa: E402

DEVICE = "0000:01:00.0"  # behind the root port
# Model -> arguments of the card, the kernel's driver, what Postern must have found in it.
CARDS = {
    "virtio-net": ("virtio-net-pci,iommu_platform=on,disable-legacy=on,mq=on,rss=on,vectors=6",
                   "virtio-pci", "rx-checksum tx-checksum tso"),
    "e1000e": ("e1000e", "e1000e", "rx-checksum tx-checksum"),
    "e1000": ("e1000", "e1000", "tx-checksum"),
    "vmxnet3": ("vmxnet3", "vmxnet3", "tx-checksum tso"),
    "igb": ("igb", "igb", "rx-checksum tx-checksum tso"),
}
USUAL = ("virtio-net", "e1000e")
QUEUES = {"virtio-net": 2, "igb": 2}  # with RSS; one everywhere else
TAP_QUEUES = {"virtio-net": 2}        # of the card's other end


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--cards", default=",".join(USUAL), help=f"of {', '.join(CARDS)}")
    parser.add_argument("--filter", default="")
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=600, help="for each card")
    parser.add_argument("--retries", type=int, default=0,
                        help="emulation is slow on a busy machine: so many cards may fail once")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    return parser.parse_args()


def tsc_khz():
    """Of this machine, so that the guest need not measure it under emulation."""
    text = subprocess.run(["dmesg"], text=True, capture_output=True, check=False).stdout
    match = re.search(r"tsc: Detected ([\d.]+) MHz", text)
    if not match:
        match = re.search(r"cpu MHz\s*:\s*([\d.]+)", pathlib.Path("/proc/cpuinfo").read_text())
    return int(float(match.group(1)) * 1000)


class Guest:
    def __init__(self, model, build, directory):
        self.model, self.dir = model, directory
        self.job = directory / "job"
        self.queues, self.tap_queues = QUEUES.get(model, 1), TAP_QUEUES.get(model, 1)
        self.console = directory / "console.log"
        self.make_job(build)
        self.process = None
        self.longest = 0  # frame on the tap, bytes

    def make_job(self, build):
        (self.job / "www").mkdir(parents=True)
        blob = random.Random(1).randbytes(1 << 20)
        (self.job / "www/blob").write_bytes(blob)
        self.digest = hashlib.sha256(blob).hexdigest()
        binaries = self.job / "bin"
        binaries.mkdir()
        for path in (build / "app/daemon/posternd", build / "app/cli/postern",
                     *(build / "app/examples").iterdir(), *(build / "lib/client").glob("libpostern.so*")):
            if path.is_file():
                shutil.copy(path, binaries / path.name)
        config = {"memory": {"hugepages": "on", "size": "256MiB"},
                  "workers": {"cores": list(range(self.queues)), "idle": "adaptive"},
                  "ports": [{"name": "nic0", "device": DEVICE, "addresses": [f"{POSTERN}/24"]}],
                  "access": [{"user": "root", "bind": ["tcp/any", "udp/any"]}]}
        (self.job / "posternd.yaml").write_text(json.dumps(config))
        # A copy: the guest has a /tmp of its own, and this tree may lie in ours.
        shutil.copytree(HERE.parents[1] / "deploy", self.job / "deploy")
        (self.job / "job.conf").write_text(f"device={DEVICE}\nbin=/tmp/job/bin\ntree=/tmp/job\n")
        shutil.copy(HERE / "job.sh", self.job / "job.sh")

    def start(self):
        """A tap of this namespace's, with a queue for each of the card's, and qemu on it."""
        queues = self.tap_queues
        emulator, environment = qemu.program(CARDS[self.model][0].partition(",")[0])
        run("ip", "tuntap", "add", "tap0", "mode", "tap", "vnet_hdr", *(["multi_queue"] if queues > 1 else []))
        run("ip", "addr", "add", f"{LINUX}/24", "dev", "tap0")
        run("ip", "link", "set", "tap0", "up")
        tree = kernel.fetch()
        (self.dir / "initrd").write_bytes(kernel.initrd(tree, HERE / "init.sh"))
        card = CARDS[self.model][0]
        command = [
            emulator, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536",
            "-machine", "q35,kernel-irqchip=split", "-nodefaults", "-no-reboot", "-display", "none",
            "-serial", f"file:{self.console}", "-kernel", kernel.vmlinux(tree), "-initrd",
            self.dir / "initrd", "-append",
            "console=ttyS0 quiet intel_iommu=on iommu=nopt no_timer_check tsc=reliable "
            f"tsc_early_khz={tsc_khz()} mitigations=off nokaslr hugepages=224 panic=-1",
            "-device", "intel-iommu,intremap=on,aw-bits=48",
            "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
            "-fsdev", f"local,id=job,path={self.job},security_model=none",
            "-device", "virtio-9p-pci,fsdev=job,mount_tag=job",
            "-device", "pcie-root-port,id=root_port,chassis=1,bus=pcie.0,addr=10.0",
            "-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no"
            + (f",queues={queues}" if queues > 1 else ""),
            "-device", f"{card},netdev=net,bus=root_port,mac=52:54:00:12:34:56,romfile="]
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)], stdin=subprocess.DEVNULL,
            env=environment, stdout=open(self.dir / "qemu.log", "wb"), stderr=subprocess.STDOUT)

    def text(self):
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return text.replace("\r", "")

    def wait(self, word, seconds):
        """The rest of the line with which the guest says `word`."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.text()
            said = re.search(rf"^GUEST: {word} ?(.*)$", text, re.M)
            if said:
                return said.group(1)
            failed = re.search(r"^GUEST: FAILED .*", text, re.M)
            assert not failed, failed.group(0)
            assert self.process.poll() is None, "the guest ended"
            assert time.monotonic() < deadline, f"the guest did not say {word}"
            time.sleep(0.2)

    def tell(self, name):
        (self.job / name).touch()

    def shown(self, verb, number):
        return json.loads((self.job / f"{verb}{number}.json").read_text())

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def exercise(guest):
    """From this machine's kernel: ping, UDP and TCP echo, a download with its checksum."""
    deadline = time.monotonic() + 60
    while "1 received" not in run("ping", "-n", "-q", "-c", 1, "-W", 2, POSTERN, check=False):
        assert time.monotonic() < deadline, "no answer to a ping"
    text = run("ping", "-n", "-q", "-c", 10, "-i", "0.1", "-W", 5, POSTERN)
    assert "10 received" in text, text
    data = random.Random(2).randbytes(100_000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect((POSTERN, 7))
        for size in (0, 1, 18, 1472):
            sock.send(data[:size])
            assert sock.recv(2048) == data[:size], size
    for _ in range(16):  # several, so that they spread over the queues
        with socket.create_connection((POSTERN, 7), timeout=30) as sock:
            sock.sendall(data[:20_000])
            assert receive_exactly(sock, 20_000) == data[:20_000]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE: the whole download
        wire.bind(("tap0", 3))
        with urllib.request.urlopen(f"http://{POSTERN}/blob", timeout=120) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == guest.digest
        guest.longest = max(guest.longest, longest_frame(wire))


def longest_frame(wire):
    """Of what the card has sent so far. A segment that was left to the card is longer than the MTU:
    a tap takes it as it is, and cuts it up where it must."""
    longest, room = 0, bytearray(1 << 17)
    while True:
        try:
            longest = max(longest, wire.recvmsg_into([room], 0, 0x40)[0])  # MSG_DONTWAIT
        except BlockingIOError:
            return longest


def check_what_was_shown(guest):
    port = guest.shown("link", 1)[0]
    _, _, needed = CARDS[guest.model]
    for capability in needed.split():
        assert capability in port["capabilities"], port["capabilities"]
    assert port["queues"] == guest.queues, port
    busy = [w["rx_packets"] for w in guest.shown("stats", 1)["workers"]]
    assert len(busy) == guest.queues and min(busy) > 0, f"packets by worker: {busy}"
    if guest.queues > 1:
        assert "rss" in port["capabilities"], port["capabilities"]
    if "tso" in port["capabilities"]:
        cut = sum(w["tx_tso_packets"] for w in guest.shown("stats", 1)["workers"])
        assert cut > 20 and guest.longest > 3000, f"{cut} long segments, the longest {guest.longest}"
    trouble = [d for d in guest.shown("drops", 1) if "checksum" in d["reason"]]
    assert not trouble, trouble
    file = os.environ.get("POSTERN_DEVICE_FACTS")
    if file:
        with open(file, "a") as out:
            out.write(json.dumps({"device": guest.model, "test": "ping, UDP, TCP, HTTP with Linux, "
                                  "restart, given back; in a guest", "driver": port["driver"],
                                  "queues": port["queues"],
                                  "capabilities": port["capabilities"]}) + "\n")
    findings = json.loads((guest.job / "doctor.json").read_text())["findings"]
    assert not [f for f in findings if f["severity"] == "problem"], findings


def one_card(guest, seconds):
    guest.start()
    kernel_driver = guest.wait("KERNEL DRIVER", seconds)
    assert kernel_driver == CARDS[guest.model][1], kernel_driver
    guest.wait("SERVING 1", seconds)
    exercise(guest)
    guest.tell("tested1")
    guest.wait("SHOWN 1", 60)
    check_what_was_shown(guest)
    run("ip", "link", "set", "tap0", "down")
    time.sleep(1)
    run("ip", "link", "set", "tap0", "up")
    exercise(guest)
    guest.tell("restart")
    assert guest.wait("ENDED", 60) == "0"
    guest.wait("SERVING 2", 120)
    exercise(guest)
    guest.tell("tested2")
    assert guest.wait("BACK", 60) == kernel_driver


def test(model, args):
    """Returns (status word, why)."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"postern-nic-{model}-"))
    guest = Guest(model, args.build.resolve(), directory)
    try:
        one_card(guest, args.seconds)
        return "PASS", ""
    except qemu.Missing as missing:
        return "SKIP", str(missing)
    except Exception as error:  # noqa: B902 whatever it is, the test failed
        print("\n".join("      | " + line for line in guest.text().splitlines()[-40:]))
        with contextlib.suppress(OSError):
            print((directory / "qemu.log").read_text()[-1000:])
        return "FAIL", f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        guest.stop()
        run("ip", "link", "del", "tap0", check=False)
        if not args.keep:
            shutil.rmtree(directory, ignore_errors=True)


def fetch(models):
    """What the tests will ask for, while there is a network to have it from; who asks in vain, skips."""
    with contextlib.suppress(qemu.Missing):
        kernel.fetch()
        for model in models:
            qemu.program(CARDS[model][0].partition(",")[0])


def main():
    args = parse_arguments()
    missing = [p for p in ("qemu-system-x86_64", "ping", "ip", "dpkg", "depmod") if not shutil.which(p)]
    if not missing:
        fetch(args.cards.split(","))
    enter_new_network()
    run("ip", "link", "set", "lo", "up")
    failed = 0
    for model in args.cards.split(","):
        name, begin = f"nic/{model}", time.monotonic()
        if not re.search(args.filter, name):
            continue
        word, why = ("SKIP", f"{', '.join(missing)} is not installed") if missing else test(model, args)
        if word == "FAIL" and args.retries > 0:
            args.retries -= 1
            print(f"RETRY {name}: {why}", flush=True)
            word, why = test(model, args)
        seconds = f"{time.monotonic() - begin:.1f}"
        print(f"{word}  {name} ({seconds} s){': ' + why if why else ''}", flush=True)
        if args.results:
            with args.results.open("a") as file:
                file.write("\t".join((word, name, seconds, why)) + "\n")
        failed += word == "FAIL"
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
