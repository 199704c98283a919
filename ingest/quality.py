"""What each device should have said in a day, what it said, and what was wrong with it. Pure.

State = fold of the log, over arrays by device and point; no object per reading. Each partition of
the readings has a clock of its own: the least of its writers' newest arrivals. `listened` is that
clock without the times at which a bridge did not listen, so that our own absence is nobody's gap.
Every decoded word of a device leaves a row among the readings (`heard` if nothing else), so they
alone tell who spoke; alarms add nothing.

Frames are held until their partition's clock comes to another second, and folded in one: by one,
they took 2 % of a core. How they were fetched changes nothing, so the place to read on is that of
the first one held.

A word: distinct (device, event time) of such a second. A gap of `listened` time counts as missed
words, rounded: up to half an interval late is no miss. What a gap has been counted for is
remembered, so that midnight, a flush or a restart inside of it counts nothing twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.device_types.reasons import Reason
from ingest.quality_clock import DAY_US, LISTEN_US_MAX, SECOND_US, Part, oldest_us
from ingest.rejects import Reject
from ingest.replay import WRITER
from ingest.rows import storable
from sizao.frame import Flag, Frame
from sizao.units import BY_NAME

STUCK_READINGS_MIN = 100
STUCK_S_MIN = 48 * 3_600
"""So often and so long the same number: two days and nights move even a coarse thermometer."""
# What rests at one number for good (smoke, gas, current, a level, a state) may well stand still.
BREATHING = tuple(
    BY_NAME[name].code
    for name in (
        "temperature_c", "humidity_pct", "co2_ppm", "pressure_kpa", "voltage_v",
        "surface_temperature_c", "cable_temperature_c", "cable_temperature_2_c",
        "cable_temperature_3_c", "cable_temperature_4_c",
    )
)  # fmt: skip

HELD_ROWS_MAX = 40_000
COUNT_MAX = 1_000_000_000  # dead letters of a device that are believed at once
COUNTS = (
    "seconds", "received", "missed", "late", "redelivered", "corrected", "stuck", "rejects",
    "out_of_range",
)  # fmt: skip
SECONDS, RECEIVED, MISSED, LATE, REDELIVERED, CORRECTED, STUCK, REJECTS, RANGE = range(len(COUNTS))
_FLAGS = {Flag.LATE: LATE, Flag.REDELIVERED: REDELIVERED, Flag.CLOCK_CORRECTED: CORRECTED}
_FLAGGED = np.uint8(sum(_FLAGS))
_RANGES = {Reason.OUT_OF_RANGE, Reason.SENSOR_BROKEN}
_EVENT_BITS = 38  # 76 h of microseconds: the bridge lets no two event times lie 48 h 1 min apart

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """One generation of the registry. Arrays by id; the last item stands for unknown ids.

    `speaks`: in service or isolated: a word is expected of it; `signalled`: in service.
    `partition`: of its site, -1 where it is unknown; `interval_s`: 0 where its type is broken.
    """

    generation: int
    partition: Ints
    site: Ints
    interval_s: Ints
    speaks: Bools
    signalled: Bools
    point_device: Ints
    breathes: Bools

    @property
    def devices(self) -> int:
        """Length of the arrays by device."""
        return len(self.partition)


class Days(NamedTuple):
    """Counts to add to the rows of (day, device); `day`: days since 1970, local."""

    day: int
    device: Ints
    interval_s: Ints
    counts: Ints  # COUNTS by device


@dataclass(slots=True)
class State:
    """The fold of a shard. `closed`: days that ended and are not stored yet.

    By device: `heard_us`, `settled_us`: listened time of its newest word, and up to which its
    seconds are counted; `told`: missed words counted of the gap that is open. By point: `value`
    stands since `since_s` and `run` readings; `marked`: counted as stuck today.
    """

    roster: Roster
    offset_us: int
    parts: dict[int, Part]
    heard_us: Longs
    settled_us: Longs
    told: Ints
    counts: Ints
    value: npt.NDArray[np.float32]
    since_s: npt.NDArray[np.uint32]
    run: npt.NDArray[np.uint32]
    marked: Bools
    closed: list[Days] = field(default_factory=list)
    rejects: Counter[tuple[int, int, Reason]] = field(default_factory=Counter)
    unknown: int = 0  # rows of points that the registry does not know, or that are elsewhere now


def start(roster: Roster, partitions: list[int], utc_offset_min: int) -> State:
    """A fold that has read nothing of these partitions."""
    devices, points = roster.devices, len(roster.point_device)
    return State(
        roster=roster,
        offset_us=utc_offset_min * 60 * SECOND_US,
        parts={number: Part() for number in partitions},
        heard_us=np.zeros(devices, np.int64),
        settled_us=np.zeros(devices, np.int64),
        told=np.zeros(devices, np.int32),
        counts=np.zeros((len(COUNTS), devices), np.int32),
        value=np.full(points, np.nan, np.float32),
        since_s=np.zeros(points, np.uint32),
        run=np.zeros(points, np.uint32),
        marked=np.zeros(points, np.bool_),
    )


def adopt(state: State, roster: Roster) -> None:
    """Go on with a newer generation. Who comes into service, or to another partition, begins now;
    who leaves keeps what was counted.
    """
    old, before = state.roster, state.roster.devices - 1
    kept = min(before, roster.devices - 1)
    same = np.zeros(roster.devices, np.bool_)
    same[:kept] = old.speaks[:kept] & (old.partition[:kept] == roster.partition[:kept])
    stays = same & roster.speaks
    for number in state.parts:
        leaving = old.speaks & (old.partition == number)
        leaving[:kept] &= ~stays[:kept]
        _settle(state, number, np.flatnonzero(leaving), seconds=True)
        _take(state, state.parts[number].day, np.flatnonzero(leaving & state.counts.any(axis=0)))
    for name in ("heard_us", "settled_us", "told", "counts"):
        setattr(state, name, _resized(getattr(state, name), before, roster.devices))
    points = len(old.point_device) - 1
    for name in ("value", "since_s", "run", "marked"):
        setattr(state, name, _resized(getattr(state, name), points, len(roster.point_device)))
    state.value[points:] = np.nan
    state.roster = roster
    begin(state, roster.speaks & ~stays)


def begin(state: State, devices: Bools) -> None:
    """From now on a word is expected of these."""
    for number, part in state.parts.items():
        some = devices & (state.roster.partition == number)
        state.heard_us[some] = state.settled_us[some] = part.listened_us
        state.told[some] = 0


def _resized(array: npt.NDArray[np.generic], used: int, size: int) -> npt.NDArray[np.generic]:
    """As it was up to `used`, zero behind: what stood for unknown ids stands for none now."""
    made = np.zeros((*array.shape[:-1], size), array.dtype)
    used = min(used, size)
    made[..., :used] = array[..., :used]
    return made


def fold(state: State, number: int, frame: Frame, offset: int = 0) -> None:
    """One frame of a partition, in log order. One of before 1970 or after 2100 says nothing, nor
    does one of a replay: what it holds was said, and refused, on another day.
    """
    part = state.parts[number]
    if frame.writer == WRITER or not storable(frame):
        return
    at_us = oldest_us(part, frame)
    if at_us // SECOND_US != part.clock_us // SECOND_US or part.held_rows > HELD_ROWS_MAX:
        release(state, number)
    _advance(state, number, part, at_us)
    if frame.rows:
        part.held.append((offset, frame))
        part.held_rows += frame.rows


def release(state: State, number: int) -> None:
    """Fold what is held of a partition."""
    part = state.parts[number]
    held, part.held, part.held_rows = [one for _, one in part.held], [], 0
    if not held:
        return
    columns = ("point", "event_us", "value", "flags")
    point, event_us, value, flags = (
        np.concatenate([getattr(one, name) for one in held]) for name in columns
    )
    roster = state.roster
    point = np.minimum(point, len(roster.point_device) - 1).astype(np.int64)
    device = roster.point_device[point].astype(np.int64)
    device[roster.partition[device] != number] = 0
    state.unknown += len(device) - int(np.count_nonzero(device))
    who, words = _words(device, event_us)
    state.counts[RECEIVED, who] += words
    _hear(state, number, part, who[roster.speaks[who]])
    if (flags & _FLAGGED).any():
        for flag, row in _FLAGS.items():
            some = np.flatnonzero(flags & flag)
            who, words = _words(device[some], event_us[some])
            state.counts[row, who] += words
    _stand_still(state, part, point, device, value)


def _words(device: Longs, event_us: Longs) -> tuple[Longs, Ints]:
    """The known devices, sorted, and how many distinct event times each has."""
    if not len(device):
        return device, np.empty(0, np.int32)
    key = device << _EVENT_BITS | (event_us - event_us.min()) & ((1 << _EVENT_BITS) - 1)
    key.sort()
    words: Longs = key[_firsts(key)] >> _EVENT_BITS
    words = words[np.searchsorted(words, 1) :]
    first = _firsts(words)
    return words[first], np.diff(np.append(first, len(words))).astype(np.int32)


def _firsts(sorted_: Longs) -> npt.NDArray[np.intp]:
    """Where another item begins."""
    differs = np.ones(len(sorted_), np.bool_)
    np.not_equal(sorted_[1:], sorted_[:-1], out=differs[1:])
    return np.flatnonzero(differs)


def _hear(state: State, number: int, part: Part, who: Longs) -> None:
    """These said something; few of them are late enough for a missed word."""
    gap_us = part.listened_us - state.heard_us[who]
    late = gap_us * 2 >= state.roster.interval_s[who] * np.int64(3 * SECOND_US)
    if late.any():
        _settle(state, number, who[late], seconds=False)
    state.heard_us[who], state.told[who] = part.listened_us, 0


def _stand_still(
    state: State, part: Part, point: Longs, device: Longs, value: npt.NDArray[np.float32]
) -> None:
    """Values that have not moved for long; each point once a day. Readings of one second count as
    one.
    """
    some = np.flatnonzero(state.roster.breathes[point] & (device > 0))
    if not len(some):
        return
    point, value, device = point[some], value[some], device[some]
    now_s = part.clock_us // SECOND_US
    state.run[point] += 1
    moved = np.flatnonzero(state.value[point] != value)
    where = point[moved]
    state.value[where], state.since_s[where], state.run[where] = value[moved], now_s, 1
    still = state.run[point] >= STUCK_READINGS_MIN
    if still.any():
        still &= ~state.marked[point]
        still &= now_s - state.since_s[point].astype(np.int64) >= STUCK_S_MIN
        stuck, first = np.unique(point[still], return_index=True)
        state.marked[stuck] = True
        np.add.at(state.counts[STUCK], device[still][first], 1)


def _advance(state: State, number: int, part: Part, at_us: int) -> None:
    step_us = at_us - part.clock_us
    if -DAY_US < step_us <= 0:
        return
    # Back by more than a day: a bridge whose clock was far ahead is gone.
    part.clock_us = at_us
    day = (at_us + state.offset_us) // DAY_US
    if day != part.day:
        if part.day >= 0:
            _close(state, number, part)
        part.day = day
    if 0 < step_us <= LISTEN_US_MAX:
        part.listened_us += step_us


def _close(state: State, number: int, part: Part) -> None:
    """The day of a partition ends: every device of which a word was expected has a row."""
    mine = state.roster.partition == number
    _settle(state, number, np.flatnonzero(mine & state.roster.speaks), seconds=True)
    _take(state, part.day, np.flatnonzero(mine & state.counts.any(axis=0)))
    state.marked[mine[state.roster.point_device]] = False


def _settle(state: State, number: int, device: Longs, *, seconds: bool) -> None:
    """Count what was missed up to now, of which nothing is counted yet, and the time in service."""
    listened_us = state.parts[number].listened_us
    interval_us = state.roster.interval_s[device].astype(np.int64) * SECOND_US
    gap_us = listened_us - state.heard_us[device]
    missed = (gap_us + interval_us // 2) // np.maximum(interval_us, 1) - 1
    missed = np.where(interval_us > 0, missed - state.told[device], 0).clip(0).astype(np.int32)
    state.counts[MISSED, device] += missed
    state.told[device] += missed
    if seconds:
        passed_s = (listened_us - state.settled_us[device]) // SECOND_US
        state.counts[SECONDS, device] += passed_s.astype(np.int32)
        state.settled_us[device] += passed_s * SECOND_US


def _take(state: State, day: int, device: Longs) -> None:
    if len(device):
        interval_s = state.roster.interval_s[device]
        counts = state.counts[:, device]
        state.closed.append(Days(day, device.astype(np.int32), interval_s, counts))
        state.counts[:, device] = 0


def reject(state: State, one: Reject) -> None:
    """One dead letter. Nobody's are in the bridge's counters."""
    if 0 < one.device < state.roster.devices - 1:
        day = (one.arrived_us + state.offset_us) // DAY_US
        state.rejects[day, one.device, one.reason] += min(max(one.count, 1), COUNT_MAX)


def settle(state: State) -> list[Days]:
    """What is to be added to the table now: of the days that ended, and of those that run.

    Devices that said nothing and missed nothing wait for the end of their day. The same again until
    `stored` has been called; nothing may be folded in between.
    """
    for number, part in state.parts.items():
        if part.day < 0:
            continue
        mine = state.roster.partition == number
        _settle(state, number, np.flatnonzero(mine & state.roster.speaks), seconds=False)
        some = np.flatnonzero(mine & state.counts.any(axis=0))
        _settle(state, number, some[state.roster.speaks[some]], seconds=True)
        _take(state, part.day, some)
    return [*state.closed, *_refused(state)]


def _refused(state: State) -> list[Days]:
    """The dead letters as counts of their days."""
    by_day: dict[int, Counter[tuple[int, int]]] = {}
    for (day, device, reason), count in state.rejects.items():
        found = by_day.setdefault(day, Counter())
        found[REJECTS, device] += count
        if reason in _RANGES:
            found[RANGE, device] += count
    made = []
    for day, found in sorted(by_day.items()):
        devices = np.array(sorted({device for _, device in found}), np.int32)
        counts = np.zeros((len(COUNTS), len(devices)), np.int32)
        for (row, device), count in found.items():
            counts[row, np.searchsorted(devices, device)] = min(count, COUNT_MAX)
        made.append(Days(day, devices, state.roster.interval_s[devices], counts))
    return made


def stored(state: State) -> None:
    """All of it is in the table."""
    state.closed = []
    state.rejects = Counter()
