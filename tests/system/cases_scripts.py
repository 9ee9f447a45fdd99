"""Packet scripts of tests/script, played against the whole daemon in real time over its wire.

On demand, by POSTERN_LIVE_SCRIPTS=true: real time wants a machine that is not busy with other things.
"""
import os
import subprocess

from harness import HERE, QUICK, WIRE, Skip, case, note

SCRIPTS = HERE.parent / "script"
ADDRESS = "198.18.0.1"  # of a network with an address for each script
AT_ONCE = 6      # players; each has addresses and ports of its own
QUICK_SHARE = 3  # every third script
ATTEMPTS = 3     # in all: a busy machine spoils the timing of some

# Settings of scripts -> the daemon's configuration that has them.
CONFIGURATIONS = {
    (): {},
    ("timestamps=0",): {"timestamps": False},
    ("ecn=1",): {"ecn": True},
}


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
    return tuple(sorted(line[2:].strip() for line in lines if line.startswith("--")
                        and not line.startswith("--tolerance")))


class Player:
    """A play_live process for some scripts, which ends by itself."""

    def __init__(self, world, number, settings, scripts):
        self.scripts = scripts
        has = [word for setting in settings for word in ("--has", setting)]
        self.process = subprocess.Popen(
            [world.staging.build / "tests/script/play_live", "--interface", WIRE, "--local", ADDRESS,
             "--remote", f"198.18.{number + 1}.0", "--port", str(10000 + 4000 * number), *has,
             *scripts],
            cwd=SCRIPTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "POSTERN_SOCKET": str(world.app_socket),
                 "LD_LIBRARY_PATH": str(world.staging.bin)})

    def results(self, seconds):
        """Script -> (PASS, FAIL or SKIP, what was said)."""
        said, _ = self.process.communicate(timeout=seconds)
        out, last = {}, None
        for line in said.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("PASS", "FAIL", "SKIP"):
                last, _, why = rest.partition(" ")
                out[last] = (word, why)
            elif last:
                out[last] = (out[last][0], out[last][1] + "\n" + line)
        missing = [name for name in self.scripts if name not in out]
        assert not missing, f"nothing was said of {missing[:3]}: {said[-500:]}"
        return out


def play(world, settings, scripts, first, at_once):
    players = [Player(world, first + i, settings, scripts[i::at_once])
               for i in range(min(at_once, len(scripts)))]
    out = {}
    for player in players:
        out |= player.results(600)
    return out


def play_with(world, settings, scripts):
    """Against a daemon with these settings. What failed is tried again by itself."""
    daemon = world.start(
        ports=[{"name": WIRE, "device": f"net_af_packet0,iface={WIRE}",
                "addresses": [f"{ADDRESS}/16"]}],
        access=[{"user": "root", "bind": ["tcp/any"]}],
        tcp={"receive_buffer": "1MiB", "receive_buffer_max": "1MiB", **CONFIGURATIONS[settings]})
    results = play(world, settings, scripts, 0, AT_ONCE)
    for attempt in range(1, ATTEMPTS):
        again = [name for name, (word, _) in results.items() if word == "FAIL"]
        if again:
            results |= play(world, settings, again, AT_ONCE + attempt, 1)
    assert "evict" not in daemon.log(), "a player was evicted"
    daemon.stop()
    return results


@case(seconds=900, alone=True)
def packet_scripts_against_the_daemon(world):
    if os.environ.get("POSTERN_LIVE_SCRIPTS") != "true":
        raise Skip("on demand: POSTERN_LIVE_SCRIPTS=true")
    world.daemon_may_end = True
    left_out = excluded()
    known = sorted(str(path.relative_to(SCRIPTS)) for path in SCRIPTS.glob("*/*.pkt"))
    stale = [name for name in left_out if name not in known]
    assert not stale, f"excluded.txt names scripts that are not there: {stale}"
    results = {}
    for settings in CONFIGURATIONS:
        scripts = [name for name in known if name not in left_out and settings_of(name) == settings]
        results |= play_with(world, settings, scripts[::QUICK_SHARE] if QUICK else scripts)
    failed = {name: why for name, (word, why) in results.items() if word == "FAIL"}
    passed = sum(word == "PASS" for word, _ in results.values())
    note(f"{passed} of {len(known)} scripts passed, {len(failed)} failed, "
         f"{len(results) - passed - len(failed)} take long")
    assert not failed, "\n".join(f"{name}: {why}" for name, why in failed.items())
    assert passed >= (60 if QUICK else 200), "few scripts were played"
