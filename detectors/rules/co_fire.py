"""Carbon monoxide rises over its own slow baseline.

Fire signature: what smoulders makes CO for minutes to hours before it makes heat, and CO goes round
corners and through bedding where smoke settles.
Misses: clean flames with much air, which make little; rises slower than about 0.1 ppm a minute;
rises within the first 10 min after a point was first read, or was silent for over 30 min; what
burns by then. Cars, stoves, braziers and smokers make CO too, hence early only: co_people judges
the dose, the fusion judges it beside smoke and heat.
Source: 15 ppm over baseline counts as a whole fire in the multi-criteria sum (measured runs had no
CO: a starting guess); EN 54-26 has limits that were not to be had. CO leads heat (Cestari 2005,
Vorwerk 2025).

Early: 15 ppm over its own baseline in two readings in a row. Over when the rise stays under half of
it for 3 min. Late readings move and say nothing: the baseline of their time is not kept.

Worked example: 2 ppm for 20 min, read every 10 s, then 9, 18, 19, 24: early at the third (16 and 17
over 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detectors import level, slow
from detectors.batch import Rows
from detectors.level import Timing
from detectors.rule import Block, Bound, Column, Finding, Points, number
from detectors.slow import Slow
from sizao.signal import Kind, Tier
from sizao.units import Lane

NAME = "co_fire"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("co_ppm",)
MEMORY_S = 1800
COLUMNS: tuple[Column, ...] = (
    *level.columns("early"),
    *slow.COLUMNS,
    *slow.columns("early"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Limit, and the slow baseline of slow.py. `clear_share`: of the limit."""

    early_rise_ppm: float = 15.0
    samples_count: int = 2
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200
    gap_s: int = level.GAP_S
    tau_s: float = 1800.0
    tau_fall_s: float = 450.0
    clip_ppm: float = 3.0
    jump_ppm: float = 30.0
    warm_s: float = 600.0
    counted_s: float = 120.0


BOUNDS = {
    "early_rise_ppm": Bound(5, 40, "noise of a cell; certified ones sound by 40 ppm (recalled)"),
    "clip_ppm": Bound(1, 10, "higher, a fire drags its baseline up"),
    "jump_ppm": Bound(10, 100, "noise is no jump; above, corrupt readings move the baseline"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came."""
    asked = _asked(params)
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=0)
    ordered, _ = level.split(block, rows, params.gap_s)
    rise_ppm, baseline_ppm, _ = slow.rise(block, asked, ordered)
    index = np.flatnonzero((rise_ppm >= params.early_rise_ppm) | block["busy"].take(ordered.slot))
    if not len(index):
        return []
    near, rise_ppm, baseline_ppm = ordered.only(index), rise_ppm[index], baseline_ppm[index]
    calm_ppm = params.early_rise_ppm * params.clear_share
    events = level.follow(
        block,
        Tier.EARLY,
        near,
        timing,
        over=rise_ppm >= params.early_rise_ppm,
        calm=slow.since(block, Tier.EARLY, near, rise_ppm) < calm_ppm,
        samples_count=params.samples_count,
    )
    slow.remember(block, Tier.EARLY, near, baseline_ppm)
    level.mark_busy(block, near.slot, Tier.EARLY)
    found = []
    for row, phase, onset_us in events:
        rise = number(rise_ppm[row])
        evidence = level.evidence_of(points, near, row, timing) | {
            "baseline_ppm": number(baseline_ppm[row]),
            "rise_ppm": rise,
            "limit_ppm": params.early_rise_ppm,
            "margin_ppm": rise - params.early_rise_ppm,
            "samples_count": params.samples_count,
            "clear_below_ppm": calm_ppm,
        }
        found += [
            level.finding(
                near, row, Kind.FIRE, Tier.EARLY, evidence, phase=phase, onset_us=onset_us
            )
        ]
    return found


@lru_cache(maxsize=64)  # made anew, it costs as much as the judging
def _asked(params: Params) -> Slow:
    return Slow(
        tau_s=params.tau_s,
        tau_fall_s=params.tau_fall_s,
        clip=params.clip_ppm,
        jump=params.jump_ppm,
        warm_s=params.warm_s,
        counted_s=params.counted_s,
    )
