"""The detectors again, one reading at a time, with no array: what the folds are checked against.

Arithmetic is float32 like the folds'; everything else is written from the rules' descriptions.
"""

from dataclasses import dataclass, field

import numpy as np
from fix_detect import SECOND_US

F = np.float32
MINUTE_US = 60 * SECOND_US
NEVER = -(1 << 60)


@dataclass
class Line:
    """Raise, refresh, clear of one tier."""

    name: tuple[str, str]
    on: bool = False
    onset: int = 0
    since: int = 0
    held: int = 0
    said: int = 0
    calm: int | None = None
    clear_s: int = 180
    rearm_s: int = 7200

    def begin(self, at: int, since: int) -> list[tuple]:
        self.on, self.onset, self.since, self.held, self.said = True, at, since, at, at
        self.calm = None
        return [(*self.name, "raise", at, at)]

    def follow(self, at: int, *, holds: bool, calm: bool, gap: bool, since: int) -> list[tuple]:
        said: list[tuple] = []
        if self.on and holds and at - self.held > self.rearm_s * SECOND_US:
            self.on = False
            said += [(*self.name, "clear", self.onset, at)]
        if holds and not self.on:
            return said + self.begin(at, since)
        if holds:
            self.held, self.calm = at, None
            if at // MINUTE_US > self.said // MINUTE_US:
                self.said = at
                said += [(*self.name, "refresh", self.onset, at)]
        elif self.on and calm:
            if self.calm is None or gap:
                self.calm = at
            elif at - self.calm >= self.clear_s * SECOND_US:
                self.on, self.calm, self.held = False, None, at
                said += [(*self.name, "clear", self.onset, at)]
        else:
            self.calm = None
        return said


