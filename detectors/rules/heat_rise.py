"""A temperature rises over its own slow baseline.

Fire signature: hot gas reaches the ceiling and warms a housed sensor by kelvins within minutes,
far below any fixed limit; remote and slow fires show here first.
Misses: smouldering without heat; fires slower than the baseline (about 0.2 K a minute); anything
in the first 600 s, and the first five readings, after a point was first read or was silent for over
30 min (not warm: fixed and device-said paths judge alone; what burns slowly by then has become the
baseline); a sensor that flickers. Steam and an oven door also rise.
Source: measured on recorded fires and quiet rooms (docs/packs.md, rows "rise 4 K" and "rise 6 K,
twice"): 4 K leads a guarded rate-of-rise detector by 11 s in near fires and 435 s in large bays, at
no alarm in 0.55 quiet device-years; no day of 1,441 quiet ones reached 4 K. The reading before an
alarm's only has to confirm that the rise is none of one corrupt reading, so 4 K will do for it.

Early: r >= 4 K with jump hold. Alarm: two readings in a row with r without jump hold >= 4 K, of
which this one is at 6 K, or rises by 4 K/min (detectors/rate.py): the rate at which a panel of the
trade lowers its fixed limit; a laboratory that warms up before its fire reached 3.4. Over when r
stays under half its limit for 3 min. Where the baseline was seeded during the onset (the sensor was
silent), r is taken over the baseline that the onset began with: coming back hot is not calm. A
doubtful sensor (detectors/jumps.py) needs four such readings; a faulty one
says nothing here, and the fixed path goes on. A rise of steam (detectors/moisture.py) is no alarm.
What the heating of the whole building adds (detectors/neighbours.py) is taken off r first.

Readings up to 5 min older than the newest of their point are held against the baseline as it is by
now: such a one is early if it is no jump over the newest one, and beside another at 4 K, the newest
or a late one, at most 2 min apart, an alarm if either is at 6 K.

Worked example: 20 degC for 20 min, read every 10 s, then 21, 23, 25, 27, 30. Baseline 20.0 to 20.1
throughout. r = 1, 3, 4.95, 6.9, 9.9: early at 25 degC, alarm at 27 (4.95 and 6.9 in a row).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import moisture, neighbours, onset
from detectors.features import Heat, LateHeat, delivered_again
from detectors.onset import Ends
from detectors.rule import Array, Block, Bound, Column, Finding, Points
from sizao.signal import Tier
from sizao.units import Lane

NAME = "heat_rise"
VERSION = 2
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800
_SECOND_US = 1_000_000

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("hits_count", "int8"),
    Column("late_us", "int64"),  # event time of the newest late reading that hit, 0 for none
    Column("late_c", "float32"),
    *onset.columns("early"),
    *onset.columns("alarm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Limits of rise. `confirm_rise_k`: of both readings of an alarm; `fast_k`: a minute.
    `clear_share`: of the limit, under which a reading is calm.
    """

    early_rise_k: float = 4.0
    alarm_rise_k: float = 6.0
    confirm_rise_k: float = 4.0
    alarm_samples_count: int = 2
    fast_k: float = 4.0
    doubtful_samples_count: int = 4
    late_apart_s: int = 120
    late_most_s: int = 300
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200


