"""A thing that is hot, or hotter than it was: cables, and surfaces seen by infrared.

Two fixed limits, and for the lower tier also a rise over the thing's own slow baseline, once it is
warm to the hand: a clamp that works loose shows long before any limit, and a cold cable that the
sun reaches is no clamp. Both ways share the early line, since two onsets of a tier are one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import level, slow
from detectors.batch import Rows
from detectors.level import Limit, Ordered, Timing
from detectors.rule import Block, Column, Finding, Points, number
from detectors.slow import Slow
from sizao.signal import Kind, Tier

COLUMNS: tuple[Column, ...] = (
    *level.columns("early", "alarm"),
    *slow.COLUMNS,
    *slow.columns("early"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hot:
    """What one rule asks; a reading is calm when it is `clear_below_k` under the fixed limit and
    its rise is under half of `rise_k`.
    """

    kind: Kind
    early_c: float
    alarm_c: float
    rise_k: float
    rise_from_c: float
    clear_below_k: float
    samples_count: int
    slow: Slow

    def limit(self, tier: Tier) -> Limit:
        """The fixed limit of a tier."""
        limit_c = self.early_c if tier is Tier.EARLY else self.alarm_c
        return Limit(
            tier=tier,
            kind=self.kind,
            limit=limit_c,
            calm=limit_c - self.clear_below_k,
            samples_count=self.samples_count,
        )


def judge(
    block: Block, hot: Hot, timing: Timing, rows: Rows, points: Points, *, gap_s: float
) -> list[Finding]:
    """Judge one round."""
    ordered, late = level.split(block, rows, gap_s)
    rise_k, baseline_c, _ = slow.rise(block, hot.slow, ordered)
    rises = (rise_k >= hot.rise_k) & (ordered.x >= hot.rise_from_c)
    lowest_c = min(hot.early_c, hot.alarm_c)
    index = np.flatnonzero(rises | (ordered.x >= lowest_c) | block["busy"].take(ordered.slot))
    found: list[Finding] = []
    if len(index):
        near = ordered.only(index)
        of = (rises[index], rise_k[index], baseline_c[index])
        for tier in (Tier.EARLY, Tier.ALARM):
            found += _line(block, hot, timing, near, points, tier, *of)
        level.mark_busy(block, near.slot, Tier.EARLY, Tier.ALARM)
    if late is not None:
        before = block[f"{Tier.EARLY}.active"][late.slot]
        for tier in (Tier.EARLY, Tier.ALARM):
            found += level.judge_late(block, hot.limit(tier), timing, late, points)
        slow.remember(block, Tier.EARLY, late, block["baseline"][late.slot], before)
    return found


def _line(
    block: Block,
    hot: Hot,
    timing: Timing,
    rows: Ordered,
    points: Points,
    tier: Tier,
    rises: level.Bools,
    rise_k: level.Float32s,
    baseline_c: level.Float32s,
) -> list[Finding]:
    limit = hot.limit(tier)
    over, calm = limit.over(rows.x), limit.is_calm(rows.x)
    if tier is Tier.EARLY:
        over, calm = over | rises, calm & (slow.since(block, tier, rows, rise_k) < hot.rise_k / 2)
    events = level.follow(
        block, tier, rows, timing, over=over, calm=calm, samples_count=hot.samples_count
    )
    if tier is Tier.EARLY:
        slow.remember(block, tier, rows, baseline_c)
    found = []
    for row, phase, onset_us in events:
        x_c = number(rows.x[row])
        evidence = level.evidence_of(points, rows, row, timing) | limit.said(x_c)
        if tier is Tier.EARLY:
            evidence |= {
                "baseline_c": number(baseline_c[row]),
                "rise_k": number(rise_k[row]),
                "limit_k": hot.rise_k,
                "rise_from_c": hot.rise_from_c,
                "decided_by": "limit" if x_c >= limit.limit else "rise",
            }
        found += [
            level.finding(rows, row, hot.kind, tier, evidence, phase=phase, onset_us=onset_us)
        ]
    return found
