"""Readings into minutes of their event time: the fold that the archive keeps beside its rows. Pure.

Whatever is stored is folded once. What is held leaves as *parts*: counts and bounds of a point and
a minute, which add up, so a late reading is one part more and changes nothing that is stored. A
minute closes when every writer has come past its end; its part leaves then, and what belongs to
later minutes stays. The place to read on after a kill is that of the first frame that holds some
of what stays; of frames before the last settling only what was not closed then is folded again.

Rows are kept packed by windows of 64 minutes (point and time in one integer), because one sort of
integers costs 0.15 us a reading, and a sort by three columns three times as much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

from ingest.replay import WRITER as REPLAY_WRITER
from ingest.rows import POINT_MAX, TIME_US_END
from sizao.frame import Flag, Frame

MINUTE_US = 60_000_000
_WINDOW_MINUTES = 64
_WINDOW_US = _WINDOW_MINUTES * MINUTE_US  # below 2^32: packs beside a point of 31 bits
_EVENT_BITS = 32

HELD_ROWS_MAX = 2_500_000
"""Readings held before they are made into parts: 32 MB; a minute of 40,000 a second."""
LEAVING_PARTS_MAX = 1_000_000
"""Late parts held before they leave without waiting for a minute to close: 45 MB."""
HORIZON_US = 10 * MINUTE_US
"""Events so far past the newest closed minute leave as late ones do: a bridge whose clock stands in
2099 would fill the memory with minutes that never close."""
GONE_US = 10_000_000
"""A writer so far behind another of its partition holds no minute open."""
SILENT_S = 10.0
"""Neither does a partition of which nothing was read for so long: it has a frame each second."""

Pair = tuple[str, int]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RollPlace:
    """Of one partition of a topic: read on at `held`; minutes before `closed_us` are closed.

    `settled`: the position when they closed: of frames before it, what they held is in the table.
    """

    held: int
    settled: int
    closed_us: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame, heartbeats too, whose rows are stored."""

    pair: Pair
    offset: int
    frame: Frame


@dataclass(slots=True)
class _Window:
    packed: list[Longs] = field(default_factory=list)
    value: list[Floats] = field(default_factory=list)
    flags: list[Bytes] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """The fold of a shard. `newest`: of each pair the frames not settled, with their last event."""

    places: dict[Pair, RollPlace]
    next: dict[Pair, int]
    newest: dict[Pair, deque[tuple[int, int]]]
    writers: dict[Pair, dict[str, int]]
    heard_s: dict[Pair, float] = field(default_factory=dict)
    windows: dict[int, _Window] = field(default_factory=dict)
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What to store in one transaction, and the state's part of it, for `settled`."""

    parts: list[Parts]
    places: dict[Pair, RollPlace]
    rest: dict[int, _Window]


def start(places: dict[Pair, RollPlace]) -> State:
    """A fold that has read nothing since `places`."""
    return State(
        places=dict(places),
        next={pair: place.held for pair, place in places.items()},
        newest={pair: deque() for pair in places},
        writers={pair: {} for pair in places},
    )


def again(place: RollPlace, offset: int, frame: Frame) -> Frame:
    """Of a frame read again after a start, what is not in the table yet."""
    if offset >= place.settled or not frame.rows:
        return frame
    fresh = frame.event_us >= place.closed_us
    fresh &= frame.event_us < place.closed_us + HORIZON_US
    return replace(
        frame,
        point=frame.point[fresh],
        event_us=frame.event_us[fresh],
        value=frame.value[fresh],
        flags=frame.flags[fresh],
    )


def take(state: State, heard: Sequence[Heard], now_s: float) -> None:
    """Fold frames that are stored; `now_s`: monotonic."""
    taken: list[Frame] = []
    for one in heard:
        frame = one.frame
        state.next[one.pair] = one.offset + 1
        state.heard_s[one.pair] = now_s
        if frame.writer != REPLAY_WRITER:  # it beats no time
            known = state.writers[one.pair]
            known[frame.writer] = max(known.get(frame.writer, 0), frame.received_us)
        if frame.rows:
            state.newest[one.pair].append((one.offset, int(frame.event_us.max())))
            taken.append(frame)
    if taken:
        _hold(state, taken)


def _hold(state: State, frames: Sequence[Frame]) -> None:
    point, event_us, value, flags = _columns(frames, redelivered=False)
    state.rows += len(point)
    for number, packed, where in _windows(point, event_us):
        window = state.windows.setdefault(number, _Window())
        window.packed.append(packed)
        window.value.append(value[where])
        window.flags.append(flags[where])
    if state.rows > HELD_ROWS_MAX:
        compact(state)


