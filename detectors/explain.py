"""What a signal says, in words; and whether the archive says it again.

A signal is recomputed by folding the archived readings of its site from a cold start before its
onset. The same readings in the same order give the same bits, but a cold start lacks what the rules
remembered from before (a baseline with a time constant of ten minutes has forgotten a kelvin to a
millionth after 2.3 hours), and where raw readings do not reach back so far nobody has it any more.
So the verdict is one of four:

- equal: the record of the same id comes out, with the same evidence to the last bit;
- close: the same id, thus the same decision at the same reading; numbers of the evidence differ by
  no more than TOLERANCE of them, or as much of a unit;
- differs: the same id with other evidence, or no record of that id;
- impossible: nothing to fold (another version of the rule, no rule at all, no readings).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from detectors.rule import Rule
from detectors.sets import Set, sets_of
from detectors.state import Setup
from sizao.registry.model import View
from sizao.signal import Evidence, Signal, SubjectType

TOLERANCE = 1e-3
"""Of a number, or of its unit where it is smaller: a hundredth of what sensors resolve."""
SAMPLES_MAX = 12
"""Readings of the point shown before the decision."""

Value = float | int | str | bool | list[float]


class Verdict(StrEnum):
    """Whether the archive says the same; see the head of this file."""

    EQUAL = "equal"
    CLOSE = "close"
    DIFFERS = "differs"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that came out otherwise. `by` where both are numbers."""

    name: str
    said: Value | None
    found: Value | None
    by: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, why, and what came out otherwise."""

    verdict: Verdict
    why: str
    differences: tuple[Difference, ...] = ()


# --- compare ------------------------------------------------------------------------------------


def compare(said: Signal, found: Iterable[Signal]) -> Outcome:
    """Hold what a replay said against what was said."""
    found = list(found)
    again = next((one for one in found if one.id == said.id), None)
    if again is None:
        return Outcome(Verdict.DIFFERS, _nearest(said, found))
    differences = (*_facts(said, again), *_evidence(said.evidence, again.evidence))
    if not differences:
        return Outcome(Verdict.EQUAL, "the same record with the same evidence comes out")
    names = ", ".join(one.name for one in differences)
    if not all(_is_measured(one) for one in differences):
        return Outcome(Verdict.DIFFERS, f"the same record, other evidence: {names}", differences)
    is_close = all(_is_close(one) for one in differences)
    worst = max(one.by or 0.0 for one in differences)
    why = (
        f"the same decision at the same reading; {names} differ by {worst:.3g} at most,"
        f" {'within' if is_close else 'over'} {TOLERANCE:g} of the number or its unit"
    )
    return Outcome(Verdict.CLOSE if is_close else Verdict.DIFFERS, why, differences)


def _facts(said: Signal, again: Signal) -> list[Difference]:
    """What is not in the id. When it was said hangs on the writers' clocks, and is no judgement."""
    names = ("kind", "tier", "site", "device", "late", "self_test", "event_us", "generation")
    pairs = [(name, getattr(said, name), getattr(again, name)) for name in names]
    return [Difference(name, one, other) for name, one, other in pairs if one != other]


def _evidence(said: Evidence, again: Evidence) -> list[Difference]:
    found: list[Difference] = []
    for name in [*said, *(name for name in again if name not in said)]:
        one, other = said.get(name), again.get(name)
        if one != other:
            found += [Difference(name, one, other, _distance(one, other))]
    return found


