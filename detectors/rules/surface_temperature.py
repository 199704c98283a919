"""The hottest spot that an infrared sensor sees is hot, or gets hot.

Fire signature: a battery before it runs away, a heap that heats itself, a bearing, a board: seen
from metres away, before any gas reaches a ceiling.
Misses: whatever hides behind something; a spot much smaller than a pixel, which is averaged away;
bare metal, which looks colder than it is; rises slower than about 0.3 K a minute; rises within the
first 10 min after a point was first read, or was silent for over 30 min. The sun through a window
warms a dark floor to 60 or 70 degC, a welder or a kettle is hot: hence early only, by rise.
Source: none of a standard. 80 degC: lithium cells begin to heat themselves somewhat above it; 130
degC: their separators melt (both recalled); nothing in a shed or a store is that hot on purpose.
The rise is a starting guess, to be measured on recorded places.

Early: x >= 80 degC, or x >= 60 degC and 20 K over its own baseline; alarm: x >= 130 degC; each in
two readings in a row. Over when x stays 10 K under the limit, and under half the rise, for 3 min.
Late readings count as level.py says, against the fixed limits alone.

Worked example: 35 degC for 20 min, read every 10 s, then 48, 62, 70, 131, 135: early at the third,
alarm at the fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from detectors import hot, level
from detectors.batch import Rows
from detectors.hot import Hot
from detectors.level import Timing
from detectors.rule import Block, Bound, Column, Finding, Points
from detectors.slow import Slow
from sizao.signal import Kind
from sizao.units import Lane

NAME = "surface_temperature"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("surface_temperature_c",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = hot.COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Limits, and the slow baseline of slow.py."""

    early_c: float = 80.0
    alarm_c: float = 130.0
    rise_k: float = 20.0
    rise_from_c: float = 60.0
    samples_count: int = 2
    clear_below_k: float = 10.0
    clear_s: int = 180
    rearm_s: int = 7200
    gap_s: int = level.GAP_S
    late_apart_s: int = 7200
    tau_s: float = 1800.0
    tau_fall_s: float = 450.0
    clip_k: float = 10.0
    jump_k: float = 15.0
    warm_s: float = 600.0
    counted_s: float = 120.0


BOUNDS = {
    "early_c": Bound(50, 120, "sun heats to 50; 120 is above what housings may reach"),
    "alarm_c": Bound(80, 250, "char forms at 250"),
    "rise_k": Bound(10, 50, "shade and sun do 10"),
    "rise_from_c": Bound(40, 100, "warm to the hand"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came."""
    asked, timing = _asked(params)
    return hot.judge(block, asked, timing, rows, points, gap_s=params.gap_s)


@lru_cache(maxsize=64)  # made anew, they cost as much as the judging
def _asked(params: Params) -> tuple[Hot, Timing]:
    slow = Slow(
        tau_s=params.tau_s,
        tau_fall_s=params.tau_fall_s,
        clip=params.clip_k,
        jump=params.jump_k,
        warm_s=params.warm_s,
        counted_s=params.counted_s,
    )
    asked = Hot(
        kind=Kind.FIRE,
        early_c=params.early_c,
        alarm_c=params.alarm_c,
        rise_k=params.rise_k,
        rise_from_c=params.rise_from_c,
        clear_below_k=params.clear_below_k,
        samples_count=params.samples_count,
        slow=slow,
    )
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=params.late_apart_s)
    return asked, timing
