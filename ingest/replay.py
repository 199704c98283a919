"""From dead letters to the frames that today's registry makes of them. Pure.

What is readable now becomes a reading marked late, with the arrival that its message had. A message
may have been refused in part: what it gave then, and what an earlier replay made of it, is left
out. What is still refused stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.decode import Decoded, decode
from ingest.device_types.reasons import Reason
from ingest.mqtt.message import Message
from ingest.rejects import STORED_ROW, Reject
from ingest.routes import District
from sizao import frame, topics
from sizao.frame import ROWS_MAX, Flag, Frame
from sizao.records import Outgoing
from sizao.registry.model import View
from sizao.units import AlarmState, Lane

WRITER = "replay.0"
"""No bridge's name (theirs end in a lane), so its frames hold and move no log's clock."""

Bools = npt.NDArray[np.bool_]


class Id(NamedTuple):
    """A dead letter by its place in the topic; its arrival tells it from one of another log."""

    partition: int
    offset: int
    arrived_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A dead letter to be judged anew. `noted`: what earlier replays made of it, as STORED_ROW.

    `doubtful`: one was killed before it knew whether Kafka has what it made.
    """

    id: Id
    reject: Reject
    noted: bytes = b""
    doubtful: bool = False

    @property
    def message(self) -> Message:
        """As it came."""
        one = self.reject
        return Message(one.topic, one.payload, one.arrived_us, one.dup, 0, 0)

    @property
    def repeats(self) -> bool:
        """Whether some of its readings may be stored, and nobody knows which."""
        return self.doubtful or self.reject.stored is None

    @property
    def stored(self) -> npt.NDArray[np.void]:
        """The readings that are known to be stored."""
        return np.frombuffer((self.reject.stored or b"") + self.noted, STORED_ROW)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of how many dead letters; `in_part` of the readable have still something refused.

    `settled`: readable, and all of it stored before. `alarming`: readings that say an alarm.
    """

    rejects: int = 0
    readable: int = 0
    in_part: int = 0
    settled: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    readings: int = 0
    alarming: int = 0
    repeated: int = 0

    def add(self, other: Tally) -> None:
        """Count another batch's too."""
        for name in ("rejects", "readable", "in_part", "settled", "readings", "alarming"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.repeated += other.repeated
        self.refused.update(other.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Frames to write, and of each dead letter the readings that are in them."""

    frames: list[tuple[str, int, Frame]]
    notes: dict[Id, bytes]
    tally: Tally

    @property
    def records(self) -> list[Outgoing]:
        """The Kafka records."""
        return [_record(topic, partition, one) for topic, partition, one in self.frames]


class _Rows(NamedTuple):
    """Readings to be written; `place` is twice the partition, one more in the alarms topic."""

    place: npt.NDArray[np.int64]
    point: npt.NDArray[np.uint32]
    event_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]


def replay(
    district: District, cases: Sequence[Case], *, sequence: int, stamp: Callable[[], int]
) -> Batch:
    """Judge dead letters anew. The frames' sequence goes on after `sequence`; `stamp` gives their
    arrival: it rises, and lies behind that of every message.
    """
    notes: dict[Id, bytes] = {}
    tally = Tally(rejects=len(cases))
    parts = []
    for lane in Lane:
        mine = [case for case in cases if case.reject.lane is lane]
        decoded = decode(district, lane, [case.message for case in mine])
        fresh = _fresh(district.view, mine, decoded)
        _count(mine, decoded, fresh, tally)
        for index in np.unique(decoded.message[fresh]).tolist():
            its = np.flatnonzero(fresh & (decoded.message == index))
            notes[mine[index].id] = _noted(decoded, its)
        parts.append(_rows(mine, decoded, fresh))
    rows = _Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    generation = district.view.generation
    return Batch(frames=list(_frames(rows, generation, sequence, stamp)), notes=notes, tally=tally)


def _fresh(view: View, cases: Sequence[Case], decoded: Decoded) -> Bools:
    """Which rows are not stored yet."""
    fresh = np.ones(len(decoded.point), np.bool_)
    bounds = np.searchsorted(decoded.message, np.arange(len(cases) + 1)).tolist()
    for case, start, end in zip(cases, bounds, bounds[1:], strict=False):
        stored = case.stored
        if len(stored) and end > start:
            mine = slice(start, end)
            fresh[mine] = _unstored(view, decoded.point[mine], decoded.event_us[mine], stored)
    return fresh


def _unstored(
    view: View,
    point: npt.NDArray[np.int32],
    event_us: npt.NDArray[np.int64],
    stored: npt.NDArray[np.void],
) -> Bools:
    """Rows of one message that are none of `stored`: of the same quantity of the same device (it
    may have moved and have another point) and the same time; and where the time is read otherwise
    today, as many as were stored.
    """
    known = stored[stored["point"] < len(view.point_device)]
    before = list(zip(_what(view, known["point"]), known["event_us"].tolist(), strict=True))
    left, exact = Counter(what for what, _ in before), Counter(before)
    rows = list(zip(_what(view, point), event_us.tolist(), strict=True))
    fresh = np.ones(len(rows), np.bool_)
    for index, row in enumerate(rows):
        if exact[row]:
            exact[row] -= 1
            left[row[0]] -= 1
            fresh[index] = False
    for index, (what, _) in enumerate(rows):
        if fresh[index] and left[what]:
            left[what] -= 1
            fresh[index] = False
    return fresh


def _what(view: View, point: npt.NDArray[np.integer]) -> list[tuple[int, int]]:
    """Device and quantity of points."""
    device, quantity = view.point_device[point], view.point_quantity[point]
    return list(zip(device.tolist(), quantity.tolist(), strict=True))


def _count(cases: Sequence[Case], decoded: Decoded, fresh: Bools, tally: Tally) -> None:
    readable = set(decoded.message[fresh].tolist())
    reasons = {refused.message: refused.reason for refused in decoded.refused}
    tally.readable += len(readable)
    tally.in_part += len(readable & reasons.keys())
    tally.settled += len(cases) - len(readable | reasons.keys())
    tally.refused.update(reasons.values())
    tally.readings += int(np.count_nonzero(fresh))
    says = decoded.alarm & (decoded.value != AlarmState.NORMAL)
    tally.alarming += int(np.count_nonzero(fresh & says))
    again = _repeats(cases)[decoded.message]
    tally.repeated += int(np.count_nonzero(fresh & again))


def _repeats(cases: Sequence[Case]) -> Bools:
    return np.array([case.repeats for case in cases], np.bool_)


def _noted(decoded: Decoded, rows: npt.NDArray[np.intp]) -> bytes:
    noted = np.empty(len(rows), STORED_ROW)
    noted["point"], noted["event_us"] = decoded.point[rows], decoded.event_us[rows]
    return noted.tobytes()


def _rows(cases: Sequence[Case], decoded: Decoded, fresh: Bools) -> _Rows:
    again = _repeats(cases)[decoded.message]
    flags = decoded.flags | np.where(again, Flag.REDELIVERED, 0).astype(np.uint8) | Flag.LATE
    return _Rows(
        place=(decoded.partition.astype(np.int64) * 2 + decoded.alarm)[fresh],
        point=decoded.point[fresh].astype(np.uint32),
        event_us=decoded.event_us[fresh],
        value=decoded.value[fresh],
        flags=flags[fresh].astype(np.uint8),
    )


def _frames(
    rows: _Rows, generation: int, sequence: int, stamp: Callable[[], int]
) -> Iterator[tuple[str, int, Frame]]:
    """Topic, partition and frame, split at the frame's bound."""
    for place in np.unique(rows.place).tolist():
        mine = np.flatnonzero(rows.place == place)
        topic = topics.ALARMS if place % 2 else topics.READINGS
        for start in range(0, len(mine), ROWS_MAX):
            some = mine[start : start + ROWS_MAX]
            sequence += 1
            one = Frame(
                point=rows.point[some],
                event_us=rows.event_us[some],
                value=rows.value[some],
                flags=rows.flags[some],
                received_us=stamp(),
                generation=generation,
                writer=WRITER,
                sequence=sequence,
            )
            yield topic.name, place // 2, one


def _record(topic: str, partition: int, one: Frame) -> Outgoing:
    value = frame.encode(one)
    return Outgoing(
        topic=topic,
        partition=partition,
        value=value,
        headers=frame.headers(value),
        timestamp_ms=one.received_us // 1000,
    )
