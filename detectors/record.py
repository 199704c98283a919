"""One Kafka record into a fold: what the loop and an offline replay do alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from detectors import state as folds
from detectors.state import State
from sizao import frame as frames
from sizao.frame import Frame
from sizao.registry.model import Registry
from sizao.signal import Signal
from sizao.topics import ALARMS, READINGS, Topic
from sizao.units import Lane

LANES: dict[str, Lane] = {READINGS.name: Lane.TELEMETRY, ALARMS.name: Lane.ALARM}
TOPICS: tuple[Topic, ...] = (ALARMS, READINGS)


class Record(Protocol):
    """A record of the log, as far as a fold needs it."""

    @property
    def topic(self) -> str: ...  # noqa: D102 - the name says it
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...  # noqa: D102


def read(record: Record) -> Frame:
    """The frame of a record. Raises BadRecord."""
    return frames.decode(record.value, record.headers)


def cold(lane: Lane, partition: int, registry: Registry, setup: folds.Setup) -> State:
    """A fold that knows nobody: its first frame brings the generation."""
    return folds.start(lane, partition, registry.at(0), setup)


def judge(state: State, frame: Frame, offset: int, registry: Registry) -> list[Signal]:
    """Apply a frame under its generation, or the newest known if the registry lags behind it."""
    view = state.view
    if min(frame.generation, registry.generation) > view.generation:
        view = registry.at(frame.generation)
    return folds.fold(state, view, frame, offset)[1]
