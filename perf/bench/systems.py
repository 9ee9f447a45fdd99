"""The systems that are measured: Postern, the bare link, the kernel. One process on the server's core,
one on the client's; each in a session of its own, because the scheduler shares by session.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

SERVER, CLIENT = "10.254.0.1", "10.254.0.2"
SERVER6, CLIENT6 = "fd00:254::1", "fd00:254::2"
ECHO, SINK, SOURCE = 7, 9, 19


class Failed(Exception):
    """A program did not do what it was started for; the text says which and why."""


# ---- processes ----

def prioritised(command, core):
    """The scheduler shares by session: a session of its own, ahead of the others, on one core."""
    script = 'echo -20 > /proc/self/autogroup 2>/dev/null; exec taskset -c "$0" "$@"'
    return ["sh", "-c", script, str(core), *map(str, command)]


class Server:
    """A program on the server's core, and how to know that it is ready."""

    def __init__(self, name, command, core, log_dir, ready=None, netns=None):
        self.name = name
        self.log_path = log_dir / f"{name}.log"
        self.log = open(self.log_path, "w")
        command = prioritised(command, core)
        if netns:
            command = ["ip", "netns", "exec", netns, *command]
        # A pipe that stays open: testpmd ends when its standard input does.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        try:
            self._await(ready)
        except Failed:
            self.stop()
            raise

    def _await(self, ready, patience=20):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended at once:\n{self.tail()}")
            if ready is None or ready(self.log_path.read_text()):
                return
            time.sleep(0.05)
        raise Failed(f"{self.name} was not ready after {patience} s:\n{self.tail()}")

    def tail(self):
        return "\n".join(self.log_path.read_text().splitlines()[-10:])

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process.stdin.close()
        self.log.close()


def run_json(command, core, netns=None, patience=120):
    command = prioritised(command, core)
    if netns:
        command = ["ip", "netns", "exec", netns, *command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          start_new_session=True, timeout=patience)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


# ---- the systems ----

