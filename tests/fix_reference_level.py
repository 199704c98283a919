"""The rules over plain values again, one reading at a time, written from their descriptions."""

import math
from dataclasses import dataclass, field

import numpy as np
from fix_detect import SECOND_US
from fix_reference import F, Line

PATIENT_S = 50 * 3600


@dataclass
class Watch:
    """One tier of a rule: readings in a row, a latch, and what is late."""

    line: Line
    samples: int = 1
    hits: int = 0
    late: tuple[int, float] | None = None

    def follow(self, at, *, over, calm, gap, before_at):
        self.hits = min(self.hits + 1, self.samples) if over else 0
        return self.line.follow(
            at,
            holds=self.hits >= self.samples,
            calm=bool(calm and not over),
            gap=gap,
            since=before_at if self.samples > 1 else at,
        )

    def follow_late(self, at, *, over, last):
        """Late readings, at most two hours from the one beside them."""
        if not over:
            self.late = None
            return []
        apart, beside = 7200 * SECOND_US, None
        if self.hits and last - at <= apart:
            beside = last
        elif self.late and self.late != at and abs(at - self.late) <= apart:
            beside = self.late
        self.late = at
        covered = self.line.since <= at <= self.line.held
        if (beside is None and self.samples > 1) or self.line.on or covered:
            return []
        return self.line.begin(at, min(at, beside) if self.samples > 1 else at)


def watch(rule, tier, samples=1, clear_s=180, rearm_s=7200):
    return Watch(Line((rule, tier), clear_s=clear_s, rearm_s=rearm_s), samples)


@dataclass
class Value:
    """A point as these rules know it."""

    gap_s: int = 1800
    x: np.float32 = field(default_factory=F)
    last: int = 0

    def read(self, at, value):
        x = F(value)
        if at == self.last:
            return []
        if at < self.last:
            return self.old(at, x)
        before, before_at = self.x, self.last
        dt = F(at - before_at) * F(1e-6)
        self.x, self.last = x, at
        return self.new(at, x, before, before_at, dt, bool(dt > self.gap_s))

    def old(self, at, x):
        del at, x
        return []


class Fixed(Value):
    """`limits`: (tier, limit, calm), under which a reading is over where `below`."""

    def __init__(self, rule, limits, *, samples, below=False, clear_s=180):
        super().__init__(PATIENT_S)
        self.below = below
        self.lines = [
            (limit, calm, watch(rule, tier, samples, clear_s, PATIENT_S))
            for tier, limit, calm in limits
        ]

    def new(self, at, x, before, before_at, dt, gap):
        said = []
        for limit, calm, line in self.lines:
            over, good = (x < limit, x > calm) if self.below else (x >= limit, x < calm)
            said += line.follow(at, over=over, calm=good, gap=gap, before_at=before_at)
        return said

    def old(self, at, x):
        said = []
        for limit, _, line in self.lines:
            over = x < limit if self.below else x >= limit
            said += line.follow_late(at, over=over, last=self.last)
        return said


@dataclass
class Slow:
    tau: float
    fall: float
    clip: float
    jump: float
    warm: float = 600
    counted: float = 120
    b: np.float32 = field(default_factory=F)
    age: np.float32 = field(default_factory=F)
    seed: int = 0

    def rise(self, at, x, before, before_at, dt, gap):
        """Rise (0 until warm), the baseline it is taken over, and whether that is warm."""
        odd = abs(F(x - before)) > self.jump
        if gap or (odd and self.seed == before_at):
            self.b, self.age, self.seed, odd = x, F(0), at, True
        b, warm = self.b, self.age >= self.warm
        over = F(x - b)
        counted = min(dt, F(self.counted))
        if not odd and not warm:
            self.age = min(F(self.age + counted), F(self.warm))
            self.b = b + min(2 * counted / self.age, F(1)) * over
        elif not odd:
            tau, step = (self.fall, counted) if over < 0 else (self.tau, dt)
            self.b = b + min(over, F(self.clip)) * step / F(F(tau) + step)
        return (over if warm else F(0)), b, bool(warm)


class Hot(Value):
    def __init__(self, rule, *, early, alarm, rise, rise_from, clear_s):
        super().__init__(1800)
        self.early, self.alarm, self.rise_k, self.rise_from = early, alarm, rise, rise_from
        self.slow = Slow(1800, 450, 10, 15)
        self.lines = [watch(rule, tier, 2, clear_s) for tier in ("early", "alarm")]
        self.began = F(0)

    def new(self, at, x, before, before_at, dt, gap):
        rise, b, _ = self.slow.rise(at, x, before, before_at, dt, gap)
        early, alarm = self.lines
        since = x - self.began if early.line.on and self.slow.seed > early.line.onset else rise
        said = early.follow(
            at,
            over=x >= self.early or (rise >= self.rise_k and x >= self.rise_from),
            calm=x < self.early - 10 and since < self.rise_k / 2,
            gap=gap,
            before_at=before_at,
        )
        if early.line.on and early.line.onset == at:
            self.began = b
        over, calm = x >= self.alarm, x < self.alarm - 10
        return said + alarm.follow(at, over=over, calm=calm, gap=gap, before_at=before_at)

    def old(self, at, x):
        said = []
        for line, limit in zip(self.lines, (self.early, self.alarm), strict=True):
            said += line.follow_late(at, over=x >= limit, last=self.last)
        if self.lines[0].line.onset == at and said:
            self.began = self.slow.b
        return said


