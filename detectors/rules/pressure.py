"""A hydrant or a sprinkler pipe has too little pressure.

Fire signature: none. It says that there will be no water when there is one: a shut valve, a broken
main, a pump that does not start, a hydrant that is being robbed.
Misses: a hydrant whose valve is shut behind the sensor; too much pressure; a pipe that needs more
than the municipal minimum (a sprinkler at the top of a tower: give it a limit of its own). A
pressure that is no fire water (a gas pipe, 2 kPa) has to be given a limit of 0.
Source: GB 50974-2014: a municipal hydrant keeps 0.14 MPa at ordinary times and 0.10 MPa in a fire.

Kind supervisory. Early: under 140 kPa, alarm: under 100 kPa, each in two readings in a row:
somebody draws water at the first. Both limits hold at all times: no rule knows that there is a
fire. While one burns, water is drawn, so the early is to be expected, and pages nobody; the alarm
says that even the fire's own limit is not kept. Over when it stays 10 kPa above the limit for 10
min. Devices say an hour's samples at once, or one a day, so a gap is 50 h. Late readings count as
level.py says.

Worked example: 310, 135, 138, 95, 90 kPa, one an hour: early at the third, alarm at the fifth.
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

NAME = "pressure"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("pressure_kpa",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = level.columns("early", "alarm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Lowest pressures, of the gauge. `clear_above_kpa`: so far above the limit is calm."""

    early_kpa: float = 140.0
    alarm_kpa: float = 100.0
    samples_count: int = 2
    clear_above_kpa: float = 10.0
    clear_s: int = 600
    rearm_s: int = level.PATIENT_S
    gap_s: int = level.PATIENT_S
    late_apart_s: int = 7200


BOUNDS = {
    "early_kpa": Bound(50, 1600, "hydrant mains to high-rise sprinklers"),
    "alarm_kpa": Bound(20, 1200, "under 20 nothing comes out"),
    "clear_above_kpa": Bound(1, 100, "without a band it flickers"),
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
            kind=Kind.SUPERVISORY,
            limit=limit_kpa,
            calm=limit_kpa + params.clear_above_kpa,
            samples_count=params.samples_count,
            below=True,
        )
        for tier, limit_kpa in ((Tier.EARLY, params.early_kpa), (Tier.ALARM, params.alarm_kpa))
    )
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=params.late_apart_s)
    return limits, timing
