"""What a system test stands on: a Linux host (this process, in a network namespace of its own), a
wire, and posternd at the wire's other end, with applications that run as unprivileged users.

Namespaces are anonymous: they end with the processes in them, whatever happens to the test.
"""
import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
LINUX = "192.0.2.1"    # this end of the wire
POSTERN = "192.0.2.2"  # posternd's end
WIRE = "wire0"
QUICK = os.environ.get("POSTERN_TEST_QUICK") == "true"
MIB = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


class Skip(Exception):
    """Raised by a case that cannot be tested here; the text says why."""


def enter_new_network():
    if _libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


def run(*command, check=True, timeout=60, **more):
    """Runs a command to its end and returns its standard output."""
    done = subprocess.run([str(c) for c in command], check=False, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def spawn(command, **more):
    """Starts a process that dies with this one."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)], **more)


class Staging:
    """The built programs where every user may run them."""

    def __init__(self, build, directory):
        self.build = build
        self.daemon = build / "app/daemon/posternd"
        self.cli = build / "app/cli/postern"
        self.bin = directory / "bin"
        self.bin.mkdir(mode=0o755)
        wanted = [self.cli, *(build / "app/examples").rglob("*"), *(build / "tests/system").rglob("*"),
                  *(build / "lib/client").glob("libpostern.so*"),
                  *(build / "lib/client/preload").glob("libpostern_preload.so"),
                  *(HERE / n for n in ("app.py", "remote_socket.py", "postern_api.py", "pattern.py",
                                       "differential/subject.py"))]
        for path in wanted:
            if path.is_file() and (path.suffix == ".py" or ".so" in path.name
                                   or (os.access(path, os.X_OK) and not path.suffix)):
                shutil.copy(path, self.bin / path.name)


class App:
    """A program of an unprivileged user over libpostern."""

    def __init__(self, world, name, command, user):
        self.world = world
        self.name = name
        self.log = open(world.dir / f"{name}.err", "ab")
        ids = ["--reuid", user, "--regid", "nogroup", "--clear-groups", "--no-new-privs"]
        env = {"PATH": "/usr/bin:/bin", "POSTERN_SOCKET": str(world.app_socket),
               "LD_LIBRARY_PATH": str(world.staging.bin), "PYTHONDONTWRITEBYTECODE": "1"}
        # setpriv sets the death signal last: a change of identity would clear it.
        self.process = subprocess.Popen(
            ["setpriv", *ids, "--pdeathsig", "KILL", "--", *map(str, command)], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, cwd="/")

    @property
    def pid(self):
        return self.process.pid

    def line(self, seconds=30):
        """Its next line of output. Byte by byte: what is behind it stays in the pipe, where select()
        sees it."""
        pipe, text = self.process.stdout.fileno(), b""
        while not text.endswith(b"\n"):
            readable, _, _ = select.select([pipe], [], [], seconds)
            assert readable, f"{self.name} said nothing for {seconds} s"
            byte = os.read(pipe, 1)
            assert byte, f"{self.name} ended without a word"
            text += byte
        return text.decode().strip()

    def expect_ready(self, seconds=30):
        text = self.line(seconds)
        assert text == "ready", f"{self.name} is not ready: {text}"
        return self

    def result(self, seconds=120):
        """Its next line, which is JSON."""
        return json.loads(self.line(seconds))

    def tell(self, text="\n"):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(OSError):
                stream.close()


class Daemon:
    """A running posternd."""

    def __init__(self, world, config_file, log_file):
        self.world = world
        self.log_file = log_file
        self.process = spawn(
            ["nsenter", f"--net=/proc/{world.holder.pid}/ns/net", "--", world.staging.daemon,
             "--config", config_file],
            stdin=subprocess.DEVNULL, stdout=open(log_file, "ab"), stderr=subprocess.STDOUT)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return pathlib.Path(self.log_file).read_text(errors="replace")

    def wait_ready(self, seconds=60):
        def ready():
            assert self.process.poll() is None, f"posternd ended at once:\n{self.log()[-2000:]}"
            return re.search(r"\bready\b", self.log())
        wait_until(ready, seconds, "posternd logs that it is ready")

    def alive(self):
        return self.process.poll() is None

    def stop(self, seconds=15):
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        """What its open descriptors are, without numbers that change."""
        names = []
        for entry in pathlib.Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(re.sub(r"\d+", "", os.readlink(entry)))
        return sorted(names)

    def resident_bytes(self):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", text, re.M).group(1)) * 1024


class World:
    """One test's network, daemon and applications."""

    def __init__(self, staging, directory):
        self.staging = staging
        self.dir = directory
        self.scratch = directory / "scratch"  # where programs of any user may write
        self.scratch.mkdir()
        self.scratch.chmod(0o777)
        self.app_socket = directory / "postern.sock"
        self.control_socket = directory / "control.sock"
        self.file_prefix = f"postern-test-{os.getpid()}"
        self.daemon = None
        self.starts = 0
        self.apps = []
        self.holder = spawn(["unshare", "--net", "--", "sleep", "infinity"])
        self._make_wire()

    # ---- the network ----

    def _make_wire(self):
        mine = os.readlink("/proc/self/ns/net")

        def moved():
            with contextlib.suppress(OSError):
                return os.readlink(f"/proc/{self.holder.pid}/ns/net") not in (mine, "")
        wait_until(moved, 10, "a network namespace for posternd")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns", self.holder.pid)
        # The kernel must finish checksums and segments itself: at the other end is no kernel.
        run("ethtool", "-K", WIRE, "tx", "off", "tso", "off", "gso", "off")
        run("ip", "addr", "add", f"{LINUX}/24", "dev", WIRE)
        run("ip", "link", "set", WIRE, "up")
        self.beyond("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
        self.beyond("ip", "link", "set", WIRE, "up")

    def beyond(self, *command, **more):
        """Runs a command in posternd's namespace."""
        return run("nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--", *command, **more)

    # ---- posternd ----

    def config(self, **sections):
        """The usual configuration, with whole sections replaced or, for None, left out."""
        config = {
            "dpdk": {"file_prefix": self.file_prefix},
            "memory": {"hugepages": "off", "size": "256MiB"},
            "workers": {"cores": [os.cpu_count() - 1], "idle": "adaptive"},
            "ports": [{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                       "addresses": [f"{POSTERN}/24"]}],
            "access": [{"user": "nobody", "bind": ["tcp/any", "udp/any"]}],
            "control": {"app_socket": str(self.app_socket), "socket": str(self.control_socket)},
        }
        config.update(sections)
        return {key: value for key, value in config.items() if value is not None}

    def start(self, **sections):
        """Starts posternd; JSON is YAML as well."""
        file = self.dir / "posternd.yaml"
        file.write_text(json.dumps(self.config(**sections), indent=2))
        self.starts += 1
        self.daemon = Daemon(self, file, self.dir / f"posternd{self.starts}.log")
        self.daemon.wait_ready()
        return self.daemon

    def cli(self, *arguments, **more):
        return run(self.staging.cli, *arguments, "--socket", self.control_socket, **more)

    def show(self, verb):
        """What `postern VERB -j` says."""
        return json.loads(self.cli(verb, "-j"))

    # ---- applications ----

    def example(self, name, *arguments, user="nobody"):
        app = App(self, name, [self.staging.bin / name, *arguments], user)
        self.apps.append(app)
        return app

    def app(self, program, *arguments, user="nobody"):
        app = App(self, f"app-{program}-{len(self.apps)}",
                  ["python3", self.staging.bin / "app.py", program, *map(str, arguments)], user)
        self.apps.append(app)
        return app

    def program(self, *command, user="nobody", options=()):
        """Starts a program that knows nothing of Postern under `postern run`."""
        name = pathlib.Path(command[0]).name
        app = App(self, f"{name}-{len(self.apps)}",
                  [self.staging.bin / "postern", "run", *options, "--", *command], user)
        self.apps.append(app)
        return app

    def serve_echo(self, port=7):
        app = self.example("echo", "--tcp", port, "--udp", port)
        self.wait_listening(port)
        return app

    def wait_listening(self, *ports):
        def listening():
            return all(re.search(rf"(LISTEN|UNCONN)\s.*[:.\]]{port}\b", text) for port in ports
                       for text in [self.cli("ss", check=False)])
        wait_until(listening, 15, f"a socket on port {ports} in `postern ss`")

    # ---- the Linux end ----

    def connect(self, port, timeout=20):
        sock = socket.create_connection((POSTERN, port), timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def udp(self, port=7, timeout=5):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(timeout)
        sock.connect((POSTERN, port))
        return sock

    def listen(self, port=9000, backlog=512):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LINUX, port))
        sock.listen(backlog)
        sock.settimeout(20)
        return sock

    # ---- the end ----

    def close(self):
        for app in self.apps:
            app.stop()
        if self.daemon and self.daemon.alive():
            try:
                self.daemon.stop()
            except subprocess.TimeoutExpired:
                self.daemon.kill()
        self.holder.kill()
        self.holder.wait()

    def logs(self):
        """The ends of all logs, for a failure report."""
        parts = []
        for path in sorted([*self.dir.glob("*.log"), *self.dir.glob("*.err")]):
            text = path.read_text(errors="replace").strip()
            if text:
                parts.append(f"--- {path.name}\n" + "\n".join(text.splitlines()[-25:]))
        return "\n".join(parts)


def receive_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), 1 << 20))
        if not piece:
            break
        data += piece
    return bytes(data)


def receive_to_end(sock):
    """Reads to the end of the stream. Returns (bytes, SHA-256, error or None)."""
    digest, total = hashlib.sha256(), 0
    while True:
        try:
            piece = sock.recv(1 << 18)
        except OSError as error:
            return total, digest.hexdigest(), error
        if not piece:
            return total, digest.hexdigest(), None
        digest.update(piece)
        total += len(piece)


# ---- cases ----

CASES = []


def case(function=None, *, seconds=60, alone=False, needs=()):
    """Registers a test: a function of a World. `seconds`: its time limit. `alone`: it measures
    time, so nothing else may run beside it. `needs`: programs without which it is skipped."""
    def register(body):
        module = body.__module__.removeprefix("cases_")
        CASES.append({"name": f"system/{module}/{body.__name__}", "body": body, "seconds": seconds,
                      "alone": alone, "needs": needs})
        return body
    return register(function) if function else register


def note(text):
    """A figure for the reader of the results."""
    print(f"note: {text}", flush=True)
