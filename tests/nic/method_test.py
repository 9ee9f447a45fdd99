#!/usr/bin/env python3
"""The procedures of perf/pktgen/method.py against devices whose limits are known, and the report."""
import contextlib
import io
import pathlib
import re
import sys
import tempfile
import unittest
import unittest.mock
import xml.dom.minidom

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "perf/pktgen"))

import method  # noqa: E402
import report  # noqa: E402
import rfc2544  # noqa: E402


class Device:
    """Sends up to `link` frames a second, passes up to `capacity`, stores `buffer` frames."""
    lives = 1  # it does not die

    def __init__(self, link, capacity, buffer=0, unlucky=()):
        self.link, self.capacity, self.buffer = link, capacity, buffer
        self.trials, self.unlucky = 0, set(unlucky)

    def counters(self):
        return {"rx_packets": 10 * self.trials, "udp_rx_datagrams": 9 * self.trials,
                "udp_tx_datagrams": 9 * self.trials, "tx_packets": 9 * self.trials,
                "worker_turns": 100 * self.trials, "worker_busy_turns": 2 * self.trials,
                "drops": {"udp_socket_full": 1000 * self.trials, "tcp_duplicate": 3}}

    def trial(self, traffic, rate, seconds, count=0):
        self.trials += 1
        speed = min(rate or self.link, self.link)
        sent = count or round(speed * seconds)
        time = sent / speed
        passed = min(sent, int(self.capacity * time) + self.buffer)
        if self.trials in self.unlucky:
            passed -= 1
        return method.Trial(rate, time, sent, passed)


TRAFFIC = method.Traffic(4, (64,))


