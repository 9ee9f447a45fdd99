"""Programs that did not come from here agree: curl, nc, iperf3, tshark."""
import hashlib
import json
import subprocess
import time

from harness import LINUX, MIB, POSTERN, QUICK, WIRE, case, note, run, spawn, wait_until
from pattern import Pattern

FILE_SIZE = 20 * MIB + 12345


def serve_files(world):
    """httpd with a large file, an empty one and a page. Returns the large file's bytes."""
    root = world.dir / "www"
    root.mkdir(mode=0o755)
    data = Pattern().bytes(FILE_SIZE)
    (root / "large.bin").write_bytes(data)
    (root / "empty").write_bytes(b"")
    (root / "index.html").write_text("<p>Served by Postern.</p>\n")
    world.example("httpd", "--root", root, "--port", 80)
    world.wait_listening(80)
    return data


def curl(*arguments, **more):
    return subprocess.run(["curl", "-sS", "--max-time", "60", *map(str, arguments)], check=False,
                          capture_output=True, **more)


URL = f"http://{POSTERN}"


@case(needs=("curl",))
def curl_downloads(world):
    world.start()
    data = serve_files(world)
    done = curl("--fail", f"{URL}/large.bin")
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert curl("--fail", f"{URL}/").stdout == b"<p>Served by Postern.</p>\n"
    assert curl("--fail", f"{URL}/empty").stdout == b""
    assert curl("--fail", f"{URL}/nosuch").returncode == 22, "404"


@case(needs=("curl",))
def curl_ranges(world):
    world.start()
    data = serve_files(world)
    last = FILE_SIZE - 1
    for text, want in (("0-0", data[:1]), ("100-299", data[100:300]), ("-500", data[-500:]),
                       (f"{last}-", data[-1:]), (f"{MIB}-{2 * MIB}", data[MIB:2 * MIB + 1])):
        done = curl("--fail", "-r", text, "-w", "%{stderr}%{http_code}", f"{URL}/large.bin")
        assert done.stdout == want and done.stderr == b"206", (text, len(done.stdout), done.stderr)
    done = curl("-r", f"{FILE_SIZE}-", "-o", "/dev/null", "-w", "%{http_code}", f"{URL}/large.bin")
    assert done.stdout == b"416", done


@case(needs=("curl",))
def curl_resumes(world):
    world.start()
    data = serve_files(world)
    part = world.dir / "part"
    part.write_bytes(data[:7_000_000])
    done = curl("--fail", "-C", "-", "-o", part, f"{URL}/large.bin")
    assert done.returncode == 0, done.stderr
    assert part.read_bytes() == data


@case(needs=("curl",))
def curl_keeps_the_connection(world):
    world.start()
    serve_files(world)
    done = curl("--fail", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null",
                "-w", "%{num_connects} ", f"{URL}/", f"{URL}/large.bin", f"{URL}/empty")
    assert done.stdout.split() == [b"1", b"0", b"0"], done


@case(needs=("curl",))
def curl_in_parallel(world):
    world.start()
    data = serve_files(world)
    urls = [f"{URL}/large.bin"] * 8
    outputs = [word for i in range(8) for word in ("-o", world.dir / f"copy{i}")]
    done = curl("--fail", "-Z", *outputs, *urls)
    assert done.returncode == 0, done.stderr
    for i in range(8):
        assert (world.dir / f"copy{i}").read_bytes() == data


@case(needs=("curl",))
def httpd_stays_inside_its_root(world):
    world.start()
    serve_files(world)
    for path in ("/../posternd.yaml", "/%2e%2e/posternd.yaml", "/..%2fposternd.yaml", "//etc/passwd"):
        done = curl("--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", URL + path)
        assert done.stdout in (b"400", b"403", b"404"), (path, done)


@case(needs=("nc",))
def nc_talks_to_echo(world):
    world.start()
    world.serve_echo()
    text = "line one\nline two\n"
    assert run("nc", "-N", "-w", 5, POSTERN, 7, input=text) == text
    run("nc", "-z", "-w", 5, POSTERN, 7)
    assert subprocess.run(["nc", "-z", "-w", "5", POSTERN, "8"], check=False).returncode == 1
    assert run("nc", "-u", "-w", 1, POSTERN, 7, input="datagram") == "datagram"


