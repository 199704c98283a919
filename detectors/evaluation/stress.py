"""Synthetic trouble on recorded fires, kept apart from what was recorded and named so.

What befalls readings in the field: 5 % lost, up to a minute late and so out of order, one in ten
said twice, one corrupt. Delays stay on the devices' time. Source of the set: docs/packs.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from detectors.evaluation import score, tables
from detectors.evaluation.protocol import WITHIN_S
from detectors.evaluation.trial import TIERS, Trial, shipped
from detectors.evaluation.watch import SECOND_US, T0_US, Stream, watch
from detectors.state import Setup
from sizao.units import BY_NAME

LOST, TWICE = 0.05, 0.10
LATE_S = 60.0
CORRUPT_BEFORE_S = 120.0
CORRUPT_C = (200.0, -40.0)
"""A bit flipped upwards, and a thermistor that is torn off for one reading."""

Table = dict[str, Any]
Disturb = Callable[[np.random.Generator, Stream], Stream]


def lost(random: np.random.Generator, stream: Stream) -> Stream:
    """One in twenty never comes."""
    return stream.only(random.random(len(stream.point)) >= LOST)


def late(random: np.random.Generator, stream: Stream) -> Stream:
    """Each comes up to a minute late, by itself: most are out of order."""
    delay_us = (random.random(len(stream.point)) * LATE_S * SECOND_US).astype(np.int64)
    return Stream(stream.point, stream.event_us, stream.value, stream.arrival_us + delay_us)


def twice(random: np.random.Generator, stream: Stream) -> Stream:
    """One in ten comes again within a minute."""
    again = late(random, stream.only(random.random(len(stream.point)) < TWICE))
    return Stream(
        np.concatenate([stream.point, again.point]),
        np.concatenate([stream.event_us, again.event_us]),
        np.concatenate([stream.value, again.value]),
        np.concatenate([stream.arrival_us, again.arrival_us]),
    )


TROUBLE: dict[str, Disturb] = {
    "5 % lost": lost,
    "up to 60 s late": late,
    "one in ten twice": twice,
    "all three": lambda random, stream: late(random, twice(random, lost(random, stream))),
}


def stress(fires: Sequence[Trial], setup: Setup, seed: int) -> Table:
    """How much later each tier speaks in trouble, and what one corrupt reading does."""
    corrupt = {f"{value_c:g} degC": _corrupt(fires, setup, value_c) for value_c in CORRUPT_C}
    grown = {name: _grown(fires, setup, each, seed) for name, each in TROUBLE.items()}
    return {"delay": grown, "corrupt": corrupt}


def _grown(fires: Sequence[Trial], setup: Setup, disturb: Disturb, seed: int) -> Table:
    grown: dict[str, list[float]] = {tier: [] for tier in TIERS}
    missed = dict.fromkeys(TIERS, 0)
    for trial in fires:
        random = np.random.default_rng(seed)
        channels = [fed.channel for fed in trial.fed]
        said = shipped(watch(trial.pack, channels, setup, partial(disturb, random)))
        for tier in TIERS:
            for test, _, (place,) in tables.devices_of(trial):
                ignition_s = trial.pack.ignition_s(test)
                before = score.delay_s(trial.at(tier, [place]), ignition_s)
                after = score.delay_s(said.get(tier, {}).get(place, np.zeros(0)), ignition_s)
                if before < WITHIN_S:  # found, and not before ignition
                    grown[tier].append(after - before)
                    missed[tier] += after >= WITHIN_S
    return {tier: _line(np.array(grown[tier]), missed[tier]) for tier in TIERS if grown[tier]}


def _line(grown_s: np.ndarray[Any, np.dtype[np.float64]], missed: int) -> Table:
    heard = grown_s[~np.isnan(grown_s)]
    return {
        "units": len(grown_s),
        "missed": missed,
        "before": int(np.isnan(grown_s).sum()),
        "mean_s": float(heard.mean()) if len(heard) else None,
        "p99_s": float(np.percentile(heard, 99)) if len(heard) else None,
        "most_s": float(heard.max(initial=0.0)),
    }


def _corrupt(fires: Sequence[Trial], setup: Setup, value_c: float) -> Table:
    """Replace the reading two minutes before each ignition; raises up to the ignition count."""
    raised = dict.fromkeys(TIERS, 0)
    devices = 0
    for trial in fires:
        channels, heat = [fed.channel for fed in trial.fed], trial.channels("temperature_c")
        known = [one for one in channels if one.quantity in BY_NAME]
        at_us = {
            index + 1: T0_US + (trial.pack.ignition_s(one.test) - CORRUPT_BEFORE_S) * SECOND_US
            for index, one in enumerate(known)
            if one.quantity == "temperature_c"
        }
        alarms = watch(trial.pack, channels, setup, partial(_struck, at_us, value_c))
        devices += len(heat)
        said = shipped(alarms)
        for tier in TIERS:
            for one in heat:
                place, ignition_s = (one.test, one.device), trial.pack.ignition_s(one.test)
                first_s = said.get(tier, {}).get(place, np.zeros(0))
                healthy = trial.at(tier, [place])
                if not (healthy < ignition_s).any():
                    raised[tier] += bool((first_s < ignition_s).any())
    return {"devices": devices, "raised": raised}


def _struck(at_us: dict[int, float], value_c: float, stream: Stream) -> Stream:
    value = stream.value.copy()
    for point, wanted_us in at_us.items():
        rows = np.flatnonzero((stream.point == point) & (stream.event_us >= wanted_us))
        if len(rows):
            value[rows[0]] = value_c
    return Stream(stream.point, stream.event_us, value, stream.arrival_us)
