"""A hydrant, a well's cover or a device leans that stood upright.

Fire signature: none. Somebody has run into the hydrant, opens the cover, or takes the thing away.
Misses: one that is turned about its own upright axis; one that was mounted askew by less than the
limit and leans back; a cover that is slid aside.
Source: none was found; 15 and 30 degrees are starting guesses. A curb or a settling shaft leans by
less than ten, a hydrant that was hit by more than thirty.

Kind tamper. Early: leans by 15 degrees or more, either way. Alarm: by 30 or more in two readings in
a row, as one alone may be corrupt. Over when it stays under 10 degrees for 10 min. Devices say an
hour's samples at once, or one a day, so a gap is 50 h. Late readings count as level.py says.

Worked example: 0.4, 16, 34, 34.2 degrees, a minute apart: early at the second, alarm at the fourth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from detectors import level
from detectors.batch import Rows
from detectors.level import Limit, Timing
from detectors.rule import Block, Bound, Column, Finding, Points
from sizao.signal import Kind, Tier
from sizao.units import Lane

NAME = "tilt"
VERSION = 1
LANE = Lane.TELEMETRY
READS: tuple[str, ...] = ("tilt_deg",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = level.columns("early", "alarm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Limits of the angle, whichever way."""

    early_deg: float = 15.0
    alarm_deg: float = 30.0
    alarm_samples_count: int = 2
    clear_deg: float = 10.0
    clear_s: int = 600
    rearm_s: int = level.PATIENT_S
    gap_s: int = level.PATIENT_S
    late_apart_s: int = 7200


BOUNDS = {
    "early_deg": Bound(5, 45, "frost and a car nearby move by a few; half over is over"),
    "alarm_deg": Bound(10, 60, "a knock of ten is a knock; past sixty it lies"),
    "alarm_samples_count": Bound(1, 2, "one may be corrupt"),
    "clear_deg": Bound(2, 15, "sensors are mounted askew by a degree or two"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came, without their sign."""
    limits, timing = _asked(params)
    leaning = replace(rows, value=np.abs(rows.value))
    return level.judge(block, limits, timing, leaning, points, gap_s=params.gap_s)


@lru_cache(maxsize=64)  # made anew, they cost as much as the judging
def _asked(params: Params) -> tuple[tuple[Limit, ...], Timing]:
    limits = tuple(
        Limit(
            tier=tier,
            kind=Kind.TAMPER,
            limit=limit_deg,
            calm=params.clear_deg,
            samples_count=samples_count,
        )
        for tier, limit_deg, samples_count in (
            (Tier.EARLY, params.early_deg, 1),
            (Tier.ALARM, params.alarm_deg, params.alarm_samples_count),
        )
    )
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=params.late_apart_s)
    return limits, timing
