"""Programs that know nothing of Postern: nginx and redis, under `postern run` and over the kernel."""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from report import rate_text, ratio_text, ratios, spread, table
from sheets import Sheet
from systems import SERVER, Failed, Server, ip, run_json

# Postern's wire beside the kernel's: a pair of its own, whose far end has no address of the kernel.
WIRE, WIRE_SERVER, WIRE_CLIENT = "veth1", "10.253.0.1", "10.253.0.2"
BODY = "p" * 64
CONNECTIONS = 64


def cpu_ticks(pid):
    """Of a process and of those that it started."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks


def offloads(namespace, device, state):
    """What the kernel leaves to a device: nobody does it where its packets leave the kernel."""
    subprocess.run(["ip", "netns", "exec", namespace, "ethtool", "-K", device,
                    *(word for name in ("tx", "tso", "gso") for word in (name, state))],
                   check=True, capture_output=True)


class Program:
    """One server: how it is started, what loadgen asks it, and what its usual client says."""

    def __init__(self, bench):
        self.dir = bench.dir / self.name
        self.dir.mkdir(exist_ok=True)
        self.request = self.dir / "request"
        self.request.write_bytes(self.REQUEST)

    def loadgen(self, size):
        return ["--mode", "tcp-rr", "--port", self.port, "--connections", CONNECTIONS, "--request",
                self.request, "--response", size]


class Nginx(Program):
    name, port = "nginx", 80
    title = "nginx, 1 worker, 64 B"
    REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"

    def command(self):
        config = self.dir / "nginx.conf"
        config.write_text(f"""\
daemon off; worker_processes 1; pid {self.dir}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600;
  client_body_temp_path {self.dir}/a; proxy_temp_path {self.dir}/b; fastcgi_temp_path {self.dir}/c;
  uwsgi_temp_path {self.dir}/d; scgi_temp_path {self.dir}/e;
  server {{ listen 80; location / {{ return 200 "{BODY}"; }} }}
}}
""")
        return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-e", "stderr"]

    def client(self, address, seconds):
        return ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}", "--latency",
                f"http://{address}/"]

    def sample(self, text):
        """Of the client's words: rate, and latency in microseconds."""
        if "Socket errors" in text or "Non-2xx" in text:
            raise Failed(text)
        unit = {"us": 1, "ms": 1000, "s": 1e6}

        def quantile(percent):
            number, of = re.search(rf"{percent}%\s+([0-9.]+)(us|ms|s)\b", text).groups()
            return float(number) * unit[of]
        return {"rate": float(re.search(r"Requests/sec:\s+([0-9.]+)", text).group(1)),
                "latency_us": {"p50": quantile(50), "p99": quantile(99)}}


class Redis(Program):
    name, port = "redis", 6379
    title = "redis, SET of 64 B"
    REQUEST = f"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$64\r\n{BODY}\r\n".encode()

    def command(self):
        return [shutil.which("redis-server") or "/usr/bin/redis-server", "--port", self.port, "--bind",
                "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", self.dir]

    def client(self, address, seconds):
        return ["redis-benchmark", "-h", address, "-c", CONNECTIONS, "-n", int(60000 * max(1, seconds)),
                "-t", "set", "-d", 64, "--csv", "--precision", 3]

    def sample(self, text):
        fields = [float(f.strip('"')) for f in re.search(r'"SET",(.*)', text).group(1).split(",")]
        rate, _average, _least, p50, _p95, p99, _most = fields
        return {"rate": rate, "latency_us": {"p50": 1000 * p50, "p99": 1000 * p99}}