class CoFire(Value):
    def __init__(self):
        super().__init__(1800)
        self.slow = Slow(1800, 450, 3, 30)
        self.early = watch("co_fire", "early", 2)
        self.began = F(0)

    def new(self, at, x, before, before_at, dt, gap):
        rise, b, _ = self.slow.rise(at, x, before, before_at, dt, gap)
        line = self.early.line
        since = x - self.began if line.on and self.slow.seed > line.onset else rise
        said = self.early.follow(
            at, over=rise >= 15, calm=since < 7.5, gap=gap, before_at=before_at
        )
        if line.on and line.onset == at:
            self.began = b
        return said


def seconds_to_alarm(ppm):
    """Straight over level in logarithms between 50 ppm 75 min, 100 ppm 25 min, 300 ppm 2 min."""
    known = ((50, 4500), (100, 1500)) if ppm < 100 else ((100, 1500), (300, 120))
    (ppm_a, s_a), (ppm_b, s_b) = known
    slope = (math.log(s_b) - math.log(s_a)) / (math.log(ppm_b) - math.log(ppm_a))
    return math.exp(math.log(s_a) + slope * (math.log(ppm) - math.log(ppm_a)))


class CoPeople(Value):
    def __init__(self):
        super().__init__(1800)
        self.dose = F(0)
        self.early = watch("co_people", "early", clear_s=300)
        self.alarm = watch("co_people", "alarm", clear_s=300)

    def new(self, at, x, before, before_at, dt, gap):
        lower = min(before, x)
        if not gap and lower >= 30:
            self.dose = min(F(self.dose + F(float(dt) / seconds_to_alarm(float(lower)))), F(1))
        else:
            self.dose = F(self.dose * (F(14_400) / F(F(14_400) + dt)))
            self.dose = F(0) if self.dose < F(0.01) else self.dose
        there = x >= 30
        said = []
        for line, limit in ((self.early, 0.5), (self.alarm, 1.0)):
            over = there and self.dose >= limit
            said += line.follow(at, over=over, calm=not there, gap=gap, before_at=before_at)
        return said


class Tank(Value):
    def __init__(self):
        super().__init__(PATIENT_S)
        self.slow = Slow(86_400, 604_800, 1000, 2, warm=86_400, counted=7200)
        self.lines = [
            (share, watch("tank_level", tier, 2, 600, PATIENT_S))
            for tier, share in (("early", 0.8), ("alarm", 0.5))
        ]

    def new(self, at, x, before, before_at, dt, gap):
        _, usual, warm = self.slow.rise(at, x, before, before_at, dt, gap)
        judged = warm and usual >= 1
        said = []
        for share, line in self.lines:
            said += line.follow(
                at,
                over=judged and x <= usual * F(share),
                calm=judged and x > usual * F(share + 0.05),
                gap=gap,
                before_at=before_at,
            )
        return said


class Smoke(Value):
    def __init__(self):
        super().__init__(1800)
        self.drift = F(0)
        self.lines = [
            (limit, watch("smoke_threshold", tier, 2))
            for tier, limit in (("early", 0.06), ("alarm", 0.12))
        ]
        self.dirty = watch("smoke_threshold", "early")

    def new(self, at, x, before, before_at, dt, gap):
        y = F(x - self.drift)
        if before_at:
            step, tau = min(dt, F(1800)), F(5400) if y < 0 else F(21_600)
            moved = self.drift + min(max(y, F(-0.03)), F(0.03)) * step / F(tau + step)
            self.drift = min(max(moved, F(-0.06)), F(0.06))
        said = []
        for limit, line in self.lines:
            over, calm = y >= limit, y < limit / 2
            said += line.follow(at, over=over, calm=calm, gap=gap, before_at=before_at)
        clean, full = y < 0.06, self.drift >= F(0.06)
        calm = clean and self.drift < F(0.06) * F(0.8)
        return said + self.dirty.follow(
            at, over=clean and full, calm=calm, gap=gap, before_at=before_at
        )

    def old(self, at, x):
        said = []
        for limit, line in self.lines:
            over = F(x - self.drift) >= limit
            said += line.follow_late(at, over=over, last=self.last)
        return said


class Flicker(Value):
    """sensor_fault."""

    def __init__(self, limit_c=54.0):
        super().__init__(1800)
        self.limit_c, self.faulty = limit_c, False
        self.line = Line(("sensor_fault", "early"), clear_s=1800)
        self.count = {1: F(0), -1: F(0)}
        self.turned = 0
        self.cold = 0

    def new(self, at, x, before, before_at, dt, gap):
        if gap:
            self.turned = 0
        sign = 1 if F(x - before) > 15 else -1 if F(x - before) < -15 else 0
        sign = sign if self.faulty or min(x, before) < self.limit_c else 0
        for way in (1, -1):
            left = F(0) if gap else F(900) / F(F(900) + dt)
            self.count[way] = F(self.count[way] * left)
            if self.count[way] < F(0.05):
                self.count[way] = F(0)
        if sign and not gap and sign != self.turned:
            self.count[sign] = F(self.count[sign] + F(1))
            self.turned = sign
        self.cold = min(self.cold + 1, 2) if x < -40 else 0
        both = min(self.count.values())
        self.faulty = bool(both >= 1.5 or (self.faulty and both >= 0.75))
        holds = bool(both >= 1.5 or self.cold >= 2)
        calm = not holds and not self.cold and bool(both < 0.75)
        return self.line.follow(at, holds=holds, calm=calm, gap=gap, since=at)