class Bench:
    """The rig. `options`: see main.py."""

    def __init__(self, options):
        self.o = options
        self.build = pathlib.Path(options.build)
        self.other = pathlib.Path(options.other_build) if options.other_build else None
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-bench-"))
        self.memif = self.dir / "link.sock"  # an abstract name: no file
        self.huge = free_hugepages() >= 512
        self.eal = ["--in-memory"] if self.huge else ["--no-huge", "-m", "512"]
        self.namespaces = []

    def close(self):
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def loadgen(self, case, extra=(), v6=False, device=None, netns=None, checksums="on",
                mtu=1500):
        """A case may bring its own --duration and --warmup. `device`: instead of the memif."""
        # memif loses frames that do not fit into one of its buffers.
        memif = f"net_memif0,role=client,socket={self.memif},bsize={2048 if mtu < 2000 else 9088}"
        local, peer = (CLIENT6, SERVER6) if v6 else (CLIENT, SERVER)
        command = [self.build / "perf/loadgen", "--json", "--core", self.o.client_core,
                   "--vdev", device or memif, "--mtu", mtu,
                   "--local", local, "--peer", peer, "--file-prefix", "bench-client",
                   "--checksum", checksums,
                   "--warmup", self.o.warmup, "--duration", self.o.seconds, *case, *extra]
        return run_json(command, self.o.client_core, netns=netns, patience=600)

    def _testpmd(self, mode):
        core = self.o.server_core
        return Server("testpmd", [
            "stdbuf", "-oL", "dpdk-testpmd", f"--lcores=0@{core},1@{core}", "--no-pci",
            "--no-telemetry", *self.eal, "--file-prefix=bench-testpmd",
            f"--vdev=net_memif0,role=server,socket={self.memif}", "--",
            f"--forward-mode={mode}", "--auto-start", "--port-topology=loop", "--rxd=1024",
            "--txd=1024", "--total-num-mbufs=16384", "--no-lsc-interrupt", "--disable-link-check",
        ], core, self.dir, lambda log: "Press enter to exit" in log)

    # The bare link, UDP: DPDK's own program swaps addresses and ports and sends back.
    def testpmd(self):
        return self._testpmd("5tswap")

    # The bare link, receiving only.
    def testpmd_rxonly(self):
        return self._testpmd("rxonly")

    # The bare link, TCP: the cheapest peer that answers TCP at all.
    def reflector(self, v6=False, checksums="on"):
        local, peer = (SERVER6, CLIENT6) if v6 else (SERVER, CLIENT)
        return Server("reflector", [
            self.build / "perf/loadgen", "--mode", "reflect", "--core", self.o.server_core,
            "--vdev", f"net_memif0,role=server,socket={self.memif}", "--local", local, "--peer",
            peer, "--file-prefix", "bench-reflector", "--checksum", checksums, "--warmup", 0,
            "--duration", 86000,
        ], self.o.server_core, self.dir, lambda log: "reflecting" in log)

    def posternd(self, build=None, mtu=1500, idle="busy", connections=65536, memory=512, spin="50us",
                 device=None, addresses=(f"{SERVER}/24", f"{SERVER6}/64"), netns=None,
                 checksums="on", gather="auto", nap="250us"):
        build = pathlib.Path(build or self.build)
        config = self.dir / "posternd.yaml"
        config.write_text(f"""\
dpdk:
  file_prefix: bench-posternd
memory:
  hugepages: {"on" if self.huge else "off"}
  size: {memory}MiB
workers:
  cores: [{self.o.server_core}]
  idle: {idle}
  spin: {spin}
  nap: {nap}
  connections: {connections}
ports:
  - name: link0
    device: "{device or f"net_memif0,role=server,socket={self.memif}"}"
    addresses: [{", ".join(addresses)}]
    mtu: {mtu}
    checksums: {checksums}
    gather: {gather}
access:
  - user: root
    bind: [tcp/any, udp/any]
    sockets: {1 << max(16, (2 * connections - 1).bit_length())}
control:
  app_socket: {self.dir}/app.sock
  socket: {self.dir}/control.sock
""")
        return Server("posternd", [build / "app/daemon/posternd", "--config", config],
                      self.o.server_core, self.dir, lambda log: "ready" in log, netns=netns)

    def postern(self, *arguments):
        """What the operator's command says, as JSON."""
        return run_json([self.build / "app/cli/postern", *arguments, "-j", "--socket",
                         self.dir / "control.sock"], self.o.client_core)

    @contextlib.contextmanager
    def idle_applications(self, count):
        """`count` processes that attach, open a socket and then do nothing."""
        library = self.build / "lib/client/libpostern.so.0"
        program = pathlib.Path(__file__).with_name("idle_application.py")
        apps = []
        try:
            for _ in range(count):
                apps.append(subprocess.Popen(
                    ["python3", program, library, self.dir / "app.sock"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for app in apps:
                if app.stdout.readline() != "attached\n":
                    raise Failed("an idle application did not attach")
            yield
        finally:
            for app in apps:
                app.stdin.close()
                app.wait(10)

    def hosted(self, case, v6=False, **link):
        return self.loadgen(case, ["--host-echo", f"tcp:{ECHO},udp:{ECHO}", "--host-sink",
                                   f"tcp:{SINK},udp:{SINK}", "--host-source", f"tcp:{SOURCE}",
                                   "--app-socket", self.dir / "app.sock"], v6, **link)

    def make_veth(self):
        tag = f"{os.getpid()}-{len(self.namespaces)}"
        a, b = f"bench-a-{tag}", f"bench-b-{tag}"
        for name in (a, b):
            ip("netns", "add", name)
            self.namespaces.append(name)
        ip("link", "add", "veth0", "netns", a, "type", "veth", "peer", "name", "veth0", "netns", b)
        for name, address, address6 in ((a, SERVER, SERVER6), (b, CLIENT, CLIENT6)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "veth0")
            ip("-n", name, "addr", "add", f"{address6}/64", "dev", "veth0", "nodad")
            ip("-n", name, "link", "set", "veth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        return a, b

    def kernel(self, namespace=None):
        return Server("kernel", [self.build / "perf/kernel_echo", "serve", ECHO],
                      self.o.server_core, self.dir, lambda log: True, netns=namespace or self.namespaces[0])

    def kernel_client(self, arguments, v6=False):
        return run_json([self.build / "perf/kernel_echo", arguments[0], SERVER6 if v6 else SERVER, ECHO,
                         "--warmup", self.o.warmup, "--duration", self.o.seconds, *arguments[1:]],
                        self.o.client_core, netns=self.namespaces[1])


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def free_hugepages():
    path = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    return int(path.read_text()) if path.exists() else 0
