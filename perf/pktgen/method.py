"""The procedures of RFC 2544, section 26, over any generator with `trial`. No process, no clock, no
file: tests/nic/method_test.py runs them against a made-up device.

generator.trial(size, flows, rate, seconds, count=0) -> Trial. `size`: bytes of the frame with FCS.
`rate`: frames a second offered, 0 for all that the generator has. `count`: frames of a burst."""
import dataclasses


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


def ceiling(generator, size, flows, seconds):
    """What generator and link can send at all: the upper end of every search."""
    return generator.trial(size, flows, 0, seconds)


def search(generator, size, flows, seconds, top, limit, resolution, repeats, known=0.0):
    """RFC 2544 26.1 by halving. `resolution`: a part of `top`. The rate found is tried `repeats`
    times and lowered by one step for each time that it is not confirmed. `known`: a rate that has
    been confirmed at a stricter limit; the answer is not below it."""
    low, high, trials = known, top, []

    def accepted(rate):
        trials.append(generator.trial(size, flows, rate, seconds))
        return trials[-1].loss <= limit

    if accepted(high):
        low = high
    while high - low > resolution * top:
        middle = (low + high) / 2
        if accepted(middle):
            low = middle
        else:
            high = middle
    confirmed = []
    while low > 0 and len(confirmed) < repeats:
        if accepted(low):
            confirmed.append(trials[-1].sent_rate)
        else:
            confirmed = []
            low = max(0.0, low - resolution * top)
            if low <= known:
                return Throughput(limit, known, repeats if known else 0, trials)
    rate = min(confirmed) if confirmed else 0.0
    return Throughput(limit, rate, len(confirmed), trials)


def loss_curve(generator, size, flows, seconds, top):
    """RFC 2544 26.3: from the ceiling down in steps of a tenth, until two in a row lose nothing."""
    curve, clean = [], 0
    for tenth in range(10, 0, -1):
        trial = generator.trial(size, flows, top * tenth / 10, seconds)
        curve.append(trial)
        clean = clean + 1 if trial.loss == 0 else 0
        if clean == 2:
            break
    return curve


def back_to_back(generator, size, flows, longest, resolution, repeats):
    """RFC 2544 26.4: the longest burst at full rate of which nothing is lost, up to `longest`
    frames. Returns (frames, trials)."""
    low, high, trials = 0, longest, []

    def accepted(count):
        for _ in range(repeats):
            trials.append(generator.trial(size, flows, 0, 0, count))
            if trials[-1].loss > 0:
                return False
        return True

    if accepted(high):
        return high, trials
    while high - low > max(32, resolution * longest):
        middle = (low + high) // 2
        if accepted(middle):
            low = middle
        else:
            high = middle
    return low, trials
