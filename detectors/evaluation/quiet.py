"""False alarms of quiet rooms, by class of device, and nuisance episodes that alarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectors.evaluation import baselines, score
from detectors.evaluation.pack import Floats
from detectors.evaluation.tables import AFTER_LABEL_S, BEFORE_LABEL_S, names_of
from detectors.evaluation.trial import ZONE_RULE, Place, Trial
from detectors.evaluation.watch import FAULT

CLASSES = ("indoor", "outdoor", "faulty")
Table = dict[str, Any]
Window = tuple[float, float]


def class_of(trial: Trial, device: str) -> str:
    """By the device's note; indoor if it says nothing else."""
    note = trial.pack.devices[device].note
    return next((one for one in CLASSES if note.startswith(one)), CLASSES[0])


def false_alarms(trials: Sequence[Trial]) -> Table:
    """Counts, device-years and rates of each detector by class, over trials as one."""
    names = [*names_of(trials), *baselines.SMOKE]
    years = dict.fromkeys(CLASSES, 0.0)
    counts = {name: dict.fromkeys(CLASSES, 0) for name in names}
    for trial in trials:
        windows = episodes(trial)
        for place, watched in _watched(trial).items():
            kind = class_of(trial, place[1])
            years[kind] += watched
            for name in names:
                at_s = _outside(trial.at(name, [place]), windows.get(place, []))
                counts[name][kind] += len(score.onsets(at_s))
    table: Table = {}
    for kind in CLASSES:
        if years[kind]:
            lines = {name: _rate(each[kind], years[kind]) for name, each in counts.items()}
            table[kind] = {"device_years": years[kind], "rules": lines}
    if CLASSES[-1] in table:
        table[CLASSES[-1]] |= _faults(trials)
    zones = [at_s for trial in trials for at_s in trial.zones.values()]
    table["zones"] = {ZONE_RULE: sum(len(score.onsets(at_s)) for at_s in zones)}
    return table


def _watched(trial: Trial) -> dict[Place, float]:
    """Device-years by device: of its busiest channel, a temperature where it has one."""
    found: dict[Place, float] = {}
    heat = trial.channels("temperature_c")
    for one in heat or [fed.channel for fed in trial.fed]:
        place = (one.test, one.device)
        found[place] = max(found.get(place, 0.0), score.device_years(one.time_s))
    return found


def _faults(trials: Sequence[Trial]) -> Table:
    """How many faulty devices there are, and how many of them were said to be."""
    faulty = [
        (trial.pack.name, *place)
        for trial in trials
        for place in _watched(trial)
        if class_of(trial, place[1]) == CLASSES[-1]
    ]
    said = {
        (alarm.pack, alarm.test, alarm.device)
        for trial in trials
        for alarm in trial.alarms
        if alarm.tier == FAULT
    }
    return {"devices": len(faulty), "said_faulty": len(said.intersection(faulty))}


def _rate(count: int, years: float) -> Table:
    low, high = score.poisson_interval(count)
    line: Table = {"count": count, "per_device_year_95": (low / years, high / years)}
    line["per_device_year"] = count / years
    return line


def episodes(trial: Trial) -> dict[Place, list[Window]]:
    """Labelled nuisances by device: from 60 s before to 900 s after the label."""
    found: dict[Place, list[Window]] = {}
    ends = [event for event in trial.pack.events if event.event.endswith("_end")]
    for event in trial.pack.events:
        if event.event.endswith("_start"):
            later = [
                end.time_s
                for end in ends
                if (end.test, end.device) == (event.test, event.device)
                and end.event == event.event.removesuffix("_start") + "_end"
                and end.time_s >= event.time_s
            ]
            until_s = min(later, default=event.time_s) + AFTER_LABEL_S
            window = (event.time_s - BEFORE_LABEL_S, until_s)
            found.setdefault((event.test, event.device), []).append(window)
    return found


def nuisance(trials: Sequence[Trial]) -> Table:
    """How many labelled episodes each detector alarms in."""
    names = [*names_of(trials), *baselines.SMOKE]
    table: Table = dict.fromkeys(names, 0)
    total = 0
    for trial in trials:
        for place, windows in episodes(trial).items():
            total += len(windows)
            for name in names:
                at_s = trial.at(name, [place])
                table[name] += sum(_inside(at_s, window).any() for window in windows)
    return {"episodes": total, "rules": {name: int(count) for name, count in table.items()}}


def _inside(at_s: Floats, window: Window) -> Any:
    return (at_s >= window[0]) & (at_s <= window[1])


def _outside(at_s: Floats, windows: Sequence[Window]) -> Floats:
    inside = np.zeros(len(at_s), np.bool_)
    for window in windows:
        inside |= _inside(at_s, window)
    return at_s[~inside]
