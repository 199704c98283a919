"""The clock of one partition of the readings, and what of it was listened. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from sizao.frame import Frame

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
LISTEN_US_MAX = 10 * SECOND_US
"""A partition has a frame each second; beyond this nobody listened."""
FORGET_US = 3_600 * SECOND_US
"""A writer that is silent while another comes on so far is gone, and holds no clock any more."""


class Writer(NamedTuple):
    """Newest arrival of a writer; how far it has come in steps of LISTEN_US_MAX at most, beginning
    where the others were; and how far the foremost was then.
    """

    received_us: int
    come_us: int
    foremost_us: int


@dataclass(slots=True, kw_only=True)
class Part:
    """One partition of the readings: its clock, and of that what was listened."""

    clock_us: int = 0
    listened_us: int = 0
    day: int = -1
    foremost_us: int = 0
    writers: dict[str, Writer] = field(default_factory=dict)
    held: list[tuple[int, Frame]] = field(default_factory=list)  # offset, frame with rows
    held_rows: int = 0

    def next_offset(self, after: int) -> int:
        """Where to read on, when all before `after` was given to `fold`."""
        return self.held[0][0] if self.held else after


def oldest_us(part: Part, frame: Frame) -> int:
    """The least newest arrival. Who is silent while another comes on for an hour is forgotten; a
    clock that jumps is no coming on, and makes nobody forgotten.
    """
    known = part.writers.get(frame.writer)
    if known is None:
        known = Writer(frame.received_us, part.foremost_us, 0)
    received_us = max(frame.received_us, known.received_us)
    come_us = known.come_us + min(received_us - known.received_us, LISTEN_US_MAX)
    if come_us > part.foremost_us:
        part.foremost_us = come_us
        since_us = come_us - FORGET_US
        gone = [name for name, one in part.writers.items() if one.foremost_us < since_us]
        for name in gone:
            del part.writers[name]
    part.writers[frame.writer] = Writer(received_us, come_us, part.foremost_us)
    return min(one.received_us for one in part.writers.values())
