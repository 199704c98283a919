"""fusion_sum and smoke_co again, one reading at a time, written from their descriptions."""

import math
from dataclasses import dataclass, field

import numpy as np
from fix_detect import SECOND_US
from fix_reference import F, Line


@dataclass
class Channel:
    """Heat, smoke or CO of a place: its baseline, and its three newest readings by event time."""

    kind: int
    b: np.float32 = field(default_factory=F)
    age: np.float32 = field(default_factory=F)
    seed: int = 0
    x: np.float32 = field(default_factory=F)
    last: int = 0
    rises: list = field(default_factory=lambda: [F(0)] * 3)
    older: list = field(default_factory=lambda: [0, 0])
    drops: np.float32 = field(default_factory=F)
    dropped: int = 0
    mute: int = 0
    looked: tuple = (F(0), 0, 0, 0)  # value, time, seed and mute at the last look

    FLOOR = (F(0.1 * 6), F(0.1 * 0.06), F(0.1 * 15))
    JUMP, LOWEST, HIGHEST = (5, math.inf, 30), (-math.inf, -0.03, -math.inf), (math.inf, 0.03, 15)
    TAU, FALL = (600, 21_600, 1800), (150, 5400, 450)
    CLIP, CLIP_FALL = (2, 0.03, 3), (math.inf, 0.03, math.inf)

    def rise(self, at, x):
        """The rise of a reading, and whether a gap was before it. Moves the baseline."""
        kind, seeded, in_order = self.kind, self.kind != 1, at > self.last
        dt = F(F(at - self.last) * F(1e-6))
        gap = bool(dt > 1800)
        odd = in_order and abs(F(x - self.x)) > self.JUMP[kind]
        seeds = seeded and (gap or (odd and self.seed == self.last))
        if odd and not gap and kind == 0 and F(x - self.x) < -15:
            self.drops, self.dropped = F(self.left(at) + F(1)), at
            over = max(F(F(900) * F(F(self.drops / F(1.5)) - F(1))), F(0))
            self.mute = at + int(F(over * F(1e6)))
        if seeds:
            self.b, self.age, self.seed = x, F(0), at
        y = F(x - self.b)
        cold = seeded and self.age < 600
        if in_order and not seeds and not odd and self.last:
            counted = min(dt, F(120))
            if cold:
                self.age = min(F(self.age + counted), F(600))
                self.b = F(self.b + F(min(F(F(2 * counted) / self.age), F(1)) * y))
            else:
                step = counted if y < 0 and seeded else min(dt, F(1800))
                tau = F((self.FALL if y < 0 else self.TAU)[kind])
                most = min(max(y, F(-self.CLIP_FALL[kind])), F(self.CLIP[kind]))
                self.b = F(self.b + F(most * F(step / F(tau + step))))
        self.b = min(max(self.b, F(self.LOWEST[kind])), F(self.HIGHEST[kind]))
        if in_order:
            self.x = x
        return (F(0) if cold or y < self.FLOOR[kind] else y), gap

    def left(self, at):
        return F(self.drops * F(F(900) / F(F(900) + F(F(at - self.dropped) * F(1e-6)))))

    def remember(self, at, y, gap, before):
        if at > before:
            if before - self.older[0] >= 4_000_000:
                self.rises[1:], self.older = self.rises[:2], [before, self.older[0]]
            self.rises[0] = y
        elif at > self.older[0]:
            self.rises[1:], self.older = [y, self.rises[1]], [at, self.older[0]]
        elif self.older[0] > at > self.older[1]:
            self.rises[2], self.older[1] = y, at
        if gap:
            self.rises[1:] = [F(0), F(0)]
        self.looked = (self.x, max(at, before), self.seed, self.mute)

    def live(self, now):
        _, at, _, mute = self.looked
        return at > 0 and now - at <= 180 * SECOND_US and now > mute

    def seen(self, now):
        """Newest rise, sure rise, rate."""
        if not self.live(now):
            return F(0), F(0), F(0)
        r0, r1, r2 = self.rises
        dt0 = max(F(F(self.looked[1] - self.older[0]) * F(1e-6)), F(4))
        dt1 = max(F(F(self.older[0] - self.older[1]) * F(1e-6)), F(4))
        foretold = F(r1 + F(max(F(r1 - r2), F(0)) * min(F(dt0 / dt1), F(2))))
        sure = min(r0, foretold)
        return r0, sure, F(F(sure - r2) / F(dt0 + dt1)) if r0 > r1 > r2 else F(0)