def _distance(one: Value | None, other: Value | None) -> float | None:
    """How far numbers lie apart; None where they are not of a kind."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(abs(a - b) for a, b in zip(one, other, strict=True))
    if _is_number(one) and _is_number(other):
        return abs(float(one) - float(other))  # type: ignore[arg-type] # both are numbers
    return None


def _is_number(value: Value | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_measured(one: Difference) -> bool:
    """Whether it is a number that was measured. Times and counts are equal, or it was another."""
    return one.by is not None and not one.name.endswith("_us") and not isinstance(one.said, int)


def _is_close(one: Difference) -> bool:
    values = one.said if isinstance(one.said, list) else [float(one.said or 0)]
    return (one.by or 0.0) <= TOLERANCE * max(1.0, *(abs(value) for value in values))


def _nearest(said: Signal, found: Sequence[Signal]) -> str:
    """What was said of the same subject instead."""
    same = [one for one in found if one.rule == said.rule and one.subject == said.subject]
    if not same:
        return f"no record of {said.rule} about this subject comes out"
    near = min(same, key=lambda one: (one.tier != said.tier, abs(one.event_us - said.event_us)))
    off_s = (near.event_us - said.event_us) / 1e6
    return (
        f"no record of that id comes out; nearest: {near.phase} of {near.tier} by {near.rule},"
        f" {off_s:+.1f} s, id {near.id}"
    )


def hindrance(said: Signal, rules: Sequence[Rule], view: View) -> str:
    """Why a signal cannot be recomputed here; empty where it can."""
    rule = next((rule for rule in rules if said.rule == rule.NAME), None)
    if rule is None:
        return f"{said.rule} is no rule over readings"
    if said.rule_version != rule.VERSION:
        return (
            f"it was said by version {said.rule_version} of {said.rule}, this program has version"
            f" {rule.VERSION}: take the release that had it"
        )
    if said.subject.type not in {SubjectType.POINT, SubjectType.DEVICE}:
        return f"its subject is a {said.subject.type}: expected a point or a device"
    if view.generation < said.generation:
        return f"the registry stands at generation {view.generation}, before {said.generation}"
    if not subject_points(said, view):
        return f"{said.subject.type} {said.subject.id} is not in the registry"
    return ""


def subject_points(said: Signal, view: View) -> list[int]:
    """The point, or the points of the device, that a signal speaks about."""
    if not said.subject.id.isdecimal():
        return []
    number = int(said.subject.id)
    if said.subject.type is SubjectType.DEVICE:
        of_site = view.point_site == said.site
        return np.flatnonzero((view.point_device == number) & of_site & (number > 0)).tolist()
    return [number] if number < len(view.point_device) and view.point_device[number] else []


# --- say ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whom and where a signal is about, as the registry of its generation has it."""

    device: str = ""
    carrier: str = ""
    device_type: str = ""
    path: tuple[tuple[str, str, str], ...] = ()  # level, code, name


def place_of(said: Signal, view: View) -> Place:
    """Names of the device and of the areas it stands in, from the district down."""
    area = said.site
    found = Place()
    if 0 < said.device < len(view.device_key):
        area = int(view.device_area[said.device]) or area
        known = view.types.get(int(view.device_type[said.device]))
        found = Place(
            device=view.device_key[said.device],
            carrier=view.carrier_names.get(int(view.device_carrier[said.device]), ""),
            device_type="" if known is None else known.name,
        )
    path = tuple((one.level, one.code, one.name_zh) for one in view.path(area))
    return replace(found, path=path)


GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("samples", ("value", "values", "state", "before", "heard")),
    ("baseline", ("baseline", "rise", "scale", "reference")),
    ("limit", ("limit", "samples_count", "clear", "hold")),
    ("margin", ("margin",)),
    ("neighbours", ("neighbour", "near", "beside", "joined")),
)
"""Evidence by what it is: the beginnings of its keys. What fits none is `other`."""


def grouped(evidence: Evidence) -> dict[str, Evidence]:
    """Evidence under the questions that people ask."""
    found: dict[str, Evidence] = {name: {} for name in (*(name for name, _ in GROUPS), "other")}
    for key, value in evidence.items():
        name = next((name for name, begins in GROUPS if key.startswith(begins)), "other")
        found[name][key] = value
    return found


def parameters_of(setup: Setup, said: Signal, view: View) -> Set | None:
    """What the rule judged this device with: the set that the evidence names, else the one that
    holds at the event's time; None for what is no rule.
    """
    rule = next((rule for rule in setup.rules if said.rule == rule.NAME), None)
    if rule is None or not 0 < said.device < len(view.device_key):
        return None
    device = np.array([said.device], np.int32)
    sets = sets_of(view, device, [rule], setup.params)
    own = sets.by_rule[rule.NAME]
    named = [one for one in own.sets if one.digest == said.evidence.get("rule_parameters")]
    if named or own.plan is None:
        return (named or list(own.sets))[0]
    return own.sets[int(own.at(sets.kind, np.array([said.event_us]))[0])]


def plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome for programs."""
    told = asdict(outcome)
    told["verdict"] = outcome.verdict.value
    return told
