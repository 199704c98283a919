"""Where the archive stands in each partition of the log, and what a record does to that. Pure.

A log can come back other than it was read: without its newest records (a disk that lied in a power
cut), or made anew. The database keeps which frame stood just before the next one to read; reading
begins at that frame, and if another stands there, or none, the partition is *repaired*: read again
from five minutes before the newest arrival stored, leaving out the frames that are stored already
(writer and sequence name a frame; a writer's sequence grows with every frame).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from ingest.rows import storable
from sizao import frame
from sizao.errors import BadRecord
from sizao.frame import Frame, FrameFault

REPAIR_SPAN_US = 300_000_000  # clocks of bridges differ, and records stand by arrival, roughly
WRITERS_MAX = 256  # bridges times lanes: a district has a handful

OUT_OF_BOUNDS = "bounds"
STORED_BEFORE = "stored_before"
SKIPS: tuple[str, ...] = (*FrameFault, OUT_OF_BOUNDS, STORED_BEFORE)
"""Why a record gave no rows: closed label."""


class Record(Protocol):
    """What is needed of a Kafka record."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def value(self) -> bytes | None:
        """The frame, if it is one."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Among them the crc."""


class Gap(StrEnum):
    """What is wrong between the database and the log."""

    EXPIRED = "expired"  # retention passed what was not read yet
    SHORTER = "shorter"  # the log ends before the place that was read
    REPLACED = "replaced"  # another record stands where one was read


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was stored when the log was found changed; in force until a frame after `until_us`."""

    until_us: int
    writers: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One partition. `writer`, `sequence`: the frame before `next_offset`, "" if it was none.

    `received_us`: newest arrival stored; `writers`: newest sequence stored of each.
    """

    next_offset: int
    writer: str = ""
    sequence: int = 0
    received_us: int = 0
    writers: dict[str, int]
    repair: Repair | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where to begin to read. `check`: the first record must be the one that was stored last."""

    seek: int
    check: bool = False
    gap: Gap | None = None


def start(place: Place, log_first: int, log_end: int) -> Start:
    """How to read on from `place` in a log that holds [log_first, log_end)."""
    if place.next_offset > log_end:
        return Start(seek=log_end, gap=Gap.SHORTER)
    if place.next_offset < log_first:
        return Start(seek=log_first, gap=Gap.EXPIRED)
    if place.writer and place.next_offset > log_first:
        return Start(seek=place.next_offset - 1, check=True)
    return Start(seek=place.next_offset)


def same(place: Place, record: Record) -> bool:
    """Whether `record` is the frame that was stored last."""
    try:
        found = frame.decode(record.value, record.headers)
    except BadRecord:
        return False
    return (found.writer, found.sequence) == (place.writer, place.sequence)


def expired(place: Place, log_first: int) -> Place:
    """Go on at the first record that is still there."""
    return replace(place, next_offset=log_first, writer="", sequence=0)


def repaired(place: Place, seek: int) -> Place:
    """Read again from `seek`, leaving out what is stored. A second time keeps the first's end."""
    repair = Repair(until_us=place.received_us + REPAIR_SPAN_US, writers=place.writers)
    return replace(place, next_offset=seek, writer="", sequence=0, repair=repair)


def repair_from_ms(place: Place) -> int:
    """Record time from which a changed log is read again."""
    return max(0, place.received_us - REPAIR_SPAN_US) // 1000


def advance(place: Place, record: Record) -> tuple[Place, Frame | None, str]:
    """Take one record: the new place, its frame if there is something to store, else why not."""
    after = record.offset + 1
    try:
        found = frame.decode(record.value, record.headers)
    except BadRecord as error:
        return replace(place, next_offset=after, writer="", sequence=0), None, error.reason
    if not storable(found):
        return replace(place, next_offset=after, writer="", sequence=0), None, OUT_OF_BOUNDS
    repair = place.repair
    known = repair is not None and found.sequence <= repair.writers.get(found.writer, -1)
    if repair is not None and not known and found.received_us > repair.until_us:
        repair = None
    newest = max(found.sequence, place.writers.get(found.writer, -1))
    moved = Place(
        next_offset=after,
        writer=found.writer,
        sequence=found.sequence,
        received_us=max(place.received_us, found.received_us),
        writers=_bounded({**place.writers, found.writer: newest}),
        repair=repair,
    )
    return moved, None if known else found, STORED_BEFORE if known else ""


def _bounded(writers: dict[str, int]) -> dict[str, int]:
    """Bridges that are long gone fall out, those with the lowest sequence first."""
    if len(writers) <= WRITERS_MAX:
        return writers
    return dict(sorted(writers.items(), key=lambda item: item[1])[-WRITERS_MAX:])
