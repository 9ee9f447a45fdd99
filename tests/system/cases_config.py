"""A configuration with a mistake: one line that says where, what, and what would be right; status
2; nothing started."""
import json
import re
import subprocess

from harness import case

GOOD = """\
memory:
  hugepages: off
  size: 256MiB
ports:
  - name: wire0
    device: "net_af_packet0,iface=wire0"
    addresses: [192.0.2.2/24]
access:
  - user: nobody
    bind: [tcp/80]
"""

# name, what to replace, by what, line (0: any), what the message must contain
MISTAKES = [
    ("unknown_key", "memory:\n", "memory:\n  sizes: 1GiB\n", 2, "sizes"),
    ("unknown_section", "memory:\n", "memroy:\n", 1, "memory"),
    ("wrong_type", "size: 256MiB", "size: plenty", 3, "plenty"),
    ("list_for_scalar", "hugepages: off", "hugepages: [off]", 2, "hugepages"),
    ("scalar_for_list", "addresses: [192.0.2.2/24]", "addresses: 192.0.2.2/24", 7, "addresses"),
    ("unknown_choice", "hugepages: off", "hugepages: maybe", 2, "auto"),
    ("size_without_unit", "size: 256MiB", "size: 256", 3, "256"),
    ("bad_address", "192.0.2.2/24", "192.0.2.256/24", 7, "192.0.2.256"),
    ("address_without_length", "192.0.2.2/24", "192.0.2.2", 7, "192.0.2.2"),
    ("network_address", "192.0.2.2/24", "192.0.2.0/24", 7, "192.0.2.0"),
    ("duplicate_address", "[192.0.2.2/24]", "[192.0.2.2/24, 192.0.2.2/24]", 7, "192.0.2.2"),
    ("duplicate_key", "memory:\n", "memory:\n  size: 64MiB\n", 0, "size"),
    ("unknown_driver", "net_af_packet0", "net_af_paket0", 6, "net_af_packet"),
    ("bad_pci", '"net_af_packet0,iface=wire0"', '"0000:zz:00.0"', 6, "zz"),
    ("absent_interface", "iface=wire0", "iface=nosuch0", 6, "nosuch0"),
    ("absent_pci_device", '"net_af_packet0,iface=wire0"', '"0000:7f:1f.7"', 6, "0000:7f:1f.7"),
    ("no_ports", GOOD[GOOD.index("ports:"):GOOD.index("access:")], "", 0, "ports"),
    ("unknown_user", "user: nobody", "user: nosuchuser", 9, "nosuchuser"),
    ("bad_port_range", "tcp/80", "tcp/80-70", 10, "tcp/80-70"),
    ("bad_protocol", "tcp/80", "sctp/80", 10, "sctp/80"),
    ("broken_yaml", "ports:\n", "ports: [\n", 0, ""),
    ("tab_for_indent", "  size", "\tsize", 3, ""),
    ("bad_mtu", "    addresses:", "    mtu: 100000\n    addresses:", 7, "100000"),
    ("impossible_core", "ports:\n", "workers:\n  cores: [9999]\nports:\n", 5, "9999"),
]


def posternd(world, *arguments):
    return subprocess.run(
        ["nsenter", f"--net=/proc/{world.holder.pid}/ns/net", "--", str(world.staging.daemon),
         *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=30)


def expect_refusal(world, done, file, line, words):
    assert done.returncode == 2, f"exit status {done.returncode}: {done.stderr}"
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, f"one line, not {len(lines)}: {done.stderr}"
    match = re.fullmatch(rf"(?:\w+: )?{re.escape(str(file))}:(\d+):(\d+): (.+)", lines[0])
    assert match, f"file:line:column: what: {lines[0]}"
    assert line in (0, int(match.group(1))), f"line {line}: {lines[0]}"
    assert words in match.group(3), f"{words!r} in: {lines[0]}"
    assert not world.app_socket.exists() and not world.control_socket.exists()


def register(name, old, new, line, words):
    def body(world):
        assert GOOD.count(old) == 1
        file = world.dir / "mistake.yaml"
        file.write_text(GOOD.replace(old, new) + sockets(world))
        expect_refusal(world, posternd(world, "--config", file), file, line, words)
    body.__name__ = f"mistake_{name}"
    body.__module__ = __name__
    case(body)


for row in MISTAKES:
    register(*row)


def sockets(world):
    return f"control: {json.dumps({'app_socket': str(world.app_socket), 'socket': str(world.control_socket)})}\n"


@case
def missing_file(world):
    file = world.dir / "nosuch.yaml"
    done = posternd(world, "--config", file)
    assert done.returncode == 2 and str(file) in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@case
def no_arguments_explain_themselves(world):
    done = posternd(world)
    assert done.returncode == 2 and "--config" in done.stderr, done


@case
def check_agrees_with_posternd(world):
    file = world.dir / "good.yaml"
    file.write_text(GOOD + sockets(world))
    cli = str(world.staging.cli)
    done = subprocess.run([cli, "check", str(file)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done
    for name, old, new, line, words in MISTAKES:
        if name.startswith("absent"):
            continue  # only the machine can tell
        file.write_text(GOOD.replace(old, new) + sockets(world))
        done = subprocess.run([cli, "check", str(file)], check=False, capture_output=True, text=True)
        expect_refusal(world, done, file, line, words)


@case
def check_in_json(world):
    cli = str(world.staging.cli)
    file = world.dir / "mistake.yaml"
    file.write_text(GOOD.replace("tcp/80", "tcp/x") + sockets(world))
    done = subprocess.run([cli, "check", str(file), "-j"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "tcp/x" in json.dumps(json.loads(done.stdout or done.stderr))
