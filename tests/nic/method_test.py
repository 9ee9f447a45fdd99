#!/usr/bin/env python3
"""The procedures of perf/pktgen/method.py against devices whose limits are known, and the report."""
import pathlib
import re
import sys
import tempfile
import unittest
import xml.dom.minidom

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "perf/pktgen"))

import method  # noqa: E402
import report  # noqa: E402
import rfc2544  # noqa: E402


class Device:
    """Sends up to `link` frames a second, passes up to `capacity`, stores `buffer` frames."""

    def __init__(self, link, capacity, buffer=0, unlucky=()):
        self.link, self.capacity, self.buffer = link, capacity, buffer
        self.trials, self.unlucky = 0, set(unlucky)

    def trial(self, size, flows, rate, seconds, count=0):
        self.trials += 1
        speed = min(rate or self.link, self.link)
        sent = count or round(speed * seconds)
        time = sent / speed
        passed = min(sent, int(self.capacity * time) + self.buffer)
        if self.trials in self.unlucky:
            passed -= 1
        return method.Trial(rate, time, sent, passed)


class Method(unittest.TestCase):
    def search(self, device, limit=0.0, repeats=2):
        return method.search(device, 64, 1, 1.0, device.link, limit, 0.01, repeats)

    def test_finds_the_capacity_to_the_resolution(self):
        for capacity in (13_000, 400_000, 777_777, 990_000):
            found = self.search(Device(1_000_000, capacity))
            self.assertLessEqual(found.rate, capacity)
            self.assertGreaterEqual(found.rate, capacity - 10_000 - 1)
            self.assertEqual(found.repeats, 2)

    def test_a_device_as_fast_as_the_link(self):
        self.assertEqual(self.search(Device(1_000_000, 2_000_000)).rate, 1_000_000)

    def test_nothing_passes(self):
        found = self.search(Device(1_000_000, 0))
        self.assertEqual((found.rate, found.repeats), (0.0, 0))

    def test_partial_loss_gives_a_higher_rate(self):
        device = Device(1_000_000, 500_000)
        none, some = self.search(device), self.search(device, limit=0.1)
        self.assertGreater(some.rate, none.rate + 30_000)
        self.assertLessEqual((some.rate - 500_000) / some.rate, 0.1)

    def test_a_rate_that_is_not_confirmed_is_lowered(self):
        honest = self.search(Device(1_000_000, 500_000), repeats=3)
        trials_of_search = len(honest.trials) - 3
        shaken = self.search(Device(1_000_000, 500_000, unlucky=[trials_of_search + 2]), repeats=3)
        self.assertAlmostEqual(shaken.rate, honest.rate - 10_000, delta=2)
        self.assertEqual(shaken.repeats, 3)

    def test_loss_curve_ends_after_two_clean_trials(self):
        curve = method.loss_curve(Device(1000_000, 750_000), 64, 1, 1.0, 1_000_000)
        self.assertEqual([round(t.loss, 2) for t in curve], [0.25, 0.17, 0.06, 0.0, 0.0])

    def test_back_to_back_finds_the_buffer(self):
        frames, _ = method.back_to_back(Device(1_000_000, 0, buffer=5_000), 64, 1, 100_000, 0.001, 2)
        self.assertLessEqual(frames, 5_000)
        self.assertGreaterEqual(frames, 4_900)
        frames, _ = method.back_to_back(Device(1_000_000, 1_000_000), 64, 1, 100_000, 0.001, 2)
        self.assertEqual(frames, 100_000)

    def test_trial_without_a_frame_is_a_loss(self):
        self.assertEqual(method.Trial(1, 1, 0, 0).loss, 1.0)
        self.assertEqual(method.Trial(1, 1, 10, 12).loss, 0.0)  # the neighbor's ARP is not a gain

    def test_report_shows_what_was_measured(self):
        class Options:
            trial, resolution, repeats, pdr = 1.0, 0.01, 1, 0.005
            longest_burst, burst_repeats = 10_000, 1
        result = rfc2544.measure(Options, Device(1_000_000, 500_000), 64, 1)
        result["latency"] = [{"share": 0.5, "rate": 250_000,
                              "latency_us": {"p50": 1.5, "p99": 2.5, "p99.9": 3.5, "max": 4.5}}]
        facts = {"date": "today", "machine": ["Machine: none"], "generator": "none", "limits": [],
                 "settings": {"trial_seconds": 1.0, "resolution": 0.01, "repeats": 1, "pdr": 0.005,
                              "burst_repeats": 1, "longest_burst": 10_000, "latency_seconds": 1}}
        with tempfile.TemporaryDirectory() as directory:
            report.write(pathlib.Path(directory), "r", facts, [result])
            text = (pathlib.Path(directory) / "r.md").read_text()
            xml.dom.minidom.parse(str(pathlib.Path(directory) / "r.svg"))
        self.assertIn("short trials", text)
        row = next(line for line in text.splitlines() if line.startswith("| 64 | 1 | 1.000"))
        rate = float(re.split(r" \| ", row)[3])
        self.assertTrue(0.49 <= rate <= 0.5, row)
        self.assertIn("| 64 | 1 | 50 % of NDR | 0.250 | 1.5 | 2.5 | 3.5 | 4.5 |", text)


if __name__ == "__main__":
    unittest.main()
