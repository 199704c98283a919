"""Thermometers of one area rise together: neighbours confirm each other.

Fire signature: hot gas spreads under a ceiling and warms several sensors within a minute, each by
little.
Misses: an area with one thermometer (two make no three); fires slower than the baselines; sensors
that flicker, are not warm, or are of a class with suffix S. Steam does it too, in a small room.
Source: measured on recorded fires (detection.md sections 3 and 6): three at 1.5 K find 25 of 26
fires in hangars at 85 s on average, one at 4 K 23 at 125 s. But three alone spoke before ignition
in 7 of 42 house tests, since heating does that as well. So they are an early, and none of them may
rise slowly (under 1 K/min); a device that rises by itself and is confirmed is an alarm.

Neighbours are devices of the same area, the smallest that the registry knows of each; where it
knows no more than the site, those of the site that stand there. r is the rise with jump hold, less
what the heating of the building adds (detectors/neighbours.py).
Alarm: r >= 4 K at a device whose reading before was at 1.5 K already (one corrupt reading is not),
and r >= 1.5 K at two neighbours within the 60 s before. Early: r >= 1.5 K here and at two
neighbours within 60 s, all of them by 1 K/min. Judged at the device's own readings; what a
neighbour said later is not looked at. Over when r stays under half its limit for 3 min. Late
readings say nothing. Steam does not touch it: no kettle warms three.

Worked example: A, B and C of one room at 20 degC for 20 min, read every 10 s, then A 22, 24.5, B
and C 20.5, 21.8: r of A 2, 4.5, of B and C 0.5, 1.8. At the second reading A is an alarm, and all
three are early.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import neighbours, onset
from detectors.features import Heat
from detectors.onset import Ends
from detectors.rule import Array, Block, Bound, Column, Finding, Points, number
from sizao.signal import Evidence, Tier
from sizao.units import Lane

NAME = "heat_zone"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800
_SECOND_US = 1_000_000
_NAMED = 8  # neighbours that the evidence names at most

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("risen_us", "int64"),  # newest reading at 1.5 K
    Column("risen_k", "float32"),
    Column("fast_us", "int64"),  # newest of those that did not rise slowly
    Column("older_us", "int64"),  # the two before them
    Column("older_k", "float32"),
    Column("older_fast_us", "int64"),
    *onset.columns("early"),
    *onset.columns("alarm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`neighbours_count`: besides the device itself; `slow_k`: a minute."""

    alarm_rise_k: float = 4.0
    neighbour_rise_k: float = 1.5
    neighbours_count: int = 2
    within_s: int = 60
    slow_k: float = 1.0
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200


