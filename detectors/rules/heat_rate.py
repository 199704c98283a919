"""A temperature rises as fast as a rate-of-rise heat detector answers to.

Fire signature: a flaming fire near the sensor; what certified detectors of EN 54-5 with suffix R
find. It needs a minute of history where `heat_rise` needs ten.
Misses: every fire that grows slower than 8.3 K/min at the sensor (in large rooms, most); sensors of
a class with suffix S, which must not answer to a rate; a sensor that flickers.
Source: 8.3 K/min is the rate of common practice, guarded twice as in the packs' baseline
(docs/packs.md, "A1R, guarded": no alarm in 0.55 quiet device-years, three kettles of four, which
steam takes back). 20 K is what the lower limits of EN 54-5 at 10, 20 and 30 K/min come to, of
every class but A1 (10 K); all windows of all classes are kept (docs/en54-5.md).

Alarm: 8.3 K/min (detectors/rate.py) and r >= 20 K in two readings in a row, four of a doubtful
sensor. Where the baseline is not warm, r means little, and 10 K under the class's static minimum
stands for it: a sensor that was cold when it was mounted warms as fast, but not to 44 degC. Over
when r stays under 10 K for 3 min. Steam is no alarm (detectors/moisture.py). Late readings say
nothing here.

Worked example: 20 degC for 20 min, read every 10 s, then 25, 31, 37, 42, 47. r = 5, 10.9, 16.9,
21.8 and 26.8, and over 8.3 K/min from the third on at the latest: alarm at 47 degC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import moisture, onset
from detectors.features import Heat
from detectors.onset import Ends
from detectors.rule import Block, Bound, Column, Finding, Points
from sizao.signal import Tier
from sizao.units import Lane

NAME = "heat_rate"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("temperature_c",)
MEMORY_S = 1800

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # something below is not untouched: look at the point's next reading
    Column("hits_count", "int8"),
    *onset.columns("alarm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`rate_k`: a minute. `cold_below_limit_k`: under the class's limit, for points not warm."""

    rate_k: float = 8.3
    rise_k: float = 20.0
    young_rise_k: float = 3.0
    samples_count: int = 2
    doubtful_samples_count: int = 4
    cold_below_limit_k: float = 10.0
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200


BOUNDS = {
    "rate_k": Bound(5, 15, "weather does 2 K/min; at 10 K/min a detector must answer"),
    "rise_k": Bound(10, 30, "class A1 may answer at 10 K; 54 degC come next"),
    "young_rise_k": Bound(2, 8, "noise is less; more hides a fire behind a young baseline"),
    "doubtful_samples_count": Bound(2, 6, "one spike makes a doubt; a minute more is too late"),
    "cold_below_limit_k": Bound(0, 15, "lower, a sensor from the cold alarms where it is mounted"),
}


def step(block: Block, params: Params, rows: Heat, points: Points) -> list[Finding]:
    """Judge one round of readings in order."""
    index = np.flatnonzero((rows.rise_raw_k >= params.young_rise_k) | block["busy"].take(rows.slot))
    if not len(index):
        return []
    rows = rows.only(index)
    slot, rate, steam = rows.slot, rows.rate, moisture.steam(rows)
    hot = rows.x_c >= points.heat_limit_c[slot] - params.cold_below_limit_k
    fast = (rate.k_per_min >= params.rate_k) & ~rows.faulty & ~points.static_only[slot]
    fast &= np.where(
        rows.warm, rows.rise_raw_k >= params.rise_k, hot & (rows.rise_raw_k >= params.young_rise_k)
    )
    wanted = np.where(rows.doubtful, params.doubtful_samples_count, params.samples_count)
    before = block["hits_count"][slot]
    most = max(params.samples_count, params.doubtful_samples_count)
    hits = np.where(fast, np.minimum(before + 1, most), 0)
    block["hits_count"][slot] = hits
    ends = Ends(
        below_k=params.rise_k * params.clear_share, clear_s=params.clear_s, rearm_s=params.rearm_s
    )
    holds = (hits >= wanted) & ~steam.holds
    found = []
    for event in onset.follow(block, Tier.ALARM, rows, holds, ends, rows.before_us):
        row = event[0]
        before_row = (rows.before_us, rows.before_c)
        said = onset.evidence(rows, row, rows.rise_raw_k, params.rise_k, before_row)
        said |= {"rate_limit_k_per_min": params.rate_k, "samples_count": int(wanted[row])}
        found += [
            onset.finding(rows, Tier.ALARM, event, said | rate.said(row) | steam.said(row), ends)
        ]
    block["busy"][slot] = (hits > 0) | block["alarm.active"][slot]
    return found