class Programs(Sheet):
    name = "programs"
    title = "Programs as they are: nginx and redis"
    about = (f"{CONNECTIONS} connections, each asking again when it has its answer. The server side, "
             "`posternd` (adaptive) and the program together, or the program over the kernel, has one "
             "core; the client the other. With `loadgen`: Postern over memif, the kernel over veth. "
             "With wrk or redis-benchmark over the kernel's sockets: both over veth, Postern by "
             "af_packet. Cores: what the server's processes used; the kernel's own work for a packet "
             "on veth falls to whoever sent it, and counts for nobody.")

    def __init__(self, bench):
        super().__init__(bench)
        self.programs = [kind(bench) for kind in (Nginx, Redis)]
        self.namespaces = a, b = bench.make_veth()
        ip("link", "add", WIRE, "netns", a, "type", "veth", "peer", "name", WIRE, "netns", b)
        for name in (a, b):
            ip("-n", name, "link", "set", WIRE, "up")
        ip("-n", b, "addr", "add", f"{WIRE_CLIENT}/24", "dev", WIRE)
        offloads(b, WIRE, "off")

    # ---- the parties ----

    def start(self, program, postern, netns=None):
        b = self.bench
        command = program.command()
        if postern:
            command = ["env", f"POSTERN_SOCKET={b.dir}/app.sock", "POSTERN_SPIN_US=0",
                       b.build / "app/cli/postern", "run", "--", *command]
        server = Server(program.name, command, b.o.server_core, b.dir, netns=netns)
        time.sleep(0.5)
        return server

    def beyond(self, command):
        """The program's usual client, in the client's namespace."""
        b = self.bench
        done = subprocess.run(["ip", "netns", "exec", self.namespaces[1], "taskset", "-c",
                               str(b.o.client_core), *map(str, command)],
                              capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise Failed(f"{command[0]}: {done.stderr.strip()}")
        return done.stdout

    def response_size(self, program):
        """Over the kernel, once: every answer is as long."""
        script = ("import socket,sys\n"
                  f"s = socket.create_connection(('{SERVER}', {program.port}), timeout=5)\n"
                  f"s.sendall(open('{program.request}', 'rb').read())\n"
                  "import time; time.sleep(0.3)\n"
                  "print(len(s.recv(65536)))\n")
        return int(self.beyond(["python3", "-c", script]))

    def counted(self, servers, run):
        """What the client says, and the cores that the servers used meanwhile."""
        ticks, begin = sum(cpu_ticks(s.process.pid) for s in servers), time.monotonic()
        sample = run()
        wall = time.monotonic() - begin
        used = sum(cpu_ticks(s.process.pid) for s in servers) - ticks
        return {"rate": sample["rate"], "latency_us": sample["latency_us"],
                "cores": used / os.sysconf("SC_CLK_TCK") / wall}

    def over_kernel(self, program, row):
        b = self.bench
        server = self.start(program, False, netns=self.namespaces[0])
        try:
            size = self.response_size(program)
            case = [b.build / "perf/loadgen", "--json", "--core", b.o.client_core, "--vdev",
                    "net_af_packet0,iface=veth0,blocksz=16384,framesz=2048,framecnt=4096",
                    "--local", "10.254.0.3", "--peer", SERVER, "--file-prefix", "bench-client",
                    "--warmup", b.o.warmup, "--duration", b.o.seconds, *program.loadgen(size)]
            offloads(self.namespaces[0], "veth0", "off")
            row[program.name, "kernel, loadgen"] = self.counted([server], lambda: run_json(
                case, b.o.client_core, netns=self.namespaces[1]))
            offloads(self.namespaces[0], "veth0", "on")
            row[program.name, "kernel, client"] = self.counted([server], lambda: program.sample(
                self.beyond(program.client(SERVER, b.o.seconds))))
            return size
        finally:
            server.stop()

    def over_postern(self, program, row, size, wired):
        b = self.bench
        more = {"device": f"net_af_packet0,iface={WIRE}", "addresses": (f"{WIRE_SERVER}/24",),
                "netns": self.namespaces[0]} if wired else {}
        daemon = b.posternd(idle="adaptive", spin="0us", **more)
        try:
            server = self.start(program, True)
            try:
                if wired:
                    def run():
                        return program.sample(self.beyond(program.client(WIRE_SERVER, b.o.seconds)))
                else:
                    def run():
                        return b.loadgen(program.loadgen(size))
                row[program.name, "client" if wired else "loadgen"] = self.counted([daemon, server], run)
            finally:
                server.stop()
        finally:
            daemon.stop()

    def measure(self):
        row = {}
        for program in self.programs:
            size = self.over_kernel(program, row)
            self.over_postern(program, row, size, wired=False)
            self.over_postern(program, row, size, wired=True)
        self.samples.append(row)

    # ---- the report ----

    def rows(self, system):
        for program in self.programs:
            ours, theirs = (program.name, system), (program.name, f"kernel, {system}")
            rate, kernel = self.column(ours, "rate"), self.column(theirs, "rate")
            cores, kernel_cores = self.column(ours, "cores"), self.column(theirs, "cores")
            core = [r / c for r, c in zip(rate, cores)]
            kernel_core = [r / c for r, c in zip(kernel, kernel_cores)]
            yield [program.title, spread(rate, rate_text), spread(kernel, rate_text),
                   spread(ratios(rate, kernel), ratio_text), spread(cores, ratio_text),
                   spread(kernel_cores, ratio_text), spread(ratios(core, kernel_core), ratio_text),
                   self.latency(ours), self.latency(theirs)]

    def latency(self, variant):
        return " / ".join(f"{statistics.median(r[q] for r in self.column(variant, 'latency_us')):.0f}"
                          for q in ("p50", "p99"))

    def render(self):
        head = ["", "Postern", "kernel", "ratio", "cores, Postern", "cores, kernel", "ratio per core",
                "p50 / p99, us", "kernel, us"]
        return "\n".join(["With `loadgen`:", "", table(head, self.rows("loadgen")), "",
                          "With wrk and redis-benchmark:", "", table(head, self.rows("client"))]), {}
