"""Simple detectors to compare with: what is sold today, and rules out of papers.

Each is a function of one channel: seconds and readings in, per reading whether its condition holds
out. Limits that a class names are EN 54-5's; `twice` is the guard of two samples in a row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from detectors.evaluation.pack import Floats

Bools = npt.NDArray[np.bool_]
Baseline = Callable[[Floats, Floats], Bools]

RATE_OVER_S = 60.0
OD_EARLY_PER_M, OD_ALARM_PER_M = 0.06, 0.12
CO_RISE_PPM = 15.0
PRODUCT_PCT_PPM = 10.0
_TAU_S, _TAU_FALL_S, _CLIP_K, _JUMP_K, _GAP_S = 600.0, 150.0, 2.0, 15.0, 1800.0
_TINY = 1e-6
_TINY_K = 1e-4
"""Readings are whole tenths, as float32 in a pack: no rise or rate is compared closer than this."""


def twice(holds: Bools) -> Bools:
    """The condition in two samples in a row; says so at the second."""
    found = np.zeros(len(holds), np.bool_)
    found[1:] = holds[1:] & holds[:-1]
    return found


def rate_k_per_min(time_s: Floats, value: Floats) -> Floats:
    """Rate over the newest reading at least 60 s old; minus infinity where there is none."""
    old = np.searchsorted(time_s, time_s - RATE_OVER_S + _TINY, side="right") - 1
    over_s = time_s - time_s[old.clip(0)]
    rate = (value - value[old.clip(0)]) / np.maximum(over_s, _TINY) * 60.0
    return np.where(old >= 0, rate, -np.inf)


def fixed_57(time_s: Floats, value: Floats) -> Bools:
    """A class A1 heat detector at the middle of its static window."""
    del time_s
    return value >= 57.0 - _TINY


def fixed_54(time_s: Floats, value: Floats) -> Bools:
    """The static minimum of class A1."""
    del time_s
    return value >= 54.0 - _TINY


def a1r(time_s: Floats, value: Floats) -> Bools:
    """57 degC, or 8.3 K a minute (15 degF): the common rate-of-rise detector."""
    return fixed_57(time_s, value) | (rate_k_per_min(time_s, value) >= 8.3 - _TINY_K)


def vendor(time_s: Floats, value: Floats) -> Bools:
    """A panel's algorithm: 56 degC, lowered to 46 while the rate is 4 K a minute or more.

    Source: Panasonic EBL128 planning guide, class A1.
    """
    fast = rate_k_per_min(time_s, value) >= 4.0 - _TINY_K
    return (value >= 56.0 - _TINY) | (fast & (value >= 46.0 - _TINY))


def rises_k(time_s: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Rise over an own slow baseline, with and without jump hold (docs/packs.md, Rules).

    The reference form: the shipped one (`detectors/features.py`) has guards that this lacks.
    """
    held, raw = np.zeros(len(value)), np.zeros(len(value))
    readings = zip(time_s.tolist(), value.tolist(), strict=True)
    before_s, before = next(readings, (0.0, 0.0))
    base = before
    for index, (at_s, x) in enumerate(readings, 1):
        dt_s = at_s - before_s
        if dt_s > _GAP_S:
            base = x
        y = before if x - before > _JUMP_K else x
        rise = y - base
        held[index], raw[index] = rise, x - base
        base += min(rise, _CLIP_K) * dt_s / ((_TAU_FALL_S if rise < 0 else _TAU_S) + dt_s)
        before_s, before = at_s, x
    return held, raw


def rise_4(time_s: Floats, value: Floats) -> Bools:
    """4 K over the own baseline, jump hold."""
    return rises_k(time_s, value)[0] >= 4.0 - _TINY_K


def rise_6(time_s: Floats, value: Floats) -> Bools:
    """6 K over the own baseline, jump hold."""
    return rises_k(time_s, value)[0] >= 6.0 - _TINY_K


def rise_6_twice(time_s: Floats, value: Floats) -> Bools:
    """6 K without jump hold, in two samples."""
    return twice(rises_k(time_s, value)[1] >= 6.0 - _TINY_K)


def v1_alarm(time_s: Floats, value: Floats) -> Bools:
    """The reference alarm: 6 K twice, or 54 degC twice."""
    return rise_6_twice(time_s, value) | twice(fixed_54(time_s, value))


def guarded(baseline: Baseline) -> Baseline:
    """A baseline with the guard of two samples."""
    return lambda time_s, value: twice(baseline(time_s, value))


HEAT: dict[str, Baseline] = {
    "fixed 57": fixed_57,
    "fixed 57, twice": guarded(fixed_57),
    "A1R": a1r,
    "A1R, guarded": guarded(a1r),
    "vendor 46/56": vendor,
    "rise 4 K": rise_4,
    "rise 6 K": rise_6,
    "rise 6 K, twice": rise_6_twice,
    "fixed 54, twice": guarded(fixed_54),
    "v1 alarm": v1_alarm,
}
LEAD_OVER = ("fixed 57", "fixed 57, twice", "A1R", "A1R, guarded", "vendor 46/56")


def od_06(time_s: Floats, value: Floats) -> Bools:
    """Optical density 0.06 per m."""
    del time_s
    return value >= OD_EARLY_PER_M - _TINY


def od_12(time_s: Floats, value: Floats) -> Bools:
    """Optical density 0.12 per m (8 % a foot), by which most detectors have sounded."""
    del time_s
    return value >= OD_ALARM_PER_M - _TINY


def co_rise(time_s: Floats, value: Floats) -> Bools:
    """CO 15 ppm over the first reading."""
    del time_s
    holds: Bools = value - value[0] >= CO_RISE_PPM - _TINY
    return holds


SMOKE: dict[str, Baseline] = {
    "OD 0.06": od_06,
    "OD 0.06, twice": guarded(od_06),
    "OD 0.12, twice": guarded(od_12),
}


def evidence_sum(rise_k: Floats, od_per_m: Floats) -> Bools:
    """Heat and smoke added up: rise/6 K + OD/0.06 per m reaches 1."""
    holds: Bools = np.maximum(rise_k, 0.0) / 6.0 + od_per_m / OD_EARLY_PER_M >= 1.0 - _TINY
    return holds


def product(od_per_m: Floats, co_rise_ppm: Floats) -> Bools:
    """Smoke times CO rise: 10 % a metre x ppm.

    Source: Gottuk et al., Fire Safety J. 37 (2002), which takes the ionisation signal; the limit
    is quoted from memory in our reference, so this line is a comparison, no mark.
    """
    obscured_pct = 100.0 * (1.0 - 10.0 ** -np.maximum(od_per_m, 0.0))
    return obscured_pct * np.maximum(co_rise_ppm, 0.0) >= PRODUCT_PCT_PPM - _TINY


def latest(time_s: Floats, other_s: Floats, other: Floats) -> Floats:
    """The newest value of another channel at each time; 0 before its first."""
    place = np.searchsorted(other_s, time_s + _TINY, side="right") - 1
    return np.where(place >= 0, other[place.clip(0)], 0.0)