BOUNDS = {
    "alarm_rise_k": Bound(3, 8, "quiet rooms reach 3.4 K; heat_rise needs no neighbours at 6"),
    "neighbour_rise_k": Bound(1, 3, "rooms do 1 K together; 3 K at all of three is late"),
    "neighbours_count": Bound(1, 2, "two agree at least; few rooms have more than three"),
    "within_s": Bound(30, 300, "an interval of lively sensors; heating takes minutes"),
    "slow_k": Bound(0.5, 2, "heating is slower, a fire under the same ceiling faster"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    index = np.flatnonzero((rows.rise_k >= params.neighbour_rise_k) | block["busy"].take(rows.slot))
    if not len(index):
        return []
    rows = rows.only(index)
    slot, heating, rate = rows.slot, neighbours.heating(rows, points), rows.rate
    rise_k = rows.rise_k - heating.off_k
    risen = rows.sound(points) & (rise_k >= params.neighbour_rise_k)
    fast = risen & (rate.k_per_min >= params.slow_k)
    _mark(block, rows, rise_k, risen, fast)
    before_k = rows.before_c - rows.baseline_c - heating.off_k
    leads = risen & (rise_k >= params.alarm_rise_k) & (before_k >= params.neighbour_rise_k)
    around = _around(block, params, rows, points, leads | fast)
    found = []
    for tier, holds, limit_k in (
        (Tier.EARLY, fast & (around.fast >= params.neighbours_count), params.neighbour_rise_k),
        (Tier.ALARM, leads & (around.risen >= params.neighbours_count), params.alarm_rise_k),
    ):
        ends = Ends(
            below_k=limit_k * params.clear_share, clear_s=params.clear_s, rearm_s=params.rearm_s
        )
        for event in onset.follow(block, tier, rows, holds, ends, rows.event_us):
            row = event[0]
            before = (rows.before_us, rows.before_c)
            said = onset.evidence(rows, row, rise_k, limit_k, before) | heating.said(row)
            said |= rate.said(row) | around.said(params, rows, points, row)
            found += [onset.finding(rows, tier, event, said, ends)]
    active = block["early.active"][slot] | block["alarm.active"][slot]
    block["busy"][slot] = active | _within(params, rows.event_us, block["risen_us"][slot])
    return found


def _mark(block: Block, rows: Heat, rise_k: Array, risen: Array, fast: Array) -> None:
    """Remember who has risen, and when (in place)."""
    slot = rows.slot[risen]
    for older, newer in (("older_us", "risen_us"), ("older_k", "risen_k")):
        block[older][slot] = block[newer][slot]
    block["risen_us"][slot], block["risen_k"][slot] = rows.event_us[risen], rise_k[risen]
    slot = rows.slot[fast]
    block["older_fast_us"][slot] = block["fast_us"][slot]
    block["fast_us"][slot] = rows.event_us[fast]


@dataclass(frozen=True, slots=True)
class _Around:
    """Of rows: how many neighbours have risen, and not slowly; and who they are."""

    risen: Array
    fast: Array
    row: Array  # of each neighbour below, by row
    slot: Array
    at_us: Array
    k: Array

    def said(self, params: Params, rows: Heat, points: Points, row: int) -> Evidence:
        """Its part of the evidence: the neighbours, those that rose most first."""
        mine = np.flatnonzero(self.row == row)
        mine = mine[np.argsort(-self.k[mine], kind="stable")][:_NAMED]
        return {
            "neighbours_count": int(self.risen[row]),
            "neighbours": [int(points.device[self.slot[one]]) for one in mine],
            "neighbours_rise_k": [number(self.k[one]) for one in mine],
            "neighbours_us": [int(self.at_us[one]) for one in mine],
            "neighbour_limit_k": params.neighbour_rise_k,
            "within_s": params.within_s,
            "area": int(points.area[rows.slot[row]]),
        }


def _around(block: Block, params: Params, rows: Heat, points: Points, asks: Array) -> _Around:
    """Who else has risen in the areas of the rows that ask."""
    count = len(rows.slot)
    asking = np.flatnonzero(asks)
    # Those that rise: few, however many points there are.
    others = np.flatnonzero(block["busy"])
    others = np.union1d(others, rows.slot)
    others = others[np.argsort(points.area[others], kind="stable")]
    areas = points.area[others]
    first = np.searchsorted(areas, points.area[rows.slot[asking]], side="left")
    last = np.searchsorted(areas, points.area[rows.slot[asking]], side="right")
    sizes = last - first
    row = np.repeat(asking, sizes)
    starts = np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    slot = others[starts + np.arange(len(row))]
    apart = points.device[slot] != points.device[rows.slot[row]]
    row, slot = row[apart], slot[apart]
    now_us = rows.event_us[row]
    at_us, k = block["risen_us"][slot], block["risen_k"][slot]
    newer = at_us > now_us
    at_us, k = (
        np.where(newer, block["older_us"][slot], at_us),
        np.where(newer, block["older_k"][slot], k),
    )
    fast_us = block["fast_us"][slot]
    fast_us = np.where(fast_us > now_us, block["older_fast_us"][slot], fast_us)
    risen, fast = _within(params, now_us, at_us), _within(params, now_us, fast_us)
    device = points.device[slot]
    return _Around(
        risen=_devices(row[risen], device[risen], count),
        fast=_devices(row[fast], device[fast], count),
        row=row[risen],
        slot=slot[risen],
        at_us=at_us[risen],
        k=k[risen],
    )


def _within(params: Params, now_us: Array, at_us: Array) -> Array:
    inside: Array = (at_us > 0) & (at_us <= now_us)
    return inside & (now_us - at_us <= params.within_s * _SECOND_US)


def _devices(row: Array, device: Array, count: int) -> Array:
    """How many devices there are by row; a device with two thermometers is one."""
    pairs = np.unique((row.astype(np.int64) << 32) | device.astype(np.int64))
    found: Array = np.bincount(pairs >> 32, minlength=count)
    return found
