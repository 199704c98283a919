"""Which readings may be in the table already, and where to look for them. Pure.

MQTT delivers a message again when its PUBACK got lost, and marks it DUP; replayed dead letters are
marked the same way. Such a reading with the device's own time is looked for by point, event time
and value, and stored only if nothing is found. One that bears its arrival's time cannot be known
again: it is stored at least once, and counted.

Where to look. There is no index on all readings by point (it costs twenty times the row). But the
first delivery is either *in time*, so it arrived within a minute of its event and a short span of
`received` is read; or it is flagged late, and late rows have an index of their own
(`reading_late`), which costs the others 0.02 us. Everything is bounded, whatever clocks say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ingest.decode import LATE_US
from ingest.rows import TIME_US_END
from sizao.frame import Flag, Frame

Times = npt.NDArray[np.int64]

SPAN_US = 180_000_000  # one look reads no more: 7 million rows at 40,000/s, a second or so
LATE_SPAN_US = 86_400_000_000  # one look into the index of late rows: 25 partitions
# A dead letter is kept for 14 days, and a device is believed for 48 h before that.
PAST_US_MAX = 17 * 86_400_000_000
_MARGIN_US = 60_000_000  # clocks of two bridges, and from a message's arrival to its frame's end

_DUP = int(Flag.REDELIVERED)  # a flag beside an array costs 5 us
_OWN_ARRIVAL = int(Flag.NO_DEVICE_TIME | Flag.CLOCK_CORRECTED)

Span = tuple[int, int]
"""From, and up to but without: microseconds of arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """`plain` is stored as it is; `again` is looked for first; `untimed`: rows of `plain` that
    were delivered again and cannot be known again.
    """

    plain: list[Frame]
    again: list[Frame]
    untimed: int


def part(frames: Sequence[Frame]) -> Parted:
    """Set apart what may be stored already. A frame without any costs one look at its flags."""
    plain: list[Frame] = []
    again: list[Frame] = []
    untimed = 0
    for frame in frames:
        if not int(np.bitwise_or.reduce(frame.flags)) & _DUP:
            plain.append(frame)
            continue
        dup = frame.flags & _DUP != 0
        timed = dup & (frame.flags & _OWN_ARRIVAL == 0)
        untimed += int(np.count_nonzero(dup & ~timed))
        again += [_only(frame, timed)] if timed.any() else []
        plain += [] if timed.all() else [_only(frame, ~timed)]
    return Parted(plain=plain, again=again, untimed=untimed)


def _only(frame: Frame, where: npt.NDArray[np.bool_]) -> Frame:
    return replace(
        frame,
        point=frame.point[where],
        event_us=frame.event_us[where],
        value=frame.value[where],
        flags=frame.flags[where],
    )


def in_time(frames: Sequence[Frame]) -> list[Span]:
    """Where first deliveries lie that arrived within a minute of their event; in order."""
    event_us, received_us = _times(frames)
    first = event_us - LATE_US - _MARGIN_US
    last = np.minimum(event_us + LATE_US, received_us) + _MARGIN_US
    return _merged(first, last, SPAN_US)


def late(frames: Sequence[Frame]) -> list[Span]:
    """Where first deliveries lie that are flagged late; in order."""
    event_us, received_us = _times(frames)
    return _merged(event_us, received_us + _MARGIN_US, LATE_SPAN_US)


def _times(frames: Sequence[Frame]) -> tuple[Times, Times]:
    """Event times, none further from its arrival than a bridge believes, and arrivals."""
    received_us = np.repeat(
        np.array([frame.received_us for frame in frames], np.int64),
        [frame.rows for frame in frames],
    )
    event_us = np.concatenate([frame.event_us for frame in frames] or [np.empty(0, np.int64)])
    return np.clip(event_us, received_us - PAST_US_MAX, received_us + LATE_US), received_us


def _merged(first: Times, last: Times, each_us: int) -> list[Span]:
    """The union of [first, last], cut into pieces of at most `each_us`, within the table's time."""
    some = last >= first
    order = np.argsort(first[some], kind="stable")
    first = np.clip(first[some][order], 0, TIME_US_END - 1)
    reach = np.maximum.accumulate(np.clip(last[some][order], 0, TIME_US_END - 1))
    apart = np.flatnonzero(first[1:] > reach[:-1])
    spans: list[Span] = []
    for begin, end in pairwise([0, *(apart + 1).tolist(), len(first)] if len(first) else []):
        start, stop = int(first[begin]), int(reach[end - 1]) + 1
        spans += pairwise([*range(start, stop, each_us), stop])
    return spans
