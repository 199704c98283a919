"""How fast a temperature moves: against a reading of its own that is at least a minute old.

Four anchors a point: the first reading of each half minute of event time becomes one, and the
oldest is forgotten. A rate is taken over the youngest anchor that is 60 s old or more: 60 to 100 s
at 10 s sampling, the reading before at a minute's. None is taken over more than 300 s, nor before
there is such an anchor. (Half minutes of the clock, not of the first reading: else a cold start
would have other anchors for ever, and nobody could recompute a signal.)

A reading that jumps or drops (features.py) is no anchor: a corrupt low one would be a steep rise
for half a minute.

Source: level change over 60 s (detection.md section 5), as two readings that anybody can subtract.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from detectors.rule import Block, Column, number
from sizao.signal import Evidence

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NAMES = ("oldest", "older", "middle", "youngest")
_NEVER_US = -(1 << 60)
_SECOND_US = 1_000_000
COLUMNS: tuple[Column, ...] = tuple(
    column
    for name in _NAMES
    for column in (Column(f"{name}_us", "int64", _NEVER_US), Column(f"{name}_c", "float32"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Ages of anchors, in event time."""

    apart_s: int = 30
    least_s: int = 60
    most_s: int = 300


@dataclass(frozen=True, slots=True)
class Rate:
    """Rates of rows, 0 where there is no anchor to take one over, and what they were taken over."""

    k_per_min: Float32s
    over_k: Float32s
    anchor_c: Float32s
    anchor_us: Int64s

    def said(self, row: int) -> Evidence:
        """Its part of the evidence, where there is one."""
        if not self.k_per_min[row]:
            return {}
        return {
            "rate_k_per_min": number(self.k_per_min[row]),
            "anchor_c": number(self.anchor_c[row]),
            "anchor_us": int(self.anchor_us[row]),
        }


def anchor(
    block: Block, params: Params, slot: Int64s, event_us: Int64s, x_c: Float32s, fit: Bools
) -> None:
    """Take readings in order as anchors where it is time and they are `fit` (in place)."""
    apart_us = params.apart_s * _SECOND_US
    due = event_us // apart_us > block["youngest_us"].take(slot) // apart_us
    index = np.flatnonzero(due & fit)
    if not len(index):
        return
    slot = slot[index]
    for older, younger in pairwise(_NAMES):
        for unit in ("us", "c"):
            block[f"{older}_{unit}"][slot] = block[f"{younger}_{unit}"][slot]
    block["youngest_us"][slot] = event_us[index]
    block["youngest_c"][slot] = x_c[index]


def rate(block: Block, params: Params, slot: Int64s, event_us: Int64s, x_c: Float32s) -> Rate:
    """Rates of readings that have been offered as anchors already."""
    at_us, at_c = block["oldest_us"].take(slot), block["oldest_c"].take(slot)
    for name in _NAMES[1:]:
        us = block[f"{name}_us"].take(slot)
        old = event_us - us >= params.least_s * _SECOND_US
        np.copyto(at_us, us, where=old)
        np.copyto(at_c, block[f"{name}_c"].take(slot), where=old)
    age_s = (event_us - at_us).astype(np.float32) * np.float32(1e-6)
    known = (age_s >= params.least_s) & (age_s <= params.most_s)
    over_k = np.where(known, x_c - at_c, np.float32(0))
    return Rate(over_k * np.float32(60) / np.maximum(age_s, np.float32(1)), over_k, at_c, at_us)
