"""A thermometer that says what no air does: flickering up and down, or polar cold.

Fire signature: none; it names the sensor that would otherwise cry fire, or sleep through one.
Misses: a value that has not moved for days (`sizao quality` judges that, over days); a slow drift;
a sensor that fails in one direction only, since a fire does that too.
Source: counters of jumps up and of jumps down that decay with 900 s, both above 1.5 (measured on
recorded rooms, docs/packs.md). They mark the broken room 419 of the quiet pack from its 7th minute
on, nearly all week and before its first rise, and none of the other 24. Jumps in a row the same way
count once: counted one by one, a fire that grows and is put out made 176 of 480 recorded series
faulty; so it is 4, of sofas, minutes after their alarm. No place of the district is under -40 degC.

Jump: more than 15 K (the jump hold's) between two readings at most 30 min apart, if the jump before
went the other way. It counts 1 and what is left of the older ones: n = n * 900 s/(900 s + dt) + 1.
Early, kind fault: both counters at 1.5 or above ("flickering"), or two readings in a row under -40
degC ("impossible"). Over when neither holds, with both counters under half the limit, for 30 min.
Late readings say nothing.

Worked example: 20, 40, 20, 40, 20 degC, 10 s apart: up 1.96, down 1.98 at the fifth: early. 20, 40,
60, 90, 120, 100, 80 (a fire, put out): up 1, down 1, nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import latch
from detectors.features import Heat
from detectors.latch import Event, Judged
from detectors.rule import Array, Block, Bound, Column, Finding, Points, number
from sizao.frame import Flag
from sizao.signal import Evidence, Kind, Tier
from sizao.units import Lane

NAME = "sensor_fault"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800
_SECOND_US = 1_000_000
_LINE = "early"
_FORGOTTEN = np.float32(0.05)  # a counter that is none: the point needs no look any more

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("ups_count", "float32"),
    Column("downs_count", "float32"),
    Column("turned", "int8"),  # 1: its last jump was up, -1: down
    Column("cold_count", "int8"),
    *latch.columns(_LINE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`jumps_count`: of the decaying counters. `clear_share`: of it."""

    jump_k: float = 15.0
    jumps_count: float = 1.5
    decay_s: float = 900.0
    gap_s: float = 1800.0
    lowest_c: float = -40.0
    cold_samples_count: int = 2
    clear_share: float = 0.5
    clear_s: int = 1800
    rearm_s: int = 7200


BOUNDS = {
    "jumps_count": Bound(1, 4, "one jump is a door; decaying counters reach no five"),
    "decay_s": Bound(300, 3600, "jumps minutes apart must add up, days apart must not"),
    "lowest_c": Bound(-40, 0, "an open thermistor reads the end of its range"),
    "cold_samples_count": Bound(1, 2, "one may be corrupt"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    del points
    step_k = rows.x_c - rows.before_c
    odd = np.abs(step_k) > params.jump_k
    if np.count_nonzero(odd):
        odd &= rows.before_us > 0  # a first reading is no jump, and its point stays untouched
    odd |= rows.x_c < params.lowest_c
    index = (odd | block["busy"].take(rows.slot)).nonzero()[0]
    if not len(index):
        return []
    rows, step_k = rows.only(index), step_k[index]
    ups, downs = _counted(block, params, rows, step_k)
    slot = rows.slot
    cold = np.where(
        rows.x_c < params.lowest_c,
        np.minimum(block["cold_count"][slot] + 1, params.cold_samples_count),
        0,
    )
    block["cold_count"][slot] = cold
    both = np.minimum(ups, downs)
    impossible = cold >= params.cold_samples_count
    holds = (both >= params.jumps_count) | impossible
    judged = Judged(
        slot=slot,
        event_us=rows.event_us,
        since_us=rows.event_us,
        holds=holds,
        calm=~holds & (cold == 0) & (both < params.jumps_count * params.clear_share),
        gap=rows.event_us - rows.before_us > params.clear_s * _SECOND_US,
    )
    own = latch.of(block, _LINE)
    events = latch.follow(
        own, judged, clear_us=params.clear_s * _SECOND_US, rearm_us=params.rearm_s * _SECOND_US
    )
    block["busy"][slot] = (cold > 0) | (ups > 0) | (downs > 0) | own.active[slot]
    return [_finding(params, rows, event, ups, downs, impossible) for event in events]


def _counted(block: Block, params: Params, rows: Heat, step_k: Array) -> tuple[Array, Array]:
    """The jumps counted, these readings' too (in place)."""
    slot = rows.slot
    dt_s = (rows.event_us - rows.before_us).astype(np.float32) * np.float32(1e-6)
    gap = dt_s > params.gap_s
    left = np.float32(params.decay_s) / (np.float32(params.decay_s) + dt_s)
    left[gap] = 0
    turned = np.where(gap, 0, block["turned"][slot])
    found = []
    for name, sign in (("ups_count", 1), ("downs_count", -1)):
        jumps = ~gap & (step_k * sign > params.jump_k) & (turned != sign)
        count = block[name][slot] * left
        count[count < _FORGOTTEN] = 0
        count[jumps] += 1
        block[name][slot] = count
        turned = np.where(jumps, sign, turned)
        found += [count]
    block["turned"][slot] = turned
    return found[0], found[1]


def _finding(
    params: Params, rows: Heat, event: Event, ups: Array, downs: Array, impossible: Array
) -> Finding:
    row, phase, onset_us = event
    evidence: Evidence = {
        "quantity": "temperature_c",
        "unit": "degC",
        "fault": "impossible" if impossible[row] else "flickering",
        "values": [number(rows.before_c[row]), number(rows.x_c[row])],
        "before_us": int(rows.before_us[row]),
        "value_us": int(rows.event_us[row]),
        "jumps_up": number(ups[row]),
        "jumps_down": number(downs[row]),
        "limit": params.jumps_count,
        "jump_k": params.jump_k,
        "lowest_c": params.lowest_c,
        "clear_s": params.clear_s,
    }
    return Finding(
        slot=int(rows.slot[row]),
        kind=Kind.FAULT,
        tier=Tier.EARLY,
        phase=phase,
        onset_us=onset_us,
        event_us=int(rows.event_us[row]),
        late=bool(rows.flags[row] & Flag.LATE),
        evidence=evidence,
    )
