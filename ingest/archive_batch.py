"""What the archive has read and not stored yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest import archive_place as places
from ingest.archive_place import Place
from ingest.archive_store import Load, Move
from ingest.redelivered import in_time, late, part
from ingest.retention import HOUR_US
from ingest.rollup import Heard
from ingest.rollup_parts import redelivered
from ingest.rows import build
from sizao.frame import Frame
from sizao.kafka import Incoming, Partition

DAY_US = 86_400_000_000
_AHEAD_US = 600_000_000  # the next hour's partition is made so long before it begins


@dataclass
class Batch:
    """What was read and is not stored yet: `began` is where the database stands, `places` we."""

    places: dict[Partition, Place]
    began: dict[Partition, int] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)  # for the roll-ups, heartbeats too
    rows: int = 0

    def take(self, record: Incoming) -> str:
        """Add a record; returns why it gave no rows, "" if it did or was a heartbeat."""
        pair = (record.topic, record.partition)
        place = self.places[pair]
        self.began.setdefault(pair, place.next_offset)
        self.places[pair], frame, reason = places.advance(place, record)
        if frame is not None:
            self.heard.append(Heard(pair, record.offset, frame))
        if frame is not None and frame.rows:
            self.frames.append(frame)
            self.rows += frame.rows
        return reason

    def moves(self) -> dict[Partition, Move]:
        """The offsets to move."""
        return {
            pair: Move(expected=began, place=self.places[pair])
            for pair, began in self.began.items()
        }

    def hours(self, now_us: int) -> set[int]:
        """Hours whose partitions must be there: those of the frames, and the one to come."""
        instants = [frame.received_us for frame in self.frames] + [now_us, now_us + _AHEAD_US]
        return {instant // HOUR_US for instant in instants}

    def load(self) -> tuple[Load, int]:
        """What to store, and how many of its rows were delivered again and cannot be known again.

        Roll-ups of what was delivered again go with the rows: only the table can tell which of them
        are new, so the fold of the log leaves them out.
        """
        parted = part(self.frames)
        load = Load(
            plain=build(parted.plain),
            again=build(parted.again),
            in_time=in_time(parted.again),
            late=late(parted.again),
            parts=redelivered(parted.plain),
            days=_days(parted.again),
        )
        return load, parted.untimed

    def stored(self) -> None:
        """Everything is in the database: begin anew."""
        self.began, self.frames, self.heard, self.rows = {}, [], [], 0


def _days(frames: Sequence[Frame]) -> frozenset[int]:
    """Of their events, since 1970."""
    return frozenset(
        day for frame in frames for day in np.unique(frame.event_us // DAY_US).tolist()
    )
