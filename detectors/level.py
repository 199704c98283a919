"""A plain value against limits: what rules share that read anything but temperature.

Their readings come as they came (detectors/rule.py), so each rule keeps of every point the newest
reading and when it came, and tells by it (detection.md section 7):

- an equal event time, or the newest reading delivered again: said twice, dropped;
- older than the newest: late. It moves nothing, and is held against the limits all the same: it
  raises where as many late ones as the line wants, or one beside a newest reading over the limit,
  are over it, at most `apart_s` apart, and no onset covers their time;
- a longer silence than `gap_s`: a data gap. No duration and no baseline reaches across.

A line is one tier's latch with its count of readings in a row. Two lines of a rule never share a
tier: the id of an onset is made of rule, point, tier and time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from detectors import latch, verify
from detectors.batch import Rows
from detectors.features import delivered_again
from detectors.latch import Event, Judged
from detectors.rule import Array, Block, Column, Finding, Points, number
from detectors.verify import Verify
from sizao.frame import Flag
from sizao.signal import Evidence, Kind, Phase, Tier
from sizao.units import BY_CODE

SECOND_US = 1_000_000
GAP_S = 1800
"""Of devices that report by the minute: the gap of the temperature features too."""
PATIENT_S = 50 * 3600
"""Of devices that may report once a day: two reports missed, and two hours."""

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def columns(*lines: str) -> tuple[Column, ...]:
    """What a rule with these lines keeps of a point."""
    found = [
        Column("busy", "bool"),  # some line is not untouched: look at the point's next reading
        Column("x", "float32"),
        Column("last_us", "int64"),  # 0: never read
    ]
    for line in lines:
        found += [
            Column(f"{line}.hits_count", "int8"),
            Column(f"{line}.late_us", "int64"),  # newest late reading over the limit, 0 for none
            Column(f"{line}.late_x", "float32"),
            *latch.columns(line),
        ]
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Durations in event time; see the head of this file, and detectors/latch.py."""

    clear_s: int
    rearm_s: int
    apart_s: int


@dataclass(frozen=True, slots=True)
class Ordered:
    """Readings that are the newest of their points; `before_us` is 0 for the first of a point."""

    slot: Int64s
    event_us: Int64s
    flags: npt.NDArray[np.uint8]
    x: Float32s
    before: Float32s
    before_us: Int64s
    dt_s: Float32s
    gap: Bools

    def only(self, index: Array) -> Ordered:
        """The rows at `index`."""
        return Ordered(
            self.slot[index],
            self.event_us[index],
            self.flags[index],
            self.x[index],
            self.before[index],
            self.before_us[index],
            self.dt_s[index],
            self.gap[index],
        )


@dataclass(frozen=True, slots=True)
class Late:
    """Readings older than the newest of their point."""

    slot: Int64s
    event_us: Int64s
    flags: npt.NDArray[np.uint8]
    x: Float32s
    newest: Float32s
    newest_us: Int64s


def split(block: Block, rows: Rows, gap_s: float) -> tuple[Ordered, Late | None]:
    """Readings in order, whose points take them over (in place), and late ones."""
    last_us = block["last_us"].take(rows.slot)
    fresh = rows.event_us > last_us
    if rows.flags.any():
        same = (rows.value == block["x"].take(rows.slot)) & (last_us > 0)
        fresh &= ~(delivered_again(rows.flags) & same)
    late = None
    if not fresh.all():
        is_late = rows.event_us < last_us
        if is_late.any():
            old, newest_us = rows.only(is_late), last_us[is_late]
            newest = block["x"].take(old.slot)
            late = Late(old.slot, old.event_us, old.flags, old.value, newest, newest_us)
        rows, last_us = rows.only(fresh), last_us[fresh]
    before = block["x"].take(rows.slot)
    block["x"][rows.slot] = rows.value
    block["last_us"][rows.slot] = rows.event_us
    dt_s = (rows.event_us - last_us).astype(np.float32)
    dt_s *= np.float32(1e-6)
    gap = dt_s > gap_s
    return (
        Ordered(rows.slot, rows.event_us, rows.flags, rows.value, before, last_us, dt_s, gap),
        late,
    )


