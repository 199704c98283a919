"""What other thermometers of the site do: heating that is everybody's, and no fire.

A point rises slowly where r >= 1 K and it moves by less than 1 K/min (rate.py; 1.2 as it is read,
since readings of 0.1 K tell a rate over a minute no better). When more than a
third of a site's thermometers, and six at least, did so in the last 5 min, the building is being
heated, and the median of their rises is what the heating makes. It is taken off the rise of a point
that rises slowly too; one that rises fast, or more than the others, keeps the rest.

It touches rises alone. A site with fewer thermometers is judged point by point: in a flat, a hall
or a hold a fire warms a third of them. Points that the features call faulty, or not warm, take no
part. Read are the others' newest readings as the fold has them, so at most a frame too new.

Source: detection.md section 5 (common mode); six, since a room of five is one fire's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.features import Heat
from detectors.rule import Array, Points, number
from sizao.signal import Evidence

Float32s = npt.NDArray[np.float32]
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """When a building is being heated. `share`: of its thermometers, and more than that."""

    least_count: int = 6
    share: float = 1 / 3
    within_s: int = 300


PARAMS = Params()


@dataclass(frozen=True, slots=True)
class Heating:
    """Of rows: what the heating of their building adds to them, 0 where there is none."""

    off_k: Float32s
    count: npt.NDArray[np.int64]
    of: npt.NDArray[np.int64]

    def said(self, row: int) -> Evidence:
        """Its part of the evidence, where there is some."""
        if not self.off_k[row]:
            return {}
        return {
            "heating_k": number(self.off_k[row]),
            "heated_points": int(self.count[row]),
            "points_of_site": int(self.of[row]),
        }


def heating(rows: Heat, points: Points, params: Params = PARAMS) -> Heating:
    """What heating there is in the rises of suspects."""
    rows_count = len(rows.slot)
    off_k, count = np.zeros(rows_count, np.float32), np.zeros(rows_count, np.int64)
    of = points.site_count.take(rows.slot).astype(np.int64)
    slow_us = rows.block["slow_us"]
    asks = (slow_us.take(rows.slot) == rows.event_us) & (of >= params.least_count)
    if not asks.any():
        return Heating(off_k, count, of)
    sites = np.unique(points.site[rows.slot[asks]])
    others = np.flatnonzero(rows.block["slow"])
    place = np.searchsorted(sites, points.site[others]).clip(max=len(sites) - 1)
    near_us = params.within_s * _SECOND_US
    newest_us = int(rows.event_us.max())
    here = (sites[place] == points.site[others]) & (newest_us - slow_us[others] <= near_us)
    others, place = others[here], place[here]
    rise_k = rows.block["x_c"][others] - rows.block["baseline_c"][others]
    median_k, counts = _medians(place, rise_k, len(sites))
    mine = np.searchsorted(sites, points.site[rows.slot]).clip(max=len(sites) - 1)
    count = np.where(asks, counts[mine], 0)
    heated = asks & (count >= params.least_count) & (count > of * params.share)
    off_k[heated] = median_k[mine[heated]]
    return Heating(off_k, count, of)


def _medians(group: Array, value: Array, groups: int) -> tuple[Float32s, npt.NDArray[np.int64]]:
    """Lower median of each group's values, and how many there are."""
    order = np.lexsort((value, group))
    counts = np.bincount(group, minlength=groups)
    first = np.cumsum(counts) - counts
    found = np.zeros(groups, np.float32)
    some = counts > 0
    found[some] = value[order][(first + (counts - 1) // 2)[some]]
    return found, counts