def _columns(
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


def _windows(
    point: npt.NDArray[np.uint32], event_us: Longs
) -> Iterable[tuple[int, Longs, npt.NDArray[np.bool_] | slice]]:
    """Rows by window of 64 minutes: its number, the packed rows, which of all they are."""
    if not len(point):
        return
    first, last = int(event_us.min()) // _WINDOW_US, int(event_us.max()) // _WINDOW_US
    packed = point.astype(np.int64) << _EVENT_BITS
    if first == last:
        yield first, packed | (event_us - first * _WINDOW_US), slice(None)
        return
    window = event_us // _WINDOW_US
    packed |= event_us - window * _WINDOW_US
    for number in np.unique(window).tolist():
        where = window == number
        yield number, packed[where], where


def redelivered(frames: Sequence[Frame]) -> list[Parts]:
    """Parts of the redelivered readings, to be stored with them: only the table can tell which of
    these are new, so `take` leaves them out, and no reading of the log makes them again.
    """
    some = [frame for frame in frames if (frame.flags & Flag.REDELIVERED).any()]
    if not some:
        return []
    point, event_us, value, flags = _columns(some, redelivered=True)
    return [
        _reduce(number, packed, value[where], flags[where])
        for number, packed, where in _windows(point, event_us)
    ]


def _reduce(number: int, packed: Longs, value: Floats, flags: Bytes) -> Parts:
    """Readings of a window as parts, sorted by point and minute."""
    order = np.argsort(packed)
    sorted_ = packed[order]
    if (sorted_[1:] == sorted_[:-1]).any():
        order = np.lexsort((value, packed))
    value, flags = value[order], flags[order]
    point = sorted_ >> _EVENT_BITS
    minute, within_us = np.divmod(sorted_ & ((1 << _EVENT_BITS) - 1), MINUTE_US)
    begin = _begins(point, minute)
    end = np.append(begin[1:], len(point)) - 1
    return Parts(
        point=point[begin],
        minute=minute[begin] + number * _WINDOW_MINUTES,
        count=(end - begin + 1).astype(np.int32),
        low=np.minimum.reduceat(value, begin),
        high=np.maximum.reduceat(value, begin),
        total=np.add.reduceat(value.astype(np.float64), begin),
        first_us=within_us[begin].astype(np.int32),
        first=value[begin],
        last_us=within_us[end].astype(np.int32),
        last=value[end],
        flags=np.bitwise_or.reduceat(flags, begin),
    )


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


def compact(state: State) -> None:
    """Make what is held into one sorted block of parts a window."""
    for number, window in state.windows.items():
        if window.packed:
            packed, value = np.concatenate(window.packed), np.concatenate(window.value)
            window.parts.append(_reduce(number, packed, value, np.concatenate(window.flags)))
            window.packed, window.value, window.flags = [], [], []
        window.parts = [merge(window.parts)]
    state.rows = 0


# --- closing ----------------------------------------------------------------------------------


def clock_us(state: State, now_s: float) -> int:
    """Up to when everybody has spoken: least newest arrival; 0 before anybody has."""
    clocks = []
    for pair, known in state.writers.items():
        if not known or now_s - state.heard_s[pair] > SILENT_S:
            continue
        foremost = max(known.values())
        here = [at for at in known.values() if at > foremost - GONE_US]
        clocks.append(min(here))
    return min(clocks, default=0)


def due_us(state: State, now_s: float, now_us: int, grace_us: int) -> int:
    """Minutes before this may close now; 0 where none is to. A clock of 2099 closes nothing ahead.

    `grace_us`: between a minute's end and its closing, for what is on its way.
    """
    clock = min(clock_us(state, now_s), now_us) - grace_us
    until_us = clock - clock % MINUTE_US
    return until_us if any(until_us > one.closed_us for one in state.places.values()) else 0


def _leaving(minute: Longs, until_us: int) -> npt.NDArray[np.bool_]:
    until = until_us // MINUTE_US
    return (minute < until) | (minute >= until + HORIZON_US // MINUTE_US)


def overdue_us(state: State) -> int:
    """Late parts are more than are held: `settle` until this closes no minute; 0 if they are not.

    To be asked after `compact`, so it makes none itself.
    """
    until_us = max((place.closed_us for place in state.places.values()), default=0)
    blocks = [one for window in state.windows.values() for one in window.parts]
    late = sum(int(np.count_nonzero(_leaving(one.minute, until_us))) for one in blocks)
    return until_us if late > LEAVING_PARTS_MAX else 0


def settle(state: State, until_us: int) -> Settlement:
    """What is to leave so that minutes before `until_us` are closed; late readings leave too."""
    compact(state)
    leaving, rest = [], {}
    for number, window in state.windows.items():
        (held,) = window.parts
        old = _leaving(held.minute, until_us)
        if old.any():
            leaving.append(held.at(old))
        if not old.all():
            rest[number] = _Window(parts=[held.at(~old)])
    places = {}
    for pair, place in state.places.items():
        newest, next_offset = state.newest[pair], state.next[pair]
        held_offset = next((offset for offset, at in newest if at >= until_us), next_offset)
        places[pair] = RollPlace(
            held=held_offset, settled=next_offset, closed_us=max(place.closed_us, until_us)
        )
    return Settlement(parts=leaving, places=places, rest=rest)


def settled(state: State, done: Settlement) -> None:
    """It is in the table."""
    state.windows, state.places = done.rest, dict(done.places)
    for pair, place in done.places.items():
        newest = state.newest[pair]
        while newest and newest[0][0] < place.held:
            newest.popleft()
