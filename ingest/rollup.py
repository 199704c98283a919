"""Readings into minutes of their event time: the fold that the archive keeps beside its rows. Pure.

Whatever is stored is folded once. What is held leaves as *parts*: counts and bounds of a point and
a minute, which add up, so a late reading is one part more and changes nothing that is stored. A
minute closes when every writer has come past its end; its part leaves then, and what belongs to
later minutes stays. The place to read on after a kill is that of the first frame that holds some
of what stays; of frames before the last settling only what was not closed then is folded again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ingest.replay import WRITER as REPLAY_WRITER
from ingest.rollup_parts import (
    EVENT_MASK,
    MINUTE_US,
    WINDOW_US,
    Bools,
    Bytes,
    Floats,
    Longs,
    Parts,
    columns,
    merge,
    reduce,
    windows,
)  # fmt: skip
from sizao.frame import Frame

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
    point, event_us, value, flags = columns(frames, redelivered=False)
    state.rows += len(point)
    for number, packed, where in windows(point, event_us):
        window = state.windows.setdefault(number, _Window())
        window.packed.append(packed)
        window.value.append(value[where])
        window.flags.append(flags[where])
    if state.rows > HELD_ROWS_MAX:
        compact(state)


def compact(state: State) -> None:
    """Make what is held into one sorted block of parts a window."""
    for number, window in state.windows.items():
        if window.packed:
            packed, value = np.concatenate(window.packed), np.concatenate(window.value)
            window.parts.append(reduce(number, packed, value, np.concatenate(window.flags)))
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


def _leaving(minute: Longs, until_us: int) -> Bools:
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
    """What is to leave so that minutes before `until_us` are closed; late readings leave too.

    Readings that stay are not made into parts: to add up parts costs more than to make them.
    """
    leaving: list[Parts] = []
    rest: dict[int, _Window] = {}
    for number, window in state.windows.items():
        gone, stays = _divided(number, window, until_us)
        if gone is not None:
            leaving.append(gone)
        if stays.packed or stays.parts:
            rest[number] = stays
    places = {}
    for pair, place in state.places.items():
        newest, next_offset = state.newest[pair], state.next[pair]
        held_offset = next((offset for offset, at in newest if at >= until_us), next_offset)
        places[pair] = RollPlace(
            held=held_offset, settled=next_offset, closed_us=max(place.closed_us, until_us)
        )
    return Settlement(parts=leaving, places=places, rest=rest)


def _divided(number: int, window: _Window, until_us: int) -> tuple[Parts | None, _Window]:
    """Parts of a window that leave, and what stays."""
    gone: list[Parts] = []
    stays = _Window()
    for held in window.parts:
        leaves = _leaving(held.minute, until_us)
        if leaves.any():
            gone.append(held.at(leaves))
        if not leaves.all():
            stays.parts.append(held.at(~leaves))
    if window.packed:
        packed, value = np.concatenate(window.packed), np.concatenate(window.value)
        flags = np.concatenate(window.flags)
        event_us = packed & EVENT_MASK
        first = until_us - number * WINDOW_US
        leaves = (event_us < first) | (event_us >= first + HORIZON_US)
        if leaves.any():
            gone.append(reduce(number, packed[leaves], value[leaves], flags[leaves]))
        if not leaves.all():
            stays.packed, stays.value = [packed[~leaves]], [value[~leaves]]
            stays.flags = [flags[~leaves]]
    return (merge(gone) if gone else None), stays


def settled(state: State, done: Settlement) -> None:
    """It is in the table."""
    state.windows, state.places = done.rest, dict(done.places)
    state.rows = sum(len(packed) for window in done.rest.values() for packed in window.packed)
    for pair, place in done.places.items():
        newest = state.newest[pair]
        while newest and newest[0][0] < place.held:
            newest.popleft()