@case(needs=("nc",))
def nc_listens_for_the_application(world):
    world.start()
    server = spawn(["nc", "-l", "-N", LINUX, "9000"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    wait_until(lambda: "9000" in run("ss", "-ltn"), 5, "nc listens")
    world.app("connect", "--host", LINUX, "--port", 9000, "--bytes", 500_000)
    received = server.stdout.read()
    server.wait(10)
    assert received == Pattern().bytes(500_000)


@case(seconds=90, needs=("iperf3",), alone=True)
def iperf3_measures(world):
    world.start()
    world.example("iperf_sink", "--port", 5201)
    world.wait_listening(5201)
    seconds = 2 if QUICK else 5
    report = json.loads(run("iperf3", "-c", POSTERN, "-t", seconds, "-J", "--connect-timeout", 5000))
    assert "error" not in report, report["error"]
    sent, received = report["end"]["sum_sent"], report["end"]["sum_received"]
    note(f"{received['bits_per_second'] / 1e9:.2f} Gbit/s, {sent.get('retransmits')} retransmits")
    assert received["bytes"] > 10 * MIB
    assert received["bytes"] <= sent["bytes"]


@case(seconds=120, needs=("tshark", "curl", "ping"))
def tshark_finds_nothing_wrong(world):
    """A capture of what the quickstart does, dissected with every checksum verified."""
    world.start()
    world.serve_echo()
    data = serve_files(world)
    capture = world.dir / "capture.pcap"
    dumper = spawn(["tshark", "-q", "-n", "-i", WIRE, "-B", "256", "-F", "pcap", "-w", capture],
                   stdout=subprocess.DEVNULL, stderr=open(world.dir / "tshark.err", "wb"))
    wait_until(lambda: capture.exists() and capture.stat().st_size > 0, 20, "tshark captures")
    run("ping", "-n", "-q", "-c", 5, "-i", "0.05", POSTERN)
    with world.udp() as sock:
        for size in range(0, 1473, 32):
            sock.send(data[:size])
            assert sock.recv(2048) == data[:size]
    assert curl("--fail", f"{URL}/large.bin").stdout == data
    with world.connect(7) as sock:
        sock.sendall(b"echo")
        assert sock.recv(4) == b"echo"
    previous = -1
    while (size := capture.stat().st_size) != previous:
        previous = size
        time.sleep(1)
    dumper.terminate()
    dumper.wait(20)
    packets = dissect(capture)
    ours = [p for p in packets if p["ip.src"] == POSTERN]
    note(f"{len(packets)} packets, {len(ours)} of them from posternd")
    assert len(ours) > 2000
    # The dissector did verify: 1 is "good", 0 "bad", 2 "not verified".
    assert all(p["ip.checksum.status"] == "1" for p in ours)
    assert sum(p["tcp.checksum.status"] == "1" for p in ours) > 1000
    assert sum(p["udp.checksum.status"] == "1" for p in ours) == len(range(0, 1473, 32))
    assert sum(p["icmp.type"] == "0" and p["icmp.checksum.status"] == "1" for p in ours) == 5
    for field in ("tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status"):
        wrong = [p for p in ours if p[field] not in ("", "1")]
        assert not wrong, wrong[:3]
    malformed = [p for p in packets if p["_ws.malformed"]]
    assert not malformed, malformed[:3]
    for field in ("tcp.analysis.ack_lost_segment", "tcp.analysis.lost_segment"):
        odd = [p for p in ours if p[field]]
        assert not odd, odd[:3]
    # A tail loss probe is right where the machine kept the client from running for a while.
    probes = [p for p in ours if p["tcp.analysis.retransmission"]]
    assert len(probes) <= len(ours) // 1000, probes[:3]
    errors = [p for p in ours if int(p["_ws.expert.severity"] or 0) >= 0x800000]
    assert not errors, errors[:3]


FIELDS = ("frame.number", "ip.src", "ip.checksum.status", "tcp.checksum.status",
          "udp.checksum.status", "icmp.type", "icmp.checksum.status", "_ws.malformed",
          "_ws.expert.severity", "tcp.analysis.retransmission", "tcp.analysis.ack_lost_segment",
          "tcp.analysis.lost_segment")


def dissect(capture):
    """One dictionary a packet, with every checksum verified by tshark."""
    checks = [word for protocol in ("ip", "tcp", "udp")
              for word in ("-o", f"{protocol}.check_checksum:TRUE")]
    fields = [word for field in FIELDS for word in ("-e", field)]
    text = run("tshark", "-n", "-r", capture, *checks, "-T", "fields", "-E", "separator=/t",
               "-E", "occurrence=f", *fields, timeout=100)
    return [dict(zip(FIELDS, line.split("\t"))) for line in text.splitlines()]
