"""Small rises of a temperature that go on: a one-sided sum over the point's own noise.

Fire signature: a slow or remote fire, which warms the sensor by two or three kelvins for minutes.
Misses: what is slower than the baseline (about 0.2 K a minute), smouldering without heat; nothing
in the first ten minutes (not warm); a sensor that flickers, or of a class with suffix S.
Source: one-sided CUSUM, k = 4 and h = 60 set on recorded rooms (detection.md sections 5 and 6):
7 s earlier than 4 K in large bays (docs/packs.md), nothing in 0.55 quiet device-years; but six of
480 places of a laboratory that warmed up before its fires. The cap keeps the way back short.

    s += dt/(1800 s + dt) * (min(|r|, 2 K) - s), at least 0.1 K: what the point does by itself
    S = clip(S + w * (r/s - 4), 0, 90), w = dt/10 s, at most 3

r is the rise with jump hold, less what the heating of the building adds (detectors/neighbours.py).
Early: S >= 60 and r >= 2 K. Over when r stays under 1 K for 3 min. Late readings say nothing here.

Worked example: 20 degC for 20 min, read every 10 s, s at 0.1 K; then 20.5, 21, 21.5, 22, 22.5. r/s
is 5, 9.9, 14.7, 19.4, 23.9, less 4: S = 1, 6.8, 17.4, 32.8, 52.7, and at the next, 23: 76: early.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import neighbours, onset
from detectors.features import Heat
from detectors.onset import Ends
from detectors.rule import Array, Block, Bound, Column, Finding, Points, number
from sizao.signal import Tier
from sizao.units import Lane

NAME = "heat_cusum"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("noise_k", "float32"),
    Column("sum_count", "float32"),
    *onset.columns("early"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`shift_count`, `sum_count`, `most_count`: k, h and the cap of S, in units of the noise."""

    rise_k: float = 2.0
    shift_count: float = 4.0
    sum_count: float = 60.0
    most_count: float = 90.0
    noise_tau_s: float = 1800.0
    noise_most_k: float = 2.0
    noise_least_k: float = 0.1
    weight_s: float = 10.0
    weight_most_count: float = 3.0
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200


BOUNDS = {
    "rise_k": Bound(1, 6, "rooms do 2 K a day by themselves; 4 K is heat_rise's"),
    "shift_count": Bound(2, 8, "half the shift that is worth finding"),
    "sum_count": Bound(20, 80, "rooms wander, they are no white noise; the cap is 90"),
    "most_count": Bound(90, 300, "under the limit it never speaks; higher, it is late to forget"),
    "noise_tau_s": Bound(600, 86_400, "faster, a fire is taken for noise"),
    "noise_most_k": Bound(0.5, 5, "higher, a fire is taken for noise"),
    "noise_least_k": Bound(0.05, 0.5, "the resolution of the sensor"),
    "weight_s": Bound(5, 60, "the usual interval of a lively sensor"),
    "weight_most_count": Bound(1, 6, "one reading behind a silence is no sum"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    noise_k = _noise(block, params, rows)
    least = params.shift_count * params.noise_least_k
    index = np.flatnonzero((rows.rise_k >= least) | block["busy"].take(rows.slot))
    if not len(index):
        return []
    rows, noise_k = rows.only(index), noise_k[index]
    slot, sound, heating = rows.slot, rows.sound(points), neighbours.heating(rows, points)
    rise_k = rows.rise_k - heating.off_k
    dt_s = (rows.event_us - rows.before_us).astype(np.float32) * np.float32(1e-6)
    weight = np.minimum(dt_s / np.float32(params.weight_s), np.float32(params.weight_most_count))
    added = weight * (rise_k / noise_k - np.float32(params.shift_count))
    total = np.clip(block["sum_count"][slot] + added, 0, np.float32(params.most_count))
    total[~sound | rows.gap] = 0
    block["sum_count"][slot] = total
    holds = sound & (total >= params.sum_count) & (rise_k >= params.rise_k)
    ends = Ends(
        below_k=params.rise_k * params.clear_share, clear_s=params.clear_s, rearm_s=params.rearm_s
    )
    found = []
    for event in onset.follow(block, Tier.EARLY, rows, holds, ends, rows.event_us):
        row = event[0]
        before = (rows.before_us, rows.before_c)
        said = onset.evidence(rows, row, rise_k, params.rise_k, before) | heating.said(row)
        said |= {
            "sum": number(total[row]),
            "sum_limit": params.sum_count,
            "sum_added": number(added[row]),
            "noise_k": number(noise_k[row]),
            "shift": params.shift_count,
        }
        found += [onset.finding(rows, Tier.EARLY, event, said, ends)]
    block["busy"][slot] = (total > 0) | block["early.active"][slot]
    return found


def _noise(block: Block, params: Params, rows: Heat) -> Array:
    """What each point does by itself, before this reading adds to it (in place)."""
    noise_k = block["noise_k"].take(rows.slot)
    dt_s = (rows.event_us - rows.before_us).astype(np.float32) * np.float32(1e-6)
    off_k = np.minimum(np.abs(rows.rise_k), np.float32(params.noise_most_k)) - noise_k
    off_k *= dt_s / (np.float32(params.noise_tau_s) + dt_s)
    off_k[rows.gap] = 0
    block["noise_k"][rows.slot] = noise_k + off_k
    return np.maximum(noise_k, np.float32(params.noise_least_k))
