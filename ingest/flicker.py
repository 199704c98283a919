"""Thermometers that jump both ways, as the bridge knows them: the counters of detect's features.

Past Kafka the bridge says what the rule `heat_fixed` would, under the same ids, so it wants as many
readings of a broken sensor as that does (`sizao.limits`; why: detectors/jumps.py). Arithmetic is
float32, in the same order. Memory: the newest temperature of each point of the registry, 12 bytes,
and an object for those that jumped within the hour. What a restart forgot is counted anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sizao import limits

F = np.float32
_ZERO = F(0)
_FORGOTTEN = F(limits.JUMPS_FORGOTTEN)


@dataclass(slots=True)
class Flicker:
    """The counters of one point."""

    ups: np.float32 = _ZERO
    downs: np.float32 = _ZERO
    way: int = 0
    faulty: bool = False

    @property
    def remembered(self) -> bool:
        """Whether some counter is not 0."""
        return bool(self.ups or self.downs)

    @property
    def wanted(self) -> int:
        """How many readings in a row at the limit its fire needs."""
        if self.faulty:
            return limits.FAULTY_SAMPLES_COUNT
        doubtful = min(self.ups, self.downs) >= limits.DOUBTFUL_COUNT
        return limits.DOUBTFUL_SAMPLES_COUNT if doubtful else limits.SAMPLES_COUNT

    def count(
        self, dt_us: int, before_c: float, value: float, limit_c: float, *, again: bool
    ) -> None:
        """Count a reading in order; `again`: delivered again, of its arrival."""
        dt_s = F(dt_us) * F(1e-6)
        step_k = F(value) - F(before_c)
        gap = bool(dt_s > limits.JUMP_GAP_S)
        left = _ZERO if gap else F(limits.JUMPS_DECAY_S) / (F(limits.JUMPS_DECAY_S) + dt_s)
        self.ups, self.downs = (
            kept if (kept := F(each * left)) >= _FORGOTTEN else _ZERO
            for each in (self.ups, self.downs)
        )
        way = 0 if abs(step_k) <= limits.JUMP_K else 1 if step_k > 0 else -1
        counts = not gap and not again and (self.faulty or min(value, before_c) < limit_c)
        before = 0 if gap else self.way
        if counts and way not in {0, before}:
            before = way
            if way > 0:
                self.ups += F(1)
            else:
                self.downs += F(1)
        self.way = before
        lesser = min(self.ups, self.downs)
        on = self.faulty and lesser >= limits.SOUND_COUNT
        self.faulty = bool(on or lesser >= limits.FAULTY_COUNT)


@dataclass(slots=True)
class Newest:
    """Newest temperature by point; `event_us` is 0 for none."""

    value: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    event_us: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def grow(self, points: int) -> None:
        """Have a place for each point of a registry."""
        missing = points - len(self.value)
        if missing > 0:
            self.value = np.pad(self.value, (0, missing))
            self.event_us = np.pad(self.event_us, (0, missing))

    def jumps(
        self, point: npt.NDArray[np.int64], value: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        """Rows of a batch by which their points may have jumped: from the newest, or among
        themselves, and then one lies half a jump from the newest at least. (All points that a
        batch held twice were once looked at row by row: a bridge behind never caught up.)
        """
        known = self.event_us.take(point) > 0
        away = np.abs(value - self.value.take(point))
        found: npt.NDArray[np.bool_] = known & (away > limits.JUMP_K)
        maybe = ~known | (away > limits.JUMP_K / 2)
        if np.count_nonzero(maybe):
            rows = np.flatnonzero(np.isin(point, point[maybe]))
            order = rows[np.argsort(point[rows], kind="stable")]
            own = point[order]
            starts = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
            high = np.maximum.reduceat(value[order], starts)
            wide = high - np.minimum.reduceat(value[order], starts) > limits.JUMP_K
            found |= np.isin(point, own[starts[wide]])
        return found

    def take(
        self,
        point: npt.NDArray[np.int64],
        event_us: npt.NDArray[np.int64],
        value: npt.NDArray[np.float32],
        again: npt.NDArray[np.bool_],
    ) -> None:
        """Take over the rows of a batch (in place); `again`: delivered again, of their arrival."""
        keep = event_us > self.event_us.take(point)
        keep &= ~(again & (value == self.value.take(point)))
        index = np.flatnonzero(keep)
        while len(index):  # of equal points the last is taken, until it is the newest
            self.event_us[point[index]] = event_us[index]
            self.value[point[index]] = value[index]
            index = index[event_us[index] > self.event_us.take(point[index])]
