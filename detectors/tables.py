"""What a fold looks up by slot: who reads a point, and what the registry says of it.

Made anew at each generation of the registry, and not part of a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors import features, heartbeat, moisture
from detectors.beside import beside_of
from detectors.rule import Heartbeats, Points, Rule, joins
from detectors.sets import sets_of
from sizao import units
from sizao.limits import STATIC_MINIMUM_C, STATIC_ONLY
from sizao.registry.model import View
from sizao.units import Lane

UNKNOWN, ELSEWHERE = -2, -1
"""Slots of points that the registry does not know, and of those of another fold."""
_GROUPS_MAX = 30  # bits of `readers`
MOIST = 1 << 31
"""The bit of humidity points beside a thermometer of the same device (moisture.py)."""
PLACE = 1 << 30
"""The bit of points that stand in a place (beside.py)."""
LOWEST, HIGHEST = np.full((2, max(units.BY_CODE) + 1), np.nan, np.float32)
for _quantity in units.QUANTITIES:
    LOWEST[_quantity.code], HIGHEST[_quantity.code] = _quantity.minimum, _quantity.maximum
_CODES = 1 << 15  # the registry's smallint: a newer program may have registered more than we know


@dataclass(frozen=True, slots=True)
class Group:
    """Rules of a fold that read the same quantities. `reads`: by code; `heat`: they get Heat."""

    rules: tuple[Rule, ...]
    reads: npt.NDArray[np.bool_]
    heat: bool


def groups_of(rules: tuple[Rule, ...]) -> tuple[Group, ...]:
    """Rules by what they read; those that join channels are no group."""
    apart: dict[frozenset[str], list[Rule]] = {}
    for rule in rules:
        if rule.READS and not joins(rule):
            apart.setdefault(frozenset(rule.READS), []).append(rule)
    groups = []
    for quantities, readers in apart.items():
        reads = np.zeros(_CODES, np.bool_)
        reads[[units.BY_NAME[name].code for name in quantities]] = True
        groups += [Group(tuple(readers), reads, quantities == {features.QUANTITY})]
    assert len(groups) <= _GROUPS_MAX
    return tuple(groups)


def _readers(groups: tuple[Group, ...], quantity: npt.NDArray[np.int16]) -> npt.NDArray[np.uint32]:
    readers = np.zeros(len(quantity), np.uint32)
    for place, group in enumerate(groups):
        readers |= np.left_shift(group.reads[quantity], place, dtype=np.uint32)
    return readers


def tables_of(
    lane: Lane,
    partition: int,
    view: View,
    rules: tuple[Rule, ...],
    groups: tuple[Group, ...],
    params: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of the fold's `State`, by name; `params`: by rule, where nobody set any."""
    fold = view.fold(lane, partition)
    quantity = view.point_quantity[fold.point].astype(np.int16)
    device = view.point_device[fold.point]
    heat_class = view.device_heat_class[device]
    # A newer program may have registered a class that we do not know: 0 has the lowest limit.
    heat_class = np.where(heat_class.view(np.uint32) < len(STATIC_MINIMUM_C), heat_class, 0)
    readers = _readers(groups, quantity)
    site = view.point_site[fold.point]
    heat = quantity == units.BY_NAME[features.QUANTITY].code
    humidity = _humidity_of(quantity, device)
    readers[humidity[humidity >= 0]] |= np.uint32(MOIST)
    area = view.device_area[device]
    static_only = STATIC_ONLY[heat_class]
    joining = any(joins(rule) for rule in rules)
    beside = beside_of(quantity, device, area, site, static_only) if joining else None
    if beside is not None:
        readers[beside.home >= 0] |= np.uint32(PLACE)
    return {
        "points": Points(
            quantity=quantity,
            heat_limit_c=STATIC_MINIMUM_C[heat_class],
            static_only=static_only,
            device=device,
            area=area,
            site=site,
            site_count=np.bincount(site[heat], minlength=int(site.max(initial=0)) + 1)[site].astype(
                np.int32
            ),
            heartbeats=heartbeat.of(view, fold) if lane is Lane.TELEMETRY else Heartbeats(),
            beside=beside,
        ),
        "sets": sets_of(view, device, rules, params),
        "readers": readers,
        "humidity": humidity,
        "all_judged": bool(readers.all()),
        "point": fold.point,
        "lookup": np.append(
            np.where(view.point_device > 0, fold.slot, np.int32(UNKNOWN)), np.int32(UNKNOWN)
        ),
    }


def _humidity_of(quantity: npt.NDArray[np.int16], device: Any) -> npt.NDArray[np.int32]:
    """By temperature slot the humidity slot of the same device, -1 where there is none."""
    found = np.full(len(quantity), -1, np.int32)
    wet = np.flatnonzero(quantity == units.BY_NAME[moisture.QUANTITY].code)
    if len(wet):
        heat = np.flatnonzero(quantity == units.BY_NAME[features.QUANTITY].code)
        wet = wet[np.argsort(device[wet], kind="stable")]
        place = np.searchsorted(device[wet], device[heat]).clip(max=len(wet) - 1)
        same = device[wet][place] == device[heat]
        found[heat[same]] = wet[place[same]]
    return found
