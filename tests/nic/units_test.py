#!/usr/bin/env python3
"""The units in deploy/systemd, as systemd reads them: known settings, known values, and the card before
the daemon."""
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

UNITS = pathlib.Path(__file__).resolve().parents[2] / "deploy/systemd"


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not installed")
class Units(unittest.TestCase):
    def verify(self, spoil=lambda text: text):
        """What systemd-analyze complains of; the programs need not be installed."""
        with tempfile.TemporaryDirectory() as directory:
            names = []
            for unit in UNITS.glob("*.service"):
                text = re.sub(r"(?m)^(Exec\w*=)\S+", r"\1/bin/true", unit.read_text())
                names.append(f"{directory}/{unit.name}")
                pathlib.Path(names[-1]).write_text(spoil(text))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], text=True,
                                  capture_output=True, check=False)
        ours = [line for line in done.stderr.splitlines() if "postern" in line]
        return done.returncode, ours

    def test_systemd_has_nothing_to_say(self):
        self.assertEqual(self.verify(), (0, []))

    def test_a_mistake_would_be_seen(self):
        _, said = self.verify(lambda text: text.replace("Type=", "Typ="))
        self.assertEqual(len(said), 2, said)

    def test_cards_come_before_the_daemon(self):
        daemon, cards = ((UNITS / name).read_text() for name in ("posternd.service", "postern-nic.service"))
        self.assertRegex(daemon, r"(?m)^After=.*\bpostern-nic\.service")
        self.assertRegex(daemon, r"(?m)^Wants=.*\bpostern-nic\.service")
        self.assertRegex(cards, r"(?m)^Before=.*\bnetwork-pre\.target")
        for text in (daemon, cards):
            self.assertIn("WantedBy=multi-user.target", text)


if __name__ == "__main__":
    unittest.main()
