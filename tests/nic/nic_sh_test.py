#!/usr/bin/env python3
"""deploy/nic.sh against a made-up /sys and /proc, with a thread that answers writes as the kernel
does."""
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import threading
import unittest

NIC_SH = pathlib.Path(__file__).resolve().parents[2] / "deploy/nic.sh"
ROUTE_HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def default_route(interface):
    return f"{interface}\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"


def subnet_route(interface):
    return f"{interface}\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"


class Kernel(threading.Thread):
    """What the kernel does with what is written to the bus: one thread, in the order of writing."""

    def __init__(self, machine):
        super().__init__(daemon=True)
        self.machine = machine
        self.pipes = {}  # descriptor -> what a line written to it does
        self.probe = self.attribute(machine.sys / "bus/pci/drivers_probe", self.probed)
        self.refuses = set()  # drivers that do not take a device

    def attribute(self, path, action):
        os.mkfifo(path)
        # Open both ways, so that neither side ever waits for the other or sees an end.
        fd = os.open(path, os.O_RDWR)
        self.pipes[fd] = action
        return fd

    def add_driver(self, name):
        directory = self.machine.sys / "bus/pci/drivers" / name
        directory.mkdir()
        self.attribute(directory / "unbind", self.unbound)

    def unbound(self, address):
        device = self.machine.device(address)
        for interface in (device / "net").glob("*"):
            (self.machine.sys / "class/net" / interface.name).unlink()
        shutil.rmtree(device / "net", ignore_errors=True)
        (device / "driver").unlink()

    def probed(self, address):
        device = self.machine.device(address)
        wanted = (device / "driver_override").read_text().strip()
        driver = wanted or self.machine.kernel_driver[address]
        if driver not in self.refuses and not (device / "driver").exists():
            (device / "driver").symlink_to(self.machine.sys / "bus/pci/drivers" / driver)

    def run(self):
        while True:
            ready, _, _ = select.select(list(self.pipes), [], [])
            ready.sort(key=lambda fd: fd == self.probe)  # what was unbound was so before the probe
            for fd in ready:
                for value in os.read(fd, 4096).decode().splitlines():
                    self.pipes[fd](value)


class Machine:
    """A tree of files that looks like a machine's /sys and /proc."""

    def __init__(self, root):
        self.sys, self.proc, self.bin = root / "sys", root / "proc", root / "bin"
        for path in ("bus/pci/devices", "bus/pci/drivers", "class/net", "kernel/iommu_groups"):
            (self.sys / path).mkdir(parents=True)
        (self.proc / "net").mkdir(parents=True)
        self.routes("")
        self.kernel_driver = {}
        # The modprobe of the real machine is not called; this one knows no module.
        self.bin.mkdir()
        (self.bin / "modprobe").write_text("#!/bin/sh\nexit 1\n")
        (self.bin / "modprobe").chmod(0o755)
        self.kernel = Kernel(self)

    def routes(self, v4, v6=""):
        (self.proc / "net/route").write_text(ROUTE_HEADER + v4)
        (self.proc / "net/ipv6_route").write_text(v6)

    def device(self, address):
        return self.sys / "bus/pci/devices" / address

    def card(self, address, interface, driver, group=None, pci_class="0x020000"):
        device = self.sys / "devices" / address
        device.mkdir(parents=True)
        (device / "class").write_text(pci_class + "\n")
        (device / "numa_node").write_text("0\n")
        (device / "driver_override").write_text("(null)\n")
        self.device(address).symlink_to(device)
        if not (self.sys / "bus/pci/drivers" / driver).exists():
            self.kernel.add_driver(driver)
        (device / "driver").symlink_to(self.sys / "bus/pci/drivers" / driver)
        self.kernel_driver[address] = driver
        if interface:
            (device / "net" / interface).mkdir(parents=True)
            (device / "net" / interface / "device").symlink_to(device)
            (self.sys / "class/net" / interface).symlink_to(device / "net" / interface)
        if group:
            members = self.sys / "kernel/iommu_groups" / group / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / address).symlink_to(device)
            (device / "iommu_group").symlink_to(members.parent)

    def upper(self, name, lower):
        (self.sys / "class/net" / name / f"lower_{lower}").mkdir(parents=True)

    def pool(self, pages, kilobytes=2048):
        pool = self.sys / f"kernel/mm/hugepages/hugepages-{kilobytes}kB"
        pool.mkdir(parents=True)
        (pool / "nr_hugepages").write_text(f"{pages}\n")
        return pool / "nr_hugepages"

    def driver_of(self, address):
        link = self.device(address) / "driver"
        return link.resolve().name if link.exists() else None

    def nic_sh(self, *arguments, **environment):
        return subprocess.run([NIC_SH, *arguments], capture_output=True, text=True, timeout=30,
                              check=False, stdin=subprocess.DEVNULL,
                              env={"PATH": f"{self.bin}:{os.environ['PATH']}",
                                   "POSTERN_SYS_ROOT": str(self.sys),
                                   "POSTERN_PROC_ROOT": str(self.proc), **environment})