def follow(
    block: Block,
    line: str,
    rows: Ordered,
    timing: Timing,
    *,
    over: Bools,
    calm: Bools,
    samples_count: int = 1,
    asked: Verify | None = None,
) -> list[Event]:
    """What a line says of readings in order: `over` its limit `samples_count` (1 or 2) times, or
    as `asked` of a line that has verify.columns.
    """
    hits_count = block[f"{line}.hits_count"]
    hits = np.where(over, np.minimum(hits_count[rows.slot] + 1, samples_count), 0)
    hits_count[rows.slot] = hits
    holds, since_us = hits >= samples_count, rows.before_us if samples_count > 1 else rows.event_us
    if asked is not None:
        holds, since_us = verify.count(block, line, rows.slot, rows.event_us, over, asked)
    judged = Judged(
        slot=rows.slot,
        event_us=rows.event_us,
        since_us=since_us,
        holds=holds,
        calm=calm & ~over,
        gap=rows.gap,
    )
    return latch.follow(
        latch.of(block, line),
        judged,
        clear_us=timing.clear_s * SECOND_US,
        rearm_us=timing.rearm_s * SECOND_US,
    )


def follow_late(
    block: Block, line: str, rows: Late, timing: Timing, *, over: Bools, samples_count: int = 1
) -> list[tuple[int, int, float]]:
    """Rows of late readings that raise, each with the time and value of the one beside it."""
    slot, event_us = rows.slot, rows.event_us
    late_us, late_x = block[f"{line}.late_us"][slot], block[f"{line}.late_x"][slot]
    apart_us = timing.apart_s * SECOND_US
    other = (event_us != late_us) & ~(delivered_again(rows.flags) & (rows.x == late_x))
    beside_late = (late_us > 0) & other & (np.abs(event_us - late_us) <= apart_us)
    hit = block[f"{line}.hits_count"][slot] > 0
    beside_newest = hit & (rows.newest_us - event_us <= apart_us)
    enough = beside_late | beside_newest if samples_count > 1 else np.ones(len(slot), np.bool_)
    other_us = np.where(beside_newest, rows.newest_us, np.where(beside_late, late_us, event_us))
    judged = Judged(
        slot=slot,
        event_us=event_us,
        since_us=np.minimum(event_us, other_us) if samples_count > 1 else event_us,
        holds=over & enough,
        calm=np.zeros(len(slot), np.bool_),
        gap=np.zeros(len(slot), np.bool_),
    )
    events = latch.raise_late(latch.of(block, line), judged)
    block[f"{line}.late_us"][slot] = np.where(over, event_us, 0)
    block[f"{line}.late_x"][slot] = np.where(over, rows.x, np.float32(0))
    other_x = np.where(beside_newest, rows.newest, np.where(beside_late, late_x, rows.x))
    return [(row, int(other_us[row]), number(other_x[row])) for row, _, _ in events]


def mark_busy(block: Block, slot: Int64s, *lines: str) -> None:
    """Remember which of the slots some line has to look at next time (in place)."""
    busy = np.zeros(len(slot), np.bool_)
    for line in lines:
        busy |= (block[f"{line}.hits_count"][slot] > 0) | block[f"{line}.active"][slot]
    block["busy"][slot] = busy


def evidence_of(points: Points, rows: Ordered | Late, row: int, timing: Timing) -> Evidence:
    """What every finding of a level says; the rule adds limit and margin."""
    quantity = BY_CODE[int(points.quantity[rows.slot[row]])]
    found: Evidence = {
        "quantity": quantity.name,
        "unit": quantity.unit,
        "values": [number(rows.x[row])],
        "value_us": int(rows.event_us[row]),
        "clear_s": timing.clear_s,
    }
    if isinstance(rows, Ordered) and rows.before_us[row]:
        found["values"] = [number(rows.before[row]), number(rows.x[row])]
        found["before_us"] = int(rows.before_us[row])
    return found


