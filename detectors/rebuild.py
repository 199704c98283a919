"""Archived readings into frames again, and through a fold.

The archive keeps no frames: a row bears its point, times, value, flags, and the arrival of the
frame that it came in. Rows of one arrival, lane and partition are made one frame, in the order in
which they were stored; a heartbeat stands at each whole second between, as the bridges write them.
What a replay can therefore not know: readings that never were in the table (refused, or delivered
again and found there), which of two frames of the same microsecond came first, and the generation
that a frame carried. A fold is not bound by how readings were cut into frames, so the rest is as it
was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors import state as folds
from detectors.state import SECOND_US, Setup, State
from sizao.frame import ROWS_MAX, Frame
from sizao.registry.model import View
from sizao.signal import Signal
from sizao.units import Lane

WRITER = "archive"


@dataclass(frozen=True, slots=True)
class Readings:
    """Columns of archived rows, in the order in which they were stored."""

    received_us: npt.NDArray[np.int64]
    event_us: npt.NDArray[np.int64]
    point: npt.NDArray[np.uint32]
    value: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]

    def only(self, index: Any) -> Readings:
        """The rows at `index` (positions or a mask)."""
        return Readings(
            self.received_us[index],
            self.event_us[index],
            self.point[index],
            self.value[index],
            self.flags[index],
        )

    def of(self, state: State) -> Readings:
        """The rows of the points that a fold has."""
        slot = state.lookup.take(self.point, mode="clip")
        return self.only(np.flatnonzero(slot >= 0))


def frames(rows: Readings, generation: int) -> Iterator[Frame]:
    """Frames by arrival."""
    if not len(rows.point):
        return
    rows = rows.only(np.argsort(rows.received_us, kind="stable"))
    cuts = np.flatnonzero(np.diff(rows.received_us)) + 1
    ends = [*cuts.tolist(), len(rows.point)]
    begin = 0
    for end in ends:
        for start in range(begin, end, ROWS_MAX):
            stop = min(start + ROWS_MAX, end)
            yield Frame(
                point=rows.point[start:stop],
                event_us=rows.event_us[start:stop],
                value=rows.value[start:stop],
                flags=rows.flags[start:stop],
                received_us=int(rows.received_us[start]),
                generation=generation,
                writer=WRITER,
                sequence=0,
            )
        begin = end


def begin(lane: Lane, partition: int, view: View, setup: Setup, from_us: int) -> State:
    """A cold fold whose clock stands at an instant."""
    state = folds.start(lane, partition, view, setup)
    return folds.fold(state, view, _heartbeat(from_us, view.generation), 0)[0]


def replay(state: State, view: View, rows: Readings, until_us: int) -> list[Signal]:
    """Fold the rows of a fold's points, and the time up to `until_us`; mutates `state`.

    `rows` arrived before `until_us`, and after whatever was replayed before.
    """
    found: list[Signal] = []
    if view.generation > state.view.generation:
        folds.adopt(state, view)
    for frame in frames(rows.of(state), view.generation):
        found += _wait(state, view, frame.received_us)
        found += folds.fold(state, view, frame, state.next_offset)[1]
    return found + _wait(state, view, until_us)


def _wait(state: State, view: View, until_us: int) -> list[Signal]:
    """Let time pass, second by second, up to but without an instant."""
    found: list[Signal] = []
    if not state.ticks:  # nobody judges time
        return found
    for at_s in range(state.clock_us // SECOND_US + 1, -(-until_us // SECOND_US)):
        beat = _heartbeat(at_s * SECOND_US, view.generation)
        found += folds.fold(state, view, beat, state.next_offset)[1]
    return found


def _heartbeat(received_us: int, generation: int) -> Frame:
    return Frame(
        point=_NO_POINTS,
        event_us=_NO_TIMES,
        value=_NO_VALUES,
        flags=_NO_FLAGS,
        received_us=received_us,
        generation=generation,
        writer=WRITER,
        sequence=0,
    )


_NO_POINTS = np.zeros(0, np.uint32)
_NO_TIMES = np.zeros(0, np.int64)
_NO_VALUES = np.zeros(0, np.float32)
_NO_FLAGS = np.zeros(0, np.uint8)
