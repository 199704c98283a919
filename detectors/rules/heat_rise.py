"""A temperature rises over its own slow baseline.

Fire signature: hot gas reaches the ceiling and warms a housed sensor by kelvins within minutes,
far below any fixed limit; remote and slow fires show here first.
Misses: smouldering without heat; fires slower than the baseline (about 0.2 K a minute); anything
in the first 600 s, and the first five readings, after a point was first read or was silent for over
30 min (not warm: fixed and device-said paths judge alone; what burns slowly by then has become the
baseline). Steam and an oven door also rise.
Source: measured on recorded fires and quiet rooms (docs/packs.md, rows "rise 4 K" and "rise 6 K,
twice"): 4 K leads a guarded rate-of-rise detector by 11 s in near fires and 435 s in large bays, at
no alarm in 0.55 quiet device-years; 6 K twice keeps a single corrupt reading from alarming.

Early: r >= 4 K with jump hold. Alarm: r without jump hold >= 6 K in two samples in a row. Over
when r stays under half its limit for 3 min. Where the baseline was seeded during the onset (the
sensor was silent), r is taken over the baseline that the onset began with: coming back hot is not
calm.

Worked example: 20 degC for 20 min, read every 10 s, then 21, 23, 25, 27, 30. Baseline 20.0 to 20.1
throughout. r = 1, 3, 4.95, 6.9, 9.9: early at 25 degC, alarm at 30 (6.9 and 9.9 in a row).
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

NAME = "heat_rise"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800
_SECOND_US = 1_000_000

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("hits_count", "int8"),
    Column("early.baseline_c", "float32"),  # what the onset was taken over
    Column("alarm.baseline_c", "float32"),
    *latch.columns("early"),
    *latch.columns("alarm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Limits of rise. `clear_share`: of the limit, under which a reading is calm."""

    early_rise_k: float = 4.0
    alarm_rise_k: float = 6.0
    alarm_samples_count: int = 2
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200


BOUNDS = {
    "early_rise_k": Bound(2, 8, "rooms do 2 K a day by themselves; 8.3 K/min is rate-of-rise"),
    "alarm_rise_k": Bound(4, 12, "under 4 steam and ovens; a class A1 head sounds by 20 to 45 K"),
    "alarm_samples_count": Bound(1, 2, "one may be corrupt; no latch counts further than two"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    del points
    lowest_k = min(params.early_rise_k, params.alarm_rise_k)
    index = ((rows.rise_raw_k >= lowest_k) | block["busy"].take(rows.slot)).nonzero()[0]
    if not len(index):
        return []
    rows = rows.only(index)
    slot = rows.slot
    warm = rows.warm
    hits = np.where(
        warm & (rows.rise_raw_k >= params.alarm_rise_k),
        np.minimum(block["hits_count"][slot] + 1, params.alarm_samples_count),
        0,
    )
    block["hits_count"][slot] = hits
    holds_early = warm & (rows.rise_k >= params.early_rise_k)
    early = _line(block, params, rows, Tier.EARLY, holds_early, warm)
    alarm = _line(block, params, rows, Tier.ALARM, hits >= params.alarm_samples_count, warm)
    block["busy"][slot] = (hits > 0) | block["early.active"][slot] | block["alarm.active"][slot]
    return early + alarm


def _line(
    block: Block, params: Params, rows: Heat, tier: Tier, holds: Array, warm: Array
) -> list[Finding]:
    own, slot = latch.of(block, tier), rows.slot
    limit_k = params.early_rise_k if tier is Tier.EARLY else params.alarm_rise_k
    began_with = block[f"{tier}.baseline_c"]
    seeded_since = rows.seed_us > own.onset_us[slot]
    over_k = np.where(seeded_since, rows.x_c - began_with[slot], rows.rise_raw_k)
    twice = tier is Tier.ALARM
    judged = Judged(
        slot=slot,
        event_us=rows.event_us,
        since_us=rows.before_us if twice else rows.event_us,
        holds=holds,
        calm=~holds & (over_k < limit_k * params.clear_share),
        gap=rows.gap,
    )
    events = latch.follow(
        own, judged, clear_us=params.clear_s * _SECOND_US, rearm_us=params.rearm_s * _SECOND_US
    )
    begun = own.active[slot] & (own.onset_us[slot] == rows.event_us)
    began_with[slot[begun]] = rows.baseline_c[begun]
    return [
        _finding(params, rows, tier, event, limit_k=limit_k, warm=bool(warm[event[0]]))
        for event in events
    ]


def _finding(
    params: Params, rows: Heat, tier: Tier, event: Event, *, limit_k: float, warm: bool
) -> Finding:
    row, phase, onset_us = event
    rise_k = number((rows.rise_raw_k if tier is Tier.ALARM else rows.rise_k)[row])
    evidence: Evidence = {
        "quantity": "temperature_c",
        "unit": "degC",
        "values": [number(rows.before_c[row]), number(rows.x_c[row])],
        "baseline_c": number(rows.baseline_c[row]),
        "rise_k": rise_k,
        "limit_k": limit_k,
        "margin_k": rise_k - limit_k,
        "jump_hold": bool(rows.rise_k[row] != rows.rise_raw_k[row]),
        "warm": warm,
        "samples_count": params.alarm_samples_count if tier is Tier.ALARM else 1,
        "before_us": int(rows.before_us[row]),
        "value_us": int(rows.event_us[row]),
        "clear_below_k": limit_k * params.clear_share,
        "clear_s": params.clear_s,
    }
    return Finding(
        slot=int(rows.slot[row]),
        kind=Kind.FIRE,
        tier=tier,
        phase=phase,
        onset_us=onset_us,
        event_us=int(rows.event_us[row]),
        late=bool(rows.flags[row] & Flag.LATE),
        evidence=evidence,
    )
