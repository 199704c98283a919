"""Carbon monoxide for so long that it poisons people.

Fire signature: none needed: a flue that leaks, a brazier indoors, a generator, or a fire next door.
It kills asleep, so dose counts and not the level alone.
Misses: under 30 ppm, for however long; one reading, however high, until a second one confirms it;
what was breathed in a data gap; and, where the process starts without a snapshot, more than half an
hour before it.
Source: EN 50291-1: 50 ppm alarm between 60 and 90 min, 100 ppm between 10 and 40 min, 300 ppm
within 3 min, and none at 30 ppm before 120 min. Each point below lies in its window; between and
beyond them time to alarm is straight over level in logarithms, as poisoning is.

Dose: each interval adds dt / T(c), where c is the lower of the two readings at its ends, so a
single corrupt reading adds nothing; T(50) = 75 min, T(100) = 25 min, T(300) = 2 min (so that
readings a minute apart still meet 3), T(30) = 168 min by the line through the first two. Under 30
ppm, and over a gap, which adds nothing, it decays with 4 h (blood forgets slower: hours, recalled),
so that two short exposures of a morning are not one long. Held at 1.

Early: dose of a half, alarm: dose of one, while the reading is at 30 ppm or above. Over when it
stays under 30 ppm for 5 min. Late readings add nothing: the interval that they lie in is counted.

Worked example: 300 ppm, read every 10 s: dose 1/12 a reading from the second on; early after 60 s,
alarm after 120 s or, where twelve twelfths are short of one by rounding, 130 s. 100 ppm: early
after 13 min, alarm after 25. 40 ppm: alarm after 107 min. 29 ppm: never.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import level
from detectors.batch import Rows
from detectors.level import Float32s, Ordered, Timing
from detectors.rule import Array, Block, Bound, Column, Finding, Points, number
from sizao.signal import Kind, Tier
from sizao.units import Lane

NAME = "co_people"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("co_ppm",)
MEMORY_S = 1800  # more would hold up every rule's warm-up, and so every fire, after an upgrade
_FORGOTTEN = np.float32(0.01)  # a dose that is none: the point needs no look any more
COLUMNS: tuple[Column, ...] = (*level.columns("early", "alarm"), Column("dose", "float32"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Three points of level and time to alarm, rising in level; doses are shares of an alarm."""

    floor_ppm: float = 30.0
    low_ppm: float = 50.0
    low_s: float = 4500.0
    middle_ppm: float = 100.0
    middle_s: float = 1500.0
    high_ppm: float = 300.0
    high_s: float = 120.0
    early_dose_share: float = 0.5
    alarm_dose_share: float = 1.0
    decay_s: float = 14_400.0
    clear_s: int = 300
    rearm_s: int = 7200
    gap_s: int = level.GAP_S


BOUNDS = {
    "floor_ppm": Bound(20, 30, "EN 50291-1: 30 ppm for 120 min is no alarm; 50 is one"),
    "low_ppm": Bound(50, 50, "a point of EN 50291-1"),
    "low_s": Bound(3600, 5400, "EN 50291-1: 60 to 90 min"),
    "middle_ppm": Bound(100, 100, "a point of EN 50291-1"),
    "middle_s": Bound(600, 2400, "EN 50291-1: 10 to 40 min"),
    "high_ppm": Bound(300, 300, "a point of EN 50291-1"),
    "high_s": Bound(30, 180, "EN 50291-1: within 3 min"),
    "early_dose_share": Bound(0.1, 0.9, "before the alarm"),
    "alarm_dose_share": Bound(0.5, 1.0, "one is the norm's alarm"),
    "decay_s": Bound(3600, 86_400, "blood forgets in hours"),
}


def rate_per_s(params: Params, ppm: Float32s) -> Array:
    """Dose that a level adds in a second; 0 under the floor."""
    level_ppm = np.maximum(ppm.astype(np.float64), params.floor_ppm)
    slopes = [
        np.log(from_s / to_s) / np.log(to_ppm / from_ppm)
        for from_ppm, from_s, to_ppm, to_s in (
            (params.low_ppm, params.low_s, params.middle_ppm, params.middle_s),
            (params.middle_ppm, params.middle_s, params.high_ppm, params.high_s),
        )
    ]
    rate = np.where(
        level_ppm < params.middle_ppm,
        (level_ppm / params.low_ppm) ** slopes[0] / params.low_s,
        (level_ppm / params.middle_ppm) ** slopes[1] / params.middle_s,
    )
    return np.where(ppm >= params.floor_ppm, rate, 0.0)


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came."""
    ordered, _ = level.split(block, rows, params.gap_s)
    index = np.flatnonzero((ordered.x >= params.floor_ppm) | block["busy"].take(ordered.slot))
    if not len(index):
        return []
    near = ordered.only(index)
    before, dose = _dose(block, params, near)
    found: list[Finding] = []
    for tier, limit in (
        (Tier.EARLY, params.early_dose_share),
        (Tier.ALARM, params.alarm_dose_share),
    ):
        found += _line(block, params, near, points, tier, limit, before, dose)
    level.mark_busy(block, near.slot, Tier.EARLY, Tier.ALARM)
    block["busy"][near.slot] |= dose > 0
    return found


def _dose(block: Block, params: Params, rows: Ordered) -> tuple[Float32s, Float32s]:
    """Doses before and after the readings (in place)."""
    before = block["dose"][rows.slot]
    lower = np.where(rows.gap, np.float32(0), np.minimum(rows.before, rows.x))
    adds = (rate_per_s(params, lower) * rows.dt_s).astype(np.float32)
    decay_s = np.float32(params.decay_s)
    less = before * (decay_s / (decay_s + rows.dt_s))
    dose = np.where(adds > 0, np.minimum(before + adds, np.float32(1)), less)
    dose[dose < np.where(adds > 0, 0, _FORGOTTEN)] = 0
    block["dose"][rows.slot] = dose
    return before, dose


def _line(
    block: Block,
    params: Params,
    rows: Ordered,
    points: Points,
    tier: Tier,
    limit: float,
    before: Float32s,
    dose: Float32s,
) -> list[Finding]:
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=0)
    there = rows.x >= params.floor_ppm
    events = level.follow(block, tier, rows, timing, over=there & (dose >= limit), calm=~there)
    found = []
    for row, phase, onset_us in events:
        reached = number(dose[row])
        evidence = level.evidence_of(points, rows, row, timing) | {
            "dose_before": number(before[row]),
            "dose": reached,
            "limit": limit,
            "margin": reached - limit,
            "clear_below_ppm": params.floor_ppm,
        }
        found += [level.finding(rows, row, Kind.CO, tier, evidence, phase=phase, onset_us=onset_us)]
    return found
