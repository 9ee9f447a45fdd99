"""The procedures of RFC 2544, section 26, over any generator with `trial`. No process, no clock, no
file: tests/nic/method_test.py runs them against made-up devices.

generator.trial(traffic, rate, seconds, count=0) -> Trial. `rate`: frames a second offered, 0 for all
that the generator has. `count`: frames of a burst."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What is sent: IP version, sizes of frames with FCS that take turns, number of flows."""
    version: int
    sizes: tuple
    flows: int = 1

    @property
    def name(self):
        return str(self.sizes[0]) if len(self.sizes) == 1 else "IMIX"

    @property
    def bits(self):
        """Of a frame on an Ethernet wire, with preamble and gap; the mean, where sizes differ."""
        return 8 * (sum(self.sizes) / len(self.sizes) + 20)


@dataclasses.dataclass
class Trial:
    offered: float  # frames a second asked for; 0: no limit
    seconds: float
    sent: int
    received: int

    @property
    def loss(self):
        return max(0, self.sent - self.received) / self.sent if self.sent else 1.0

    @property
    def sent_rate(self):
        return self.sent / self.seconds

    @property
    def received_rate(self):
        return self.received / self.seconds


@dataclasses.dataclass
class Throughput:
    """The highest rate at which no more than `limit` of the frames were lost."""
    limit: float
    rate: float       # frames a second really sent in the last accepted trial; 0: none was accepted
    repeats: int      # trials at that rate, all accepted
    trials: list


def ceiling(generator, traffic, seconds):
    """What generator and link can send at all, and what then comes back."""
    return generator.trial(traffic, 0, seconds)


class Search:
    """RFC 2544 26.1. Where the generator is many times faster than the device, halving from its
    ceiling spends its trials on rates that nobody expects to pass; so the first rate tried is the one
    at which the device let frames through when it was given too many, the next is what it let through
    of that. A rate that passes is raised by a quarter until one does not; between the two, halving."""

    def __init__(self, generator, traffic, seconds, top, limit, resolution):
        self.generator, self.traffic, self.seconds = generator, traffic, seconds
        self.limit, self.resolution = limit, resolution
        self.high = top.sent_rate  # the lowest rate that did not pass, or the ceiling
        self.low = 0.0             # the highest that passed
        self.guess = top.received_rate
        self.trials = []
        if top.loss <= limit:
            self.low = self.high

    def accepted(self, rate):
        self.trials.append(self.generator.trial(self.traffic, rate, self.seconds))
        return self.trials[-1].loss <= self.limit

    def next_rate(self):
        if 0 < self.guess < self.high and self.guess > self.low and self.low == 0:
            return self.guess
        middle = (self.low + self.high) / 2
        return min(middle, self.low * 1.25) if self.low else middle

    def bracket(self):
        bottom = self.high / 10_000
        while self.high > bottom and self.high - self.low > self.resolution * self.high:
            rate = self.next_rate()
            if self.accepted(rate):
                self.low = rate
            else:
                self.high = rate
                follow = self.trials[-1].received_rate
                self.guess = follow if follow < 0.97 * rate else 0.97 * rate
                if len(self.trials) >= 3:
                    self.guess = 0  # halving from here on


def search(generator, traffic, seconds, top, limit, resolution, repeats, known=0.0):
    """`top`: the trial at the ceiling. `resolution`: a part of the rate that is found. That rate is
    tried `repeats` times and lowered by one step for each time that it is not confirmed. `known`: a
    rate that has been confirmed at a stricter limit; the answer is not below it."""
    find = Search(generator, traffic, seconds, top, limit, resolution)
    find.low = max(find.low, min(known, find.high))
    find.bracket()
    low, confirmed = find.low, []
    while low > 0 and len(confirmed) < repeats:
        if find.accepted(low):
            confirmed.append(find.trials[-1].sent_rate)
            continue
        confirmed, low = [], low * (1 - resolution)
        if low <= known:
            return Throughput(limit, known, repeats if known else 0, find.trials)
        if low < find.low / 2:
            low = 0.0  # nothing is confirmed here: the device does not hold any rate
    rate = min(confirmed) if confirmed else 0.0
    return Throughput(limit, rate, len(confirmed), find.trials)


def loss_curve(generator, traffic, seconds, top, base, trials):
    """RFC 2544 26.3, around the rate `base` at which the device begins to lose: below, at the edge
    and well beyond it, and the ceiling. The trials of the searches are points of the same curve."""
    points = [top, *trials]
    for part in (0.8, 0.9, 1.1, 1.25, 1.5, 2.0, 3.0):
        if 0 < base * part < 0.98 * top.sent_rate:
            points.append(generator.trial(traffic, base * part, seconds))
    return sorted(points, key=lambda t: t.sent_rate)


def back_to_back(generator, traffic, longest, resolution, repeats):
    """RFC 2544 26.4: the longest burst at full rate of which nothing is lost, up to `longest`
    frames, to `resolution` of its length. Returns (frames, trials)."""
    trials = []

    def accepted(count):
        for _ in range(repeats):
            trials.append(generator.trial(traffic, 0, 0, count))
            if trials[-1].loss > 0:
                return False
        return True

    low, high = 0, 64
    while high <= longest and accepted(high):
        if high == longest:
            return high, trials
        low, high = high, min(high * 4, longest)
    while high - low > max(8, resolution * high):
        middle = (low + high) // 2
        if accepted(middle):
            low = middle
        else:
            high = middle
    return low, trials
