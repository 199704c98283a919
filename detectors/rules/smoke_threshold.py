"""Smoke so dense at the detector that a certified one would have sounded.

Fire signature: particles scatter light minutes before a smouldering fire makes any heat.
Misses: clean flames (alcohol, gas), whose particles are too small; smoke that does not reach the
ceiling; and it cannot tell steam, dust and frying from smoke: the fusion can.
Source: optical density 0.06 and 0.12 per m, twice (docs/packs.md, row "OD 0.06 / 0.12"): 80 % of
real detectors had sounded by 0.12, and 0.06 leads a real photoelectric one by 12 s on flaming
fires. EN 54-7 4.8: compensation must not delay the alarm of a slow fire beyond 1.6 times
(recalled).

Drift: dust and age lift a chamber's zero over months. d += g * clip(y, -c, c) with y = x - d, g =
dt/(tau + dt), tau 6 h, and 1.5 h when y < 0, dt at most 30 min; d stays within half the alarm limit
either way. It starts at 0, not at the first reading, so that smoke never becomes the zero. What it
can hide: a fire that takes longer than half a day to reach 0.06 per m at the detector alarms at
0.18 at the latest, 1.5 times the limit.

Early: y >= 0.06 per m, alarm: y >= 0.12, each in `verify_m_count` of `verify_n_count` readings (2
of 2: in a row) within `verify_window_s` (0: any). Over when y stays under half the limit for 3 min.
Early, kind fault ("dirty"): d has reached its bound, while y is under both limits; over at 80 % of
the bound. Late readings count as level.py says, less the drift of now, where at most two are
wanted.

Worked example: 0.01 per m for an hour, read every 10 s: d is 0.0015. Then 0.05, 0.07, 0.08, 0.13,
0.14: early at the third, alarm at the fifth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detectors import level, verify
from detectors.batch import Rows
from detectors.level import Float32s, Limit, Ordered, Timing
from detectors.rule import Block, Bound, Column, Finding, Points, number
from detectors.verify import Verify
from sizao.signal import Kind, Tier
from sizao.units import Lane

NAME = "smoke_threshold"
VERSION = 2
LANE = Lane.TELEMETRY
READS = ("smoke_od_per_m",)
MEMORY_S = 1800
_DIRTY = "dirty"
COLUMNS: tuple[Column, ...] = (
    *level.columns("early", "alarm", _DIRTY),
    *verify.columns("early"),
    *verify.columns("alarm"),
    Column("drift", "float32"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Optical densities are base 10, per m. `*_share`: of the limit, of the drift's bound."""

    early_per_m: float = 0.06
    alarm_per_m: float = 0.12
    verify_m_count: int = 2
    verify_n_count: int = 2
    verify_window_s: float = 0.0
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200
    gap_s: int = level.GAP_S
    late_apart_s: int = 7200
    drift_tau_s: float = 21_600.0
    drift_tau_fall_s: float = 5400.0
    drift_clip_per_m: float = 0.03
    drift_bound_share: float = 0.5
    dirty_clear_share: float = 0.8


