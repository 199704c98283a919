"""Heat, smoke and CO of one place add up to a fire.

Fire signature: hot gas, particles and CO come together; half a limit of two of them is a fire
where each alone would still be a kitchen or a heater.
Misses: places with one kind of sensor (each kind has its own rule); clean or remote fires of which
one kind sees nothing and the other less than its own limit; heat and CO within 10 min after a
sensor was first read, or was silent for over 30 min (smoke counts at once). Steam makes heat and
particles too, and cannot be told from a fire by these three.
Source: capped sum, a naive Bayes score with hand-set weights: monotone, and every term can be shown
(docs/packs.md, row "sum rule"). Weights: 6 K is the alarm of heat_rise; 0.06 per m is what a
certified detector sounds at; 15 ppm a starting guess, no fire with CO beside heat and smoke was at
hand.

Each channel gives its sure rise (seen.py: what no single reading can have made); heat also what
its housing still hides: 30 s (the fast end of housed sensors) times rate, which undoes a
first-order lag, at most 1.5 times the rise itself (as half a minute into a steady ramp; faster is a
draught). Terms: heat over 6 K, at most 1 while it rises by 4 K a minute or more (the rate at which
a panel in wide use lowers its limit), else 0.66: slow heat alone is a heater or the sun, no more
than early. Smoke over 0.06 per m, at most 1. CO over 15 ppm, at most 0.66: cars and stoves make it
too. A channel that is missing, stale or broken is no evidence, for or against.

Fast heat alone thus alarms from 2.4 K on, at 7 K a minute, which an oven door or a kettle does
too: a site with such a place sets `heat_fast_share` to 0.66. Measured (docs/packs.md): first or
tied with the photoelectric alarm at 11 of 14 places, 10 without heat alone, 10 to 12 with a lag of
20 to 40 s; nothing said in 0.55 quiet device-years, given a smoke meter of 0 to 0.006 per m.

Alarm: the sum is 1 or more, in `verify_m_count` of `verify_n_count` readings of the place (1 of 1:
`sure` has asked two already). Nothing is said at once, however high: two channels that jump in one
message may be one corrupt message. Early: half a fire, of which two channels bear 0.1 each. Over
when the newest rises add up to less than half of it for 3 min.

Worked example: 20 degC and 0 per m for 20 min, read every 10 s, then 21 and 0.01, 22 and 0.02. At
the first nothing is sure. At the second are 2 K, rising by 0.1 K/s, so 3 K more: 0.83 (and a little
less, for the baseline moves); smoke of 0.02 per m is sure: 0.33. That is 1.16: early and alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detectors import places
from detectors.channels import HEAT, Bools, Float32s
from detectors.places import Line
from detectors.rule import Block, Bound, Finding, Points, number
from detectors.seen import Seen
from detectors.verify import Verify
from sizao.signal import Evidence, Kind, Tier
from sizao.units import Lane

NAME = "fusion_sum"
VERSION = 1
LANE = Lane.TELEMETRY
READS = ("temperature_c", "smoke_od_per_m", "co_ppm")
JOINS = True
MEMORY_S = 1800
COLUMNS = places.columns("early", "alarm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`*_share`: of the sum, 1 being a fire. `heat_fast_k`: in a minute."""

    heat_k: float = 6.0
    smoke_per_m: float = 0.06
    co_ppm: float = 15.0
    heat_lag_s: float = 30.0
    lag_most_share: float = 1.5
    heat_fast_k: float = 4.0
    heat_fast_share: float = 1.0
    heat_slow_share: float = 0.66
    co_most_share: float = 0.66
    alarm_share: float = 1.0
    early_share: float = 0.5
    least_share: float = 0.1
    verify_m_count: int = 1
    verify_n_count: int = 1
    verify_window_s: float = 0.0
    clear_share: float = 0.5
    clear_s: int = 180
    rearm_s: int = 7200


