"""Smoke and CO rise together, which little else than burning does.

Fire signature: what smoulders gives particles and CO at once, at levels where neither means much
alone; dust and steam bring no CO, exhaust brings little that a chamber sees.
Misses: clean flames with much air; places without both sensors; the first 10 min of a CO sensor.
Cigarettes, incense and burnt food are smouldering too.
Source: product of smoke and CO rise (Gottuk et al., Fire Safety J. 37, 2002: fewer false alarms and
sooner than standard detectors). The limit of 10 % a metre times ppm is quoted from memory, and was
found with an ionisation chamber, which sees flames better than ours: no pack at hand holds smoke
and CO of one place, so nothing here is measured. The least of each (ten steps of a usual chamber,
and three ppm) keeps rounding and noise from being multiplied.

Alarm: obscuration in % a metre, 100 (1 - 10^-smoke), times ppm of CO reach 10, both the sure rises
of seen.py (what no single reading can have made), and at least 0.01 per m and 3 ppm. Over when
the product of the newest rises is under half of it for 3 min.

Worked example: 0 per m and 1 ppm for 20 min, read every 10 s, then 0.01 and 3, 0.02 and 6. At the
first nothing is sure. At the second 0.02 per m is (4.5 %), and of CO 4 ppm, since 2 before foretold
no more: 18, an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detectors import places
from detectors.channels import CO, SMOKE, Float32s
from detectors.places import Line
from detectors.rule import Block, Bound, Finding, Points, number
from detectors.seen import Seen
from detectors.verify import Verify
from sizao.signal import Evidence, Kind, Tier
from sizao.units import Lane

NAME = "smoke_co"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("smoke_od_per_m", "co_ppm")
JOINS = True
MEMORY_S = 1800
COLUMNS = places.columns("alarm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`alarm_pct_ppm`: obscuration in % a metre, times CO rise."""

    alarm_pct_ppm: float = 10.0
    smoke_least_per_m: float = 0.01
    co_least_ppm: float = 3.0
    verify_m_count: int = 1
    verify_n_count: int = 1
    verify_window_s: float = 0.0
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200


BOUNDS = {
    "alarm_pct_ppm": Bound(5, 100, "noise of both sensors; 4 % a metre and 25 ppm"),
    "smoke_least_per_m": Bound(0.003, 0.05, "three steps of a chamber; nearly its own alarm"),
    "co_least_ppm": Bound(1, 15, "one step; a whole fire of the sum"),
}


def step(block: Block, params: Params, rows: Seen, points: Points) -> list[Finding]:
    """Judge the places of one turn."""
    line = _line(params)
    smoke, co_ppm = rows.sure[SMOKE], rows.sure[CO]
    product = _product(smoke, co_ppm)
    over = product >= np.float32(params.alarm_pct_ppm)
    over &= (smoke >= np.float32(params.smoke_least_per_m)) & (
        co_ppm >= np.float32(params.co_least_ppm)
    )
    left = places.rises(block, Tier.ALARM, rows)
    calm_below = params.alarm_pct_ppm * params.clear_share
    calm = _product(left[SMOKE], left[CO]) < np.float32(calm_below)
    spoke = np.zeros_like(rows.live)
    spoke[SMOKE:] = True
    events = places.follow(block, line, rows, over=over, calm=calm, spoke=spoke)
    places.mark_busy(block, rows, Tier.ALARM)
    found = []
    for event in events:
        value = number(product[event[0]])
        evidence: Evidence = {
            "product": value,
            "limit": params.alarm_pct_ppm,
            "margin": value - params.alarm_pct_ppm,
            "clear_below": calm_below,
        }
        found += [places.finding(rows, event, Kind.FIRE, line, points, evidence)]
    return found


def _product(smoke_per_m: Float32s, co_ppm: Float32s) -> Float32s:
    obscured_pct = 100 * (1 - np.power(np.float32(10), -np.maximum(smoke_per_m, 0)))
    found: Float32s = obscured_pct * np.maximum(co_ppm, 0)
    return found


@lru_cache(maxsize=64)
def _line(params: Params) -> Line:
    verify = Verify(params.verify_m_count, params.verify_n_count, params.verify_window_s)
    return Line(tier=Tier.ALARM, verify=verify, clear_s=params.clear_s, rearm_s=params.rearm_s)
