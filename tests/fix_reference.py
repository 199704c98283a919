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
    began: dict[str, np.float32] = field(default_factory=dict)
    early: Line = field(default_factory=lambda: Line(("heat_rise", "early")))
    alarm: Line = field(default_factory=lambda: Line(("heat_rise", "alarm")))
    urgent: Line = field(default_factory=lambda: Line(("heat_fixed", "urgent")))

    def read(self, at: int, value: float) -> list[tuple]:
        x = F(value)
        if at == self.last:
            return []
        return self._late(at, x) if at < self.last else self._in_order(at, x)

    def _late(self, at: int, x: np.float32) -> list[tuple]:
        if x < self.limit_c:
            self.late = None
            return []
        others = []
        if self.fixed_hits and self.last - at <= 7200 * SECOND_US:
            others.append(self.last)
        elif self.late and self.late[0] != at and abs(at - self.late[0]) <= 7200 * SECOND_US:
            others.append(self.late[0])
        self.late = (at, float(x))
        covered = self.urgent.since <= at <= self.urgent.held
        if others and not self.urgent.on and not covered:
            return self.urgent.begin(at, min(at, others[0]))
        return []

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
        warm = self.age >= 600
        self.rise_hits = min(self.rise_hits + 1, 2) if warm and raw >= 6 else 0
        self.fixed_hits = min(self.fixed_hits + 1, 2) if x >= self.limit_c else 0
        said = []
        fixed = self.fixed_hits >= 2
        said += self.urgent.follow(
            at, holds=fixed, calm=bool(x < F(self.limit_c) - 10), gap=gap, since=before_at
        )
        for line, holds, half, since in (
            (self.early, bool(warm and rise >= 4), 2, at),
            (self.alarm, self.rise_hits >= 2, 3, before_at),
        ):
            tier = line.name[1]
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
