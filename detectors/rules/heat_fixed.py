"""A temperature no certified heat detector of the class may ignore, in two samples.

Fire signature: the room at the sensor is burning hot, whatever it was before.
Misses: every fire that has not yet heated the sensor to its limit (in large rooms, most); it is the
path that needs no history, so it judges from a point's second reading on.
Source: EN 54-5:2017 table 1 and GB 4716-2005, static response minimum by class (`sizao.limits`);
two samples because single corrupt readings occur (6 in 0.48 quiet device-years measured).

Urgent: x >= limit in two samples in a row. Over when x stays 10 K under the limit for 3 min.

A sensor that has just jumped both ways (detectors/jumps.py) is believed later, not never: one that
is doubtful needs four readings in a row, a faulty one twelve without a jump down among them. So a
sensor that flickers and then stays hot alarms after 120 s at 10 s sampling, and as any other when
its counters have decayed.

Readings older than the newest of their point count too, apart from those in order: two late hot
ones with different event times, with no late cooler one between them, or one beside a hot newest
reading, at most 2 h apart; of a doubtful or faulty sensor as many as of those in order. So a fire
that a device reports only after it found its network again is said, as late; and an old cool
reading never takes a hit away from the live ones.

Worked example, class A1 (54 degC), no history: 53.9, 54.0, 55.0: urgent at the third. Class B
(69 degC): the same readings say nothing. 53.0, 200.0, 53.0: nothing. 79, 23, 70, 70, 116, 23 (a
broken sensor): down 1, up 1, so 70, 70, 116 are three of four: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import latch
from detectors.features import Heat, LateHeat, delivered_again
from detectors.latch import Judged
from detectors.rule import Array, Block, Bound, Column, Finding, Points, number
from sizao.frame import Flag
from sizao.limits import (
    CLEAR_BELOW_K,
    CLEAR_S,
    DOUBTFUL_SAMPLES_COUNT,
    FAULTY_SAMPLES_COUNT,
    REARM_S,
    SAMPLES_COUNT,
    STATIC_MINIMUM_C,
)
from sizao.signal import Evidence, Kind, Phase, Tier
from sizao.units import Lane

NAME = "heat_fixed"
VERSION = 2
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800
_SECOND_US = 1_000_000
_LOWEST_C = STATIC_MINIMUM_C.min()
_LINE = "urgent"

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("hits_count", "int8"),
    Column("late_us", "int64"),  # event time of the newest late hot reading, 0 for none
    Column("late_c", "float32"),
    Column("late_count", "int8"),  # late hot ones in a row
    *latch.columns(_LINE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """The limit itself is the class's (`sizao.limits`)."""

    samples_count: int = SAMPLES_COUNT
    doubtful_samples_count: int = DOUBTFUL_SAMPLES_COUNT
    faulty_samples_count: int = FAULTY_SAMPLES_COUNT
    clear_below_limit_k: float = CLEAR_BELOW_K
    clear_s: int = CLEAR_S
    rearm_s: int = REARM_S
    late_apart_s: int = 7200