class Method(unittest.TestCase):
    def search(self, device, limit=0.0, repeats=2, known=0.0):
        top = method.ceiling(device, TRAFFIC, 1.0)
        return method.search(device, TRAFFIC, 1.0, top, limit, 0.01, repeats, known)

    def test_finds_the_capacity_to_the_resolution(self):
        for capacity in (1_300, 13_000, 400_000, 777_777, 990_000):
            found = self.search(Device(1_000_000, capacity))
            self.assertLessEqual(found.rate, capacity)
            self.assertGreaterEqual(found.rate, capacity * 0.98 - 1)
            self.assertEqual(found.repeats, 2)
            self.assertLess(len(found.trials), 14, capacity)

    def test_a_device_as_fast_as_the_link(self):
        self.assertEqual(self.search(Device(1_000_000, 2_000_000)).rate, 1_000_000)

    def test_nothing_passes(self):
        found = self.search(Device(1_000_000, 0))
        self.assertEqual((found.rate, found.repeats), (0.0, 0))
        self.assertLess(len(found.trials), 20)

    def test_a_device_that_breaks_down_under_too_much(self):
        """Given twice what it can, it passes a tenth: what it let through then is no upper end."""
        class Fragile(Device):
            def trial(self, traffic, rate, seconds, count=0):
                speed = min(rate or self.link, self.link)
                self.trials += 1
                sent = round(speed * seconds)
                good = sent if speed <= self.capacity else (
                    int(self.capacity * seconds * (0.1 if speed > 2 * self.capacity else 0.9)))
                return method.Trial(rate, seconds, sent, good)
        found = self.search(Fragile(1_000_000, 300_000))
        self.assertLessEqual(found.rate, 300_000)
        self.assertGreaterEqual(found.rate, 294_000)

    def test_partial_loss_gives_a_higher_rate(self):
        none = self.search(Device(1_000_000, 500_000))
        some = self.search(Device(1_000_000, 500_000), limit=0.1, known=none.rate)
        self.assertGreater(some.rate, none.rate + 30_000)
        self.assertLessEqual((some.rate - 500_000) / some.rate, 0.1)

    def test_the_answer_is_not_below_what_is_known(self):
        device = Device(1_000_000, 500_000)
        top = method.ceiling(device, TRAFFIC, 1.0)
        device.capacity = 100_000  # somebody took the core away in the meantime
        found = method.search(device, TRAFFIC, 1.0, top, 0.005, 0.01, 2, 490_000)
        self.assertEqual(found.rate, 490_000)

    def test_a_rate_that_is_not_confirmed_is_lowered(self):
        honest = self.search(Device(1_000_000, 500_000), repeats=3)
        trials_of_search = len(honest.trials) - 3
        shaken = self.search(Device(1_000_000, 500_000, unlucky=[trials_of_search + 3]), repeats=3)
        self.assertAlmostEqual(shaken.rate, honest.rate * 0.99, delta=2)
        self.assertEqual(shaken.repeats, 3)

    def test_loss_curve_is_around_the_rate_that_is_held(self):
        device = Device(1_000_000, 250_000)
        found = self.search(device)
        top = method.Trial(0, 1.0, 1_000_000, 250_000)
        curve = method.loss_curve(device, TRAFFIC, 1.0, top, found.rate, found.trials)
        rates = [t.sent_rate for t in curve]
        self.assertEqual(rates, sorted(rates))
        self.assertEqual(rates[-1], 1_000_000)
        self.assertAlmostEqual(curve[-1].loss, 0.75, places=2)
        self.assertTrue(any(0.45 < t.loss < 0.55 for t in curve), "at twice the rate, half is lost")
        self.assertTrue(all(t.loss == 0 for t in curve if t.sent_rate < 245_000))

    def test_back_to_back_finds_the_buffer(self):
        frames, _ = method.back_to_back(Device(1_000_000, 0, buffer=5_000), TRAFFIC, 100_000, 0.01, 2)
        self.assertLessEqual(frames, 5_000)
        self.assertGreaterEqual(frames, 4_900)
        frames, _ = method.back_to_back(Device(1_000_000, 1_000_000), TRAFFIC, 100_000, 0.01, 2)
        self.assertEqual(frames, 100_000)
        frames, _ = method.back_to_back(Device(1_000_000, 0), TRAFFIC, 100_000, 0.01, 2)
        self.assertLess(frames, 64)

    def test_trial_without_a_frame_is_a_loss(self):
        self.assertEqual(method.Trial(1, 1, 0, 0).loss, 1.0)
        self.assertEqual(method.Trial(1, 1, 10, 12).loss, 0.0)  # the neighbor's ARP is not a gain

    def options(self, *arguments):
        with unittest.mock.patch.object(sys, "argv", ["run.sh", *arguments]):
            return rfc2544.parse_arguments()

    def test_traffic_of_both_families(self):
        traffics = self.options("--generator", "loadgen", "--sizes", "64,512,imix").traffics
        self.assertEqual([(t.version, t.name) for t in traffics],
                         [(4, "64"), (4, "512"), (4, "IMIX"), (6, "82"), (6, "512"), (6, "IMIX")])
        self.assertEqual(min(traffics[5].sizes), 82)
        self.assertAlmostEqual(traffics[2].bits / 8 - 20, (7 * 64 + 4 * 594 + 1518) / 12)
        pktgen = self.options("--generator", "pktgen", "--sizes", "64,imix", "--sizes6", "none")
        self.assertEqual([(t.version, t.name) for t in pktgen.traffics], [(4, "64"), (4, "IMIX")])

    def test_more_flows_than_pktgen_has_packets_are_refused(self):
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit):
            self.options("--generator", "pktgen", "--flows", "100000")
        self.assertIn("24,576", said.getvalue())
        self.assertEqual(self.options("--generator", "loadgen", "--flows", "100000").traffics[0].flows,
                         100000)

    def test_report_shows_what_was_measured(self):
        class Options:
            trial, resolution, repeats, pdr = 1.0, 0.01, 1, 0.005
            longest_burst, burst_repeats, burst_resolution = 10_000, 1, 0.05
        device = Device(1_000_000, 500_000)
        with contextlib.redirect_stderr(io.StringIO()):
            results = [rfc2544.measure(Options, device, device, method.Traffic(v, (size,)))
                       for v, size in ((4, 64), (6, 82))]
        results[0]["latency"] = [{"share": 0.5, "rate": 250_000,
                                  "latency_us": {"p50": 1.5, "p99": 2.5, "p99.9": 3.5, "max": 4.5}}]
        facts = {"date": "today", "machine": ["Machine: none"], "generator": "none", "limits": [],
                 "command": "run.sh --trial 1",
                 "settings": {"trial_seconds": 1.0, "resolution": 0.01, "repeats": 1, "pdr": 0.005,
                              "burst_repeats": 1, "burst_resolution": 0.05, "longest_burst": 10_000,
                              "latency_seconds": 1, "minutes": 1.5}}
        with tempfile.TemporaryDirectory() as directory:
            report.write(pathlib.Path(directory), "r", facts, results)
            text = (pathlib.Path(directory) / "r.md").read_text()
            pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
            self.assertEqual(len(pictures), 4)
            for picture in pictures:
                xml.dom.minidom.parse(f"{directory}/{picture}")
        self.assertIn("short trials", text)
        row = next(line for line in text.splitlines() if line.startswith("| IPv4 | 64 | 1 | 0."))
        cells = re.split(r" \| ", row)
        self.assertTrue(0.49 <= float(cells[3]) <= 0.5, row)
        self.assertTrue(0.32 <= float(cells[4]) <= 0.34, row)  # 84 bytes on the wire
        self.assertIn("| IPv4 | 64 | 1 | 50 % | 0.250 | 1.5 | 2.5 | 3.5 | 4.5 |", text)
        self.assertIn("| IPv4 64 | 1,000,000 | 10 | 9 | 9 | 500,000 | 5 | `udp_socket_full` 0.100 % |", text)


if __name__ == "__main__":
    unittest.main()
