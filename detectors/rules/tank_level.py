"""A tank holds much less water than it usually does.

Fire signature: none. It says that there will be too little water when there is one: a leak, a float
valve that sticks, a drain left open, a pump that ran.
Misses: a tank that is emptied slower than over a week (its usual level follows); the first day
after a point was first read, or was silent for over 50 h; a probe that hangs in a dry pipe. Water
in a well or an underpass is usually under a metre, and not judged.
Source: GB 50974-2014 asks for a low-level alarm of fire tanks and names no share; which share holds
the water for a fire depends on the tank. 80 % and 50 % are starting guesses.

Usual level: baseline of slow.py that rises within a day and falls within a week, judged from 1 m
on. Kind supervisory. Early: at or under 80 % of it, alarm: at or under 50 %, each in two readings
in a row. Over when the level stays 5 % of the usual above the limit for 10 min. Late readings say
nothing: the usual level of their time is not kept.

Worked example: 2.5 m for two days, one reading in 15 min, then 2.2, 1.9, 1.8, 1.2, 1.1: 80 % of the
usual is 2.0 m, so early at the third (1.9 and 1.8); 50 % is 1.25 m, so alarm at the fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detectors import level, slow
from detectors.batch import Rows
from detectors.level import Float32s, Ordered, Timing
from detectors.rule import Block, Bound, Column, Finding, Points, number
from detectors.slow import Slow
from sizao.signal import Kind, Tier
from sizao.units import Lane

NAME = "tank_level"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("level_m",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = (*level.columns("early", "alarm"), *slow.COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Shares are of the usual level; `tau_s`, `warm_s` and so on are of its baseline (slow.py)."""

    early_share: float = 0.8
    alarm_share: float = 0.5
    clear_share: float = 0.05
    usual_least_m: float = 1.0
    samples_count: int = 2
    clear_s: int = 600
    rearm_s: int = level.PATIENT_S
    gap_s: int = level.PATIENT_S
    tau_s: float = 86_400.0
    tau_fall_s: float = 604_800.0
    clip_m: float = 1000.0
    jump_m: float = 2.0
    warm_s: float = 86_400.0
    counted_s: float = 7200.0


BOUNDS = {
    "early_share": Bound(0.5, 0.95, "below half is an alarm"),
    "alarm_share": Bound(0.2, 0.8, "under a fifth there is nothing to fight with"),
    "clear_share": Bound(0.01, 0.2, "without a band waves flicker"),
    "usual_least_m": Bound(0.1, 2.0, "a sump's gauge, a roof tank's"),
    "gap_s": Bound(21_600, 180_000, "gauges say it by the hour, some a few times a day"),
    "tau_s": Bound(21_600, 604_800, "a day's draw must not be the usual level"),
    "tau_fall_s": Bound(86_400, 2_592_000, "faster, a slow leak is the usual level"),
    "clip_m": Bound(1000, 1000, "refilling is no fire: the usual level rises at once"),
    "jump_m": Bound(0.5, 5, "waves are no jump"),
    "warm_s": Bound(21_600, 604_800, "a day and night of use"),
    "counted_s": Bound(3600, 21_600, "gauges say it by the hour"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came."""
    asked = _asked(params)
    ordered, _ = level.split(block, rows, params.gap_s)
    _, usual_m, warm = slow.rise(block, asked, ordered)
    judged = warm & (usual_m >= params.usual_least_m)
    highest = np.float32(max(params.early_share, params.alarm_share))
    index = np.flatnonzero(
        (judged & (ordered.x <= usual_m * highest)) | block["busy"].take(ordered.slot)
    )
    if not len(index):
        return []
    near, usual_m, judged = ordered.only(index), usual_m[index], judged[index]
    found: list[Finding] = []
    for tier, share in ((Tier.EARLY, params.early_share), (Tier.ALARM, params.alarm_share)):
        found += _line(block, params, near, points, tier, share, usual_m, judged)
    level.mark_busy(block, near.slot, Tier.EARLY, Tier.ALARM)
    return found


def _line(
    block: Block,
    params: Params,
    rows: Ordered,
    points: Points,
    tier: Tier,
    share: float,
    usual_m: Float32s,
    judged: level.Bools,
) -> list[Finding]:
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=0)
    limit_m = usual_m * np.float32(share)
    calm_m = usual_m * np.float32(share + params.clear_share)
    events = level.follow(
        block,
        tier,
        rows,
        timing,
        over=judged & (rows.x <= limit_m),
        calm=judged & (rows.x > calm_m),
        samples_count=params.samples_count,
    )
    found = []
    for row, phase, onset_us in events:
        evidence = level.evidence_of(points, rows, row, timing) | {
            "usual_m": number(usual_m[row]),
            "limit_share": share,
            "limit_m": number(limit_m[row]),
            "margin_m": number(limit_m[row]) - number(rows.x[row]),
            "samples_count": params.samples_count,
            "clear_above_m": number(calm_m[row]),
        }
        found += [
            level.finding(
                rows, row, Kind.SUPERVISORY, tier, evidence, phase=phase, onset_us=onset_us
            )
        ]
    return found


@lru_cache(maxsize=64)  # made anew, it costs as much as the judging
def _asked(params: Params) -> Slow:
    return Slow(
        tau_s=params.tau_s,
        tau_fall_s=params.tau_fall_s,
        clip=params.clip_m,
        jump=params.jump_m,
        warm_s=params.warm_s,
        counted_s=params.counted_s,
    )
