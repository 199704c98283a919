"""Water flows where it flows in a fire only: a sprinkler pipe, a hydrant.

Fire signature: an open sprinkler head, which beside another sign of fire makes it urgent
(alerting/corroborate.py). By itself, at a hydrant, it is theft of water, or the fire service at
work.
Misses: a leak that is smaller than one open head; water that flows back, which a meter says as less
than nothing; a pipe in which water flows every day (give it a limit of its own).
Source: GB 5135.7, from memory: a sprinkler's flow indicator must not act at 15 L/min and must at
37.5 L/min (2.25 m3/h). One head of K 80 at 0.05 MPa lets 57 L/min.

Kind water. Early: 2.25 m3/h or more. Alarm: in two readings in a row, as one alone may be corrupt.
Over when it stays under half of that for 10 min. A gap is 50 h: a meter may say one reading a day.
Late readings count as level.py says.

Worked example: 0, 3.4, 3.3 m3/h, 10 s apart: early at the second, alarm at the third.
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

NAME = "water_flow"
VERSION = 1
LANE = Lane.TELEMETRY
READS: tuple[str, ...] = ("flow_m3_per_h",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = level.columns("early", "alarm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`flow_m3_per_h`: limit of both tiers. `clear_share`: of it, under which a reading is calm."""

    flow_m3_per_h: float = 2.25
    alarm_samples_count: int = 2
    clear_share: float = 0.5
    clear_s: int = 600
    rearm_s: int = level.PATIENT_S
    gap_s: int = level.PATIENT_S
    late_apart_s: int = 7200


BOUNDS = {
    "flow_m3_per_h": Bound(0.5, 20, "a dripping joint; three hoses are 20"),
    "alarm_samples_count": Bound(1, 2, "one may be corrupt"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came."""
    limits, timing = _asked(params)
    return level.judge(block, limits, timing, rows, points, gap_s=params.gap_s)


@lru_cache(maxsize=64)  # made anew, they cost as much as the judging
def _asked(params: Params) -> tuple[tuple[Limit, ...], Timing]:
    limits = tuple(
        Limit(
            tier=tier,
            kind=Kind.WATER,
            limit=params.flow_m3_per_h,
            calm=params.flow_m3_per_h * params.clear_share,
            samples_count=samples_count,
        )
        for tier, samples_count in ((Tier.EARLY, 1), (Tier.ALARM, params.alarm_samples_count))
    )
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=params.late_apart_s)
    return limits, timing
