"""posternd, an echo server on it, and a generator, wired together by memif or over PCI ports."""
import contextlib
import json
import os
import pathlib
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time

from method import Trial

HERE = pathlib.Path(__file__).resolve().parent
CLIENT = {4: "10.99.0.1", 6: "fd00:99::1"}
SERVER = {4: "10.99.255.254", 6: "fd00:99::ffff"}
CLIENT_MAC = "02:00:00:00:00:02"  # posternd is told: pktgen does not answer neighbor discovery
ECHO = 7
FCS, HEADERS = 4, {4: 42, 6: 62}  # Ethernet, IP, UDP


def spinning(command, cores):
    """A command in a session of its own, pinned, ahead of what else the machine does."""
    inner = "echo -15 >/proc/self/autogroup 2>/dev/null; exec " + shlex.join(map(str, command))
    return ["setsid", "taskset", "-c", cores, "sh", "-c", inner]


class Rig:
    def __init__(self, options):
        self.o = options
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postern-rfc2544-"))
        self.memif = self.dir / "link.sock"
        self.processes = []
        self.lives = 0  # of posternd: its counters begin anew with each
        pages = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        self.hugepages = pages.exists() and int(pages.read_text()) >= 512

    def spawn(self, name, command, cores, **more):
        log = open(self.dir / f"{name}.log", "wb")
        process = subprocess.Popen(spinning(command, cores), stdout=log, stderr=subprocess.STDOUT,
                                   **more)
        self.processes.append(process)
        return process

    def wait(self, name, process, pattern, seconds=120):
        deadline = time.monotonic() + seconds
        log = self.dir / f"{name}.log"
        while not re.search(pattern, log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def device(self):
        return self.o.port or f"net_memif0,role=server,socket={self.memif},socket-abstract=no"

    def start_posternd(self):
        self.lives += 1
        config = {
            "dpdk": {"file_prefix": "rfc2544-posternd"},
            "memory": {"hugepages": "on" if self.hugepages else "off", "size": "512MiB"},
            "workers": {"cores": [int(self.o.server_core)], "idle": "busy"},
            "ports": [{"name": "link0", "device": self.device(), 
                       "addresses": [f"{SERVER[4]}/16", f"{SERVER[6]}/64"]}],
            "neighbors": {"permanent": [{"address": CLIENT[v], "mac": CLIENT_MAC} for v in (4, 6)]},
            "access": [{"user": "root", "bind": [f"udp/{ECHO}"]}],
            "control": {"app_socket": f"{self.dir}/app.sock", "socket": f"{self.dir}/control.sock"},
        }
        file = self.dir / "posternd.yaml"
        file.write_text(json.dumps(config))
        process = self.spawn("posternd", [self.o.build / "app/daemon/posternd", "--config", file],
                             self.o.server_core)
        self.wait("posternd", process, r"\bready\b")

    def start_echo(self):
        """The application, where the generator does not host it."""
        command = ["env", f"POSTERN_SOCKET={self.dir}/app.sock", self.o.build / "app/examples/echo",
                   "--udp", ECHO, "--address", "::"]
        if self.o.app_core != self.o.client_core:
            command.append("--busy")
        process = self.spawn("echo", command, self.o.app_core)
        self.wait("echo", process, r"listening on UDP")

    def revived(self):
        """Whether posternd, alone here, had died and is started again."""
        if len(self.processes) != 1 or self.processes[0].poll() is None:
            return False
        self.processes.clear()
        self.memif.unlink(missing_ok=True)
        self.start_posternd()
        return True

    def last_words(self):
        log = (self.dir / "posternd.log").read_text(errors="replace")
        return f"posternd, exit status {self.processes[0].poll()}:\n{log[-800:]}"

    def cli(self, *arguments):
        command = [self.o.build / "app/cli/postern", *arguments, "-j", "--socket",
                   self.dir / "control.sock"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode and self.revived():
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"postern {' '.join(arguments)}: {done.stderr}\n{self.last_words()}")
        return done.stdout

    def mac(self):
        return json.loads(self.cli("link"))[0]["mac"]

    def counters(self):
        """What the device under test has counted so far: packets by station of their way, drops."""
        workers = json.loads(self.cli("stats"))["workers"]
        names = ("rx_packets", "udp_rx_datagrams", "udp_tx_datagrams", "tx_packets", "worker_turns",
                 "worker_busy_turns")
        counted = {n: sum(w[n] for w in workers) for n in names}
        counted["drops"] = {d["reason"]: d["packets"] for d in json.loads(self.cli("drops"))}
        return counted

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Loadgen:
    """perf/loadgen, which also hosts the echo server: one core for both."""
    name = "loadgen (perf/loadgen)"
    hosts_application = True

    def __init__(self, rig):
        self.rig = rig

    def run(self, traffic, *more):
        o = self.rig.o
        clients = -(-traffic.flows // 50000)
        sizes = ",".join(str(s - HEADERS[traffic.version] - FCS) for s in traffic.sizes)
        command = [o.build / "perf/loadgen", "--json", "--mode", "udp-flood", "--vdev",
                   f"net_memif0,role=client,socket={self.rig.memif},socket-abstract=no", "--local",
                   CLIENT[traffic.version], "--clients", clients, "--connections", traffic.flows,
                   "--peer", SERVER[traffic.version], "--port", ECHO, "--mac", CLIENT_MAC, "--core",
                   o.client_core, "--file-prefix", "rfc2544-loadgen", "--size", sizes, "--host-echo",
                   f"udp:{ECHO}", "--app-socket", self.rig.dir / "app.sock", "--drain", 0.2, *more]
        for attempt in (1, 2, 3):
            done = subprocess.run(spinning(command, o.client_core), check=False, capture_output=True,
                                  text=True, timeout=300)
            if done.returncode == 0:
                return json.loads(done.stdout.splitlines()[-1])
            # The memif driver of DPDK 22.11 may crash when its peer leaves while frames flow.
            if attempt == 3 or not self.rig.revived():
                break
        raise RuntimeError(f"loadgen: {done.stderr[-500:]}\n{self.rig.last_words()}")

    def trial(self, traffic, rate, seconds, count=0):
        more = ["--warmup", 0, "--duration", seconds or 0.1 + count / 500e3]  # a burst ends by itself
        if rate:
            more += ["--rate", rate]
        if count:
            more += ["--count", count]
        result = self.run(traffic, *more)
        return Trial(rate, result["seconds"], result["sent"], result["completed"])

    def latency(self, traffic, rate, seconds):
        result = self.run(traffic, "--warmup", 0.2, "--duration", seconds, "--rate", rate)
        return result["latency_us"]


class Pktgen:
    """Pktgen-DPDK, started once; serve.lua makes its trials."""
    hosts_application = False
    most_flows = 24576  # packets that 23.03 makes at the start of a trial, and sends again and again

    def __init__(self, rig):
        self.rig = rig
        o = rig.o
        requests, answers = rig.dir / "requests", rig.dir / "answers"
        os.mkfifo(requests)
        os.mkfifo(answers)
        cores = f"0@{o.app_core},1@{o.client_core}"
        eal = ["--in-memory"] if rig.hugepages else ["--no-huge", "-m", "1536"]
        devices = (["-a", o.pktgen_port] if o.pktgen_port else
                   ["--no-pci", f"--vdev=net_memif0,role=client,socket={rig.memif},socket-abstract=no"])
        command = ["env", "TERM=xterm", f"POSTERN_REQUESTS={requests}", f"POSTERN_ANSWERS={answers}",
                   f"POSTERN_LOCAL={CLIENT[4]}", f"POSTERN_LOCAL6={CLIENT[6]}",
                   f"POSTERN_PEER={SERVER[4]}", f"POSTERN_PEER6={SERVER[6]}",
                   f"POSTERN_LOCAL_MAC={CLIENT_MAC}", f"POSTERN_UDP_PORT={ECHO}",
                   f"POSTERN_PEER_MAC={rig.mac()}", o.pktgen, "--lcores", cores, *eal,
                   "--no-telemetry", "--file-prefix", "rfc2544-pktgen", *devices, "--", "-P", "-m",
                   "1.0", "-f", HERE / "serve.lua"]
        self.process = rig.spawn("pktgen", command, f"{o.app_core},{o.client_core}",
                                 stdin=subprocess.DEVNULL, cwd=HERE)
        # Open both ways: neither side waits for the other to open.
        self.requests = os.fdopen(os.open(requests, os.O_RDWR), "w")
        self.answers = os.fdopen(os.open(answers, os.O_RDWR), "r")
        answer = self.answer(120)
        ready = re.fullmatch(r"ready (\d+) (?:pktgen-)?(.+)", answer)
        if not ready:
            raise RuntimeError(f"pktgen did not become ready: {answer}")
        self.link_bits = float(ready.group(1)) * 1e6  # as the device reports it; percent are of it
        self.name = f"Pktgen-DPDK {ready.group(2)}"

    def answer(self, seconds):
        deadline = time.monotonic() + seconds
        while not select.select([self.answers], [], [], 0.2)[0]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = (self.rig.dir / "pktgen.log").read_text(errors="replace")
                raise RuntimeError(f"pktgen does not answer; its last words:\n{log[-1500:]}")
        return self.answers.readline().strip()

    def trial(self, traffic, rate, seconds, count=0):
        percent = min(100.0, 100.0 * rate * traffic.bits / self.link_bits) if rate else 100.0
        sizes = ",".join(map(str, traffic.sizes))
        self.requests.write(f"{traffic.version} {sizes} {traffic.flows} {percent:.6f} "
                            f"{int(seconds * 1000)} {count}\n")
        self.requests.flush()
        result = json.loads(self.answer(seconds + 60))
        if "error" in result:
            raise RuntimeError(f"pktgen: {result['error']}")
        return Trial(rate, seconds or 1.0, result["sent"], result["received"])
