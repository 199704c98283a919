"""Statistics of the protocol, each small enough to check by hand.

Delays are seconds after ignition; a miss counts as 600 s; an alarm before ignition (NaN here) sets
its unit aside. Intervals resample whole tests, never devices: those of one fire are no independent
witnesses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.evaluation.pack import Floats
from detectors.evaluation.protocol import WITHIN_S

DRAWS = 2000
SHARES_S = (60, 120, 300, 600)
SAME_ONSET_S = 1800.0
YEAR_S = 365.25 * 86_400
GAP_INTERVALS = 10
_TAIL = 0.025
_BISECTIONS = 100

Ints = npt.NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Delays:
    """Delay of each unit, NaN where it spoke before ignition, and the number of its test."""

    test: Ints
    delay_s: Floats

    @property
    def heard(self) -> npt.NDArray[np.bool_]:
        """Units that count."""
        return ~np.isnan(self.delay_s)


def delay_s(alarms_s: Floats, ignition_s: float) -> float:
    """From ignition to the first alarm; 600 s for none within 600 s, NaN for one before."""
    if not len(alarms_s):
        return WITHIN_S
    first = float(np.min(alarms_s)) - ignition_s
    return math.nan if first < 0 else min(first, WITHIN_S)


def found(delays: Floats) -> npt.NDArray[np.bool_]:
    """Where a fire was found in time; a delay of 600 s is a miss."""
    return delays < WITHIN_S


def draws_of(tests: int, seed: int) -> npt.NDArray[np.float64]:
    """How often each test is drawn, per draw: `tests` of them with replacement."""
    random = np.random.default_rng(seed)
    return random.multinomial(tests, np.full(tests, 1 / tests), size=DRAWS).astype(np.float64)


def mean_interval(values: Floats, test: Ints, draws: Floats) -> Interval:
    """95 % of the mean over units, by bootstrap over tests."""
    tests = draws.shape[1]
    total = draws @ np.bincount(test, weights=values, minlength=tests)
    units = draws @ np.bincount(test, minlength=tests)
    return _middle(total[units > 0] / units[units > 0])


def median_interval(values: Floats, test: Ints, draws: Floats) -> Interval:
    """95 % of the median over units, by bootstrap over tests (the lower of two middle ones)."""
    order = np.argsort(values, kind="stable")
    weight = np.cumsum(draws[:, test[order]], axis=1)
    drawn = weight[:, -1] > 0
    weight = weight[drawn]
    place = np.argmax(weight >= weight[:, -1:] / 2, axis=1)
    return _middle(values[order][place])


def _middle(drawn: Floats) -> Interval:
    if not len(drawn):
        return (math.nan, math.nan)
    low, high = np.percentile(drawn, [100 * _TAIL, 100 * (1 - _TAIL)])
    return float(low), float(high)


def summary(delays: Delays, draws: Floats) -> dict[str, object]:
    """One line of a table of fires."""
    kept = delays.heard
    values, test = delays.delay_s[kept], delays.test[kept]
    line: dict[str, object] = {
        "units": len(delays.delay_s),
        "before": int(np.count_nonzero(~kept)),
    }
    if not len(values):
        return line
    for limit_s in SHARES_S:
        hit = ((values <= limit_s) & found(values)).astype(np.float64)
        line[f"share_{limit_s}"] = float(hit.mean())
        line[f"share_{limit_s}_95"] = mean_interval(hit, test, draws)
    line["mean_s"] = float(values.mean())
    line["mean_s_95"] = mean_interval(values, test, draws)
    line["median_s"] = float(np.median(values))
    line["median_s_95"] = median_interval(values, test, draws)
    line["p90_s"] = float(np.percentile(values, 90))
    return line


def lead(rule: Delays, baseline: Delays, draws: Floats) -> dict[str, object]:
    """How much sooner a rule speaks than a baseline on the same units.

    Mean over tests of the mean over a test's units; median over pairs.
    """
    pairs = rule.heard & baseline.heard
    if not pairs.any():
        return {"pairs": 0}
    gained, test = (baseline.delay_s - rule.delay_s)[pairs], rule.test[pairs]
    units = np.bincount(test, minlength=draws.shape[1])
    used = np.flatnonzero(units)
    means = np.bincount(test, weights=gained, minlength=len(units))[used] / units[used]
    return {
        "pairs": len(gained),
        "mean_s": float(means.mean()),
        "mean_s_95": mean_interval(means, used, draws),
        "median_s": float(np.median(gained)),
        "median_s_95": median_interval(gained, test, draws),
        "worst_s": float(gained.min()),
    }


def behind_s(rule: Delays, baseline: Delays) -> float:
    """How far a rule is behind a baseline at most, where both find."""
    both = rule.heard & baseline.heard & found(rule.delay_s) & found(baseline.delay_s)
    behind = (rule.delay_s - baseline.delay_s)[both]
    return float(behind.max()) if len(behind) else -math.inf


def onsets(alarms_s: Floats) -> Floats:
    """Alarms of a device; those up to 30 min after the one before count with it."""
    times = np.sort(alarms_s)
    return times[np.diff(times, prepend=-np.inf) > SAME_ONSET_S]


def device_years(time_s: Floats) -> float:
    """Time that a device was watched: its intervals; one of over ten usual ones counts as one."""
    steps = np.diff(time_s)
    if not len(steps):
        return 0.0
    usual = float(np.median(steps))
    return float(np.where(steps > GAP_INTERVALS * usual, usual, steps).sum()) / YEAR_S


def poisson_interval(count: int) -> Interval:
    """Exact 95 % interval of a Poisson mean of which `count` were seen; (0, 3) for none.

    Garwood (1936): the means that give `count` or more, or `count` or fewer, by 2.5 %. None seen
    says by the rule of three that it is below 3 at 95 %, one-sided.
    """
    if count == 0:
        return 0.0, 3.0
    high = count + 10.0 * math.sqrt(count) + 10.0
    lower = _bisect(high, lambda mean: 1 - _at_most(count - 1, mean) < _TAIL)
    upper = _bisect(high, lambda mean: _at_most(count, mean) > _TAIL)
    return lower, upper


def _at_most(count: int, mean: float) -> float:
    if mean <= 0:
        return 1.0
    terms = (math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))
    return math.fsum(terms)


def _bisect(high: float, is_low: Callable[[float], bool]) -> float:
    low = 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if is_low(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2