BOUNDS = {
    "heat_k": Bound(4, 8, "under 4 K rooms do it by themselves; heat_rise alarms at 6"),
    "smoke_per_m": Bound(0.04, 0.12, "by 0.12 most certified detectors have sounded"),
    "co_ppm": Bound(10, 30, "EN 50291 lets nobody sleep above 30 for hours"),
    "heat_lag_s": Bound(0, 40, "none; housed sensors are slower, noise is lifted alike"),
    "lag_most_share": Bound(0, 2, "more lifts draughts"),
    "heat_fast_k": Bound(2, 8, "2 K a minute is no fire (GB 16280); rate-of-rise has 8.3"),
    "heat_fast_share": Bound(0.5, 1, "heat alone: not even early, or an alarm"),
    "heat_slow_share": Bound(0.5, 0.9, "slow heat alone never alarms"),
    "co_most_share": Bound(0.5, 0.9, "CO alone never alarms"),
    "alarm_share": Bound(0.8, 1.5, "heat and smoke together make 2"),
    "early_share": Bound(0.4, 1, "before the alarm, and above noise"),
    "least_share": Bound(0.05, 0.3, "three steps of a sensor; a third of a limit"),
}


def step(block: Block, params: Params, rows: Seen, points: Points) -> list[Finding]:
    """Judge the places of one turn."""
    unit = _units(params)
    heat_k = rows.sure[HEAT]
    hidden_k = rows.rate[HEAT] * np.float32(params.heat_lag_s)
    lifted = rows.sure.copy()
    lifted[HEAT] += np.minimum(hidden_k, heat_k * np.float32(params.lag_most_share))
    terms = np.minimum(lifted / unit, _most(params, rows))
    total = terms.sum(axis=0)
    spoke = terms >= np.float32(params.least_share)
    early = (total >= np.float32(params.early_share)) & (spoke.sum(axis=0) > 1)
    alarm = total >= np.float32(params.alarm_share)
    found: list[Finding] = []
    for tier, limit, over in (
        (Tier.EARLY, params.early_share, early),
        (Tier.ALARM, params.alarm_share, alarm),
    ):
        line = _line(params, tier)
        found += _judged(block, params, rows, points, line, limit, terms, over, spoke)
    places.mark_busy(block, rows, Tier.EARLY, Tier.ALARM)
    return found


@lru_cache(maxsize=64)  # made anew, they cost as much as the judging
def _units(params: Params) -> Float32s:
    return np.array([[params.heat_k], [params.smoke_per_m], [params.co_ppm]], np.float32)


@lru_cache(maxsize=64)
def _line(params: Params, tier: Tier) -> Line:
    verify = Verify(params.verify_m_count, params.verify_n_count, params.verify_window_s)
    return Line(tier=tier, verify=verify, clear_s=params.clear_s, rearm_s=params.rearm_s)


def _most(params: Params, rows: Seen) -> Float32s:
    most = np.ones_like(rows.sure)
    most[HEAT] = np.where(
        rows.rate[HEAT] >= np.float32(params.heat_fast_k / 60),
        np.float32(params.heat_fast_share),
        np.float32(params.heat_slow_share),
    )
    most[-1] = params.co_most_share
    return most


def _judged(
    block: Block,
    params: Params,
    rows: Seen,
    points: Points,
    line: Line,
    limit: float,
    terms: Float32s,
    over: Bools,
    spoke: Bools,
) -> list[Finding]:
    left = np.maximum(places.rises(block, line.tier, rows) / _units(params), 0).sum(axis=0)
    calm = left < np.float32(limit * params.clear_share)
    events = places.follow(block, line, rows, over=over, calm=calm, spoke=spoke)
    found = []
    for event in events:
        row = event[0]
        total = number(terms[:, row].sum())
        evidence: Evidence = {
            "terms": [number(term) for term in terms[:, row]],
            "sum": total,
            "limit": limit,
            "margin": total - limit,
            "clear_below": limit * params.clear_share,
        }
        found += [places.finding(rows, event, Kind.FIRE, line, points, evidence)]
    return found