@dataclass
class Thermometer:
    """One temperature point: `read` says (rule, tier, phase, onset, event) of each reading."""

    limit_c: float = 54.0
    x: np.float32 = field(default_factory=F)
    b: np.float32 = field(default_factory=F)
    last: int = NEVER
    seed: int = NEVER
    age: np.float32 = field(default_factory=F)
    rise_hits: int = 0
    fixed_hits: int = 0
    late: tuple[int, float] | None = None
    late_hits: int = 0
    late_rise: tuple[int, float] | None = None
    ups: np.float32 = field(default_factory=F)
    downs: np.float32 = field(default_factory=F)
    way: int = 0
    faulty: bool = False
    anchors: list = field(default_factory=list)
    rate_hits: int = 0
    noise: np.float32 = field(default_factory=F)
    total: np.float32 = field(default_factory=F)
    began: dict[tuple[str, str], np.float32] = field(default_factory=dict)
    early: Line = field(default_factory=lambda: Line(("heat_rise", "early")))
    alarm: Line = field(default_factory=lambda: Line(("heat_rise", "alarm")))
    urgent: Line = field(default_factory=lambda: Line(("heat_fixed", "urgent")))
    steep: Line = field(default_factory=lambda: Line(("heat_rate", "alarm")))
    sums: Line = field(default_factory=lambda: Line(("heat_cusum", "early")))

    def read(self, at: int, value: float) -> list[tuple]:
        x = F(value)
        if at == self.last:
            return []
        return self._late(at, x) if at < self.last else self._in_order(at, x)

    @property
    def doubtful(self) -> bool:
        return bool(min(self.ups, self.downs) >= 0.5)

    @property
    def wanted(self) -> int:
        return 12 if self.faulty else 4 if self.doubtful else 2

    def _late(self, at: int, x: np.float32) -> list[tuple]:
        said = []
        if x < self.limit_c:
            self.late, self.late_hits = None, 0
        else:
            others, again = [], self.late is not None and self.late[0] == at
            near = self.late is not None and abs(at - self.late[0]) <= 7200 * SECOND_US
            self.late_hits = min((self.late_hits if near else 0) + (not again), 12)
            if self.fixed_hits and self.last - at <= 7200 * SECOND_US:
                others.append(self.last)
            elif self.late and self.late[0] != at and abs(at - self.late[0]) <= 7200 * SECOND_US:
                others.append(self.late[0])
            self.late = (at, float(x))
            covered = self.urgent.since <= at <= self.urgent.held
            live = self.last - at <= 7200 * SECOND_US
            enough = self.late_hits + (self.fixed_hits if live else 0) >= self.wanted
            if others and enough and not (self.urgent.on or covered):
                said += self.urgent.begin(at, min(at, others[0]))
        return said + self._late_rise(at, x)

    def _late_rise(self, at: int, x: np.float32) -> list[tuple]:
        rise = F(x - self.b)
        stale = self.last - at > 300 * SECOND_US
        if stale or self.doubtful or rise < 4 or self.age < 600 or self.seed >= at:
            self.late_rise = None
            return []
        beside = None
        if self.rise_hits and self.last - at <= 120 * SECOND_US:
            beside = (self.last, self.x)
        elif self.late_rise and 0 < abs(at - self.late_rise[0]) <= 120 * SECOND_US:
            beside = self.late_rise
        self.late_rise = (at, x)
        said = []
        if beside or F(x - self.x) <= 15:
            said += self._begin_late(self.early, at, at)
        if beside and max(rise, F(beside[1] - self.b)) >= 6:
            said += self._begin_late(self.alarm, at, min(at, beside[0]))
        return said

    def _begin_late(self, line: Line, at: int, since: int) -> list[tuple]:
        if line.on or line.since <= at <= line.held:
            return []
        self.began[line.name] = self.b
        return line.begin(at, since)

    def _jumped(self, dt: np.float32, x: np.float32, step: np.float32) -> None:
        """Count the jumps both ways."""
        left = F(0) if dt > 1800 else F(900) / F(F(900) + dt)
        if dt > 1800:
            self.way = 0
        for name in ("ups", "downs"):
            kept = F(getattr(self, name) * left)
            setattr(self, name, kept if kept >= F(0.05) else F(0))
        cool = min(x, F(x - step)) < F(self.limit_c) or self.faulty
        way = 0 if abs(step) <= 15 or dt > 1800 or not cool else 1 if step > 0 else -1
        if way not in {0, self.way}:
            self.way = way
            name = "ups" if way > 0 else "downs"
            setattr(self, name, F(getattr(self, name) + F(1)))
        lesser = min(self.ups, self.downs)
        self.faulty = bool(lesser >= 1.5 or (self.faulty and lesser >= 0.75))

    def _rate(self, at: int, x: np.float32, *, fit: bool) -> np.float32:
        half = 30 * SECOND_US
        if fit and (not self.anchors or at // half > self.anchors[-1][0] // half):
            self.anchors = [*self.anchors[-3:], (at, x)]
        old = [one for one in self.anchors if at - one[0] >= 60 * SECOND_US]
        if not old or at - old[-1][0] > 300 * SECOND_US:
            return F(0)
        age = F(at - old[-1][0]) * F(1e-6)
        return F(F(F(x - old[-1][1]) * F(60)) / age)

    def _sum(self, dt: np.float32, rise: np.float32, *, sound: bool, gap: bool) -> bool:
        noise = max(self.noise, F(0.1))
        if not gap:
            off = F(min(abs(rise), F(2)) - self.noise)
            self.noise = F(self.noise + F(off * F(dt / F(F(1800) + dt))))
        if self.total or self.sums.on or rise >= 4 * 0.1:
            added = F(min(F(dt / F(10)), F(3)) * F(F(rise / noise) - F(4)))
            self.total = min(max(F(self.total + added), F(0)), F(90))
        if not sound or gap:
            self.total = F(0)
        return bool(sound and self.total >= 60 and rise >= 2)

    def _in_order(self, at: int, x: np.float32) -> list[tuple]:
        before, before_at = self.x, self.last
        dt = F(at - before_at) * F(1e-6)
        step = F(x - before)
        gap = bool(dt > 1800)
        odd = gap or step > 15 or step < -5
        if odd and before_at == self.seed:
            gap = True
        y = before if step > 15 and not gap else x
        if gap:
            self.b, self.seed, self.age, y = x, at, F(0), x
        b, rise, raw = self.b, F(y - self.b), F(x - self.b)
        counted = min(dt, F(120))
        if not odd and self.age < 600:
            self.age += counted
        if not odd and self.age < 600:
            self.b = min(2 * counted / self.age, F(1)) * rise + b
        elif not odd:
            tau, over = (F(150), counted) if rise < 0 else (F(600), dt)
            self.b = F(F(min(rise, F(2))) * over / F(tau + over)) + b
        self.x, self.last = x, at
        self._jumped(dt, x, step)
        rate = self._rate(at, x, fit=gap or not odd)
        gapped = {"gap": gap, "dt": dt, "step": step, "rate": rate}
        return self._judge(at, x, before_at, b, rise, raw, **gapped)

    def _judge(self, at, x, before_at, b, rise, raw, *, gap, dt, step, rate) -> list[tuple]:
        if step < -15 and self.faulty:
            self.fixed_hits = 0
        sound = self.age >= 600 and not self.faulty
        self.rise_hits = min(self.rise_hits + 1, 4) if sound and raw >= 4 else 0
        self.fixed_hits = min(self.fixed_hits + 1, 12) if x >= self.limit_c else 0
        said = []
        fixed = self.fixed_hits >= self.wanted
        said += self.urgent.follow(
            at, holds=fixed, calm=bool(x < F(self.limit_c) - 10), gap=gap, since=before_at
        )
        alarm = self.rise_hits >= (4 if self.doubtful else 2) and bool(raw >= 6 or rate >= 4)
        young = x >= F(self.limit_c) - 10 and raw >= 3
        known = raw >= 20 if self.age >= 600 else young
        steep = bool(not self.faulty and known and rate >= F(8.3))
        self.rate_hits = min(self.rate_hits + 1, 4) if steep else 0
        steep = self.rate_hits >= (4 if self.doubtful else 2)
        summed = self._sum(dt, rise, sound=bool(sound), gap=gap)
        for line, holds, half, since in (
            (self.early, bool(sound and rise >= 4), 2, at),
            (self.alarm, alarm, 3, before_at),
            (self.steep, steep, 10, before_at),
            (self.sums, summed, 1, at),
        ):
            tier = line.name
            over = x - self.began[tier] if line.on and self.seed > line.onset else raw
            said += line.follow(
                at, holds=holds, calm=not holds and bool(over < half), gap=gap, since=since
            )
            if line.on and line.onset == at:
                self.began[tier] = b
        return said


@dataclass
class Contact:
    """One state point; `hear` takes the message, `pass_to` the log's clock."""

    tier: str = "alarm"
    lines: dict[str, Line] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lines = {
            "real": Line(("direct", self.tier)),
            "test": Line(("direct", "alarm")),
        }

    def hear(self, at: int, value: float, received: int) -> list[tuple]:
        said: list[tuple] = []
        for name, line in self.lines.items():
            if value in {"real": (1, 3), "test": (2,)}[name]:
                if line.on:
                    line.held = max(line.held, at)
                    self.heard[name] = received
                    if at // MINUTE_US > line.said // MINUTE_US:
                        line.said = at
                        said += [(*line.name, "refresh", line.onset, at)]
                elif not line.since <= at <= line.held:
                    self.heard[name] = received
                    said += line.begin(at, at)
            elif value == 0 and line.on and at > line.held:
                line.on, line.held = False, at - 1
                said += [(*line.name, "clear", line.onset, at)]
        return said

    def pass_to(self, clock: int) -> list[tuple]:
        said = []
        for name, line in self.lines.items():
            if line.on and self.heard[name] + 600 * SECOND_US <= clock:
                line.on = False
                said += [(*line.name, "clear", line.onset, self.heard[name] + 600 * SECOND_US)]
        return said
