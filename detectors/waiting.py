"""Rows of points that the registry does not know yet: they wait for it, at most 10 s.

A new device's first words may come before its row. What waits is looked at again only when a new
generation is adopted, which alone can make a point known: looked through at every frame, 4,000
waiting frames held each of them up for 10 ms.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from detectors.rule import Array
from sizao.frame import Frame

WAIT_US = 10_000_000
"""How long rows wait, on the log's clock."""
ROWS_MAX = 40_000
"""One full frame, 1 MB; more than a registry poll's worth of new points."""
FRAMES_MAX = 1_000
"""What the two lanes of a bridge write in 10 s at their fastest tick."""


@dataclass(slots=True)
class Waiting:
    """Frames of waiting rows, oldest first; `rows` is how many they hold."""

    frames: deque[Frame] = field(default_factory=deque)
    rows: int = 0

    def put(self, frame: Frame, which: Array) -> int:
        """Put the rows of a frame where `which` is true aside; how many found no room."""
        index = np.flatnonzero(which)
        room = ROWS_MAX - self.rows if len(self.frames) < FRAMES_MAX else 0
        fit = index[:room]
        if len(fit):
            self.rows += len(fit)
            self.frames.append(
                replace(
                    frame,
                    point=frame.point[fit],
                    event_us=frame.event_us[fit],
                    value=frame.value[fit],
                    flags=frame.flags[fit],
                )
            )
        return len(index) - len(fit)

    def expire(self, clock_us: int) -> int:
        """Forget what waited too long; how many rows."""
        before = self.rows
        while self.frames and clock_us > self.frames[0].received_us + WAIT_US:
            self.rows -= self.frames.popleft().rows
        return before - self.rows

    def take(self) -> deque[Frame]:
        """All of it, to be judged; what is still unknown comes back by `put`."""
        frames, self.frames, self.rows = self.frames, deque(), 0
        return frames
