"""Combustible gas nears its lower explosive limit.

Fire signature: gas leaks and is not yet burning; a spark anywhere in it is an explosion.
Misses: a gas that the detector's cell is not made for; gas that does not reach it (heavier or
lighter than air); a poisoned cell, which reads 0.
Source: GB 50493-2019: first level at most 25 %LEL, second at most 50; GB 15322.2 and EN 50194-1:
detectors of homes alarm between 5 and 25, or 3 and 20 %LEL (all recalled, not read: check before
claiming conformity). So the first level is our alarm, and half of the lowest of them is none: early
at 10 %LEL.

Early: 10 %LEL, alarm: 25 %LEL, each in one reading: the detector has filtered it, and gas does not
wait for a second. Over when it stays under half the limit for 3 min. A late reading over a limit
counts like one in order, unless an onset covers its time.

Worked example: 2, 12, 26, 3, 3 %LEL at 12:00:00, :30, 12:01:00, 12:01:30, 12:04:30: early 12:00:30,
alarm 12:01:00, both over 12:04:30.
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

NAME = "gas_level"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("gas_lel_pct",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = level.columns("early", "alarm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Limits in percent of the lower explosive limit. `clear_share`: of the limit."""

    early_lel_pct: float = 10.0
    alarm_lel_pct: float = 25.0
    samples_count: int = 1
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = level.PATIENT_S
    gap_s: int = level.PATIENT_S
    late_apart_s: int = 7200


BOUNDS = {
    "samples_count": Bound(1, 2, "the detector has its own delay; two where one flickers"),
    "early_lel_pct": Bound(3, 25, "GB 15322: low set point of 5 to 25 %LEL (recalled)"),
    "alarm_lel_pct": Bound(10, 50, "EN 60079-29: high set point of 50 %LEL at most (recalled)"),
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
            kind=Kind.GAS,
            limit=limit_pct,
            calm=limit_pct * params.clear_share,
            samples_count=params.samples_count,
        )
        for tier, limit_pct in (
            (Tier.EARLY, params.early_lel_pct),
            (Tier.ALARM, params.alarm_lel_pct),
        )
    )
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=params.late_apart_s)
    return limits, timing
