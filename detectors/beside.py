"""Which points are one place: heat, smoke and CO that stand together.

A place is a device that measures two of the three; or an area under the site in which exactly one
device measures heat, one smoke, one CO (two of them at least): a flat with a smoke alarm and a CO
alarm. With several of a kind in an area nobody can say which stand together, and none are joined.
Each place has a home: the lowest slot of its points, where its rules keep their lines.
"""

from __future__ import annotations

import numpy as np

from detectors.channels import HEAT, KINDS
from detectors.rule import Array, Beside
from sizao.units import BY_NAME

_CODES = tuple(BY_NAME[name].code for name in KINDS)


def beside_of(
    quantity: Array, device: Array, area: Array, site: Array, static_only: Array
) -> Beside:
    """Which points are one place (head of this file). Of a class with suffix S no rise counts."""
    kind = np.full(len(quantity), -1, np.int8)
    for place, code in enumerate(_CODES):
        kind[quantity == code] = place
    kind[(kind == HEAT) & static_only] = -1
    home = np.full(len(quantity), -1, np.int32)
    slots = np.full((len(KINDS), len(quantity)), -1, np.int32)
    slot = np.flatnonzero(kind >= 0)
    many = np.bincount(device[slot])[device[slot]] > 1 if len(slot) else np.zeros(0, np.bool_)
    _settle(home, slot[many], device[slot[many]])
    rest = slot[~many]
    rest = rest[area[rest] != site[rest]]
    if len(rest):
        each = np.bincount(area[rest] * len(KINDS) + kind[rest])
        each.resize((len(each) // len(KINDS) + 1, len(KINDS)))
        one_of_each = (each.max(axis=1) == 1) & (each.sum(axis=1) > 1)
        rest = rest[one_of_each[area[rest]]]
        _settle(home, rest, area[rest])
    slot = slot[home[slot] >= 0]
    slots[kind[slot], home[slot]] = slot
    return Beside(kind=kind, home=home, slots=slots)


def _settle(home: Array, slot: Array, place: Array) -> None:
    """The lowest slot of each place is its home (in place)."""
    if len(slot):
        first = np.zeros(int(place.max()) + 1, np.int32)
        first[place[::-1]] = slot[::-1]  # of equal ones the last is kept
        home[slot] = first[place]