BOUNDS = {
    "samples_count": Bound(SAMPLES_COUNT, SAMPLES_COUNT, "the bridge says the same past Kafka"),
    "doubtful_samples_count": Bound(
        DOUBTFUL_SAMPLES_COUNT, DOUBTFUL_SAMPLES_COUNT, "as samples_count"
    ),
    "faulty_samples_count": Bound(FAULTY_SAMPLES_COUNT, FAULTY_SAMPLES_COUNT, "as samples_count"),
    "clear_below_limit_k": Bound(CLEAR_BELOW_K, CLEAR_BELOW_K, "as samples_count"),
    "clear_s": Bound(CLEAR_S, CLEAR_S, "as samples_count"),
    "rearm_s": Bound(REARM_S, REARM_S, "as samples_count"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    index = ((rows.x_c >= _LOWEST_C) | block["busy"].take(rows.slot)).nonzero()[0]
    if not len(index):
        return []
    rows = rows.only(index)
    slot = rows.slot
    limit_c = points.heat_limit_c[slot]
    hot = rows.x_c >= limit_c
    wanted = _wanted(params, rows.doubtful, rows.faulty)
    before = np.where(rows.faulty & rows.fell, 0, block["hits_count"][slot])
    most = max(params.samples_count, params.doubtful_samples_count, params.faulty_samples_count)
    hits = np.where(hot, np.minimum(before + 1, most), 0)
    block["hits_count"][slot] = hits
    judged = Judged(
        slot=slot,
        event_us=rows.event_us,
        since_us=rows.before_us,
        holds=hits >= wanted,
        calm=rows.x_c < limit_c - params.clear_below_limit_k,
        gap=rows.gap,
    )
    events = latch.follow(
        latch.of(block, _LINE),
        judged,
        clear_us=params.clear_s * _SECOND_US,
        rearm_us=params.rearm_s * _SECOND_US,
    )
    _mark_busy(block, slot)
    found = []
    warm = rows.warm
    for row, phase, onset_us in events:
        evidence = _evidence(params, float(limit_c[row]), rows.before_c[row], rows.x_c[row])
        evidence |= {"before_us": int(rows.before_us[row]), "warm": bool(warm[row])}
        evidence |= {"samples_count": int(wanted[row])}
        found += [_finding(rows, row, phase, onset_us, evidence)]
    return found


def late(block: Block, params: Params, rows: LateHeat, points: Points) -> list[Finding]:
    """Judge one round of late readings."""
    slot, event_us = rows.slot, rows.event_us
    limit_c = points.heat_limit_c[slot]
    hot = rows.x_c >= limit_c
    late_us, late_c = block["late_us"][slot], block["late_c"][slot]
    apart_us = params.late_apart_s * _SECOND_US
    other = (event_us != late_us) & ~(delivered_again(rows.flags) & (rows.x_c == late_c))
    beside_late = (late_us > 0) & other & (np.abs(event_us - late_us) <= apart_us)
    beside_newest = (block["hits_count"][slot] > 0) & (rows.newest_us - event_us <= apart_us)
    other_us = np.where(beside_newest, rows.newest_us, late_us)
    near = beside_late | ((late_us > 0) & ~other)
    row_count = np.where(near, block["late_count"][slot], 0) + (other | (late_us == 0))
    row_count = np.where(hot, np.clip(row_count, 1, params.faulty_samples_count), 0)
    block["late_count"][slot] = row_count
    enough = row_count + np.where(beside_newest, block["hits_count"][slot], 0)
    enough = enough >= _wanted(params, rows.doubtful, rows.faulty)
    judged = Judged(
        slot=slot,
        event_us=event_us,
        since_us=np.minimum(event_us, other_us),
        holds=hot & (beside_late | beside_newest) & enough,
        calm=np.zeros(len(slot), np.bool_),
        gap=np.zeros(len(slot), np.bool_),
    )
    events = latch.raise_late(latch.of(block, _LINE), judged)
    block["late_us"][slot] = np.where(hot, event_us, 0)
    block["late_c"][slot] = np.where(hot, rows.x_c, np.float32(0))
    _mark_busy(block, slot)
    found = []
    for row, phase, onset_us in events:
        other_c = rows.newest_c[row] if beside_newest[row] else late_c[row]
        evidence = _evidence(params, float(limit_c[row]), other_c, rows.x_c[row])
        evidence |= {"before_us": int(other_us[row]), "out_of_order": True}
        found += [_finding(rows, row, phase, onset_us, evidence)]
    return found


def _wanted(params: Params, doubtful: Array, faulty: Array) -> Array:
    """How many readings in a row each point needs."""
    doubt = np.where(doubtful, params.doubtful_samples_count, params.samples_count)
    return np.where(faulty, params.faulty_samples_count, doubt)


def _mark_busy(block: Block, slot: Array) -> None:
    block["busy"][slot] = (block["hits_count"][slot] > 0) | block[f"{_LINE}.active"][slot]


def _evidence(params: Params, limit_c: float, other_c: Array, x_c: Array) -> Evidence:
    value_c = number(x_c)
    return {
        "quantity": "temperature_c",
        "unit": "degC",
        "values": [number(other_c), value_c],
        "limit_c": limit_c,
        "margin_k": value_c - limit_c,
        "samples_count": params.samples_count,
        "clear_below_c": limit_c - params.clear_below_limit_k,
        "clear_s": params.clear_s,
    }


def _finding(
    rows: Heat | LateHeat, row: int, phase: Phase, onset_us: int, evidence: Evidence
) -> Finding:
    event_us = int(rows.event_us[row])
    return Finding(
        slot=int(rows.slot[row]),
        kind=Kind.FIRE,
        tier=Tier.URGENT,
        phase=phase,
        onset_us=onset_us,
        event_us=event_us,
        late=bool(rows.flags[row] & Flag.LATE),
        evidence=evidence | {"value_us": event_us},
    )
