"""Readings into parts: what a point said in a minute, as counts and bounds that add up. Pure.

Rows are packed by windows of 64 minutes (point and time in one integer), because one sort of
integers costs 0.1 us a reading, and a sort by three columns three times as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ingest.rows import POINT_MAX, TIME_US_END
from sizao.frame import Flag, Frame

MINUTE_US = 60_000_000
WINDOW_MINUTES = 64
WINDOW_US = WINDOW_MINUTES * MINUTE_US  # below 2^32: packs beside a point of 31 bits
_EVENT_BITS = 32
_ROW_BITS = 22  # beside 31 of the point and 6 of the minute
EVENT_MASK = (1 << _EVENT_BITS) - 1

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Columns by (point, minute), minutes since 1970. `first_us`, `last_us`: within the minute.

    Of readings of one time the first is the least and the last the greatest: so the order in which
    they came changes nothing.
    """

    point: Longs
    minute: Longs
    count: Ints
    low: Floats
    high: Floats
    total: Sums
    first_us: Ints
    first: Floats
    last_us: Ints
    last: Floats
    flags: Bytes

    def __len__(self) -> int:
        return len(self.point)

    def at(self, where: npt.NDArray[np.generic] | slice) -> Parts:
        """Some of the rows."""
        return Parts(**{one.name: getattr(self, one.name)[where] for one in fields(self)})


def columns(
    frames: Sequence[Frame], *, redelivered: bool
) -> tuple[npt.NDArray[np.uint32], Longs, Floats, Bytes]:
    """Readings within the table's bounds, all of one sort."""
    point = np.concatenate([frame.point for frame in frames])
    event_us = np.concatenate([frame.event_us for frame in frames])
    value = np.concatenate([frame.value for frame in frames])
    flags = np.concatenate([frame.flags for frame in frames])
    wanted = ((flags & Flag.REDELIVERED) != 0) == redelivered
    wanted &= (event_us >= 0) & (event_us < TIME_US_END) & (point <= POINT_MAX)
    if wanted.all():
        return point, event_us, value, flags
    return point[wanted], event_us[wanted], value[wanted], flags[wanted]


def windows(
    point: npt.NDArray[np.uint32], event_us: Longs
) -> Iterable[tuple[int, Longs, Bools | slice]]:
    """Rows by window of 64 minutes: its number, the packed rows, which of all they are."""
    if not len(point):
        return
    first, last = int(event_us.min()) // WINDOW_US, int(event_us.max()) // WINDOW_US
    packed = point.astype(np.int64) << _EVENT_BITS
    if first == last:
        yield first, packed | (event_us - first * WINDOW_US), slice(None)
        return
    window = event_us // WINDOW_US
    packed |= event_us - window * WINDOW_US
    for number in np.unique(window).tolist():
        where = window == number
        yield number, packed[where], where


def redelivered(frames: Sequence[Frame]) -> list[Parts]:
    """Parts of the redelivered readings, to be stored with them: only the table can tell which of
    these are new, so the fold leaves them out, and no reading of the log makes them again.
    """
    some = [frame for frame in frames if (frame.flags & Flag.REDELIVERED).any()]
    if not some:
        return []
    point, event_us, value, flags = columns(some, redelivered=True)
    return [
        reduce(number, packed, value[where], flags[where])
        for number, packed, where in windows(point, event_us)
    ]


def reduce(number: int, packed: Longs, value: Floats, flags: Bytes) -> Parts:
    """Readings of a window as parts, sorted by point and minute. At most 4 million.

    Integers that hold the place of their row are sorted, not the places by integers: half the time.
    Time and value in one integer tell first and last by `minimum` and `maximum`.
    """
    assert len(packed) <= 1 << _ROW_BITS
    event_us = packed & EVENT_MASK
    key = (packed >> _EVENT_BITS) * WINDOW_MINUTES + event_us // MINUTE_US
    key = (key << _ROW_BITS) | np.arange(len(packed))
    key.sort()
    order = key & ((1 << _ROW_BITS) - 1)
    key >>= _ROW_BITS
    other = np.ones(len(key), np.bool_)
    other[1:] = key[1:] != key[:-1]
    begin = np.flatnonzero(other)
    moment = (event_us.view(np.uint64) << np.uint64(32)) | _ordered(value)
    moment, value = moment[order], value[order]
    first = np.minimum.reduceat(moment, begin)
    last = np.maximum.reduceat(moment, begin)
    point, minute = np.divmod(key[begin], WINDOW_MINUTES)
    return Parts(
        point=point,
        minute=minute + number * WINDOW_MINUTES,
        count=np.diff(np.append(begin, len(key))).astype(np.int32),
        low=np.minimum.reduceat(value, begin),
        high=np.maximum.reduceat(value, begin),
        total=np.add.reduceat(value, begin, dtype=np.float64),
        first_us=_within_us(first, minute),
        first=_value(first),
        last_us=_within_us(last, minute),
        last=_value(last),
        flags=np.bitwise_or.reduceat(flags[order], begin),
    )


def _ordered(value: Floats) -> npt.NDArray[np.uint64]:
    """Integers in the order of the numbers: the bits of a float, those of a negative one turned."""
    bits = value.view(np.int32)
    turned = bits ^ ((bits >> 31) & 0x7FFF_FFFF)
    return (turned ^ np.int32(-0x8000_0000)).view(np.uint32).astype(np.uint64)


def _value(moment: npt.NDArray[np.uint64]) -> Floats:
    turned = moment.astype(np.uint32).view(np.int32) ^ np.int32(-0x8000_0000)
    return (turned ^ ((turned >> 31) & 0x7FFF_FFFF)).view(np.float32)


def _within_us(moment: npt.NDArray[np.uint64], minute: Longs) -> Ints:
    event_us = (moment >> np.uint64(32)).astype(np.int64)
    return (event_us - minute * MINUTE_US).astype(np.int32)


def _begins(point: Longs, minute: Longs) -> Longs:
    """Where another point or minute begins in sorted columns that are not empty."""
    other = np.ones(len(point), np.bool_)
    other[1:] = (point[1:] != point[:-1]) | (minute[1:] != minute[:-1])
    return np.flatnonzero(other)


def merge(several: Sequence[Parts]) -> Parts:
    """Parts of the same points and minutes as one each, sorted by point and minute."""
    if len(several) == 1:
        return several[0]
    names = [one.name for one in fields(Parts)]
    every = Parts(
        **{name: np.concatenate([getattr(one, name) for one in several]) for name in names}
    )
    every = every.at(np.lexsort((every.minute, every.point)))
    begin = _begins(every.point, every.minute)
    if len(begin) == len(every):
        return every
    sizes = np.diff(np.append(begin, len(every)))
    group = np.repeat(np.arange(len(begin)), sizes)
    earliest = np.lexsort((every.first, every.first_us, group))[begin]
    latest = np.lexsort((every.last, every.last_us, group))[begin + sizes - 1]
    return Parts(
        point=every.point[begin],
        minute=every.minute[begin],
        count=np.add.reduceat(every.count, begin),
        low=np.minimum.reduceat(every.low, begin),
        high=np.maximum.reduceat(every.high, begin),
        total=np.add.reduceat(every.total, begin),
        first_us=every.first_us[earliest],
        first=every.first[earliest],
        last_us=every.last_us[latest],
        last=every.last[latest],
        flags=np.bitwise_or.reduceat(every.flags, begin),
    )
