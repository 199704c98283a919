"""The tables of a scoring: fires at device, zone and test level, leads, smoke, quiet, nuisance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detectors.evaluation import baselines, score
from detectors.evaluation.pack import Floats
from detectors.evaluation.score import Delays
from detectors.evaluation.trial import CO_RISE, PRODUCT, SUM, TIERS, ZONE_RULE, Place, Trial

ALL = "all"
ZONE_LEVEL = ("fixed 57, twice", "A1R", "A1R, guarded", "rise 4 K", "rise 6 K, twice")
ZONE_ALARM = "v1 alarm + zone"
PHOTO, IONISATION = "photoelectric (real)", "ionisation (real)"
BEFORE_LABEL_S, AFTER_LABEL_S = 60.0, 900.0

Table = dict[str, Any]
Group = tuple[str, str, list[Place]]
"""A unit that is judged: its test, its name, and the devices that speak for it."""


def names_of(trials: Sequence[Trial]) -> list[str]:
    """Shipped tiers, shipped rules that spoke, then the simple detectors of heat."""
    spoke = {name for trial in trials for name in trial.said}
    simple = {*baselines.HEAT, *baselines.SMOKE, SUM, f"{SUM}, twice", CO_RISE, PRODUCT, *TIERS}
    return [*TIERS, *sorted(spoke - simple), *baselines.HEAT]


def devices_of(trial: Trial) -> list[Group]:
    """Eligible devices."""
    return [
        (one.channel.test, one.channel.device, [(one.channel.test, one.channel.device)])
        for one in trial.fed
        if one.eligible
    ]


def zones_of(trial: Trial) -> list[Group]:
    """Zones with an eligible device; any counted one may speak for them."""
    members: dict[Place, list[Place]] = defaultdict(list)
    for one in trial.channels("temperature_c"):
        zone = trial.pack.devices[one.device].zone
        if zone and trial.pack.counted(one.device):
            members[one.test, zone].append((one.test, one.device))
    burning = {(test, trial.pack.devices[device].zone) for test, device, _ in devices_of(trial)}
    return [(*place, each) for place, each in members.items() if place in burning]


def tests_of(trial: Trial) -> list[Group]:
    """Whole tests, those too in which no device gets hot."""
    return [
        (test, "", [(test, name) for name in trial.pack.devices if trial.pack.counted(name)])
        for test in trial.pack.tests
    ]


def delays(trials: Sequence[Trial], units: Callable[[Trial], list[Group]], name: str) -> Delays:
    """Delays of one detector over the units of all trials."""
    test: list[int] = []
    delay_s: list[float] = []
    base = 0
    for trial in trials:
        number = {known: base + index for index, known in enumerate(trial.pack.tests)}
        for fire, zone, places in units(trial):
            at_s = _spoke(trial, name, fire, zone, places)
            test.append(number[fire])
            delay_s.append(score.delay_s(at_s, trial.pack.ignition_s(fire)))
        base += len(number)
    return Delays(np.array(test, np.int64), np.array(delay_s, np.float64))


def _spoke(trial: Trial, name: str, test: str, zone: str, places: list[Place]) -> Floats:
    if name not in {ZONE_RULE, ZONE_ALARM}:
        return trial.at(name, places)
    said = [at_s for place, at_s in trial.zones.items() if place[0] == test]
    if zone:
        said = [trial.zones.get((test, zone), np.zeros(0))]
    if name == ZONE_ALARM:
        said.append(trial.at("v1 alarm", places))
    return np.concatenate([np.zeros(0), *said])


def fires(trials: Sequence[Trial], seed: int) -> Table:
    """Tables at each level, and the leads, of one pack or several as one."""
    draws = score.draws_of(sum(len(trial.pack.tests) for trial in trials), seed)
    names = names_of(trials)
    upper = [*(name for name in names if name not in baselines.HEAT), *ZONE_LEVEL]
    by_device = {name: delays(trials, devices_of, name) for name in names}
    table: Table = {
        "devices": {name: score.summary(each, draws) for name, each in by_device.items()}
    }
    for level, units in (("zones", zones_of), ("tests", tests_of)):
        table[level] = {
            name: score.summary(delays(trials, units, name), draws)
            for name in (*upper, ZONE_RULE, ZONE_ALARM)
        }
    table["leads"] = {
        name: {
            over: score.lead(each, by_device[over], draws)
            for over in baselines.LEAD_OVER
            if over != name
        }
        for name, each in by_device.items()
    }
    table["behind_a1r_s"] = {
        name: score.behind_s(each, by_device["A1R"]) for name, each in by_device.items()
    }
    return table


def smoke(trial: Trial) -> Table:
    """Devices with a smoke meter that had something to see, beside the real alarms at their place.

    The reference is the median of the real alarms of a kind at the place.
    """
    real = _real_alarms(trial)
    units = [
        (one.test, one.device)
        for one in trial.channels("smoke_od_per_m")
        if trial.pack.counted(one.device)
        and (
            any((kind, one.test, one.device) in real for kind in (PHOTO, IONISATION))
            or one.value.max() >= baselines.OD_EARLY_PER_M
        )
    ]
    if not units:
        return {}
    heat = {(one.test, one.device) for one in trial.channels("temperature_c")} & set(units)
    names = [*TIERS, *baselines.SMOKE, SUM, f"{SUM}, twice"]
    names += [PRODUCT] if trial.said[PRODUCT] else []
    names += ["rise 4 K", "A1R", "fixed 57"] if heat else []
    photo = {key[1:]: at_s for key, at_s in real.items() if key[0] == PHOTO}
    lines = {name: _against(trial, units, photo, trial.said.get(name, {})) for name in names}
    for kind in (IONISATION, PHOTO):
        sounded = {key[1:]: np.array([at_s]) for key, at_s in real.items() if key[0] == kind}
        mine = [place for place in units if place in sounded]
        if mine:
            lines[kind] = _against(trial, mine, photo, sounded)
    beside = sum(place in photo for place in units)
    return {"units": len(units), "with_photoelectric": beside, "rules": lines}


def _real_alarms(trial: Trial) -> dict[tuple[str, str, str], float]:
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in trial.pack.events:
        if event.event == "reference_alarm" and event.device:
            times[f"{event.detail} (real)", event.test, event.device].append(event.time_s)
    return {key: float(np.median(each)) for key, each in times.items()}


def _against(
    trial: Trial, units: list[Place], photo: dict[Place, float], said: dict[Place, Floats]
) -> Table:
    nothing = np.zeros(0)
    lit = [trial.pack.ignition_s(test) for test, _ in units]
    delay_s = np.array(
        [
            score.delay_s(said.get(place, nothing), ignition_s)
            for place, ignition_s in zip(units, lit, strict=True)
        ]
    )
    heard = ~np.isnan(delay_s)
    line: Table = {"units": len(units), "before": int(np.count_nonzero(~heard))}
    line["found"] = int(np.count_nonzero(score.found(delay_s[heard])))
    line["mean_s"] = float(delay_s[heard].mean()) if heard.any() else None
    beside = np.array([place in photo for place in units]) & heard
    if beside.any():
        photo_s = np.array([photo.get(place, np.inf) for place in units]) - np.array(lit)
        line["mean_beside_photoelectric_s"] = float(delay_s[beside].mean())
        line["first_or_tied"] = int(np.count_nonzero(delay_s[beside] <= photo_s[beside]))
        line["places"] = int(np.count_nonzero(beside))
    return line
