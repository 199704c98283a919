"""Current leaks to earth.

Fire signature: insulation ages or gets wet, and the current that does not come back heats what it
leaks through; 300 mA at 220 V are 66 W in one spot, which lights sawdust.
Misses: faults between phases or in series (a loose clamp, an arc: cable_temperature, the device's
own arc state); a leak under the natural leakage of a large circuit, which no limit can tell apart.
Source: GB 50116-2013 and GB 14287.2: set points of 300 to 500 mA for fire. 300, since it is early
only; a distribution board with more natural leakage needs a limit of its own.

Early, and nothing more: an electrician has to look. x >= 300 mA in two readings in a row. Over when
it stays under 80 % of the limit for 3 min. Late readings count as level.py says.

Worked example: 120, 310, 290, 330, 345 mA, one a minute: early at the fifth (330 and 345).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from detectors import level
from detectors.batch import Rows
from detectors.level import Limit, Timing
from detectors.rule import Block, Bound, Column, Finding, Points
from sizao.signal import Kind, Tier
from sizao.units import Lane

NAME = "residual_current"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("residual_current_ma",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = level.columns("early")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`early_ma`: 300 to 500 by the standards. `clear_share`: of the limit."""

    early_ma: float = 300.0
    samples_count: int = 2
    clear_share: float = 0.8
    clear_s: int = 180
    rearm_s: int = level.PATIENT_S
    gap_s: int = level.PATIENT_S
    late_apart_s: int = 7200


BOUNDS = {
    "early_ma": Bound(30, 500, "GB 14287.2: 300 to 500 mA; 30 protects people"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came."""
    limits, timing = _asked(params)
    return level.judge(block, limits, timing, rows, points, gap_s=params.gap_s)


@lru_cache(maxsize=64)  # made anew, they cost as much as the judging
def _asked(params: Params) -> tuple[tuple[Limit, ...], Timing]:
    limit = Limit(
        tier=Tier.EARLY,
        kind=Kind.ELECTRICAL,
        limit=params.early_ma,
        calm=params.early_ma * params.clear_share,
        samples_count=params.samples_count,
    )
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=params.late_apart_s)
    return (limit,), timing