class Place:
    """fusion_sum and smoke_co of one device."""

    def __init__(self):
        self.channels = [Channel(kind) for kind in range(3)]
        names = (("fusion_sum", "early"), ("fusion_sum", "alarm"), ("smoke_co", "alarm"))
        self.lines = [Line(name) for name in names]
        self.spoke, self.began = [[False] * 3 for _ in names], [[F(0)] * 3 for _ in names]
        self.now = 0

    def read(self, kind, at, value):
        own, x = self.channels[kind], F(value)
        if at == own.last:
            return []
        before = own.last
        y, gap = own.rise(at, x)
        own.last = max(own.last, at)
        risen = any(each > 0 for channel in self.channels for each in channel.rises)
        if not (y > 0 or risen or any(line.on for line in self.lines) or self.waits()):
            return []
        own.remember(at, y, gap, before)
        was, self.now = self.now, max(self.now, *(channel.looked[1] for channel in self.channels))
        return self.judge(bool(self.now - was > 1800 * SECOND_US))

    hit = (False, False, False)

    def waits(self):
        """Something held at the newest reading: the count of verification is not at 0."""
        return any(self.hit)

    def judge(self, gap):
        seen = [channel.seen(self.now) for channel in self.channels]
        (_, heat, rate), (_, smoke, _), (_, co, _) = seen
        lifted = F(heat + min(F(rate * F(30)), F(heat * F(1.5))))
        most = F(1) if rate >= F(4 / 60) else F(0.66)
        terms = [min(F(lifted / F(6)), most), min(F(smoke / F(0.06)), F(1)),
                 min(F(co / F(15)), F(0.66))]  # fmt: skip
        total = F(F(terms[0] + terms[1]) + terms[2])
        spoke = [term >= F(0.1) for term in terms]
        product = self.product(smoke, co)
        holds = (
            total >= F(0.5) and sum(spoke) > 1,
            total >= 1,
            product >= 10 and smoke >= F(0.01) and co >= 3,
        )
        self.hit = tuple(bool(each) for each in holds)
        said = []
        for place, (line, over) in enumerate(zip(self.lines, holds, strict=True)):
            left = [
                F(c.looked[0] - began)
                if line.on and c.live(self.now) and c.looked[2] > line.onset
                else newest
                for c, began, (newest, _, _) in zip(
                    self.channels, self.began[place], seen, strict=True
                )
            ]
            calm = self.product(left[1], left[2]) < 5 if place == 2 else self.total(left) < F(
                (0.5, 1)[place] * 0.5
            )  # fmt: skip
            heard = all(c.live(self.now) for c, s in zip(self.channels, self.spoke[place],
                                                         strict=True) if s)  # fmt: skip
            onset = line.onset
            said += line.follow(self.now, holds=bool(over), calm=bool(calm and not over and heard),
                                gap=gap, since=self.now)  # fmt: skip
            if line.on and line.onset != onset:
                self.spoke[place] = [False, True, True] if place == 2 else spoke
                self.began[place] = [
                    F(c.looked[0] - newest)
                    for c, (newest, _, _) in zip(self.channels, seen, strict=True)
                ]
        return said

    def total(self, rises):
        parts = [max(F(r / F(u)), F(0)) for r, u in zip(rises, (6, 0.06, 15), strict=True)]
        return F(F(parts[0] + parts[1]) + parts[2])

    def product(self, smoke, co):
        obscured = F(100) * F(F(1) - np.power(F(10), -max(smoke, F(0))))
        return F(obscured * max(co, F(0)))