BOUNDS = {
    "confirm_rise_k": Bound(3, 8, "quiet rooms reach 3.4 K; of an alarm it is the lesser reading"),
    "fast_k": Bound(3, 30, "rooms warm by 3 K/min by themselves; the air over a stove by 30"),
    "doubtful_samples_count": Bound(2, 6, "one spike makes a doubt; a minute more is too late"),
    "late_most_s": Bound(60, 900, "a later reading stands over another baseline"),
    "early_rise_k": Bound(2, 8, "rooms do 2 K a day by themselves; 8.3 K/min is rate-of-rise"),
    "alarm_rise_k": Bound(4, 12, "under 4 steam and ovens; a class A1 head sounds by 20 to 45 K"),
    "alarm_samples_count": Bound(1, 2, "one may be corrupt; no latch counts further than two"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    lowest_k = min(params.early_rise_k, params.alarm_rise_k, params.confirm_rise_k)
    index = ((rows.rise_raw_k >= lowest_k) | block["busy"].take(rows.slot)).nonzero()[0]
    if not len(index):
        return []
    rows = rows.only(index)
    slot, sound = rows.slot, rows.sound(points)
    heating, steam, rate = neighbours.heating(rows, points), moisture.steam(rows), rows.rate
    held_k, raw_k = rows.rise_k - heating.off_k, rows.rise_raw_k - heating.off_k
    wanted = np.where(rows.doubtful, params.doubtful_samples_count, params.alarm_samples_count)
    hits = _hits(block, params, rows, sound & (raw_k >= params.confirm_rise_k))
    enough = (raw_k >= params.alarm_rise_k) | (rate.k_per_min >= params.fast_k)
    found = []
    for tier, holds, used_k, since_us in (
        (Tier.EARLY, sound & (held_k >= params.early_rise_k), held_k, rows.event_us),
        (Tier.ALARM, (hits >= wanted) & enough & ~steam.holds, raw_k, rows.before_us),
    ):
        ends, before = _ends(params, tier), (rows.before_us, rows.before_c)
        for event in onset.follow(block, tier, rows, holds, ends, since_us):
            row = event[0]
            said = onset.evidence(rows, row, used_k, _limit_k(params, tier), before)
            said |= steam.said(row) | heating.said(row) | {"confirmed_by_k": params.confirm_rise_k}
            said |= {"jump_hold": bool(rows.rise_k[row] != rows.rise_raw_k[row])}
            if tier is Tier.ALARM:
                said |= rate.said(row) | {"samples_count": int(wanted[row])}
            found += [onset.finding(rows, tier, event, said, ends)]
    _mark_busy(block, slot)
    return found


def _hits(block: Block, params: Params, rows: Heat, risen: Array) -> Array:
    """Readings in a row that have risen, this one too (in place)."""
    before = block["hits_count"][rows.slot]
    most = max(params.alarm_samples_count, params.doubtful_samples_count)
    hits = np.where(risen, np.minimum(before + 1, most), 0)
    block["hits_count"][rows.slot] = hits
    return hits


def late(block: Block, params: Params, rows: LateHeat, points: Points) -> list[Finding]:
    """Judge one round of late readings."""
    slot, event_us, rise_k = rows.slot, rows.event_us, rows.rise_k
    fresh = rows.newest_us - event_us <= params.late_most_s * _SECOND_US
    near = fresh & rows.sound(points)
    risen = near & (rise_k >= params.confirm_rise_k)
    early = near & (rise_k >= params.early_rise_k)
    if not (risen | early).any():
        block["late_us"][slot] = 0
        return []
    late_us, late_c = block["late_us"][slot], block["late_c"][slot]
    apart_us = params.late_apart_s * _SECOND_US
    other = (event_us != late_us) & ~(delivered_again(rows.flags) & (rows.x_c == late_c))
    beside_late = (late_us > 0) & other & (np.abs(event_us - late_us) <= apart_us)
    beside_newest = (block["hits_count"][slot] > 0) & (rows.newest_us - event_us <= apart_us)
    other_us = np.where(beside_newest, rows.newest_us, np.where(beside_late, late_us, event_us))
    other_c = np.where(beside_newest, rows.newest_c, np.where(beside_late, late_c, rows.x_c))
    higher_k = np.maximum(rise_k, other_c - rows.baseline_c)
    block["late_us"][slot] = np.where(risen, event_us, 0)
    block["late_c"][slot] = np.where(risen, rows.x_c, np.float32(0))
    held = rows.x_c - rows.newest_c > rows.params.jump_k
    two, steam = beside_newest | beside_late, moisture.steam(rows)
    found = []
    for tier, holds, used_k, since_us in (
        (Tier.EARLY, early & (~held | two), rise_k, event_us),
        (
            Tier.ALARM,
            risen & two & (higher_k >= params.alarm_rise_k) & ~steam.holds,
            higher_k,
            np.minimum(event_us, other_us),
        ),
    ):
        for event in onset.raise_late(block, tier, rows, holds, since_us):
            row, limit_k = event[0], _limit_k(params, tier)
            said = onset.evidence(rows, row, used_k, limit_k, (other_us, other_c))
            said |= steam.said(row) | {"out_of_order": True}
            found += [onset.finding(rows, tier, event, said, _ends(params, tier))]
    _mark_busy(block, slot)
    return found


def _limit_k(params: Params, tier: Tier) -> float:
    return params.early_rise_k if tier is Tier.EARLY else params.alarm_rise_k


def _ends(params: Params, tier: Tier) -> Ends:
    return Ends(
        below_k=_limit_k(params, tier) * params.clear_share,
        clear_s=params.clear_s,
        rearm_s=params.rearm_s,
    )


def _mark_busy(block: Block, slot: Array) -> None:
    active = block["early.active"][slot] | block["alarm.active"][slot]
    block["busy"][slot] = (block["hits_count"][slot] > 0) | active