BOUNDS = {
    "early_per_m": Bound(0.02, 0.1, "dust and frying; below the alarm"),
    "alarm_per_m": Bound(0.06, 0.2, "EN 54-7 ends its fires at 2 dB/m, which is 0.2 (recalled)"),
    "drift_tau_s": Bound(21_600, 604_800, "faster hides a slow fire, EN 54-7 4.8"),
    "drift_tau_fall_s": Bound(1800, 86_400, "a low reading is no clean chamber"),
    "drift_clip_per_m": Bound(0.005, 0.03, "higher hides a slow fire"),
    "drift_bound_share": Bound(0.1, 0.5, "EN 54-7 4.8: 1.6 times the limit at the most"),
    "dirty_clear_share": Bound(0.5, 0.95, "without a band it flickers"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of readings as they came."""
    ordered, late = level.split(block, rows, params.gap_s)
    drift, after = _drift(block, params, ordered)
    y = ordered.x - drift
    bound = np.float32(params.alarm_per_m * params.drift_bound_share)
    lowest = min(params.early_per_m, params.alarm_per_m)
    index = np.flatnonzero((y >= lowest) | (after >= bound) | block["busy"].take(ordered.slot))
    limits, timing, asked = _asked(params)
    found: list[Finding] = []
    if len(index):
        near, y, drift, after = ordered.only(index), y[index], drift[index], after[index]
        for limit in limits:
            found += _smoke(block, limit, asked, timing, near, points, y, drift)
        clean = y < lowest
        found += _dirty(block, params, timing, near, points, after, bound, clean)
        level.mark_busy(block, near.slot, Tier.EARLY, Tier.ALARM, _DIRTY)
        for tier in (Tier.EARLY, Tier.ALARM):
            block["busy"][near.slot] |= verify.waits(block, tier, near.slot)
    if late is not None and asked.wanted <= 2:  # noqa: PLR2004 - late readings decide in pairs
        off = block["drift"][late.slot]
        for limit in limits:
            found += level.judge_late(block, limit, timing, late, points, off)
    return found


@lru_cache(maxsize=64)  # made anew, they cost as much as the judging
def _asked(params: Params) -> tuple[tuple[Limit, ...], Timing, Verify]:
    asked = Verify(params.verify_m_count, params.verify_n_count, params.verify_window_s)
    limits = tuple(
        Limit(
            tier=tier,
            kind=Kind.FIRE,
            limit=limit,
            calm=limit * params.clear_share,
            samples_count=asked.wanted,
        )
        for tier, limit in ((Tier.EARLY, params.early_per_m), (Tier.ALARM, params.alarm_per_m))
    )
    apart_s = min(params.late_apart_s, int(asked.window_s) or params.late_apart_s)
    timing = Timing(clear_s=params.clear_s, rearm_s=params.rearm_s, apart_s=apart_s)
    return limits, timing, asked


def _drift(block: Block, params: Params, rows: Ordered) -> tuple[Float32s, Float32s]:
    """Drift before and after the readings (in place). The first of a point moves nothing."""
    drift = block["drift"].take(rows.slot)
    y = rows.x - drift
    dt_s = np.where(rows.before_us > 0, np.minimum(rows.dt_s, np.float32(level.GAP_S)), 0)
    tau_s = np.where(y < 0, np.float32(params.drift_tau_fall_s), np.float32(params.drift_tau_s))
    clip, bound = params.drift_clip_per_m, params.alarm_per_m * params.drift_bound_share
    after = drift + np.clip(y, -clip, clip) * dt_s / (tau_s + dt_s)
    after = np.clip(after, -bound, bound)
    block["drift"][rows.slot] = after
    return drift, after


def _smoke(
    block: Block,
    limit: Limit,
    asked: Verify,
    timing: Timing,
    rows: Ordered,
    points: Points,
    y: Float32s,
    drift: Float32s,
) -> list[Finding]:
    events = level.follow(
        block,
        limit.tier,
        rows,
        timing,
        over=limit.over(y),
        calm=limit.is_calm(y),
        asked=asked,
    )
    found = []
    for row, phase, onset_us in events:
        evidence = level.evidence_of(points, rows, row, timing) | limit.said(number(y[row]))
        evidence |= {"drift": number(drift[row]), "compensated": number(y[row])}
        evidence |= asked.said()
        found += [
            level.finding(
                rows, row, Kind.FIRE, limit.tier, evidence, phase=phase, onset_us=onset_us
            )
        ]
    return found


def _dirty(
    block: Block,
    params: Params,
    timing: Timing,
    rows: Ordered,
    points: Points,
    after: Float32s,
    bound: np.float32,
    clean: level.Bools,
) -> list[Finding]:
    calm = bound * np.float32(params.dirty_clear_share)
    events = level.follow(
        block, _DIRTY, rows, timing, over=(after >= bound) & clean, calm=clean & (after < calm)
    )
    found = []
    for row, phase, onset_us in events:
        evidence = level.evidence_of(points, rows, row, timing) | {
            "fault": _DIRTY,
            "drift": number(after[row]),
            "limit": number(bound),
            "margin": number(after[row]) - number(bound),
            "clear_below": number(calm),
        }
        # A tier of the fires, but never at the same reading as one: `clean`.
        found += [
            level.finding(
                rows, row, Kind.FAULT, Tier.EARLY, evidence, phase=phase, onset_us=onset_us
            )
        ]
    return found
