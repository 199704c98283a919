"""A cable or its clamp is too hot, or gets hotter than it ever is.

Fire signature: overload heats a whole cable, a loose clamp one end of it; insulation ages fast
above its rating, and lights at 200 degC and more, where no sensor of a cable sits any longer.
Misses: heat anywhere but at the sensor; a clamp that comes loose within the first 10 min after a
point was first read, or was silent for over 30 min, unless it passes a limit; arcs (the device says
them itself).
Source: GB 14287.3: alarm settable from 45 to 140 degC (recalled, not read). IEC 60364-5-52: PVC may
be at 70 degC for good, cross-linked polyethylene at 90: these are our limits. The rise is a
starting guess: full load warms a cold cable by about 40 K within an hour, which is no rise over a
baseline that follows within half an hour.

Kind electrical. Early: x >= 70 degC, or x >= 45 degC and 25 K over its own baseline; alarm: x >= 90
degC; each in two readings in a row. Over when x stays 10 K under the limit, and under half the
rise, for 10 min. Late readings count as level.py says, against the fixed limits alone.

Worked example: 30 degC for 20 min, read every 30 s, then 50, 58, 60, 91, 92: early at the third (28
and 30 K over 30), alarm at the fifth.
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

NAME = "cable_temperature"
VERSION = 1
LANE = Lane.TELEMETRY
READS = (
    "cable_temperature_c",
    "cable_temperature_2_c",
    "cable_temperature_3_c",
    "cable_temperature_4_c",
)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = hot.COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Limits, and the slow baseline of slow.py."""

    early_c: float = 70.0
    alarm_c: float = 90.0
    rise_k: float = 25.0
    rise_from_c: float = 45.0
    samples_count: int = 2
    clear_below_k: float = 10.0
    clear_s: int = 600
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
    "early_c": Bound(45, 100, "under 45 a summer's cable; PVC ages fast above 100"),
    "alarm_c": Bound(55, 140, "GB 14287.3: set points of 45 to 140 degC (recalled)"),
    "rise_k": Bound(10, 50, "a load step warms by 10; a loose clamp by 50 within an hour"),
    "rise_from_c": Bound(30, 70, "warm to the hand"),
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
        kind=Kind.ELECTRICAL,
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