class NicSh(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="postern-nic-")
        self.addCleanup(directory.cleanup)
        self.machine = Machine(pathlib.Path(directory.name))
        self.machine.kernel.add_driver("vfio-pci")
        self.machine.card("0000:03:00.0", "eth1", "ixgbe", group="7")
        self.machine.kernel.start()

    def succeeds(self, *arguments, **environment):
        done = self.machine.nic_sh(*arguments, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, *arguments, **environment):
        """The one line that says why."""
        done = self.machine.nic_sh(*arguments, **environment)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return done.stderr

    # ---- binding ----

    def test_bind_by_address_and_give_back(self):
        self.assertIn("bound to vfio-pci", self.succeeds("bind", "0000:03:00.0"))
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "vfio-pci")
        self.assertIn("already", self.succeeds("bind", "03:00.0"))
        self.assertIn("bound to ixgbe", self.succeeds("unbind", "03:00.0"))
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "ixgbe")
        self.assertIn("the kernel's already", self.succeeds("unbind", "03:00.0"))

    def test_bind_by_interface(self):
        self.succeeds("bind", "eth1")
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "vfio-pci")

    def test_a_driver_that_does_not_take_the_device(self):
        self.machine.kernel.refuses.add("vfio-pci")
        self.assertIn("did not take", self.refused("bind", "eth1"))

    def test_unknown_devices(self):
        self.assertIn("no interface eth9", self.refused("bind", "eth9"))
        self.assertIn("no PCI device 0000:99:00.0", self.refused("bind", "99:00.0"))
        self.machine.card("0000:04:00.0", None, "ahci", pci_class="0x010601")
        self.assertIn("not a network card", self.refused("bind", "04:00.0"))
        (self.machine.sys / "class/net/dummy0").mkdir()
        self.assertIn("net_af_packet0,iface=dummy0", self.refused("bind", "dummy0"))

    def test_driver_that_the_kernel_has_not(self):
        self.assertIn("no driver igb_uio", self.refused("bind", "--driver", "igb_uio", "eth1"))
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "ixgbe")

    # ---- what must not be taken ----

    def test_default_route_needs_force_twice(self):
        self.machine.routes(default_route("eth1") + subnet_route("eth1"))
        self.assertIn("default route", self.refused("bind", "eth1"))
        self.assertIn("--force --force", self.refused("bind", "--force", "eth1"))
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "ixgbe")
        self.succeeds("bind", "--force", "--force", "eth1")
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "vfio-pci")

    def test_default_route_over_a_vlan_of_a_bond(self):
        self.machine.upper("bond0", "eth1")
        self.machine.upper("bond0.5", "bond0")
        self.machine.routes(default_route("bond0.5"))
        self.assertIn("(of bond0.5)", self.refused("bind", "--force", "03:00.0"))

    def test_ip6_default_route(self):
        zeros = "0" * 32
        self.machine.routes("", f"{zeros} 00 {zeros} 00 fe800000000000000000000000000001 "
                                f"00000400 00000001 00000000 00000003     eth1\n")
        self.assertIn("default route", self.refused("bind", "--force", "eth1"))

    def test_unreachable_default_on_lo_is_nobodys(self):
        zeros = "0" * 32
        self.machine.routes("", f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 "
                                f"00200200       lo\n")
        self.succeeds("bind", "eth1")

    def test_other_routes_need_force_once(self):
        self.machine.routes(default_route("eth0") + subnet_route("eth1"))
        self.assertIn("in use", self.refused("bind", "eth1"))
        self.succeeds("bind", "--force", "eth1")

    def test_nothing_is_taken_when_one_is_refused(self):
        self.machine.card("0000:05:00.0", "eth0", "ixgbe", group="9")
        self.machine.routes(default_route("eth0"))
        self.refused("bind", "eth1", "eth0")
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "ixgbe")

    # ---- the IOMMU ----

    def test_without_iommu(self):
        self.machine.card("0000:06:00.0", "eth2", "ixgbe")
        self.assertIn("intel_iommu=on", self.refused("bind", "eth2"))
        self.assertIn("CONFIG_VFIO_NOIOMMU", self.refused("bind", "--no-iommu", "eth2"))
        parameters = self.machine.sys / "module/vfio/parameters"
        parameters.mkdir(parents=True)
        (parameters / "enable_unsafe_noiommu_mode").write_text("N\n")
        self.succeeds("bind", "--no-iommu", "eth2")
        self.assertEqual((parameters / "enable_unsafe_noiommu_mode").read_text(), "1\n")

    def test_group_goes_as_a_whole(self):
        self.machine.card("0000:03:00.1", "eth2", "ixgbe", group="7")
        self.assertIn("shares IOMMU group 7", self.refused("bind", "03:00.0"))
        self.succeeds("bind", "03:00.0", "03:00.1")
        self.assertEqual(self.machine.driver_of("0000:03:00.1"), "vfio-pci")

    # ---- huge pages ----

    def test_hugepages_only_grow(self):
        pages = self.machine.pool(100)
        self.assertIn("512 huge pages of 2048 kB", self.succeeds("hugepages", "1GiB"))
        self.assertEqual(pages.read_text(), "512\n")
        self.succeeds("hugepages", "64MiB")
        self.assertEqual(pages.read_text(), "512\n")
        self.succeeds("hugepages", "0")
        self.assertEqual(pages.read_text(), "0\n")

    def test_hugepages_are_rounded_up_and_of_1_gib(self):
        pages = self.machine.pool(0, kilobytes=1048576)
        self.succeeds("hugepages", "1500MiB", "--page", "1G")
        self.assertEqual(pages.read_text(), "2\n")

    def test_hugepages_that_the_kernel_does_not_find(self):
        pages = self.machine.pool(0)
        pages.unlink()
        pages.symlink_to("/dev/null")  # takes any number and has none
        self.assertIn("0 of 512 pages", self.refused("hugepages", "1GiB"))

    def test_bad_sizes(self):
        self.machine.pool(0)
        self.assertIn("not a size", self.refused("hugepages", "lots"))
        self.assertIn("2M or 1G", self.refused("hugepages", "1GiB", "--page", "4K"))

    # ---- status and boot ----

    def test_status(self):
        self.machine.card("0000:05:00.0", "eth0", "igb")
        self.machine.routes(default_route("eth0"))
        lines = {line.split()[0]: line.split() for line in self.succeeds("status").splitlines() if line}
        self.assertEqual(lines["0000:03:00.0"], ["0000:03:00.0", "ixgbe", "7", "0", "eth1"])
        self.assertEqual(lines["0000:05:00.0"],
                         ["0000:05:00.0", "igb", "-", "0", "eth0", "default", "route"])

    def test_boot(self):
        pages = self.machine.pool(0)
        self.succeeds("boot", POSTERN_HUGEPAGES="64MiB", POSTERN_NICS="0000:03:00.0")
        self.assertEqual(pages.read_text(), "32\n")
        self.assertEqual(self.machine.driver_of("0000:03:00.0"), "vfio-pci")

    def test_boot_with_nothing_to_do(self):
        self.assertEqual(self.succeeds("boot"), "")

    def test_bad_use(self):
        self.assertEqual(self.machine.nic_sh().returncode, 2)
        self.assertEqual(self.machine.nic_sh("steal").returncode, 2)
        self.assertIn("bind needs a device", self.refused("bind"))


if __name__ == "__main__":
    unittest.main()
