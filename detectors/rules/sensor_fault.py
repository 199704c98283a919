"""A thermometer that says what no air does: flickering up and down, or polar cold.

Fire signature: none; it names the sensor that would otherwise cry fire, or sleep through one.
Misses: a value that has not moved for days (`sizao quality` judges that, over days); a slow drift;
a sensor that fails in one direction only, since a fire does that too.
Source: the counters of jumps that all heat rules share (detectors/jumps.py, with their figures). No
place of the district is under -40 degC.

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

from detectors import jumps, latch
from detectors.features import Heat
from detectors.latch import Event, Judged
from detectors.rule import Array, Block, Bound, Column, Finding, Points, number
from sizao.frame import Flag
from sizao.signal import Evidence, Kind, Tier
from sizao.units import Lane

NAME = "sensor_fault"
VERSION = 2
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800
_SECOND_US = 1_000_000
_LINE = "early"

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("cold_count", "int8"),
    *latch.columns(_LINE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What flickers is the features' to say, and when it is over (detectors/jumps.py)."""

    lowest_c: float = -40.0
    cold_samples_count: int = 2
    clear_s: int = 1800
    rearm_s: int = 7200


BOUNDS = {
    "lowest_c": Bound(-40, 0, "an open thermistor reads the end of its range"),
    "cold_samples_count": Bound(1, 2, "one may be corrupt"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    del points
    odd = rows.block["jumpy"].take(rows.slot) | (rows.x_c < params.lowest_c)
    index = (odd | block["busy"].take(rows.slot)).nonzero()[0]
    if not len(index):
        return []
    rows = rows.only(index)
    slot = rows.slot
    cold = np.where(
        rows.x_c < params.lowest_c,
        np.minimum(block["cold_count"][slot] + 1, params.cold_samples_count),
        0,
    )
    block["cold_count"][slot] = cold
    both = jumps.both(rows.block, slot)
    impossible = cold >= params.cold_samples_count
    holds = (both >= rows.params.flicker.faulty_count) | impossible
    judged = Judged(
        slot=slot,
        event_us=rows.event_us,
        since_us=rows.event_us,
        holds=holds,
        calm=~holds & (cold == 0) & (both < rows.params.flicker.sound_count),
        gap=rows.event_us - rows.before_us > params.clear_s * _SECOND_US,
    )
    own = latch.of(block, _LINE)
    events = latch.follow(
        own, judged, clear_us=params.clear_s * _SECOND_US, rearm_us=params.rearm_s * _SECOND_US
    )
    block["busy"][slot] = (cold > 0) | own.active[slot]
    return [_finding(params, rows, event, impossible) for event in events]


def _finding(params: Params, rows: Heat, event: Event, impossible: Array) -> Finding:
    row, phase, onset_us = event
    slot, flicker = rows.slot[row], rows.params.flicker
    evidence: Evidence = {
        "quantity": "temperature_c",
        "unit": "degC",
        "fault": "impossible" if impossible[row] else "flickering",
        "values": [number(rows.before_c[row]), number(rows.x_c[row])],
        "before_us": int(rows.before_us[row]),
        "value_us": int(rows.event_us[row]),
        "jumps_up": number(rows.block["ups_count"][slot]),
        "jumps_down": number(rows.block["downs_count"][slot]),
        "limit": flicker.faulty_count,
        "jump_k": flicker.jump_k,
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
