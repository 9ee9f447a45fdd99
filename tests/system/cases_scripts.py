"""Packet scripts of tests/script, played against the whole daemon in real time over its wire."""
import concurrent.futures
import os
import re
import subprocess

from harness import HERE, MIB, QUICK, WIRE, case, note, spawn

SCRIPTS = HERE.parent / "script"
ADDRESS = "198.18.0.1"  # of a network with an address for each script
WARM_UP = "handshake/active.pkt"
MOST = 1000   # scripts
AT_ONCE = 12  # players, which mostly wait
# The longest that is played, in seconds.
LONGEST = int(os.environ.get("POSTERN_LIVE_LONGEST", "20" if QUICK else "250"))

ONLY = os.environ.get("POSTERN_LIVE_SCRIPTS", "")  # those whose path matches

# Configurations of the daemon, as settings of scripts. A script is played with the first that has
# its settings; those that do not touch each other's scripts share one.
CONFIGURATIONS = (
    {},
    {"timestamps": "0"},
    {"ecn": "1"},
    {"ecn": "1", "timestamps": "0"},
    {"receive_buffer": "4096"},
    {"receive_buffer": "8000"},
    {"retries": "3", "syn_retries": "3", "time_wait": "2s", "initial_window": "2"},
    {"retries": "3", "rto_max": "2s", "syn_ack_retries": "2", "orphan_retries": "2"},
    {"keepalive_idle": "5s", "keepalive_interval": "3s", "keepalive_probes": "2"},
    {"rto_max": "1s", "delayed_ack": "200ms", "congestion": "newreno"},
)


def excluded():
    """Script -> why it is not played live."""
    out = {}
    for line in (SCRIPTS / "live/excluded.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, reason = line.split(" | ")
            out[name.strip()] = reason.strip()
    return out


def settings_of(script):
    lines = (SCRIPTS / script).read_text().splitlines()
    return dict(line[2:].strip().split("=") for line in lines if line.startswith("--")
                and not line.startswith("--tolerance"))


def configuration_of(script):
    settings = settings_of(script).items()
    found = [i for i, has in enumerate(CONFIGURATIONS) if settings <= has.items()]
    assert found, f"{script}: no configuration has its settings, and excluded.txt does not name it"
    return found[0]


def configured(settings):
    """The daemon's `tcp:` for settings of scripts."""
    read = {"timestamps": lambda v: v == "1", "ecn": lambda v: v == "1",
            "receive_buffer": "{}B".format}
    plain = {key: read.get(key, lambda v: int(v) if v.isdigit() else v)(value)
             for key, value in {"receive_buffer": str(MIB), **settings}.items()}
    return {**plain, "receive_buffer_max": plain["receive_buffer"]}  # windows stay


def play(world, script, number, settings):
    """Plays one; `number` chooses its address and ports. Returns (PASS, FAIL or SKIP, why)."""
    has = [word for key, value in settings.items() for word in ("--has", f"{key}={value}")]
    player = spawn(
        [world.staging.build / "tests/script/play_live", "--interface", WIRE, "--local", ADDRESS,
         "--remote", f"198.18.{1 + number // 250}.{1 + number % 250}", "--port", 10000 + 2 * number,
         "--longest", LONGEST, *has, script],
        cwd=SCRIPTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "POSTERN_SOCKET": str(world.app_socket),
             "LD_LIBRARY_PATH": str(world.staging.bin)})
    said, _ = player.communicate(timeout=LONGEST + 60)
    word, _, rest = said.strip().partition(" ")
    return (word, rest) if word in ("PASS", "SKIP") else ("FAIL", rest or said or "nothing was said")


def play_all(world, scripts, settings):
    """Against a daemon with these settings. What failed is tried once more, by itself."""
    daemon = world.start(
        ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                "addresses": [f"{ADDRESS}/16"]}],
        access=[{"user": "root", "bind": ["tcp/any"], "memory": "16MiB", "sockets": 1024}],
        tcp=configured(settings))
    play(world, WARM_UP, MOST, settings)  # what comes first finds its memory untouched
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = dict(zip(scripts, pool.map(
            lambda i: play(world, scripts[i], i, settings), range(len(scripts)))))
    again = [name for name, (word, _) in results.items() if word == "FAIL"]
    for i, name in enumerate(again):
        note(f"again: {results[name][1]}")
        results[name] = play(world, name, MOST + 1 + i, settings)
    assert "evict" not in daemon.log(), "a player was evicted"
    daemon.stop()
    return results


@case(seconds=900, alone=True)
def packet_scripts_against_the_daemon(world):
    world.daemon_may_end = True
    left_out = excluded()
    known = sorted(str(path.relative_to(SCRIPTS)) for path in SCRIPTS.glob("*/*.pkt"))
    stale = [name for name in left_out if name not in known]
    assert not stale, f"excluded.txt names scripts that are not there: {stale}"
    groups = [[] for _ in CONFIGURATIONS]
    for name in known:
        if name not in left_out and re.search(ONLY, name):
            groups[configuration_of(name)].append(name)
    results = {}
    for settings, scripts in zip(CONFIGURATIONS, groups):
        results |= play_all(world, scripts, settings) if scripts else {}
    failed = {name: why for name, (word, why) in results.items() if word == "FAIL"}
    skipped = sum(word == "SKIP" for word, _ in results.values())
    note(f"{len(results) - skipped - len(failed)} of {len(known)} scripts passed, {len(failed)} "
         f"failed; {skipped} take longer than {LONGEST} s, {len(left_out)} are the engine's alone")
    assert not failed, "\n".join(failed.values())
