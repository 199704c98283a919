"""One frame into rounds: at most one reading per point in each, in event-time order.

Grouping and ordering is ONE sort of a packed uint64 (slot, event time, position); a lexsort or a
stable argsort costs 20 times as much (reference: detection.md section 7). The few rows of a tick,
each of another point, as a rule, need no more than their slots: a set of 25 says so in 1 us, where
the arrays took 30.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.rule import Array

KEY_BITS = 64
_FEW = 256
_POSITIONS: npt.NDArray[np.uint64] = np.arange(1 << 16, dtype=np.uint64)  # frames hold 40,000 rows


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of readings of one frame; `received_us` is the frame's."""

    received_us: int
    slot: npt.NDArray[np.int64]
    event_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]

    def only(self, index: Array | slice) -> Rows:
        """The rows at `index` (positions or a mask)."""
        return Rows(
            self.received_us,
            self.slot[index],
            self.event_us[index],
            self.value[index],
            self.flags[index],
        )


def rounds(rows: Rows, *, keep_changes: bool, area: Array | None = None) -> tuple[list[Rows], int]:
    """Rounds of at most one reading per slot, each slot's readings in event-time order.

    `rows` may repeat slots; they all lie within the span that `state` lets pass. Readings with an
    equal slot and event time are one reading said twice: the first is kept, the others are dropped
    and counted (second result). `keep_changes` (alarm lane) drops only those that also repeat the
    value: a device whose clock has steps of a second may say normal and alarm within one.

    `area` by slot: slots of one area are read together, so their readings too come in event-time
    order from round to round. Else three rooms' backlog in one frame would be judged by rank, a
    reading of noon beside one of midnight. It may make more rounds, but only where a slot repeats.
    """
    if len(rows.slot) < 2:  # noqa: PLR2004 - nothing to order
        return ([rows] if len(rows.slot) else []), 0
    if len(rows.slot) <= _FEW and len(set(rows.slot.tolist())) == len(rows.slot):
        return [rows.only(rows.slot.argsort())], 0
    order = _order(rows.slot, rows.event_us)
    rows = rows.only(order)
    same = rows.slot[1:] == rows.slot[:-1]
    if not same.any():
        return [rows], 0
    again = same & (rows.event_us[1:] == rows.event_us[:-1])
    if keep_changes:
        again &= rows.value[1:] == rows.value[:-1]
    dropped = int(np.count_nonzero(again))
    if dropped:
        keep = np.ones(len(rows.slot), np.bool_)
        keep[1:] = ~again
        rows = rows.only(keep)
    rank = _ranks(rows.slot)
    if area is not None:
        _keep_together(rows, area[rows.slot], rank)
    return _by_rank(rows, rank), dropped


def turns(place: Array) -> list[Array]:
    """Rounds of at most one row per place, each place's rows in the order they arrived: positions.

    By arrival, not by event time: what joins several points of a place must not depend on how the
    log was cut into frames, and between points event times may go back.
    """
    count = len(place)
    bits = max(count - 1, 1).bit_length()
    key = place.astype(np.int64) << bits | np.arange(count)
    key.sort()
    order = key & ((1 << bits) - 1)
    rank = _ranks(place[order])
    if not rank.any():
        return [order] if count else []
    order = order[(rank << bits | np.arange(count)).argsort()]
    ends = np.cumsum(np.bincount(rank)).tolist()
    return [order[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _order(slot: npt.NDArray[np.int64], event_us: npt.NDArray[np.int64]) -> Array:
    """Positions sorted by slot, event time, position."""
    base_us = event_us.min()
    position_bits = (len(slot) - 1).bit_length()
    time_bits = int(event_us.max() - base_us).bit_length()
    slot_bits = int(slot.max()).bit_length()
    coarse = max(0, slot_bits + time_bits + position_bits - KEY_BITS)
    key = (event_us - base_us).view(np.uint64)
    if coarse:
        key = key >> np.uint64(coarse)
    key = key << np.uint64(position_bits)
    key |= slot.view(np.uint64) << np.uint64(time_bits - coarse + position_bits)
    key |= _POSITIONS[: len(slot)]
    key.sort()
    key &= np.uint64((1 << position_bits) - 1)
    order: Array = key.view(np.int64)
    if coarse and _out_of_order(slot[order], event_us[order]):
        # A frame that spans a day and whose readings of one point lie microseconds apart.
        return np.lexsort((event_us, slot))
    return order


def _out_of_order(slot: Array, event_us: Array) -> bool:
    return bool(((slot[1:] == slot[:-1]) & (event_us[1:] < event_us[:-1])).any())


def _ranks(slot: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rank of each sorted row within its slot."""
    index = np.arange(len(slot))
    first = np.ones(len(slot), np.bool_)
    first[1:] = slot[1:] != slot[:-1]
    rank: npt.NDArray[np.int64] = index - np.maximum.accumulate(np.where(first, index, 0))
    return rank


def _keep_together(rows: Rows, area: Array, rank: npt.NDArray[np.int64]) -> None:
    """Give the rows of areas of several slots, of which one repeats, the rounds of their area
    instead of their rank (in place): as long in time as no slot repeats.
    """
    repeats = np.flatnonzero(rank > 0)
    if not len(repeats):
        return
    areas = np.unique(area[repeats])
    index = np.flatnonzero(areas[np.searchsorted(areas, area).clip(max=len(areas) - 1)] == area)
    index = index[_order(area[index].astype(np.int64), rows.event_us[index])]
    count = len(index)
    place = np.zeros(len(rows.slot), np.int64)
    place[index] = np.arange(count)
    # Where in that order the row of the same slot before each stands, the newest of all so far:
    # a round that began at or before it ends here.
    before = np.full(count, -1)
    before[place[repeats]] = place[repeats - 1]
    before = np.maximum.accumulate(before)
    own = area[index]
    starts = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
    ends = np.append(starts[1:], count)
    number = np.zeros(count, np.int64)
    lasts = starts
    while len(lasts):
        lasts = np.minimum(np.searchsorted(before, lasts), ends)
        goes_on = lasts < ends
        lasts, ends = lasts[goes_on], ends[goes_on]
        number[lasts] += 1
    number = np.cumsum(number)
    began = np.zeros(count, np.int64)
    began[starts] = number[starts]
    rank[index] = number - np.maximum.accumulate(began)


def _by_rank(rows: Rows, rank: npt.NDArray[np.int64]) -> list[Rows]:
    """Split sorted rows by rank."""
    bits = (len(rank) - 1).bit_length()
    key = rank << bits | np.arange(len(rank))
    key.sort()
    order = key & ((1 << bits) - 1)
    ends = np.cumsum(np.bincount(rank)).tolist()
    rows = rows.only(order)
    return [rows.only(slice(start, end)) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