def finding(
    rows: Ordered | Late,
    row: int,
    kind: Kind,
    tier: Tier,
    evidence: Evidence,
    *,
    phase: Phase = Phase.RAISE,
    onset_us: int | None = None,
) -> Finding:
    """The finding of a row; a raise begins with it."""
    event_us = int(rows.event_us[row])
    return Finding(
        slot=int(rows.slot[row]),
        kind=kind,
        tier=tier,
        phase=phase,
        onset_us=event_us if onset_us is None else onset_us,
        event_us=event_us,
        late=bool(rows.flags[row] & Flag.LATE),
        evidence=evidence,
    )


# --- fixed limits -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A fixed limit of one tier, whose line bears the tier's name.

    Over is at the limit and above, or, where `below`, under it. `calm`: the value on whose other
    side a reading is calm. `samples_count`: so many in a row.
    """

    tier: Tier
    kind: Kind
    limit: float
    calm: float
    samples_count: int
    below: bool = False

    def over(self, value: Float32s) -> Bools:
        """Where values are over the limit."""
        found: Bools = value < self.limit if self.below else value >= self.limit
        return found

    def is_calm(self, value: Float32s) -> Bools:
        """Where values are well on the good side of it."""
        found: Bools = value > self.calm if self.below else value < self.calm
        return found

    def said(self, value: float) -> Evidence:
        """Its part of the evidence."""
        margin = self.limit - value if self.below else value - self.limit
        return {
            "limit": self.limit,
            "margin": margin,
            "samples_count": self.samples_count,
            "clear_above" if self.below else "clear_below": self.calm,
        }


def judge(
    block: Block,
    limits: tuple[Limit, ...],
    timing: Timing,
    rows: Rows,
    points: Points,
    *,
    gap_s: float,
) -> list[Finding]:
    """Judge one round against fixed limits: all of a rule that knows nothing else."""
    ordered, late = split(block, rows, gap_s)
    any_over = block["busy"].take(ordered.slot)
    for limit in limits:
        any_over |= limit.over(ordered.x)
    index = np.flatnonzero(any_over)
    found: list[Finding] = []
    if len(index):
        near = ordered.only(index)
        for limit in limits:
            found += _ordered(block, limit, timing, near, points)
        mark_busy(block, near.slot, *(limit.tier for limit in limits))
    if late is not None:
        for limit in limits:
            found += judge_late(block, limit, timing, late, points)
    return found


def _ordered(
    block: Block, limit: Limit, timing: Timing, rows: Ordered, points: Points
) -> list[Finding]:
    events = follow(
        block,
        limit.tier,
        rows,
        timing,
        over=limit.over(rows.x),
        calm=limit.is_calm(rows.x),
        samples_count=limit.samples_count,
    )
    found = []
    for row, phase, onset_us in events:
        evidence = evidence_of(points, rows, row, timing) | limit.said(number(rows.x[row]))
        found += [
            finding(rows, row, limit.kind, limit.tier, evidence, phase=phase, onset_us=onset_us)
        ]
    return found


def judge_late(
    block: Block,
    limit: Limit,
    timing: Timing,
    rows: Late,
    points: Points,
    off: Float32s | None = None,
) -> list[Finding]:
    """Hold late readings against a fixed limit; `off` is taken from them first."""
    value = rows.x if off is None else rows.x - off
    judged = replace(rows, x=value)
    raised = follow_late(
        block, limit.tier, judged, timing, over=limit.over(value), samples_count=limit.samples_count
    )
    found = []
    for row, other_us, other in raised:
        evidence = evidence_of(points, rows, row, timing) | limit.said(number(value[row]))
        evidence |= {"out_of_order": True}
        if limit.samples_count > 1:
            evidence |= {"values": [other, number(rows.x[row])], "before_us": other_us}
        found += [finding(rows, row, limit.kind, limit.tier, evidence)]
    mark_busy_late(block, rows.slot, limit.tier)
    return found


def mark_busy_late(block: Block, slot: Int64s, line: str) -> None:
    """A late reading may have begun an onset: look at the point's next reading (in place)."""
    block["busy"][slot] |= block[f"{line}.active"][slot]
